"""Crop margins drawn anew, seeded per case, for data that was cropped around its lesions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from differseg_med.geometry import Grid, Volume

__all__ = ["CropMargins"]


@dataclass(frozen=True)
class CropMargins:
    """Draw the distance between a lesion's bounding box and the crop's faces anew.

    The draw depends on the seed and the case alone, so every method sees the same crops.

    Attributes:
        low: smallest margin in mm.
        high: largest margin in mm.
        seed: seed of the draw.
    """

    low: float
    high: float
    seed: int = 0

    def box(self, label: Volume, case: str) -> Grid:
        """The part of the label's grid to keep; the whole grid where the label is empty.

        Args:
            label: the lesion mask.
            case: name of the case, part of the seed.
        """
        index = np.argwhere(label.array > 0)
        if len(index) == 0:
            return label.grid
        digest = hashlib.sha256(f"{self.seed}/{case}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        margins = rng.uniform(self.low, self.high, size=(2, 3))
        voxels = np.round(margins / np.array(label.grid.spacing)).astype(int)
        start = np.maximum(index.min(axis=0) - voxels[0], 0)
        stop = np.minimum(index.max(axis=0) + 1 + voxels[1], label.grid.shape)
        return label.grid.crop(start, stop)
