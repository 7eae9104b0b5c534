"""Many studies: none stops the others, results that stand are kept, nothing is done twice."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from small_batch import CRASH, INTERRUPT, NO_MEMORY, Level, run, start, write_study

from differseg_med.engine import (
    BatchOptions,
    BatchSetup,
    CaseOptions,
    CaseOutcome,
    Part,
    StudySource,
    _case,
    read_inputs,
    segment_cases,
)
from differseg_med.errors import OutputError, UsageError


@pytest.fixture
def studies(tmp_path: Path) -> list[Path]:
    return [write_study(tmp_path / "in" / f"s{i}", i) for i in range(4)]


def states(outcomes: dict[str, CaseOutcome]) -> str:
    return " ".join(outcomes[case].code or outcomes[case].state for case in sorted(outcomes))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("engine", ["pipeline", "serial"])
def test_bad_cases_are_coded_and_stop_nobody(
    studies: list[Path], tmp_path: Path, engine: str
) -> None:
    (studies[0] / "pet.nii.gz").unlink()
    (studies[1] / "pet.nii.gz").write_bytes(b"not an image")
    write_study(tmp_path / "in/s4", 4, top=NO_MEMORY)
    studies = [*studies, tmp_path / "in/s4"]
    outcomes = run(studies, tmp_path / "out", engine=engine)
    assert states(outcomes) == "E_EMPTY E_CORRUPT done done E_INTERNAL"
    assert names(tmp_path / "out") == ["s0", "s1", "s2", "s3", "s4"]
    for outcome in outcomes.values():
        status = json.loads((outcome.folder / "status.json").read_text())
        assert status == outcome.status
        assert (status["state"], status["code"]) == (
            ("done", None) if outcome.state == "done" else ("failed", outcome.code)
        )
    assert "MemoryError" in outcomes["s4"].status["message"]


def test_pipeline_and_serial_give_the_same(studies: list[Path], tmp_path: Path) -> None:
    first = run(studies, tmp_path / "a")
    second = run(studies, tmp_path / "b", engine="serial")
    for case, outcome in first.items():
        assert outcome.status["outputs"] == second[case].status["outputs"]
        assert outcome.status["input"] == second[case].status["input"]


def test_reading_and_writing_take_no_time_of_the_network(
    studies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage waits as long: one after another that is 4 x 3 waits, side by side 4 + 2."""
    wait = 0.3

    def slow(work):
        def call(*arguments: object):
            time.sleep(wait)
            return work(*arguments)

        return call

    monkeypatch.setattr(_case, "read_inputs", slow(_case.read_inputs))
    monkeypatch.setattr(_case, "write_outputs", slow(_case.write_outputs))
    seconds = {}
    for engine in ("serial", "pipeline"):
        start = time.perf_counter()
        run(studies, tmp_path / engine, pause=wait, engine=engine)
        seconds[engine] = time.perf_counter() - start
    assert seconds["serial"] > 12 * wait
    assert seconds["serial"] - seconds["pipeline"] > 3 * wait


def test_at_most_three_cases_are_under_way(
    studies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is read, one computes, one is written; the network stays in the calling thread."""
    seen: list[int] = []
    places: set[str] = set()
    original = Level.__call__

    def call(self: Level, image: torch.Tensor) -> torch.Tensor:
        seen.append(sum(path.name.startswith(".") for path in (tmp_path / "out").iterdir()))
        places.add(threading.current_thread().name)
        return original(self, image)

    monkeypatch.setattr(Level, "__call__", call)
    more = [write_study(tmp_path / "in" / f"t{i}", i) for i in range(4)]
    run([*studies, *more], tmp_path / "out")
    assert max(seen) <= 3
    assert places == {"MainThread"}


def test_resume_keeps_what_stands_and_runs_what_does_not(
    studies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (studies[3] / "pet.nii.gz").rename(tmp_path / "aside.nii.gz")
    assert states(run(studies, out)) == "done done done E_EMPTY"
    assert states(run(studies, out)) == "E_EXISTS E_EXISTS E_EXISTS E_EMPTY"
    made = {p: p.stat().st_ino for p in out.glob("*/status.json")}
    with monkeypatch.context() as patch:  # nothing is computed for a case that stands
        patch.setattr(Level, "__call__", lambda *_: pytest.fail("must not compute"))
        assert states(run(studies, out, resume=True)) == "kept kept kept E_EMPTY"
    assert states(run(studies, out, resume=True, device="cuda")) == "kept kept kept E_EMPTY"
    assert all(p.stat().st_ino == made[p] for p in made if p.parent.name != "s3")
    (tmp_path / "aside.nii.gz").rename(studies[3] / "pet.nii.gz")
    (out / "s0/mask.nii.gz").write_bytes(b"spoilt")
    (out / "s1/mask.nii.gz").unlink()
    assert states(run(studies, out, resume=True)) == "done done kept done"
    (studies[0] / "note.txt").write_text("one file more")
    assert states(run(studies, out, resume=True)) == "done kept kept kept"
    assert states(run(studies, out, level=2.0, resume=True)) == "done done done done"
    text = (out / "s2/status.json").read_text()
    (out / "s2/status.json").write_text(text[: len(text) // 2])
    assert states(run(studies, out, level=2.0, resume=True)) == "kept kept E_EXISTS kept"


def test_other_options_are_another_result(studies: list[Path], tmp_path: Path) -> None:
    run(studies, tmp_path / "out")
    bundle = {"name": "level", "weights_sha256": "3.0", "device": "cpu"}
    options = CaseOptions(formats=("nifti", "probability"))
    setup = BatchSetup(Level, tmp_path / "out", options, bundle)
    sources = [StudySource(study.name, study) for study in studies]
    outcomes = segment_cases(sources, setup, BatchOptions(resume=True))
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert names(tmp_path / "out/s0") == ["mask.nii.gz", "probability.nii.gz", "status.json"]


def test_a_study_that_grows_while_it_is_read_is_refused(
    studies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_grow(study: Path, *arguments: object):
        inputs = read_inputs(study, *arguments)
        if study.name == "s1":
            (study / "later.txt").write_text("one file more")
        return inputs

    monkeypatch.setattr(_case, "read_inputs", read_and_grow)
    assert states(run(studies, tmp_path / "out")) == "done E_CHANGED done done"
    monkeypatch.undo()
    assert states(run(studies, tmp_path / "out", resume=True)) == "kept done kept kept"


def test_a_full_disk_fails_cases_and_stops_nothing(
    studies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        outcomes = run(studies, tmp_path / "out")
    assert states(outcomes) == "E_WRITE E_WRITE E_WRITE E_WRITE"
    assert names(tmp_path / "out") == []
    assert "No space left" in outcomes["s0"].status["message"]
    with monkeypatch.context() as patch:
        patch.setattr(_case, "write_outputs", full)
        assert states(run(studies[:1], tmp_path / "out")) in ("E_WRITE", "E_INTERNAL")
    assert names(tmp_path / "out/s0") == ["status.json"]


def test_parts_are_disjoint_and_stable(studies: list[Path], tmp_path: Path) -> None:
    cases = [f"case-{i}" for i in range(1000)]
    parts = [{c for c in cases if Part(i, 4).holds(c)} for i in range(1, 5)]
    assert sorted(c for part in parts for c in part) == sorted(cases)
    assert all(200 < len(part) < 300 for part in parts)
    assert "case-0" in parts[3]  # of SHA-256: the same on every machine and for ever
    done = [run(studies, tmp_path / "out", part=Part(i, 2)) for i in (1, 2)]
    assert sorted([*done[0], *done[1]]) == ["s0", "s1", "s2", "s3"]
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(UsageError, match="E_OPTION"):
            Part.parse(wrong)


def test_an_interruption_leaves_whole_cases_only(studies: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(studies[2])
    write_study(studies[2], 2, top=INTERRUPT)
    with pytest.raises(KeyboardInterrupt):
        run(studies, tmp_path / "out")
    assert names(tmp_path / "out") == ["s0", "s1"]
    assert states(run(studies[:2], tmp_path / "out", resume=True)) == "kept kept"


@pytest.mark.slow
def test_what_kills_its_process_is_found_out_and_passed_over(
    studies: list[Path], tmp_path: Path
) -> None:
    """The first death leaves suspects; the second, in a process of its own, tells which it was."""
    shutil.rmtree(studies[1])
    write_study(studies[1], 1, top=CRASH)
    out = tmp_path / "out"
    assert start(studies[0].parent, out, "pipeline", 0).wait() == -signal.SIGKILL
    left = [path for path in names(out) if path.startswith(".")]
    assert any(path.startswith(".s1.") for path in left)
    outcomes = run(studies, out, resume=True)
    assert list(outcomes)[-1] in ("s1", "s2")  # suspects come last
    assert states(outcomes).replace("kept", "done") == "done E_CRASH done done"
    assert "SIGKILL" in outcomes["s1"].status["message"]
    assert names(out) == ["s0", "s1", "s2", "s3"]
    assert states(run(studies, out, resume=True)) == "kept E_CRASH kept kept"  # and never again


def test_what_a_living_process_works_on_is_left_alone(studies: list[Path], tmp_path: Path) -> None:
    """Two runs on one folder: each case is put in place once, by whichever is first."""
    out = tmp_path / "out"
    results: list[dict[str, CaseOutcome]] = []
    threads = [
        threading.Thread(target=lambda: results.append(run(studies, out, resume=True)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    for case in ("s0", "s1", "s2", "s3"):
        assert sorted(r[case].state for r in results) == ["done", "kept"], case
    assert names(out) == ["s0", "s1", "s2", "s3"]


def test_wrong_calls_are_refused_before_anything_runs(studies: list[Path], tmp_path: Path) -> None:
    twice = [*studies, write_study(tmp_path / "other/s0", 0)]
    with pytest.raises(UsageError, match=r"in/s0 and .*other/s0 would both be case s0"):
        run(twice, tmp_path / "out")
    with pytest.raises(UsageError, match="exclude each other"):
        run(studies, tmp_path / "out", resume=True, overwrite=True)
    for wrong in ({"engine": "x"}, {"workers": 2}, {"engine": "ray", "workers": 0}):
        with pytest.raises(UsageError, match="E_OPTION"):
            BatchOptions(**wrong)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="E_WRITE"):
        run(studies, tmp_path / "file")
