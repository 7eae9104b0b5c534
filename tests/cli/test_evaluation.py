"""Commands about results: one line per error, tables on stdout, exit status by the outcome."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from differseg_med import bundle, io
from differseg_med.cli._app import run
from differseg_med.errors import BundleError
from differseg_med.geometry import Grid, Volume
from differseg_med.metrics import summarise

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["differseg-med", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            run()
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A truth and two runs on two cases; the second run misses one."""
    for place, shift, cases in (("truth", 0, "ab"), ("one", 1, "ab"), ("two", 0, "a")):
        for case in cases:
            array = np.zeros((10, 10, 6), dtype=np.uint8)
            array[2 + shift : 6 + shift, 2:6, 1:5] = 1
            (tmp_path / place).mkdir(exist_ok=True)
            grid = Grid((10, 10, 6), np.diag([1.0, 1.0, 2.0, 1.0]))
            io.write_nifti(Volume(array, grid), tmp_path / place / f"{case}.nii.gz")
    return tmp_path


def evaluated(cli: Command, folders: Path, name: str, *more: object) -> tuple[int, str, str]:
    places = ("--predictions", folders / name, "--out", folders / "out" / name)
    return cli("evaluate", *places, "--truth", folders / "truth", *more)


def test_evaluate_and_compare(cli: Command, folders: Path) -> None:
    status, out, err = evaluated(cli, folders, "one")
    assert (status, err) == (0, "")
    assert "2 cases, 0 failed" in out
    assert "dice                   0.75" in out
    status, out, _ = evaluated(cli, folders, "two")
    assert status == 3
    assert "b: missing, E_EMPTY: there is no prediction" in out
    status, out, err = cli(
        "compare", *(folders / "out" / n for n in ("one", "two")), "--metrics", "dice,iou"
    )
    assert status == 0
    assert "2 cases in common, 0 left out; against one" in out
    assert err.startswith("W_FEW_CASES: ")
    row = next(line.split() for line in out.splitlines() if " dice " in line)
    assert row[2:4] == ["2", "-0.25"]


def test_json_lines(cli: Command, folders: Path) -> None:
    _, out, _ = evaluated(cli, folders, "two", "--json", "--metrics", "dice,hd95_mm", "--name", "m")
    first, second = map(json.loads, out.splitlines())
    assert (first["dice"], first["hd95_mm"], first["method"]) == (1.0, 0.0, "m")
    assert (second["dice"], second["hd95_mm"], second["state"]) == (0.0, None, "missing")
    evaluated(cli, folders, "one")
    runs = [folders / "out" / name for name in ("one", "one")]
    _, out, _ = cli("compare", *runs, "--json", "--metrics", "dice")
    assert json.loads(out)["p"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["evaluate", "--predictions", "x", "--out", "o"], "E_OPTION"),
        (["evaluate", "--predictions", "x", "--out", "o", "--truth", "nowhere"], "E_PATH"),
        (["compare", "one"], "E_OPTION"),
        (["compare", "one", "two"], "E_PATH"),
        (["cross-validate", "--bundle", "nope", "--datalist", "d", "--out", "o"], "E_BUNDLE"),
    ],
)
def test_wrong_calls_are_one_line(cli: Command, arguments: list[str], code: str) -> None:
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"{code}: ")
    assert err.count("\n") == 1


def test_cross_validate_hands_over_its_options(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    rows = [{"case": "a", "method": "m", "dice": 0.5, "hd95_mm": float("nan")}]

    def fake(*arguments: object, **options: object) -> bundle.CrossValidation:
        seen.extend([arguments, options])
        if options["seed"] == 7:
            raise BundleError("E_FOLD", "fold 1: training ended with status 1: no memory")
        summary = {"m": summarise({"dice": [0.5, 0.7]})}
        return bundle.CrossValidation(tmp_path, 3, 1, rows, summary)

    monkeypatch.setattr(bundle, "cross_validate", fake)
    common = ["cross-validate", "--bundle", "wmh", "--datalist", "D/datalist.json", "--out", "o"]
    status, out, _ = cli(*common, "--folds", 3, "--set", "max_epochs=5", "--set", "a#b=c=d")
    assert status == 0
    assert "1 cases, each judged by the fold that did not see it; 3 folds" in out
    assert seen[0] == ("wmh", Path("D"), Path("D/datalist.json"), Path("o"))
    assert isinstance(seen[1], dict)
    assert seen[1]["overrides"] == {"max_epochs": "5", "a#b": "c=d"}
    status, out, err = cli(*common, "--json", "--dataset_dir", "E")
    assert json.loads(out)["hd95_mm"] is None
    status, _, err = cli(*common, "--seed", 7)
    assert (status, err.count("\n")) == (2, 1)
    status, _, err = cli(*common, "--set", "max_epochs")
    assert err.startswith("E_OPTION: --set takes KEY=VALUE")
