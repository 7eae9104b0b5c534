"""Cases spread over processes and machines by Ray; a worker that dies costs no case."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from differseg_med._imports import require
from differseg_med.engine._isolated import record_crash
from differseg_med.engine._job import BatchSetup, CaseOutcome, Job
from differseg_med.engine._sources import StudySource
from differseg_med.errors import ModelError

__all__ = ["spread"]

_DEATHS = 2
"""A case at whose hands so many workers died is not given to another one."""

_STORE_BYTES = 80 << 20
"""Ray's shared memory, which only studies' paths and outcomes go through."""


def spread(
    sources: Sequence[StudySource],
    setup: BatchSetup,
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[CaseOutcome]:
    """Segment studies on the workers of a Ray cluster, each of which loads the predictor once.

    A worker works on one case at a time. When it dies its case goes to another one, which first
    looks whether results stand already; a case at whose hands two workers died is `E_CRASH`.

    Args:
        sources: the studies; their paths must be the same on every machine.
        setup: what all cases share; must be picklable.
        workers: number of workers; None for one per processor of the cluster, or per GPU where
            the bundle runs on one.
        address: a running cluster; None starts one on this machine.

    Yields:
        What became of each, as soon as it is known.
    """
    if not sources:
        return
    setup = replace(setup, out=setup.out.absolute())  # workers may run in another folder
    sources = [replace(source, study=source.study.absolute()) for source in sources]
    ray = require("ray", extra="ray")
    with _cluster(ray, address, workers):
        gpus = int(str(setup.bundle.get("device", "cpu")).startswith("cuda"))
        room = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1))
        count = max(1, min(workers or room, len(sources)))
        actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Worker)
        yield from _Crew(ray, actor, setup, count).work_off(sources)


class _Worker:
    """One process of the cluster."""

    def __init__(self, setup: BatchSetup) -> None:
        self.setup = setup
        self.predictor = setup.load()

    def is_ready(self) -> bool:
        """Whether the predictor is loaded; an error in that comes up here."""
        return True

    def work_on(self, source: StudySource, again: bool) -> CaseOutcome:
        """What becomes of a case; `again` where a worker died of it, perhaps after it was done."""
        setup = self.setup
        if again:
            setup = replace(setup, options=replace(setup.options, overwrite=False), resume=True)
        job = Job(source, self.predictor, setup)
        try:
            outcome = job.prepare().compute().write().outcome
        finally:
            job.abandon()
        assert outcome is not None  # the last stage always knows
        return outcome


class _Crew:
    """Workers and what each of them is doing."""

    def __init__(self, ray: Any, actor: Any, setup: BatchSetup, count: int) -> None:
        self._ray, self._actor, self._setup, self._count = ray, actor, setup, count
        self._tasks: dict[Any, tuple[Any, StudySource]] = {}
        self._deaths: dict[str, int] = {}

    def work_off(self, sources: Sequence[StudySource]) -> Iterator[CaseOutcome]:
        """Give cases to workers until none is left."""
        waiting = deque(sources)
        idle = [self._actor.remote(self._setup) for _ in range(self._count)]
        try:
            self._ray.get([worker.is_ready.remote() for worker in idle])
        except self._ray.exceptions.RayError as error:
            raise ModelError("E_INTERNAL", "a worker of the cluster could not start") from error
        while waiting or self._tasks:
            while idle and waiting:
                self._give(idle.pop(), waiting.popleft())
            (ready,), _ = self._ray.wait(list(self._tasks), num_returns=1)
            worker, source = self._tasks.pop(ready)
            try:
                outcome = self._ray.get(ready)
            except self._ray.exceptions.RayActorError:
                idle.append(self._actor.remote(self._setup))
                outcome = self._bury(source, waiting)
            else:
                idle.append(worker)
            if outcome is not None:
                yield outcome

    def _give(self, worker: Any, source: StudySource) -> None:
        again = source.case in self._deaths
        self._tasks[worker.work_on.remote(source, again)] = worker, source

    def _bury(self, source: StudySource, waiting: deque[StudySource]) -> CaseOutcome | None:
        """A worker died: its case comes last, or is recorded as what kills workers."""
        self._deaths[source.case] = self._deaths.get(source.case, 0) + 1
        if self._deaths[source.case] < _DEATHS:
            waiting.append(source)
            return None
        return record_crash(source.case, self._setup, f"{_DEATHS} workers died working on it")


@contextmanager
def _cluster(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    """Join a cluster, or start one on this machine; an open connection is used and stays."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_worker_niceness", "0")  # they do all the work: 15 would starve them
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {
            "num_cpus": workers,
            "object_store_memory": _STORE_BYTES,
            "include_dashboard": False,
        }
    ray.init(address=address, **options)
    try:
        yield
    finally:
        ray.shutdown()
