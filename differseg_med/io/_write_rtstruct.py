"""A mask becomes the contours of an RT Structure Set.

Contours run half way between voxel centres inside and outside (contourpy, marching squares), in the
slices of the source. A hole is joined to its outer contour by a channel without width (key-hole),
which every reader understands; parts of a slice are contours of their own. Our own reader, which
takes a voxel whose centre lies inside, gets back every voxel.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import contourpy
import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from differseg_med import __version__
from differseg_med.errors import OutputError, StudyError
from differseg_med.geometry import Grid, Volume, lps_ras
from differseg_med.io._derived import (
    atomic,
    check_texts,
    copy_identity,
    decimals,
    first_header,
    quiet_writing,
    save,
    settle,
)
from differseg_med.io._rtstruct import read_rtstruct
from differseg_med.io._seg import SegmentInfo, frames_of, plane_positions, reference_grid
from differseg_med.io._study import Instance, Series
from differseg_med.io._tags import ENHANCED

__all__ = ["write_rtstruct"]

_COLOR = [239, 112, 46]
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, yet what the standard wants as class of a study."""

_ON_SLICE_MM = 0.01
_MOST_WAYS = 200
"""Ways between a hole and its outer contour that are tried."""

_Points = npt.NDArray[np.float64]


def write_rtstruct(
    mask: Volume,
    series: Series,
    path: str | Path,
    segment: SegmentInfo,
    *,
    series_number: int = 902,
    description: str = "Contours, for research use only",
) -> Path:
    """Write an RT Structure Set with one region, read it back and compare every voxel.

    An empty mask gives a region without contours, which is valid.

    Args:
        mask: 0 and 1 on the grid of the series, axes (column, row, slice).
        series: the reference; its files must still be there.
        path: the file, replaced where it exists.
        segment: what the mask shows and what made it.
        series_number: Series Number of the new series.
        description: Series Description of the new series.

    Returns:
        The path.

    Raises:
        StudyError: ``E_GEOMETRY``: the mask is not on the grid of the series; ``E_VALUES``: it
            is no mask; ``E_CORRUPT``: the source is gone or changed.
        OutputError: ``E_NO_FRAME``, ``E_WRITE`` or ``E_READBACK``; nothing is left behind.
    """
    path = Path(path)
    grid = reference_grid(mask, series)
    voxels = frames_of(mask)
    check_texts(*segment.texts, description)
    header = first_header(series)
    with quiet_writing():
        dataset = _build(segment, series, series_number, description)
        planes = plane_positions(series, grid)
        _add_contours(dataset, voxels, planes, grid, series)
        copy_identity(header, dataset, ("PositionReferenceIndicator",))
        content = hashlib.sha256(voxels.data)
        content.update(repr((segment, series_number, description, planes.tolist())).encode())
        settle(dataset, series, header, content.digest())
        with atomic(path) as temporary:
            save(dataset, temporary, "RT Structure Set")
            _read_back(temporary, mask, grid)
    return path


def _build(segment: SegmentInfo, series: Series, number: int, description: str) -> hd.base.SOPClass:
    """Everything but contours and patient. Implicit VR: long contours need lengths of 32 bits."""
    dataset = hd.base.SOPClass(
        study_instance_uid=series.study_uid,
        series_instance_uid=generate_uid(prefix=None),
        series_number=number,
        sop_instance_uid=generate_uid(prefix=None),
        sop_class_uid=RTStructureSetStorage,
        instance_number=1,
        modality="RTSTRUCT",
        manufacturer="differseg-med",
        manufacturer_model_name=segment.algorithm_name,
        software_versions=__version__,
        device_serial_number="1",
        series_description=description,
        transfer_syntax_uid=ImplicitVRLittleEndian,
    )
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = "CONTOURS"
    dataset.StructureSetName = segment.label
    dataset.StructureSetDate = dataset.StructureSetTime = ""
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = series.frame, ""
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_frame(series)]
    dataset.StructureSetROISequence = [_region(segment, series)]
    dataset.RTROIObservationsSequence = [_observation(segment)]
    return dataset


def _frame(series: Series) -> Dataset:
    """The source series and its images; an enhanced image once."""
    stack, study, frame = Dataset(), Dataset(), Dataset()
    stack.SeriesInstanceUID = series.uid
    images = {i.uid: _image(series, i) for i in series.instances}
    for image in images.values():
        if "ReferencedFrameNumber" in image:
            del image.ReferencedFrameNumber
    stack.ContourImageSequence = list(images.values())
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, series.study_uid
    study.RTReferencedSeriesSequence = [stack]
    frame.FrameOfReferenceUID = series.frame
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(series: Series, instance: Instance) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = series.sop_class, instance.uid
    if series.sop_class in ENHANCED:
        image.ReferencedFrameNumber = instance.frame + 1
    return image


def _region(segment: SegmentInfo, series: Series) -> Dataset:
    region = Dataset()
    region.ROINumber, region.ROIName = 1, segment.label
    region.ReferencedFrameOfReferenceUID = series.frame
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    region.ROIGenerationDescription = f"{segment.algorithm_name} {segment.algorithm_version}"[:64]
    made = (f"{name}={value}" for name, value in segment.parameters)
    region.ROIDescription = ", ".join(("For research use only", *made))[:1024]
    return region


def _observation(segment: SegmentInfo) -> Dataset:
    observation, code = Dataset(), Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = 1
    code.CodeValue = segment.property_type.value
    code.CodingSchemeDesignator = segment.property_type.scheme
    code.CodeMeaning = segment.property_type.meaning
    observation.RTROIIdentificationCodeSequence = [code]
    observation.RTROIInterpretedType = observation.ROIInterpreter = ""
    return observation


def _add_contours(
    dataset: Dataset,
    voxels: npt.NDArray[np.uint8],
    planes: _Points,
    grid: Grid,
    series: Series,
) -> None:
    axes = lps_ras(grid.affine)[:3, :2]
    contours = []
    for k in np.flatnonzero(voxels.any(axis=(1, 2))):
        images = [_image(series, i) for i in _on_plane(series, planes[k])]
        for polygon in _polygons(voxels[k]):
            contour = Dataset()
            if images:
                contour.ContourImageSequence = images
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(polygon)
            points = np.round(planes[k] + polygon @ axes.T, 4) + 0.0
            contour.ContourData = decimals(points.ravel())
            contours.append(contour)
    region = Dataset()
    region.ReferencedROINumber, region.ROIDisplayColor = 1, _COLOR
    if contours:
        region.ContourSequence = contours
    dataset.ROIContourSequence = [region]


def _on_plane(series: Series, position: _Points) -> Iterator[Instance]:
    """The slice that lies at a plane; none where planes were resampled to even spacing."""
    for instance in series.instances:
        if np.abs(np.array(instance.position) - position).max() <= _ON_SLICE_MM:
            yield instance
            return


def _polygons(frame: npt.NDArray[np.uint8]) -> Iterator[_Points]:
    """Contours of one slice in (column, row), first point not repeated, holes as key-holes."""
    padded = np.pad(frame, 1).astype(np.float64)
    generator = contourpy.contour_generator(
        z=padded, name="serial", fill_type=contourpy.FillType.OuterOffset
    )
    for points, offsets in zip(*generator.filled(0.5, np.inf), strict=True):
        rings = [_corners(points[a:b] - 1.0) for a, b in itertools.pairwise(offsets)]
        outline = rings[0]
        for hole in rings[1:]:
            outline = _join(outline, hole)
        yield outline


def _corners(ring: _Points) -> _Points:
    """A closed ring without its repeated last point and the points on straight lines."""
    points = ring[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.asarray(points[np.abs(turn) > 1e-9])


def _join(outline: _Points, hole: _Points) -> _Points:
    """One ring that goes to the hole, around it and back the same way.

    The way is the shortest that meets no voxel centre, as readers differ on points on an edge.
    """
    apart = ((outline[:, None] - hole[None]) ** 2).sum(axis=2)
    nearest = np.argsort(apart, axis=None, kind="stable")[:_MOST_WAYS]
    ways = [np.unravel_index(n, apart.shape) for n in nearest]
    here, there = next((w for w in ways if not _meets_center(outline[w[0]], hole[w[1]])), ways[0])
    around = np.roll(hole, -int(there), axis=0)
    return np.concatenate(
        [outline[: here + 1], around, around[:1], outline[here : here + 1], outline[here + 1 :]]
    )


def _meets_center(start: _Points, stop: _Points) -> bool:
    """Whether a line between corners of contours, which lie on half voxels, meets a whole one."""
    steps = round(2 * float(np.abs(stop - start).max())) * 2
    share = np.arange(1, max(steps, 1)) / max(steps, 1)
    points = start + share[:, None] * (stop - start)
    return bool((np.abs(points - np.rint(points)).max(axis=1, initial=0.0) < 1e-6).any())


def _read_back(path: Path, mask: Volume, grid: Grid) -> None:
    try:
        back = read_rtstruct(path, grid)
    except StudyError as error:
        raise OutputError("E_READBACK", error.detail) from error
    wrong = int(np.count_nonzero(back.array != mask.array))
    if wrong:
        raise OutputError("E_READBACK", f"{wrong} voxels of {mask.array.size} differ")
