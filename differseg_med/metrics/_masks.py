"""Arrays become masks: binary, of one shape, without ignored voxels, in two or three dimensions."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from differseg_med.errors import UsageError

__all__ = ["Mask", "as_masks", "crop", "union_box"]

Mask: TypeAlias = npt.NDArray[np.bool_]


def as_masks(
    pred: npt.NDArray[Any], truth: npt.NDArray[Any], ignore: npt.NDArray[Any] | None = None
) -> tuple[Mask, Mask]:
    """Binary masks of one shape; ignored voxels are background in both.

    Args:
        pred: mask; everything that is not 0 counts.
        truth: mask of the same shape.
        ignore: voxels that do not count at all.

    Raises:
        UsageError: ``E_OPTION`` when shapes differ.
    """
    a, b = np.asarray(pred) != 0, np.asarray(truth) != 0
    shapes = {a.shape, b.shape} | (set() if ignore is None else {np.asarray(ignore).shape})
    if len(shapes) > 1:
        raise UsageError("E_OPTION", f"masks of one shape are compared, got {sorted(shapes)}")
    if ignore is not None:
        keep = np.asarray(ignore) == 0
        a, b = a & keep, b & keep
    return a, b


def union_box(a: Mask, b: Mask) -> tuple[slice, ...]:
    """The smallest box that holds both masks, of which one at least is not empty."""
    (box,) = ndimage.find_objects((a | b).view(np.uint8))
    return tuple(box)


def crop(a: Mask, b: Mask) -> tuple[Mask, Mask]:
    """Both masks in their common box with a frame of background around it.

    Every surface element of either mask lies inside that box, so distances between surfaces stay
    exact; a mask that touches the border of the image has a surface there, too.
    """
    box = union_box(a, b)
    return np.pad(a[box], 1), np.pad(b[box], 1)
