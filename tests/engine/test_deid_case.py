"""A case of a study that is de-identified first: choices, names, parts, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from differseg_med.engine import CaseOptions, ReadOptions, Wanted, read_inputs, segment_case
from differseg_med.engine._deid import pseudonymous_case
from differseg_med.errors import StudyError, UsageError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import StudyInfo, write_nifti, write_series

PETCT = Wanted(("pet", "ct"), ("pet",), "pet")


class Level:
    modalities = ("pet", "ct")
    required = ("pet",)
    reference = "pet"
    spacing = None
    window = (8, 8, 8)
    min_overlap = {"ct": 0.5}  # noqa: RUF012 - stands for an instance's attribute

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(4 * (image[:, :1] - 3))


def volume(name: str, seed: int) -> Volume:
    array = np.random.default_rng(seed).uniform(0, 5, (9, 8, 6)).astype(np.float32)
    return Volume(array, Grid(array.shape, np.diag([-4.0, -4.0, 4.0, 1.0])), name)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A PET and two CTs that only their description or number tells apart."""
    folder, info = tmp_path / "DOE_JOHN", StudyInfo.from_seed(1)
    write_series(volume("pet", 1), folder / "p", study=info, number=1)
    write_series(volume("ct", 2), folder / "a", study=info, number=2, description="thin")
    write_series(volume("ct", 3), folder / "b", study=info, number=3, description="thick")
    return folder


def read(study: Path, tmp_path: Path, choice: str | None, deid: bool):
    place = tmp_path / "map.sqlite" if deid else None
    options = ReadOptions(choices={"ct": choice} if choice else {}, deid=place)
    scratch = tmp_path / f"scratch {deid} {choice is None or choice[:3]}"
    return read_inputs(study, PETCT, options, scratch)


def uid(study: Path, series: str) -> str:
    return str(pydicom.dcmread(next((study / series).iterdir())).SeriesInstanceUID)


@pytest.mark.parametrize("choice", ["3", "b", "UID"])
def test_series_are_chosen_on_the_study_itself(study: Path, tmp_path: Path, choice: str) -> None:
    choice = uid(study, "b") if choice == "UID" else choice
    before, after = (read(study, tmp_path, choice, deid) for deid in (False, True))
    for name in ("pet", "ct"):
        np.testing.assert_array_equal(before.volumes[name].array, after.volumes[name].array)
        assert before.series[name].uid != after.series[name].uid
    assert [f.code for f in after.findings if f not in before.findings] == ["W_DEID"]
    copied = {path.parent.name for path in tmp_path.glob("scratch True*/deid/*/*")}
    assert len(copied) == 2  # the CT that was not chosen was not copied


def test_what_is_refused_on_the_study_is_not_copied(study: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="E_AMBIGUOUS"):
        read(study, tmp_path, None, deid=True)
    assert not list(tmp_path.glob("scratch*"))


def test_a_case_leaves_no_copy_behind(study: Path, tmp_path: Path) -> None:
    place = tmp_path / "map.sqlite"
    options = CaseOptions(("nifti", "seg"), ReadOptions({"ct": "2"}, deid=place), "c1")
    result = segment_case(study, Level(), tmp_path / "out", options)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["c1"]
    seg = pydicom.dcmread(result.folder / "mask.dcm")
    assert str(seg.PatientID).startswith("DEID-")
    assert seg.StudyInstanceUID.startswith("2.25.")
    again = segment_case(study, Level(), tmp_path / "again", options)
    assert pydicom.dcmread(again.folder / "mask.dcm").StudyInstanceUID == seg.StudyInstanceUID


def test_a_part_of_a_series_stays_that_part(study: Path, tmp_path: Path) -> None:
    for path in (study / "b").iterdir():  # a second stack at the same places, of another type
        data = pydicom.dcmread(path)
        data.SeriesInstanceUID, data.SeriesNumber = uid(study, "a"), 2
        data.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
        data.save_as(path)
    parts = [s.part for s in _series(study) if s.dicom == "CT"]
    assert len(parts) == 2
    choice = "@" + ",".join(f"{key}={value}" for key, value in parts[1].items())
    before, after = (read(study, tmp_path, choice, deid) for deid in (False, True))
    np.testing.assert_array_equal(before.volumes["ct"].array, after.volumes["ct"].array)


def _series(study: Path):
    from differseg_med.io import read_study

    return read_study(study).series


def test_names_of_cases_say_nothing_and_stay(study: Path, tmp_path: Path) -> None:
    options = CaseOptions(read=ReadOptions(deid=tmp_path / "map.sqlite"))
    name = pseudonymous_case(study, options, tmp_path / "out")
    assert name.startswith("DEID-")
    assert name == pseudonymous_case(f"{study}/../DOE_JOHN", options, tmp_path / "other")
    other = shutil.copytree(study, tmp_path / "DOE_JANE")
    assert name != pseudonymous_case(other, options, tmp_path / "out")


def test_the_map_may_not_lie_among_the_results(study: Path, tmp_path: Path) -> None:
    options = CaseOptions(read=ReadOptions(deid=tmp_path / "out" / "state" / "map.sqlite"))
    with pytest.raises(UsageError, match="E_UID_MAP"):
        pseudonymous_case(study, options, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nifti_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    write_nifti(volume("pet", 1), tmp_path / "s" / "pet.nii.gz")
    with pytest.raises(UsageError, match=r"E_OPTION: --deid has no use in a NIfTI study"):
        read(tmp_path / "s", tmp_path, None, deid=True)
