"""The tutorial, step by step, as a reader would run it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from differseg_med.bundle import find_bundle
from differseg_med.cli._app import app


def test_the_tutorial_works(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (root / "docs/tutorial/first-study.md").read_text(encoding="utf-8")
    steps = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    inspect, segment = (
        shlex.split(line)[1:] for line in re.findall(r"^differseg-med .*$", page, re.MULTILINE)
    )
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke

    exec(steps[0], {})
    found = run(app, inspect)
    assert (found.exit_code, found.stdout.splitlines()[-1].strip()) == (0, "accepted")

    exec(steps[1], {})
    found = run(app, inspect)
    assert found.exit_code == 5
    assert "E_GAP" in found.stdout

    exec(steps[2], {})
    assert run(app, inspect).exit_code == 0
    assert run(app, [*segment, "--weights", str(_random_weights(tmp_path))]).exit_code == 0
    assert {path.name for path in Path("results/study").iterdir()} == {
        "mask.dcm",
        "mask.nii.gz",
        "montage.png",
        "status.json",
    }


def _random_weights(folder: Path) -> Path:
    """Weights that fit the shipped bundle's network, whether or not it ships some."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(find_bundle("sts_petctmr").root / "configs/inference.yaml"))
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), folder / "random.pt")
    return folder / "random.pt"
