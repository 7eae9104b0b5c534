"""Shapes and small values as named types (no runtime dependency but NumPy)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Affine", "FloatArray", "MaskArray", "Millimetres", "Point", "Shape"]

FloatArray: TypeAlias = npt.NDArray[np.float32]
MaskArray: TypeAlias = npt.NDArray[np.uint8]
Affine: TypeAlias = npt.NDArray[np.float64]
Point: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]
Millimetres: TypeAlias = float
