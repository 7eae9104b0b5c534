"""Folds hold out every case once, share no patient, and choose weights on the training part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from differseg_med.bundle._folds import Fold, plan_folds
from differseg_med.errors import BundleError


def entry(case: str, **more: Any) -> dict[str, Any]:
    return {"case": case, "ct": f"{case}/ct.nii.gz", "label": f"{case}/label.nii.gz", **more}


def names(fold: Fold, section: str) -> list[str]:
    return [e["case"] for e in fold.datalist[section]]


def plan(content: dict[str, Any], count: int | None = None, **more: Any) -> list[Fold]:
    return plan_folds(content, count, **{"seed": 0, "validation_share": 0.1, **more})


@given(st.lists(st.integers(1, 3), min_size=8, max_size=20), st.integers(2, 5), st.integers(0, 9))
def test_drawn_folds_keep_patients_together(sizes: list[int], count: int, seed: int) -> None:
    patients = {f"p{i}_{j}": f"p{i}" for i, size in enumerate(sizes) for j in range(size)}
    entries = [entry(case) for case in patients]
    content = {"training": entries[:-2], "validation": entries[-2:], "test": [entry("never")]}
    folds = plan({**content, "patients": patients}, count, seed=seed)
    assert len(folds) == count
    held = [case for fold in folds for case in names(fold, "test")]
    assert sorted(held) == sorted(patients)
    for fold in folds:
        parts = [{patients[c] for c in names(fold, s)} for s in ("training", "validation", "test")]
        assert all(parts)
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
        assert sum(len(names(fold, s)) for s in fold.datalist) == len(patients)
        assert fold.patients == {c: patients[c] for c in names(fold, "test")}
    assert folds == plan({**content, "patients": patients}, count, seed=seed)


def test_the_datalists_own_folds_are_taken() -> None:
    entries = [entry(f"c{i}") for i in range(6)]
    folds = [
        {"training": [], "validation": ["c0", "c3", "c5"]},
        {"training": [], "validation": ["c1", "c2", "c4"]},
    ]
    found = plan({"training": entries, "folds": folds, "target": "lesion"})
    assert [names(fold, "test") for fold in found] == [["c0", "c3", "c5"], ["c1", "c2", "c4"]]
    assert found[0].datalist["target"] == "lesion"
    with pytest.raises(BundleError, match="has 2 folds, 5 were asked for"):
        plan({"training": entries, "folds": folds}, 5)


def test_numbers_at_entries_are_taken_and_left_out_of_what_training_reads() -> None:
    entries = [entry(f"c{i}", fold=i % 3, patient=f"p{i}") for i in range(9)]
    found = plan({"training": entries})
    assert [names(fold, "test") for fold in found] == [
        ["c0", "c3", "c6"],
        ["c1", "c4", "c7"],
        ["c2", "c5", "c8"],
    ]
    assert set(found[0].datalist["test"][0]) == {"case", "ct", "label"}
    assert found[0].patients["c3"] == "p3"


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([["c0"], ["c1", "c2"]], "every case exactly once"),
        ([["c0", "c1"], ["c1", "c2", "c3"]], "every case exactly once"),
        ([["c0", "c2"], ["c1", "c3"]], "a patient stands in two folds"),
    ],
)
def test_folds_that_leak_are_refused(folds: list[list[str]], message: str) -> None:
    entries = [entry(f"c{i}", patient="p" if i < 2 else f"p{i}") for i in range(4)]
    content = {"training": entries, "folds": [{"validation": held} for held in folds]}
    with pytest.raises(BundleError, match=message):
        plan(content)


def test_wrong_datalists_are_refused() -> None:
    for content, message in (
        ({"test": [entry("a")]}, "no cases"),
        ({"training": [entry("a"), {"ct": "x"}]}, "has no name"),
        ({"training": [entry("a")], "validation": [entry("a", x=1)]}, "stands twice"),
        ({"training": [entry("a"), entry("b")]}, "2 patients do not make 5 folds"),
        ({"training": [entry("a")], "folds": [1]}, "folds is no list"),
        (
            {
                "training": [entry("a"), entry("b")],
                "folds": [{"validation": ["a"]}, {"validation": ["b"]}],
            },
            "too few",
        ),
    ):
        with pytest.raises(BundleError, match=message):
            plan(content)
