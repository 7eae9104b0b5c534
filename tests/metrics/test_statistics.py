"""Intervals and paired tests against SciPy and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from differseg_med.metrics import aggregated_dice, holm, paired_test, summarise

VALUES = np.random.default_rng(0).normal(0.7, 0.2, size=40)


def test_summary_by_hand_and_interval_against_scipy() -> None:
    found = summarise({"dice": VALUES}, resamples=20_000)["dice"]
    assert found.mean == pytest.approx(VALUES.mean())
    assert found.sd == pytest.approx(VALUES.std(ddof=1))
    assert found.median == pytest.approx(np.median(VALUES))
    theirs = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)


def test_undefined_values_are_counted_and_left_out() -> None:
    found = summarise({"hd95_mm": [1.0, math.nan, 3.0], "assd_mm": [math.nan] * 3})
    assert (found["hd95_mm"].n, found["hd95_mm"].undefined) == (2, 1)
    assert found["hd95_mm"].mean == 2.0
    assert 1.0 <= found["hd95_mm"].low <= found["hd95_mm"].high <= 3.0
    assert found["assd_mm"].n == 0
    assert math.isnan(found["assd_mm"].mean)


def test_same_seed_same_interval_and_one_patient_has_none() -> None:
    assert summarise({"a": VALUES}, seed=3) == summarise({"a": VALUES}, seed=3)
    assert summarise({"a": VALUES}, seed=3) != summarise({"a": VALUES}, seed=4)
    alone = summarise({"a": [0.5, 0.6]}, ["p", "p"])["a"]
    assert math.isnan(alone.low)
    assert alone.mean == pytest.approx(0.55)
    assert summarise({"a": []})["a"].n == 0


def test_cases_of_a_patient_stay_together() -> None:
    """Ten slices that are all alike in each of 6 patients hold no more than 6 values do."""
    few = VALUES[:6]
    slices = summarise({"a": np.repeat(few, 10)}, np.repeat(np.arange(6), 10).tolist())["a"]
    patients = summarise({"a": few})["a"]
    assert (slices.low, slices.high) == pytest.approx((patients.low, patients.high))
    naive = summarise({"a": np.repeat(few, 10)})["a"]
    assert naive.high - naive.low < 0.6 * (slices.high - slices.low)


def test_aggregated_dice_by_hand() -> None:
    # one case with 10 of 10 + 10 shared, one with 0 of 20 + 0: 2 x 10 / 40
    values = {"overlap_ml": [10.0, 0.0], "volume_ml": [10.0, 20.0], "truth_ml": [10.0, 0.0]}
    assert aggregated_dice(*values.values()) == pytest.approx(0.5)
    found = summarise(values)["aggregated_dice"]
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == (0.0, 1.0)
    assert aggregated_dice([0], [0], [0]) == 1.0


def test_wilcoxon_by_hand() -> None:
    """Five differences of one sign: of 32 sign patterns 2 are as extreme."""
    found = paired_test([0.1, 0.2, 0.3, 0.4, 0.5], [0.2, 0.4, 0.6, 0.8, 1.0])
    assert found.p == pytest.approx(2 / 32) == found.smallest_p
    assert found.difference == pytest.approx(0.3)
    assert found.n == 5


def test_paired_test_against_scipy() -> None:
    first, second = VALUES, VALUES + np.random.default_rng(5).normal(0.05, 0.1, size=40)
    found = paired_test(first, second, resamples=20_000)
    assert found.p == pytest.approx(stats.wilcoxon(second - first).pvalue)
    theirs = stats.bootstrap(
        (second - first,), np.mean, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.002)
    other = paired_test(second, first)
    assert other.p == found.p
    assert other.difference == pytest.approx(-found.difference)


def test_equal_undefined_and_clustered_pairs() -> None:
    same = paired_test([0.5, 0.6], [0.5, 0.6])
    assert (same.p, same.difference, same.smallest_p) == (1.0, 0.0, 1.0)
    none = paired_test([math.nan], [1.0])
    assert none.n == 0
    assert math.isnan(none.p)
    clustered = paired_test([0.0, 0.0, 0.0, math.nan], [1.0, 3.0, 2.0, 1.0], ["a", "a", "b", "c"])
    assert clustered.n == 2  # patient c has no pair
    assert clustered.difference == pytest.approx(2.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02, math.nan]) == pytest.approx([0.02, math.nan], nan_ok=True)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
    # Bonferroni is never smaller
    assert all(
        a <= min(1, p * len(p_values)) + 1e-12 for p, a in zip(p_values, adjusted, strict=True)
    )
