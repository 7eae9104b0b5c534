"""A study without the patient's identity, as the rest of a case's road sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from differseg_med import io
from differseg_med.errors import StudyError, UsageError

if TYPE_CHECKING:
    from differseg_med.engine._case import CaseOptions

__all__ = ["deidentified", "pseudonymous_case"]


def deidentified(
    study: str | Path, series: Mapping[str, io.Series], folder: Path, uid_map: Path
) -> dict[str, io.Series]:
    """The same series of a de-identified copy.

    They are chosen before: what tells series apart for a person is not in the copy.

    Args:
        study: a folder or archive of DICOM files.
        series: the chosen series by modality.
        folder: where the copy goes; must stay for as long as the series are used.
        uid_map: file of old and new identities.

    Raises:
        DifferSegError: as `io.deidentify` says.
    """
    sources = {i.source for chosen in series.values() for i in chosen.instances}
    copy = io.deidentify(study, folder, uid_map, only=sources)
    found = io.read_study(copy.folder).series
    return {
        name: _same(chosen, [s for s in found if s.uid == copy.series[chosen.uid]])
        for name, chosen in series.items()
    }


def _same(chosen: io.Series, candidates: list[io.Series]) -> io.Series:
    """A part of a series where the copy holds several."""
    if len(candidates) > 1:
        candidates = [s for s in candidates if dict(s.part) == dict(chosen.part)]
    if len(candidates) != 1 or len(candidates[0].instances) != len(chosen.instances):
        raise StudyError("E_AMBIGUOUS", "a series and its de-identified copy have different parts")
    return candidates[0]


def pseudonymous_case(study: str | Path, options: CaseOptions, out: str | Path) -> str:
    """Name of a case that says nothing, the same again for the same path and map.

    Args:
        study: the study's path.
        options: says where the map is.
        out: folder for all cases, in which the map must not lie.

    Raises:
        UsageError: ``E_UID_MAP``.
    """
    place = options.read.deid
    if place is None:
        raise ValueError("the options ask for no de-identification")
    if place.resolve().is_relative_to(Path(out).resolve()):
        raise UsageError("E_UID_MAP", "the UID map may not lie among the results")
    with io.UidMap(place) as identities:
        return identities.patient(f"path {Path(study).resolve()}").name
