"""Losses made of losses: over the outputs of deep supervision, and sums."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from differseg_med.errors import ModelError

__all__ = ["DeepSupervisionLoss", "WeightedSumLoss"]

_LINEAR = {2: "bilinear", 3: "trilinear"}


class DeepSupervisionLoss(nn.Module):
    """Apply a loss to every output of a network and add the values up.

    Args:
        loss: any loss of ``(logits, target)``, for example `StructureLoss` or MONAI's
            ``DiceCELoss``.
        weights: weight per output, finest first; the last one goes on for those that follow. All
            are 1 by default, as the authors have it.
        resize: ``"prediction"`` brings smaller outputs to the target's size (linear, corners
            aligned, as the authors have it), which keeps small lesions in the target;
            ``"target"`` brings the target to each output's size (nearest), which is cheaper.
    """

    def __init__(
        self,
        loss: nn.Module,
        weights: Sequence[float] | None = None,
        resize: str = "prediction",
    ) -> None:
        super().__init__()
        if resize not in {"prediction", "target"}:
            raise ModelError(
                "E_NETWORK", f"resize is {resize!r}, expected 'prediction' or 'target'"
            )
        self.loss = loss
        self.weights = tuple(float(w) for w in weights or (1.0,))
        self.resize = resize

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """The loss of one output, or the weighted sum over a list of outputs."""
        if isinstance(outputs, Tensor):
            outputs = [outputs]
        values = [
            self.weights[min(i, len(self.weights) - 1)] * self.loss(*self._fit(output, target))
            for i, output in enumerate(outputs)
        ]
        total: Tensor = sum(values[1:], start=values[0])
        return total

    def _fit(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if output.shape[2:] == target.shape[2:]:
            return output, target
        if self.resize == "target":
            small = functional.interpolate(target.float(), output.shape[2:], mode="nearest-exact")
            return output, small.to(target.dtype)
        mode = _LINEAR[output.ndim - 2]
        large = functional.interpolate(output, target.shape[2:], mode=mode, align_corners=True)
        return large, target


class WeightedSumLoss(nn.Module):
    """A weighted sum of losses on the same output, for example structure loss and Dice.

    Args:
        losses: losses of ``(logits, target)``.
        weights: one weight per loss, all 1 by default.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weights = tuple(float(w) for w in weights or (1.0,) * len(losses))
        if not losses or len(weights) != len(losses):
            raise ModelError(
                "E_NETWORK", f"{len(losses)} losses and {len(weights)} weights, expected as many"
            )
        self.losses = nn.ModuleList(losses)
        self.weights = weights

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The weighted sum."""
        values = [
            w * loss(logits, target) for w, loss in zip(self.weights, self.losses, strict=True)
        ]
        total: Tensor = sum(values[1:], start=values[0])
        return total
