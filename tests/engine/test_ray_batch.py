"""Cases on a Ray cluster of two workers, one of which is killed: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_batch import CRASH, run, start, write_study

STUDIES = 24
PATIENCE_S = 200.0


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good studies, one that is no image, and one that kills whoever works on it."""
    folder = tmp_path_factory.mktemp("studies")
    for i in range(STUDIES):
        write_study(folder / f"case_{i:02d}", i)
    (folder / "case_03/pet.nii.gz").write_bytes(b"no image")
    write_study(folder / "killer", 99, top=CRASH)
    return folder


def records(out: Path) -> dict[str, dict]:
    found = {}
    for path in sorted(out.glob("[!.]*/status.json")):
        with contextlib.suppress(FileNotFoundError):
            found[path.parent.name] = json.loads(path.read_text())
    return found


def owners(out: Path) -> dict[int, str]:
    """Process and case of everything that is being worked on; the names of the folders say it."""
    parts = [path.name.split(".") for path in out.glob(".case_*")]
    return {int(part[3]): part[1] for part in parts}


def wait_for(process: subprocess.Popen[bytes], what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(studies, out, "ray", 0.2)
    wait_for(process, lambda: len(records(out)) >= 4 and len(owners(out)) == 2)
    before = {c: (out / c / "status.json").stat().st_ino for c in records(out)}
    victim, case = next(iter(owners(out).items()))
    assert victim != process.pid
    os.kill(victim, signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 0
    found = records(out)
    assert all((out / c / "status.json").stat().st_ino == inode for c, inode in before.items())
    assert found[case]["state"] == "done"
    codes = {c: record["code"] for c, record in found.items() if record["code"]}
    assert codes == {"case_03": "E_CORRUPT", "killer": "E_CRASH"}
    assert sorted(path.name for path in out.iterdir()) == sorted(found)
    assert len(found) == STUDIES + 1
    good = [studies / c for c, record in found.items() if record["state"] == "done"]
    reference = run(good, tmp_path / "reference", engine="serial")
    assert {c: o.status["outputs"] for c, o in reference.items()} == {
        c: found[c]["outputs"] for c in reference
    }
