"""Best weights and a state to resume from, written atomically during training."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from ignite import distributed
from ignite.engine import Engine, Events
from torch.optim.swa_utils import AveragedModel

from differseg_med.errors import BundleError, OutputError

__all__ = ["Checkpoints"]

_log = logging.getLogger(__name__)


class Checkpoints:
    """Keep ``model.pt`` (best validation) and ``resume.pt`` (latest state) in one folder.

    Attach it to the trainer after the validation handler, in every process of a distributed run:
    all of them average and resume, the first one writes. ``model.pt`` holds the averaged weights
    that were validated. ``resume.pt`` holds network, average, optimiser, schedule, epoch, best
    metric and the states of Torch's generators; the random states inside MONAI's transforms are
    not part of it, so a resumed run draws other patches than an undisturbed one.

    Args:
        run_dir: folder for both files.
        network: the network that is trained.
        average: moving average of its weights; updated here after every step.
        optimizer: the optimiser.
        lr_scheduler: the schedule, stepped per iteration elsewhere.
        evaluator: validates; its key metric decides which weights are best.
        interval: epochs between two writes of ``resume.pt``.
        resume: whether to go on from ``resume.pt``.
    """

    def __init__(
        self,
        run_dir: str,
        network: torch.nn.Module,
        average: AveragedModel,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        evaluator: Any,
        interval: int = 1,
        resume: bool = False,
    ) -> None:
        self.folder = Path(run_dir)
        self.parts = {
            "network": network,
            "average": average,
            "optimizer": optimizer,
            "lr_scheduler": lr_scheduler,
        }
        self.network, self.average, self.evaluator = network, average, evaluator
        self.interval, self.resume = interval, resume
        self.best = float("-inf")
        self.best_epoch = 0
        self._seen = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._average)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._keep)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._save)
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _average(self, engine: Engine) -> None:
        self.average.update_parameters(self.network)

    def _start(self, engine: Engine) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError("E_WRITE", f"the run folder: {error.strerror}") from error
        if self.resume:
            self._load(engine)

    def _load(self, engine: Engine) -> None:
        path = self.folder / "resume.pt"
        if not path.is_file():
            raise BundleError(
                "E_WEIGHTS",
                "there is no resume.pt in the run folder",
                "Train first, or drop --resume.",
            )
        device = next(self.network.parameters()).device
        state = torch.load(path, map_location=device, weights_only=True)
        if state["max_epochs"] != engine.state.max_epochs:
            raise BundleError(
                "E_CONFIG",
                f"the run was planned for {state['max_epochs']} epochs and its learning rates "
                f"with it; max_epochs is now {engine.state.max_epochs}",
                "Resume with the same --max_epochs, or train anew in another --run_dir.",
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        if distributed.get_rank() == 0:  # the others keep the states that their seeds gave
            torch.set_rng_state(state["rng"].cpu())
        _log.info("resumed after epoch %d, best metric %.4f", state["epoch"], self.best)

    def _keep(self, engine: Engine) -> None:
        """Keep the averaged weights if the validation of this epoch was the best."""
        done = self.evaluator.state
        if done.iteration == 0 or engine.state.epoch == self._seen or not done.metrics:
            return
        name = done.key_metric_name
        value = float(done.metrics.get(name, float("nan")))
        if done.epoch == engine.state.epoch and value > self.best:
            self.best, self.best_epoch = value, engine.state.epoch
            self._write("model.pt", self.average.module.state_dict())
            _log.info("best %s so far: %.4f in epoch %d", name, value, self.best_epoch)
        self._seen = engine.state.epoch

    def _save(self, engine: Engine) -> None:
        state: dict[str, Any] = {n: part.state_dict() for n, part in self.parts.items()}
        state |= {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        state |= {"max_epochs": engine.state.max_epochs}
        state |= {"best": self.best, "best_epoch": self.best_epoch, "rng": torch.get_rng_state()}
        self._write("resume.pt", state)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        if distributed.get_rank() != 0:
            return
        target = self.folder / name
        part = target.with_suffix(".part")
        try:
            torch.save(content, part)
            os.replace(part, target)  # noqa: PTH105 - the name says that it is atomic
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise OutputError("E_WRITE", f"the checkpoint {name} could not be written") from error
