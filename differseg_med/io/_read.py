"""Read a study: every file under a path, headers only, grouped into stacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from differseg_med.errors import Finding, StudyError
from differseg_med.io._group import group_series
from differseg_med.io._header import Header, quiet, read_header
from differseg_med.io._source import SourceReader, list_sources
from differseg_med.io._study import Skipped, Study

__all__ = ["read_study"]

_WORKERS = 4
"""Header reading waits for the disk; more threads than this gain nothing."""


def read_study(path: str | Path, *, workers: int | None = None, one_patient: bool = True) -> Study:
    """Read the headers of a study and say which stacks it holds; no pixel is decoded.

    Args:
        path: a folder (nested, archives inside included), one ``.zip``, or one file.
        workers: number of reading threads.
        one_patient: refuse several patients; without, stacks are only good for a listing.

    Returns:
        Stacks with their geometry and problems, and everything that was skipped with its reason.

    Raises:
        UsageError: ``E_PATH`` when there is nothing at the path.
        StudyError: ``E_EMPTY`` when no image was found, ``E_PATIENT_MIX`` for several patients,
            ``E_CORRUPT`` for a DICOM file that cannot be read, for it could be a slice.
    """
    sources = list(list_sources(Path(path)))
    with SourceReader() as reader, quiet():
        with ThreadPoolExecutor(workers or _WORKERS) as pool:
            results = list(pool.map(partial(read_header, reader), sources))
        if one_patient:
            _check_one_patient(patient for _, patient in results)
        headers = [found for found, _ in results if isinstance(found, Header)]
        skipped = tuple(found for found, _ in results if isinstance(found, Skipped))
        if not headers:
            raise StudyError("E_EMPTY", f"{len(sources)} files: {_count(skipped) or 'none'}")
        series = group_series(headers, reader)
    return Study(str(path), tuple(series), skipped, _findings(skipped), len(sources))


def _check_one_patient(patients: Iterable[Sequence[str]]) -> None:
    """Compare identities where they are given; the values themselves go nowhere."""
    known = list(filter(None, patients))
    for position, name in enumerate(("patient IDs", "birth dates", "sexes")):
        values = {patient[position] for patient in known if patient[position]}
        if len(values) > 1:
            raise StudyError("E_PATIENT_MIX", f"{len(values)} different {name} in one study")


def _count(skipped: Iterable[Skipped]) -> str:
    reasons = Counter(item.reason for item in skipped)
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())


def _findings(skipped: Sequence[Skipped]) -> tuple[Finding, ...]:
    localizers = [item for item in skipped if item.reason == "localizer"]
    others = [item for item in skipped if item.reason != "localizer"]
    found = []
    if localizers:
        found.append(Finding("W_LOCALIZER", f"{len(localizers)} localizer images were left out"))
    if others:
        found.append(Finding("W_SKIPPED", f"{len(others)} files were left out: {_count(others)}"))
    return tuple(found)
