"""Slices of a volume as a view: what a 2D network sees of a case that stays a volume.

The data stay volumes: they are read, stacked, cached, evaluated and written as such. Only the
network's input is a slice, with neighbouring slices as further channels if so wanted (2.5D).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Transform

from differseg_med.errors import BundleError, ModelError

__all__ = ["SliceInferer", "SliceView", "TakeSliced"]


@dataclass(frozen=True)
class SliceView:
    """Slices along one axis of a volume.

    Attributes:
        axis: array axis that slices are counted along (0, 1 or 2 of the reference's grid).
        neighbours: how many slices on either side come as further channels; beyond the volume its
            last slice stands in for them.
        channels: channels of each modality in the volume, in order.
    """

    axis: int = 2
    neighbours: int = 0
    channels: Sequence[int] = (1,)

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2) or self.neighbours < 0:
            raise BundleError(
                "E_CONFIG",
                f"view has axis {self.axis} and {self.neighbours} neighbours; an axis of 0, 1 or 2 "
                "and 0 or more neighbours were expected",
            )

    @property
    def depth(self) -> int:
        """Slices that are seen at once."""
        return 2 * self.neighbours + 1

    def slab(self, size: Sequence[int]) -> list[int]:
        """Size of the part of a volume that one slice of a size is taken from."""
        shape = [int(n) for n in size]
        shape.insert(self.axis, self.depth)
        return shape

    def cut(self, volume: torch.Tensor) -> torch.Tensor:
        """All slices of a volume: (C, *space) to (slices, C * depth, *plane).

        Channels stay together by modality: each modality's slices in order, then the next one's.
        """
        if volume.shape[0] != sum(self.channels):
            raise ModelError(
                "E_INPUT_SHAPE",
                f"a volume of {sum(self.channels)} channels was expected, got {volume.shape[0]}",
            )
        slices = volume.movedim(self.axis + 1, 0)
        last = len(slices) - 1
        steps = torch.arange(-self.neighbours, self.neighbours + 1, device=volume.device)
        index = (torch.arange(len(slices), device=volume.device)[:, None] + steps).clamp(0, last)
        parts = torch.split(slices, list(self.channels), 1)
        # (slices, depth, channels, *plane) per modality, then depth and channels become one
        return torch.cat([part[index].flatten(1, 2) for part in parts], 1)

    def join(self, slices: torch.Tensor) -> torch.Tensor:
        """The way back for results: (slices, C, *plane) to (C, *space)."""
        return slices.movedim(0, self.axis + 1)


class TakeSliced(Transform):
    """From a slab of a volume, take the slice in its middle with its neighbours as channels.

    Args:
        view: what is taken.
        image_key: key of the stacked image, (C, *slab).
        label_key: key of the label, of which the middle slice is kept.
    """

    def __init__(self, view: SliceView, image_key: str = "image", label_key: str = "label") -> None:
        self.view = view
        self.image_key, self.label_key = image_key, label_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of `data` with 2D tensors."""
        middle, axis = self.view.neighbours, self.view.axis
        result = dict(data)
        image, label = _plain(data[self.image_key]), _plain(data[self.label_key])
        result[self.image_key] = MetaTensor(self.view.cut(image)[middle])
        result[self.label_key] = MetaTensor(label.select(axis + 1, middle))
        return result


class SliceInferer(Inferer):
    """Run a 2D network over all slices of a volume and put the results together again.

    Args:
        view: how slices are taken.
        inferer: runs the network on a batch of slices, such as a sliding window.
        batch_size: slices at once.
    """

    def __init__(self, view: SliceView, inferer: Callable[..., Any], batch_size: int = 8) -> None:
        super().__init__()
        self.view, self.inferer, self.batch_size = view, inferer, batch_size

    @property
    def roi_size(self) -> tuple[int, ...]:
        """Window on the volume, in voxels."""
        plane = tuple(getattr(self.inferer, "roi_size", ()))
        return tuple(self.view.slab(plane)) if plane else ()

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Volumes (B, C, *space) to results (B, channels of the network, *space)."""
        return torch.stack([self._volume(v, network, *args, **kwargs) for v in _plain(inputs)])

    def _volume(self, volume: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        slices = self.view.cut(volume)
        done = [
            _plain(self.inferer(part, *args, **kwargs))
            for part in torch.split(slices, self.batch_size)
        ]
        return self.view.join(torch.cat(done))


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without metadata: a slice has none of the volume's geometry."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
