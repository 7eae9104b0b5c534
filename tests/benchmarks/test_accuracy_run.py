"""The accuracy benchmark from phantoms to a page, with one small network and one epoch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from benchmarks.accuracy import bench
from benchmarks.accuracy.cost import measure_costs
from benchmarks.accuracy.jobs import read_table, run_jobs
from benchmarks.accuracy.plan import read_plan
from benchmarks.accuracy.report import write_report

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_network_from_data_to_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PHANTOMS", {"training": 2, "validation": 1, "test": 1})
    plan = read_plan("smoke")
    profile = dataclasses.replace(
        plan.profile,
        overrides={**plan.profile.overrides, "max_epochs": 1, "val_interval": 1},
        stages=(("unet",),),
        robustness=("unet",),
        first="unet",
        learning_rates=(0.001, 0.003),
        search_epochs=1,
    )
    plan = dataclasses.replace(plan, profile=profile)
    place = bench.make_place(plan, tmp_path, tmp_path / "smoke")
    assert run_jobs(plan, place.folder, bench.Bench(plan, place).job) == 0
    measure_costs(plan, place, repeats=1)
    write_report(plan, place.folder, tmp_path / "report")
    assert (tmp_path / "report" / "accuracy-robustness.png").is_file()
    assert len(read_table(place.folder / "rates.csv")) == 2
    subsets = read_table(place.folder / "subsets.csv")
    assert {row["subset"] for row in subsets} == {
        *("pet", "ct", "mr_t1", "pet+ct", "pet+mr_t1", "ct+mr_t1", "pet+ct+mr_t1"),
    }
    (case,) = [r for r in read_table(place.folder / "cases.csv") if r["experiment"] == "unet"]
    whole = [row for row in subsets if row["subset"] == "pet+ct+mr_t1"]
    none = [r for r in read_table(place.folder / "robustness.csv") if r["kind"] == "none"]
    # the bundle's own evaluation and the benchmark's loop over the same weights agree
    assert float(whole[0]["dice"]) == pytest.approx(float(case["dice"]), abs=1e-5)
    assert float(none[0]["dice"]) == pytest.approx(float(case["dice"]), abs=1e-5)
    cost = read_table(place.folder / "costs.csv")[0]
    folder = place.run("unet", 0)
    state = torch.load(folder / "model.pt", weights_only=True)
    weights = sum(v.numel() for v in state.values())
    assert int(cost["parameters"]) == weights
    assert run_jobs(plan, place.folder, lambda *_: pytest.fail("it is done")) == 0
