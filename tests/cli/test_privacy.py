"""Options about identity that contradict each other are refused before anything is read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from differseg_med.bundle import segment_many
from differseg_med.cli._app import run
from differseg_med.engine import BatchOptions, CaseOptions, Part, ReadOptions, StudySource


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["segment", "S", "--uid-map", "m"], "--uid-map has no use without --deid"),
        (
            ["segment", "--server", "http://localhost:1", "--insecure-http", "--deid"],
            "--server keeps",
        ),
        (["segment", "S", "--deid", "--uid-map", "out/m.sqlite"], "among the results"),
        (["deid", "S", "--uid-map", "out/m.sqlite"], "may not lie in the copy"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_contradictions_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    what: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "S").mkdir()
    bundle = ["--bundle", "sts_petctmr"] if options[0] == "segment" else []
    monkeypatch.setattr(sys, "argv", ["differseg-med", *options, *bundle, "--out", "out"])
    with pytest.raises(SystemExit) as left:
        run()
    said = capsys.readouterr().err
    assert left.value.code == 2, said
    assert what in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_machines_share_a_batch_by_names_that_all_of_them_know(tmp_path: Path) -> None:
    """Pseudonyms differ from map to map; the shares of a batch must not."""
    sources = [StudySource(f"c{n}", tmp_path / f"none{n}") for n in range(6)]
    folders: list[str] = []
    for index in (1, 2):
        options = CaseOptions(read=ReadOptions(deid=tmp_path / f"map{index}.sqlite"))
        batch = BatchOptions(part=Part.parse(f"{index}/2"), engine="serial")
        outcomes = list(segment_many(sources, "sts_petctmr", tmp_path / "out", options, batch))
        assert 0 < len(outcomes) < 6
        folders += [outcome.case for outcome in outcomes]
    assert len(set(folders)) == 6
    assert all(name.startswith("DEID-") for name in folders)
