from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from differseg_med.errors import StudyError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import read_nifti, register_rigid

FIXED = Grid((36, 40, 32), np.diag([5.0, 5.0, 5.0, 1.0]), "1.2.3")


def head(contrast: tuple[float, ...], grid: Grid = FIXED, seed: int = 0) -> Volume:
    """Nested ellipsoids and blobs; two contrasts of one seed show the same anatomy."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    place = FIXED.to_index(grid.to_world(index)) - (np.array(FIXED.shape) - 1) / 2
    rng = np.random.default_rng(seed)
    array = np.zeros(grid.shape)
    for radii, value in zip(((13, 16, 12), (11, 14, 10)), contrast, strict=False):
        array[((place / radii) ** 2).sum(-1) < 1] = value
    for value in contrast[2:]:
        centre, radius = rng.uniform(-6, 6, 3), rng.uniform(2, 4)
        array[((place - centre) ** 2).sum(-1) < radius**2] = value
    array = ndimage.gaussian_filter(array, 0.6) + np.random.default_rng(9).normal(0, 2, grid.shape)
    return Volume(array.astype(np.float32), grid)


def motion(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """A rotation about the middle of the fixed grid, and a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = FIXED.center - matrix[:3, :3] @ FIXED.center + shift
    return matrix


T1, T2 = (60.0, 100.0, 30.0, 150.0, 80.0, 120.0), (40.0, 90.0, 200.0, 60.0, 150.0, 20.0)


@pytest.mark.parametrize("shear", [0.0, 0.1])
def test_known_motion_between_contrasts_is_found(shear: float) -> None:
    affine = FIXED.affine @ (np.eye(4) + shear * np.eye(4, k=1) * (np.arange(4) == 2))
    still = head(T2, Grid(FIXED.shape, affine))
    wanted = motion((5.0, -4.0, 6.0), (9.0, -12.0, 7.0))
    moved = Volume(still.array, Grid(FIXED.shape, np.linalg.inv(wanted) @ affine, "4.5.6"), "mr_t2")
    found = register_rigid(moved, head(T1))
    corners = moved.grid.corners()
    apart = found.matrix[:3, :3] @ corners.T - wanted[:3, :3] @ corners.T
    apart = np.linalg.norm(apart.T + found.matrix[:3, 3] - wanted[:3, 3], axis=1)
    assert apart.max() < 1.0
    assert found.matrix[:3, :3] @ found.matrix[:3, :3].T == pytest.approx(np.eye(3), abs=1e-9)
    assert found.overlap > 0.9
    placed = found.apply(moved)
    assert placed.grid.frame == "1.2.3"
    assert placed.array is moved.array
    assert placed.modality == "mr_t2"
    assert [finding.code for finding in placed.findings] == ["W_REGISTERED"]
    assert placed.provenance["registration"]["metric"] == found.metric


def test_same_call_gives_the_same_motion() -> None:
    moving, fixed = head(T2), head(T1)
    first, second = register_rigid(moving, fixed), register_rigid(moving, fixed)
    assert np.array_equal(first.matrix, second.matrix)


@pytest.mark.slow
def test_gate_registration_of_what_does_not_belong_together() -> None:
    noise = np.random.default_rng(1).normal(100, 30, FIXED.shape).astype(np.float32)
    with pytest.raises(StudyError) as caught:
        register_rigid(Volume(noise, FIXED), head(T1))
    assert caught.value.code == "E_REGISTRATION"


def test_gate_registration_of_a_constant() -> None:
    flat = Volume(np.full(FIXED.shape, 7, np.float32), FIXED)
    with pytest.raises(StudyError) as caught:
        register_rigid(flat, head(T1))
    assert caught.value.code == "E_REGISTRATION"


@pytest.mark.slow
@pytest.mark.realdata
def test_real_brains_come_back_and_a_thigh_does_not(shared: Path) -> None:
    names = ("flair", "adc")
    stem = "sub-strokecase0009_ses-0001"
    fixed, moving = (read_nifti(shared / f"data/stroke/{stem}_{n}.nii.gz") for n in names)
    wanted = np.eye(4)
    wanted[:3, :3] = Rotation.from_euler("xyz", (6, -5, 4), degrees=True).as_matrix()
    wanted[:3, 3] = (8, -9, 7)
    moved = Volume(
        moving.array, Grid(moving.grid.shape, np.linalg.inv(wanted) @ moving.grid.affine)
    )
    found = register_rigid(moved, fixed)
    corners = np.c_[moved.grid.corners(), np.ones(8)].T
    apart = np.linalg.norm(((found.matrix - wanted) @ corners)[:3], axis=0)
    assert apart.mean() < 3.0
    thigh = [read_nifti(shared / f"data/sts/sts_002/{name}.nii.gz") for name in ("ct", "pet")]
    with pytest.raises(StudyError) as caught:
        register_rigid(*thigh)
    assert caught.value.code == "E_REGISTRATION"
