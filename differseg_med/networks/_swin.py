"""MONAI's Swin transformer as an encoder."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.blocks.patchembedding import PatchEmbed
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from differseg_med._imports import require

__all__ = ["SwinEncoder"]


class SwinEncoder(nn.Module):
    """The encoder of MONAI's SwinUNETR: five levels of strides 2 to 32, in 2D or 3D.

    The patch embedding is the stem, so that every modality can have its own.

    Args:
        spatial_dims: 2 or 3.
        feature_size: channels of the finest level; every further one doubles them.
        depths: transformer blocks per stage, four stages.
        num_heads: attention heads per stage; they divide the channels.
        window_size: edge of the attention windows.
        use_checkpoint: trade time for memory in training.

    References:
        Hatamizadeh et al.: Swin UNETR, BrainLes 2021, arXiv 2201.01266.

    Raises:
        UsageError: ``E_EXTRA`` without the ``swin`` extra.
    """

    def __init__(
        self,
        spatial_dims: int,
        feature_size: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        require("einops", extra="swin")
        self.out_channels = tuple(feature_size * 2**i for i in range(5))
        self.strides: tuple[int, ...] = (2, 4, 8, 16, 32)
        self._spatial_dims = spatial_dims
        self.trunk = SwinTransformer(
            in_chans=1,
            embed_dim=feature_size,
            window_size=(window_size,) * spatial_dims,
            patch_size=(2,) * spatial_dims,
            depths=depths,
            num_heads=num_heads,
            use_checkpoint=use_checkpoint,
            spatial_dims=spatial_dims,
        )
        self.trunk.patch_embed = nn.Identity()

    def make_stem(self, in_channels: int) -> nn.Module:
        """A patch embedding of two voxels along every axis."""
        stem: nn.Module = PatchEmbed(
            patch_size=2,
            in_chans=in_channels,
            embed_dim=self.out_channels[0],
            spatial_dims=self._spatial_dims,
        )
        return stem

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps from the output of a stem, finest first."""
        features: list[Tensor] = self.trunk(x)
        return features
