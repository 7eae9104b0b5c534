"""Programs of others that judge what we write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Path of a program; the test is skipped where it is not installed."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def validate(path: Path) -> None:
    """A validator of the standard finds neither errors nor warnings.

    What is empty because the source lacks it is missed for a DICOMDIR only.
    """
    run = subprocess.run([tool("dciodvfy"), "-new", path], capture_output=True, check=False)
    text = run.stderr.decode() + run.stdout.decode()
    assert run.returncode == 0, text
    assert "Error" not in text, text
    warnings = [line for line in text.splitlines() if "Warning" in line]
    assert not [line for line in warnings if "to build DICOMDIR" not in line], text


def check_entities(paths: list[Path]) -> None:
    """Objects of one study agree on patient, study, series and frame of reference.

    The program takes the accession number in a report's evidence for one of its series; that is the
    one thing it may warn of.
    """
    run = subprocess.run([tool("dcentvfy"), *paths], capture_output=True, check=False)
    lines = [line for line in (run.stderr + run.stdout).decode().splitlines() if line.strip()]
    assert run.returncode == 0, lines
    assert not [line for line in lines if "AccessionNumber" not in line], lines
