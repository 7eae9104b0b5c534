"""The wheel holds all that an installed package needs, and nothing that a run left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_only_code_bundles_and_configurations_are_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"differseg_med", wheel.name.split("-py3")[0] + ".dist-info"}
    assert not [name for name in names if {"runs", "eval", "data"} & set(name.split("/")[3:])]


def test_templates_and_styles_of_pages_are_inside(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    parts = sorted((root / "differseg_med/engine/report").iterdir())
    assert {path.suffix for path in parts} == {".css", ".html", ".js"}
    assert not [path.name for path in parts if path.relative_to(root).as_posix() not in names]


def test_an_installed_package_finds_and_trusts_its_bundles(
    wheel: Path, root: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "from differseg_med.bundle import list_bundles;"
        "print(*(f'{b.name} {b.root} {b.trusted}' for b in list_bundles()), sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("DIFFERSEG_BUNDLES", None)
    shown = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    own = sorted(path.parents[1].name for path in root.glob("bundles/*/configs/metadata.json"))
    inside = tmp_path / "differseg_med/_bundles"
    assert shown.splitlines() == [f"{name} {inside / name} True" for name in own]


def test_an_installed_package_finds_its_datasets(wheel: Path, root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "from differseg_med.data import list_datasets;"
            "print(*(info.name for info in list_datasets()))",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.split() == sorted(path.stem for path in root.glob("configs/datasets/*.yaml"))
