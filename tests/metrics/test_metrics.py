"""Metrics against brute force and cases worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from differseg_med.metrics import METRICS, case_metrics, dice, hd95, iou, nsd, volume_ml


def cube(start: int, size: int, n: int = 12) -> np.ndarray:
    mask = np.zeros((n, n, n), dtype=np.uint8)
    mask[start : start + size, 2 : 2 + size, 3 : 3 + size] = 1
    return mask


def border_points(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    inner = ndimage.binary_erosion(mask)
    return np.argwhere(mask.astype(bool) & ~inner) * np.array(spacing)


def test_overlap_by_hand() -> None:
    # two 4-cubes shifted by 1: 48 of 64 voxels are shared
    a, b = cube(2, 4), cube(3, 4)
    assert dice(a, b) == pytest.approx(2 * 48 / 128)
    assert iou(a, b) == pytest.approx(48 / 80)
    assert volume_ml(a, 2.5) == pytest.approx(64 * 2.5 / 1000)


def test_hd95_against_brute_force_on_anisotropic_spacing() -> None:
    spacing = (1.5, 2.0, 3.0)
    a, b = cube(2, 4), cube(4, 5)
    p, q = border_points(a, spacing), border_points(b, spacing)
    gaps = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    expected = max(np.percentile(gaps.min(1), 95), np.percentile(gaps.min(0), 95))
    assert hd95(a, b, spacing) == pytest.approx(expected, rel=1e-5)


def test_nsd_of_a_shift() -> None:
    a, b = cube(2, 4), cube(3, 4)
    assert nsd(a, a, (1, 1, 1), 0.5) == pytest.approx(1.0)
    assert nsd(a, b, (1, 1, 1), 1.5) == pytest.approx(1.0)
    far = cube(8, 4)
    assert nsd(a, far, (1, 1, 1), 0.5) < 0.05


def test_a_mask_at_the_border_has_a_surface_there() -> None:
    full = np.ones((6, 6, 6), dtype=np.uint8)
    part = full.copy()
    part[:3] = 0
    assert hd95(part, full, (1, 1, 1)) == pytest.approx(3.0)


@pytest.mark.parametrize(("a", "b"), list(itertools.product([0, 1], repeat=2)))
def test_rules_for_empty_masks(a: int, b: int) -> None:
    first, second = cube(2, 4) * a, cube(2, 4) * b
    values = case_metrics(first, second, (1, 1, 1), nsd_tolerance_mm=1.0)
    equal = float(a == b)
    assert values["dice"] == values["iou"] == values["nsd"] == equal
    assert values["hd95_mm"] == 0.0 if a == b else math.isnan(values["hd95_mm"])
    assert math.isnan(values["volume_error_relative"]) == (b == 0)
    assert set(values) == set(METRICS)


def test_volume_error_is_prediction_minus_truth() -> None:
    values = case_metrics(cube(2, 5), cube(2, 4), (2, 2, 2), nsd_tolerance_mm=1.0)
    assert values["volume_error_ml"] == pytest.approx((125 - 64) * 8 / 1000)
    assert values["volume_error_relative"] == pytest.approx(61 / 64)
