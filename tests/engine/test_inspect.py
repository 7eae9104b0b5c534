"""Inspection says what a study holds and refuses what a bundle would refuse."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from differseg_med.data.phantom import Phantom
from differseg_med.engine import ReadOptions, Wanted, inspect_study
from differseg_med.errors import UsageError
from differseg_med.io import PetOverrides

WANTED = Wanted(("pet", "ct", "mr_t1"), ("pet",), "pet", {"mr_t1": 0.01})
Dicom = tuple[Path, Phantom]


def codes(findings) -> list[str]:
    return [finding.code for finding in findings]


@pytest.fixture
def study(dicom_study: Dicom, tmp_path: Path) -> Path:
    shutil.copytree(dicom_study[0], tmp_path / "study")
    return tmp_path / "study"


def test_series_are_listed_with_grid_and_role(dicom_study: Dicom) -> None:
    folder, phantom = dicom_study
    found = inspect_study(folder, WANTED)
    assert not found.refused
    assert [(s.kind, s.serves) for s in found.stacks] == [
        ("PT", ("pet",)),
        ("CT", ("ct",)),
        ("MR", ("mr_t1",)),
    ]
    for stack, name in zip(found.stacks, WANTED.modalities, strict=True):
        grid = phantom.volumes[name].grid
        assert stack.shape == grid.shape
        np.testing.assert_allclose(stack.spacing, grid.spacing, atol=1e-6)


def test_without_a_bundle_every_modality_of_the_code_is_named(dicom_study: Dicom) -> None:
    serves = [stack.serves for stack in inspect_study(dicom_study[0]).stacks]
    assert serves[:2] == [("pet",), ("ct",)]
    assert set(serves[2]) >= {"mr_t1", "mr_t2", "mr_flair"}


def test_a_gap_refuses_and_lenient_lets_it_pass(study: Path) -> None:
    files = sorted((study / "ct").glob("*.dcm"))
    files[len(files) // 2].unlink()
    for wanted in (WANTED, None):
        found = inspect_study(study, wanted)
        assert codes(found.problems) == ["E_GAP"]
        assert found.refused
        assert not inspect_study(study, wanted, ReadOptions(lenient=True)).refused


def test_only_what_the_bundle_takes_counts(study: Path) -> None:
    files = sorted((study / "ct").glob("*.dcm"))
    files[len(files) // 2].unlink()
    pet_only = Wanted(("pet",), ("pet",), "pet")
    found = inspect_study(study, pet_only)
    assert not found.refused
    assert codes(found.stacks[1].problems) == ["E_GAP"]


def test_pet_that_cannot_become_suv_is_refused(study: Path) -> None:
    for path in (study / "pet").glob("*.dcm"):
        header = pydicom.dcmread(path)
        header.PatientWeight = None
        header.save_as(path)
    assert codes(inspect_study(study, WANTED).problems) == ["E_PET_META"]
    given = ReadOptions(pet=PetOverrides(weight_kg=70.0))
    found = inspect_study(study, WANTED, given)
    assert not found.refused
    assert "W_PET_OVERRIDE" in codes(found.stacks[0].findings)


def test_missing_and_ambiguous_modalities(study: Path) -> None:
    shutil.rmtree(study / "mr_t1")
    found = inspect_study(study, WANTED)
    assert (found.refused, found.absent) == (False, ("mr_t1",))
    two = Wanted(("pet", "mr_t1"), ("pet", "mr_t1"), "pet")
    assert codes(inspect_study(study, two).problems) == ["E_MISSING_MODALITY"]
    for path in (study / "ct").glob("*.dcm"):
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID += ".1"
        header.SOPInstanceUID += ".1"
        header.SeriesNumber = 9
        header.save_as(path.with_name(f"again_{path.name}"))
    assert codes(inspect_study(study, WANTED).problems) == ["E_AMBIGUOUS"]
    found = inspect_study(study, WANTED, ReadOptions(choices={"ct": "9"}))
    assert [s.label for s in found.stacks if s.serves == ("ct",)] == ["9"]


def test_junk_is_counted(study: Path) -> None:
    (study / "notes.txt").write_text("no image")
    (study / "empty.dcm").touch()
    assert sum(inspect_study(study, WANTED).skipped.values()) == 2


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    found = inspect_study(tmp_path, WANTED)
    assert codes(found.problems) == ["E_EMPTY"]
    with pytest.raises(UsageError, match="E_PATH"):
        inspect_study(tmp_path / "nowhere")


def test_nifti_studies(nifti_study: Path, tmp_path: Path) -> None:
    found = inspect_study(nifti_study, WANTED)
    assert (found.kind, found.refused) == ("nifti", False)
    assert {stack.serves for stack in found.stacks} == {("pet",), ("ct",), ("mr_t1",)}
    shutil.copy(nifti_study / "ct.nii.gz", tmp_path)
    found = inspect_study(tmp_path, WANTED)
    assert codes(found.problems) == ["E_MISSING_MODALITY"]
    assert found.absent == ("pet", "mr_t1")
    (tmp_path / "pet.nii.gz").write_bytes(b"no image")
    assert codes(inspect_study(tmp_path, WANTED).problems) == ["E_CORRUPT"]
    (tmp_path / "pet.nii").touch()
    assert codes(inspect_study(tmp_path, WANTED).problems) == ["E_AMBIGUOUS"]


def test_inspection_imports_neither_torch_nor_monai(dicom_study: Dicom, nifti_study: Path) -> None:
    script = (
        "import sys; from differseg_med.bundle import inspect_studies;"
        f"list(inspect_studies([{str(dicom_study[0])!r}, {str(nifti_study)!r}], 'sts_petctmr'));"
        "heavy = {'torch', 'monai', 'SimpleITK', 'highdicom'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
