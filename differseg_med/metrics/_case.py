"""All metrics of one case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from differseg_med.metrics._overlap import dice, iou, volume_ml
from differseg_med.metrics._surface import hd95, nsd

__all__ = ["METRICS", "case_metrics"]

METRICS: dict[str, str] = {
    "dice": "1",
    "iou": "1",
    "hd95_mm": "mm",
    "nsd": "1",
    "volume_ml": "mL",
    "truth_ml": "mL",
    "volume_error_ml": "mL",
    "volume_error_relative": "1",
}
"""Columns of a case's row and their units."""


def case_metrics(
    pred: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    spacing: Sequence[float],
    *,
    nsd_tolerance_mm: float,
) -> dict[str, float]:
    """Compare a mask with the truth on one grid.

    Args:
        pred: 2D or 3D mask.
        truth: mask of the same shape.
        spacing: mm per voxel and axis (right angles between the axes).
        nsd_tolerance_mm: tolerance of the normalised surface Dice.

    Returns:
        The values of `METRICS`; volume errors are prediction minus truth.
    """
    voxel = float(np.prod(spacing))
    found, expected = volume_ml(pred, voxel), volume_ml(truth, voxel)
    error = found - expected
    return {
        "dice": dice(pred, truth),
        "iou": iou(pred, truth),
        "hd95_mm": hd95(pred, truth, spacing),
        "nsd": nsd(pred, truth, spacing, nsd_tolerance_mm),
        "volume_ml": found,
        "truth_ml": expected,
        "volume_error_ml": error,
        "volume_error_relative": error / expected if expected else float("nan"),
    }
