"""SEG, SR and RT Structure Set as others judge them: validators, dcmqi and highdicom.

Masks of no, one and several lesions over 24 orientations, 3 oblique ones, a tilted gantry and
slices in descending order; sources without the attributes that they should have.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from outside import check_entities, tool, validate
from placed import INFO, SHAPE, STUDY, directions, make_grid, write_reference

from differseg_med.geometry import Grid, Volume, centroid_mm
from differseg_med.io import (
    ReportGroup,
    ReportValue,
    SegmentCode,
    Series,
    write_rtstruct,
    write_seg,
    write_sr,
)

TYPE_2 = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
CENTROID_MM = 0.2
ML = SegmentCode("ml", "milliliter", "UCUM")


def _grids() -> dict[str, Grid]:
    named = directions()
    straight = [d for d in named[:48] if np.linalg.det(d) > 0]
    found = {f"straight {n}": make_grid(d) for n, d in enumerate(straight)}
    found |= {f"oblique {n}": make_grid(d) for n, d in enumerate(named[48:])}
    affine = np.array(make_grid().affine)
    affine[1, 2] += 1.1
    found["tilted"] = Grid(SHAPE, affine, STUDY.frame_uid)
    found["descending"] = make_grid(np.diag([-1, -1, -1]))
    return found


GRIDS = _grids()


def _masks(grid: Grid) -> dict[str, Volume]:
    masks = {name: Volume(np.zeros(SHAPE, np.uint8), grid) for name in ("none", "one", "several")}
    masks["one"].array[1:4, 2:4, 1:3] = 1
    masks["one"].array[4, 2, 1] = 1
    masks["several"].array[0:2, 0, 0] = masks["several"].array[5:7, 3:6, 3:5] = 1
    masks["several"].array[3, 1, 2] = 1
    return masks


def _write(mask: Volume, series: Series, folder: Path, name: str) -> tuple[Path, Path, Path]:
    seg = write_seg(mask, series, folder / f"{name}_seg.dcm", INFO)
    ml = float(mask.array.sum()) * mask.grid.voxel_volume / 1000
    values = (ReportValue(SegmentCode("118565006", "Volume"), ml, ML),)
    groups = [ReportGroup("Lesion", values)]
    center = centroid_mm(mask)
    if center is not None:
        point = tuple((center * (-1, -1, 1)).tolist())
        groups.append(ReportGroup("Lesion 1", values, point, point))
    report = write_sr(groups, seg, {"ct": series}, "ct", folder / f"{name}_sr.dcm", INFO)
    return seg, report, write_rtstruct(mask, series, folder / f"{name}_rt.dcm", INFO)


def _by_dcmqi(path: Path, folder: Path) -> tuple[float, np.ndarray]:
    """Volume in mL and centroid in LPS."""
    command = [tool("segimage2itkimage"), "--inputDICOM", path, "--outputDirectory", folder]
    subprocess.run([*command, "--outputType", "nrrd"], check=True, capture_output=True)
    image = sitk.ReadImage(folder / "1.nrrd") > 0
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    return shape.GetPhysicalSize(1) / 1000, np.array(shape.GetCentroid(1))


def _by_highdicom(path: Path) -> tuple[float, np.ndarray]:
    """Frame by frame, as highdicom makes no volume of a tilted gantry's slices."""
    seg = hd.seg.segread(path)
    (shared,) = seg.SharedFunctionalGroupsSequence
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    measures = shared.PixelMeasuresSequence[0]
    points = []
    for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        position = group.PlanePositionSequence[0].ImagePositionPatient
        place = hd.spatial.PixelToReferenceTransformer(position, orientation, measures.PixelSpacing)
        rows, columns = np.nonzero(frame)
        points.append(place(np.stack([columns, rows], axis=1)))
    found = np.concatenate(points)
    size = np.prod([*measures.PixelSpacing, measures.SpacingBetweenSlices])
    return len(found) * size / 1000, found.mean(axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_others_agree_on_every_geometry(tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]
    series = write_reference(tmp_path / "ct", grid)
    written: list[Path] = []
    for kind, mask in _masks(grid).items():
        objects = _write(mask, series, tmp_path, kind)
        for path in objects:
            validate(path)
        written += objects
        center = centroid_mm(mask)
        if center is None:
            continue
        ml = mask.array.sum() * grid.voxel_volume / 1000
        readers = [_by_highdicom(objects[0])]
        if name != "tilted":  # an image of ITK has no shear
            readers.append(_by_dcmqi(objects[0], tmp_path))
        for volume, place in readers:
            assert volume == pytest.approx(ml, rel=1e-4)
            assert np.abs(place - center * (-1, -1, 1)).max() <= CENTROID_MM
    check_entities([*written, *(tmp_path / "ct").iterdir()])


@pytest.mark.parametrize("keep", ["type 2 absent", "nothing optional"])
def test_bare_sources_still_give_valid_objects(tmp_path: Path, keep: str) -> None:
    grid = make_grid()
    series = write_reference(tmp_path / "ct", grid)
    for instance in series.instances:
        ds = pydicom.dcmread(instance.source)
        for keyword in TYPE_2:
            if keyword in ds:
                delattr(ds, keyword)
        if keep == "nothing optional":
            for element in list(ds):
                if element.keyword not in NEEDED:
                    del ds[element.tag]
        ds.save_as(instance.source)
    for kind, mask in _masks(grid).items():
        for path in _write(mask, series, tmp_path, kind):
            validate(path)
            ds = pydicom.dcmread(path)
            assert (ds.PatientID, ds.StudyDate, ds.AccessionNumber) == ("", "", "")


NEEDED = {
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelData",
    "RescaleSlope",
    "RescaleIntercept",
}
"""What an image cannot be placed or read without."""
