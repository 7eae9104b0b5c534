"""Structure loss against a direct computation and worked cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from differseg_med.errors import ModelError
from differseg_med.losses import StructureLoss, structure_loss


def _direct(logits: np.ndarray, mask: np.ndarray, size: int, authors: bool) -> float:
    """The loss of one sample and channel, in float64, with SciPy's mean filter."""
    mean = ndimage.uniform_filter(mask, size, mode="constant")
    weight = 1 + 5 * np.abs(mean - mask)
    probability = 1 / (1 + np.exp(-logits))
    bce = -(mask * np.log(probability) + (1 - mask) * np.log(1 - probability))
    if authors:
        bce = np.full_like(bce, bce.mean())
    overlap = (probability * mask * weight).sum()
    union = ((probability + mask) * weight).sum() - overlap
    return float((weight * bce).sum() / weight.sum() + 1 - (overlap + 1) / (union + 1))


@pytest.mark.parametrize("authors", [False, True])
@pytest.mark.parametrize("space", [(9, 12), (7, 6, 8)])
def test_equals_a_direct_computation(space: tuple[int, ...], authors: bool) -> None:
    rng = np.random.default_rng(0)
    logits, mask = rng.normal(size=space), (rng.random(space) > 0.6).astype(float)
    found = structure_loss(
        torch.from_numpy(logits)[None, None],
        torch.from_numpy(mask)[None, None],
        pool_size=5,
        authors_bce_mean=authors,
    )
    assert float(found) == pytest.approx(_direct(logits, mask, 5, authors), abs=1e-9)


def test_worked_case_without_boundary_weight() -> None:
    """Two voxels, logits 0, one in the mask: BCE is ln 2, IoU is (0.5 + 1) / (1.5 + 1)."""
    found = structure_loss(
        torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]]), boundary_weight=0.0
    )
    assert float(found) == pytest.approx(math.log(2) + 1 - 1.5 / 2.5)


def test_a_cube_larger_than_the_volume_is_fine() -> None:
    mask = torch.ones(1, 1, 4, 5, 6, dtype=torch.uint8)
    assert torch.isfinite(StructureLoss()(torch.zeros(1, 1, 4, 5, 6), mask))


def test_the_boundary_counts_more() -> None:
    """The same error costs more on the edge of a square than far outside."""
    mask = torch.zeros(1, 1, 21, 21)
    mask[..., 8:13, 8:13] = 1
    losses = []
    for position in (7, 0):
        logits = 20 * (mask - 0.5)
        logits[0, 0, 10, position] = 10.0
        losses.append(float(structure_loss(logits, mask, pool_size=5)))
    assert losses[0] > losses[1]


def test_perfect_logits_cost_nothing_and_half_precision_does_not_overflow() -> None:
    mask = torch.zeros(1, 1, 300, 300)
    mask[..., 100:200, 100:200] = 1
    assert float(structure_loss(200 * (mask - 0.5), mask)) == pytest.approx(0, abs=1e-4)
    half = structure_loss((200 * (mask - 0.5)).half(), mask.half())
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(0, abs=1e-4)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ModelError, match=r"E_INPUT_SHAPE.*\(1, 1, 4, 4\).*\(1, 1, 8, 8\)"):
        structure_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ModelError, match="pool_size is 4"):
        structure_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), pool_size=4)


@pytest.mark.parametrize("authors", [False, True])
def test_voxels_below_zero_do_not_count(authors: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 8, 9, generator=generator, requires_grad=True)
    target = (torch.rand(2, 1, 8, 9, generator=generator) > 0.5).float()
    target[0, :, :3] = -1.0
    loss = structure_loss(logits, target, pool_size=3, authors_bce_mean=authors)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, :, :3].abs().max() == 0
    assert logits.grad[0, :, 3:].abs().min() > 0
    other = logits.detach().clone()
    other[0, :, :3] = 50.0
    same = structure_loss(other, target, pool_size=3, authors_bce_mean=authors)
    assert float(same) == loss.item()


def test_a_sample_in_which_no_voxel_counts_costs_nothing() -> None:
    logits = torch.randn(1, 1, 4, 4, 4)
    assert float(structure_loss(logits, torch.full_like(logits, -1.0), pool_size=3)) == 0
