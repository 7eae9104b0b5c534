"""Overlap and volume of two binary masks; plain functions on NumPy arrays.

What each function returns for empty masks is stated in `differseg_med.metrics.METRICS`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from differseg_med.metrics._masks import as_masks

__all__ = [
    "dice",
    "iou",
    "miou_two_class",
    "precision",
    "sensitivity",
    "two_class_iou",
    "volume_ml",
]

Array = npt.NDArray[Any]


def dice(pred: Array, truth: Array) -> float:
    """Dice coefficient 2|A and B| / (|A| + |B|) (Dice 1945, doi:10.2307/1932409).

    Args:
        pred: mask of any shape; everything that is not 0 counts.
        truth: mask of the same shape.

    >>> dice(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0]))
    0.5
    """
    a, b = as_masks(pred, truth)
    return _ratio(2 * _count(a & b), _count(a) + _count(b), 1.0)


def iou(pred: Array, truth: Array) -> float:
    """Intersection over union of the foreground (Jaccard index).

    >>> round(iou(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0])), 4)
    0.3333
    """
    a, b = as_masks(pred, truth)
    return _ratio(_count(a & b), _count(a | b), 1.0)


def miou_two_class(pred: Array, truth: Array, ignore: Array | None = None) -> float:
    """Mean of the IoU of the foreground and the IoU of the background.

    Args:
        pred: mask of any shape; everything that is not 0 counts.
        truth: mask of the same shape.
        ignore: voxels that are neither foreground nor background.

    >>> round(miou_two_class(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0])), 4)
    0.3333
    >>> miou_two_class(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
    0.375
    """
    a, b = as_masks(pred, truth, ignore)
    counted = a.size if ignore is None else _count(np.asarray(ignore) == 0)
    return two_class_iou(_count(a & b), _count(a | b), counted)


def two_class_iou(both: int, union: int, counted: int) -> float:
    """Mean IoU of both classes from numbers of voxels.

    Args:
        both: voxels in both masks.
        union: voxels in either mask.
        counted: voxels that count at all.
    """
    background = _ratio(counted - union, counted - both, 1.0)
    return (_ratio(both, union, 1.0) + background) / 2


def sensitivity(pred: Array, truth: Array) -> float:
    """Share of the truth's voxels that the prediction holds; NaN without truth.

    >>> sensitivity(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 1]))
    0.3333333333333333
    """
    a, b = as_masks(pred, truth)
    return _ratio(_count(a & b), _count(b), math.nan)


def precision(pred: Array, truth: Array) -> float:
    """Share of the prediction's voxels that the truth holds; NaN without prediction.

    >>> precision(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 1]))
    0.5
    """
    a, b = as_masks(pred, truth)
    return _ratio(_count(a & b), _count(a), math.nan)


def volume_ml(mask: Array, voxel_volume_mm3: float) -> float:
    """Volume of a mask in mL.

    >>> volume_ml(np.ones((10, 10, 10)), 2.0)
    2.0
    """
    return _count(np.asarray(mask) != 0) * voxel_volume_mm3 / 1000.0


def _count(mask: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _ratio(part: int, whole: int, otherwise: float) -> float:
    return part / whole if whole else otherwise
