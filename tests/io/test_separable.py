"""Axis by axis gives what SimpleITK gives, for every order and direction of the axes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from differseg_med.geometry import Grid, Volume
from differseg_med.io import _resample, resample
from differseg_med.io._separable import parallel_steps

PLACES = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def placed(
    shape: tuple[int, int, int], spacing: float, order: tuple[int, ...], flips: tuple[int, ...]
) -> Grid:
    """A grid around the origin whose axes are the world's in another order and direction."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * spacing * np.array(flips)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid(shape, affine)


def both(volume: Volume, grid: Grid, monkeypatch: pytest.MonkeyPatch, **options):
    assert parallel_steps(volume.grid, grid) is not None
    ours = resample(volume, grid, **options)
    with monkeypatch.context() as patch:
        patch.setattr(_resample, "parallel_steps", lambda *_: None)
        return ours, resample(volume, grid, **options)


@pytest.fixture(scope="module")
def source() -> Volume:
    array = np.random.default_rng(0).uniform(-1, 1, (19, 16, 14)).astype(np.float32)
    return Volume(array, placed(array.shape, 1.0, (0, 1, 2), (1, 1, 1)))


@pytest.mark.parametrize(("order", "flips"), PLACES[::3])
@pytest.mark.parametrize("spacing", [1.7, 3.1])
def test_any_order_and_direction(
    source: Volume,
    order: tuple[int, ...],
    flips: tuple[int, ...],
    spacing: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = placed((9, 8, 11), spacing, order, flips)  # reaches out of the source
    ours, theirs = both(source, target, monkeypatch, fill=-7.0)
    np.testing.assert_array_equal(ours == -7.0, theirs == -7.0)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    assert ours.dtype == np.float32


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("antialias", [True, False])
def test_any_layout_of_memory_and_slanted_grids(
    source: Volume, layout: str, antialias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    angle = np.array([[0.8, -0.6, 0, 3], [0.6, 0.8, 0, -5], [0, 0, 1, 11], [0, 0, 0, 1]])
    slanted = Volume(
        np.asarray(source.array, order=layout), Grid(source.grid.shape, angle @ source.grid.affine)
    )
    target = placed((7, 6, 5), 2.3, (0, 1, 2), (1, -1, 1))
    target = Grid(target.shape, angle @ target.affine)
    ours, theirs = both(slanted, target, monkeypatch, fill=0.0, antialias=antialias)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_a_ramp_stays_a_ramp() -> None:
    """Worked by hand: half a voxel beyond the outer centres the outer value holds, then `fill`."""
    array = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 8, 8))
    affine = np.diag([1.5, 8.0, 8.0, 1.0])
    affine[:3, 3] = -1.25, 3.5, 3.5
    values = resample(
        Volume(array, Grid((8, 8, 8), np.eye(4))),
        Grid((7, 1, 1), affine),
        fill=9.0,
        antialias=False,
    )
    np.testing.assert_allclose(values.ravel(), [9.0, 0.25, 1.75, 3.25, 4.75, 6.25, 9.0])


def test_other_directions_are_left_to_simpleitk(source: Volume) -> None:
    affine = np.array(source.grid.affine)
    affine[0, 1] = 0.01  # a tilt of half a degree
    assert parallel_steps(source.grid, Grid((16, 16, 16), affine)) is None
