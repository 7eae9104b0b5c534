"""A DICOM SEG is placed on a grid by its geometry alone, whatever its frames' order or number."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from differseg_med.errors import StudyError
from differseg_med.geometry import Grid, Volume, lps_ras
from differseg_med.io._header import quiet
from differseg_med.io._object import read_object
from differseg_med.io._resample import resample
from differseg_med.types import MaskArray

__all__ = ["SegPlanes", "place_on", "read_planes", "read_seg"]

_LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"

_ALIGNED_VOXELS = 0.25
"""Frames whose corners miss the reference's voxel centres by less than this lie on its grid."""


@dataclass(frozen=True)
class SegPlanes:
    """The frames of one segment.

    Attributes:
        pixels: (frames, rows, columns), 0 or 1.
        positions: (frames, 3) centre of each frame's first pixel, LPS mm.
        axes: (frames, 3, 2) step to the next column and to the next row, LPS mm.
        frame: FrameOfReferenceUID, None if absent.
    """

    pixels: npt.NDArray[np.uint8] = field(repr=False)
    positions: npt.NDArray[np.float64] = field(repr=False)
    axes: npt.NDArray[np.float64] = field(repr=False)
    frame: str | None = None


def read_seg(source: str | Path, reference: Grid, segment: int | str | None = None) -> Volume:
    """Read one segment of a DICOM SEG onto a grid.

    Frames that lie on the grid are taken voxel by voxel; frames on another grid of the same frame
    of reference are sampled at the reference's voxel centres.

    Args:
        source: the file, or ``ARCHIVE.zip!MEMBER``.
        reference: where the mask is wanted.
        segment: number or label; may be left out where there is only one.

    Returns:
        Mask of 0 and 1, uint8.

    Raises:
        StudyError: ``E_SEGMENTATION``: which segment is meant is not clear, another frame of
            reference, planes that form no volume, or parts outside the reference;
            ``E_UNSUPPORTED`` or ``E_CORRUPT``: it is no readable SEG.
    """
    planes = read_planes(source, segment)
    if reference.frame and planes.frame and reference.frame != planes.frame:
        raise StudyError("E_SEGMENTATION", "the SEG lies in another frame of reference")
    return Volume(place_on(planes, reference), reference)


def read_planes(source: str | Path, segment: int | str | None = None) -> SegPlanes:
    """Read the frames of one segment and where they lie.

    Args:
        source: the file, or ``ARCHIVE.zip!MEMBER``.
        segment: number or label; may be left out where there is only one.

    Raises:
        StudyError: see `read_seg`.
    """
    with quiet():
        dataset = read_object(str(source), {SegmentationStorage, _LABELMAP}, "DICOM SEG")
        try:
            return _planes(dataset, _segment_number(dataset, segment))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise StudyError("E_CORRUPT", "the SEG lacks what it must have") from error


def _segment_number(dataset: Dataset, segment: int | str | None) -> int:
    found = {int(s.SegmentNumber): str(s.SegmentLabel) for s in dataset.SegmentSequence}
    found.pop(0, None)  # the background of a label map
    hits = [n for n, label in found.items() if segment is None or segment in (n, label)]
    if len(hits) != 1:
        listed = ", ".join(str(number) for number in found)
        raise StudyError(
            "E_SEGMENTATION", f"one segment is needed, {len(hits)} fit; there are numbers {listed}"
        )
    return hits[0]


def _planes(dataset: Dataset, number: int) -> SegPlanes:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    is_labelmap = dataset.SOPClassUID == _LABELMAP
    wanted = [i for i, g in enumerate(groups) if is_labelmap or _shows(g, shared) == number]
    stored = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    if len(stored) != len(groups):
        raise ValueError("frames and their descriptions differ in number")
    pixels = stored if len(wanted) == len(stored) else stored[wanted]
    if is_labelmap:
        pixels = pixels == number
    elif dataset.SegmentationType != "BINARY":
        pixels = pixels * 2.0 >= float(dataset.MaximumFractionalValue)
    own = [groups[i] for i in wanted]
    positions = [_macro(g, shared, "PlanePositionSequence").ImagePositionPatient for g in own]
    return SegPlanes(
        pixels.astype(np.uint8, copy=False),
        np.array(positions, dtype=np.float64).reshape(-1, 3),
        np.array([_axes(g, shared) for g in own], dtype=np.float64).reshape(-1, 3, 2),
        dataset.get("FrameOfReferenceUID") or None,
    )


def _macro(group: Dataset, shared: Dataset, keyword: str) -> Any:
    """First item of a functional group: the frame's own, else the shared one."""
    return (group if keyword in group else shared)[keyword].value[0]


def _shows(group: Dataset, shared: Dataset) -> int:
    item = _macro(group, shared, "SegmentIdentificationSequence")
    return int(item.ReferencedSegmentNumber)


def _axes(group: Dataset, shared: Dataset) -> npt.NDArray[np.float64]:
    orientation = _macro(group, shared, "PlaneOrientationSequence").ImageOrientationPatient
    spacing = _macro(group, shared, "PixelMeasuresSequence").PixelSpacing
    cosines = np.array(orientation, dtype=np.float64).reshape(2, 3)
    return np.asarray(cosines.T * (float(spacing[1]), float(spacing[0])))


def place_on(planes: SegPlanes, reference: Grid) -> MaskArray:
    """Put frames on a grid.

    Args:
        planes: what the frames hold and where they lie.
        reference: the grid, in the same frame of reference.

    Raises:
        StudyError: ``E_SEGMENTATION``: frames that form no volume, or parts outside the grid.
    """
    inverse = np.linalg.inv(lps_ras(reference.affine))
    starts = planes.positions @ inverse[:3, :3].T + inverse[:3, 3]
    steps = inverse[:3, :3] @ planes.axes
    if len(np.unique(np.round(planes.positions, 3), axis=0)) < len(starts):
        raise StudyError("E_SEGMENTATION", "two frames of one segment lie at the same place")
    whole = np.rint(steps)
    size = np.array(planes.pixels.shape[:0:-1]) - 1
    error = np.abs(starts - np.rint(starts)) + np.abs(steps - whole) @ size
    units = np.abs(whole).sum(axis=1) == 1
    if not units.all() or error.max(initial=0.0) > _ALIGNED_VOXELS:
        return _sample(planes, reference)
    return _scatter(planes.pixels, np.rint(starts).astype(int), whole.astype(int), reference.shape)


def _scatter(
    pixels: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int_],
    steps: npt.NDArray[np.int_],
    shape: tuple[int, ...],
) -> MaskArray:
    """Voxel by voxel; whole planes at once where axes agree."""
    out = np.zeros(shape, dtype=np.uint8, order="F")
    straight = np.array([[1, 0], [0, 1], [0, 0]])
    size = np.array(shape)
    for frame, start, step in zip(pixels, starts, steps, strict=True):
        is_whole = frame.shape == (shape[1], shape[0]) and np.array_equal(step, straight)
        if is_whole and not start[:2].any() and 0 <= start[2] < shape[2]:
            out[:, :, start[2]] = frame.T
            continue
        rows, columns = np.nonzero(frame)
        index = start + np.stack([columns, rows], axis=1) @ step.T
        _check_inside(((index >= 0) & (index < size)).all(axis=1))
        out[tuple(index.T)] = 1
    return out


def _check_inside(inside: npt.NDArray[np.bool_]) -> None:
    if not inside.all():
        raise StudyError(
            "E_SEGMENTATION",
            f"{np.count_nonzero(~inside)} of {inside.size} segmented voxels lie outside the "
            "reference",
        )


def _sample(planes: SegPlanes, reference: Grid) -> MaskArray:
    """Nearest value at the reference's voxel centres."""
    source = _as_volume(planes)
    centers = source.grid.to_world(np.argwhere(source.array))
    index = reference.to_index(centers)
    inside = (index >= -0.5) & (index <= np.array(reference.shape) - 0.5)
    _check_inside(np.asarray(inside.all(axis=1)))
    return resample(source, reference, order="nearest", fill=0.0).astype(np.uint8)


def _as_volume(planes: SegPlanes) -> Volume:
    """Frames of one orientation at whole multiples of a step; missing ones are empty."""
    axes = planes.axes[0]
    normal = np.cross(axes[:, 0], axes[:, 1])
    along = (planes.positions - planes.positions[0]) @ (normal / np.linalg.norm(normal))
    order = np.argsort(along)
    gaps = np.diff(along[order])
    if len(order) < 2 or np.ptp(planes.axes, axis=0).max() > 1e-3 * np.abs(axes).max():
        raise StudyError("E_SEGMENTATION", "the frames are not parallel planes of one volume")
    number = np.rint((along - along[order[0]]) / gaps.min()).astype(int)
    first, last = planes.positions[order[0]], planes.positions[order[-1]]
    step = (last - first) / number.max()
    away = np.linalg.norm(first + number[:, None] * step - planes.positions, axis=1).max()
    if away > 0.1 * np.linalg.norm(step):
        raise StudyError("E_SEGMENTATION", f"frames lie up to {away:.2f} mm from even spacing")
    array = np.zeros((*planes.pixels.shape[:0:-1], number.max() + 1), dtype=np.uint8)
    array[:, :, number] = planes.pixels.T
    affine = np.eye(4)
    affine[:3, :2], affine[:3, 2], affine[:3, 3] = axes, step, first
    return Volume(array, Grid(array.shape, lps_ras(affine), planes.frame))
