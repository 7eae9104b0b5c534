"""Contours of an RT Structure Set become a mask on a grid.

A voxel belongs to a region where its centre lies inside an odd number of the contours of its slice:
holes are contours within contours, and key-hole contours work, too. A centre exactly on an edge
belongs to the region on the side of larger column and row. Nothing is filled in between slices
without a contour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from differseg_med.errors import StudyError
from differseg_med.geometry import Grid, Volume, lps_ras
from differseg_med.io._header import quiet
from differseg_med.io._object import read_object
from differseg_med.io._study import Series
from differseg_med.types import MaskArray

__all__ = ["read_rtstruct"]

PLANE_TOLERANCE = 0.25
"""Largest distance of a contour's points from the centre of a slice, as a share of the spacing."""

_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR"}
_Polygon = npt.NDArray[np.float64]


def read_rtstruct(
    source: str | Path, reference: Grid | Series, roi: str | int | None = None
) -> Volume:
    """Read one region of an RT Structure Set onto a grid.

    Args:
        source: the file, or ``ARCHIVE.zip!MEMBER``.
        reference: the grid, or the series, on whose slices the contours were drawn.
        roi: name or number of the region; may be left out where there is only one.

    Returns:
        Mask of 0 and 1, uint8.

    Raises:
        StudyError: ``E_SEGMENTATION``: it is not clear which region is meant, or its contours do
            not lie in the slices of the reference; ``E_UNSUPPORTED`` or ``E_CORRUPT``: it is no
            readable RT Structure Set.
    """
    grid = reference.grid if isinstance(reference, Series) else reference
    if grid is None:
        raise StudyError("E_GEOMETRY", "the reference series is not a volume")
    with quiet():
        dataset = read_object(str(source), {RTStructureSetStorage}, "RT Structure Set")
        try:
            item = _region(dataset, roi)
            _check_frame(item, grid)
            polygons = list(_polygons(dataset, int(item.ROINumber)))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise StudyError("E_CORRUPT", "the structure set lacks what it must have") from error
    return Volume(_fill(polygons, grid), grid)


def _region(dataset: Dataset, roi: str | int | None) -> Dataset:
    regions = list(dataset.StructureSetROISequence)
    hits = [r for r in regions if roi is None or roi in (str(r.ROIName), int(r.ROINumber))]
    if len(hits) != 1:
        listed = ", ".join(repr(str(r.ROIName)) for r in regions[:20])
        raise StudyError(
            "E_SEGMENTATION", f"one region is needed, {len(hits)} fit; there are {listed or 'none'}"
        )
    return hits[0]


def _check_frame(item: Dataset, grid: Grid) -> None:
    frame = item.get("ReferencedFrameOfReferenceUID")
    if frame and grid.frame and frame != grid.frame:
        raise StudyError("E_SEGMENTATION", "the contours lie in another frame of reference")


def _polygons(dataset: Dataset, number: int) -> Iterator[_Polygon]:
    """Points (n, 3) in LPS mm of each contour of a region."""
    for region in dataset.ROIContourSequence:
        if int(region.ReferencedROINumber) != number:
            continue
        for contour in region.get("ContourSequence") or []:
            if contour.ContourGeometricType not in _CLOSED:
                raise StudyError(
                    "E_SEGMENTATION", f"a contour is {contour.ContourGeometricType}, not closed"
                )
            yield np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)


def _fill(polygons: Iterable[_Polygon], grid: Grid) -> MaskArray:
    inverse = np.linalg.inv(lps_ras(grid.affine))
    by_slice: dict[int, list[_Polygon]] = {}
    for polygon in polygons:
        points = polygon @ inverse[:3, :3].T + inverse[:3, 3]
        by_slice.setdefault(_slice_of(points, grid), []).append(points[:, :2])
    mask = np.zeros(grid.shape, dtype=np.uint8, order="F")
    for index, contours in by_slice.items():
        crossings = np.zeros((grid.shape[1], grid.shape[0] + 1), dtype=np.int64)
        for contour in contours:
            _cross(crossings, contour)
        mask[:, :, index] = (np.cumsum(crossings, axis=1)[:, :-1] % 2).T
    return mask


def _slice_of(points: _Polygon, grid: Grid) -> int:
    """The slice whose plane holds all points of a contour."""
    nearest = int(np.rint(points[:, 2].mean()))
    away = float(np.abs(points[:, 2] - nearest).max())
    if away > PLANE_TOLERANCE:
        raise StudyError(
            "E_SEGMENTATION",
            f"a contour lies {away * grid.spacing[2]:.2f} mm from the nearest slice of the "
            f"reference, whose slices are {grid.spacing[2]:.2f} mm apart",
        )
    # Outlines of voxels at the border lie half a voxel outside the outermost centres.
    outside = (points[:, :2] < -0.51) | (points[:, :2] > np.array(grid.shape[:2]) - 0.49)
    if not 0 <= nearest < grid.shape[2] or outside.any():
        raise StudyError("E_SEGMENTATION", "a contour lies outside the reference")
    return nearest


def _cross(crossings: npt.NDArray[np.int64], points: _Polygon) -> None:
    """Count, for each row of voxel centres, where the contour's edges cross it.

    Args:
        crossings: (rows, columns + 1); a crossing counts at the first centre right of it.
        points: (n, 2) column and row of the contour's points.
    """
    ends = np.roll(points, -1, axis=0)
    low = np.where((points[:, 1] <= ends[:, 1])[:, None], points, ends)
    high = np.where((points[:, 1] <= ends[:, 1])[:, None], ends, points)
    first = np.ceil(low[:, 1]).astype(int)
    count = np.ceil(high[:, 1]).astype(int) - first
    edge = np.repeat(np.arange(len(points)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    share = (row - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
    column = np.ceil(low[edge, 0] + share * (high[edge, 0] - low[edge, 0])).astype(int)
    np.add.at(crossings, (row, np.clip(column, 0, crossings.shape[1] - 1)), 1)
