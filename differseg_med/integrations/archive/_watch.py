"""An unattended loop: studies that arrived whole are fetched, segmented, and their results stored.

Files on the disk are the truth, the database remembers. Each step makes its files appear at once
and is recorded after that; a step that is found done is not done again. So a process that dies at
any point goes on where it was, and an object that the archive has is never made a second time.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from differseg_med.bundle import find_bundle
from differseg_med.engine import ReadOptions
from differseg_med.errors import (
    BundleError,
    DifferSegError,
    OutputError,
    ServerError,
    UsageError,
)
from differseg_med.integrations.archive._archive import Archive
from differseg_med.integrations.archive._health import Health, serve
from differseg_med.integrations.archive._needs import Needs, needs_of
from differseg_med.integrations.archive._pull import case_of, fetch_study
from differseg_med.integrations.archive._push import push_files
from differseg_med.integrations.archive._server import Server
from differseg_med.integrations.archive._state import STABLE_POLLS, Row, State, open_state
from differseg_med.integrations.archive._talk import backoff_s, is_transient

__all__ = ["Event", "Segmenter", "WatchOptions", "watch"]

Segmenter = Callable[[Path, Path, str], object]
"""Segments a study (folder), writes ``OUT/CASE/`` (folder, name) and raises where it cannot."""

_FIRST_POSTPONE_S, _LONGEST_POSTPONE_S = 5.0, 900.0
_FIRST_POLL_WAIT_S, _LONGEST_POLL_WAIT_S = 5.0, 300.0
_HOPELESS = frozenset(("E_AUTH", "E_TLS"))
_MAKER = "differseg-med"
_DERIVED = "SEG"


@dataclass(frozen=True)
class WatchOptions:
    """What is watched and what is done.

    Attributes:
        server: the archive.
        bundle: name or folder of the bundle.
        out: folder for everything; ``studies/`` is emptied again, ``results/`` stays.
        state: the database.
        query: which studies, value by DICOM keyword.
        interval_s: seconds between polls.
        once: end when every study that was found is at its end.
        formats: what is written; those that are DICOM go to the archive. None for DICOM SEG, and a
            structured report where that can be written.
        port: port for health and metrics, None for none.
        attempts: how often a step of a study is tried where that may help.
        keep: keep fetched studies when their results are in the archive.
        read: how studies are read.
        weights: weights to use instead of the bundle's own.
        device: where the network runs.
        trust: run the configuration of a foreign bundle.
    """

    server: Server
    bundle: str
    out: Path
    state: Path
    query: Mapping[str, str] = field(default_factory=dict)
    interval_s: float = 60.0
    once: bool = False
    formats: tuple[str, ...] | None = None
    port: int | None = None
    attempts: int = 8
    keep: bool = False
    read: ReadOptions = field(default_factory=ReadOptions)
    weights: Path | None = None
    device: str = "cpu"
    trust: bool = False

    def __post_init__(self) -> None:
        if self.interval_s <= 0 or self.attempts < 1:
            raise UsageError("E_OPTION", "--interval is above 0 and there is at least one attempt")


@dataclass(frozen=True)
class Event:
    """Something happened to a study.

    Attributes:
        case: name of its case.
        state: the state that it reached, or ``postponed``.
        code: why, where something went wrong.
        detail: the error's own words.
    """

    case: str
    state: str
    code: str | None = None
    detail: str | None = None


def watch(
    options: WatchOptions,
    *,
    segment: Segmenter | None = None,
    report: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> dict[str, int]:
    """Segment every study that arrives in an archive and store the results there.

    Args:
        options: what is watched and what is done.
        segment: does the segmentation; by default the bundle.
        report: is told of every step.
        stop: ends the watch after the study at hand when it is set; by default SIGTERM and SIGINT
            set it.

    Returns:
        Number of studies by state.

    Raises:
        UsageError: a wrong call.
        ServerError: ``E_AUTH`` or ``E_TLS``, which no waiting heals; with `once` also when the
            archive cannot be reached.
        OutputError: ``E_WRITE`` when the state cannot be recorded.
    """
    if stop is None:
        with _ended_by_signals() as event:
            return watch(options, segment=segment, report=report, stop=event)
    needs = needs_of(options.bundle, options.read.rules)
    segment = segment or _by_bundle(options)
    with open_state(options.state) as state, Archive(options.server, stop.wait) as archive:
        health = Health()
        with serve(health, options.port):
            loop = _Watch(options, archive, state, needs, segment, health, report, stop)
            loop.tidy()
            loop.run()
        return state.counts()


class _Watch:
    """The loop and its steps."""

    def __init__(
        self,
        options: WatchOptions,
        archive: Archive,
        state: State,
        needs: Needs,
        segment: Segmenter,
        health: Health,
        report: Callable[[Event], None],
        stop: threading.Event,
    ) -> None:
        self.options, self.archive, self.state, self.needs = options, archive, state, needs
        self.segment, self.health, self.report, self.stop = segment, health, report, stop
        self.studies, self.results = options.out / "studies", options.out / "results"
        self.listed: dict[str, str] = {}
        self.model = find_bundle(options.bundle).name

    def tidy(self) -> None:
        """Remove what a process that died left half done; no one else writes there."""
        for leftover in self.results.glob(".study-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def run(self) -> None:
        """Poll and work until told to stop, or, once, until nothing is left to do."""
        failures = 0
        while not self.stop.is_set():
            try:
                self.poll()
                failures = 0
            except ServerError as error:
                failures += 1
                self._poll_failed(error)
            if not failures:
                self.work()
                if self.options.once and not self._unfinished():
                    return
            self.health.doing("waiting")
            self.stop.wait(self._pause_s(failures))

    def poll(self) -> None:
        """Ask the archive which studies there are and how large they are."""
        self.health.doing("polling")
        listed = {}
        for study in self.archive.studies(self.options.query):
            name = case_of(study.uid)
            listed[name] = study.uid
            known = self.state.get(name)
            self.state.notice(name, study.size or self._size(study.uid))
            if known is None:
                self.report(Event(name, "new"))
        self.listed = listed
        self.health.polled()
        self.health.counted(self.state.counts())

    def work(self) -> None:
        """Bring every study that is ready as far as it goes."""
        for row in self.state.waiting():
            if self.stop.is_set():
                return
            if self._is_ready(row):
                self._advance(row)
                self.health.counted(self.state.counts())

    def _unfinished(self) -> bool:
        """Whether a study that can still go on is left; new ones that are gone cannot."""
        return any(row.state != "new" or row.name in self.listed for row in self.state.waiting())

    def _is_ready(self, row: Row) -> bool:
        if row.not_before > time.time():
            return False
        if row.state != "new":
            return True
        return row.name in self.listed and row.unchanged >= STABLE_POLLS

    def _advance(self, row: Row) -> None:
        """Take a study through its remaining steps; what goes wrong with it is its own affair."""
        name, current = row.name, row.state
        try:
            while current in _STEPS:
                self.health.doing(f"{name}: {current}")
                start = time.perf_counter()
                current, code = _STEPS[current](self, name)
                seconds = round(time.perf_counter() - start, 3)
                self.state.reach(name, current, code=code, seconds=seconds)
                self.health.done(current, seconds)
                self.report(Event(name, current, code))
        except DifferSegError as error:
            if error.code in _HOPELESS or isinstance(error, (UsageError, BundleError)):
                raise  # it would be the same with every other study
            self._failed(name, error)
        except Exception as error:  # one study never ends the watch
            self._end(name, "failed", "E_INTERNAL", type(error).__name__)

    def fetch(self, name: str) -> tuple[str, str | None]:
        """New: fetch, unless results are here or in the archive."""
        if self._results_of(name):
            return "segmented", None
        study = self.listed.get(name)
        if study is None:
            raise ServerError("E_QUERY", "the archive no longer lists the study")
        if self._has_own_result(study):
            return "pushed", None
        fetch_study(self.archive, study, self.needs, self.studies)
        return "pulled", None

    def compute(self, name: str) -> tuple[str, str | None]:
        """Fetched: segment, unless that was done."""
        if not self._results_of(name):
            if not (self.studies / name).is_dir():
                return "new", None  # somebody took it away
            self.segment(self.studies / name, self.results, name)
            if not self._results_of(name):
                raise OutputError("E_READBACK", "the case has no DICOM result")
        return "segmented", None

    def store(self, name: str) -> tuple[str, str | None]:
        """Segmented: store what is DICOM, then let go of the study."""
        files = self._results_of(name)
        if not files:
            return "new", None
        failed = push_files(self.archive, files).failed
        if failed and failed[0].error is not None:
            raise failed[0].error
        if not self.options.keep:
            shutil.rmtree(self.studies / name, ignore_errors=True)
        return "pushed", None

    def _failed(self, name: str, error: DifferSegError) -> None:
        """Try again later where that may help, and note the failure where not."""
        row = self.state.get(name)
        again = is_transient(error) or error.code == "E_WRITE"
        if error.code == "E_MISSING_MODALITY" and row is not None and row.state == "new":
            self._end(name, "skipped", error.code, error.detail)
        elif again and row is not None and row.failures + 1 < self.options.attempts:
            self._postpone(row, error)
        else:
            self._end(name, "failed", error.code, error.detail)

    def _postpone(self, row: Row, error: DifferSegError) -> None:
        """Back to the queue; a study that changed while it was read has to settle first."""
        wait = backoff_s(row.failures + 1, first=_FIRST_POSTPONE_S, longest=_LONGEST_POSTPONE_S)
        growing = error.code == "E_TRANSFER"
        self.state.postpone(
            row.name, error.code, 0.0 if growing else time.time() + wait, unsettled=growing
        )
        self.health.failed(error.code)
        self.report(Event(row.name, "postponed", error.code, error.detail))

    def _end(self, name: str, state: str, code: str, detail: str) -> None:
        self.state.reach(name, state, code=code)
        if state == "failed":
            self.health.failed(code)
        self.report(Event(name, state, code, detail))

    def _poll_failed(self, error: ServerError) -> None:
        self.health.polled(error.code)
        if self.options.once or not is_transient(error):
            raise error
        self.report(Event("-", "archive is down", error.code, error.detail))

    def _pause_s(self, failures: int) -> float:
        if failures:
            return backoff_s(failures, first=_FIRST_POLL_WAIT_S, longest=_LONGEST_POLL_WAIT_S)
        return self.options.interval_s

    def _size(self, study: str) -> str:
        """How large a study is where the list does not say."""
        series = self.archive.series(study)
        return "/".join(sorted(str(len(self.archive.instances(study, s.uid))) for s in series))

    def _results_of(self, name: str) -> list[Path]:
        """DICOM results that stand complete on the disk."""
        folder = self.results / name
        try:
            status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return sorted(folder.glob("*.dcm")) if status.get("state") == "done" else []

    def _has_own_result(self, study: str) -> bool:
        """Whether the archive has a segmentation by this bundle, made by another watch or hand."""
        made = (
            self.archive.makers(study, series.uid)
            for series in self.archive.series(study)
            if series.modality == _DERIVED
        )
        return any((_MAKER, self.model) in makers for makers in made)


_STEPS: Mapping[str, Callable[[_Watch, str], tuple[str, str | None]]] = {
    "new": _Watch.fetch,
    "pulled": _Watch.compute,
    "segmented": _Watch.store,
}


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the process as usual."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    if threading.current_thread() is threading.main_thread():
        for one in (signal.SIGTERM, signal.SIGINT):
            before[one] = signal.signal(one, end)
    try:
        yield stop
    finally:
        restore()


def _by_bundle(options: WatchOptions) -> Segmenter:
    """Segments with the bundle; formats, weights and trust are checked before anything is done."""
    from differseg_med.bundle import load_predictor, segment
    from differseg_med.engine import FORMATS, CaseOptions

    formats = options.formats or tuple(name for name in ("seg", "sr") if name in FORMATS)
    if "seg" not in formats:
        raise UsageError("E_OPTION", "--formats of a watch needs seg, which goes to the archive")
    CaseOptions(formats=formats)
    predictor = load_predictor(
        find_bundle(options.bundle), options.weights, options.device, trust=options.trust
    )

    def run(study: Path, out: Path, name: str) -> object:
        case = CaseOptions(formats=formats, read=options.read, case=name)
        return segment(
            study,
            options.bundle,
            out,
            case,
            weights=options.weights,
            device=options.device,
            trust=options.trust,
            predictor=predictor,
        )

    return run
