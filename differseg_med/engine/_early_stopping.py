"""Training ends early when validation has stopped to improve; off unless it is asked for."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events

from differseg_med.engine._checkpoints import Checkpoints
from differseg_med.errors import BundleError

__all__ = ["EarlyStopping"]

_log = logging.getLogger(__name__)


class EarlyStopping:
    """End training when the best validation is a number of epochs old.

    What was best, and when, is kept by `Checkpoints` and survives a resume, so a resumed run stops
    where an undisturbed one does. Attach it after `Checkpoints`, and in every process of a
    distributed run: all of them see the same validation and end together.

    Args:
        checkpoints: keeps the best validation.
        patience: epochs without a better validation after which training ends; 0 for never.
    """

    def __init__(self, checkpoints: Checkpoints, patience: int = 0) -> None:
        if patience < 0:
            raise BundleError("E_CONFIG", f"the patience of early stopping is {patience}")
        self.checkpoints, self.patience = checkpoints, patience

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self.patience:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._check)

    def _check(self, engine: Engine) -> None:
        best = self.checkpoints.best_epoch
        if best and engine.state.epoch - best >= self.patience:
            _log.info("stopped in epoch %d: the best was epoch %d", engine.state.epoch, best)
            engine.terminate()
