"""DICOM SEG: where highdicom, dcmqi and SimpleITK find the voxels, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from placed import (
    INFO,
    SHAPE,
    STUDY,
    directions,
    in_order,
    make_grid,
    make_mask,
    set_points,
    write_reference,
)

from differseg_med.errors import OutputError, StudyError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import read_nifti, read_seg, read_study, write_seg


def _sitk_points(image: sitk.Image) -> np.ndarray:
    found = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1]
    points = [image.TransformIndexToPhysicalPoint([int(n) for n in index]) for index in found]
    return in_order(np.array(points))


def _tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def _validate(path: Path) -> None:
    run = subprocess.run(
        [_tool("dciodvfy"), "-new", path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Error" not in run.stderr
    assert "Warning" not in run.stderr


@pytest.mark.parametrize("index", range(51))
def test_highdicom_finds_every_voxel_in_patient_space(tmp_path: Path, index: int) -> None:
    grid = make_grid(directions()[index])
    mask = make_mask(grid)
    path = write_seg(mask, write_reference(tmp_path / "ct", grid), tmp_path / "seg.dcm", INFO)
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    found = volume.map_indices_to_reference(np.argwhere(volume.array))
    assert np.abs(in_order(found) - set_points(mask)).max() < 1e-3
    back = read_seg(path, grid)
    assert np.array_equal(back.array, mask.array)
    assert back.array.dtype == np.uint8


@pytest.mark.parametrize("index", [0, 13, 30, 49])
def test_dcmqi_and_simpleitk_find_every_voxel(tmp_path: Path, index: int) -> None:
    tool = _tool("segimage2itkimage")
    grid = make_grid(directions()[index])
    mask = make_mask(grid)
    path = write_seg(mask, write_reference(tmp_path / "ct", grid), tmp_path / "seg.dcm", INFO)
    for kind, name in (("nrrd", "1.nrrd"), ("nii", "1.nii.gz")):
        command = [tool, "--inputDICOM", path, "--outputDirectory", tmp_path, "--outputType", kind]
        subprocess.run(command, check=True, capture_output=True)
        found = _sitk_points(sitk.ReadImage(tmp_path / name))
        assert np.abs(found - set_points(mask)).max() < 1e-2


@pytest.mark.parametrize("modality", ["ct", "pet", "mr_t1"])
def test_validator_finds_nothing(tmp_path: Path, modality: str) -> None:
    grid = make_grid(directions()[-1])
    series = write_reference(tmp_path / "in", grid, modality)
    _validate(write_seg(make_mask(grid), series, tmp_path / "seg.dcm", INFO))
    empty = Volume(np.zeros(grid.shape, np.uint8), grid)
    _validate(write_seg(empty, series, tmp_path / "empty.dcm", INFO))


def test_hand_worked_frame(tmp_path: Path) -> None:
    """One voxel: its frame, its bit, its source image and its position are all known."""
    grid = make_grid()
    mask = Volume(np.zeros(SHAPE, np.uint8), grid)
    mask.array[2, 1, 3] = 1
    series = write_reference(tmp_path / "ct", grid)
    ds = pydicom.dcmread(write_seg(mask, series, tmp_path / "seg.dcm", INFO))
    assert (ds.NumberOfFrames, ds.Rows, ds.Columns) == (1, 6, 7)
    assert (ds.SegmentationType, ds.Modality) == ("BINARY", "SEG")
    assert int.from_bytes(ds.PixelData, "little") == 1 << (1 * 7 + 2)
    group = ds.PerFrameFunctionalGroupsSequence[0]
    place = group.PlanePositionSequence[0].ImagePositionPatient
    assert place == pytest.approx([-12.5, 20.75, 101.125 + 3 * 3.25])
    source = group.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == series.instances[3].uid
    assert len(ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 5
    assert ds.FrameOfReferenceUID == STUDY.frame_uid
    assert ds.StudyInstanceUID == STUDY.study_uid
    assert ds.SeriesInstanceUID != series.uid
    assert "research use" in ds.SeriesDescription
    segment = ds.SegmentSequence[0]
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("Lesion", "AUTOMATIC")
    assert segment.SegmentAlgorithmName == "sts_petctmr"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmVersion == "0.1.0"


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    """No clock and no chance: an archive that has the object already has this one."""
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    made = replace(INFO, parameters=(("weights_sha256", "ab" * 32),))
    first = write_seg(make_mask(grid), series, tmp_path / "a.dcm", made)
    assert write_seg(make_mask(grid), series, tmp_path / "b.dcm", made).read_bytes() == (
        first.read_bytes()
    )
    ds = pydicom.dcmread(first)
    algorithm = ds.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmParameters == f"weights_sha256={'ab' * 32}"
    source = pydicom.dcmread(series.instances[0].source)
    assert ds.ContentDate in (source.get("AcquisitionDate"), source.StudyDate)
    uids = {ds.SOPInstanceUID}
    moved = replace(series.instances[2], uid="1.2.3")
    for mask, reference, info in (
        (make_mask(grid, 1), series, made),
        (make_mask(grid), series, INFO),
        (make_mask(grid), replace(series, uid="1.2"), made),
        (
            make_mask(grid),
            replace(series, instances=(*series.instances[:2], moved, *series.instances[3:])),
            made,
        ),
    ):
        other = pydicom.dcmread(write_seg(mask, reference, tmp_path / "c.dcm", info))
        assert other.SOPInstanceUID not in uids
        assert other.SegmentSequence[0].TrackingUID != ds.SegmentSequence[0].TrackingUID
        uids.add(other.SOPInstanceUID)


def test_an_empty_mask_is_a_result(tmp_path: Path) -> None:
    grid = make_grid()
    empty = Volume(np.zeros(SHAPE, np.uint8), grid)
    path = write_seg(empty, write_reference(tmp_path / "ct", grid), tmp_path / "seg.dcm", INFO)
    assert pydicom.dcmread(path).NumberOfFrames == SHAPE[2]
    assert not read_seg(path, grid).array.any()


def test_a_tilted_gantry_keeps_every_voxel_on_its_slice(tmp_path: Path) -> None:
    affine = np.array(make_grid().affine)
    affine[1, 2] += 1.1
    grid = Grid(SHAPE, affine, STUDY.frame_uid)
    mask = make_mask(grid)
    series = write_reference(tmp_path / "ct", grid)
    path = write_seg(mask, series, tmp_path / "seg.dcm", INFO)
    assert np.array_equal(read_seg(path, grid).array, mask.array)
    ds = pydicom.dcmread(path)
    uids = {instance.uid: instance.position for instance in series.instances}
    for group in ds.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        place = group.PlanePositionSequence[0].ImagePositionPatient
        assert place == pytest.approx(uids[source.ReferencedSOPInstanceUID])


def test_slices_that_were_resampled_get_the_planes_of_the_grid(tmp_path: Path) -> None:
    """Five slices at uneven steps, a grid of eight even ones."""
    series = write_reference(tmp_path / "ct", make_grid())
    even = Grid((7, 6, 8), make_grid().affine, STUDY.frame_uid)
    mask = make_mask(even)
    path = write_seg(mask, replace(series, grid=even), tmp_path / "seg.dcm", INFO)
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    found = volume.map_indices_to_reference(np.argwhere(volume.array))
    assert np.abs(in_order(found) - set_points(mask)).max() < 1e-3
    assert np.array_equal(read_seg(path, even).array, mask.array)


def test_jitter_within_the_gate_s_tolerance_is_kept(tmp_path: Path) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    generator = np.random.default_rng(0)
    moved = tuple(
        replace(
            instance,
            position=tuple(np.add(instance.position, generator.uniform(-0.02, 0.02, 3))),
            orientation=tuple(np.add(instance.orientation, generator.uniform(-1e-5, 1e-5, 6))),
        )
        for instance in series.instances
    )
    mask = make_mask(grid)
    path = write_seg(mask, replace(series, instances=moved), tmp_path / "seg.dcm", INFO)
    places = [
        group.PlanePositionSequence[0].ImagePositionPatient
        for group in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    ]
    wanted = np.array([moved[k].position for k in (1, 2, 4)])
    assert np.abs(in_order(np.array(places, dtype=float)) - in_order(wanted)).max() < 1e-6
    assert np.array_equal(read_seg(path, grid).array, mask.array)


@pytest.mark.parametrize("index", [0, 17, 48])
def test_an_enhanced_source_is_referenced_frame_by_frame(tmp_path: Path, index: int) -> None:
    """The stack is the second half of a multi-frame object, stored in reverse."""
    grid = make_grid(directions()[index], shape=(7, 6, 10))
    classic = write_reference(tmp_path / "ct", grid)
    datasets = [pydicom.dcmread(instance.source) for instance in classic.instances]
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(
        datasets[::-1], "1.2.3.4", 3, "1.2.3.4.5", 1
    )
    source = tmp_path / "enhanced.dcm"
    enhanced.save_as(source)
    order = [
        tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient))
        for group in enhanced.PerFrameFunctionalGroupsSequence
    ]
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.to_world((0, 0, 5))
    half = Grid(SHAPE, affine, grid.frame)
    instances = tuple(
        replace(
            instance,
            source=str(source),
            uid="1.2.3.4.5",
            frame=int(np.linalg.norm(np.subtract(order, instance.position), axis=1).argmin()),
        )
        for instance in classic.instances[5:]
    )
    series = replace(
        classic, uid="1.2.3.4", sop_class=enhanced.SOPClassUID, instances=instances, grid=half
    )
    mask = make_mask(half)
    path = write_seg(mask, series, tmp_path / "seg.dcm", INFO)
    assert np.array_equal(read_seg(path, half).array, mask.array)
    ds = pydicom.dcmread(path)
    frames = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for group in ds.PerFrameFunctionalGroupsSequence
    ]
    places = [
        tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient))
        for group in ds.PerFrameFunctionalGroupsSequence
    ]
    assert np.allclose(places, [order[number - 1] for number in frames])
    _validate(path)


def test_the_source_may_lie_in_an_archive_and_lack_type_2_attributes(tmp_path: Path) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    bare = pydicom.dcmread(series.instances[0].source)
    for keyword in [
        "AccessionNumber",
        "PatientBirthDate",
        "PatientSex",
        "PatientName",
        "StudyID",
        "StudyDate",
        "StudyTime",
    ]:
        delattr(bare, keyword)
    bare.save_as(tmp_path / "bare.dcm")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.write(tmp_path / "bare.dcm", "a/b/1.dcm")
    label = f"{tmp_path / 'study.zip'}!a/b/1.dcm"
    instances = (replace(series.instances[0], source=label), *series.instances[1:])
    mask = make_mask(grid)
    path = write_seg(mask, replace(series, instances=instances), tmp_path / "seg.dcm", INFO)
    ds = pydicom.dcmread(path)
    assert (ds.AccessionNumber, ds.PatientName, ds.StudyDate) == ("", "", "")
    assert ds.PatientID == "PHANTOM"
    assert np.array_equal(read_seg(path, grid).array, mask.array)


def test_patient_values_are_copied_and_never_shown(tmp_path: Path, capsys, caplog, recwarn) -> None:
    """A name of one part, an impossible date and letters outside ASCII are the source's matter."""
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    first = Path(series.instances[0].source)
    ds = pydicom.dcmread(first)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "CanäryName" + "y" * 80
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.PatientBirthDate = "1/2/CANARY"
        ds.StudyID = "longer than 16 characters"
        ds.save_as(first)
    caplog.clear()
    with caplog.at_level("DEBUG"):
        path = write_seg(make_mask(grid), series, tmp_path / "seg.dcm", INFO)
    logged = caplog.text
    written = pydicom.dcmread(path)
    assert written.PatientName == ds.PatientName
    assert (written.PatientBirthDate, written.StudyID) == ("", "")
    shown = capsys.readouterr()
    text = shown.out + shown.err + logged + "".join(str(w.message) for w in recwarn.list)
    assert "can" not in text.lower()


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    affine = np.array(grid.affine)
    affine[0, 3] += 0.01
    for other in (Grid(SHAPE, affine), Grid((7, 6, 4), grid.affine)):
        with pytest.raises(StudyError, match="E_GEOMETRY"):
            write_seg(make_mask(other), series, tmp_path / "seg.dcm", INFO)
    with pytest.raises(StudyError, match="E_GEOMETRY"):
        write_seg(make_mask(grid), replace(series, grid=None), tmp_path / "seg.dcm", INFO)
    assert not list(tmp_path.glob("*.dcm"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full(SHAPE, 0.5, np.float32), "float32 from 0.5 to 0.5"),
        (np.full(SHAPE, 2, np.uint8), "uint8 from 2 to 2"),
        (np.full(SHAPE, -1, np.int16), "int16 from -1 to -1"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    with pytest.raises(StudyError, match=f"E_VALUES.*{message}"):
        write_seg(Volume(array, grid), series, tmp_path / "seg.dcm", INFO)


def test_a_label_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    with pytest.raises(OutputError, match=r"E_WRITE.*64"):
        write_seg(make_mask(grid), series, tmp_path / "s.dcm", replace(INFO, label="x" * 65))


def test_every_frame_names_its_segment(tmp_path: Path) -> None:
    """Readers such as MONAI's look for it there only."""
    grid = make_grid()
    path = write_seg(
        make_mask(grid), write_reference(tmp_path / "ct", grid), tmp_path / "seg.dcm", INFO
    )
    ds = pydicom.dcmread(path)
    assert "SegmentIdentificationSequence" not in ds.SharedFunctionalGroupsSequence[0]
    for group in ds.PerFrameFunctionalGroupsSequence:
        assert group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1


def test_without_a_frame_of_reference_there_is_no_seg(tmp_path: Path) -> None:
    series = replace(write_reference(tmp_path / "ct", make_grid()), frame=None)
    with pytest.raises(OutputError, match="E_NO_FRAME"):
        write_seg(make_mask(make_grid()), series, tmp_path / "seg.dcm", INFO)


def test_a_source_that_is_gone_or_changed_is_refused(tmp_path: Path) -> None:
    series = write_reference(tmp_path / "ct", make_grid())
    changed = replace(series.instances[0], uid="1.2")
    with pytest.raises(StudyError, match=r"E_CORRUPT.*changed"):
        write_seg(
            make_mask(make_grid()),
            replace(series, instances=(changed, *series.instances[1:])),
            tmp_path / "seg.dcm",
            INFO,
        )
    Path(series.instances[0].source).unlink()
    with pytest.raises(StudyError, match="E_CORRUPT"):
        write_seg(make_mask(make_grid()), series, tmp_path / "seg.dcm", INFO)


def _shift_a_plane(ds) -> None:
    place = ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient = [float(x) + 0.15 for x in place.ImagePositionPatient]


def _turn_the_planes(ds) -> None:
    group = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    group.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def _stretch_the_pixels(ds) -> None:
    group = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    group.PixelSpacing = [2.1, 1.5]


def _flip_a_bit(ds) -> None:
    ds.PixelData = bytes([ds.PixelData[0] ^ 1]) + ds.PixelData[1:]


def _swap_two_frames(ds) -> None:
    groups = ds.PerFrameFunctionalGroupsSequence
    a, b = (groups[n].PlanePositionSequence[0] for n in (0, 1))
    a.ImagePositionPatient, b.ImagePositionPatient = b.ImagePositionPatient, a.ImagePositionPatient


@pytest.mark.parametrize(
    "spoil",
    [_shift_a_plane, _turn_the_planes, _stretch_the_pixels, _flip_a_bit, _swap_two_frames],
)
def test_what_reads_back_differently_is_removed(tmp_path: Path, monkeypatch, spoil) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    write = pydicom.dcmwrite

    def write_spoilt(path, ds, **options) -> None:
        spoil(ds)
        write(path, ds, **options)

    monkeypatch.setattr(pydicom, "dcmwrite", write_spoilt)
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="E_READBACK"):
        write_seg(make_mask(grid), series, tmp_path / "out" / "seg.dcm", INFO)
    assert not list((tmp_path / "out").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"E_WRITE: seg.dcm"):
        write_seg(make_mask(grid), series, tmp_path / "file" / "seg.dcm", INFO)
    write = pydicom.dcmwrite

    def fill_up(path, ds, **options) -> None:
        write(path, ds, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom, "dcmwrite", fill_up)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "seg.dcm").write_text("the former result")
    with pytest.raises(OutputError, match=r"E_WRITE.*No space left"):
        write_seg(make_mask(grid), series, tmp_path / "out" / "seg.dcm", INFO)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["the former result"]


@pytest.mark.realdata
def test_a_real_study_read_from_its_archive_gets_a_valid_seg(shared: Path, tmp_path: Path) -> None:
    """The source's Study ID is too long to be valid, so the SEG's is empty."""
    data = shared / "data"
    study = read_study(data / "sts_dicom" / "sts_008.zip")
    (series,) = (s for s in study.series if s.dicom == "PT")
    truth = read_nifti(data / "sts" / "sts_008" / "pet_gtv.nii.gz")
    mask = Volume(truth.array.astype(np.uint8), series.grid)
    path = write_seg(mask, series, tmp_path / "seg.dcm", INFO)
    assert np.array_equal(read_seg(path, series.grid).array, mask.array)
    ds = pydicom.dcmread(path)
    assert (str(ds.PatientID), ds.StudyID) == ("STS_008", "")
    run = subprocess.run(
        [_tool("dciodvfy"), "-new", path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    command = [_tool("segimage2itkimage"), "--inputDICOM", path, "--outputDirectory", tmp_path]
    subprocess.run([*command, "--outputType", "nrrd"], check=True, capture_output=True)
    found = _sitk_points(sitk.ReadImage(tmp_path / "1.nrrd"))
    assert np.abs(found - set_points(mask)).max() < 1e-2
