"""Surface metrics against brute force, MONAI, SimpleITK and the surface-distance package."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage

from differseg_med.metrics import assd, hd95, nsd
from differseg_med.metrics._surface import border_distances

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


def blob(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 2) > 0.05


def border_points(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    inner = ndimage.binary_erosion(mask)
    return np.argwhere(mask & ~inner) * np.array(spacing)


CASES = [((20, 22, 18), (1.0, 2.0, 3.0)), ((24, 24, 24), (1.5, 1.5, 1.5)), ((40, 30), (0.7, 1.3))]


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_distances_against_brute_force(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    a, b = blob(1, shape), blob(2, shape)
    p, q = border_points(a, spacing), border_points(b, spacing)
    gaps = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    there, back = gaps.min(1), gaps.min(0)
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert hd95(a, b, spacing) == pytest.approx(expected, rel=1e-12)
    assert assd(a, b, spacing) == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-12)


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_distances_against_monai(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    a, b = blob(3, shape), blob(4, shape)
    both = [torch.from_numpy(np.pad(m, 1))[None, None].float() for m in (a, b)]
    theirs = compute_hausdorff_distance(*both, percentile=95, spacing=list(spacing))
    assert hd95(a, b, spacing) == pytest.approx(theirs.item(), rel=1e-5)
    theirs = compute_average_surface_distance(*both, symmetric=True, spacing=list(spacing))
    assert assd(a, b, spacing) == pytest.approx(theirs.item(), rel=1e-5)


def test_largest_distance_against_simpleitk() -> None:
    spacing = (1.0, 2.0, 3.0)
    a, b = blob(5, (20, 22, 18)), blob(6, (20, 22, 18))
    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)]
    for image in images:
        image.SetSpacing(spacing[::-1])
    measure = sitk.HausdorffDistanceImageFilter()
    measure.Execute(*images)
    # SimpleITK measures from all voxels; the largest distance is the same
    ours = max(one_way.max() for one_way in border_distances(a, b, spacing))
    assert ours == pytest.approx(measure.GetHausdorffDistance(), rel=1e-6)


SURFACE_DISTANCE = [
    ((20, 22, 18), (1.0, 2.0, 3.0), 1.0, 0.35937940850369604),
    ((20, 22, 18), (1.0, 2.0, 3.0), 2.5, 0.4936941444212499),
    ((24, 24, 24), (1.5, 1.5, 1.5), 2.5, 0.5011002134385399),
    ((40, 30), (0.7, 1.3), 1.0, 0.3261665419747673),
    ((40, 30), (1.0, 1.0), 2.5, 0.6063487204033672),
]
"""Surface Dice of these masks by the package surface-distance 0.1, which defined it."""


@pytest.mark.parametrize(("shape", "spacing", "tolerance", "expected"), SURFACE_DISTANCE)
def test_surface_dice_against_its_first_implementation(
    shape: tuple[int, ...], spacing: tuple[float, ...], tolerance: float, expected: float
) -> None:
    value = nsd(blob(1, shape), blob(2, shape), spacing, tolerance)
    assert value == pytest.approx(expected, abs=1e-8)


def test_surface_dice_of_a_shift() -> None:
    a = np.zeros((14, 14, 14), dtype=bool)
    a[2:6, 2:6, 2:6] = True
    b, far = np.roll(a, 1, axis=0), np.roll(a, 7, axis=0)
    assert nsd(a, a, (1, 1, 1), 0.5) == pytest.approx(1.0)
    assert nsd(a, b, (1, 1, 1), 1.5) == pytest.approx(1.0)
    assert nsd(a, far, (1, 1, 1), 0.5) == 0.0


def test_a_mask_at_the_border_has_a_surface_there() -> None:
    full = np.ones((6, 6, 6), dtype=np.uint8)
    part = full.copy()
    part[:3] = 0
    assert hd95(part, full, (1, 1, 1)) == pytest.approx(3.0)
    assert nsd(full, full, (1, 1, 1), 0.1) == 1.0


@pytest.mark.parametrize("shape", [(30, 34), (16, 18, 17)])
def test_the_common_box_changes_nothing(shape: tuple[int, ...]) -> None:
    spacing = [1.0, 2.0, 0.5][: len(shape)]
    a, b = blob(7, shape), blob(8, shape)
    large = [np.pad(m, [(9, 4)] * len(shape)) for m in (a, b)]
    for metric in (hd95, assd):
        assert metric(*large, spacing) == metric(a, b, spacing)
    assert nsd(*large, spacing, 1.0) == nsd(a, b, spacing, 1.0)


def test_many_lesions_in_a_large_volume_are_fast() -> None:
    """A distance transform of this box alone takes tens of seconds."""
    import time

    places = np.random.default_rng(0).integers(5, 250, size=(2, 40, 3))
    masks = np.zeros((2, 260, 260, 260), dtype=bool)
    for mask, spots in zip(masks, places, strict=True):
        for x, y, z in spots:
            mask[x - 3 : x + 4, y - 3 : y + 4, z - 3 : z + 4] = True
    start = time.process_time()
    assert hd95(*masks, (2.0, 2.0, 3.0)) > 10
    assert time.process_time() - start < 6
