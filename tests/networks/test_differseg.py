"""DifferSeg: sizes, absence, explanation and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from differseg_med.errors import ModelError
from differseg_med.networks import DifferSeg, differseg

NAN = float("nan")


def _network(**arguments: Any) -> DifferSeg:
    torch.manual_seed(0)
    defaults = {"spatial_dims": 3, "in_channels": [1, 1, 1], "size": "tiny"}
    return DifferSeg(**defaults | arguments)


@pytest.fixture(scope="module")
def network() -> DifferSeg:
    """Three modalities of a volume, in evaluation, gradients off."""
    return _network().eval().requires_grad_(False)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 17, 16, 19, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("space", [(1, 1, 1), (5, 7, 9), (16, 16, 16), (33, 8, 17)])
def test_any_size_comes_back(network: DifferSeg, space: tuple[int, ...]) -> None:
    assert network(torch.zeros(1, 3, *space)).shape == (1, 1, *space)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_training_returns_the_full_size_first_then_the_levels(size: str) -> None:
    outputs = _network(size=size)(torch.randn(1, 3, 16, 18, 17))
    assert [tuple(o.shape[2:]) for o in outputs] == [(16, 18, 17), (4, 5, 5), (2, 3, 3), (1, 2, 2)]


def test_without_deep_supervision_training_returns_one_tensor() -> None:
    network = _network(deep_supervision=False)
    assert len(network.side_heads) == 0
    assert network(torch.randn(1, 3, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def test_sizes_are_values_and_arguments_go_over_them() -> None:
    light = differseg("tiny", spatial_dims=2, in_channels=[1, 1])
    wide = differseg(
        "tiny", spatial_dims=2, in_channels=[1, 1], decoder_options={"low_kernels": [3, 5, 7]}
    )
    assert len(light.decode.splits[0].low_pass) == 2
    assert len(wide.decode.splits[0].low_pass) == 3
    faithful = differseg("tiny", spatial_dims=2, in_channels=[1, 1], decoder="faithful")
    assert len(faithful.decode.rises[0].low_paths) == 3
    assert faithful.decode.rises[0].low_paths[0].up[0].kernel_size == (4, 4)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_joint_size_is_options_of_the_smallest(dims: int) -> None:
    torch.manual_seed(0)
    named = differseg("joint", spatial_dims=dims, in_channels=[1, 1, 1]).eval()
    torch.manual_seed(0)
    spelled = differseg(
        "tiny", spatial_dims=dims, in_channels=[1, 1, 1], decoder="unet", joint_from=1
    ).eval()
    image = torch.randn(1, 3, *[32] * dims)
    with torch.no_grad():
        assert torch.equal(named(image), spelled(image))
        maps = named.explain(image)[1]
    assert [tuple(level.shape) for level in maps] == [(1, 3, *[16] * dims)]


def test_one_modality_needs_no_joint_level() -> None:
    network = differseg("joint", spatial_dims=2, in_channels=[1]).eval()
    assert len(network.deepen) == 0
    assert network(torch.randn(1, 1, 32, 32)).shape == (1, 1, 32, 32)


def test_a_configuration_makes_the_network() -> None:
    parser = ConfigParser(
        {
            "network": {
                "_target_": "differseg_med.networks.DifferSeg",
                "spatial_dims": 2,
                "in_channels": [1, 2],
                "size": "tiny",
                "norm": ["instance", {"affine": True}],
                "act": "gelu",
                "encoder_options": {"channels": [8, 16], "blocks": [1, 1]},
                "decoder_channels": [8, 16],
                "padding": "replicate",
                "count_padding": False,
            }
        }
    )
    network = parser.get_parsed_content("network")
    assert network(torch.randn(1, 3, 12, 12))[0].shape == (1, 1, 12, 12)
    assert any(isinstance(module, nn.InstanceNorm2d) for module in network.modules())


def test_2d_has_batch_norm_and_3d_has_group_norm_by_default(network: DifferSeg) -> None:
    flat = _network(spatial_dims=2)
    assert any(isinstance(module, nn.BatchNorm2d) for module in flat.modules())
    assert not any(isinstance(module, nn.GroupNorm) for module in flat.modules())
    assert any(isinstance(module, nn.GroupNorm) for module in network.modules())


def test_nan_and_flags_mean_the_same_absence(network: DifferSeg, image: torch.Tensor) -> None:
    present = torch.tensor([[True, False, True], [True, True, True]])
    flagged = network(image, present)
    image[0, 1, 3, 4, 5] = NAN
    assert torch.equal(network(image), flagged)
    image[0, 1] = NAN
    assert torch.equal(network(image), flagged)


def test_flags_of_one_sample_serve_the_batch(network: DifferSeg, image: torch.Tensor) -> None:
    one = torch.tensor([[True, False, True]])
    assert torch.equal(network(image, one), network(image, one.expand(2, 3)))


def test_a_sample_does_not_depend_on_its_neighbours_absence(
    network: DifferSeg, image: torch.Tensor
) -> None:
    together = network(image, torch.tensor([[True, True, True], [False, True, True]]))
    torch.testing.assert_close(together[:1], network(image[:1]))


def test_absent_maps_are_zero(network: DifferSeg, image: torch.Tensor) -> None:
    _, maps = network.explain(image, torch.tensor([[True, False, True]]))
    for level in maps:
        assert not level[:, 1].any()
        torch.testing.assert_close(level.sum(1), torch.ones_like(level[:, 0]))


def test_absent_modalities_train_the_others() -> None:
    network, image = _network(), torch.randn(1, 3, 16, 16, 16)
    image[:, 1] = NAN
    torch.stack([output.square().mean() for output in network(image)]).sum().backward()
    stems = network.encode.stems
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())
    assert not stems[1][0].weight.grad.any()
    assert stems[0][0].weight.grad.any()
    assert stems[2][0].weight.grad.any()


@pytest.mark.parametrize("channels", [[1], [1, 2]])
def test_all_absent_is_an_error(channels: list[int]) -> None:
    network = _network(spatial_dims=2, in_channels=channels).eval()
    image = torch.zeros(2, sum(channels), 16, 16)
    image[1] = NAN
    with pytest.raises(ModelError, match="E_ALL_ABSENT"):
        network(image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "huge"}, "size is 'huge', expected one of"),
        ({"spatial_dims": 4}, "spatial_dims is 4"),
        ({"in_channels": []}, "in_channels is []"),
        ({"in_channels": [1, 0]}, "in_channels is [1, 0]"),
        ({"decoder": "heavy"}, "decoder is 'heavy'"),
        ({"decoder_options": {"kernels": 3}}, "decoder_options holds ['kernels']"),
        ({"decoder_channels": [8, 16]}, "2 levels, the encoder 4"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match="E_NETWORK") as caught:
        _network(**arguments)
    assert message in str(caught.value)


def test_flags_of_another_shape_are_refused(network: DifferSeg, image: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"E_INPUT_SHAPE.*\(2, 2\).*\(2, 3\) or \(1, 3\)"):
        network(image, torch.ones(2, 2, dtype=torch.bool))


def test_an_empty_image_is_refused(network: DifferSeg) -> None:
    with pytest.raises(ModelError, match="E_INPUT_SHAPE"):
        network(torch.zeros(1, 3, 0, 8, 8))


def test_group_norm_divides_the_channels_and_keeps_two_in_a_group() -> None:
    for module in _network(norm=("group", {"num_groups": 32})).modules():
        if isinstance(module, nn.GroupNorm) and module.num_channels > 1:
            assert module.num_channels % module.num_groups == 0
            assert module.num_channels // module.num_groups >= 2
