"""Contours of masks: by hand, through matplotlib's own test of points, and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline
from placed import INFO, SHAPE, STUDY, directions, make_grid, make_mask, write_reference
from scipy import ndimage

from differseg_med.errors import OutputError, StudyError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import read_rtstruct, write_rtstruct


def _contours(path: Path) -> list[np.ndarray]:
    region = pydicom.dcmread(path).ROIContourSequence[0]
    found = region.get("ContourSequence") or []
    return [np.array(c.ContourData, float).reshape(-1, 3) for c in found]


@pytest.mark.parametrize("index", [0, 13, 30, 48, 50])
def test_every_voxel_comes_back(tmp_path: Path, index: int) -> None:
    grid = make_grid(directions()[index])
    mask = make_mask(grid)
    path = write_rtstruct(mask, write_reference(tmp_path / "ct", grid), tmp_path / "rt.dcm", INFO)
    assert np.array_equal(read_rtstruct(path, grid).array, mask.array)


def test_hand_worked_contour(tmp_path: Path) -> None:
    """One voxel: a diamond half a voxel wide around it, on its slice, which it names."""
    grid = make_grid()
    mask = Volume(np.zeros(SHAPE, np.uint8), grid)
    mask.array[2, 1, 3] = 1
    series = write_reference(tmp_path / "ct", grid)
    path = write_rtstruct(mask, series, tmp_path / "rt.dcm", INFO)
    (points,) = _contours(path)
    center = np.array([-12.5 + 2 * 1.5, 20.75 + 2, 101.125 + 3 * 3.25])
    away = {tuple(np.round(point - center, 4) + 0.0) for point in points}
    assert away == {(0.75, 0, 0), (-0.75, 0, 0), (0, 1, 0), (0, -1, 0)}
    ds = pydicom.dcmread(path)
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == series.instances[3].uid
    assert (contour.ContourGeometricType, contour.NumberOfContourPoints) == ("CLOSED_PLANAR", 4)
    roi = ds.StructureSetROISequence[0]
    assert (roi.ROIName, roi.ROIGenerationAlgorithm) == ("Lesion", "AUTOMATIC")
    assert roi.ReferencedFrameOfReferenceUID == STUDY.frame_uid
    assert "research use" in ds.SeriesDescription
    assert ds.SeriesInstanceUID != series.uid
    frame = ds.ReferencedFrameOfReferenceSequence[0]
    stack = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert stack.SeriesInstanceUID == series.uid
    assert len(stack.ContourImageSequence) == 5


def test_holes_are_key_holes_that_any_rule_fills_alike(tmp_path: Path) -> None:
    """Matplotlib fills by winding number, our reader by odd and even: both leave the holes out."""
    grid = make_grid(shape=(40, 36, 3))
    noise = np.random.default_rng(8).normal(size=grid.shape)
    smooth = ndimage.gaussian_filter(noise, (2, 2, 0))
    blobs = smooth > -smooth.std()
    mask = Volume(blobs.astype(np.uint8), grid)
    holes = ndimage.label(~np.pad(blobs[:, :, 1], 1, constant_values=False))[1] - 1
    assert holes >= 3
    path = write_rtstruct(mask, write_reference(tmp_path / "ct", grid), tmp_path / "rt.dcm", INFO)
    assert np.array_equal(read_rtstruct(path, grid).array, mask.array)
    filled = np.zeros(grid.shape, bool)
    centers = np.indices(grid.shape[:2]).reshape(2, -1).T
    for points in _contours(path):
        index = grid.to_index(points * (-1, -1, 1))
        inside = Outline(index[:, :2]).contains_points(centers).reshape(grid.shape[:2])
        filled[:, :, int(np.rint(index[0, 2]))] |= inside
    assert np.array_equal(filled, blobs)


def test_area_of_the_contours_is_that_of_a_disc(tmp_path: Path) -> None:
    grid = make_grid(shape=(64, 48, 3))
    x, y = np.meshgrid(1.5 * (np.arange(64) - 31.2), 2 * (np.arange(48) - 23.7), indexing="ij")
    mask = Volume(np.zeros(grid.shape, np.uint8), grid)
    mask.array[:, :, 1] = x**2 + y**2 <= 30**2
    path = write_rtstruct(mask, write_reference(tmp_path / "ct", grid), tmp_path / "rt.dcm", INFO)
    (points,) = _contours(path)
    x, y = points[:, 0], points[:, 1]
    area = 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    assert area == pytest.approx(np.pi * 30**2, rel=0.01)
    assert len(points) < 120  # none on straight lines


def test_an_empty_mask_is_a_region_without_contours(tmp_path: Path) -> None:
    grid = make_grid()
    empty = Volume(np.zeros(SHAPE, np.uint8), grid)
    path = write_rtstruct(empty, write_reference(tmp_path / "ct", grid), tmp_path / "rt.dcm", INFO)
    assert _contours(path) == []
    assert not read_rtstruct(path, grid).array.any()


def test_a_tilted_gantry_and_a_lesion_at_the_border(tmp_path: Path) -> None:
    affine = np.array(make_grid().affine)
    affine[1, 2] += 1.1
    grid = Grid(SHAPE, affine, STUDY.frame_uid)
    mask = make_mask(grid)
    mask.array[:, :, 4] = mask.array[0] = 1
    path = write_rtstruct(mask, write_reference(tmp_path / "ct", grid), tmp_path / "rt.dcm", INFO)
    assert np.array_equal(read_rtstruct(path, grid).array, mask.array)


def test_planes_between_slices_name_no_slice(tmp_path: Path) -> None:
    series = write_reference(tmp_path / "ct", make_grid())
    even = Grid((7, 6, 8), make_grid().affine, STUDY.frame_uid)
    mask = make_mask(even)
    path = write_rtstruct(mask, replace(series, grid=even), tmp_path / "rt.dcm", INFO)
    assert np.array_equal(read_rtstruct(path, even).array, mask.array)
    found = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    named = {"ContourImageSequence" in contour for contour in found}
    assert named == {True, False}


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    first, again, other = (
        write_rtstruct(make_mask(grid, seed), series, tmp_path / f"{name}.dcm", INFO)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.read_bytes() == again.read_bytes()
    assert pydicom.dcmread(first).SOPInstanceUID != pydicom.dcmread(other).SOPInstanceUID


def test_what_reads_back_differently_is_removed(tmp_path: Path, monkeypatch) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    write = pydicom.dcmwrite

    def write_spoilt(path, ds, **options) -> None:
        del ds.ROIContourSequence[0].ContourSequence[1]
        write(path, ds, **options)

    monkeypatch.setattr(pydicom, "dcmwrite", write_spoilt)
    with pytest.raises(OutputError, match="E_READBACK"):
        write_rtstruct(make_mask(grid), series, tmp_path / "out" / "rt.dcm", INFO)
    assert not list((tmp_path / "out").iterdir())


def test_a_mask_on_another_grid_or_without_a_frame_is_refused(tmp_path: Path) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    with pytest.raises(StudyError, match="E_GEOMETRY"):
        write_rtstruct(make_mask(Grid((7, 6, 4), grid.affine)), series, tmp_path / "r.dcm", INFO)
    with pytest.raises(OutputError, match="E_NO_FRAME"):
        write_rtstruct(make_mask(grid), replace(series, frame=None), tmp_path / "r.dcm", INFO)
