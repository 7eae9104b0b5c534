"""Paired comparison of tables: worked by hand, refused where it would compare other things."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from differseg_med.engine import compare_runs
from differseg_med.engine._results import read_results, write_results
from differseg_med.errors import OutputError, UsageError


def run(
    folder: Path, dice: list[float], *, tolerance: float = 3.0, start: int = 0, **more: list[float]
) -> Path:
    rows = [
        {"case": f"c{start + i}", "method": "m", "state": "ok", "code": "", "dice": value}
        | {"truth_ml": 5.0 + start + i}
        | {name: values[i] for name, values in more.items()}
        for i, value in enumerate(dice)
    ]
    write_results(folder, rows, {"nsd_tolerance_mm": tolerance}, "test")
    return folder


def test_by_hand(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [0.5, 0.6, 0.7, 0.8, 0.4, 0.3], hd95_mm=[9.0, 8, 7, 6, 5, math.nan])
    b = run(tmp_path / "b", [0.6, 0.8, 0.8, 0.9, 0.7, 0.7], hd95_mm=[8.0, 6, 8, 5, 4, 1.0])
    done = compare_runs([a, b], tmp_path / "out")
    assert (done.cases, done.left_out, done.runs) == (6, 0, ("a", "b"))
    dice, hd95 = done.rows
    assert dice.difference == pytest.approx((0.1 + 0.2 + 0.1 + 0.1 + 0.3 + 0.4) / 6)
    assert (dice.n, dice.undefined, dice.better) == (6, 0, "b")
    assert (hd95.n, hd95.undefined, hd95.better) == (5, 1, "b")
    assert (hd95.mean_first, hd95.mean_second) == (7.0, 6.2)
    # the better of two tests is multiplied by 2
    assert dice.p == stats.wilcoxon([0.1, 0.2, 0.1, 0.1, 0.3, 0.4]).pvalue
    assert dice.p_holm == pytest.approx(2 * dice.p)
    assert hd95.p_holm == pytest.approx(max(2 * dice.p, hd95.p))
    assert [f.code for f in done.findings] == ["W_FEW_CASES"]
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(row["difference"]) for row in written] == [dice.difference, hd95.difference]
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["cases"] == 6
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "6 cases in common" in page
    assert "W_FEW_CASES" in page


def test_several_runs_are_adjusted_together(tmp_path: Path) -> None:
    base = np.linspace(0.3, 0.8, 20)
    folders = [run(tmp_path / "a", base.tolist())]
    for seed, name in enumerate("bcd"):
        noise = np.random.default_rng(seed).normal(0.03, 0.05, 20)
        folders.append(run(tmp_path / name, (base + noise).tolist()))
    done = compare_runs(folders)
    assert [row.second for row in done.rows] == ["b", "c", "d"]
    smallest = min(done.rows, key=lambda row: row.p)
    assert smallest.p_holm == pytest.approx(min(1, 3 * smallest.p))
    assert not done.findings


def test_other_cases_are_refused_or_left_out_and_counted(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [0.5] * 8), run(tmp_path / "b", [0.6] * 8, start=1)
    with pytest.raises(UsageError, match=r"E_CASES: 2 of 9 cases .*use --common"):
        compare_runs([a, b])
    done = compare_runs([a, b], common=True)
    assert (done.cases, done.left_out) == (7, 2)
    assert [f.code for f in done.findings] == ["W_CASES"]
    with pytest.raises(UsageError, match="no case in common"):
        compare_runs([a, run(tmp_path / "c", [0.5], start=50)], common=True)


def test_another_truth_or_tolerance_is_refused(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [0.5] * 4, nsd=[0.5] * 4)
    b = run(tmp_path / "b", [0.5] * 4, nsd=[0.6] * 4, tolerance=1.0)
    with pytest.raises(UsageError, match=r"nsd_tolerance_mm is 1\.0 and 3\.0"):
        compare_runs([a, b])
    assert compare_runs([a, b], metrics=["dice"]).rows[0].p == 1.0
    text = (b / "cases.csv").read_text().replace("5.0", "5.5", 1)
    (b / "cases.csv").write_text(text)
    with pytest.raises(UsageError, match="different truths in 1 of 4 cases, such as c0"):
        compare_runs([a, b], metrics=["dice"])


def test_zero_is_best_for_volume_errors(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [0.5] * 6, volume_error_ml=[-4.0, 4, -4, 4, -4, 4])
    b = run(tmp_path / "b", [0.5] * 6, volume_error_ml=[1.0] * 6)
    row = compare_runs([a, b], metrics=["volume_error_ml"]).rows[0]
    assert (row.mean_first, row.mean_second, row.better) == (4.0, 1.0, "b")


def test_methods_and_names(tmp_path: Path) -> None:
    rows = [
        {"case": f"c{i}", "method": method, "dice": value}
        for i in range(6)
        for method, value in (("differseg", 0.8), ("threshold", 0.5))
    ]
    write_results(tmp_path / "eval", rows, {}, "test")
    run_ = tmp_path / "eval"
    done = compare_runs([f"{run_}@threshold", run_])
    assert done.runs == ("eval@threshold", "eval@differseg")
    assert done.rows[0].better == "eval@differseg"
    assert compare_runs([run_, run_]).runs == ("eval@differseg (1)", "eval@differseg (2)")
    with pytest.raises(UsageError, match=r"has no method 'x', only differseg, threshold"):
        compare_runs([f"{run_}@x", run_])


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [0.5]), run(tmp_path / "b", [0.6])
    with pytest.raises(UsageError, match="at least two"):
        compare_runs([a])
    with pytest.raises(UsageError, match="E_PATH: there is no table"):
        compare_runs([a, tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="not every run has the metric nsd"):
        compare_runs([a, b], metrics=["nsd"])
    compare_runs([a, b], tmp_path / "out")
    with pytest.raises(OutputError, match="E_EXISTS"):
        compare_runs([a, b], tmp_path / "out")
    (tmp_path / "odd.csv").write_text("case,method,dice\nx,m,good\n")
    with pytest.raises(UsageError, match="no number"):
        read_results(tmp_path / "odd.csv")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="no table of results"):
        read_results(tmp_path / "odd.csv")
