"""The Hiera trunk of SAM 2 as a 2D encoder, with the adapters of the paper.

The trunk is that of the ``transformers`` package (Apache-2.0), imported at use.

References:
    Ryali et al.: Hiera, ICML 2023, arXiv 2306.00989.
    Ravi et al.: SAM 2, arXiv 2408.00714.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from differseg_med._imports import require
from differseg_med.errors import ModelError

__all__ = ["HIERA_VARIANTS", "HieraEncoder"]

HIERA_VARIANTS: dict[str, dict[str, Any]] = {
    "tiny": {
        "width": 96,
        "heads": 1,
        "blocks": (1, 2, 7, 2),
        "global_blocks": (5, 7, 9),
        "background": (7, 7),
        "windows": (8, 4, 14, 7),
    },
    "small": {
        "width": 96,
        "heads": 1,
        "blocks": (1, 2, 11, 2),
        "global_blocks": (7, 10, 13),
        "background": (7, 7),
        "windows": (8, 4, 14, 7),
    },
    "base_plus": {
        "width": 112,
        "heads": 2,
        "blocks": (2, 3, 16, 3),
        "global_blocks": (12, 16, 20),
        "background": (14, 14),
        "windows": (8, 4, 14, 7),
    },
    "large": {
        "width": 144,
        "heads": 2,
        "blocks": (2, 6, 36, 4),
        "global_blocks": (23, 33, 43),
        "background": (7, 7),
        "windows": (8, 4, 16, 8),
    },
}
"""What SAM 2 calls tiny, small, base+ and large."""


class HieraEncoder(nn.Module):
    """SAM 2's Hiera with an adapter before every block: four levels of strides 4 to 32, 2D.

    An adapter is linear, GELU, linear, GELU through ``adapter_width`` channels; what it gives is
    added to the block's input. Nothing is downloaded: weights start at random and are loaded by
    `load_authors_weights` or from a checkpoint. Images of one channel are repeated to three.

    Args:
        spatial_dims: 2.
        variant: ``"tiny"``, ``"small"``, ``"base_plus"`` or ``"large"``.
        adapter_width: inner width of the adapters.
        freeze: whether the trunk, all but the adapters, is kept as it is in training.

    Raises:
        UsageError: ``E_EXTRA`` without the ``hiera`` extra.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        variant: str = "large",
        adapter_width: int = 32,
        freeze: bool = True,
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ModelError(
                "E_NETWORK",
                f"encoder 'hiera' with spatial_dims {spatial_dims}, expected 2",
                "Use encoder 'residual' or 'swin' for volumes.",
            )
        self.trunk = _trunk(variant)
        self.trunk.requires_grad_(not freeze)
        spec = HIERA_VARIANTS[variant]
        self.out_channels = tuple(spec["width"] * 2**i for i in range(4))
        self.strides: tuple[int, ...] = (4, 8, 16, 32)
        self._ends = [sum(spec["blocks"][: i + 1]) - 1 for i in range(4)]
        self.adapters = nn.ModuleList(
            _adapter(block.dim, adapter_width) for block in self.trunk.blocks
        )

    def make_stem(self, in_channels: int) -> nn.Module:
        """Three channels, as the trunk's patch embedding takes them."""
        if in_channels == 3:
            return nn.Identity()
        return _Repeat() if in_channels == 1 else nn.Conv2d(in_channels, 3, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps from the output of a stem, finest first."""
        height, width = x.shape[2], x.shape[3]
        x = nn.functional.pad(x, [0, -width % 32, 0, -height % 32])
        tokens = self.trunk.patch_embed(x)
        tokens = tokens + self._positions(tokens.shape[1], tokens.shape[2])
        features: list[Tensor] = []
        for i, (block, adapter) in enumerate(zip(self.trunk.blocks, self.adapters, strict=True)):
            tokens = block(tokens + adapter(tokens))
            if i in self._ends:
                stride = self.strides[len(features)]
                maps = tokens.permute(0, 3, 1, 2)
                rows, columns = -(-height // stride), -(-width // stride)
                features.append(maps[:, :, :rows, :columns].contiguous())
        return features

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The position embedding: a coarse one stretched, plus one per window repeated."""
        coarse = nn.functional.interpolate(
            self.trunk.pos_embed, size=(rows, columns), mode="bicubic"
        )
        window = self.trunk.pos_embed_window
        fine = window.tile(1, 1, rows // window.shape[2], columns // window.shape[3])
        positions: Tensor = (coarse + fine).permute(0, 2, 3, 1)
        return positions


class _Repeat(nn.Module):
    """One channel three times."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x, x], 1)


def _adapter(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels), nn.GELU()
    )


def _trunk(variant: str) -> Any:
    """A trunk of random weights."""
    if variant not in HIERA_VARIANTS:
        raise ModelError(
            "E_NETWORK", f"variant is {variant!r}, expected one of {sorted(HIERA_VARIANTS)}"
        )
    require("transformers", extra="hiera")
    from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig
    from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModel

    spec = HIERA_VARIANTS[variant]
    config = Sam2HieraDetConfig(
        hidden_size=spec["width"],
        num_attention_heads=spec["heads"],
        blocks_per_stage=list(spec["blocks"]),
        embed_dim_per_stage=[spec["width"] * 2**i for i in range(4)],
        num_attention_heads_per_stage=[spec["heads"] * 2**i for i in range(4)],
        window_size_per_stage=list(spec["windows"]),
        global_attention_blocks=list(spec["global_blocks"]),
        window_positional_embedding_background_size=list(spec["background"]),
    )
    return Sam2HieraDetModel(config)
