"""Rows of the study gate about files, folders, compression and multi-frame objects."""

from __future__ import annotations

import zipfile
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import traps
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from traps import Stack, assert_sphere, save

from differseg_med.errors import StudyError, UsageError
from differseg_med.io import read_study, select_series, to_volume
from differseg_med.modality import get_modality

CT = get_modality("ct")
MR = get_modality("mr_t2")


def volume_of(folder: Path, modality=CT):
    (series,) = read_study(folder).series
    return to_volume(series, modality)


def refused(folder: Path, modality=CT) -> StudyError:
    with pytest.raises(StudyError) as caught:
        volume_of(folder, modality)
    return caught.value


@pytest.mark.parametrize(
    "syntax",
    [JPEG2000Lossless, JPEGLSLossless, RLELossless, DeflatedExplicitVRLittleEndian],
    ids=lambda uid: uid.keyword,
)
def test_gate_compressed(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    stack = Stack()
    slices = stack.slices()
    for data in slices:
        if syntax.is_encapsulated:
            data.compress(syntax, generate_instance_uid=False)
        else:
            data.file_meta.TransferSyntaxUID = syntax
    assert_sphere(volume_of(save(slices, tmp_path)), stack)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_gate_other_encodings(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    stack = Stack()
    slices = stack.slices()
    for data in slices:
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, np.uint16).byteswap().tobytes()
            data["PixelData"].VR = "OW"
    assert_sphere(volume_of(save(slices, tmp_path)), stack)


def test_gate_jpeg_without_decoder(tmp_path: Path) -> None:
    slices = Stack().slices()
    for data in slices:
        data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xc3" + b"\0" * 60])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    error = refused(save(slices, tmp_path))
    assert error.code == "E_DECODER"
    assert "pip install pylibjpeg-libjpeg" in str(error)


def test_gate_unknown_compression(tmp_path: Path) -> None:
    slices = Stack().slices()
    for data in slices:
        data.PixelData = pydicom.encaps.encapsulate([b"\0" * 60])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    assert refused(save(slices, tmp_path)).code == "E_DECODER"


@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless, DeflatedExplicitVRLittleEndian])
def test_gate_truncated_file(tmp_path: Path, syntax: pydicom.uid.UID | None) -> None:
    slices = Stack().slices()
    for data in slices:
        if syntax is JPEG2000Lossless:
            data.compress(syntax, generate_instance_uid=False)
        elif syntax:
            data.file_meta.TransferSyntaxUID = syntax
    folder = save(slices, tmp_path, shuffle=False)
    file = folder / "0005.dcm"
    file.write_bytes(file.read_bytes()[:-150])
    if syntax is None:  # seen by its length, before anything is decoded
        assert [p.code for p in read_study(folder).series[0].problems] == ["E_CORRUPT"]
    error = refused(folder)
    assert error.code == "E_CORRUPT"
    assert "0005.dcm" in error.detail


@pytest.mark.parametrize("length", [140, 200, 400, 700, 900])
def test_gate_slice_truncated_inside_its_header(tmp_path: Path, length: int) -> None:
    folder = save(Stack().slices(), tmp_path, shuffle=False)
    file = folder / "0000.dcm"
    file.write_bytes(file.read_bytes()[:length])
    error = refused(folder)
    assert error.code == "E_CORRUPT"
    assert "0000.dcm" in error.detail


def test_gate_garbage_that_calls_itself_dicom(tmp_path: Path) -> None:
    folder = save(Stack().slices(), tmp_path)
    (folder / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 200)
    assert refused(folder).code == "E_CORRUPT"


@pytest.mark.parametrize(("keyword", "change"), [("Rows", 9), ("Rows", -9), ("Columns", 1)])
def test_gate_header_lying_about_its_size(tmp_path: Path, keyword: str, change: int) -> None:
    slices = Stack().slices()
    for data in slices:
        data[keyword].value += change
    error = refused(save(slices, tmp_path))
    assert error.code == "E_CORRUPT"
    assert ".dcm" in error.detail


def test_gate_compressed_frame_of_another_size(tmp_path: Path) -> None:
    slices = Stack().slices()
    for data in slices:
        data.compress(JPEG2000Lossless, generate_instance_uid=False)
    for data in slices:
        data.Rows += 2
    assert refused(save(slices, tmp_path)).code == "E_CORRUPT"


def test_gate_no_pixels(tmp_path: Path) -> None:
    slices = Stack().slices()
    del slices[4].PixelData
    assert refused(save(slices, tmp_path)).code == "E_CORRUPT"


def test_gate_huge_claim_in_a_compressed_header(tmp_path: Path) -> None:
    slices = Stack().slices()
    for data in slices:
        data.compress(JPEG2000Lossless, generate_instance_uid=False)
        data.Rows = data.Columns = 65535
    assert refused(save(slices, tmp_path)).code == "E_SIZE"


OTHERS = {
    "Secondary Capture Image Storage": "1.2.840.10008.5.1.4.1.1.7",
    "Enhanced SR Storage": "1.2.840.10008.5.1.4.1.1.88.22",
    "Segmentation Storage": "1.2.840.10008.5.1.4.1.1.66.4",
    "RT Structure Set Storage": "1.2.840.10008.5.1.4.1.1.481.3",
    "Grayscale Softcopy Presentation State Storage": "1.2.840.10008.5.1.4.1.1.11.1",
    "Encapsulated PDF Storage": "1.2.840.10008.5.1.4.1.1.104.1",
    "unknown class": "1.2.3.4.5",
}


def test_gate_other_objects_are_listed_as_skipped(tmp_path: Path) -> None:
    stack = Stack()
    folder = save(stack.slices(), tmp_path)
    for number, sop_class in enumerate(OTHERS.values()):
        other = Stack(name=f"other {number}").slices()[0]
        other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = sop_class
        save([other], folder)
    study = read_study(folder)
    assert {item.reason for item in study.skipped} == set(OTHERS)
    assert [finding.code for finding in study.findings] == ["W_SKIPPED"]
    assert_sphere(to_volume(study.series[0], CT), stack)


def test_gate_colour_image_is_skipped(tmp_path: Path) -> None:
    slices = Stack().slices()
    slices[0].PhotometricInterpretation, slices[0].SamplesPerPixel = "RGB", 3
    study = read_study(save(slices, tmp_path))
    assert [item.reason for item in study.skipped] == ["colour image"]


def test_gate_mosaic(tmp_path: Path) -> None:
    stack = Stack(sop_class=traps.MR, changes={"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]})
    assert refused(save(stack.slices(), tmp_path), MR).code == "E_UNSUPPORTED"


def test_gate_junk_and_nested_folders(tmp_path: Path) -> None:
    stack = Stack()
    slices = stack.slices()
    for part in range(3):
        save(slices[part::3], tmp_path / f"deep/{part}/er")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "notes.txt").write_text("hello" * 50, encoding="utf-8")
    (tmp_path / "junk.dcm").write_bytes(b"\xff" * 300)
    (tmp_path / "DICOMDIR").write_bytes(_dicomdir())
    study = read_study(tmp_path)
    assert study.n_files == 12 + 4
    reasons = {Path(item.source).name: item.reason for item in study.skipped}
    assert reasons["empty.dcm"] == "empty file"
    assert reasons["notes.txt"] == "not DICOM"
    assert reasons["DICOMDIR"] == "DICOMDIR"
    assert reasons["junk.dcm"] == "not DICOM"
    assert_sphere(to_volume(study.series[0], CT), stack)


def _dicomdir() -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    meta.MediaStorageSOPInstanceUID = traps.uid("dicomdir")
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data = pydicom.dataset.FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    data.FileSetID = "TRAPS"
    data.DirectoryRecordSequence = []
    buffer = pydicom.filebase.DicomBytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("implicit", [True, False])
def test_gate_no_preamble(tmp_path: Path, implicit: bool) -> None:
    stack = Stack()
    for k, data in enumerate(stack.slices()):
        data.preamble = None
        data.file_meta = FileMetaDataset()
        pydicom.dcmwrite(
            tmp_path / f"{k}", data, implicit_vr=implicit, little_endian=True, force_encoding=True
        )
    assert_sphere(volume_of(tmp_path), stack)


def test_gate_path_over_600_characters(tmp_path: Path) -> None:
    stack = Stack()
    folder = tmp_path.joinpath(*["d" * 200] * 3)
    assert len(str(folder)) > 600
    assert_sphere(volume_of(save(stack.slices(), folder)), stack)


def test_gate_dots_in_patient_id(tmp_path: Path) -> None:
    stack = Stack(changes={"PatientID": "../../etc", "SeriesDescription": "../../../x"})
    before = sorted(tmp_path.parent.iterdir())
    assert_sphere(volume_of(save(stack.slices(), tmp_path / "in")), stack)
    assert sorted(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("inside", ["one", "folder"])
def test_gate_zip(tmp_path: Path, inside: str) -> None:
    stack = Stack()
    files = sorted(save(stack.slices(), tmp_path / "plain").iterdir())
    target = tmp_path / "zips"
    target.mkdir()
    for number in range(1 if inside == "one" else 3):
        chosen = files if inside == "one" else files[number::3]
        with zipfile.ZipFile(target / f"{number}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in chosen:
                archive.write(file, f"a/../b/{file.name}")
    assert_sphere(volume_of(target / "0.zip" if inside == "one" else target), stack)


def test_gate_damaged_and_encrypted_zip(tmp_path: Path) -> None:
    stack = Stack()
    folder = save(stack.slices(), tmp_path)
    (folder / "broken.zip").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    with zipfile.ZipFile(folder / "locked.zip", "w") as archive:
        archive.write(folder / "0000.dcm", "0000.dcm")
    blob = bytearray((folder / "locked.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        blob[blob.index(mark) + offset] |= 1
    (folder / "locked.zip").write_bytes(bytes(blob))
    study = read_study(folder)
    reasons = {Path(item.source).name: item.reason for item in study.skipped}
    assert reasons["broken.zip"] == "damaged archive"
    assert "unreadable archive member" in reasons["locked.zip!0000.dcm"]
    assert_sphere(to_volume(study.series[0], CT), stack)


def test_gate_large_header_inside_a_zip(tmp_path: Path) -> None:
    stack = Stack()
    slices = stack.slices()
    for data in slices:
        data.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(
            0x10, "OB", np.random.default_rng(0).bytes(100_000)
        )
    files = sorted(save(slices, tmp_path / "plain").iterdir())
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    assert_sphere(volume_of(tmp_path / "s.zip"), stack)


def test_gate_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        read_study(tmp_path)
    assert caught.value.code == "E_EMPTY"
    assert "0 files" in caught.value.detail


def test_gate_nothing_that_fits(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    other = Stack().slices()[0]
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = OTHERS["Enhanced SR Storage"]
    save([other], tmp_path)
    with pytest.raises(StudyError) as caught:
        read_study(tmp_path)
    assert caught.value.code == "E_EMPTY"
    assert "1 not DICOM" in caught.value.detail
    assert "1 Enhanced SR Storage" in caught.value.detail


def test_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_study(tmp_path / "absent")
    assert caught.value.code == "E_PATH"


def test_gate_lossy_compression_warns(tmp_path: Path) -> None:
    stack = Stack(changes={"LossyImageCompression": "01"})
    volume = volume_of(save(stack.slices(), tmp_path))
    assert [finding.code for finding in volume.findings] == ["W_LOSSY"]


def enhanced(stack: Stack, sop_class: str, frame_type: str, order: list[int]) -> Dataset:
    """The stack as one multi-frame object, frames in the given order, a slope per frame."""
    slices = stack.slices()
    data = slices[0]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sop_class
    data.NumberOfFrames = len(order)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = data.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = data.PixelSpacing, data.SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    frames, pixels = [], []
    for number, k in enumerate(order):
        slope = 1.0 + 0.01 * number
        frames.append(_frame(slices[k], slope, frame_type, k, number))
        stored = np.frombuffer(slices[k].PixelData, np.uint16) / slope
        pixels.append(np.round(stored).astype(np.uint16))
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = frames
    data.PixelData = np.concatenate(pixels).tobytes()
    for keyword in PER_FRAME:
        if keyword in data:
            delattr(data, keyword)
    return data


def _frame(source: Dataset, slope: float, frame_type: str, k: int, number: int) -> Dataset:
    group, place, value, kind = Dataset(), Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = source.ImagePositionPatient
    value.RescaleSlope, value.RescaleType = f"{slope:.4f}", "HU"
    value.RescaleIntercept = source.get("RescaleIntercept", 0)
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    content = Dataset()
    content.FrameAcquisitionDateTime = f"202403151016{number:02d}"
    content.InStackPositionNumber, content.StackID = k + 1, "1"
    group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [value]
    group.FrameContentSequence = [content]
    setattr(group, frame_type, [kind])
    return group


PER_FRAME = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
)

MULTI = {
    "CT": ("1.2.840.10008.5.1.4.1.1.2.1", "CTImageFrameTypeSequence", traps.CT, CT),
    "MR": ("1.2.840.10008.5.1.4.1.1.4.1", "MRImageFrameTypeSequence", traps.MR, MR),
}


@pytest.mark.parametrize("syntax", [None, RLELossless])
@pytest.mark.parametrize("kind", MULTI)
def test_gate_enhanced_multi_frame(tmp_path: Path, kind: str, syntax: str | None) -> None:
    sop_class, frame_type, single, modality = MULTI[kind]
    row, column = traps.obliques()[0]
    stack = Stack(sop_class=single, row=row, column=column)
    order = np.random.default_rng(1).permutation(12).tolist()
    data = enhanced(stack, sop_class, frame_type, order)
    if syntax:
        data.compress(syntax, generate_instance_uid=False)
    volume = volume_of(save([data], tmp_path), modality)
    assert_sphere(volume, stack)


def test_gate_legacy_converted_ct_by_highdicom(tmp_path: Path) -> None:
    stack = Stack()
    slices = stack.slices()
    for data in slices:
        data.StudyID, data.AccessionNumber, data.ReferringPhysicianName = "1", "", ""
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        slices, traps.uid("legacy"), 5, traps.uid("legacy 1"), 1
    )
    converted.save_as(tmp_path / "x.dcm")
    assert_sphere(volume_of(tmp_path), stack)


def test_gate_enhanced_with_two_b_values(tmp_path: Path) -> None:
    stack = Stack(sop_class=traps.MR)
    sop_class, frame_type, _, _ = MULTI["MR"]
    data = enhanced(stack, sop_class, frame_type, [*range(12), *range(12)])
    for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        diffusion = Dataset()
        diffusion.DiffusionBValue = 0.0 if number < 12 else 800.0
        frame.MRDiffusionSequence = [diffusion]
    study = read_study(save([data], tmp_path))
    assert [series.part for series in study.series] == [{"b": "0"}, {"b": "800"}]
    with pytest.raises(StudyError) as caught:
        select_series(study, [MR], required=["mr_t2"])
    assert caught.value.code == "E_AMBIGUOUS"
    for series in study.series:
        assert_sphere(to_volume(series, MR), stack)


def test_gate_enhanced_that_claims_more_frames(tmp_path: Path) -> None:
    sop_class, frame_type, _, _ = MULTI["CT"]
    data = enhanced(Stack(), sop_class, frame_type, list(range(12)))
    data.NumberOfFrames = 500
    assert refused(save([data], tmp_path)).code == "E_CORRUPT"


def test_gate_frames_in_a_single_frame_class(tmp_path: Path) -> None:
    data = Stack().slices()[0]
    data.NumberOfFrames = 3
    data.PixelData = data.PixelData * 3
    assert refused(save([data], tmp_path)).code == "E_UNSUPPORTED"
