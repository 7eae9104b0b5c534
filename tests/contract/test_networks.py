"""What every network promises, over encoders, dimensions, modalities and decoders."""

from __future__ import annotations

import functools

import pytest
import torch

from differseg_med.errors import ModelError
from differseg_med.losses import DeepSupervisionLoss, StructureLoss
from differseg_med.networks import DifferSeg

SPACES = {2: (37, 50), 3: (19, 26, 21)}
"""Odd and even sizes, none a multiple of a stride."""

ONE, TWO, THREE = (2,), (3, 1), (1, 1, 1)
NETWORKS = [
    *(("residual", dims, channels) for dims in (2, 3) for channels in (ONE, TWO, THREE)),
    ("swin", 2, TWO),
    ("swin", 3, THREE),
    ("hiera", 2, ONE),
    ("hiera", 2, TWO),
]
SEVERAL = [network for network in NETWORKS if len(network[2]) > 1]
GROUP = ("group", {"num_groups": 8})


def _skip_without(encoder: str) -> None:
    package = {"swin": "einops", "hiera": "transformers"}.get(encoder)
    if package:
        pytest.importorskip(package)


@functools.cache
def _network(encoder: str, dims: int, channels: tuple[int, ...]) -> DifferSeg:
    """Made once, since making one takes longer than running it; no test changes the weights."""
    _skip_without(encoder)
    torch.manual_seed(0)
    return DifferSeg(dims, channels, 2, size="tiny", encoder=encoder, norm=GROUP)


def _image(dims: int, channels: tuple[int, ...], batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, sum(channels), *SPACES[dims], generator=generator)


@pytest.mark.parametrize(("encoder", "dims", "channels"), NETWORKS)
def test_evaluation_gives_one_tensor_of_the_input_size(
    encoder: str, dims: int, channels: tuple[int, ...]
) -> None:
    network = _network(encoder, dims, channels).eval()
    with torch.no_grad():
        logits = network(_image(dims, channels))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (1, 2, *SPACES[dims])
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize(("encoder", "dims", "channels"), NETWORKS)
def test_one_sample_trains_every_parameter(
    encoder: str, dims: int, channels: tuple[int, ...]
) -> None:
    network = _network(encoder, dims, channels).train()
    outputs = network(_image(dims, channels))
    assert outputs[0].shape == (1, 2, *SPACES[dims])
    sizes = [output.shape[2:].numel() for output in outputs]
    assert sizes == sorted(sizes, reverse=True)
    target = torch.zeros(1, 2, *SPACES[dims])
    target[..., 5:12, 6:15] = 1
    loss = DeepSupervisionLoss(StructureLoss(7))(outputs, target)
    loss.backward()
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    network.zero_grad()
    idle = [name for name, grad in trained.items() if grad is None or not bool(grad.any())]
    assert bool(loss.isfinite())
    assert not idle
    assert all(bool(grad.isfinite().all()) for grad in trained.values())


@pytest.mark.parametrize(("encoder", "dims", "channels"), SEVERAL)
def test_an_absent_modality_cannot_change_the_output(
    encoder: str, dims: int, channels: tuple[int, ...]
) -> None:
    network = _network(encoder, dims, channels).eval()
    image = _image(dims, channels, batch=2)
    present = torch.ones(2, len(channels), dtype=torch.bool)
    present[1, -1] = False
    outputs = []
    for content in (0.0, 1e6, float("inf"), float("nan")):
        image[1, -1] = content
        with torch.no_grad():
            outputs.append(network(image, present))
    assert all(torch.equal(output, outputs[0]) for output in outputs[1:])
    image[1, -1] = 0.0
    with torch.no_grad():
        assert not torch.equal(network(image)[1], outputs[0][1]), "zero is a value, not absence"
        torch.testing.assert_close(network(image)[0], outputs[0][0])


@pytest.mark.parametrize(("encoder", "dims", "channels"), NETWORKS)
def test_maps_say_which_modality_drove_which_voxel(
    encoder: str, dims: int, channels: tuple[int, ...]
) -> None:
    network = _network(encoder, dims, channels).eval()
    image = _image(dims, channels)
    with torch.no_grad():
        logits, maps = network.explain(image)
        assert torch.equal(logits, network(image))
    assert len(maps) == len(network.receive)
    for level in maps:
        assert level.shape[:2] == (1, len(channels))
        torch.testing.assert_close(level.sum(1), torch.ones_like(level[:, 0]))


@pytest.mark.parametrize(("encoder", "dims", "channels"), NETWORKS)
def test_wrong_shapes_are_refused_with_the_shape_to_use(
    encoder: str, dims: int, channels: tuple[int, ...]
) -> None:
    network = _network(encoder, dims, channels).eval()
    axes = ", ".join(["size"] * dims)
    for shape in ((1, sum(channels) + 1, *SPACES[dims]), (sum(channels), *SPACES[dims])):
        with pytest.raises(ModelError, match="E_INPUT_SHAPE") as caught:
            network(torch.zeros(shape))
        assert f"(batch, {sum(channels)}, {axes})" in str(caught.value)
