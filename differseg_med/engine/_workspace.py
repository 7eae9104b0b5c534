"""Where the results of a case go: all of them or none, also when the process is killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from differseg_med.engine._status import STATUS
from differseg_med.errors import OutputError, UsageError

if sys.platform != "win32":
    import fcntl

__all__ = ["abandoned", "case_id", "read_json", "read_status", "workspace"]

_CASE = re.compile(r"[A-Za-z0-9_-]{1,64}")

_HOLDER = re.compile(r"\.(?P<case>[A-Za-z0-9_-]{1,64})\.(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>\d+)\..+")
"""Name of a folder that holds a case while it is made: whose it is stands in it."""

_NEW, _OLD, _LOCK = "new", "old", "lock"

_TIME_TO_LOCK_S = 60.0
"""A holder that is older and not locked has no owner, whoever has its process number now."""


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

    Nothing is left behind when the block fails, and what stood at the target stays as it was. What
    a killed process left for this target is cleared away first.

    Args:
        target: folder of the case.
        overwrite: whether results that stand there may be replaced.

    Raises:
        OutputError: ``E_EXISTS`` or ``E_WRITE``, before the block runs where that can be known.
    """
    abandoned(target.parent, target.name)
    _check_free(target, overwrite=overwrite)
    with _holder(target) as holder:
        fresh = holder / _NEW
        yield fresh
        _check_free(target, overwrite=overwrite)  # another run may have been faster
        _publish(fresh, target, holder / _OLD)


def abandoned(out: Path, case: str | None = None) -> list[str]:
    """Clear away what killed processes of this machine left, and name the cases they worked on.

    What belongs to a living process, or to another machine, stays. Results that a process had
    moved aside when it was killed are put back.

    Args:
        out: folder of all cases.
        case: only what was left for this case.
    """
    cases = []
    for holder in sorted(out.glob(f".{case or '*'}.*.*.*")):
        name = _HOLDER.fullmatch(holder.name)
        if name is None or name["host"] != _host() or not _is_dead(holder, int(name["pid"])):
            continue
        old, target = holder / _OLD, out / name["case"]
        with contextlib.suppress(OSError):  # another process may be clearing it away, too
            if old.exists() and not target.exists():
                old.rename(target)
        shutil.rmtree(holder, ignore_errors=True)
        cases.append(name["case"])
    return list(dict.fromkeys(cases))


def read_status(folder: Path) -> dict[str, object] | None:
    """What the record of a case says; None where there is none that can be read.

    Args:
        folder: folder of the case.
    """
    return read_json(folder / STATUS)


def read_json(path: Path) -> dict[str, object] | None:
    """A JSON object; None where there is none that can be read.

    Args:
        path: the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@contextmanager
def _holder(target: Path) -> Iterator[Path]:
    """A folder beside the target that names its owner, locked for as long as the owner lives."""
    with ExitStack() as cleaning:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{target.name}.{_host()}.{os.getpid()}."
            holder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            cleaning.callback(shutil.rmtree, holder, ignore_errors=True)
            # closed before the folder goes: network file systems keep what is open
            lock = cleaning.enter_context((holder / _LOCK).open("wb"))
            _try_lock(lock.fileno())
            (holder / _NEW).mkdir()  # not the holder itself, whose mode keeps everybody else out
        except OSError as error:
            raise OutputError(
                "E_WRITE", f"the output folder cannot be used: {error.strerror}"
            ) from error
        yield holder


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname()) or "host"


def _is_dead(holder: Path, pid: int) -> bool:
    """Whether the owner is gone: nobody's lock, and no such process or one that took its number."""
    try:
        with (holder / _LOCK).open("rb") as lock:
            free = _try_lock(lock.fileno())
            age = time.time() - os.fstat(lock.fileno()).st_mtime
    except OSError:  # not locked yet, or cleared away by now
        free, age = None, 0.0
    if free is False:
        return False
    return not _lives(pid) or (free is True and age > _TIME_TO_LOCK_S)


def _try_lock(descriptor: int) -> bool | None:
    """Lock a file; False where somebody else holds it, None where there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's process
    return True


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
    return bool(names) and (read_status(target) or {}).get("state") != "failed"


def _publish(fresh: Path, target: Path, old: Path) -> None:
    try:
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if target.exists():  # another run was faster, between the two steps
                _check_free(target, overwrite=False)
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        raise OutputError(
            "E_WRITE", f"the folder of case {target.name} cannot be put in place: {error.strerror}"
        ) from error
