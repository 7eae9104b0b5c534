"""Whether results stand: made from the same bytes, in the same way, and still as they were."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differseg_med.engine._status import sha256
from differseg_med.engine._workspace import read_status
from differseg_med.errors import StudyError

__all__ = ["CaseKey", "StudyDigest", "bundle_key", "options_digest", "results_stand"]

_NOT_COMPARED = ("case", "overwrite")
"""Options that do not change what results hold."""


@dataclass(frozen=True)
class CaseKey:
    """What results depend on.

    Attributes:
        options: digest of how the case is read and written.
        bundle: identity of bundle and weights.
    """

    options: str
    bundle: Mapping[str, Any]


class StudyDigest:
    """Digest of every file of a study, made in a thread of its own while the study is read.

    Names count as contents do; files whose names begin with a dot do not.

    Args:
        study: a folder or one file.
        further: files outside it that are read, too.
    """

    def __init__(self, study: str | Path, further: Iterable[str | Path] = ()) -> None:
        self._study, self._further = Path(study), tuple(map(Path, further))
        self._before = self._look()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._made = self._pool.submit(self._digest)
        self._pool.shutdown(wait=False)

    def result(self) -> str:
        """The digest, once it is made.

        Raises:
            StudyError: ``E_CHANGED`` when a file came, went or changed since the object was made.
        """
        try:
            digest = self._made.result()
        except OSError as error:
            raise StudyError("E_CHANGED", "a file of the study could not be read twice") from error
        if self._look() != self._before:
            raise StudyError("E_CHANGED", "files came, went or changed while the study was read")
        return digest

    def _look(self) -> dict[str, tuple[int, int]]:
        """Length and time of every file by its name."""
        return {name: _length_and_time(path) for name, path in self._files()}

    def _files(self) -> list[tuple[str, Path]]:
        found = []
        if self._study.is_dir():
            for folder, _, names in os.walk(self._study):
                paths = [Path(folder, name) for name in names if not name.startswith(".")]
                found += [(path.relative_to(self._study).as_posix(), path) for path in paths]
        elif self._study.exists():
            found.append((self._study.name, self._study))
        found += [(f"../{path}", path) for path in self._further]
        return sorted(found)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, path in self._files():
            if path.is_file():
                digest.update(f"{name}\0{sha256([path])}\0".encode())
        return digest.hexdigest()


def _length_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # a broken link, or gone by now: seen as such
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def options_digest(options: Any) -> str:
    """Digest of options, without the ones that do not change what results hold.

    Args:
        options: a data class, of data classes and plain values.
    """
    values = {k: v for k, v in dataclasses.asdict(options).items() if k not in _NOT_COMPARED}
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def results_stand(folder: Path, key: CaseKey, study: StudyDigest) -> bool:
    """Whether a case is done with the same inputs, options, bundle and weights, and unspoilt.

    Args:
        folder: folder of the case.
        key: what the results would depend on.
        study: digest of the study as it is now; it is awaited only where all else agrees.
    """
    status: Any = read_status(folder)
    if status is None or status.get("state") != "done":
        return False
    try:
        same = (
            status["options"]["sha256"] == key.options
            and bundle_key(status["bundle"]) == bundle_key(key.bundle)
            and _unspoilt(folder, status["outputs"])
        )
        return bool(same) and bool(status["input"]["sha256"] == study.result())
    except (KeyError, TypeError, OSError, StudyError):  # a record of another layout, or changing
        return False


def bundle_key(bundle: Mapping[str, Any]) -> str:
    """The parts of a bundle's identity that change results; where it runs is none of them.

    Args:
        bundle: identity of bundle and weights.
    """
    return json.dumps({k: v for k, v in bundle.items() if k != "device"}, sort_keys=True)


def _unspoilt(folder: Path, outputs: Mapping[str, Mapping[str, Any]]) -> bool:
    return all(
        (folder / name).stat().st_size == recorded["bytes"]
        and sha256([folder / name]) == recorded["sha256"]
        for name, recorded in outputs.items()
    )
