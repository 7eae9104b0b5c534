"""Slices as a view: every slice once, neighbours in order, volumes put together exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer

from differseg_med.data import SliceInferer, SliceView, TakeSliced
from differseg_med.errors import BundleError, ModelError


def ramp(*shape: int) -> torch.Tensor:
    return torch.arange(float(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cut_and_join_are_exact(axis: int) -> None:
    volume = ramp(2, 4, 5, 6)
    view = SliceView(axis, channels=(1, 1))
    slices = view.cut(volume)
    assert len(slices) == volume.shape[axis + 1]
    np.testing.assert_array_equal(slices[3], volume.select(axis + 1, 3))
    np.testing.assert_array_equal(view.join(slices), volume)


def test_neighbours_stay_with_their_modality() -> None:
    volume = torch.stack([torch.arange(4.0), torch.arange(4.0) + 10]).reshape(2, 1, 1, 4)
    slices = SliceView(2, 1, channels=(1, 1)).cut(volume)[:, :, 0, 0]
    assert slices.tolist() == [
        [0, 0, 1, 10, 10, 11],
        [0, 1, 2, 10, 11, 12],
        [1, 2, 3, 11, 12, 13],
        [2, 3, 3, 12, 13, 13],
    ]


def test_a_modality_of_three_channels_keeps_them_together() -> None:
    volume = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 1, 2) + torch.tensor([0.0, 100.0])
    slices = SliceView(2, 1, channels=(3,)).cut(volume)[:, :, 0, 0]
    assert slices[0].tolist() == [0, 1, 2, 0, 1, 2, 100, 101, 102]


def test_absent_stays_absent() -> None:
    volume = torch.stack([torch.ones(3, 3, 4), torch.full((3, 3, 4), float("nan"))])
    slices = SliceView(2, 1, channels=(1, 1)).cut(volume)
    assert slices[:, :3].isfinite().all()
    assert slices[:, 3:].isnan().all()


def test_a_slab_gives_its_middle_slice() -> None:
    view = SliceView(1, 2, channels=(1,))
    assert view.slab([7, 8]) == [7, 5, 8]
    data = {"image": ramp(1, 7, 5, 8), "label": ramp(1, 7, 5, 8)}
    found = TakeSliced(view)(data)
    assert found["image"].shape == (5, 7, 8)
    np.testing.assert_array_equal(found["image"], data["image"][0].movedim(1, 0))
    np.testing.assert_array_equal(found["label"][0], data["label"][0, :, 2])


@pytest.mark.parametrize("axis", [0, 2])
def test_inference_slice_by_slice_equals_a_loop(axis: int) -> None:
    view = SliceView(axis, 1, channels=(2,))
    weights = torch.linspace(-1, 1, 6).reshape(1, 6, 1, 1)

    def network(x: torch.Tensor) -> torch.Tensor:
        return (x * weights).sum(1, keepdim=True)

    inferer = SliceInferer(view, SlidingWindowInferer((8, 8), overlap=0.25), batch_size=3)
    volume = torch.randn(1, 2, 10, 12, 14, generator=torch.Generator().manual_seed(0))
    result = inferer(volume, network)
    assert result.shape == (1, 1, 10, 12, 14)
    slices = volume[0].movedim(axis + 1, 0)
    for i, found in enumerate(result[0].movedim(axis + 1, 0)):
        near = [slices[min(max(i + step, 0), len(slices) - 1)] for step in (-1, 0, 1)]
        expected = network(torch.cat(near)[None])[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert inferer.roi_size == (3, 8, 8) if axis == 0 else (8, 8, 3)


def test_wrong_views_are_refused() -> None:
    with pytest.raises(BundleError, match="E_CONFIG: view has axis 3"):
        SliceView(3)
    with pytest.raises(ModelError, match="E_INPUT_SHAPE"):
        SliceView(2, channels=(1, 1)).cut(torch.zeros(3, 4, 4, 4))
