"""Early stopping, provenance and progress on a trainer without a network."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping as IgnitesOwn

from differseg_med import __version__
from differseg_med.engine import EarlyStopping, Progress, Provenance, sha256
from differseg_med.errors import BundleError

SCORES = [0.1, 0.4, 0.3, 0.5, 0.4, 0.5, 0.2, 0.3, 0.6, 0.1]


def last_epoch(patience: int, start: int = 0) -> int:
    """Train over `SCORES`, from where an earlier run was cut off."""
    keeper = SimpleNamespace(best=float("-inf"), best_epoch=0)

    def validate(engine: Engine) -> None:
        score = SCORES[engine.state.epoch - 1]
        if score > keeper.best:
            keeper.best, keeper.best_epoch = score, engine.state.epoch

    for epoch in range(1, start + 1):  # what Checkpoints would have read from resume.pt
        validate(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    EarlyStopping(keeper, patience).attach(trainer)
    trainer.state.epoch = start
    trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "epoch", start))
    return trainer.run([0], max_epochs=len(SCORES)).epoch


def last_epoch_of_ignite(patience: int) -> int:
    trainer, evaluator = (Engine(lambda engine, batch: None) for _ in range(2))
    stopper = IgnitesOwn(patience, lambda engine: engine.state.score, trainer)
    evaluator.add_event_handler(Events.COMPLETED, stopper)

    def validate(engine: Engine) -> None:
        evaluator.state.score = SCORES[engine.state.epoch - 1]
        evaluator.fire_event(Events.COMPLETED)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    return trainer.run([0], max_epochs=len(SCORES)).epoch


@pytest.mark.parametrize("patience", [1, 2, 3, 4, 5, 6])
def test_early_stopping_ends_where_ignites_own_does(patience: int) -> None:
    assert last_epoch(patience) == last_epoch_of_ignite(patience)


def test_early_stopping_is_off_by_default_and_survives_a_resume() -> None:
    assert last_epoch(0) == len(SCORES)
    assert last_epoch(3, start=6) == last_epoch(3) == 7
    with pytest.raises(BundleError, match="E_CONFIG"):
        EarlyStopping(SimpleNamespace(), -1)


def bundle_files(folder: Path) -> tuple[Path, Path]:
    (folder / "bundle" / "configs").mkdir(parents=True)
    (folder / "bundle" / "configs" / "train.yaml").write_text("seed: 3\n")
    datalist = folder / "datalist.json"
    datalist.write_text('{"training": []}')
    return folder / "bundle", datalist


def test_provenance_lists_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, datalist = bundle_files(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/monai", "run", "training", "--seed", "3"])

    def run(epochs: int, *, fails: bool = False) -> None:
        def step(engine: Engine, batch: int) -> None:
            if fails:
                raise ValueError("private detail")

        engine = Engine(step)
        Provenance(
            str(tmp_path / "run"), str(bundle), str(datalist), 3, torch.device("cpu"), {"lr": 0.1}
        ).attach(engine)
        engine.run([0, 1], max_epochs=epochs)

    run(2)
    with pytest.raises(ValueError, match="private"):
        run(4, fails=True)
    text = (tmp_path / "run" / "provenance.json").read_text()
    first, second = json.loads(text)["runs"]
    assert (first["state"], second["state"]) == ("done", "started")
    assert (first["last_epoch"], first["seed"], first["values"]) == (2, 3, {"lr": 0.1})
    assert first["command"] == ["monai", "run", "training", "--seed", "3"]
    assert first["differseg_med"] == __version__
    assert first["packages"]["torch"] == torch.__version__
    assert first["datalist"] == {"name": "datalist.json", "sha256": sha256([datalist])}
    assert set(first["configs_sha256"]) == {"train.yaml"}
    assert "private" not in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_the_time_left_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = []
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        engine = Engine(lambda engine, batch: [{"loss": 0.25}])
        Progress("training").attach(engine)
        engine.run(range(50), max_epochs=40)
        shown.append(stream.getvalue())
    assert shown[1] == ""
    assert "training" in shown[0]
    assert "loss=0.2500" in shown[0]
    last = shown[0].split("\r")[-1]
    assert "2000/2000" in last
    assert "<00:00" in last  # elapsed<left


def test_progress_of_a_resumed_run_counts_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    engine = Engine(lambda engine, batch: None)

    @engine.on(Events.STARTED)
    def resume(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = 3, 30

    Progress("training").attach(engine)
    engine.run(range(10), max_epochs=4)
    assert "30/40" in stream.getvalue()
    assert "40/40" in stream.getvalue().split("\r")[-1]
