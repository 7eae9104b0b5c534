"""One study in, one folder of results out; bad input leaves a record and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch

from differseg_med import io
from differseg_med.data.phantom import Phantom
from differseg_med.engine import CaseOptions, ReadOptions, segment_case
from differseg_med.errors import OutputError, StudyError, UsageError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import PetOverrides, Registration, read_seg

CANARIES = ("Canary^Patient", "CANARY-ID-77", "19551122")


class Uptake:
    """Takes the PET above 3 g/ml for foreground: a predictor whose answer can be worked out."""

    modalities = ("pet", "ct", "mr_t1")
    required = ("pet",)
    reference = "pet"
    spacing = (4.0, 4.0, 4.0)
    window = (16, 16, 16)
    min_overlap = {"mr_t1": 0.01}  # noqa: RUF012 - stands for an instance's attribute

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(4 * (image[:, :1] - 3))


class Broken(Uptake):
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a detail that nobody should see")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(study: Path, out: Path, predictor=None, read: ReadOptions | None = None, **options):
    settings = CaseOptions(read=read or ReadOptions(), **options)
    return segment_case(study, predictor or Uptake(), out, settings)


def test_nifti_study_gives_a_mask_on_the_references_grid(nifti_study: Path, tmp_path: Path) -> None:
    result = run(nifti_study, tmp_path, formats=("nifti", "probability", "png"))
    assert names(tmp_path) == ["case_000"]
    assert names(result.folder) == [
        "mask.nii.gz",
        "montage.png",
        "probability.nii.gz",
        "status.json",
    ]
    reference = nib.load(nifti_study / "pet.nii.gz")
    for name in ("mask", "probability"):
        image = nib.load(result.folder / f"{name}.nii.gz")
        assert image.shape == reference.shape
        assert np.array_equal(image.affine, reference.affine)
    mask = np.asarray(nib.load(result.folder / "mask.nii.gz").dataobj)
    assert mask.dtype == np.uint8
    probability = np.asarray(nib.load(result.folder / "probability.nii.gz").dataobj)
    np.testing.assert_array_equal(mask, probability >= 0.5)
    hot = reference.get_fdata() > 3
    overlap = 2 * (mask & hot).sum() / (mask.sum() + hot.sum())
    assert overlap > 0.85  # through the 4 mm work grid and back


def test_status_tells_what_was_read_and_written(nifti_study: Path, tmp_path: Path) -> None:
    result = run(nifti_study, tmp_path)
    status = json.loads((result.folder / "status.json").read_text())
    assert status == result.status
    assert (status["state"], status["code"], status["case"]) == ("done", None, "case_000")
    mask = (result.folder / "mask.nii.gz").read_bytes()
    assert status["outputs"] == {
        "mask.nii.gz": {"sha256": hashlib.sha256(mask).hexdigest(), "bytes": len(mask)}
    }
    pet = (nifti_study / "pet.nii.gz").read_bytes()
    assert status["input"]["modalities"]["pet"]["sha256"] == hashlib.sha256(pet).hexdigest()
    assert status["geometry"]["work"]["spacing_mm"] == [4.0, 4.0, 4.0]
    assert [f["code"] for f in status["findings"]] == ["W_FOV"]
    assert set(status["timings_s"]) == {"read", "resample", "predict", "mask", "write", "hash"}
    array = np.asarray(nib.load(result.folder / "mask.nii.gz").dataobj)
    assert status["result"]["voxels"] == int(array.sum()) > 0


def test_dicom_study_gives_a_seg_that_says_the_same(
    dicom_study: tuple[Path, Phantom], tmp_path: Path
) -> None:
    folder, phantom = dicom_study
    result = run(folder, tmp_path)
    assert names(result.folder) == ["mask.dcm", "mask.nii.gz", "status.json"]
    image = nib.load(result.folder / "mask.nii.gz")
    array = np.asarray(image.dataobj)
    grid = Grid(array.shape, image.affine, phantom.mask.grid.frame)
    assert grid.is_same(phantom.volumes["pet"].grid, 0.01)
    seg = read_seg(result.folder / "mask.dcm", phantom.volumes["pet"].grid)
    np.testing.assert_array_equal(seg.array, array)
    assert result.status["input"]["modalities"]["pet"]["files"] == array.shape[2]
    assert result.status["input"]["modalities"]["pet"]["provenance"]["units"] == "BQML"


def test_nifti_and_dicom_of_one_phantom_agree(
    dicom_study: tuple[Path, Phantom], nifti_study: Path, tmp_path: Path
) -> None:
    first = run(dicom_study[0], tmp_path / "a", formats=("nifti",)).folder
    second = run(nifti_study, tmp_path / "b").folder
    masks = [np.asarray(nib.load(f / "mask.nii.gz").dataobj) for f in (first, second)]
    assert (masks[0] != masks[1]).sum() <= 0.01 * masks[0].sum()


def test_an_absent_optional_modality_is_said(nifti_study: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    shutil.copy(nifti_study / "pet.nii.gz", study)
    status = run(study, tmp_path / "out").status
    assert [f["code"] for f in status["findings"]] == ["W_ABSENT", "W_ABSENT"]
    assert status["input"]["modalities"]["ct"] is None


def test_named_files_make_a_study(nifti_study: Path, tmp_path: Path) -> None:
    shutil.copy(nifti_study / "pet.nii.gz", tmp_path / "any name.nii.gz")
    choices = {"pet": str(tmp_path / "any name.nii.gz")}
    result = run(tmp_path, tmp_path / "out", read=ReadOptions(choices=choices), case="one")
    assert names(result.folder) == ["mask.nii.gz", "status.json"]
    assert result.case == "one"


def test_a_missing_required_modality_leaves_a_record(nifti_study: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    shutil.copy(nifti_study / "ct.nii.gz", study)
    with pytest.raises(StudyError, match="E_MISSING_MODALITY"):
        run(study, tmp_path / "out")
    assert names(tmp_path / "out/study") == ["status.json"]
    status = json.loads((tmp_path / "out/study/status.json").read_text())
    assert (status["state"], status["code"]) == ("failed", "E_MISSING_MODALITY")
    shutil.copy(nifti_study / "pet.nii.gz", study)
    assert run(study, tmp_path / "out").status["state"] == "done"  # a failure blocks nothing


def test_an_unexpected_error_is_recorded_without_its_text(
    nifti_study: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError):
        run(nifti_study, tmp_path, Broken())
    text = (tmp_path / "case_000/status.json").read_text()
    assert json.loads(text)["code"] == "E_INTERNAL"
    assert "nobody should see" not in text


def test_existing_results_are_kept_unless_asked_for(nifti_study: Path, tmp_path: Path) -> None:
    before = run(nifti_study, tmp_path).folder / "status.json"
    text = before.read_text()
    with pytest.raises(OutputError, match="E_EXISTS"):
        run(nifti_study, tmp_path)
    with pytest.raises(RuntimeError):
        run(nifti_study, tmp_path, Broken(), overwrite=True)
    assert before.read_text() == text
    assert names(tmp_path) == ["case_000"]
    run(nifti_study, tmp_path, overwrite=True, formats=("png",))
    assert names(tmp_path / "case_000") == ["montage.png", "status.json"]


def test_a_folder_that_cannot_be_written_is_refused_before_computing(
    nifti_study: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="E_WRITE"):
        run(nifti_study, tmp_path / "file", Broken())


def test_usage_errors_leave_nothing(nifti_study: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"E_OPTION: format seg needs a DICOM study"):
        run(nifti_study, tmp_path / "out", formats=("seg",))
    with pytest.raises(UsageError, match="E_PATH"):
        run(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match=r"E_MODALITY: 'xx' is not one of pet, ct, mr_t1"):
        run(nifti_study, tmp_path / "out", read=ReadOptions(choices={"xx": "3"}))
    with pytest.raises(UsageError, match="cannot be mixed"):
        run(nifti_study, tmp_path / "out", read=ReadOptions(choices={"ct": "3"}))
    for idle in (ReadOptions(register="rigid"), ReadOptions(pet=PetOverrides(weight_kg=70.0))):
        with pytest.raises(UsageError, match="has no use in a NIfTI study"):
            run(nifti_study, tmp_path / "out", read=idle)
    assert names(tmp_path / "out") == []
    for formats in ((), ("nifty",)):
        with pytest.raises(UsageError, match="E_OPTION"):
            CaseOptions(formats=formats)


def test_no_patient_data_gets_out(dicom_study: tuple[Path, Phantom], tmp_path: Path) -> None:
    """Canaries in the identity tags turn up in DICOM, which needs them, and nowhere else."""
    study = tmp_path / "study"
    shutil.copytree(dicom_study[0], study)
    for path in study.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        header.PatientName, header.PatientID, header.PatientBirthDate = CANARIES
        header.save_as(path)
    formats = ("nifti", "seg", "sr", "rtstruct", "json", "csv", "png")
    folder = run(study, tmp_path / "out", formats=formats).folder
    for path in folder.iterdir():
        found = [c for c in CANARIES if c.encode() in path.read_bytes()]
        assert bool(found) == (path.suffix == ".dcm"), path.name


def test_a_study_with_two_patients_is_refused_and_names_neither(
    dicom_study: tuple[Path, Phantom], tmp_path: Path
) -> None:
    study = tmp_path / "study"
    shutil.copytree(dicom_study[0], study)
    path = next((study / "ct").glob("*.dcm"))
    header = pydicom.dcmread(path)
    header.PatientID = CANARIES[1]
    header.save_as(path)
    with pytest.raises(StudyError, match="E_PATIENT_MIX") as caught:
        run(study, tmp_path / "out")
    record = (tmp_path / "out/study/status.json").read_text()
    assert CANARIES[1] not in record + str(caught.value)


def test_a_modality_in_another_frame_is_refused_or_registered(
    dicom_study: tuple[Path, Phantom], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The motion itself is tested in `io`; here a known one, which the CT's grid must follow."""
    study = tmp_path / "study"
    shutil.copytree(dicom_study[0], study)
    for path in (study / "ct").glob("*.dcm"):
        header = pydicom.dcmread(path)
        header.FrameOfReferenceUID = "1.2.3.4"
        header.save_as(path)
    with pytest.raises(StudyError, match=r"E_FRAME.*--register rigid"):
        run(study, tmp_path / "out")

    asked = []

    def register(moving: Volume, fixed: Volume) -> Registration:
        asked.append((moving.modality, fixed.modality))
        matrix = np.eye(4)
        matrix[:3, 3] = 1.0, 2.0, 3.0
        return Registration(matrix, 0.7, 0.9, 0.4, fixed.grid.frame)

    monkeypatch.setattr(io, "register_rigid", register)
    status = run(study, tmp_path / "out", read=ReadOptions(register="rigid")).status
    assert asked == [("ct", "pet")]
    assert "W_REGISTERED" in [finding["code"] for finding in status["findings"]]
    moved = np.array(status["input"]["modalities"]["ct"]["grid"]["affine_ras"])
    expected = dicom_study[1].volumes["ct"].grid.affine.copy()
    expected[:3, 3] += 1.0, 2.0, 3.0
    np.testing.assert_allclose(moved, expected, atol=1e-3)


def test_a_seg_without_a_frame_of_reference_is_refused_early(
    dicom_study: tuple[Path, Phantom], tmp_path: Path
) -> None:
    study = tmp_path / "study"
    shutil.copytree(dicom_study[0] / "pet", study)
    for path in study.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        del header.FrameOfReferenceUID
        header.save_as(path)
    with pytest.raises(OutputError, match=r"E_NO_FRAME.*--formats nifti"):
        run(study, tmp_path / "out", Broken())
    assert json.loads((tmp_path / "out/study/status.json").read_text())["code"] == "E_NO_FRAME"
    assert run(study, tmp_path / "out", formats=("nifti",)).status["state"] == "done"
