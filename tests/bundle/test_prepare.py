"""DICOM studies with a truth become training cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from differseg_med import io
from differseg_med.bundle import PreparedCase, prepare_from_dicom
from differseg_med.data import load_datalist
from differseg_med.data.phantom import write_phantom_dicom
from differseg_med.errors import UsageError
from differseg_med.metrics import dice

TUMOUR = io.SegmentInfo("Tumour", "by hand", "1")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Three studies: one with a SEG of its PET, one with two, one without any."""
    folder = tmp_path_factory.mktemp("archive")
    phantom = write_phantom_dicom(folder / "one", 5, modalities=("pet", "mr_t1"))
    (pet,) = [s for s in io.read_study(folder / "one").series if s.dicom == "PT"]
    shutil.copytree(folder / "one", folder / "none")
    io.write_seg(phantom.mask, pet, folder / "one" / "truth.dcm", TUMOUR)
    shutil.copytree(folder / "one", folder / "two")
    io.write_seg(phantom.mask, pet, folder / "two" / "other.dcm", TUMOUR)
    return folder, np.asarray(phantom.mask.array)


def test_studies_become_cases_and_bad_ones_stop_nothing(
    archive: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, mask = archive
    cases = prepare_from_dicom(folder, "sts_petctmr", tmp_path, shares=(1.0, 0.0, 0.0))
    assert [c.case for c in cases] == ["none", "one", "two"]
    assert [c.error.code if c.error else None for c in cases] == [
        "E_SEGMENTATION",
        None,
        "E_AMBIGUOUS",
    ]
    label = io.read_nifti(tmp_path / "one" / "label.nii.gz")
    np.testing.assert_array_equal(label.array, mask)
    names = ("pet", "ct", "mr_t1")
    (entry,) = load_datalist(tmp_path / "datalist.json", "training", tmp_path, names, ["pet"])
    assert set(entry) == {"case", "pet", "mr_t1", "label"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["datalist.json", "one", "patients.salt"]


def test_studies_of_a_patient_stay_together_and_its_id_is_not_written(
    archive: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    from differseg_med.bundle._prepare import _salt

    folder, _ = archive
    for name in ("a", "b", "c"):
        shutil.copytree(folder / "one", tmp_path / "in" / name)
    for path in (tmp_path / "in" / "c").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "OTHER-4711"
        dataset.save_as(path)
    shutil.make_archive(str(tmp_path / "in" / "b"), "zip", tmp_path / "in" / "b")
    shutil.rmtree(tmp_path / "in" / "b")
    out = tmp_path / "out"
    cases = prepare_from_dicom(tmp_path / "in", "sts_petctmr", out, shares=(0.5, 0.0, 0.5))
    assert [c.case for c in cases if c.error is None] == ["a", "b", "c"]
    content = json.loads((out / "datalist.json").read_text())
    patients = content["patients"]
    assert patients["a"] == patients["b"] != patients["c"]
    sections = [{patients[e["case"]] for e in content[s]} for s in ("training", "test")]
    assert all(sections)
    assert not sections[0] & sections[1]
    written = "".join(p.read_text("latin-1") for p in out.rglob("*") if p.is_file())
    assert "OTHER-4711" not in written
    assert "PHANTOM" not in written
    assert (out / "patients.salt").stat().st_mode & 0o077 == 0
    assert _salt(out) == _salt(out) != _salt(tmp_path / "elsewhere")


def test_split_depends_on_patients_and_seed_alone(tmp_path: Path) -> None:
    from differseg_med.bundle._prepare import _write_datalist

    cases = [PreparedCase(f"case_{i}", ("pet",), f"key {i}") for i in range(20)]
    texts = []
    for order in (cases, cases[::-1]):
        _write_datalist(tmp_path, order, (0.7, 0.1, 0.2), 0)
        texts.append((tmp_path / "datalist.json").read_text())
    assert texts[0] == texts[1]
    content = json.loads(texts[0])
    assert [len(content[s]) for s in ("training", "validation", "test")] == [14, 2, 4]
    _write_datalist(tmp_path, cases, (0.7, 0.1, 0.2), 1)
    assert (tmp_path / "datalist.json").read_text() != texts[0]


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="E_PATH"):
        prepare_from_dicom(tmp_path / "none", "sts_petctmr", tmp_path)
    with pytest.raises(UsageError, match="E_OPTION"):
        prepare_from_dicom(tmp_path, "sts_petctmr", tmp_path, shares=(0.5, 0.1, 0.1))


@pytest.mark.realdata
def test_contours_match_the_distributed_masks(shared: Path, tmp_path: Path) -> None:
    cases = prepare_from_dicom(shared / "data" / "sts_dicom", "sts_petctmr", tmp_path)
    assert len(cases) == 4
    for case in cases:
        assert case.modalities == ("pet", "ct", "mr_t1")
        label = io.read_nifti(tmp_path / case.case / "label.nii.gz")
        expected = io.read_nifti(shared / "data" / "sts" / case.case / "pet_gtv.nii.gz")
        moved = io.resample(expected, label.grid, order="nearest", fill=0.0)
        assert dice(label.array, moved) >= 0.97
