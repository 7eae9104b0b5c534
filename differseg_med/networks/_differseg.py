"""DifferSeg: encoder, receptive field blocks, fusion and decoder put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from differseg_med.errors import ModelError
from differseg_med.networks._build import decoder_values, level_channels, lookup, make_encoder
from differseg_med.networks._decoder import FrequencyGuidedDecoder
from differseg_med.networks._encoders import Encoder, share_encoder
from differseg_med.networks._fusion import DifferentialPerceptionFusion
from differseg_med.networks._layers import (
    LINEAR,
    Spec,
    conv,
    conv_norm,
    default_norm,
    is_scripting,
    resize,
)
from differseg_med.networks._receptive import ReceptiveFieldBlock
from differseg_med.networks._sizes import SIZES

__all__ = ["DifferSeg", "differseg"]


class DifferSeg(nn.Module):
    """Binary or multi-class segmentation from one or more modalities, some of which may be absent.

    The figure: encoder -> receptive field block per level -> differential perception fusion per
    level -> frequency-guided decoder -> head. One modality needs no fusion.

    The input is ONE tensor ``(B, sum(in_channels), *space)``, modality after modality, of any
    size. The output has the input's size: in evaluation one tensor of logits
    ``(B, out_channels, *space)``; in training with ``deep_supervision`` a list, that tensor
    first, then the logits of the fused levels from the second finest to the deepest, each of its
    level's size.

    A modality is absent in a sample where any voxel of it is NaN, or where ``present`` says so.
    Its content cannot change the output. If all are absent, `ModelError` ``E_ALL_ABSENT`` is
    raised, and an exported network, which cannot raise, returns NaN. Batch norm in training sees
    absent streams as zeros; train on absent modalities with a norm per sample (group, instance).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of every modality, in order.
        out_channels: channels of the logits.
        size: name of the values that arguments left out take: ``"tiny"``, ``"small"``,
            ``"base"`` or ``"paper"``.
        encoder: ``"residual"``, ``"swin"``, ``"hiera"`` or an `Encoder`.
        encoder_options: arguments of a named encoder, over those of the size.
        encoder_sharing: ``"shared"``, ``"stem"`` (a first layer per modality, the rest shared) or
            ``"separate"``.
        decoder: ``"faithful"`` as in the authors' code, or ``"light"``.
        decoder_options: single values over those of the decoder: ``low_kernels``,
            ``high_kernels``, ``path_kernels``, ``up_kernel``, ``fusion_width``,
            ``receptive_kernels``.
        decoder_channels: channels of the levels after the receptive field blocks, finest first,
            one for each level of the encoder.
        deep_supervision: whether training returns side maps.
        norm: normalisation; by default batch norm in 2D and group norm in 3D.
        act: activation; by default ReLU for ``"paper"`` and leaky ReLU for the others.
        padding: ``"zeros"`` as the authors have it, or ``"replicate"``, for operators and low
            band.
        count_padding: whether padded zeros count in the means of the fusion.

    References:
        Implements DPF and FGD as in the authors' public code (github jiaweiXu1029/DifferSeg,
        arXiv 2606.08906), extended to n dimensions and any number of modalities.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: Sequence[int] | int = (1,),
        out_channels: int = 1,
        size: str = "small",
        *,
        encoder: str | Encoder | None = None,
        encoder_options: Mapping[str, Any] | None = None,
        encoder_sharing: str = "stem",
        decoder: str | None = None,
        decoder_options: Mapping[str, Any] | None = None,
        decoder_channels: Sequence[int] | None = None,
        deep_supervision: bool = True,
        norm: Spec | None = None,
        act: Spec | None = None,
        padding: str = "zeros",
        count_padding: bool = True,
    ) -> None:
        super().__init__()
        plan = lookup(SIZES, size, "size")
        usual = default_norm(spatial_dims)
        norm, act = norm or usual, act or plan["act"]
        streams = [in_channels] if isinstance(in_channels, int) else [int(c) for c in in_channels]
        if not streams or min(streams) < 1:
            raise ModelError("E_NETWORK", f"in_channels is {streams}, expected one or more each")
        if encoder is None or isinstance(encoder, str):
            name = encoder or plan["encoder"][spatial_dims]
            encoder = make_encoder(spatial_dims, name, plan, encoder_options, norm, act)
        options = decoder_values(decoder or plan["decoder"], decoder_options)
        channels = level_channels(encoder, decoder_channels, plan)
        self.spatial_dims, self.in_channels, self.out_channels = spatial_dims, streams, out_channels
        self.deep_supervision = deep_supervision
        self._mode = LINEAR[spatial_dims]
        self.encode = share_encoder(encoder, streams, encoder_sharing)
        self.receive = nn.ModuleList(
            ReceptiveFieldBlock(spatial_dims, wide, c, options["receptive_kernels"], norm)
            for wide, c in zip(encoder.out_channels, channels, strict=True)
        )
        width, edges = options["fusion_width"], (padding, count_padding)
        self.fuse = nn.ModuleList(
            DifferentialPerceptionFusion(
                spatial_dims, c, len(streams), norm, act, max(1, round(c * width)), *edges
            )
            for c in (channels if len(streams) > 1 else ())
        )
        kernels = {key: options[key] for key in _DECODER_KERNELS}
        self.decode = FrequencyGuidedDecoder(
            spatial_dims, channels[::-1], norm, act, **kernels, padding=padding
        )
        self.head = _Head(spatial_dims, channels[0], out_channels, norm)
        self.side_heads = nn.ModuleList(
            _Head(spatial_dims, c, out_channels, norm)
            for c in (channels[1:] if deep_supervision else ())
        )

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor | list[Tensor]:
        """Logits of the input's size; a list with side maps in training with deep supervision.

        Args:
            x: ``(B, sum(in_channels), *space)``.
            present: boolean ``(B, M)`` or ``(1, M)``; NaN in a stream means absent in any case.

        Raises:
            ModelError: ``E_INPUT_SHAPE`` or ``E_ALL_ABSENT``.
        """
        streams, here = self._admit(x, present)
        levels, _ = self._fused(streams, here)
        logits = self._logits(x, levels, here)
        if not (self.training and self.deep_supervision):
            return logits
        outputs = [logits]
        for i, head in enumerate(self.side_heads):
            outputs.append(_guard(head(levels[i + 1]), here))
        return outputs

    def explain(self, x: Tensor, present: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The logits, and which modality drove which voxel.

        Returns:
            Logits as in evaluation, and one tensor ``(B, M, *level space)`` per level, finest
            first, that sums to 1 over the modalities (a single modality has maps of ones).
        """
        streams, here = self._admit(x, present)
        levels, maps = self._fused(streams, here)
        return self._logits(x, levels, here), maps

    def _admit(self, x: Tensor, present: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """Streams with absent ones set to zero, and who is present (None: all of them)."""
        if not is_scripting():
            self._check(x, present)
        streams = list(torch.split(x, self.in_channels, 1))
        here = torch.stack([~stream.isnan().flatten(1).any(1) for stream in streams], 1)
        if present is not None:
            here = here & present.to(device=x.device, dtype=torch.bool)
        if not is_scripting():  # noqa: SIM102 TorchScript compiles both sides of an "and"
            if self._all_present(here):
                return streams, None
        clean: list[Tensor] = []
        for m, stream in enumerate(streams):
            flag = here[:, m].view([-1] + [1] * (x.ndim - 1))
            clean.append(torch.where(flag, stream, torch.zeros_like(stream)))
        return clean, here

    def _fused(
        self, streams: list[Tensor], here: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """One map per level, finest first, and the complementarity maps."""
        features: list[Tensor] = self.encode(streams)
        for i, receive in enumerate(self.receive):
            features[i] = receive(features[i])
        if len(streams) == 1:
            return features, [torch.ones_like(level[:, :1]) for level in features]
        split = [streams[0].shape[0], len(streams)]
        maps: list[Tensor] = []
        for i, fuse in enumerate(self.fuse):
            stacked = features[i].view(split + list(features[i].shape[1:]))
            features[i], weights = fuse.explain(stacked, here)  # type: ignore[operator]
            maps.append(weights)
        return features, maps

    def _logits(self, x: Tensor, levels: list[Tensor], here: Tensor | None) -> Tensor:
        """Decoder and head, at the size of ``x``."""
        logits = self.head(self.decode(levels[::-1]))
        return _guard(resize(logits, list(x.shape[2:]), self._mode, True), here)

    @torch.jit.unused
    def _check(self, x: Tensor, present: Tensor | None) -> None:
        channels, modalities = sum(self.in_channels), len(self.in_channels)
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != channels or x.numel() == 0:
            raise ModelError(
                "E_INPUT_SHAPE",
                f"the input has shape {tuple(x.shape)}, expected "
                f"(batch, {channels}, {', '.join(['size'] * self.spatial_dims)}) for "
                f"{modalities} modalities of {self.in_channels} channels",
            )
        if present is not None and tuple(present.shape) not in {
            (x.shape[0], modalities),
            (1, modalities),
        }:
            raise ModelError(
                "E_INPUT_SHAPE",
                f"present has shape {tuple(present.shape)}, expected "
                f"({x.shape[0]}, {modalities}) or (1, {modalities})",
                "Give one flag per sample and modality.",
            )

    @torch.jit.unused
    def _all_present(self, here: Tensor) -> bool:
        """Whether nothing is absent; unknown, so False, where values cannot be looked at."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # type: ignore[no-untyped-call,attr-defined]
            return False
        if not bool(here.any(1).all()):
            raise ModelError(
                "E_ALL_ABSENT",
                f"a sample of the batch has none of its {len(self.in_channels)} modalities",
            )
        return bool(here.all())


class _Head(nn.Module):
    """Depthwise 3x3, norm, GELU and a 1x1 convolution to logits."""

    def __init__(self, spatial_dims: int, channels: int, out_channels: int, norm: Spec) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *conv_norm(spatial_dims, channels, channels, 3, norm, groups=channels),
            nn.GELU(),
            conv(spatial_dims, channels, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def differseg(size: str = "small", **arguments: Any) -> DifferSeg:
    """`DifferSeg` of a named size; any of its arguments can be given over the size's values."""
    return DifferSeg(size=size, **arguments)


_DECODER_KERNELS = ("low_kernels", "high_kernels", "path_kernels", "up_kernel")


def _guard(logits: Tensor, here: Tensor | None) -> Tensor:
    """NaN where no modality is present: an exported network has no other way to refuse."""
    if here is None:
        return logits
    known = here.any(1).view([-1] + [1] * (logits.ndim - 1))
    return torch.where(known, logits, torch.full_like(logits, float("nan")))
