"""Difference operators against the literal ones, SciPy, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from differseg_med.networks import difference_operators


def test_two_dimensions_are_sobel_and_laplacian() -> None:
    x, y, laplacian = difference_operators(2)[:, 0].tolist()
    assert x == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert y == [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]
    assert laplacian == [[0, -1, 0], [-1, 4, -1], [0, -1, 0]]


def test_three_dimensions_agree_with_scipy() -> None:
    volume = np.random.default_rng(0).normal(size=(7, 8, 9))
    operators = difference_operators(3).double()
    found = torch.nn.functional.conv3d(torch.from_numpy(volume)[None, None], operators)[0].numpy()
    inside = (slice(1, -1),) * 3
    for response, axis in zip(found, (2, 1, 0), strict=False):
        np.testing.assert_allclose(response, ndimage.sobel(volume, axis)[inside] / 4, atol=1e-12)
    np.testing.assert_allclose(found[3], -ndimage.laplace(volume)[inside], atol=1e-12)
    assert float(operators[3, 0, 1, 1, 1]) == 6


@pytest.mark.parametrize("dims", [2, 3])
def test_a_ramp_of_slope_one_gives_eight(dims: int) -> None:
    ramp = torch.arange(5.0).expand(1, 1, *[5] * dims)
    convolve = (torch.nn.functional.conv2d, torch.nn.functional.conv3d)[dims - 2]
    response = convolve(ramp, difference_operators(dims))[0]
    expected = [8.0] + [0.0] * dims
    assert response.flatten(1).T.unique(dim=0).tolist() == [expected]


def test_a_volume_constant_along_z_gives_what_its_slice_gives() -> None:
    plane = torch.randn(1, 1, 6, 7, dtype=torch.float64)
    volume = plane.unsqueeze(2).expand(1, 1, 5, 6, 7)
    flat = torch.nn.functional.conv2d(plane, difference_operators(2).double())
    deep = torch.nn.functional.conv3d(volume, difference_operators(3).double())
    x, y, z, laplacian = deep[0]
    for found, expected in ((x, flat[0, 0]), (y, flat[0, 1]), (laplacian, flat[0, 2])):
        torch.testing.assert_close(found, expected.expand_as(found))
    assert z.abs().max() < 1e-12
