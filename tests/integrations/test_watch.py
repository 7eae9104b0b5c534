"""The watch against a real archive: every study segmented once, whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pydicom
import pytest
import requests
from archive_server import (
    Fault,
    Orthanc,
    Proxy,
    files_of,
    free_port,
    write_tiny_study,
)
from small_watch import die_after, options, segment_by_threshold

from differseg_med import io
from differseg_med.errors import OutputError, ServerError, StudyError, UsageError
from differseg_med.integrations.archive import Event, case_of, pull, push, watch
from differseg_med.integrations.archive._health import Health, serve

pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.timeout(600),
    # the forked watch shares no lock with what may run in another thread here
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def run(url: str, out: Path, segment=segment_by_threshold, **changes) -> dict[str, int]:
    counts = watch(options(url, out, **changes), segment=segment, stop=threading.Event())
    return {state: number for state, number in counts.items() if number}


def steps_of(out: Path, name: str) -> list[str]:
    with sqlite3.connect(out / "watch.sqlite") as connection:
        found = connection.execute("SELECT state FROM steps WHERE name=? ORDER BY number", (name,))
        states = [state for (state,) in found]
    connection.close()
    return states


def add_studies(orthanc: Orthanc, folder: Path, number: int) -> list[str]:
    uids = [write_tiny_study(folder / f"s{n}", n, ("pet",)) for n in range(number)]
    orthanc.add(*(file for n in range(number) for file in files_of(folder / f"s{n}")))
    return uids


class Dying:
    """A watch in a process of its own, which may be killed; forked, so that it starts at once."""

    def __init__(self, url: str, out: Path, points: int | None = None) -> None:
        _ = io.write_seg, io.to_volume, io.read_study, requests  # imported once, before the fork
        fork = multiprocessing.get_context("fork")
        self.counts = out / "counts.json"
        self.process = fork.Process(target=self.work, args=(url, out, points), daemon=True)
        self.process.start()

    def work(self, url: str, out: Path, points: int | None) -> None:
        if points is not None:
            die_after(points)
        counts = watch(options(url, out), segment=segment_by_threshold)
        self.counts.write_text(json.dumps(counts), encoding="utf-8")

    def end(self) -> int:
        self.process.join(100)
        assert self.process.exitcode is not None
        return self.process.exitcode


def test_every_study_gets_one_segmentation_and_keeps_it(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    uids = add_studies(orthanc, tmp_path, 3)
    assert run(orthanc.url, tiny_out) == {"pushed": 3}
    assert [orthanc.count("SEG", uid) for uid in uids] == [1, 1, 1]
    name = case_of(uids[0])
    assert steps_of(tiny_out, name) == ["new", "pulled", "segmented", "pushed"]
    assert list((tiny_out / "studies").iterdir()) == []
    assert (tiny_out / "results" / name / "mask.dcm").is_file()
    assert run(orthanc.url, tiny_out) == {"pushed": 3}
    assert orthanc.count("SEG") == 3
    found = list(
        pull(options(orthanc.url, tiny_out).server, {"ModalitiesInStudy": "SEG"}, tmp_path)
    )
    assert {study.study_uid for study in found} == set(uids)


def test_record_holds_no_uid_and_is_private(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    (uid,) = add_studies(orthanc, tmp_path, 1)
    run(orthanc.url, tiny_out)
    database = tiny_out / "watch.sqlite"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    for path in tiny_out.glob("watch.sqlite*"):
        content = path.read_bytes()
        assert uid.encode() not in content
        assert b"PHANTOM" not in content


@pytest.mark.parametrize("lost", ["state", "state and results"])
def test_lost_state_makes_no_second_segmentation(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path, lost: str
) -> None:
    add_studies(orthanc, tmp_path, 1)
    run(orthanc.url, tiny_out)
    for path in tiny_out.glob("watch.sqlite*"):
        path.unlink()
    out = tiny_out if lost == "state" else tmp_path / "elsewhere"
    assert run(orthanc.url, out) == {"pushed": 1}
    assert orthanc.count("SEG") == 1


def test_segmentation_by_somebody_else_does_not_count(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    add_studies(orthanc, tmp_path, 1)
    run(orthanc.url, tiny_out)
    (mine,) = files_of(tiny_out / "results")
    orthanc.clear()
    orthanc.add(*files_of(tmp_path / "s0"))
    dataset = pydicom.dcmread(mine)
    dataset.ManufacturerModelName = "another"
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "2.25.71", "2.25.72"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.72"
    dataset.save_as(tmp_path / "other.dcm")
    orthanc.add(tmp_path / "other.dcm")
    assert run(orthanc.url, tmp_path / "elsewhere") == {"pushed": 1}
    assert orthanc.count("SEG") == 2


def test_study_that_is_still_being_sent_waits(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    write_tiny_study(tmp_path / "s0", 0, ("pet",), slices=8)
    files = files_of(tmp_path / "s0")
    orthanc.add(*files[:2])
    seen: list[int] = []

    def segment(study: Path, out: Path, name: str) -> None:
        seen.append(len(files_of(study)))
        segment_by_threshold(study, out, name)

    sender = threading.Thread(
        target=lambda: [(time.sleep(0.15), orthanc.add(file)) for file in files[2:]]
    )
    sender.start()
    assert run(orthanc.url, tiny_out, segment, interval_s=0.6) == {"pushed": 1}
    sender.join()
    assert seen == [8]


def test_study_that_grows_while_it_is_read_settles_first(
    proxy: Proxy, orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    uid = write_tiny_study(tmp_path / "s0", 0, ("pet",), slices=6)
    *early, late = files_of(tmp_path / "s0")
    orthanc.add(*early)
    proxy.faults = [Fault("GET", r"/series/[0-9.]+$", before=lambda: orthanc.add(late))]
    assert run(proxy.url, tiny_out) == {"pushed": 1}
    assert steps_of(tiny_out, case_of(uid)) == ["new", "postponed", "pulled", "segmented", "pushed"]


def test_study_that_lacks_a_modality_is_skipped_until_it_comes(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    write_tiny_study(tmp_path / "s0", 0, ("pet", "ct"))
    orthanc.add(*files_of(tmp_path / "s0" / "ct"))
    assert run(orthanc.url, tiny_out) == {"skipped": 1}
    orthanc.add(*files_of(tmp_path / "s0" / "pet"))
    assert run(orthanc.url, tiny_out) == {"pushed": 1}


def test_study_that_is_refused_fails_with_its_code_and_stops_no_other(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    uids = add_studies(orthanc, tmp_path, 2)
    happened: list[Event] = []

    def segment(study: Path, out: Path, name: str) -> None:
        if name == case_of(uids[0]):
            raise StudyError("E_GAP", "a slice is missing")
        segment_by_threshold(study, out, name)

    counts = watch(
        options(orthanc.url, tiny_out),
        segment=segment,
        report=happened.append,
        stop=threading.Event(),
    )
    assert (counts["pushed"], counts["failed"]) == (1, 1)
    (failed,) = (event for event in happened if event.state == "failed")
    assert (failed.case, failed.code) == (case_of(uids[0]), "E_GAP")
    for event in happened:
        assert not any(uid in repr(event) for uid in uids)


def test_unexpected_error_shows_no_detail(orthanc: Orthanc, tmp_path: Path, tiny_out: Path) -> None:
    add_studies(orthanc, tmp_path, 1)
    happened: list[Event] = []

    def segment(study: Path, out: Path, name: str) -> None:
        raise RuntimeError("Canary^Patient")

    watch(options(orthanc.url, tiny_out), segment=segment, report=happened.append)
    assert happened[-1].code == "E_INTERNAL"
    assert "Canary" not in repr(happened)


def test_step_that_failed_for_now_is_taken_again(
    proxy: Proxy,
    orthanc: Orthanc,
    tmp_path: Path,
    tiny_out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("differseg_med.integrations.archive._watch._FIRST_POSTPONE_S", 0.05)
    (uid,) = add_studies(orthanc, tmp_path, 1)
    proxy.faults = [
        Fault("GET", r"/series/[0-9.]+$", 500, times=3),
        Fault("POST", "/studies", 503, times=3),
    ]
    assert run(proxy.url, tiny_out) == {"pushed": 1}
    assert orthanc.count("SEG", uid) == 1
    assert steps_of(tiny_out, case_of(uid)).count("postponed") == 2


def test_full_disk_is_waited_for(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("differseg_med.integrations.archive._watch._FIRST_POSTPONE_S", 0.05)
    (uid,) = add_studies(orthanc, tmp_path, 1)
    full = [True, True]

    def segment(study: Path, out: Path, name: str) -> None:
        if full:
            full.pop()
            raise OutputError("E_WRITE", "No space left on device")
        segment_by_threshold(study, out, name)

    assert run(orthanc.url, tiny_out, segment) == {"pushed": 1}
    assert steps_of(tiny_out, case_of(uid)).count("postponed") == 2


def test_step_that_never_succeeds_fails_at_last(
    proxy: Proxy,
    orthanc: Orthanc,
    tmp_path: Path,
    tiny_out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("differseg_med.integrations.archive._watch._FIRST_POSTPONE_S", 0.01)
    add_studies(orthanc, tmp_path, 1)
    proxy.faults = [Fault("POST", "/studies", 500, times=999)]
    assert run(proxy.url, tiny_out, attempts=3) == {"failed": 1}
    proxy.faults = []
    assert run(proxy.url, tiny_out) == {"failed": 1}  # until the study changes


def test_archive_that_is_down_costs_no_study_an_attempt(
    proxy: Proxy,
    orthanc: Orthanc,
    tmp_path: Path,
    tiny_out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("differseg_med.integrations.archive._watch._FIRST_POLL_WAIT_S", 0.02)
    (uid,) = add_studies(orthanc, tmp_path, 1)
    proxy.faults = [Fault("GET", "/studies", "drop", times=7)]
    stop, happened = threading.Event(), []

    def report(event: Event) -> None:
        happened.append(event)
        if event.state == "pushed":
            stop.set()

    watch(
        options(proxy.url, tiny_out, once=False),
        segment=segment_by_threshold,
        report=report,
        stop=stop,
    )
    assert [event.state for event in happened[:3]] == ["archive is down"] * 3
    assert steps_of(tiny_out, case_of(uid)) == ["new", "pulled", "segmented", "pushed"]
    proxy.faults = [Fault("GET", "/studies", "drop", times=99)]
    with pytest.raises(ServerError, match="E_SERVER"):  # once: somebody waits for the answer
        run(proxy.url, tiny_out)


def test_wrong_password_ends_the_watch(
    orthanc: Orthanc, tiny_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFERSEG_DICOMWEB_PASSWORD", "wrong")
    with pytest.raises(ServerError, match="E_AUTH"):
        run(orthanc.url, tiny_out, once=False)


def test_two_watches_do_not_share_a_state(orthanc: Orthanc, tmp_path: Path, tiny_out: Path) -> None:
    add_studies(orthanc, tmp_path, 1)
    refused: list[str] = []

    def segment(study: Path, out: Path, name: str) -> None:
        with pytest.raises(UsageError) as caught:
            run(orthanc.url, tiny_out)
        refused.append(caught.value.code)
        segment_by_threshold(study, out, name)

    assert run(orthanc.url, tiny_out, segment) == {"pushed": 1}
    assert refused == ["E_OPTION"]


def test_health_and_metrics_tell_how_it_is_doing(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    add_studies(orthanc, tmp_path, 1)
    stop, pages = threading.Event(), {}

    def report(event: Event) -> None:
        if event.state == "segmented":
            for page in ("health", "metrics", "other"):
                pages[page] = requests.get(f"http://127.0.0.1:{port}/{page}", timeout=5)
            stop.set()

    port = free_port()
    watch(
        options(orthanc.url, tiny_out, once=False, port=port),
        segment=segment_by_threshold,
        report=report,
        stop=stop,
    )
    assert [pages[page].status_code for page in pages] == [200, 200, 404]
    health = json.loads(pages["health"].text)
    assert (health["status"], health["archive"]) == ("ok", "up")
    assert health["studies"]["new"] == 1
    lines = pages["metrics"].text.splitlines()
    assert 'differseg_watch_studies{state="new"} 1.0' in lines
    assert 'differseg_watch_step_seconds_count{step="pulled"} 1.0' in lines
    assert "differseg_watch_archive_up 1.0" in lines


def test_health_says_when_the_archive_is_down() -> None:
    health = Health()
    with serve(health, 0) as port:
        health.polled("E_SERVER")
        answer = requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
        with pytest.raises(UsageError, match="E_OPTION"), serve(health, port):
            pass
    assert answer.status_code == 503
    assert answer.json()["last_error"]["code"] == "E_SERVER"
    with serve(health, None) as none:
        assert none is None


def test_killed_between_steps_it_goes_on_where_it_was(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    uids = add_studies(orthanc, tmp_path, 2)
    rng = random.Random(7)
    ends = [Dying(orthanc.url, tiny_out, rng.randrange(25)).end() for _ in range(5)]
    assert ends.count(-signal.SIGKILL) >= 3
    last = Dying(orthanc.url, tiny_out)
    assert last.end() == 0
    assert json.loads(last.counts.read_text())["pushed"] == 2
    assert [orthanc.count("SEG", uid) for uid in uids] == [1, 1]
    report = push(options(orthanc.url, tiny_out).server, [tiny_out / "results"])
    assert [file.state for file in report.files] == ["present", "present"]
    assert not list(tiny_out.rglob(".study-*"))


@pytest.mark.slow
def test_killed_at_every_point_there_is_one_segmentation(orthanc: Orthanc, tmp_path: Path) -> None:
    (uid,) = add_studies(orthanc, tmp_path, 1)
    source = files_of(tmp_path / "s0")
    points, killed = 0, True
    while killed:
        orthanc.clear()
        orthanc.add(*source)
        out = tmp_path / f"out{points}"
        killed = Dying(orthanc.url, out, points).end() == -signal.SIGKILL
        assert Dying(orthanc.url, out).end() == 0, f"killed at point {points}"
        assert orthanc.count("SEG", uid) == 1, f"killed at point {points}"
        points += 1
    assert points > 20


@pytest.mark.slow
def test_killed_at_random_times_there_is_one_segmentation(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    uids = add_studies(orthanc, tmp_path, 6)
    rng, ends = random.Random(11), []
    for _ in range(8):
        dying = Dying(orthanc.url, tiny_out)
        time.sleep(rng.uniform(0.1, 0.8))
        dying.process.kill()
        ends.append(dying.end())
    assert -signal.SIGKILL in ends
    assert Dying(orthanc.url, tiny_out).end() == 0
    assert [orthanc.count("SEG", uid) for uid in uids] == [1] * 6


def test_termination_ends_it_after_the_study_at_hand(
    orthanc: Orthanc, tmp_path: Path, tiny_out: Path
) -> None:
    add_studies(orthanc, tmp_path, 3)

    def segment(study: Path, out: Path, name: str) -> None:
        segment_by_threshold(study, out, name)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    counts = watch(options(orthanc.url, tiny_out, once=False), segment=segment)
    assert counts["pushed"] == 1
    assert counts["new"] == 2
    assert signal.getsignal(signal.SIGTERM) is before
