"""200 studies, a batch killed with -9 at random, again and again: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from small_batch import run, start, write_dicom_study, write_study

STUDIES, BAD, DICOM, KILLS = 200, 10, 10, 5
PATIENCE_S = 150.0

Marks = dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of NIfTI and DICOM, one in twenty of which cannot be used."""
    folder = tmp_path_factory.mktemp("studies")
    for i in range(STUDIES):
        place = folder / f"case_{i:03d}"
        if i % (STUDIES // BAD) == 7:
            place.mkdir()
            (place / ("pet.nii.gz" if i % 40 == 7 else "note.txt")).write_bytes(b"no image")
        elif i % (STUDIES // DICOM) == 3:
            write_dicom_study(place, i)
        else:
            write_study(place, i)
    return folder


@pytest.fixture(scope="module")
def undisturbed(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a batch that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed")
    outcomes = run([studies], out)
    assert len(outcomes) == STUDIES
    assert sum(outcome.state == "failed" for outcome in outcomes.values()) == BAD
    return out


def records(out: Path) -> dict[str, dict]:
    found = {}
    for path in sorted(out.glob("[!.]*/status.json")):
        with contextlib.suppress(FileNotFoundError):  # just being replaced: a failure, tried again
            found[path.parent.name] = json.loads(path.read_text())
    return found


def essence(record: dict) -> tuple[object, ...]:
    """What must not depend on how often a batch was killed."""
    return record["state"], record["code"], record.get("outputs"), record.get("input")


def done(out: Path) -> Marks:
    """Identity of every result: it changes when a case is put in place a second time."""
    marks = {}
    for case, record in records(out).items():
        if record["state"] == "done":
            stat = (out / case / "status.json").stat()
            marks[case] = stat.st_ino, stat.st_mtime_ns
    return marks


def assert_whole(out: Path, reference: dict[str, dict]) -> None:
    """Whatever is in place is complete at any time."""
    for folder in out.glob("[!.]*"):
        record = json.loads((folder / "status.json").read_text())
        if record["state"] == "done":
            assert essence(record) == essence(reference[folder.name])
            assert {p.name for p in folder.iterdir()} == {"status.json", *record["outputs"]}


def kill_in_the_middle(process: subprocess.Popen[bytes], out: Path, more: int, wait: float) -> None:
    """Kill a batch some time after it has put so many more cases in place."""
    start, deadline = len(records(out)), time.monotonic() + PATIENCE_S
    while len(list(out.glob("[!.]*/status.json"))) < start + more:
        assert process.poll() is None, "the batch ended before it could be killed"
        assert time.monotonic() < deadline, "the batch makes no progress"
        time.sleep(0.002)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_batch_that_is_killed_five_times_ends_as_one_that_is_not(
    studies: Path, undisturbed: Path, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    reference, out = records(undisturbed), tmp_path / "out"
    seen: Marks = {}
    for _ in range(KILLS):
        process = start(studies, out, "pipeline", 0)
        kill_in_the_middle(process, out, draw.randrange(5, 35), draw.uniform(0, 0.03))
        assert_whole(out, reference)
        now = done(out)
        assert seen.items() <= now.items(), f"lost or done twice, seed {seed}"
        seen = now
    assert len(seen) < STUDIES - BAD
    assert start(studies, out, "pipeline", 0).wait() == 0
    final = records(out)
    assert seen.items() <= done(out).items(), f"lost or done twice, seed {seed}"
    assert {c: essence(r) for c, r in final.items()} == {
        c: essence(r) for c, r in reference.items()
    }, f"seed {seed}"
    assert sorted(p.name for p in out.iterdir()) == sorted(final)  # nothing is left behind


@pytest.mark.slow
def test_two_batches_on_one_folder_do_every_case_once(
    studies: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    both = [start(studies, out, "pipeline", 0.005) for _ in range(2)]
    seen: Marks = {}
    while any(process.poll() is None for process in both):
        now = done(out)
        assert seen.items() <= now.items()
        seen = now
        time.sleep(0.05)
    assert [process.wait() for process in both] == [0, 0]
    reference = records(undisturbed)
    assert {c: essence(r) for c, r in records(out).items()} == {
        c: essence(r) for c, r in reference.items()
    }
    assert sorted(p.name for p in out.iterdir()) == sorted(reference)
