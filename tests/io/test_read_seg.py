"""DICOM SEG read onto the reference's grid, other grids and not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from placed import INFO, SHAPE, directions, make_grid, make_mask, write_reference

from differseg_med.errors import StudyError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import read_seg, write_seg


def test_reading_on_a_turned_grid_turns_the_mask(tmp_path: Path) -> None:
    grid = make_grid(directions()[48])
    mask = make_mask(grid)
    path = write_seg(mask, write_reference(tmp_path / "ct", grid), tmp_path / "seg.dcm", INFO)
    affine = np.array(grid.affine)[:, [2, 0, 1, 3]]
    affine[:3, 3] = grid.to_world((0, 5, 0))
    affine[:3, 2] *= -1
    turned = Grid((5, 7, 6), affine, grid.frame)
    expected = np.flip(mask.array.transpose(2, 0, 1), axis=2)
    assert np.array_equal(read_seg(path, turned).array, expected)


def test_reading_on_another_grid_takes_the_value_at_each_centre(tmp_path: Path) -> None:
    """A ball, on a coarser and shifted grid: each voxel by hand."""
    grid = make_grid(shape=(20, 16, 10))
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    inside = (((index - (9.3, 7.6, 4.4)) * grid.spacing) ** 2).sum(-1) < 9.0**2
    series = write_reference(tmp_path / "ct", grid)
    path = write_seg(Volume(inside.astype(np.uint8), grid), series, tmp_path / "seg.dcm", INFO)
    affine = np.array(grid.affine)
    affine[:3, :3] *= 1.3
    affine[:3, 3] = grid.to_world((0.31, 0.22, 0.43))
    other = Grid((15, 12, 8), affine, grid.frame)
    found = read_seg(path, other).array
    for voxel in np.ndindex(other.shape):
        near = np.rint(grid.to_index(other.to_world(voxel))).astype(int)
        is_in = bool((near < grid.shape).all() and inside[tuple(near)])
        assert found[voxel] == is_in


def test_parts_outside_the_reference_are_refused(tmp_path: Path) -> None:
    grid = make_grid()
    path = write_seg(
        make_mask(grid), write_reference(tmp_path / "ct", grid), tmp_path / "seg.dcm", INFO
    )
    part = Grid((7, 6, 4), grid.affine, grid.frame)
    with pytest.raises(StudyError, match=r"E_SEGMENTATION.*outside"):
        read_seg(path, part)
    affine = np.array(grid.affine)
    affine[:3, :3] *= 1.7
    with pytest.raises(StudyError, match=r"E_SEGMENTATION.*outside"):
        read_seg(path, Grid((3, 3, 3), affine, grid.frame))
    with pytest.raises(StudyError, match=r"E_SEGMENTATION.*frame of reference"):
        read_seg(path, Grid(SHAPE, grid.affine, "1.2.3"))


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_two_segments_are_told_apart(tmp_path: Path, kind: str) -> None:
    grid = make_grid()
    sources = [
        pydicom.dcmread(instance.source)
        for instance in write_reference(tmp_path / "ct", grid).instances
    ]
    labels = np.random.default_rng(2).integers(0, 3, SHAPE).astype(np.uint8)
    stack = np.stack([labels == 1, labels == 2], axis=-1).transpose(2, 1, 0, 3)
    described = [
        hd.seg.SegmentDescription(
            number,
            name,
            pydicom.sr.codedict.codes.SCT.Tissue,
            pydicom.sr.codedict.codes.SCT.Liver,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in ((1, "one"), (2, "two"))
    ]
    hd.seg.Segmentation(
        sources,
        labels.T if kind == "LABELMAP" else stack.astype(np.uint8 if kind == "BINARY" else float),
        kind,
        described,
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.3.4",
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
    ).save_as(tmp_path / "seg.dcm")
    for segment, number in ((1, 1), ("two", 2)):
        found = read_seg(tmp_path / "seg.dcm", grid, segment).array
        assert np.array_equal(found, labels == number)
    for segment in (None, 3, "three"):
        with pytest.raises(StudyError, match=r"E_SEGMENTATION.*numbers 1, 2"):
            read_seg(tmp_path / "seg.dcm", grid, segment)


def test_what_is_no_seg_is_refused(tmp_path: Path) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    with pytest.raises(StudyError, match="E_UNSUPPORTED"):
        read_seg(series.instances[0].source, grid)
    (tmp_path / "junk.dcm").write_bytes(b"junk")
    with pytest.raises(StudyError, match="E_CORRUPT"):
        read_seg(tmp_path / "junk.dcm", grid)
    path = write_seg(make_mask(grid), series, tmp_path / "seg.dcm", INFO)
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(StudyError, match="E_CORRUPT"):
        read_seg(path, grid)


def test_a_seg_may_lie_in_an_archive(tmp_path: Path) -> None:
    grid = make_grid()
    mask = make_mask(grid)
    path = write_seg(mask, write_reference(tmp_path / "ct", grid), tmp_path / "seg.dcm", INFO)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "x/seg.dcm")
    assert np.array_equal(read_seg(f"{tmp_path / 'a.zip'}!x/seg.dcm", grid).array, mask.array)
