"""A folder of studies is told from a study in folders by one header of each."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from differseg_med.data.phantom import Phantom
from differseg_med.errors import UsageError
from differseg_med.io import list_studies

NAMES = ("pet", "ct", "mr_t1")


def dicom(folder: Path, source: Path, patient: str) -> Path:
    """One slice of the phantom as the study of a patient."""
    folder.mkdir(parents=True)
    header = pydicom.dcmread(next((source / "pet").glob("*.dcm")))
    header.PatientID = patient
    header.save_as(folder / "slice.dcm")
    return folder


def test_series_in_folders_are_one_study(dicom_study: tuple[Path, Phantom]) -> None:
    assert list_studies(dicom_study[0], NAMES) == [dicom_study[0]]


def test_patients_in_folders_are_many_studies(
    dicom_study: tuple[Path, Phantom], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        dicom(tmp_path / name, dicom_study[0], name)
    for name in ("empty", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "README").write_text("not an image")
    assert [path.name for path in list_studies(tmp_path, NAMES)] == ["a", "b", "empty"]


def test_an_image_of_its_own_makes_a_folder_one_study(
    dicom_study: tuple[Path, Phantom], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        dicom(tmp_path / name, dicom_study[0], name)
    (tmp_path / "a/slice.dcm").rename(tmp_path / "slice.dcm")
    assert list_studies(tmp_path, NAMES) == [tmp_path]


def test_folders_of_nifti_files_are_many_studies(nifti_study: Path, tmp_path: Path) -> None:
    assert list_studies(nifti_study, NAMES) == [nifti_study]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pet.nii.gz").touch()
    assert len(list_studies(tmp_path, NAMES)) == 2


def test_folders_of_a_bids_subject_are_one_study(tmp_path: Path) -> None:
    for name in ("anat/sub-01_T1w.nii.gz", "pet/sub-01_pet.nii.gz"):
        (tmp_path / "all/sub-01" / name).parent.mkdir(parents=True)
        (tmp_path / "all/sub-01" / name).touch()
    assert list_studies(tmp_path / "all/sub-01", NAMES) == [tmp_path / "all/sub-01"]
    (tmp_path / "all/sub-02/pet").mkdir(parents=True)
    (tmp_path / "all/sub-02/pet/sub-02_pet.nii.gz").touch()
    assert len(list_studies(tmp_path / "all", NAMES)) == 2


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="E_PATH"):
        list_studies(tmp_path / "nowhere", NAMES)


@pytest.mark.realdata
def test_real_archives_are_many_studies(shared: Path) -> None:
    found = list_studies(shared / "data" / "dicom", NAMES)
    assert found == sorted((shared / "data" / "dicom").glob("*.zip"))
