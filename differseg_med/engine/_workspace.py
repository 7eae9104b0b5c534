"""Where the results of a case go: all of them or none."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from differseg_med.engine._status import STATUS
from differseg_med.errors import OutputError, UsageError

__all__ = ["case_id", "workspace"]

_CASE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def case_id(study: str | Path, name: str | None = None) -> str:
    """Name of a case, safe as the name of a folder and never taken from a header.

    Args:
        study: path of the study; its last part is the name where that is safe, else a hash of it.
        name: a name that was asked for.

    Raises:
        UsageError: ``E_OPTION`` when the name that was asked for is not safe.
    """
    if name is not None:
        if not _CASE.fullmatch(name):
            raise UsageError(
                "E_OPTION", "a case id has 1 to 64 letters, digits, hyphens or underscores"
            )
        return name
    path = Path(study).resolve()
    stem = path.name if path.is_dir() else path.name.split(".")[0]
    if _CASE.fullmatch(stem):
        return stem
    return f"case-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"


@contextmanager
def workspace(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder beside the target that takes its place when the block ends without an error.

    Nothing is left behind when the block fails, and what stood at the target stays as it was.

    Args:
        target: folder of the case.
        overwrite: whether results that stand there may be replaced.

    Raises:
        OutputError: ``E_EXISTS`` or ``E_WRITE``, before the block runs where that can be known.
    """
    _check_free(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(
            "E_WRITE", f"the output folder cannot be used: {error.strerror}"
        ) from error
    try:
        fresh = holder / "new"
        fresh.mkdir()  # not the holder itself, whose mode keeps everybody else out
        yield fresh
        _check_free(target, overwrite=overwrite)  # another run may have been faster
        _publish(fresh, target, holder / "old")
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _check_free(target: Path, *, overwrite: bool) -> None:
    if not overwrite and _has_results(target):
        raise OutputError("E_EXISTS", f"the folder of case {target.name} holds results already")


def _has_results(target: Path) -> bool:
    """Whether anything but the record of a failure stands there."""
    if not target.exists():
        return False
    if not target.is_dir():
        return True
    names = {path.name for path in target.iterdir()}
    if names - {STATUS}:
        return True
    return bool(names) and _state(target / STATUS) != "failed"


def _state(path: Path) -> object:
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return status.get("state") if isinstance(status, dict) else None


def _publish(fresh: Path, target: Path, old: Path) -> None:
    try:
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        raise OutputError(
            "E_WRITE", f"the folder of case {target.name} cannot be put in place: {error.strerror}"
        ) from error
