"""Case tables, baselines and checkpoints on a network of one layer."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from differseg_med.engine import CaseTable, Checkpoints, above_threshold, box_ellipsoid
from differseg_med.errors import BundleError, OutputError
from differseg_med.geometry import Grid


def item(case: str, pred: np.ndarray, truth: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    affine = torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    label = MetaTensor(torch.from_numpy(truth[None].astype(np.float32)), affine=affine)
    raw = MetaTensor(label.as_tensor() * 5, affine=affine)
    extra = {"case": case, "present": torch.tensor([True, False]), "raw": raw}
    return extra, {"pred": torch.from_numpy(pred[None].astype(np.float32)), "label": label}


def test_case_table_by_hand(tmp_path: Path) -> None:
    truth = np.zeros((8, 8, 8))
    truth[2:6, 2:6, 2:6] = 1
    pred = np.roll(truth, 1, axis=0)
    items = [item("a", truth, truth), item("b", pred, truth)]

    def step(engine: Engine, index: int) -> list[dict[str, Any]]:
        engine.state.batch = [items[index][0]]
        return [items[index][1]]

    engine = Engine(step)
    threshold = {"above_2": lambda raw, grid: above_threshold(raw, grid, value=2.0)}
    CaseTable(str(tmp_path), nsd_tolerance_mm=3.0, baselines=threshold).attach(engine)
    engine.run([0, 1])
    rows = list(csv.DictReader((tmp_path / "cases.csv").read_text().splitlines()))
    assert [(r["case"], r["method"], r["present"]) for r in rows] == [
        ("a", "differseg", "10"),
        ("a", "above_2", "10"),
        ("b", "differseg", "10"),
        ("b", "above_2", "10"),
    ]
    assert [float(r["dice"]) for r in rows] == [1.0, 1.0, 0.75, 1.0]
    assert float(rows[2]["hd95_mm"]) == pytest.approx(2.0)
    assert float(rows[0]["truth_ml"]) == pytest.approx(64 * 12 / 1000)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["methods"]["differseg"]["dice"] == {
        "mean": 0.875,
        "low": 0.75,
        "high": 1.0,
        "median": 0.875,
        "sd": pytest.approx(0.25 / np.sqrt(2)),
        "n": 2,
        "undefined": 0,
    }
    assert summary["settings"] == {"nsd_tolerance_mm": 3.0, "seed": 0}


def test_case_table_leaves_out_voxels_that_do_not_count(tmp_path: Path) -> None:
    truth = np.zeros((8, 8, 8))
    truth[2:4, 2:4, 2:4] = 1
    ignored = np.zeros((8, 8, 8))
    ignored[6:] = 1
    extra, output = item("a", truth + ignored, truth)
    output["ignore"] = torch.from_numpy(ignored[None])

    def step(engine: Engine, _: int) -> list[dict[str, Any]]:
        engine.state.batch = [extra]
        return [output]

    datalist = tmp_path / "datalist.json"
    datalist.write_text('{"test": [], "patients": {"a": "p1"}}')
    names = ["dice", "fp_volume_ml"]
    table = CaseTable(str(tmp_path), 1.0, metrics=names, datalist=str(datalist))
    engine = Engine(step)
    table.attach(engine)
    engine.run([0])
    (row,) = table.rows
    assert (row["dice"], row["fp_volume_ml"], row["patient"]) == (1.0, 0.0, "p1")
    assert table.summary()["differseg"]["dice"].mean == 1.0


def test_case_table_says_when_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    truth = np.ones((4, 4, 4))
    extra, output = item("a", truth, truth)

    def step(engine: Engine, _: int) -> list[dict[str, Any]]:
        engine.state.batch = [extra]
        return [output]

    engine = Engine(step)
    CaseTable(str(tmp_path / "file"), nsd_tolerance_mm=1.0).attach(engine)
    with pytest.raises(OutputError, match="E_WRITE"):
        engine.run([0])


def test_box_ellipsoid_has_the_volume_of_an_ellipsoid() -> None:
    grid = Grid((60, 80, 50), np.diag([2.0, 1.0, 3.0, 1.0]))
    mask = box_ellipsoid(np.zeros(grid.shape), grid, margin_mm=20.0)
    expected = 4 / 3 * np.pi * (60 - 20) * (40 - 20) * (75 - 20)
    assert mask.sum() * grid.voxel_volume == pytest.approx(expected, rel=0.01)


class Toy:
    """A trainer of one linear layer with everything that `Checkpoints` keeps."""

    def __init__(
        self, folder: Path, stop: int = 6, *, epochs: int = 6, resume: bool = False
    ) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Linear(3, 1)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(0.5))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.1, total_steps=24)
        self.evaluator = Engine(lambda engine, batch: None)
        self.evaluator.state.key_metric_name = "score"
        self.trainer = Engine(self.step)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.validate)
        self.keeper = Checkpoints(
            str(folder),
            self.network,
            self.average,
            self.optimizer,
            self.schedule,
            self.evaluator,
            resume=resume,
        )
        self.keeper.attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop), self.interrupt)
        self.trainer.run(range(4), max_epochs=epochs)

    def step(self, engine: Engine, index: int) -> float:
        x = torch.full((2, 3), float(index + engine.state.iteration))
        loss = (self.network(x) - 1).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def interrupt(self, engine: Engine) -> None:
        engine.terminate()

    def validate(self, engine: Engine) -> None:
        scores = [0.1, 0.5, 0.3, 0.4, 0.2, 0.1]
        self.evaluator.state.epoch = engine.state.epoch
        self.evaluator.state.iteration = 1
        self.evaluator.state.metrics = {"score": scores[engine.state.epoch - 1]}


def test_resumed_training_equals_an_undisturbed_one(tmp_path: Path) -> None:
    whole = Toy(tmp_path / "whole")
    Toy(tmp_path / "split", 3)
    rest = Toy(tmp_path / "split", resume=True)
    for a, b in zip(whole.network.parameters(), rest.network.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.average.parameters(), rest.average.parameters(), strict=True):
        assert torch.equal(a, b)
    assert rest.schedule.last_epoch == whole.schedule.last_epoch


def test_best_weights_survive_a_resume_and_worse_epochs(tmp_path: Path) -> None:
    Toy(tmp_path, 3)
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    again = Toy(tmp_path, resume=True)
    assert again.keeper.best == 0.5
    assert again.keeper.best_epoch == 2
    after = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(best[k], after[k]) for k in best)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pt", "resume.pt"]


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"E_WEIGHTS.*no resume\.pt"):
        Toy(tmp_path, resume=True)


def test_a_resumed_run_keeps_its_planned_length(tmp_path: Path) -> None:
    Toy(tmp_path, 3)
    with pytest.raises(BundleError, match=r"E_CONFIG: the run was planned for 6 epochs.*now 5"):
        Toy(tmp_path, epochs=5, resume=True)
