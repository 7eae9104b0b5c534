"""Lesion by lesion: which connected components of two masks meet.

What each value is for empty masks is stated in `differseg_med.metrics.METRICS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from differseg_med.metrics._masks import Mask, as_masks, union_box

__all__ = ["Lesions", "count_lesions", "missed_voxels"]


@dataclass(frozen=True)
class Lesions:
    """How many lesions there are and how many were matched.

    Attributes:
        predicted: predicted lesions.
        matched: predicted lesions that share a voxel with the truth.
        true: lesions of the truth.
        found: lesions of the truth that share a voxel with the prediction.
    """

    predicted: int
    matched: int
    true: int
    found: int

    @property
    def sensitivity(self) -> float:
        """Share of the truth's lesions that were found."""
        return self.found / self.true if self.true else math.nan

    @property
    def precision(self) -> float:
        """Share of predicted lesions that are lesions of the truth."""
        return self.matched / self.predicted if self.predicted else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision."""
        if not self.true and not self.predicted:
            return 1.0
        if not self.found:
            return 0.0
        return 2 * self.sensitivity * self.precision / (self.sensitivity + self.precision)


def count_lesions(pred: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Lesions:
    """Match connected components that share at least one voxel; corners connect.

    As the WMH challenge counts them (Kuijf et al. 2019, doi:10.1109/TMI.2019.2905770).

    Args:
        pred: 2D or 3D mask.
        truth: mask of the same shape.

    >>> count_lesions(np.array([[1, 0, 1, 0, 1]]), np.array([[1, 1, 1, 0, 0]]))
    Lesions(predicted=3, matched=2, true=1, found=1)
    """
    a, b = _boxed(pred, truth)
    ours, theirs = _touched(a, b, a.ndim), _touched(b, a, a.ndim)
    return Lesions(len(ours), int(ours.sum()), len(theirs), int(theirs.sum()))


def missed_voxels(mask: npt.NDArray[Any], other: npt.NDArray[Any]) -> int:
    """Voxels of those components of a mask that the other mask does not touch; edges connect.

    With a prediction and the truth that is autoPET's false-positive volume in voxels, the other
    way round its false-negative volume (18 neighbours in 3D, 8 in 2D).

    >>> missed_voxels(np.array([[1, 1, 0, 1]]), np.array([[0, 1, 0, 0]]))
    1
    """
    a, b = _boxed(mask, other)
    labels, number = ndimage.label(a, ndimage.generate_binary_structure(a.ndim, min(a.ndim, 2)))
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    sizes[0] = 0
    sizes[np.unique(labels[b])] = 0
    return int(sizes.sum())


def _boxed(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[Mask, Mask]:
    first, second = as_masks(a, b)
    if first.any() or second.any():
        box = union_box(first, second)
        return first[box], second[box]
    return first, second


def _touched(mask: Mask, other: Mask, connectivity: int) -> npt.NDArray[np.bool_]:
    """For each component of a mask, whether the other mask shares a voxel with it."""
    labels, number = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, connectivity))
    touched = np.zeros(number + 1, dtype=bool)
    touched[np.unique(labels[other])] = True
    return touched[1:]
