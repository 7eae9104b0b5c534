"""Many cases through one network: the next is read and the last is written while it computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from differseg_med.engine._job import CaseOutcome, Job

__all__ = ["one_by_one", "pipelined"]


def one_by_one(jobs: Iterable[Job]) -> Iterator[CaseOutcome]:
    """Every stage of a case before the next case; least memory.

    Args:
        jobs: the cases.

    Yields:
        What became of each.
    """
    for job in jobs:
        try:
            yield _outcome(job.prepare().compute().write())
        finally:
            job.abandon()


def pipelined(jobs: Iterable[Job]) -> Iterator[CaseOutcome]:
    """Read the next case and write the last one while the network works on one.

    At most three cases are in memory: a case is read only when the one before it has reached the
    network, and reaches the network's end only when the one before it is written. The network
    stays in the calling thread.

    Args:
        jobs: the cases; made when they are needed.

    Yields:
        What became of each, in order.
    """
    under_way: list[Job] = []
    reader = ThreadPoolExecutor(1, thread_name_prefix="read")
    writer = ThreadPoolExecutor(1, thread_name_prefix="write")
    waiting = iter(jobs)

    def start() -> Future[Job] | None:
        job = next(waiting, None)
        if job is None:
            return None
        under_way.append(job)
        return reader.submit(job.prepare)

    try:
        following, writing = start(), None
        while following is not None:
            job = following.result()
            following = start()
            job.compute()
            if writing is not None:
                yield _finish(writing, under_way)
            writing = writer.submit(job.write)
        if writing is not None:
            yield _finish(writing, under_way)
    finally:
        for pool in (reader, writer):
            pool.shutdown(wait=True, cancel_futures=True)
        for job in under_way:  # after an interruption
            job.abandon()


def _finish(writing: Future[Job], under_way: list[Job]) -> CaseOutcome:
    job = writing.result()
    under_way.remove(job)
    return _outcome(job)


def _outcome(job: Job) -> CaseOutcome:
    if job.outcome is None:  # pragma: no cover
        raise AssertionError("the stages of a case ended without an outcome")
    return job.outcome
