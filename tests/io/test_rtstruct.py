"""Contours become voxels: by hand, against another point-in-polygon test, and on real contours."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline
from placed import directions
from pydicom.dataset import Dataset, FileMetaDataset

from differseg_med.errors import StudyError
from differseg_med.geometry import Grid
from differseg_med.io import read_nifti, read_rtstruct, read_study

SHAPE = (9, 8, 4)


def _grid(direction: np.ndarray | None = None) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([-1, -1, 1]) if direction is None else direction) * (1.5, 2, 3)
    affine[:3, 3] = (7.5, -3, 40)
    return Grid(SHAPE, affine, "1.2.3")


def _write(path: Path, regions, grid: Grid, kind: str = "CLOSED_PLANAR", frame="1.2.3") -> Path:
    """Regions are name -> contours, a contour is (n, 3) points in voxel indices of the grid."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.RTStructureSetStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=3):
        item, region = Dataset(), Dataset()
        item.ROINumber, item.ROIName = number, name
        item.ReferencedFrameOfReferenceUID = frame
        region.ReferencedROINumber, region.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            lps = grid.to_world(np.asarray(points, dtype=float)) * (-1, -1, 1)
            contour.ContourData = [f"{x:.9g}" for x in lps.ravel()]
            region.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(item)
        ds.ROIContourSequence.append(region)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def _box(low, high, k: float) -> list[tuple[float, float, float]]:
    (a, b), (c, d) = low, high
    return [(a, b, k), (c, b, k), (c, d, k), (a, d, k)]


def test_hand_worked_box_with_a_hole_and_an_island_in_it(tmp_path: Path) -> None:
    contours = [
        _box((0.5, 0.5), (7.5, 6.5), 2),
        _box((1.5, 1.5), (6.5, 5.5), 2),
        _box((3.5, 2.5), (4.5, 4.5), 2),
        _box((0.5, 0.5), (2.5, 1.5), 0),
    ]
    path = _write(tmp_path / "rt.dcm", {"GTV": contours}, _grid())
    mask = read_rtstruct(path, _grid())
    expected = np.zeros(SHAPE, np.uint8)
    expected[1:8, 1:7, 2] = 1
    expected[2:7, 2:6, 2] = 0
    expected[4, 3:5, 2] = 1
    expected[1:3, 1, 0] = 1
    assert np.array_equal(mask.array, expected)
    assert mask.array.dtype == np.uint8


def test_a_key_hole_contour_has_its_hole(tmp_path: Path) -> None:
    outer = [(0.5, 0.5), (7.5, 0.5), (7.5, 6.5), (0.5, 6.5), (0.5, 3)]
    inner = [(2.5, 3), (2.5, 5.5), (5.5, 5.5), (5.5, 1.5), (2.5, 1.5), (2.5, 3), (0.5, 3)]
    points = [(*point, 1) for point in outer + inner]
    mask = read_rtstruct(_write(tmp_path / "rt.dcm", {"GTV": [points]}, _grid()), _grid())
    expected = np.zeros(SHAPE, np.uint8)
    expected[1:8, 1:7, 1] = 1
    expected[3:6, 2:6, 1] = 0
    assert np.array_equal(mask.array, expected)


def test_a_centre_on_an_edge_belongs_to_the_side_of_larger_index(tmp_path: Path) -> None:
    """Two boxes that share an edge through voxel centres share no voxel and leave none out."""
    grid = _grid()
    regions = {"a": [_box((1, 1), (4, 5), 0)], "b": [_box((4, 1), (6, 5), 0)]}
    path = _write(tmp_path / "rt.dcm", regions, grid)
    first, second = (read_rtstruct(path, grid, name).array for name in "ab")
    assert np.array_equal(np.argwhere(first).max(axis=0), (3, 4, 0))
    assert np.array_equal(np.argwhere(second).min(axis=0), (4, 1, 0))
    assert not (first & second).any()
    assert first.sum() + second.sum() == 5 * 4


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_another_point_in_polygon_test(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 40))
    radii = generator.uniform(0.5, 3.4, 40)
    flat = np.stack([4 + radii * np.cos(angles), 3.5 + radii * np.sin(angles)], axis=1)
    points = np.column_stack([flat, np.full(40, 3)])
    mask = read_rtstruct(_write(tmp_path / "rt.dcm", {"GTV": [points]}, _grid()), _grid())
    centers = np.indices(SHAPE[:2]).reshape(2, -1).T
    expected = Outline(flat).contains_points(centers).reshape(SHAPE[:2])
    assert np.array_equal(mask.array[:, :, 3], expected)
    assert not mask.array[:, :, :3].any()


def test_every_orientation_gives_the_same_voxels(tmp_path: Path) -> None:
    contours = [_box((0.6, 1.7), (5.3, 6.2), 1), _box((2.2, 2.2), (3.4, 3.4), 2)]
    expected = read_rtstruct(_write(tmp_path / "rt.dcm", {"GTV": contours}, _grid()), _grid())
    assert expected.array.sum() == 5 * 5 + 1
    for direction in directions():
        grid = _grid(direction)
        path = _write(tmp_path / "rt.dcm", {"GTV": contours}, grid)
        assert np.array_equal(read_rtstruct(path, grid).array, expected.array)


def test_an_empty_region_is_an_empty_mask(tmp_path: Path) -> None:
    mask = read_rtstruct(_write(tmp_path / "rt.dcm", {"GTV": []}, _grid()), _grid())
    assert not mask.array.any()


@pytest.mark.parametrize(
    ("contour", "message"),
    [
        (_box((1, 1), (3, 3), 1.3), r"0\.90 mm from the nearest slice .* 3\.00 mm apart"),
        ([(1, 1, 1), (3, 1, 1), (3, 3, 2)], "mm from the nearest slice"),
        (_box((1, 1), (3, 3), 5), "outside the reference"),
        (_box((1, 1), (9.2, 3), 1), "outside the reference"),
    ],
)
def test_contours_that_do_not_fit_the_slices_are_refused(
    tmp_path: Path, contour, message: str
) -> None:
    path = _write(tmp_path / "rt.dcm", {"GTV": [contour]}, _grid())
    with pytest.raises(StudyError, match=f"E_SEGMENTATION.*{message}"):
        read_rtstruct(path, _grid())


def test_contours_along_the_slices_of_another_plane_are_refused(tmp_path: Path) -> None:
    sagittal = _grid(np.eye(3)[:, [1, 2, 0]])
    path = _write(tmp_path / "rt.dcm", {"GTV": [_box((1, 1), (5, 5), 1)]}, sagittal)
    with pytest.raises(StudyError, match="E_SEGMENTATION"):
        read_rtstruct(path, _grid())


def test_the_region_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    grid = _grid()
    regions = {"GTV": [_box((1, 1), (3, 3), 0)], "CTV": [_box((1, 1), (6, 6), 0)]}
    path = _write(tmp_path / "rt.dcm", regions, grid)
    assert read_rtstruct(path, grid, "CTV").array.sum() == 25
    assert read_rtstruct(path, grid, 3).array.sum() == 4
    for roi in (None, "PTV", 9):
        with pytest.raises(StudyError, match=r"E_SEGMENTATION.*'GTV', 'CTV'"):
            read_rtstruct(path, grid, roi)


def test_other_frames_points_and_objects_are_refused(tmp_path: Path) -> None:
    grid = _grid()
    regions = {"GTV": [_box((1, 1), (3, 3), 0)]}
    path = _write(tmp_path / "frame.dcm", regions, grid, frame="9.9")
    with pytest.raises(StudyError, match=r"E_SEGMENTATION.*frame of reference"):
        read_rtstruct(path, grid)
    assert read_rtstruct(path, Grid(SHAPE, grid.affine)).array.sum() == 4
    path = _write(tmp_path / "open.dcm", regions, grid, kind="OPEN_PLANAR")
    with pytest.raises(StudyError, match=r"E_SEGMENTATION.*OPEN_PLANAR"):
        read_rtstruct(path, grid)
    ds = pydicom.dcmread(path)
    ds.SOPClassUID = pydicom.uid.RTPlanStorage
    ds.save_as(tmp_path / "plan.dcm")
    with pytest.raises(StudyError, match="E_UNSUPPORTED"):
        read_rtstruct(tmp_path / "plan.dcm", grid)
    (tmp_path / "junk.dcm").write_bytes(b"junk")
    for name in ("junk.dcm", "nothing.dcm"):
        with pytest.raises(StudyError, match="E_CORRUPT"):
            read_rtstruct(tmp_path / name, grid)
    ds = pydicom.dcmread(_write(path, regions, grid))
    del ds.StructureSetROISequence
    ds.save_as(path)
    with pytest.raises(StudyError, match="E_CORRUPT"):
        read_rtstruct(path, grid)


def test_the_structure_set_may_lie_in_an_archive(tmp_path: Path) -> None:
    path = _write(tmp_path / "rt.dcm", {"GTV": [_box((1, 1), (3, 3), 0)]}, _grid())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "x/rt.dcm")
    assert read_rtstruct(f"{tmp_path / 'a.zip'}!x/rt.dcm", _grid()).array.sum() == 4


@pytest.mark.realdata
@pytest.mark.parametrize("patient", ["sts_002", "sts_007", "sts_008", "sts_012"])
def test_real_contours_give_the_distributed_masks(shared: Path, patient: str) -> None:
    """Made by the distributors' own software: not a voxel of the twelve masks differs."""
    archive = shared / "data" / "sts_dicom" / f"{patient}.zip"
    study = read_study(archive)
    for code, folder, name in (("PT", "PET", "pet"), ("CT", "CT", "ct"), ("MR", "MR_T1", "mr_t1")):
        (series,) = (s for s in study.series if s.dicom == code)
        mask = read_rtstruct(f"{archive}!{folder}/mask/RS.dcm", series)
        truth = read_nifti(shared / "data" / "sts" / patient / f"{name}_gtv.nii.gz")
        assert mask.grid.is_same(truth.grid, tolerance_mm=0.01)
        assert truth.array.any()
        assert np.array_equal(mask.array, truth.array)
