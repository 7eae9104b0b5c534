"""What is recorded beside a result: `status.json`, written last and atomically."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from differseg_med.errors import Finding, OutputError
from differseg_med.geometry import Grid

__all__ = ["STATUS", "Timings", "describe_findings", "describe_grid", "sha256", "write_status"]

STATUS = "status.json"
"""Name of the file that tells what became of a case."""

SCHEMA = 1
"""Version of the file's layout."""

_CHUNK = 1 << 20


class Timings:
    """Seconds per stage, in the order in which the stages ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what runs inside.

        Args:
            name: name of the stage.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - start, 3)


def sha256(paths: Iterable[Path]) -> str:
    """Hash of the contents of files, one after the other in the given order.

    Args:
        paths: the files.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
    return digest.hexdigest()


def describe_grid(grid: Grid) -> dict[str, Any]:
    """A grid as JSON values; its frame's identity is left out.

    Args:
        grid: the grid.
    """
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 6) for s in grid.spacing],
        "affine_ras": [[float(v) for v in row] for row in grid.affine],
    }


def describe_findings(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings as JSON values, each once, in the order in which they were made.

    Args:
        findings: what was noticed.
    """
    return [{"code": f.code, "detail": f.detail} for f in dict.fromkeys(findings)]


def write_status(folder: Path, status: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``status.json`` so that it appears whole or not at all.

    Args:
        folder: folder of the case.
        status: what is recorded; layout version and time are added.

    Returns:
        What was written.

    Raises:
        OutputError: ``E_WRITE`` when it cannot be written.
    """
    written = {
        "schema": SCHEMA,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **status,
    }
    text = json.dumps(written, indent=2, allow_nan=False)
    temporary = folder / f".{STATUS}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / STATUS)
    except OSError as error:
        raise OutputError("E_WRITE", f"{STATUS}: {error.strerror}") from error
    return written
