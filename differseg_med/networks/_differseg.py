"""DifferSeg: encoder, receptive field blocks, fusion and decoder put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from differseg_med.errors import ModelError
from differseg_med.networks._absence import guard, split_streams, stream_channels
from differseg_med.networks._build import (
    level_channels,
    lookup,
    make_decoder,
    make_descents,
    make_encoder,
    make_fusion,
    values_of,
)
from differseg_med.networks._encoders import Encoder, cut_encoder, share_encoder
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
        size: name of the values that arguments left out take: ``"tiny"``, ``"small"``, ``"base"``
            or ``"paper"``, or ``"joint"``, which is ``"tiny"`` with DPF on the finest level alone,
            one encoder below it, and a plain decoder.
        encoder: ``"residual"``, ``"swin"``, ``"hiera"`` or an `Encoder`.
        encoder_options: arguments of a named encoder, over those of the size.
        encoder_sharing: ``"shared"``, ``"stem"`` (a first layer per modality, the rest shared) or
            ``"separate"``.
        fusion: ``"dpf"``, or what it is compared with: ``"concat"`` or ``"sum"``.
        fusion_options: single values over those of the fusion; for ``"dpf"`` ``operators``,
            ``operator_start``, ``learnable_operators``, ``residual``, ``joint``, ``blocks`` and
            ``absence_offset`` of `DifferentialPerceptionFusion`.
        joint_from: level (0 is the finest) from which on one encoder sees the fused map of the
            level before, instead of every modality alone: what several modalities say together
            is seen with context, and deep levels cost the same for any number of modalities.
            For ``"residual"`` encoders; levels from there on have no maps. None: as the size has
            it, which is no such level but for ``"joint"``.
        cascade: whether the fused map of every level goes down into that of the next deeper one,
            so that what several modalities say together is seen through more than one layer.
        decoder: ``"faithful"`` as in the authors' code, ``"light"``, or ``"unet"``, a plain
            U-shaped one.
        decoder_options: single values over those of the decoder: ``fusion_width`` (scales the
            channels inside the fusion), ``receptive_kernels``, ``up_kernel``, and but for
            ``"unet"`` ``low_kernels``, ``high_kernels``, ``path_kernels``, ``interaction``,
            ``coarse_share``, ``detail``, ``skip`` and ``learnable_constants`` of
            `FrequencyGuidedDecoder`.
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
        fusion: str = "dpf",
        fusion_options: Mapping[str, Any] | None = None,
        joint_from: int | None = None,
        cascade: bool = False,
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
        norm, act = norm or default_norm(spatial_dims), act or plan["act"]
        streams = stream_channels(in_channels)
        encoder = make_encoder(spatial_dims, encoder, plan, encoder_options, norm, act)
        decoder = decoder or plan["decoder"]
        options = values_of("decoder", decoder, decoder_options)
        fusing = values_of("fusion", fusion, fusion_options)
        channels = level_channels(encoder, decoder_channels, plan)
        self.spatial_dims, self.in_channels, self.out_channels = spatial_dims, streams, out_channels
        self.deep_supervision, self._mode = deep_supervision, LINEAR[spatial_dims]
        self.explains = fusion == "dpf" or len(streams) == 1
        fused, wides = channels if len(streams) > 1 else [], encoder.out_channels
        level = plan.get("joint_from") if joint_from is None else joint_from
        self.deepen = cut_encoder(encoder, level if fused else None, channels)
        fused = fused[: len(wides) - len(self.deepen)]
        self.encode = share_encoder(encoder, streams, encoder_sharing)
        self.receive = nn.ModuleList(
            ReceptiveFieldBlock(spatial_dims, wide, c, options["receptive_kernels"], norm)
            for wide, c in zip(wides, channels, strict=True)
        )
        width, edges = options["fusion_width"], (padding, count_padding)
        self.fuse = nn.ModuleList(
            make_fusion(
                *(fusion, spatial_dims, c, len(streams), norm, act, width, edges), options=fusing
            )
            for c in fused
        )
        self.descend = make_descents(spatial_dims, fused if cascade else (), norm, act)
        self.decode = make_decoder(
            decoder, spatial_dims, channels[::-1], norm, act, padding, options
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
        streams, here = split_streams(x, self.in_channels, present, self.spatial_dims)
        levels, _ = self._fused(streams, here)
        logits = self._logits(x, levels, here)
        if not (self.training and self.deep_supervision):
            return logits
        outputs = [logits]
        for i, head in enumerate(self.side_heads):
            outputs.append(guard(head(levels[i + 1]), here))
        return outputs

    def explain(self, x: Tensor, present: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The logits, and which modality drove which voxel.

        Returns:
            Logits as in evaluation, and one tensor ``(B, M, *level space)`` per level, finest
            first, that sums to 1 over the modalities (a single modality has maps of ones).

        Raises:
            ModelError: ``E_NETWORK`` where `explains` is false: concatenation and summation know
                no share of a modality, and equal shares would be taken for a finding.
        """
        if not is_scripting():
            self._check_maps()
        streams, here = split_streams(x, self.in_channels, present, self.spatial_dims)
        levels, maps = self._fused(streams, here)
        return self._logits(x, levels, here), maps

    def _fused(
        self, streams: list[Tensor], here: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """One map per level, finest first, and the complementarity maps."""
        features: list[Tensor] = self.encode(streams)
        for i, receive in enumerate(self.receive):
            if i < len(features):
                features[i] = receive(features[i])
        if len(streams) == 1:
            return features, [torch.ones_like(level[:, :1]) for level in features]
        split = [streams[0].shape[0], len(streams)]
        maps: list[Tensor] = []
        for i, fuse in enumerate(self.fuse):
            stacked = features[i].view(split + list(features[i].shape[1:]))
            features[i], weights = fuse.explain(stacked, here)  # type: ignore[operator]
            maps.append(weights)
        for i, descend in enumerate(self.descend):
            below = features[i + 1]
            below = below + resize(descend(features[i]), list(below.shape[2:]), self._mode, False)
            features[i + 1] = below
        return self._deepened(features), maps

    def _deepened(self, features: list[Tensor]) -> list[Tensor]:
        """Levels that one encoder makes of the deepest fused map, behind those before."""
        x, separate = features[-1], len(features)
        for stage in self.deepen:
            x = stage(x)
            features.append(x)
        for i, receive in enumerate(self.receive):
            if i >= separate:
                features[i] = receive(features[i])
        return features

    def _logits(self, x: Tensor, levels: list[Tensor], here: Tensor | None) -> Tensor:
        """Decoder and head, at the size of ``x``."""
        logits = self.head(self.decode(levels[::-1]))
        return guard(resize(logits, list(x.shape[2:]), self._mode, True), here)

    @torch.jit.unused
    def _check_maps(self) -> None:
        if not self.explains:
            raise ModelError(
                "E_NETWORK", "the network's fusion has no maps of which modality drove which voxel"
            )


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
