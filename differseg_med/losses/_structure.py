"""Structure loss: BCE and IoU, both weighted by how near a voxel is to the mask's boundary.

References:
    Wei, Wang, Huang: F3Net, AAAI 2020, arXiv 1911.11445; used so by the authors of DifferSeg.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from differseg_med.errors import ModelError

__all__ = ["StructureLoss", "structure_loss"]

_TINY = 1e-12
"""Keeps a sample in which no voxel counts from dividing by zero; its loss is 0."""

_POOL = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _local_mean(mask: Tensor, size: int) -> Tensor:
    """Mean over a cube of ``size``, padded zeros counted, as one mean per axis."""
    dims = mask.ndim - 2
    for axis in range(dims):
        kernel = [size if i == axis else 1 for i in range(dims)]
        # Padded beforehand: the 3D pool refuses inputs smaller than its kernel.
        edges = [size // 2 if i == axis else 0 for i in reversed(range(dims)) for _ in range(2)]
        mask = _POOL[dims](functional.pad(mask, edges), kernel, stride=1)
    return mask


def structure_loss(
    logits: Tensor,
    target: Tensor,
    *,
    pool_size: int = 31,
    boundary_weight: float = 5.0,
    authors_bce_mean: bool = False,
) -> Tensor:
    """Weighted BCE plus weighted IoU loss, averaged over samples and channels.

    The weight of a voxel is ``1 + boundary_weight * |local mean of the mask - mask|``.

    Args:
        logits: ``(B, C, *space)``, 2D or 3D.
        target: mask of the same shape, values in [0, 1]; voxels below 0 do not count.
        pool_size: odd length of the cube of the local mean, in voxels.
        boundary_weight: factor of the boundary term.
        authors_bce_mean: weight the mean of the BCE instead of every voxel's. That is what the
            authors' code computes, since it calls BCE with a deprecated argument; the weights
            then cancel.

    Returns:
        A scalar.
    """
    if logits.shape != target.shape or logits.ndim - 2 not in _POOL:
        raise ModelError(
            "E_INPUT_SHAPE",
            f"logits of shape {tuple(logits.shape)}, target of {tuple(target.shape)}, "
            "expected the same (batch, channels, *space)",
            "Resize the target, or wrap the loss in DeepSupervisionLoss.",
        )
    if pool_size < 1 or pool_size % 2 == 0:
        raise ModelError("E_NETWORK", f"pool_size is {pool_size}, expected an odd number")
    logits = logits.double() if logits.dtype == torch.float64 else logits.float()
    target = target.to(logits.dtype)
    space = list(range(2, logits.ndim))
    counted = (target >= 0).to(logits.dtype)
    target = target.clamp(min=0)
    weight = counted * (1 + boundary_weight * (_local_mean(target, pool_size) - target).abs())
    bce = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if authors_bce_mean:
        bce = ((bce * counted).sum() / counted.sum().clamp(min=1)).expand_as(bce)
    weighted_bce = (weight * bce).sum(space) / weight.sum(space).clamp(min=_TINY)
    probability = torch.sigmoid(logits)
    overlap = (probability * target * weight).sum(space)
    union = ((probability + target) * weight).sum(space) - overlap
    return (weighted_bce + 1 - (overlap + 1) / (union + 1)).mean()


class StructureLoss(nn.Module):
    """`structure_loss` as a module; see there for the arguments."""

    def __init__(
        self,
        pool_size: int = 31,
        boundary_weight: float = 5.0,
        authors_bce_mean: bool = False,
    ) -> None:
        super().__init__()
        self.pool_size = pool_size
        self.boundary_weight = boundary_weight
        self.authors_bce_mean = authors_bce_mean

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of logits against a mask of the same shape."""
        return structure_loss(
            logits,
            target,
            pool_size=self.pool_size,
            boundary_weight=self.boundary_weight,
            authors_bce_mean=self.authors_bce_mean,
        )
