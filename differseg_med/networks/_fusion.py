"""Differential perception fusion (DPF): several modalities of one level become one map.

Implements DPF as in the authors' public code, extended to n dimensions and any number of
modalities, and to modalities that are absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from differseg_med.errors import ModelError
from differseg_med.networks._absence import expand
from differseg_med.networks._joint import expect, joint_terms, scaled
from differseg_med.networks._layers import (
    LocalMean,
    Spec,
    act_layer,
    conv,
    conv_norm,
    default_norm,
)
from differseg_med.networks._operators import apply_operators, difference_operators

__all__ = ["DifferentialPerceptionFusion"]


class DifferentialPerceptionFusion(nn.Module):
    """Fuse modalities by what their differences and their means say, weighted voxel by voxel.

    With ``P_m`` the projected stream of modality m, ``w`` the complementarity maps (a softmax
    over the modalities) and ``K_k`` the learnable operators, which start as Sobel and Laplacian::

        G_k = sum_m w_m (K_k * P_m)              D = detail(G)
        L   = sum_m mean(w_m) mean(P_m)          F = integrate([D; L]) + sum_m P_m

    An absent modality has weight exactly 0 and ``P_m = 0``; the last sum is taken over those
    present and scaled by M over their number, so it is the authors' when none is absent.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of every modality and of the output.
        num_modalities: M, at least 1.
        norm: normalisation; by default batch norm in 2D and group norm in 3D.
        act: activation.
        hidden_channels: width inside; ``channels`` by default.
        padding: ``"zeros"`` as the authors have it, or ``"replicate"``, which makes no false
            edges at the border, for the operators.
        count_padding: whether padded zeros count in the means, as the authors have it.
        operators: ``"both"``, ``"sobel"`` or ``"laplacian"``.
        operator_start: what the operators start as: ``"values"``, their own; ``"zero"``; or
            ``"random"``, normal with deviation 1.
        learnable_operators: whether the operators are trained.
        residual: whether the sum of the streams is added.
        joint: what is integrated beside D and L: ``"streams"`` (all of them side by side),
            ``"product"`` (sum of the products of every two) and ``"minimum"``, which say where
            several modalities agree; a weighted sum cannot.
        blocks: ``"dense"``, 3x3 convolutions for scores and detail as the authors have it, or
            ``"pointwise"``, 1x1 ones, which leaves the neighbourhood to operators and integration.
        absence_offset: whether a learned vector per modality is added where it is absent, so that
            what follows can tell an absent modality from an empty one. With all present the result
            is the same; it starts at zero.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        num_modalities: int,
        norm: Spec | None = None,
        act: Spec = "relu",
        hidden_channels: int | None = None,
        padding: str = "zeros",
        count_padding: bool = True,
        *,
        operators: str = "both",
        operator_start: str = "values",
        learnable_operators: bool = True,
        residual: bool = True,
        joint: Sequence[str] = (),
        blocks: str = "dense",
        absence_offset: bool = False,
    ) -> None:
        super().__init__()
        if num_modalities < 1:
            raise ModelError("E_NETWORK", f"num_modalities is {num_modalities}, expected 1 or more")
        dims, norm, width = spatial_dims, norm or default_norm(spatial_dims), hidden_channels
        width = channels if width is None else width
        total = num_modalities * channels
        self.num_modalities = num_modalities
        self.joint = joint_terms(joint, ("streams", "product", "minimum"))
        parts = 2 + len(joint) + ("streams" in joint) * (num_modalities - 1)
        self.project = conv(dims, total, total, groups=num_modalities)
        self.operators = _Operators(
            dims, channels, padding, operators, operator_start, learnable_operators
        )
        expect("blocks", blocks, list(_KERNEL))
        kernel, responses = _KERNEL[blocks], len(self.operators.kernels) * channels
        self.complementarity = nn.Sequential(
            *conv_norm(dims, total, width, kernel, norm),
            act_layer(act),
            conv(dims, width, num_modalities),
        )
        self.detail = nn.Sequential(
            *conv_norm(dims, responses, width, kernel, norm),
            act_layer(act),
            *conv_norm(dims, width, channels, kernel, norm),
        )
        self.integrate = nn.Sequential(
            *conv_norm(dims, parts * channels, width, 3, norm),
            act_layer(act),
            *conv_norm(dims, width, channels, 1, norm),
        )
        self.mean = LocalMean(count_padding)
        self.residual = residual
        offset = torch.zeros(num_modalities, channels) if absence_offset else None
        self.offset = None if offset is None else nn.Parameter(offset)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Map ``(B, M, channels, *space)`` to ``(B, channels, *space)``.

        ``present`` is a boolean ``(B, M)``; everything is present without it.
        """
        return self.explain(x, present)[0]

    def explain(self, x: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The fused map and the complementarity maps ``(B, M, *space)``, which sum to 1."""
        streams = self._project(x, present)
        weights = self._weights(streams, present)
        detail = self.detail(self._differences(streams, weights))
        parts = [detail, self._approximation(streams, weights)]
        for term in self.joint:
            parts += [term(streams, present)]
        fused = self.integrate(torch.cat(parts, 1))
        if self.residual:
            fused = fused + scaled(streams.sum(1), present)
        return self._marked(fused, present), weights

    def _marked(self, fused: Tensor, present: Tensor | None) -> Tensor:
        if self.offset is None or present is None:
            return fused
        return fused + expand((~present).to(fused.dtype) @ self.offset, fused.ndim)

    def _project(self, x: Tensor, present: Tensor | None) -> Tensor:
        streams: Tensor = self.project(x.flatten(1, 2)).view(x.shape)
        if present is None:
            return streams
        return torch.where(expand(present, x.ndim), streams, torch.zeros_like(streams))

    def _weights(self, streams: Tensor, present: Tensor | None) -> Tensor:
        scores = self.complementarity(streams.flatten(1, 2))
        if present is not None:
            scores = scores.masked_fill(~expand(present, scores.ndim), -float("inf"))
        return torch.softmax(scores, 1)

    def _differences(self, streams: Tensor, weights: Tensor) -> Tensor:
        """``sum_m w_m K(P_m)``, as ``K(P_M) + sum_m w_m K(P_m - P_M)``: the weights sum to 1."""
        last = streams[:, -1]
        total: Tensor = self.operators(last)
        for m in range(self.num_modalities - 1):
            share = weights[:, m : m + 1]
            total = torch.addcmul(total, share, self.operators(streams[:, m] - last))
        return total

    def _approximation(self, streams: Tensor, weights: Tensor) -> Tensor:
        """``sum_m mean(w_m) mean(P_m)``."""
        weights = self.mean(weights)
        total: Tensor = weights[:, :1] * self.mean(streams[:, 0])
        for m in range(1, self.num_modalities):
            total = total + weights[:, m : m + 1] * self.mean(streams[:, m])
        return total


class _Operators(nn.Module):
    """The operators, learnable or not, each applied to every channel alone."""

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        padding: str,
        kinds: str,
        start: str,
        learnable: bool,
    ) -> None:
        super().__init__()
        expect("padding", padding, list(_PADDING))
        expect("operator_start", start, list(_START))
        kernels = _START[start](difference_operators(spatial_dims, kinds))
        self.kernels = nn.Parameter(kernels, requires_grad=learnable)
        self.mode, self.channels = _PADDING[padding], channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, *space)`` to ``(B, K * C, *space)``, operator after operator."""
        padded = nn.functional.pad(x, [1, 1] * (x.ndim - 2), mode=self.mode)
        return apply_operators(padded, self.kernels, self.channels)


_KERNEL = {"dense": 3, "pointwise": 1}
_PADDING = {"zeros": "constant", "replicate": "replicate"}
_START: dict[str, Callable[[Tensor], Tensor]] = {
    "values": torch.clone,
    "zero": torch.zeros_like,
    "random": torch.randn_like,
}
