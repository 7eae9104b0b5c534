"""Progress with an estimate of the time left, on stderr, only where a person looks at it."""

from __future__ import annotations

import sys
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """One bar over all iterations of a run, with the latest loss or metric beside it.

    Args:
        label: what is going on.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._bar: Any = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or an evaluator."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _open(self, engine: Engine) -> None:
        state = engine.state
        total = (state.epoch_length or 0) * (state.max_epochs or 1)
        self._bar = tqdm(
            total=total,
            initial=state.iteration,
            desc=self.label,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def _step(self, engine: Engine) -> None:
        output = engine.state.output
        first = output[0] if isinstance(output, list) and output else output
        if isinstance(first, dict) and "loss" in first:
            self._bar.set_postfix(loss=f"{float(first['loss']):.4f}", epoch=engine.state.epoch)
        self._bar.update()

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error
