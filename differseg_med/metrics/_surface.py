"""Surface distances of two binary masks, computed by MONAI on the masks' own spacing.

Both masks empty: HD95 0 and NSD 1. One empty: HD95 is undefined (NaN), NSD 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

__all__ = ["hd95", "nsd"]

Mask = npt.NDArray[Any]


def hd95(pred: Mask, truth: Mask, spacing: Sequence[float]) -> float:
    """95th percentile of the symmetric Hausdorff distance in mm.

    The larger of the two directed 95th percentiles between the masks' border voxels
    (Huttenlocher et al. 1993, doi:10.1109/34.232073).

    Args:
        pred: 2D or 3D mask.
        truth: mask of the same shape.
        spacing: mm per voxel and axis.
    """
    a, b = np.asarray(pred) != 0, np.asarray(truth) != 0
    if not a.any() or not b.any():
        return 0.0 if a.any() == b.any() else float("nan")
    with _quiet():
        value = compute_hausdorff_distance(
            _one_channel(a), _one_channel(b), percentile=95, spacing=list(spacing)
        )
    return float(value.item())


def nsd(pred: Mask, truth: Mask, spacing: Sequence[float], tolerance_mm: float) -> float:
    """Normalised surface Dice: share of both surfaces within a tolerance of the other one.

    Surface elements are weighted by their area (Nikolov et al. 2018, arXiv:1809.04430).

    Args:
        pred: 2D or 3D mask.
        truth: mask of the same shape.
        spacing: mm per voxel and axis.
        tolerance_mm: distance that counts as equal.
    """
    a, b = np.asarray(pred) != 0, np.asarray(truth) != 0
    if not a.any() or not b.any():
        return 1.0 if a.any() == b.any() else 0.0
    with _quiet():
        value = compute_surface_dice(
            _one_channel(a),
            _one_channel(b),
            class_thresholds=[tolerance_mm],
            spacing=list(spacing),
            use_subvoxels=a.ndim == 3,
        )
    return float(value.item())


def _one_channel(mask: npt.NDArray[np.bool_]) -> torch.Tensor:
    # A frame of background: a mask that touches the array's border has a surface there, too.
    return torch.from_numpy(np.pad(mask, 1).astype(np.float32))[None, None]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MONAI's deprecation of an argument that it passes to itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        yield
