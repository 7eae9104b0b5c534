"""Pictures as pretrained encoders expect them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from differseg_med.errors import StudyError
from differseg_med.modality import Modality, get_modalities
from differseg_med.transforms._intensity import normalize_modality

__all__ = ["StandardizePicturesd"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5,), (0.5,))
_BYTE = 255.0
_ROUNDING = 0.01
"""Interpolation in float32 may exceed the largest pixel by this much."""


class StandardizePicturesd(MapTransform):
    """Bring every stream to [0, 1], subtract a mean and divide by a standard deviation.

    Colour pictures (``rgb``) have the statistics of ImageNet, all other streams mean 0.5 and
    standard deviation 0.5. A stream that is absent stays NaN.

    Args:
        keys: keys of images of shape (C, *space).
        modalities: names in channel order.
        repeat: give every stream three channels, streams of one channel three times the same; for
            networks whose encoder is one for all streams. Without, the channels stay as many.
        byte_range: divide every stream by 255, as the authors do; without, each modality's own
            rule gives [0, 1], which differs for depth: its largest values become 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        modalities: Sequence[str],
        repeat: bool = True,
        byte_range: bool = False,
    ) -> None:
        super().__init__(keys)
        self.modalities = get_modalities(modalities)
        self.repeat = repeat
        self.byte_range = byte_range

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with standardised images.

        Raises:
            StudyError: ``E_CHANNELS`` when an image has another number of channels,
                ``E_UNSUPPORTED`` when `byte_range` meets a picture of more than 8 bits.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            image, widths = result[key], [m.channels for m in self.modalities]
            if image.shape[0] != sum(widths):
                names = ", ".join(m.name for m in self.modalities)
                raise StudyError(
                    "E_CHANNELS",
                    f"the image has {image.shape[0]} channels, {sum(widths)} were expected "
                    f"({names})",
                )
            result[key] = _like(self._parts(torch.split(_plain(image), widths)), image)
        return result

    def _parts(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        widths = [3 if self.repeat else m.channels for m in self.modalities]
        out = parts[0].new_empty((sum(widths), *parts[0].shape[1:]), dtype=torch.float32)
        places = torch.split(out, widths)
        for place, part, modality in zip(places, parts, self.modalities, strict=True):
            unit, scale = self._unit(part, modality)
            means, deviations = _IMAGENET if modality.name == "rgb" else _HALF
            column = (len(means), *[1] * (unit.ndim - 1))
            mean, deviation = (torch.tensor(v).view(column) for v in (means, deviations))
            torch.mul(unit, (scale / deviation).to(unit.device), out=place)
            place.sub_((mean / deviation).to(unit.device))
        return out

    def _unit(self, part: torch.Tensor, modality: Modality) -> tuple[torch.Tensor, float]:
        """Values of as many channels as the result has, and what brings them to [0, 1]."""
        unit, scale = (
            (self._bytes(part, modality), 1 / _BYTE)
            if self.byte_range
            else (normalize_modality(part, modality), 1.0)
        )
        wide = torch.cat([unit] * 3) if self.repeat and modality.channels == 1 else unit
        return wide, scale

    def _bytes(self, part: torch.Tensor, modality: Modality) -> torch.Tensor:
        lowest, highest = (float(value) for value in part.aminmax())  # NaN where it is absent
        if highest > _BYTE + _ROUNDING:
            raise StudyError(
                "E_UNSUPPORTED",
                f"{modality.name} has values up to {highest:g}, expected 8 bits",
                "Convert it to 8 bits, or leave byte_range off.",
            )
        inside = lowest >= 0 and highest <= _BYTE
        return part.float() if inside else part.float().clamp(0.0, _BYTE)


def _plain(image: torch.Tensor) -> torch.Tensor:
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def _like(values: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The values with an image's meta data, where it has any."""
    if not isinstance(image, MetaTensor):
        return values
    result: torch.Tensor = MetaTensor(
        values, meta=image.meta, applied_operations=image.applied_operations
    )
    return result
