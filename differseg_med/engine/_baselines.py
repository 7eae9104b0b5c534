"""Baselines without a network, which every table of results stands beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from differseg_med.geometry import Grid

__all__ = ["above_threshold", "box_ellipsoid"]

Array = npt.NDArray[Any]


def box_ellipsoid(raw: Array, grid: Grid, *, margin_mm: float) -> Array:
    """Look at no voxel: the ellipsoid inscribed in the box less a margin.

    Args:
        raw: the reference modality's values; only its place in the signature matters.
        grid: the grid of the mask.
        margin_mm: distance between the box's faces and the ellipsoid.
    """
    half = np.array(grid.shape) * np.array(grid.spacing) / 2 - margin_mm
    half = np.maximum(half, np.array(grid.spacing) / 2)
    axes = [
        (np.arange(n) - (n - 1) / 2) * step / radius
        for n, step, radius in zip(grid.shape, grid.spacing, half, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.asarray(x**2 + y**2 + z**2 <= 1.0)


def above_threshold(raw: Array, grid: Grid, *, value: float) -> Array:
    """Threshold the reference modality.

    Args:
        raw: the reference modality's values.
        grid: the grid of the mask.
        value: values above this, in the modality's unit, are foreground.
    """
    return np.asarray(raw > value)
