"""Do the series of different modalities belong together? Checked on headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from differseg_med.errors import Finding, StudyError
from differseg_med.geometry import covered_fraction
from differseg_med.io._study import Series
from differseg_med.io._times import series_time

__all__ = ["check_between"]

MIN_OVERLAP = 0.5
"""A modality must cover at least this share of the reference's box."""

MOST_APART = timedelta(hours=24)
"""Series taken further apart than this are worth a warning."""


def check_between(
    series: Mapping[str, Series | None],
    reference: str,
    *,
    register: bool = False,
    min_overlap: Mapping[str, float] | None = None,
) -> tuple[Finding, ...]:
    """Check the chosen series against the reference.

    Args:
        series: what `select_series` chose.
        reference: name of the modality that results are given on.
        register: frames may differ, for they will be registered; their overlap is checked then.
        min_overlap: share of the reference's box that a regional modality must cover, instead of
            `MIN_OVERLAP`.

    Returns:
        Warnings about studies and times that differ.

    Raises:
        StudyError: ``E_MISSING_MODALITY``, ``E_FRAME`` or ``E_OVERLAP``.
    """
    base = series.get(reference)
    if base is None:
        raise StudyError("E_MISSING_MODALITY", f"the reference modality {reference!r} is absent")
    findings: list[Finding] = []
    for name, other in series.items():
        if other is None or other is base:
            continue
        if _same_frame(base, other):
            _check_overlap(name, base, other, (min_overlap or {}).get(name, MIN_OVERLAP))
        elif not register:
            raise StudyError("E_FRAME", f"{reference} and {name} have different frames or none")
        findings += _remarks(reference, base, name, other)
    return tuple(findings)


def _same_frame(base: Series, other: Series) -> bool:
    return base.frame is not None and base.frame == other.frame


def _check_overlap(name: str, base: Series, other: Series, least: float) -> None:
    if base.grid is None or other.grid is None:
        return  # decoding such a series raises its own problem
    share = covered_fraction(base.grid, other.grid)
    if share < least:
        raise StudyError(
            "E_OVERLAP", f"{name} covers {share:.0%} of the reference, at least {least:.0%} needed"
        )


def _remarks(reference: str, base: Series, name: str, other: Series) -> list[Finding]:
    found = []
    if base.study_uid != other.study_uid:
        found.append(Finding("W_STUDY_MIX", f"{reference} and {name} come from two studies"))
    first, second = series_time(base), series_time(other)
    if first and second and abs(first - second) > MOST_APART:
        hours = abs(first - second) / timedelta(hours=1)
        found.append(
            Finding("W_TIME_APART", f"{reference} and {name} were taken {hours:.0f} hours apart")
        )
    return found
