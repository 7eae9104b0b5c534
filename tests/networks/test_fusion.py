"""Differential perception fusion against its formulas, written out modality by modality."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from differseg_med.errors import ModelError
from differseg_med.networks import DifferentialPerceptionFusion

SPACES = {2: (6, 7), 3: (4, 5, 6)}
CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}


def _mean(x: Tensor) -> Tensor:
    """3 x ... x 3 mean with padded zeros counted, by a dense convolution."""
    dims, channels = x.ndim - 2, x.shape[1]
    weight = torch.full((channels, 1, *[3] * dims), 3.0**-dims, dtype=x.dtype)
    return CONVOLVE[dims](x, weight, padding=1, groups=channels)


def _direct(block: DifferentialPerceptionFusion, x: Tensor, present: list[bool]) -> Tensor:
    """One sample by the formulas of the reference, absent modalities left out of every sum."""
    dims, modalities, channels = x.ndim - 3, x.shape[1], x.shape[2]
    projected = block.project(x.flatten(1, 2)).chunk(modalities, 1)
    streams = [p if here else 0 * p for p, here in zip(projected, present, strict=True)]
    scores = block.complementarity(torch.cat(streams, 1))
    shown = [m for m in range(modalities) if present[m]]
    total = sum(scores[:, m : m + 1].exp() for m in shown)
    weights = {m: scores[:, m : m + 1].exp() / total for m in shown}
    maps = []
    for kernel in block.operators.kernels:
        each = kernel.expand(channels, 1, *kernel.shape[1:])
        maps.append(
            sum(
                weights[m] * CONVOLVE[dims](streams[m], each, padding=1, groups=channels)
                for m in shown
            )
        )
    detail = block.detail(torch.cat(maps, 1))
    low = sum(_mean(weights[m]) * _mean(streams[m]) for m in shown)
    rest = sum(streams[m] for m in shown) * modalities / len(shown)
    return block.integrate(torch.cat([detail, low], 1)) + rest


def _block(dims: int, modalities: int, **options: object) -> DifferentialPerceptionFusion:
    torch.manual_seed(dims + modalities)
    block = DifferentialPerceptionFusion(dims, 4, modalities, **options).double().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return block


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_equals_the_formulas(dims: int, modalities: int) -> None:
    block = _block(dims, modalities)
    x = torch.randn(2, modalities, 4, *SPACES[dims], dtype=torch.float64)
    torch.testing.assert_close(block(x), _direct(block, x, [True] * modalities))


@pytest.mark.parametrize(
    "present", [[True, False, True], [False, True, False], [True, True, False]]
)
def test_absent_modalities_are_left_out_of_every_sum(present: list[bool]) -> None:
    block = _block(3, 3, hidden_channels=2)
    x = torch.randn(1, 3, 4, *SPACES[3], dtype=torch.float64)
    fused, weights = block.explain(x, torch.tensor([present]))
    torch.testing.assert_close(fused, _direct(block, x, present))
    assert (weights[0, ~torch.tensor(present)] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))


def test_all_present_is_the_same_as_no_flags() -> None:
    block = _block(2, 3)
    x = torch.randn(2, 3, 4, 6, 7, dtype=torch.float64)
    assert torch.equal(block(x), block(x, torch.ones(2, 3, dtype=torch.bool)))


def test_one_modality_has_weight_one() -> None:
    _, weights = _block(2, 1).explain(torch.randn(1, 1, 4, 6, 7, dtype=torch.float64))
    assert torch.equal(weights, torch.ones_like(weights))


def test_zero_padding_makes_edges_and_replication_does_not() -> None:
    constant = torch.ones(1, 4, 5, 5, dtype=torch.float64)
    zeros, copies = (_block(2, 2, padding=mode).operators for mode in ("zeros", "replicate"))
    assert float(zeros(constant)[0, 0, 2, 0].detach()) == 4.0
    assert copies(constant).abs().max() == 0


def test_means_that_do_not_count_padding_keep_a_constant() -> None:
    for dims in (2, 3):
        constant = torch.ones(1, 4, *[4] * dims, dtype=torch.float64)
        counted = _block(dims, 2).mean(constant)
        assert float(counted.flatten()[0]) == pytest.approx((2 / 3) ** dims)
        kept = _block(dims, 2, count_padding=False).mean(constant)
        torch.testing.assert_close(kept, constant)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ModelError, match="num_modalities is 0"):
        DifferentialPerceptionFusion(2, 4, 0)
    with pytest.raises(ModelError, match="padding is 'reflect'"):
        DifferentialPerceptionFusion(2, 4, 2, padding="reflect")
    with pytest.raises(ModelError, match="spatial_dims is 4"):
        DifferentialPerceptionFusion(4, 4, 2)
