"""Many studies in, one folder of results for each: none stops the others, each is done once."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from differseg_med.engine._isolated import isolated, record_crash
from differseg_med.engine._job import BatchSetup, CaseOutcome, Job
from differseg_med.engine._pipeline import one_by_one, pipelined
from differseg_med.engine._sources import Part, StudySource, check_unique
from differseg_med.engine._workspace import abandoned, read_status
from differseg_med.errors import OutputError, UsageError

__all__ = ["BatchOptions", "Engine", "segment_cases"]

Engine = Literal["pipeline", "serial", "ray"]


@dataclass(frozen=True)
class BatchOptions:
    """How many cases are worked on.

    Attributes:
        resume: keep results that stand and run the rest, whatever stands there.
        part: the share of the cases that this run takes.
        engine: ``pipeline`` reads the next case while the network works, ``serial`` needs least
            memory, ``ray`` spreads cases over processes and machines.
        workers: processes of ``ray``; None for as many as its cluster has room for.
        ray_address: a running cluster; None starts one on this machine.

    Raises:
        UsageError: ``E_OPTION`` for an engine that does not exist.
    """

    resume: bool = False
    part: Part = field(default_factory=Part)
    engine: Engine = "pipeline"
    workers: int | None = None
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("pipeline", "serial", "ray"):
            raise UsageError("E_OPTION", f"engines are pipeline, serial, ray; got {self.engine!r}")
        if self.engine != "ray" and (self.workers or self.ray_address):
            raise UsageError("E_OPTION", "workers and a Ray address need --engine ray")
        if self.workers is not None and self.workers < 1:
            raise UsageError("E_OPTION", f"at least one worker is needed, got {self.workers}")


def segment_cases(
    sources: Iterable[StudySource], setup: BatchSetup, options: BatchOptions | None = None
) -> Generator[CaseOutcome, None, None]:
    """Segment studies and write the results of each as ``OUT/CASE/``.

    A case that fails leaves a record with its code and never stops the others. A case that was
    being worked on when a process was killed comes last, in a process of its own: if it takes that
    one with it, it is recorded as ``E_CRASH``, and the batch goes on.

    Args:
        sources: the studies.
        setup: what all cases share.
        options: how they are worked on.

    Yields:
        What became of each case of this part.

    Raises:
        UsageError: ``E_OPTION`` for two studies of one name, or options that exclude each other.
        OutputError: ``E_WRITE`` when nothing can be written at all.
    """
    options, sources = options or BatchOptions(), list(sources)
    if options.resume and setup.options.overwrite:
        raise UsageError("E_OPTION", "--resume and --overwrite exclude each other")
    check_unique(sources)
    setup = BatchSetup(setup.load, setup.out, setup.options, setup.bundle, options.resume)
    _make_folder(setup.out)
    mine = [source for source in sources if options.part.holds(source.case)]
    return _outcomes(mine, setup, options)


def _outcomes(
    sources: list[StudySource], setup: BatchSetup, options: BatchOptions
) -> Generator[CaseOutcome, None, None]:
    crashed = abandoned(setup.out)
    for case in crashed:
        record_crash(case, setup, "the process ended while it worked on the case")
    if options.engine == "ray":
        from differseg_med.engine._ray import spread

        yield from spread(sources, setup, options.workers, options.ray_address)
        return
    suspects = {s.case for s in sources if s.case in crashed or _has_crashed(setup.out / s.case)}
    calm = [source for source in sources if source.case not in suspects]
    if calm:
        predictor = setup.load()
        run = pipelined if options.engine == "pipeline" else one_by_one
        yield from run(Job(source, predictor, setup) for source in calm)
    yield from isolated((s for s in sources if s.case in suspects), setup)


def _has_crashed(folder: Path) -> bool:
    return (read_status(folder) or {}).get("code") == "E_CRASH"


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "E_WRITE", f"the output folder cannot be used: {error.strerror}"
        ) from error
