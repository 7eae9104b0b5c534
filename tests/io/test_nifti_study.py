"""NIfTI studies are found by a manifest or by the names of their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from differseg_med.errors import StudyError, UsageError
from differseg_med.io import find_nifti

BRAIN = ["mr_t1", "mr_t1c", "mr_t2", "mr_flair", "mr_dwi", "mr_adc"]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: str(p.relative_to(folder)) for name, p in find_nifti(folder, names).items()}


def test_files_are_found_by_modality_name(tmp_path: Path) -> None:
    touch(tmp_path, "pet.nii.gz", "ct.nii", "label.nii.gz", "mr_t1.txt", "deeper/mr_t2.nii")
    (tmp_path / "mr_t1.nii").mkdir()  # a folder is not a file
    names = ["ct", "pet", "mr_t1", "mr_t2"]
    assert found(tmp_path, names) == {"ct": "ct.nii", "pet": "pet.nii.gz"}
    assert find_nifti(tmp_path / "nowhere", ["ct"]) == {}


def test_gate_nifti_compressed_and_plain_side_by_side_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "pet.nii", "pet.nii.gz")
    with pytest.raises(StudyError, match=r"E_AMBIGUOUS.*pet.nii, pet.nii.gz"):
        find_nifti(tmp_path, ["pet"])


def test_gate_nifti_names_by_bids(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "ses-01/anat/sub-7_ses-01_T1w.nii.gz",
        "ses-01/anat/sub-7_ses-01_ce-gad_T1w.nii.gz",
        "ses-01/anat/sub-7_ses-01_FLAIR.nii",
        "ses-01/dwi/sub-7_ses-01_dwi.nii.gz",
        "sub-7_ses-01_adc.nii.gz",
        "sub-7_ses-01_msk.nii.gz",
    )
    assert found(tmp_path, BRAIN) == {
        "mr_t1": "ses-01/anat/sub-7_ses-01_T1w.nii.gz",
        "mr_t1c": "ses-01/anat/sub-7_ses-01_ce-gad_T1w.nii.gz",
        "mr_flair": "ses-01/anat/sub-7_ses-01_FLAIR.nii",
        "mr_dwi": "ses-01/dwi/sub-7_ses-01_dwi.nii.gz",
        "mr_adc": "sub-7_ses-01_adc.nii.gz",
    }


def test_gate_nifti_names_by_nnunet(tmp_path: Path) -> None:
    touch(tmp_path, "case_0000.nii.gz", "case_0002.nii.gz", "case.nii.gz", "case_0009.nii.gz")
    assert found(tmp_path, ["pet", "ct", "mr_t1"]) == {
        "pet": "case_0000.nii.gz",
        "mr_t1": "case_0002.nii.gz",
    }


@pytest.mark.parametrize(
    "names",
    [
        ("a_0000.nii.gz", "b_0000.nii.gz"),
        ("sub-1_run-1_pet.nii.gz", "sub-1_run-2_pet.nii.gz"),
        ("sub-1_pet.nii.gz", "pet.nii.gz"),
    ],
)
def test_gate_nifti_several_files_fit(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    with pytest.raises(StudyError) as caught:
        find_nifti(tmp_path, ["pet", "ct"])
    assert caught.value.code == "E_AMBIGUOUS"
    assert all(name in caught.value.detail for name in names)
    touch(tmp_path, "sub-doe_pet.nii.gz")
    with pytest.raises(StudyError, match="3 files fit") as caught:
        find_nifti(tmp_path, ["pet", "ct"])
    assert "doe" not in str(caught.value)
    assert find_nifti(tmp_path, ["pet", "ct"], given=["pet"]) == {}


def manifest(folder: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def test_gate_nifti_names_by_manifest(tmp_path: Path) -> None:
    touch(tmp_path, "x/one.nii.gz", "pet.nii", "pet.nii.gz", "two.nii")
    manifest(tmp_path, {"pet": "x/one.nii.gz", "ct": "two.nii", "mr_t2": "absent.nii"})
    assert found(tmp_path, ["pet", "ct"]) == {"pet": "x/one.nii.gz", "ct": "two.nii"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("{", "E_OPTION"),
        ([], "E_OPTION"),
        ({"pet": 3}, "E_OPTION"),
        ({"pet": "../other.nii"}, "E_OPTION"),
        ({"pet": "absent.nii"}, "E_PATH"),
    ],
)
def test_manifest_that_cannot_be_used(tmp_path: Path, content: object, code: str) -> None:
    manifest(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        find_nifti(tmp_path, ["pet"])
    assert caught.value.code == code
