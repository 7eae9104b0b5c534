"""Cases that may take their process with them, in a process that may go."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection

from differseg_med.engine._case import identify, record_failure
from differseg_med.engine._job import BatchSetup, CaseOutcome, Job
from differseg_med.engine._process import interrupt_on_termination
from differseg_med.engine._sources import StudySource
from differseg_med.engine._workspace import abandoned
from differseg_med.errors import ModelError

__all__ = ["isolated", "record_crash"]

_PATIENCE_S = 30.0
"""So long the helper gets to leave once it was told to."""


def isolated(sources: Iterable[StudySource], setup: BatchSetup) -> Iterator[CaseOutcome]:
    """Cases one after the other in a helper process; one that kills it is recorded.

    Args:
        sources: the studies.
        setup: what all cases share; must be picklable.

    Yields:
        What became of each, in order.

    Raises:
        ModelError: ``E_INTERNAL`` when the helper cannot start.
    """
    helper = None
    try:
        for source in sources:
            helper = helper or _Helper(setup)
            outcome = helper.work_on(source)
            if outcome is None:
                detail = f"a process of its own ended with {helper.ending()}"
                outcome = record_crash(source.case, setup, detail)
                helper = None
            yield outcome
    finally:
        if helper is not None:
            helper.stop()


def record_crash(case: str, setup: BatchSetup, detail: str) -> CaseOutcome:
    """Record that a process ended while it worked on a case.

    Args:
        case: name of the case.
        setup: what all cases share.
        detail: how it ended.
    """
    target = setup.out / case
    abandoned(setup.out, case)
    error = ModelError("E_CRASH", detail)
    identity = identify(case, setup.bundle)
    return CaseOutcome(case, target, "failed", record_failure(identity, target, error, {}))


class _Helper:
    """A process that works on the cases that it is sent."""

    def __init__(self, setup: BatchSetup) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, setup), daemon=True)
        self._process.start()
        other.close()
        if self._answer() != "ready":
            raise ModelError("E_INTERNAL", f"a helper process ended with {self.ending()}")

    def work_on(self, source: StudySource) -> CaseOutcome | None:
        """What became of a case; None where the process died of it."""
        self._line.send(source)
        answer = self._answer()
        return answer if isinstance(answer, CaseOutcome) else None

    def ending(self) -> str:
        """How the process ended."""
        self._process.join(_PATIENCE_S)
        status = self._process.exitcode
        if status is not None and status < 0:
            return f"signal {signal.Signals(-status).name}"
        return f"exit status {status}"

    def stop(self) -> None:
        """End the process, which clears away what it was working on."""
        self._line.close()
        self._process.terminate()
        self._process.join(_PATIENCE_S)

    def _answer(self) -> object:
        try:
            return self._line.recv()
        except (EOFError, ConnectionError):
            return None


def _serve(line: Connection, setup: BatchSetup) -> None:
    """The helper's side: answer every study with its outcome until there are no more."""
    try:
        with interrupt_on_termination():
            predictor = setup.load()
            line.send("ready")
            while True:
                job = Job(line.recv(), predictor, setup)
                try:
                    line.send(job.prepare().compute().write().outcome)
                finally:
                    job.abandon()
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return  # the batch has ended, or was told to
