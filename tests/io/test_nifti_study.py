"""NIfTI studies are found by the names of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from differseg_med.errors import StudyError
from differseg_med.io import find_nifti


def test_files_are_found_by_modality_name(tmp_path: Path) -> None:
    for name in ("pet.nii.gz", "ct.nii", "label.nii.gz", "mr_t1.txt"):
        (tmp_path / name).touch()
    (tmp_path / "mr_t1.nii").mkdir()  # a folder is not a file
    found = find_nifti(tmp_path, ["ct", "pet", "mr_t1"])
    assert found == {"ct": tmp_path / "ct.nii", "pet": tmp_path / "pet.nii.gz"}
    assert find_nifti(tmp_path / "nowhere", ["ct"]) == {}


def test_compressed_and_plain_side_by_side_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pet.nii").touch()
    (tmp_path / "pet.nii.gz").touch()
    with pytest.raises(StudyError, match=r"E_AMBIGUOUS: pet.nii and pet.nii.gz"):
        find_nifti(tmp_path, ["pet"])
