"""Grids against hand-worked places in patient space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from differseg_med.errors import StudyError
from differseg_med.geometry import (
    Grid,
    Volume,
    centroid_mm,
    covered_fraction,
    foreground_box,
    lps_ras,
    work_grid,
)

AXIAL = np.array([[-2.0, 0, 0, 10], [0, -3.0, 0, 20], [0, 0, 4.0, -30], [0, 0, 0, 1]])


def grid(shape: tuple[int, ...] = (5, 6, 7), affine: np.ndarray = AXIAL) -> Grid:
    return Grid(shape, affine)


def test_world_of_a_voxel_by_hand() -> None:
    # 10 - 2*1, 20 - 3*2, -30 + 4*3
    np.testing.assert_allclose(grid().to_world([1, 2, 3]), [8, 14, -18])
    np.testing.assert_allclose(grid().to_index([8, 14, -18]), [1, 2, 3])
    assert grid().spacing == (2.0, 3.0, 4.0)
    assert grid().voxel_volume == pytest.approx(24.0)
    np.testing.assert_allclose(grid().center, [6, 12.5, -18])


def test_sheared_grid_keeps_its_volume() -> None:
    affine = np.array(AXIAL)
    affine[1, 2] = 1.0  # tilted gantry: slices shift along y
    assert grid(affine=affine).voxel_volume == pytest.approx(24.0)
    assert grid(affine=affine).spacing[2] == pytest.approx(np.sqrt(17))


def test_lps_and_ras_are_each_others_inverse() -> None:
    np.testing.assert_allclose(lps_ras(lps_ras(AXIAL)), AXIAL)
    np.testing.assert_allclose(lps_ras(np.eye(4)), np.diag([-1.0, -1, 1, 1]))


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((3, 3), np.eye(4)),
        ((0, 3, 3), np.eye(4)),
        ((3, 3, 3), np.eye(3)),
        ((3, 3, 3), np.full((4, 4), np.nan)),
        ((3, 3, 3), np.diag([1.0, 0, 1, 1])),
    ],
)
def test_impossible_grids_are_refused(shape: tuple[int, ...], affine: np.ndarray) -> None:
    with pytest.raises(StudyError, match="E_GEOMETRY"):
        Grid(shape, affine)


def test_array_must_fit_its_grid() -> None:
    with pytest.raises(StudyError, match="E_GEOMETRY"):
        Volume(np.zeros((5, 6, 8)), grid())


def test_affine_of_a_grid_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        grid().affine[0, 0] = 1.0


def test_work_grid_keeps_the_outer_face_of_the_box() -> None:
    work = work_grid(grid((10, 10, 10), np.diag([2.0, 2, 2, 1])), (4.0, 4.0, 4.0))
    assert work.shape == (5, 5, 5)
    np.testing.assert_allclose(work.to_world([-0.5] * 3), [-1.0] * 3)
    np.testing.assert_allclose(work.to_world([4.5] * 3), [19.0] * 3)
    assert work_grid(grid(), None) is not None
    assert work_grid(grid(), None).is_same(grid())


@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    old=st.tuples(*[st.floats(0.3, 7)] * 3),
    new=st.tuples(*[st.floats(0.3, 7)] * 3),
)
def test_work_grid_covers_the_reference(
    shape: tuple[int, int, int], old: tuple[float, ...], new: tuple[float, float, float]
) -> None:
    reference = Grid(shape, np.diag([*old, 1.0]))
    work = work_grid(reference, new)
    reach = np.array(work.shape) * new - np.array(shape) * old
    assert (reach > -1e-4).all()
    assert (reach < np.array(new) + 1e-4).all() or min(work.shape) == 1
    assert covered_fraction(reference, work) == 1.0


def test_crop_keeps_voxels_in_place() -> None:
    part = grid().crop([1, 2, 3], [4, 5, 7])
    assert part.shape == (3, 3, 4)
    np.testing.assert_allclose(part.to_world([0, 0, 0]), grid().to_world([1, 2, 3]))


def test_covered_fraction_of_half_and_none() -> None:
    base = Grid((10, 10, 10), np.eye(4))
    moved = np.eye(4)
    moved[0, 3] = 5
    assert covered_fraction(base, Grid((10, 10, 10), moved)) == pytest.approx(0.5, abs=0.05)
    moved[0, 3] = 50
    assert covered_fraction(base, Grid((10, 10, 10), moved)) == 0.0


def test_centroid_of_a_mask() -> None:
    mask = np.zeros((5, 6, 7), dtype=np.uint8)
    assert centroid_mm(Volume(mask, grid())) is None
    mask[1, 2, 3] = 1
    np.testing.assert_allclose(centroid_mm(Volume(mask, grid())), [8, 14, -18])


def test_centroid_and_box_are_those_of_the_listed_voxels() -> None:
    rng = np.random.default_rng(0)
    grid = Grid((7, 5, 6), np.array([[0, 2, 0, 3], [1, 0, 0, -4], [0, 0, 3, 5], [0, 0, 0, 1.0]]))
    for share in (0.02, 0.5, 1.0):
        array = (rng.random(grid.shape) < share).astype(np.uint8)
        index = np.argwhere(array)
        centroid = centroid_mm(Volume(array, grid))
        assert centroid is not None
        np.testing.assert_allclose(centroid, grid.to_world(index.mean(axis=0)), atol=1e-12)
        box = foreground_box(array > 0)
        assert [edge.start for edge in box] == index.min(axis=0).tolist()
        assert [edge.stop for edge in box] == (index.max(axis=0) + 1).tolist()


def test_nothing_has_no_centroid_and_an_empty_box() -> None:
    nothing = np.zeros((3, 4, 5), dtype=np.uint8)
    assert centroid_mm(Volume(nothing, Grid(nothing.shape, np.eye(4)))) is None
    assert nothing[foreground_box(nothing > 0)].size == 0
