from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from differseg_med.geometry import Grid, Volume
from differseg_med.io import resample
from differseg_med.io._resample import antialias_sigma


def _affine(seed: int, spacing: tuple[float, float, float], shear: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ (np.diag(spacing) + shear * np.eye(3, k=1))
    affine[:3, 3] = rng.normal(size=3) * 5
    return affine


def _smooth_volume(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    rng = np.random.default_rng(7)
    array = ndimage.gaussian_filter(rng.normal(size=shape), 1.5).astype(np.float32)
    return Volume(array, Grid(shape, affine))


def _oracle(volume: Volume, grid: Grid, order: int, fill: float) -> tuple[np.ndarray, np.ndarray]:
    index = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    source = volume.grid.to_index(grid.to_world(index))
    values = ndimage.map_coordinates(
        volume.array.astype(np.float64), source.T, order=order, mode="nearest"
    )
    edge = np.minimum(source + 0.5, np.array(volume.grid.shape) - 0.5 - source).min(axis=1)
    values[edge < 0] = fill
    return values.reshape(grid.shape), (np.abs(edge) < 1e-6).reshape(grid.shape)


@pytest.mark.parametrize("memory", ["C", "F"])
@pytest.mark.parametrize("shear", [0.0, 0.4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_linear_agrees_with_scipy_for_any_affine(seed: int, shear: float, memory: str) -> None:
    volume = _smooth_volume((18, 15, 12), _affine(seed, (1.1, 1.3, 2.0), shear))
    volume = Volume(np.asarray(volume.array, order=memory), volume.grid)
    target = Grid((24, 27, 23), _affine(seed, (1.4, 1.1, 1.7)))
    got = resample(volume, target, fill=-7.0, antialias=False)
    want, on_edge = _oracle(volume, target, 1, -7.0)
    assert got.dtype == np.float32
    assert np.isclose(got, want, atol=2e-5)[~on_edge].all()
    assert (want == -7.0).any()
    assert (want != -7.0).any()


def test_nearest_agrees_with_scipy_and_keeps_labels() -> None:
    affine = _affine(3, (1.0, 1.0, 3.0))
    labels = (_smooth_volume((16, 14, 9), affine).array > 0).astype(np.uint8) * 3
    volume = Volume(labels, Grid((16, 14, 9), affine))
    target = Grid((20, 20, 20), _affine(3, (0.83, 0.77, 1.13)))
    got = resample(volume, target, order="nearest", fill=0.0)
    want, on_edge = _oracle(volume, target, 0, 0.0)
    assert set(np.unique(got)) == {0.0, 3.0}
    assert (got == want)[~on_edge].mean() > 0.999  # scipy and ITK round exact halves differently


def test_same_grid_returns_the_values_untouched() -> None:
    volume = _smooth_volume((5, 6, 7), _affine(0, (1.0, 2.0, 3.0)))
    got = resample(volume, Grid((5, 6, 7), volume.grid.affine), fill=0.0)
    assert np.array_equal(got, volume.array)
    assert got is not volume.array


def test_box_reaches_to_the_outer_faces_of_the_voxels() -> None:
    volume = Volume(np.full((2, 1, 1), 5, np.float32), Grid((2, 1, 1), np.eye(4)))
    affine = np.diag([0.25, 1.0, 1.0, 1.0])
    affine[0, 3] = -1.0
    row = resample(volume, Grid((13, 1, 1), affine), fill=-1.0)[:, 0, 0]
    x = -1.0 + 0.25 * np.arange(13)
    assert np.array_equal(row[(x > -0.5) & (x < 1.5)], np.full(7, 5.0))
    assert (row[(x < -0.5) | (x > 1.5)] == -1.0).all()


def test_antialias_sigma_by_hand() -> None:
    source = Grid((8, 8, 8), np.diag([1.0, 1.0, 3.0, 1.0]))
    target = Grid((8, 8, 8), np.diag([4.0, 1.0, 3.0, 1.0]))
    want = np.sqrt((16 - 1) / (8 * np.log(2)))
    assert antialias_sigma(source, target) == pytest.approx([want, 0.0, 0.0])
    assert antialias_sigma(target, source) == pytest.approx([0.0, 0.0, 0.0])


def test_antialias_ignores_mere_rotation_and_permuted_axes() -> None:
    source = Grid((8, 8, 8), np.diag([2.0, 2.0, 2.0, 1.0]))
    assert not antialias_sigma(source, Grid((8, 8, 8), _affine(4, (2.0, 2.0, 2.0)))).any()
    permuted = np.zeros((4, 4))
    permuted[[0, 1, 2, 3], [2, 0, 1, 3]] = [2.0, 2.0, 4.0, 1.0]
    assert antialias_sigma(source, Grid((8, 8, 8), permuted)).nonzero()[0].tolist() == [2]


def test_antialias_is_a_gaussian_before_sampling() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(40, 4, 4)).astype(np.float32)
    target = Grid((10, 4, 4), np.diag([4.0, 1.0, 1.0, 1.0]))
    got = resample(Volume(array, Grid((40, 4, 4), np.eye(4))), target, fill=0.0)
    sigma = np.sqrt(15 / (8 * np.log(2)))
    centre = 20
    weights = np.exp(-0.5 * ((np.arange(40) - centre) / sigma) ** 2)
    want = np.tensordot(weights / weights.sum(), array, axes=(0, 0))
    assert got[5] == pytest.approx(want, abs=2e-3)


def test_nan_fill_marks_an_absent_box() -> None:
    volume = Volume(np.ones((3, 3, 3), np.float32), Grid((3, 3, 3), np.eye(4)))
    far = np.eye(4)
    far[:3, 3] = 100.0
    assert np.isnan(resample(volume, Grid((2, 2, 2), far), fill=float("nan"))).all()
