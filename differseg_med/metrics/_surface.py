"""Surface distances of two binary masks, exact, inside the masks' common box.

Distances between border points are found with k-d trees: on many small lesions that lie far apart
a distance transform of the box takes many times as long for the same numbers. What each function
returns for empty masks is stated in `differseg_med.metrics.METRICS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from differseg_med.metrics._masks import Mask, as_masks, crop

__all__ = ["Distances", "assd", "assd_of", "border_distances", "hd95", "hd95_of", "nsd"]

Floats: TypeAlias = npt.NDArray[np.float64]
Distances: TypeAlias = tuple[Floats, Floats]
"""Millimetres from each border voxel of a prediction to the truth's border, and the other way."""


def hd95(pred: npt.NDArray[Any], truth: npt.NDArray[Any], spacing: Sequence[float]) -> float:
    """95th percentile of the symmetric Hausdorff distance in mm.

    The larger of the two directed 95th percentiles between the masks' border voxels
    (Huttenlocher et al. 1993, doi:10.1109/34.232073).

    Args:
        pred: 2D or 3D mask.
        truth: mask of the same shape.
        spacing: mm per voxel and axis.
    """
    a, b = as_masks(pred, truth)
    if not a.any() or not b.any():
        return _rule(a, b, one_empty=math.nan, both_empty=0.0)
    return hd95_of(border_distances(a, b, spacing))


def assd(pred: npt.NDArray[Any], truth: npt.NDArray[Any], spacing: Sequence[float]) -> float:
    """Average symmetric surface distance in mm.

    The mean over all border voxels of both masks of the distance to the other mask's border
    (Heimann et al. 2009, doi:10.1109/TMI.2009.2013851).

    Args:
        pred: 2D or 3D mask.
        truth: mask of the same shape.
        spacing: mm per voxel and axis.
    """
    a, b = as_masks(pred, truth)
    if not a.any() or not b.any():
        return _rule(a, b, one_empty=math.nan, both_empty=0.0)
    return assd_of(border_distances(a, b, spacing))


def nsd(
    pred: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    spacing: Sequence[float],
    tolerance_mm: float,
) -> float:
    """Normalised surface Dice: share of both surfaces within a tolerance of the other one.

    Surface elements are weighted by their area, in 2D by their length (Nikolov et al. 2021,
    doi:10.2196/26151); areas are those of MONAI's tables.

    Args:
        pred: 2D or 3D mask.
        truth: mask of the same shape.
        spacing: mm per voxel and axis.
        tolerance_mm: distance that counts as equal.
    """
    a, b = as_masks(pred, truth)
    if not a.any() or not b.any():
        return _rule(a, b, one_empty=0.0, both_empty=1.0)
    (p, area_p), (q, area_q) = (_elements(mask, tuple(spacing)) for mask in crop(a, b))
    close_p = area_p[_nearest(p, q) <= tolerance_mm].sum()
    close_q = area_q[_nearest(q, p) <= tolerance_mm].sum()
    return float((close_p + close_q) / (area_p.sum() + area_q.sum()))


def border_distances(a: Mask, b: Mask, spacing: Sequence[float]) -> Distances:
    """Distances in mm from each border voxel of one mask to the other's border, both ways.

    Args:
        a: mask that is not empty.
        b: mask of the same shape that is not empty.
        spacing: mm per voxel and axis.
    """
    borders = (mask & ~ndimage.binary_erosion(mask) for mask in crop(a, b))
    p, q = (_points(np.nonzero(border), spacing) for border in borders)
    return _nearest(p, q), _nearest(q, p)


def hd95_of(distances: Distances) -> float:
    """HD95 of border distances."""
    return float(max(np.percentile(one_way, 95) for one_way in distances))


def assd_of(distances: Distances) -> float:
    """ASSD of border distances."""
    return float(np.concatenate(distances).mean())


def _points(index: tuple[npt.NDArray[np.intp], ...], spacing: Sequence[float]) -> Floats:
    steps = np.asarray(spacing, dtype=np.float64)
    return np.asarray(np.stack(index, axis=1) * steps, dtype=np.float64)


def _nearest(points: Floats, others: Floats) -> Floats:
    return np.asarray(cKDTree(others).query(points)[0], dtype=np.float64)


def _rule(a: Mask, b: Mask, *, one_empty: float, both_empty: float) -> float:
    return one_empty if a.any() or b.any() else both_empty


def _elements(mask: Mask, spacing: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Positions (mm) and areas of the surface elements between the voxels of a framed mask.

    An element lies where a neighbourhood of two voxels along each axis is neither empty nor full;
    the pattern of its voxels, read as a binary number, decides its area.
    """
    areas, weights = _area_table(spacing)
    code = np.zeros(tuple(n - 1 for n in mask.shape), dtype=np.int32)
    for corner in np.ndindex(*weights.shape):
        window = tuple(slice(c, n - 1 + c) for c, n in zip(corner, mask.shape, strict=True))
        code += np.where(mask[window], weights[corner], 0)
    index = np.nonzero((code != 0) & (code != len(areas) - 1))
    return _points(index, spacing), areas[code[index]]


@lru_cache(maxsize=16)
def _area_table(spacing: tuple[float, ...]) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Area by pattern, and what each voxel of the neighbourhood adds to the pattern's number."""
    from monai.metrics.utils import get_code_to_measure_table

    table, kernel = get_code_to_measure_table(spacing)
    areas = np.asarray(table.cpu().numpy(), dtype=np.float64)
    return areas, np.asarray(kernel.cpu().numpy()[0, 0], dtype=np.int32)
