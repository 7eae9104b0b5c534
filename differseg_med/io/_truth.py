"""Ground truth that lies in a study as contours or as a segmentation object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from differseg_med.errors import StudyError
from differseg_med.geometry import Volume
from differseg_med.io._header import quiet
from differseg_med.io._object import read_object
from differseg_med.io._read_seg import read_seg
from differseg_med.io._resample import resample
from differseg_med.io._rtstruct import read_rtstruct
from differseg_med.io._study import Series, Study

__all__ = ["read_truth"]

_KINDS = {uid.name: uid for uid in (RTStructureSetStorage, SegmentationStorage)}


@dataclass(frozen=True)
class _Candidate:
    """One object that may hold the truth.

    Attributes:
        source: where it is.
        contours: whether it is an RT Structure Set.
        series: the series that it says it was drawn on.
    """

    source: str
    contours: bool
    series: frozenset[str]


def read_truth(study: Study, reference: Series, *, roi: str | None = None) -> Volume:
    """Read the one mask of a study that belongs to a series.

    An object that references the series itself is taken; if there is none, one that was drawn on
    another series of the same frame of reference, whose mask is then resampled to the reference
    (linear, threshold 0.5).

    Args:
        study: what was found.
        reference: the series whose grid the mask is given on.
        roi: name of the region or label of the segment, where an object holds several.

    Returns:
        Mask of 0 and 1 on the reference's grid, uint8.

    Raises:
        StudyError: ``E_SEGMENTATION`` when there is none, ``E_AMBIGUOUS`` when several fit, and
            what `read_rtstruct` and `read_seg` refuse.
    """
    if reference.grid is None:
        raise StudyError("E_GEOMETRY", "the reference series is not a volume")
    found = list(_candidates(study))
    own = [c for c in found if reference.uid in c.series]
    kin = {s.uid: s for s in study.series if s.frame and s.frame == reference.frame and s.grid}
    fitting = own or [c for c in found if c.series & kin.keys()]
    if not fitting:
        raise StudyError(
            "E_SEGMENTATION",
            f"none of the {len(found)} structure sets and segmentations in the study references "
            "the reference series or one in its frame",
        )
    if len(fitting) > 1:
        raise StudyError(
            "E_AMBIGUOUS",
            f"{len(fitting)} structure sets or segmentations fit the reference series",
            "Leave one of them in the study's folder.",
        )
    drawn = reference if own else kin[min(fitting[0].series & kin.keys())]
    return _on_reference(_read(fitting[0], drawn, roi), reference)


def _candidates(study: Study) -> Iterator[_Candidate]:
    for item in study.skipped:
        kind = _KINDS.get(item.reason)
        if kind is None:
            continue
        with quiet():
            dataset = read_object(item.source, {kind}, item.reason)
            contours = kind == RTStructureSetStorage
            uids = _contour_series(dataset) if contours else _segment_series(dataset)
            yield _Candidate(item.source, contours, frozenset(uids))


def _contour_series(dataset: Dataset) -> Iterator[str]:
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield str(series.get("SeriesInstanceUID", ""))


def _segment_series(dataset: Dataset) -> Iterator[str]:
    for series in dataset.get("ReferencedSeriesSequence") or ():
        yield str(series.get("SeriesInstanceUID", ""))


def _read(candidate: _Candidate, series: Series, roi: str | None) -> Volume:
    if candidate.contours:
        return read_rtstruct(candidate.source, series, roi)
    if series.grid is None:
        raise StudyError("E_GEOMETRY", "the referenced series is not a volume")
    return read_seg(candidate.source, series.grid, roi)


def _on_reference(mask: Volume, reference: Series) -> Volume:
    grid = reference.grid
    if grid is None or mask.grid.is_same(grid):
        return mask
    soft = resample(mask, grid, order="linear", fill=0.0)
    return Volume((soft >= 0.5).astype(np.uint8), grid)
