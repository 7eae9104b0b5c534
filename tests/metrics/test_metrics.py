"""Overlap, volumes and the table of metrics: worked by hand, against others, empty masks."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from differseg_med.errors import UsageError
from differseg_med.metrics import (
    METRICS,
    SET_METRICS,
    case_metrics,
    check_names,
    dice,
    failed_metrics,
    iou,
    metrics_page,
    miou_two_class,
    precision,
    sensitivity,
    volume_ml,
)

SHAPES = [(12, 12), (6, 5, 4)]
MASKS = st.sampled_from(SHAPES).flatmap(
    lambda shape: st.tuples(*(arrays(np.bool_, shape) for _ in range(3)))
)


def cube(start: int, size: int, n: int = 12) -> np.ndarray:
    mask = np.zeros((n, n, n), dtype=np.uint8)
    mask[start : start + size, 2 : 2 + size, 3 : 3 + size] = 1
    return mask


def random_pair(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed).random((2, *shape))
    return numbers[0] > 0.6, numbers[1] > 0.5


def test_overlap_by_hand() -> None:
    # two 4-cubes shifted by 1: 48 of 64 voxels are shared
    a, b = cube(2, 4), cube(3, 4)
    assert dice(a, b) == pytest.approx(2 * 48 / 128)
    assert iou(a, b) == pytest.approx(48 / 80)
    assert sensitivity(a, b) == precision(a, b) == pytest.approx(48 / 64)
    background = (12**3 - 80) / (12**3 - 48)
    assert miou_two_class(a, b) == pytest.approx((48 / 80 + background) / 2)
    assert volume_ml(a, 2.5) == pytest.approx(64 * 2.5 / 1000)


@pytest.mark.parametrize("shape", [(30, 20), (9, 11, 13)])
def test_overlap_against_simpleitk(shape: tuple[int, ...]) -> None:
    a, b = random_pair(shape, 1)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)))
    assert dice(a, b) == pytest.approx(measure.GetDiceCoefficient(1))
    assert iou(a, b) == pytest.approx(measure.GetJaccardCoefficient(1))
    assert sensitivity(a, b) == pytest.approx(1 - measure.GetFalseNegativeError(1))
    similarity = measure.GetVolumeSimilarity(1)
    values = case_metrics(a, b, [1.0] * a.ndim, nsd_tolerance_mm=1.0)
    total = values["volume_ml"] + values["truth_ml"]
    assert 2 * values["volume_error_ml"] / total == pytest.approx(similarity)


def test_two_class_iou_against_monai() -> None:
    import torch
    from monai.metrics import compute_iou

    a, b = random_pair((9, 11, 13), 2)
    both = [torch.from_numpy(np.stack([~m, m]))[None].float() for m in (a, b)]
    expected = compute_iou(*both).mean().item()
    assert miou_two_class(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("a", "b"), list(itertools.product([0, 1], repeat=2)))
def test_rules_for_empty_masks_are_those_of_the_table(a: int, b: int, ndim: int) -> None:
    first, second = (cube(2, 4) * a, cube(2, 4) * b)
    if ndim == 2:
        first, second = first[3], second[3]
    values = case_metrics(first, second, [2.0] * ndim, nsd_tolerance_mm=1.0)
    rule = {(0, 0): "both_empty", (0, 1): "empty_pred", (1, 0): "empty_truth"}.get((a, b))
    assert list(values) == list(METRICS)
    for name, value in values.items():
        expected = getattr(METRICS[name], rule) if rule else None
        if expected is None:
            assert math.isfinite(value), name
        else:
            assert value == pytest.approx(expected, nan_ok=True), name


def test_full_masks() -> None:
    full = np.ones((4, 5, 6))
    values = case_metrics(full, full, (1, 1, 1), nsd_tolerance_mm=1.0)
    for name in ("dice", "iou", "miou_two_class", "sensitivity", "precision", "nsd", "lesion_f1"):
        assert values[name] == 1.0
    assert values["hd95_mm"] == values["assd_mm"] == values["fp_volume_ml"] == 0.0
    against_empty = case_metrics(full, 0 * full, (1, 1, 1), nsd_tolerance_mm=1.0)
    assert against_empty["miou_two_class"] == 0.0  # nothing of either class is right
    assert against_empty["fp_volume_ml"] == pytest.approx(0.12)


def test_volumes_and_their_errors_by_hand() -> None:
    values = case_metrics(cube(2, 5), cube(2, 4), (2, 2, 2), nsd_tolerance_mm=1.0)
    assert values["volume_error_ml"] == pytest.approx((125 - 64) * 8 / 1000)
    assert values["volume_error_relative"] == pytest.approx(61 / 64)
    assert values["overlap_ml"] == pytest.approx(64 * 8 / 1000)


def test_ignored_voxels_leave_every_numerator_and_denominator() -> None:
    truth, pred = np.zeros((2, 10, 10))
    truth[2:4, 2:4] = 1
    pred[2:4, 2:4] = pred[7:9, 7:9] = 1
    ignore = np.zeros((10, 10))
    ignore[6:10, 6:10] = 1  # the second patch is a pathology of another kind
    values = case_metrics(pred, truth, (1, 1), nsd_tolerance_mm=1.0, ignore=ignore)
    assert values["dice"] == values["precision"] == values["lesion_f1"] == 1.0
    assert values["fp_volume_ml"] == values["hd95_mm"] == 0.0
    truth[2:4, 2:4] = 0
    pred[7:9, 7:9] = 0
    # background: 84 voxels count, 4 of them are called foreground
    assert case_metrics(
        pred, truth, (1, 1), nsd_tolerance_mm=1.0, ignore=ignore, names=["miou_two_class"]
    ) == {"miou_two_class": pytest.approx((0 + 80 / 84) / 2)}


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_ignored_content_cannot_change_a_value(masks: tuple[np.ndarray, ...]) -> None:
    a, b, ignore = masks
    spacing = [1.5] * a.ndim
    values = [
        case_metrics(p, t, spacing, nsd_tolerance_mm=1.0, ignore=ignore)
        for p, t in ((a, b), (a | ignore, b & ~ignore), (a ^ ignore, b | ignore))
    ]
    assert values[0] == pytest.approx(values[1], nan_ok=True)
    assert values[0] == pytest.approx(values[2], nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_symmetry_and_bounds(masks: tuple[np.ndarray, ...]) -> None:
    a, b, _ = masks
    spacing = [1.0, 2.0, 1.5][: a.ndim]
    one = case_metrics(a, b, spacing, nsd_tolerance_mm=1.0)
    two = case_metrics(b, a, spacing, nsd_tolerance_mm=1.0)
    for name in ("dice", "iou", "miou_two_class", "hd95_mm", "assd_mm", "nsd", "lesion_f1"):
        assert one[name] == pytest.approx(two[name], nan_ok=True), name
    swapped = [("sensitivity", "precision"), ("fp_volume_ml", "fn_volume_ml")]
    for name, other in [*swapped, ("lesion_sensitivity", "lesion_precision")]:
        assert one[name] == pytest.approx(two[other], nan_ok=True)
    bounded = [n for n, m in METRICS.items() if m.better == "higher" and not math.isnan(one[n])]
    assert all(-1e-9 <= one[name] <= 1 + 1e-9 for name in bounded)
    assert one["iou"] <= one["dice"] + 1e-9
    assert math.isnan(one["hd95_mm"]) or one["assd_mm"] <= max(a.shape) * 4


def test_a_volume_of_one_slice_is_an_image() -> None:
    a, b = random_pair((14, 10), 3)
    flat = case_metrics(a, b, (1.0, 2.0), nsd_tolerance_mm=1.0)
    thick = case_metrics(a[:, None], b[:, None], (1.0, 1.0, 2.0), nsd_tolerance_mm=1.0)
    assert flat == pytest.approx(thick, nan_ok=True)


def test_names_choose_and_wrong_ones_are_refused() -> None:
    a, b = random_pair((8, 8), 4)
    values = case_metrics(a, b, (1, 1), nsd_tolerance_mm=1, names=["lesion_f1", "dice"])
    assert list(values) == ["dice", "lesion_f1"]
    assert check_names(None) == list(METRICS)
    with pytest.raises(UsageError, match=r"E_OPTION: there is no metric dise; there are: dice"):
        check_names(["dise"])
    with pytest.raises(UsageError, match="one shape"):
        case_metrics(a, b[:4], (1, 1), nsd_tolerance_mm=1)
    with pytest.raises(UsageError, match="does not fit 2 dimensions"):
        case_metrics(a, b, (1, 1, 1), nsd_tolerance_mm=1)


def test_a_failed_case_has_the_worst_scores_and_no_distance() -> None:
    values = failed_metrics({"truth_ml": 3.0})
    assert values["dice"] == values["lesion_f1"] == values["volume_ml"] == 0.0
    assert values["truth_ml"] == 3.0
    assert math.isnan(values["hd95_mm"])
    assert all(m.failed == 0 for m in METRICS.values() if m.better == "higher")


def test_page_is_the_one_made_from_the_table(root: Path) -> None:
    committed = (root / "docs/reference/metrics.md").read_text(encoding="utf-8")
    assert committed == metrics_page(), "docs/reference/metrics.md is stale: run make bundles"
    assert all(m.source.startswith("doi:10.") for m in [*METRICS.values(), *SET_METRICS.values()])
