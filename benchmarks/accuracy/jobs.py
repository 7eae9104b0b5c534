"""The queue: what is left to do, done one after another; a killed queue goes on where it was.

Every training is one job with a folder of its own, which holds ``done.json`` when it is finished.
Its rows are appended to the tables of the profile at once, and rows of a job that was killed
half-way are dropped when it is done anew. Several processes may work on one queue: a job belongs to
the process that holds its lock, and a killed process holds none.
"""

from __future__ import annotations

import csv
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.accuracy.plan import Experiment, Plan

__all__ = ["append_rows", "locked", "read_table", "run_jobs"]

_log = logging.getLogger(__name__)

Row = Mapping[str, Any]


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a path; false where another process holds it and `wait` is false."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table; none where it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_rows(path: Path, key: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Put rows into a table in place of those that have the same key, whole or not at all."""
    text = {name: str(value) for name, value in key.items()}
    added = [{**text, **row} for row in rows]
    with locked(path):
        kept = [row for row in read_table(path) if any(row[n] != v for n, v in text.items())]
        _write_table(path, [*kept, *added])


def _write_table(path: Path, table: list[dict[str, Any]]) -> None:
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        columns = list(dict.fromkeys(name for row in table for name in row))
        writer = csv.DictWriter(file, fieldnames=columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    os.replace(part, path)  # noqa: PTH105 - the name says that it is atomic


def run_jobs(
    plan: Plan,
    folder: Path,
    job: Callable[[Experiment, int], Mapping[str, Any]],
    *,
    until: float | None = None,
) -> int:
    """Run every job that is not done; a job that fails is logged and the next one runs.

    Args:
        plan: what is declared.
        folder: folder of the profile.
        job: trains and evaluates, and returns what ``done.json`` keeps.
        until: wall-clock time (seconds since the epoch) after which no job is begun.

    Returns:
        How many jobs failed.
    """
    failed = 0
    for experiment, seed in plan.runs():
        place = folder / experiment.name / f"seed_{seed}"
        if until is not None and time.time() > until:
            _log.info("stopped before %s, seed %d: out of time", experiment.name, seed)
            break
        with locked(place, wait=False) as mine:
            if mine and not (place / "done.json").is_file():
                failed += not _run(place, experiment, seed, job)
    return failed


def _run(
    place: Path, experiment: Experiment, seed: int, job: Callable[[Experiment, int], Row]
) -> bool:
    _log.info("%s, seed %d", experiment.name, seed)
    try:
        result = job(experiment, seed)
    except Exception:  # one network that cannot be trained must not stop the others
        _log.exception("%s, seed %d failed", experiment.name, seed)
        return False
    place.mkdir(parents=True, exist_ok=True)
    (place / "done.json").write_text(json.dumps(dict(result), indent=2) + "\n")
    _log.info("%s, seed %d: %s", experiment.name, seed, dict(result))
    return True
