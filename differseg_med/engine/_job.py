"""One case of a batch: its stages never raise, so that it cannot stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from differseg_med.engine._case import (
    CaseOptions,
    CaseRun,
    Prepared,
    record_failure,
)
from differseg_med.engine._outputs import Results
from differseg_med.engine._predict import Predictor
from differseg_med.engine._resume import results_stand
from differseg_med.engine._sources import StudySource
from differseg_med.engine._workspace import read_status, workspace
from differseg_med.errors import DifferSegError

__all__ = ["BatchSetup", "CaseOutcome", "Job"]

Loader = Callable[[], Predictor]


@dataclass(frozen=True)
class BatchSetup:
    """What all cases of a batch share; travels to other processes and machines.

    Attributes:
        load: makes the predictor; called once in each process.
        out: folder for all cases.
        options: how cases are read and written.
        bundle: identity of bundle and weights.
        resume: keep results that stand, and replace others.
    """

    load: Loader
    out: Path
    options: CaseOptions = field(default_factory=CaseOptions)
    bundle: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case of a batch.

    Attributes:
        case: its name.
        folder: where its results are.
        state: ``kept`` where results of an earlier run stand.
        status: content of ``status.json``, or what it would say where it could not be written.
    """

    case: str
    folder: Path
    state: Literal["done", "kept", "failed"]
    status: Mapping[str, Any]

    @property
    def code(self) -> str | None:
        """The code that ended the case; None where results stand."""
        return self.status["code"] if self.state == "failed" else None


class Job:
    """The stages of one case, each of which does nothing once the outcome is known.

    Args:
        source: the study.
        predictor: what computes the probability.
        setup: what all cases share.
    """

    def __init__(self, source: StudySource, predictor: Predictor, setup: BatchSetup) -> None:
        self.target = setup.out / source.case
        self.outcome: CaseOutcome | None = None
        read = setup.options.read
        choices = {**read.choices, **source.choices}
        options = replace(setup.options, case=source.case, read=replace(read, choices=choices))
        self._setup, self._error = setup, source.error
        self._run = CaseRun(source.study, predictor, options, setup.bundle)
        self._place = ExitStack()
        self._folder = Path()
        self._prepared: Prepared | None = None
        self._results: Results | None = None

    def prepare(self) -> Job:
        """Keep results that stand, or read the study."""
        return self._guarded(self._prepare)

    def compute(self) -> Job:
        """Run the network."""
        return self._guarded(self._compute)

    def write(self) -> Job:
        """Write the results and put them in place."""
        return self._guarded(self._write)

    def abandon(self) -> None:
        """Leave nothing behind where the outcome is not known."""
        if self.outcome is None:
            self._leave(KeyboardInterrupt())

    def _guarded(self, stage: Callable[[], None]) -> Job:
        if self.outcome is None:
            try:
                stage()
            except Exception as error:  # whatever it is, the other cases go on
                self._leave(error)
                self._fail(error)
        return self

    def _prepare(self) -> None:
        setup, run = self._setup, self._run
        if self._error is not None:
            raise self._error
        overwrite = setup.options.overwrite
        if setup.resume:
            if self._stands():
                return self._keep()
            overwrite = (read_status(self.target) or {}).get("state") == "done"
        self._folder = self._place.enter_context(workspace(self.target, overwrite=overwrite))
        self._prepared = run.prepare(self._folder.parent)
        return None

    def _compute(self) -> None:
        assert self._prepared is not None  # stages follow each other
        self._results = self._run.compute(self._prepared)

    def _write(self) -> None:
        assert self._prepared is not None
        assert self._results is not None
        status = self._run.write(self._prepared, self._results, self._folder)
        self._prepared = self._results = None
        if self._setup.resume and self._stands():  # another process was faster
            self._leave(KeyboardInterrupt())
            return self._keep()
        self._place.close()
        self.outcome = CaseOutcome(self._run.case, self.target, "done", status)
        return None

    def _stands(self) -> bool:
        return results_stand(self.target, self._run.key, self._run.digest)

    def _keep(self) -> None:
        status = read_status(self.target) or {}
        self.outcome = CaseOutcome(self._run.case, self.target, "kept", status)

    def _fail(self, error: Exception) -> None:
        taken = isinstance(error, DifferSegError) and error.code == "E_EXISTS"
        if taken and self._setup.resume and self._stands():
            return self._keep()
        run = self._run
        status = record_failure(run.identity(), self.target, error, run.timings.seconds)
        self.outcome = CaseOutcome(run.case, self.target, "failed", status)
        return None

    def _leave(self, error: BaseException) -> None:
        """Leave the workspace as after an error: nothing is put in place."""
        self._prepared = self._results = None
        place, self._place = self._place, ExitStack()
        place.__exit__(type(error), error, error.__traceback__)
