"""Collections of studies: each is inspected, mixtures are named and listed."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from differseg_med.bundle import inspect_studies
from differseg_med.cli._app import app
from differseg_med.data.phantom import write_phantom_dicom


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients in folders of their own, one of them with a note beside the images."""
    folder = tmp_path_factory.mktemp("archive")
    for i in (1, 2):
        write_phantom_dicom(folder / f"study_{i}", i, modalities=("pet",))
        for path in (folder / f"study_{i}").rglob("*.dcm"):
            dataset = pydicom.dcmread(path)
            dataset.PatientID = f"PATIENT{i}"
            dataset.save_as(path)
    (folder / "study_1" / "note.txt").write_text("not an image")
    return folder


def test_a_collection_is_inspected_study_by_study(archive: Path) -> None:
    found = list(inspect_studies([archive]))
    assert [Path(f.study).name for f in found] == ["study_1", "study_2"]
    assert not any(f.refused for f in found)
    assert [len(f.stacks) for f in found] == [1, 1]


def test_a_mixture_in_one_folder_is_refused_and_listed(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed" / "all"
    for i in (1, 2):
        for path in (archive / f"study_{i}").rglob("*.dcm"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i}_{path.name}").write_bytes(path.read_bytes())
    (found,) = inspect_studies([tmp_path / "mixed"])
    assert [p.code for p in found.problems] == ["E_PATIENT_MIX"]
    assert len(found.stacks) == 2


def test_every_study_is_one_line_of_json(archive: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(archive), "--json"])
    assert result.exit_code == 0
    lines = [json.loads(text) for text in result.stdout.splitlines()]
    assert len(lines) == 2
    assert sum(lines[0]["skipped"].values()) == 1


def test_several_studies_end_in_a_summary(archive: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(archive)])
    assert "2 studies, 0 refused" in result.stdout
    assert "W_SKIPPED" in result.stdout


@pytest.mark.realdata
def test_real_collection_is_accounted_for(shared: Path) -> None:
    found = list(inspect_studies([shared / "data" / "dicom"]))
    archives = sorted((shared / "data" / "dicom").glob("*.zip"))
    assert [f.study for f in found] == [str(path) for path in archives]
    assert all(f.stacks or f.problems for f in found)
