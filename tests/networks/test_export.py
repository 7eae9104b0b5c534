"""Scripted and exported networks equal the eager one, and never answer where it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from differseg_med.networks import DifferSeg

NAN = float("nan")
LEAST = 9
"""Two voxels at the deepest level of stride 8, which dynamic shapes need at the least."""


def _network(dims: int, channels: tuple[int, ...] = (1, 2), **arguments: Any) -> DifferSeg:
    torch.manual_seed(0)
    defaults = {
        "size": "tiny",
        "encoder_options": {"channels": (8, 16, 16), "blocks": (1, 1, 1)},
        "decoder_channels": (8, 8, 16),
    }
    return DifferSeg(dims, channels, **defaults | arguments).eval().requires_grad_(False)


def _images(dims: int, channels: int) -> list[Tensor]:
    spaces = ((24, 16, 16), (17, 21, 9), (9, 16, 25))
    return [
        torch.randn(batch, channels, *space[:dims])
        for batch, space in zip((2, 1, 3), spaces, strict=True)
    ]


def _check(network: DifferSeg, other: Callable[[Tensor], Tensor], images: list[Tensor]) -> None:
    """Equal on several sizes, with one modality absent too; NaN where all are absent."""
    for image in images:
        torch.testing.assert_close(other(image), network(image), atol=1e-4, rtol=0)
    image = images[0].clone()
    if len(network.in_channels) > 1:
        image[:1, :1] = NAN
        torch.testing.assert_close(other(image), network(image), atol=1e-4, rtol=0)
    image[:1] = NAN
    found = other(image)
    assert bool(found[:1].isnan().all())
    assert bool(found[1:].isfinite().all())


def _dynamic(image: Tensor) -> dict[str, Any]:
    space = {axis: Dim(f"space{axis}", min=LEAST) for axis in range(2, image.ndim)}
    return {"x": {0: Dim("batch"), **space}}


@pytest.mark.parametrize(
    ("dims", "channels", "decoder"),
    [(2, (1, 2), "faithful"), (3, (2,), "light")],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted(dims: int, channels: tuple[int, ...], decoder: str, tmp_path: Path) -> None:
    network = _network(dims, channels, decoder=decoder)
    torch.jit.script(network).save(tmp_path / "network.ts")
    scripted = torch.jit.load(tmp_path / "network.ts")
    _check(network, scripted, _images(dims, sum(channels)))
    with pytest.raises((RuntimeError, torch.jit.Error)):
        scripted(torch.zeros(1, sum(channels) + 1, *[16] * dims))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_in_training_returns_the_list() -> None:
    network = _network(2).train()
    scripted = torch.jit.script(network)
    image = torch.randn(2, 3, 24, 17)
    for found, expected in zip(scripted(image), network(image), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dims", "options"),
    [
        (2, {}),
        (3, {}),
        (2, {"decoder": "faithful", "padding": "replicate", "count_padding": False}),
    ],
)
def test_exported(dims: int, options: dict[str, Any]) -> None:
    network, images = _network(dims, **options), _images(dims, 3)
    program = torch.export.export(network, (images[0],), dynamic_shapes=_dynamic(images[0]))
    _check(network, program.module(), images)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
@pytest.mark.parametrize(("dims", "channels"), [(2, (1, 2)), (3, (1, 1)), (3, (1,))])
def test_onnx(dims: int, channels: tuple[int, ...], tmp_path: Path) -> None:
    network, images = _network(dims, channels), _images(dims, sum(channels))
    _check(network, _onnx(network, images[0], tmp_path, _dynamic(images[0])), images)


def _onnx(
    network: nn.Module, image: Tensor, folder: Path, dynamic: dict[str, Any] | None
) -> Callable[[Tensor], Tensor]:
    runtime = pytest.importorskip("onnxruntime")
    program = torch.onnx.export(network, (image,), dynamo=True, dynamic_shapes=dynamic)
    program.save(folder / "network.onnx")
    session = runtime.InferenceSession(folder / "network.onnx")
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
@pytest.mark.parametrize("encoder", ["swin", "hiera"])
def test_onnx_of_transformers_at_a_fixed_size(encoder: str, tmp_path: Path) -> None:
    pytest.importorskip({"swin": "einops", "hiera": "transformers"}[encoder])
    torch.manual_seed(0)
    network = DifferSeg(2, (3, 1), size="tiny", encoder=encoder).eval().requires_grad_(False)
    image = torch.randn(2, 4, 64, 96)
    _check(network, _onnx(network, image, tmp_path, None), [image])
