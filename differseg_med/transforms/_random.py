"""Random transforms: parameters are drawn first, then something fixed is applied."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, SpatialCrop

__all__ = ["RandCropMarginsd", "RandModalityDropoutd"]


class RandModalityDropoutd(MapTransform, Randomizable):
    """Declare whole modalities absent at random, so that the network learns to do without.

    An absent modality is NaN in all its voxels. At least one modality always stays present.

    Args:
        keys: keys of images of shape (C, *space).
        channels: number of channels of each modality, in order.
        prob: probability for each present modality to be dropped.
    """

    def __init__(self, keys: KeysCollection, channels: Sequence[int], prob: float) -> None:
        super().__init__(keys)
        self.channels = tuple(channels)
        self.prob = prob
        self._drop: npt.NDArray[np.bool_] = np.zeros(len(self.channels), dtype=bool)

    def randomize(self, present: npt.NDArray[np.bool_]) -> None:
        """Draw which of the present modalities are dropped."""
        self._drop = present & (self.R.random(len(present)) < self.prob)
        if (self._drop == present).all():
            self._drop[self.R.choice(np.flatnonzero(present))] = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` in which some modalities are NaN."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key].clone()
            parts = torch.split(image, list(self.channels))
            self.randomize(np.array([not bool(torch.isnan(part).any()) for part in parts]))
            for part, drop in zip(parts, self._drop, strict=True):
                if drop:
                    part.fill_(float("nan"))
            result[key] = image
        return result


class RandCropMarginsd(MapTransform, Randomizable):
    """Crop around the label with margins drawn anew per side.

    Data that was cropped at a fixed distance around the lesion gives the lesion away by its box;
    margins drawn anew take most of that away.

    Args:
        keys: keys to crop, all on one grid, each (C, *space).
        label_key: key of the label that the margins are measured from.
        margin_mm: smallest and largest margin in mm; drawn uniformly per side.
    """

    def __init__(
        self, keys: KeysCollection, label_key: str, margin_mm: tuple[float, float]
    ) -> None:
        super().__init__(keys)
        self.label_key = label_key
        self.margin_mm = margin_mm
        self._margins: npt.NDArray[np.float64] = np.zeros((2, 3))

    def randomize(self, ndim: int) -> None:
        """Draw a margin per side of each axis."""
        self._margins = self.R.uniform(*self.margin_mm, size=(2, ndim))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data`, cropped; unchanged where the label is empty."""
        result = dict(data)
        label = result[self.label_key]
        index = np.argwhere(np.asarray(label[0]) > 0)
        if len(index) == 0:
            return result
        self.randomize(index.shape[1])
        voxels = np.round(self._margins / np.asarray(label.pixdim[: index.shape[1]])).astype(int)
        start = np.maximum(index.min(axis=0) - voxels[0], 0)
        stop = np.minimum(index.max(axis=0) + 1 + voxels[1], label.shape[1:])
        crop = SpatialCrop(roi_start=start, roi_end=stop)
        for key in self.key_iterator(result):
            result[key] = crop(result[key])
        return result
