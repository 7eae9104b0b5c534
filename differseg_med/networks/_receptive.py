"""Receptive field block (RFB), as in the decoder side of the authors' public code.

References:
    Liu, Huang, Wang: Receptive field block net for accurate and fast object detection,
    ECCV 2018, arXiv 1711.07767.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from differseg_med.networks._layers import Spec, conv_norm, default_norm

__all__ = ["ReceptiveFieldBlock"]


class ReceptiveFieldBlock(nn.Module):
    """Parallel branches of growing reach, concatenated, reduced and added to the input.

    Every branch starts with a 1x1 convolution. The first ends there; the others go on with one
    one-dimensional convolution per axis, from the last axis to the first, and a dilated one.
    There is no activation inside a branch.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernels: length of the one-dimensional kernels and dilation, one branch each.
        norm: normalisation; by default batch norm in 2D and group norm in 3D.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernels: Sequence[int] = (3, 5, 7),
        norm: Spec | None = None,
    ) -> None:
        super().__init__()
        norm = norm or default_norm(spatial_dims)
        branches = [nn.Sequential(*conv_norm(spatial_dims, in_channels, out_channels, 1, norm))]
        branches += [_branch(spatial_dims, in_channels, out_channels, k, norm) for k in kernels]
        total = len(branches) * out_channels
        self.branches = nn.ModuleList(branches)
        self.merge = nn.Sequential(*conv_norm(spatial_dims, total, out_channels, 3, norm))
        self.shortcut = nn.Sequential(*conv_norm(spatial_dims, in_channels, out_channels, 1, norm))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, *space)`` to ``(B, out_channels, *space)``."""
        merged = self.merge(torch.cat([branch(x) for branch in self.branches], 1))
        return torch.relu(merged + self.shortcut(x))


def _branch(dims: int, in_channels: int, channels: int, kernel: int, norm: Spec) -> nn.Sequential:
    """1x1, one convolution of length ``kernel`` per axis, then a dilated 3x3."""
    layers = conv_norm(dims, in_channels, channels, 1, norm)
    for axis in reversed(range(dims)):
        shape = [kernel if i == axis else 1 for i in range(dims)]
        layers += conv_norm(dims, channels, channels, shape, norm)
    layers += conv_norm(dims, channels, channels, 3, norm, dilation=kernel)
    return nn.Sequential(*layers)
