"""The tutorial about a bundle of one's own, command by command, as a reader would run it."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_tutorial_leads_to_a_dice(root: Path, tmp_path: Path) -> None:
    page = (root / "docs/tutorial/own-bundle.md").read_text("utf-8")
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```", page, re.M | re.S)
    assert [kind for kind, _ in blocks] == ["bash", "python", "bash", "bash", "bash"]
    shown = [_run(kind, text, tmp_path) for kind, text in blocks]
    assert "train it with" in shown[0]
    found = [float(text) for text in re.findall(r"val_mean_dice: ([0-9.]+)", shown[2])]
    assert found
    assert all(0 <= value <= 1 for value in found)
    (row,) = csv.DictReader((tmp_path / "my_lesions/eval/cases.csv").read_text().splitlines())
    assert row["case"] == "case_003"
    assert len(list(tmp_path.glob("masks/case_00?/mask.nii.gz"))) == 4


def _run(kind: str, text: str, folder: Path) -> str:
    """What a block wrote to stdout."""
    plain = text.replace("\\\n", " ")
    words = ["python", "-c", text] if kind == "python" else shlex.split(plain)
    modules = {"python": [], "differseg-med": ["-m", "differseg_med.cli"]}
    done = subprocess.run(
        [sys.executable, *modules[words[0]], *words[1:]],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr
