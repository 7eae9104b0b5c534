"""Results appear whole or not at all, under names that are safe."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from differseg_med.engine._workspace import abandoned, case_id, workspace
from differseg_med.errors import OutputError, UsageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new/out/case"
    with workspace(target, overwrite=False) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
        assert folder.parent.parent == target.parent  # a sibling: the move is a rename
    assert names(target.parent) == ["case"]
    assert names(target) == ["a"]


def test_nothing_is_left_when_the_block_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with workspace(tmp_path / "case", overwrite=False) as folder:
            (folder / "a").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == []


def test_folder_has_the_mode_that_the_user_wants(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        with workspace(tmp_path / "case", overwrite=False):
            pass
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "case").stat().st_mode) == 0o755


@pytest.mark.parametrize("overwrite", [False, True])
def test_results_are_replaced_only_when_asked_for(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "case"
    target.mkdir()
    (target / "old").touch()
    if not overwrite:
        with pytest.raises(OutputError, match="E_EXISTS"), workspace(target, overwrite=False):
            pytest.fail("must refuse before anything runs")
        assert names(target) == ["old"]
        return
    with workspace(target, overwrite=True) as folder:
        (folder / "new").touch()
    assert names(target) == ["new"]
    assert names(tmp_path) == ["case"]


def test_of_two_runs_at_once_the_first_to_end_stays(tmp_path: Path) -> None:
    target = tmp_path / "case"

    def second_ends_first() -> None:
        with workspace(target, overwrite=False) as slow:
            (slow / "slow").touch()
            with workspace(target, overwrite=False) as fast:
                (fast / "fast").touch()

    with pytest.raises(OutputError, match="E_EXISTS"):
        second_ends_first()
    assert names(target) == ["fast"]
    assert names(tmp_path) == ["case"]


def test_a_failed_rerun_keeps_the_old_results(tmp_path: Path) -> None:
    target = tmp_path / "case"
    target.mkdir()
    (target / "old").touch()

    def fail() -> None:
        with workspace(target, overwrite=True):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["case"]


@pytest.mark.parametrize(
    ("content", "blocks"),
    [
        (None, False),
        ({"state": "failed"}, False),
        ({"state": "done"}, True),
        ([], True),
        ("{", True),
    ],
)
def test_only_the_record_of_a_failure_gives_way(tmp_path: Path, content, blocks: bool) -> None:
    target = tmp_path / "case"
    target.mkdir()
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (target / "status.json").write_text(text)
    if blocks:
        with pytest.raises(OutputError, match="E_EXISTS"), workspace(target, overwrite=False):
            pass
    else:
        with workspace(target, overwrite=False):
            pass
        assert names(target) == []


def test_a_place_that_cannot_hold_results_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="E_WRITE"),
        workspace(tmp_path / "file/out/case", overwrite=False),
    ):
        pytest.fail("must refuse before anything runs")
    with (
        pytest.raises(OutputError, match="E_EXISTS"),
        workspace(tmp_path / "file", overwrite=False),
    ):
        pass


def test_case_id_is_the_studys_name_where_that_is_safe(tmp_path: Path) -> None:
    for name in ("case_001", "A-b"):
        (tmp_path / name).mkdir()
        assert case_id(tmp_path / name) == name
        assert case_id(f"{tmp_path}/{name}/../{name}/") == name
    (tmp_path / "s.zip").touch()
    assert case_id(tmp_path / "s.zip") == "s"


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 65, ".hidden", "Doe^John"])
def test_any_other_name_becomes_a_hash_of_the_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    found = case_id(tmp_path / name)
    assert found.startswith("case-")
    assert found == case_id(tmp_path / name)
    assert found != case_id(tmp_path)
    assert len(found) == 21


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 65, "a\n"])
def test_a_name_that_is_not_safe_is_refused(tmp_path: Path, name: str) -> None:
    assert case_id(tmp_path, "good-1") == "good-1"
    with pytest.raises(UsageError, match="E_OPTION"):
        case_id(tmp_path, name)


STEPS = """
import os, signal, sys
from pathlib import Path
from differseg_med.engine._workspace import workspace
target, fatal = Path(sys.argv[1]), int(sys.argv[2])
step = 0
def rename(self, other, original=Path.rename):
    global step
    for when in ("before", "after"):
        if step == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        step += 1
        if when == "before":
            original(self, other)
Path.rename = rename
with workspace(target, overwrite=True) as folder:
    (folder / "new").touch()
"""


@pytest.mark.parametrize("step", range(4))
def test_a_kill_at_any_step_leaves_the_old_results_or_the_new_ones(
    tmp_path: Path, step: int
) -> None:
    """Old results are moved aside, new ones take their place: four points to be killed at."""
    target = tmp_path / "case"
    target.mkdir()
    (target / "old").touch()
    killed = subprocess.run([sys.executable, "-c", STEPS, target, str(step)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == (1 if step in (1, 2) else 2)
    assert abandoned(tmp_path) == ["case"]
    assert names(tmp_path) == ["case"]
    assert names(target) == (["new"] if step == 3 else ["old"])


def test_what_lives_or_belongs_to_another_machine_is_left_alone(tmp_path: Path) -> None:
    for name in (".case.elsewhere.1.x", ".hidden", ".case.elsewhere.x"):
        (tmp_path / name).mkdir()
    with workspace(tmp_path / "case", overwrite=False):
        before = names(tmp_path)
        assert len(before) == 4
        assert abandoned(tmp_path) == []
        assert names(tmp_path) == before


def test_a_holder_without_a_lock_is_old_or_young(tmp_path: Path) -> None:
    """Its process number belongs to somebody else by now, or its owner has not come to lock it."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())
    holder = tmp_path / f".case.{host}.{os.getpid()}.x"
    holder.mkdir()
    assert abandoned(tmp_path) == []
    (holder / "lock").touch()
    assert abandoned(tmp_path) == []
    os.utime(holder / "lock", (0, 0))
    assert abandoned(tmp_path) == ["case"]
    assert names(tmp_path) == []
