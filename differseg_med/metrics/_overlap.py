"""Overlap and volume of two binary masks; plain functions on NumPy arrays.

Dice and IoU of two empty masks are 1, of one empty mask 0. A relative volume error needs a truth
that is not empty and is NaN otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["dice", "iou", "volume_ml"]

Mask = npt.NDArray[Any]


def dice(pred: Mask, truth: Mask) -> float:
    """Dice coefficient 2|A and B| / (|A| + |B|) (Dice 1945, doi:10.2307/1932409).

    Args:
        pred: mask of any shape; everything that is not 0 counts.
        truth: mask of the same shape.

    >>> dice(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0]))
    0.5
    """
    a, b = np.asarray(pred) != 0, np.asarray(truth) != 0
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2.0 * float((a & b).sum()) / total


def iou(pred: Mask, truth: Mask) -> float:
    """Intersection over union of the foreground (Jaccard index).

    >>> round(iou(np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0])), 4)
    0.3333
    """
    a, b = np.asarray(pred) != 0, np.asarray(truth) != 0
    union = int((a | b).sum())
    return 1.0 if union == 0 else float((a & b).sum()) / union


def volume_ml(mask: Mask, voxel_volume_mm3: float) -> float:
    """Volume of a mask in mL.

    >>> volume_ml(np.ones((10, 10, 10)), 2.0)
    2.0
    """
    return float((np.asarray(mask) != 0).sum()) * voxel_volume_mm3 / 1000.0
