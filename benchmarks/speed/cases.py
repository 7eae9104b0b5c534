"""What is measured: blocks, head and network against the naive formulation, and peers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import naive
import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet
from torch import Tensor, nn

from differseg_med.networks import (
    DifferentialPerceptionFusion,
    DifferSeg,
    FrequencyGuidedDecoder,
)

__all__ = ["Export", "Pair", "blocks", "exports", "peers"]

LIGHT = {"low_kernels": (3, 5), "high_kernels": (1, 3), "path_kernels": (1, 3), "up_kernel": 2}


@dataclass(frozen=True)
class Pair:
    """One module, its input, and two ways to compute the same from them.

    Attributes:
        name: the part.
        shape: what it works on, for people.
        module: the module whose weights both ways use.
        inputs: what gradients are taken of besides the weights.
        ours: the module's own forward pass.
        naive: the same as its formulas are written.
        eval_target: ratio wanted in evaluation; None where there is none.
        train_target: ratio wanted of the training step.
    """

    name: str
    shape: str
    module: nn.Module
    inputs: list[Tensor]
    ours: Callable[[], Tensor]
    naive: Callable[[], Tensor]
    eval_target: float | None = None
    train_target: float | None = None


def blocks(short: bool) -> Iterator[Pair]:
    """The parts, one after the other so that only one is in memory."""
    torch.manual_seed(0)
    yield _fusion(2, 64, 48 if short else 128, 1.25, 1.2)
    yield _fusion(2, 128, 24 if short else 64, None, 1.1)
    if not short:
        yield _fusion(2, 512, 16, None, 0.95)
    yield _fusion(3, 16, 24 if short else 48, 1.15, 1.2)
    yield _fusion(3, 8, 24 if short else 48, 1.15, 1.2)
    yield _decoder(2, (256, 128, 64, 32) if short else (512, 256, 128, 64), 32 if short else 64, {})
    yield _decoder(3, (64, 32, 16, 8), 24 if short else 48, LIGHT)
    yield _head(2, "base", 64 if short else 192)
    yield _head(3, "tiny", 48 if short else 96)
    yield _network(2, "small", 96 if short else 256)
    yield _network(3, "tiny", 48 if short else 96)


def _fusion(dims: int, channels: int, side: int, evaluate: float | None, train: float) -> Pair:
    block = DifferentialPerceptionFusion(dims, channels, 2)
    x = torch.randn(1, 2, channels, *[side] * dims)
    ours, plain = (lambda: block(x)), (lambda: naive.single_fusion(block, x))
    shape = _shape(dims, f"{channels} channels", side)
    return Pair("DPF", shape, block, [x], ours, plain, evaluate, train)


def _decoder(dims: int, channels: tuple[int, ...], side: int, options: dict[str, object]) -> Pair:
    block = FrequencyGuidedDecoder(dims, channels, **options)
    sides = [side // 2**i for i in reversed(range(len(channels)))]
    inputs = [torch.randn(1, c, *[n] * dims) for c, n in zip(channels, sides, strict=True)]
    ours, plain = (lambda: block(list(inputs))), (lambda: naive.decode(block, inputs))
    kind = "light" if options else "faithful"
    shape = _shape(dims, f"{kind}, {'-'.join(map(str, channels))}", side)
    return Pair("FGD", shape, block, inputs, ours, plain, 1.05, 1.05)


def _model(dims: int, size: str) -> DifferSeg:
    """Group norm in 2D, too: batch norm would see one stream here and both there in training."""
    norm = ("group", {"num_groups": 8})
    return DifferSeg(dims, [1, 1], size=size, norm=norm, deep_supervision=False)


@dataclass(frozen=True)
class Export:
    """One module to export, and two ways to compute the same from its inputs.

    Attributes:
        name: the part.
        shape: what it works on, for people.
        module: whose weights both ways use.
        inputs: example inputs.
        ours: the module's own forward pass.
        naive: the same as its formulas are written.
        eval_target: ratio wanted of the two exports; None where there is none.
    """

    name: str
    shape: str
    module: nn.Module
    inputs: list[Tensor]
    ours: Callable[..., Tensor]
    naive: Callable[..., Tensor]
    eval_target: float | None = None


def exports(short: bool) -> Iterator[Export]:
    """Networks and heads, one after the other."""
    torch.manual_seed(0)
    for dims, size, side in ((2, "tiny", 96 if short else 256), (3, "tiny", 48 if short else 96)):
        model, x = _model(dims, size), torch.randn(1, 2, *[side] * dims)
        plain = functools.partial(naive.network, model)
        yield Export("network", _shape(dims, size, side), model, [x], model.forward, plain)
    for dims, size, side in ((2, "base", 64 if short else 192), (3, "tiny", 48 if short else 96)):
        model, levels = _levels(dims, size, side)
        ways = (functools.partial(way, model, [side] * dims) for way in (_ours, _plain))
        yield Export("decode head", _shape(dims, size, side), model, levels, *ways, 1.1)


def _levels(dims: int, size: str, side: int) -> tuple[DifferSeg, list[Tensor]]:
    model = _model(dims, size)
    found = model.encode([torch.randn(1, 1, *[side] * dims) for _ in range(2)])
    return model, [level.detach() for level in found]


def _ours(model: DifferSeg, sides: list[int], *levels: Tensor) -> Tensor:
    received = [receive(x) for receive, x in zip(model.receive, levels, strict=True)]
    fused = []
    for fuse, x in zip(model.fuse, received, strict=True):
        fused.append(fuse(x.view(1, 2, *x.shape[1:])))
    return model._logits(torch.empty(1, 2, *sides), fused, None)


def _plain(model: DifferSeg, sides: list[int], *levels: Tensor) -> Tensor:
    return naive.head(model, [level.split(1) for level in levels], sides)


def _head(dims: int, size: str, side: int) -> Pair:
    model, levels = _levels(dims, size, side)
    sides = [side] * dims
    ours, plain = (lambda: _ours(model, sides, *levels)), (lambda: _plain(model, sides, *levels))
    return Pair("decode head", _shape(dims, size, side), model, levels, ours, plain, 1.0, 1.0)


def _network(dims: int, size: str, side: int) -> Pair:
    model = _model(dims, size)
    x = torch.randn(1, 2, *[side] * dims)
    ours, plain = (lambda: model(x)), (lambda: naive.network(model, x))
    return Pair("network", _shape(dims, size, side), model, [], ours, plain)


def _shape(dims: int, what: str, side: int) -> str:
    return f"{dims}D, {what}, {' x '.join([str(side)] * dims)}"


def peers(heavy: bool) -> dict[str, Callable[[], nn.Module]]:
    """Networks for two channels in 3D by name; SegResNet comes first, the others refer to it."""
    strides = [1, 2, 2, 2, 2]
    base: dict[str, Callable[[], nn.Module]] = {
        "SegResNet-16": lambda: SegResNet(3, init_filters=16, in_channels=2, out_channels=1),
        "DifferSeg tiny": lambda: _sized("tiny"),
        "DifferSeg joint": lambda: _sized("joint"),
    }
    if heavy:
        return base | {
            "DynUNet 32-320": lambda: DynUNet(3, 2, 1, [3] * 5, strides, strides[1:]),
            "SwinUNETR-24": lambda: SwinUNETR(in_channels=2, out_channels=1, feature_size=24),
        }
    return base | {
        "DifferSeg small": lambda: _sized("small"),
        "DifferSeg base": lambda: _sized("base"),
        "UNet 16-256": lambda: UNet(
            3, 2, 1, (16, 32, 64, 128, 256), strides=strides[1:], num_res_units=2
        ),
    }


def _sized(size: str) -> DifferSeg:
    return DifferSeg(3, [1, 1], size=size, deep_supervision=False)
