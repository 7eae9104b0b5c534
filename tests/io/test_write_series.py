"""Series that we write, read back by pydicom, SimpleITK and a DICOM validator."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from placed import directions

from differseg_med.errors import OutputError, StudyError, UsageError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import StudyInfo, Tracer, write_series

STUDY = StudyInfo.from_seed(1)


def _volume(direction: np.ndarray, modality: str = "ct", shape=(5, 4, 3)) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = direction * (1.25, 2.5, 3.75)
    affine[:3, 3] = (11.5, -22.25, 33.125)
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(array, Grid(shape, affine), modality)


def _headers(paths) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in paths]


def test_hand_worked_case(tmp_path: Path) -> None:
    """Axes along -x, -y, +z of RAS are DICOM's own: columns to the left, rows to the back."""
    affine = [[-2, 0, 0, -10], [0, -3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]]
    array = np.zeros((2, 3, 2), dtype=np.float32)
    array[1, 0, 0], array[0, 2, 1] = 40, -1000
    paths = write_series(
        Volume(array, Grid((2, 3, 2), affine), "ct"), tmp_path, study=STUDY, number=7
    )
    first, second = _headers(paths)
    assert first.ImagePositionPatient == [10, -20, 30]
    assert second.ImagePositionPatient == [10, -20, 34]
    assert first.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert first.PixelSpacing == [3, 2]
    assert (first.Rows, first.Columns, first.SeriesNumber) == (3, 2, 7)
    assert (first.SliceThickness, second.SliceLocation) == (4, 34)
    assert (first.pixel_array - 1024).tolist() == [[0, 40], [0, 0], [0, 0]]
    assert (second.pixel_array.astype(int) - 1024).tolist() == [[0, 0], [0, 0], [-1000, 0]]
    assert (first.RescaleSlope, first.RescaleIntercept) == (1, -1024)


@pytest.mark.parametrize("index", range(51))
def test_simpleitk_finds_every_voxel_at_its_place(tmp_path: Path, index: int) -> None:
    volume = _volume(directions()[index])
    paths = write_series(volume, tmp_path, study=STUDY, number=1)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    assert {Path(name).name for name in names} == {path.name for path in paths}
    image = sitk.ReadImage(names)
    for voxel in np.ndindex(*volume.grid.shape):
        ras = volume.grid.to_world(voxel)
        lps = (-ras[0], -ras[1], ras[2])
        at = np.array(image.TransformPhysicalPointToContinuousIndex(lps))
        assert np.abs(at - np.rint(at)).max() < 1e-4
        assert image[tuple(int(n) for n in np.rint(at))] == volume.array[voxel]


def test_pet_is_bq_per_ml_from_which_suv_follows(tmp_path: Path) -> None:
    """SUV = activity * weight / (dose * 2^(-time / half-life)), computed from the header alone."""
    generator = np.random.default_rng(0)
    array = generator.gamma(1.0, 2.0, (6, 5, 4)).astype(np.float32) * np.array([1, 3, 0, 0.1])
    volume = Volume(array.astype(np.float32), _volume(np.eye(3), shape=(6, 5, 4)).grid, "pet")
    tracer = Tracer(dose_bq=2.5e8, uptake_s=4000.5)
    paths = write_series(volume, tmp_path, study=STUDY, number=2, tracer=tracer)
    for k, ds in enumerate(_headers(paths)):
        assert (ds.Units, ds.DecayCorrection, ds.RescaleIntercept) == ("BQML", "START", 0)
        dose = ds.RadiopharmaceuticalInformationSequence[0]
        form = "%Y%m%d%H%M%S.%f"
        scan = datetime.strptime(ds.SeriesDate + ds.SeriesTime, form)
        injected = datetime.strptime(dose.RadiopharmaceuticalStartDateTime, form)
        left = dose.RadionuclideTotalDose * 2 ** (
            -(scan - injected).total_seconds() / dose.RadionuclideHalfLife
        )
        suv = ds.pixel_array.T * ds.RescaleSlope * ds.PatientWeight * 1000 / left
        assert np.abs(suv - volume.array[:, :, k]).max() <= 1e-3 * volume.array[:, :, k].max()
        assert ds.AcquisitionTime == ds.SeriesTime
    slopes = {float(ds.RescaleSlope) for ds in _headers(paths)}
    assert len(slopes) == 4


def test_mr_keeps_whole_numbers_and_rescales_others(tmp_path: Path) -> None:
    whole = _volume(np.eye(3), "mr_t1")
    ds = _headers(write_series(whole, tmp_path / "a", study=STUDY, number=1))[1]
    assert "RescaleSlope" not in ds
    assert np.array_equal(ds.pixel_array.T, whole.array[:, :, 1])
    broken = Volume(whole.array / 7 - 3, whole.grid, "mr_t1")
    for k, ds in enumerate(_headers(write_series(broken, tmp_path / "b", study=STUDY, number=1))):
        read = ds.pixel_array.T * ds.RescaleSlope + ds.RescaleIntercept
        assert np.abs(read - broken.array[:, :, k]).max() < 1e-4 * np.ptp(broken.array)


def test_a_tilted_gantry_moves_the_slices_and_keeps_their_plane(tmp_path: Path) -> None:
    upright = _volume(np.diag([-1.0, -1.0, 1.0]))
    affine = np.array(upright.grid.affine)
    affine[1, 2] = 1.0
    tilted = Volume(upright.array, Grid(upright.array.shape, affine), "ct")
    first, second, _ = _headers(write_series(tilted, tmp_path, study=STUDY, number=1))
    assert first.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    step = np.subtract(second.ImagePositionPatient, first.ImagePositionPatient)
    assert np.allclose(step, [0, -1, 3.75])
    assert first.SliceThickness == 3.75


def test_uids_follow_from_study_number_and_content(tmp_path: Path) -> None:
    volume = _volume(np.eye(3))
    other = Volume(volume.array + 1, volume.grid, "ct")
    runs = {
        "again": _headers(write_series(volume, tmp_path / "0", study=STUDY, number=1)),
        "same": _headers(write_series(volume, tmp_path / "1", study=STUDY, number=1)),
        "number": _headers(write_series(volume, tmp_path / "2", study=STUDY, number=2)),
        "content": _headers(write_series(other, tmp_path / "3", study=STUDY, number=1)),
        "study": _headers(
            write_series(volume, tmp_path / "4", study=StudyInfo.from_seed(2), number=1)
        ),
    }
    names = [path.name for path in sorted((tmp_path / "0").iterdir())]
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    series = {key: run[0].SeriesInstanceUID for key, run in runs.items()}
    assert series["again"] == series["same"]
    assert len(set(series.values())) == 4
    uids = [ds.SOPInstanceUID for key, run in runs.items() if key != "same" for ds in run]
    assert len(set(uids)) == 12
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 64 for uid in uids)
    assert {ds.StudyInstanceUID for ds in runs["number"]} == {STUDY.study_uid}
    assert StudyInfo().study_uid != StudyInfo().study_uid


def test_the_grid_s_frame_wins_over_the_study_s(tmp_path: Path) -> None:
    bare = _volume(np.eye(3))
    framed = Volume(bare.array, Grid(bare.grid.shape, bare.grid.affine, "1.2.3"), "ct")
    frames = [
        _headers(write_series(v, tmp_path / str(n), study=STUDY, number=n))[0].FrameOfReferenceUID
        for n, v in enumerate((bare, framed))
    ]
    assert frames == [STUDY.frame_uid, "1.2.3"]


@pytest.mark.parametrize("modality", ["ct", "pet", "mr_t1", "mr_t2"])
def test_validator_finds_nothing(tmp_path: Path, modality: str) -> None:
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("needs dciodvfy of dicom3tools")
    for number, direction in ((1, np.diag([-1.0, -1.0, 1.0])), (2, directions()[-1])):
        volume = _volume(direction, modality)
        for path in write_series(volume, tmp_path / str(number), study=STUDY, number=number):
            run = subprocess.run([tool, "-new", path], capture_output=True, text=True, check=False)
            assert run.returncode == 0, run.stderr
            assert "Error" not in run.stderr
            assert "Warning" not in run.stderr


@pytest.mark.parametrize(
    ("modality", "value", "code"),
    [
        ("ct", np.nan, "E_VALUES"),
        ("ct", -1025, "E_VALUES"),
        ("ct", 70000, "E_VALUES"),
        ("pet", -0.1, "E_VALUES"),
        ("mr_t1", np.inf, "E_VALUES"),
    ],
)
def test_values_that_a_series_cannot_hold_are_refused(
    tmp_path: Path, modality: str, value: float, code: str
) -> None:
    volume = _volume(np.eye(3), modality)
    volume.array[2, 2, 2] = value
    with pytest.raises(StudyError, match=code):
        write_series(volume, tmp_path / "out", study=STUDY, number=1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_rows_that_are_not_square_to_columns_are_refused(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.1
    volume = Volume(np.zeros((3, 3, 3), np.float32), Grid((3, 3, 3), affine), "ct")
    with pytest.raises(StudyError, match="E_GEOMETRY"):
        write_series(volume, tmp_path, study=STUDY, number=1)


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    volume = _volume(np.eye(3))
    write_series(volume, tmp_path / "once", study=STUDY, number=1)
    with pytest.raises(OutputError, match="E_EXISTS"):
        write_series(volume, tmp_path / "once", study=STUDY, number=1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="E_WRITE"):
        write_series(volume, tmp_path / "file" / "in", study=STUDY, number=1)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    write = pydicom.dcmwrite

    def fill_up(path, dataset, **options) -> None:
        write(path, dataset, **options)
        if path.name == "IM0002.dcm":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom, "dcmwrite", fill_up)
    with pytest.raises(OutputError, match=r"E_WRITE.*slice 2 of 3: No space left"):
        write_series(_volume(np.eye(3)), tmp_path, study=STUDY, number=1)
    assert not list(tmp_path.iterdir())


def test_only_modalities_with_a_dicom_series_are_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="E_MODALITY"):
        write_series(_volume(np.eye(3), None), tmp_path, study=STUDY, number=1)
