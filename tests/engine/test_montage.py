"""The picture shows the right planes the right way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from differseg_med.engine import draw_montage
from differseg_med.engine._montage import largest_planes, to_canonical
from differseg_med.errors import OutputError
from differseg_med.geometry import Grid, Volume


def marked(affine: np.ndarray, shape: tuple[int, int, int], point: np.ndarray) -> tuple:
    """A grid and an array with one voxel at a place in patient space."""
    grid = Grid(shape, affine)
    array = np.zeros(shape, np.uint8)
    array[tuple(np.round(grid.to_index(point)).astype(int))] = 1
    return array, grid


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_canonical_axes_run_right_anterior_superior(axes, signs) -> None:
    steps = np.array([1.0, 2.0, 3.0])  # mm along right, anterior, superior
    affine = np.zeros((4, 4))
    shape = [0, 0, 0]
    for column, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, column] = sign * steps[world]
        affine[world, 3] = 0 if sign > 0 else steps[world] * 7
        shape[column] = 8
    affine[3, 3] = 1
    array, grid = marked(affine, tuple(shape), np.array([1.0, 4.0, 9.0]))
    canonical, spacing = to_canonical(array, grid)
    assert np.argwhere(canonical).tolist() == [[1, 2, 3]]
    np.testing.assert_allclose(spacing, steps)


def test_planes_go_through_the_largest_extent() -> None:
    mask = np.zeros((10, 12, 14), bool)
    mask[2:5, 3:9, 6] = True
    mask[7, 3, 1:12] = True
    assert largest_planes(mask) == (6, 3, 7)
    assert largest_planes(np.zeros((10, 12, 14), bool)) == (7, 6, 5)
    box = np.zeros((10, 12, 14), bool)
    box[2:5, 3:8, 1:8] = True
    assert largest_planes(box) == (4, 5, 3)  # the middle of those that tie


def test_panel_is_radiological(tmp_path: Path) -> None:
    """A bright block at the patient's right, front and head comes out left and at the top."""
    shape = (40, 40, 40)
    grid = Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    array = np.full(shape, -1000, np.float32)
    array[28:36, 28:36, 28:36] = 500
    mask = np.zeros(shape, np.uint8)
    mask[28:36, 28:36, 28:36] = 1
    path = draw_montage(
        {"ct": Volume(array, grid, "ct")}, Volume(mask, grid), tmp_path / "m.png", case="c"
    )
    page = np.array(Image.open(path)).astype(int)
    side = 280
    top = 24 + 6
    for row in range(3):
        panel = page[top + row * (side + 6) :][:side, 6 : 6 + side]
        white = (panel.min(axis=2) > 250) & (np.indices(panel.shape[:2]).min(axis=0) > 25)
        rows, columns = np.nonzero(white)
        assert side * 4 / 40 < rows.mean() < side * 12 / 40
        assert side * 4 / 40 < columns.mean() < side * 12 / 40
        red = (panel[..., 0] > 200) & (panel[..., 1] < 120)
        assert red.any()


def test_absent_modalities_and_empty_masks_are_drawn(tmp_path: Path) -> None:
    grid = Grid((10, 12, 4), np.diag([3.0, 3.0, 6.0, 1.0]))
    pet = Volume(np.ones(grid.shape, np.float32), grid, "pet")
    empty = Volume(np.zeros(grid.shape, np.uint8), grid)
    path = draw_montage({"pet": pet, "ct": None}, empty, tmp_path / "m.png", case="c")
    page = np.array(Image.open(path))
    empty_panel = (page == (40, 40, 40)).all(axis=2)
    middle = page.shape[1] // 2
    assert empty_panel[:, middle:].sum() > 50_000
    assert empty_panel[:, :middle].sum() < 100  # edges of letters
    assert not ((page[..., 0] > 200) & (page[..., 1] < 120)).any()  # no outline


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    mask = Volume(np.ones(grid.shape, np.uint8), grid)
    pet = Volume(np.ones(grid.shape, np.float32), grid, "pet")
    with pytest.raises(OutputError, match="E_WRITE"):
        draw_montage({"pet": pet}, mask, tmp_path / "none/m.png", case="c")
