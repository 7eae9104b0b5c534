"""Structured reports: what highdicom and dcmqi read in them, and what is refused."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from outside import tool
from placed import INFO, make_grid, make_mask, write_reference

from differseg_med.errors import OutputError
from differseg_med.io import ReportGroup, ReportValue, SegmentCode, write_seg, write_sr

COUNT = ReportValue(
    SegmentCode("246206008", "Number of lesions"), 2.0, SegmentCode("1", "no units", "UCUM")
)
VOLUME = ReportValue(
    SegmentCode("118565006", "Volume"), 1 / 3, SegmentCode("ml", "milliliter", "UCUM")
)
MEAN = ReportValue(
    SegmentCode("126401", "SUVbw", "DCM"),
    3.25,
    SegmentCode("g/ml{SUVbw}", "Standardized Uptake Value body weight", "UCUM"),
    SegmentCode("373098007", "Mean"),
    "pet",
)
MADE = replace(INFO, parameters=(("weights_sha256", "ab" * 32),))
POINT = (-11.0, 22.75, 104.4)
GROUPS = (
    ReportGroup("Lesion", (COUNT, VOLUME, MEAN), center=POINT),
    ReportGroup("Lesion 1", (VOLUME, MEAN), POINT, POINT),
)


@pytest.fixture
def case(tmp_path: Path):
    """A SEG and its sources: a CT, and a PET on the same grid in a series of its own."""
    grid = make_grid()
    series = {name: write_reference(tmp_path / name, grid, name) for name in ("ct", "pet")}
    series["pet"] = replace(series["pet"], uid="1.2.3.9")
    seg = write_seg(make_mask(grid), series["ct"], tmp_path / "seg.dcm", MADE)
    return seg, series


def test_highdicom_reads_what_was_said(case, tmp_path: Path) -> None:
    seg, series = case
    shown = pydicom.dcmread(seg)
    report = hd.sr.srread(write_sr(GROUPS, seg, series, "ct", tmp_path / "sr.dcm", MADE))
    assert report.SOPClassUID == pydicom.uid.Comprehensive3DSRStorage
    assert "research use" in report.SeriesDescription
    assert report.SeriesInstanceUID not in {shown.SeriesInstanceUID, series["ct"].uid}
    assert (report.PatientID, report.StudyInstanceUID) == (shown.PatientID, shown.StudyInstanceUID)
    target, lesion = report.content.get_volumetric_roi_measurement_groups()
    assert (target.tracking_identifier, lesion.tracking_identifier) == ("Lesion", "Lesion 1")
    assert target.tracking_uid == shown.SegmentSequence[0].TrackingUID != lesion.tracking_uid
    assert target.referenced_segment.referenced_sop_instance_uid == shown.SOPInstanceUID
    assert target.referenced_segment.referenced_segment_numbers == [1]
    assert target.finding_type.value == "108369006"
    (place,) = lesion.roi.graphic_data
    assert np.ravel(place) == pytest.approx(POINT)
    count, volume, mean = target.get_measurements()
    assert (count.value, volume.value, volume.unit.value) == (2, pytest.approx(1 / 3), "ml")
    assert (mean.value, mean.derivation.value) == (3.25, "373098007")
    (image,) = mean.referenced_images
    assert image.referenced_sop_instance_uid == series["pet"].instances[1].uid


def test_evidence_lists_every_image_and_the_seg(case, tmp_path: Path) -> None:
    seg, series = case
    ds = pydicom.dcmread(write_sr(GROUPS, seg, series, "ct", tmp_path / "sr.dcm", MADE))
    listed = {
        item.ReferencedSOPInstanceUID
        for name in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in ds.get(name) or []
        for stack in study.ReferencedSeriesSequence
        for item in stack.ReferencedSOPSequence
    }
    images = {i.uid for one in series.values() for i in one.instances}
    assert listed == images | {pydicom.dcmread(seg).SOPInstanceUID}


def test_dcmqi_reads_what_was_said(case, tmp_path: Path) -> None:
    seg, series = case
    path = write_sr(GROUPS, seg, series, "ct", tmp_path / "sr.dcm", MADE)
    out = tmp_path / "sr.json"
    command = [tool("tid1500reader"), "--inputDICOM", path, "--outputMetadata", out]
    subprocess.run(command, check=True, capture_output=True)
    groups = json.loads(out.read_text())["Measurements"]
    assert [group["TrackingIdentifier"] for group in groups] == ["Lesion", "Lesion 1"]
    assert groups[0]["segmentationSOPInstanceUID"] == pydicom.dcmread(seg).SOPInstanceUID
    algorithm = groups[0]["measurementAlgorithmIdentification"]
    assert algorithm["AlgorithmParameters"] == [f"weights_sha256={'ab' * 32}"]
    items = {m["quantity"]["CodeMeaning"]: float(m["value"]) for m in groups[0]["measurementItems"]}
    assert items == pytest.approx({"Number of lesions": 2, "Volume": 1 / 3, "SUVbw": 3.25})


def test_the_same_content_gives_the_same_bytes(case, tmp_path: Path) -> None:
    seg, series = case
    groups = (replace(GROUPS[0], values=(COUNT,)), GROUPS[1])
    first, again, other = (
        write_sr(said, seg, series, "ct", tmp_path / name, MADE)
        for name, said in (("a.dcm", GROUPS), ("b.dcm", GROUPS), ("c.dcm", groups))
    )
    assert first.read_bytes() == again.read_bytes()
    assert pydicom.dcmread(first).SOPInstanceUID != pydicom.dcmread(other).SOPInstanceUID


def _change_a_value(ds) -> None:
    group = _groups(ds)[1]
    number = next(item for item in group.ContentSequence if item.ValueType == "NUM")
    number.MeasuredValueSequence[0].NumericValue = "7"


def _drop_a_group(ds) -> None:
    parent = next(i for i in ds.ContentSequence if "ContentSequence" in i and _is_list(i))
    del parent.ContentSequence[1]


def _refer_elsewhere(ds) -> None:
    for item in _groups(ds)[0].ContentSequence:
        if item.ValueType == "IMAGE":
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2"


def _rename(ds) -> None:
    for item in _groups(ds)[1].ContentSequence:
        if item.ValueType == "TEXT":
            item.TextValue = "another"


def _is_list(item) -> bool:
    return item.ConceptNameCodeSequence[0].CodeValue == "126010"


def _groups(ds):
    return next(item for item in ds.ContentSequence if _is_list(item)).ContentSequence


@pytest.mark.parametrize("spoil", [_change_a_value, _drop_a_group, _refer_elsewhere, _rename])
def test_what_reads_back_differently_is_removed(case, tmp_path: Path, monkeypatch, spoil) -> None:
    seg, series = case
    write = pydicom.dcmwrite

    def write_spoilt(path, ds, **options) -> None:
        spoil(ds)
        write(path, ds, **options)

    monkeypatch.setattr(pydicom, "dcmwrite", write_spoilt)
    with pytest.raises(OutputError, match="E_READBACK"):
        write_sr(GROUPS, seg, series, "ct", tmp_path / "out" / "sr.dcm", MADE)
    assert not list((tmp_path / "out").iterdir())


def test_without_a_frame_of_reference_there_is_no_report(case, tmp_path: Path) -> None:
    seg, series = case
    lost = {**series, "ct": replace(series["ct"], frame=None)}
    with pytest.raises(OutputError, match="E_NO_FRAME"):
        write_sr(GROUPS, seg, lost, "ct", tmp_path / "sr.dcm", MADE)
