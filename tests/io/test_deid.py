"""A copy without identity: what is gone, what stays, and that SUV and geometry are as before."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import traps
from pydicom.dataset import Dataset
from traps import CT, MR, PET, Stack, save

from differseg_med.errors import OutputError, StudyError, UsageError
from differseg_med.io import UidMap, deidentify, read_study, to_volume
from differseg_med.modality import get_modality

FLAT = {"shape": (8, 7, 4)}


@pytest.fixture
def uid_map(tmp_path: Path) -> Path:
    return tmp_path / "state" / "map.sqlite"


def spoil(data: Dataset) -> None:
    """Identity where the profile expects it, and where it does not."""
    data.AccessionNumber, data.StudyID = "CANARY", "CANARY"
    data.ReferringPhysicianName = data.OperatorsName = "Canary^Doc"
    data.PatientComments = data.ImageComments = data.StudyDescription = "CANARY"
    data.SeriesDescription = data.ProtocolName = "CANARY"
    data.PatientBirthDate = data.AdmittingDate = "19370211"
    data.AcquisitionDeviceProcessingDescription = "CANARY"  # on no list of the profile
    data.PatientAge, data.PatientSize, data.PatientWeight = "087Y", "1.63", "71"
    data.add_new(0x00189999, "LO", "CANARY")  # an element that no dictionary has
    data.private_block(0x0019, "CANARY CREATOR", create=True).add_new(1, "LO", "CANARY")
    request = Dataset()
    request.RequestedProcedureDescription = "CANARY"
    data.RequestAttributesSequence = [request]
    reference = Dataset()
    reference.ReferencedSOPClassUID = CT
    reference.ReferencedSOPInstanceUID = traps.uid("other")
    reference.PatientName, reference.PatientBirthDate = "CANARY", "19370211"  # inside what is kept
    reference.private_block(0x0011, "CANARY", create=True).add_new(1, "LO", "CANARY")
    data.ReferencedImageSequence = [reference]
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.preamble = b"CANARY".ljust(128, b"\0")
    data.file_meta.SourceApplicationEntityTitle = "CANARY"


def study(folder: Path, *stacks: Stack, change: Callable[[Dataset], object] = spoil) -> Path:
    for stack in stacks:
        slices = stack.slices()
        for data in slices:
            change(data)
        save(slices, folder / f"CANARY {stack.name}")
    return folder


def copies(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def test_nothing_of_the_identity_is_left(tmp_path: Path, uid_map: Path) -> None:
    source = study(tmp_path / "in", Stack(**FLAT), Stack(sop_class=PET, name="P", **FLAT))
    before = {path: path.read_bytes() for path in source.rglob("*.dcm")}
    done = deidentify(source, tmp_path / "out", uid_map)
    assert {path: path.read_bytes() for path in source.rglob("*.dcm")} == before
    assert (done.files, dict(done.left_out)) == (8, {})
    for path in done.folder.rglob("*.dcm"):
        raw = path.read_bytes()
        for secret in (b"CANARY", b"Canary", b"TRAP-1", b"Trap^One", b"19370211", b"20240315"):
            assert secret not in raw, (path.name, secret)
        assert b"087Y" not in raw
        assert "CANARY" not in str(path.relative_to(tmp_path))
    old = {str(data[0x0020000E].value) for data in map(pydicom.dcmread, before)}
    assert set(done.series) == old
    for data in copies(done.folder):
        assert data.PatientIdentityRemoved == "YES"
        assert data.LongitudinalTemporalInformationModified == "MODIFIED"
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        codes = [item.CodeValue for item in data.DeidentificationMethodCodeSequence]
        body = ["113108"] if data.Modality == "PT" else []
        assert codes == ["113100", "113107", *body]
        assert ("PatientWeight" in data) == bool(body)
        assert "PatientSize" not in data
        assert data.PatientSex == ""


def test_volumes_frames_and_suv_are_as_before(tmp_path: Path, uid_map: Path) -> None:
    stacks = (
        Stack(),
        Stack(sop_class=PET, name="P", row=(0, 1, 0), column=(0, 0, -1)),
        Stack(sop_class=MR, name="M", changes={"EchoTime": 80}),
    )
    source = study(tmp_path / "in", *stacks)
    deidentify(source, tmp_path / "out", uid_map)
    before, after = (
        {s.dicom: s for s in read_study(folder).series} for folder in (source, tmp_path / "out")
    )
    assert len({series.frame for series in after.values()}) == 1
    for code, name in (("CT", "ct"), ("PT", "pet"), ("MR", "mr_t2")):
        one, two = (to_volume(s[code], get_modality(name)) for s in (before, after))
        np.testing.assert_array_equal(one.array, two.array)
        np.testing.assert_array_equal(one.grid.affine, two.grid.affine)
        assert one.provenance == two.provenance
        assert one.grid.frame != two.grid.frame
        assert before[code].number == after[code].number


def pet(**values: object) -> Callable[[Dataset], None]:
    def change(data: Dataset) -> None:
        spoil(data)
        for keyword, value in values.items():
            setattr(data, keyword, value)

    return change


def philips(data: Dataset) -> None:
    spoil(data)
    data.Units = "CNTS"
    block = data.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.0025")
    block.add_new(0x03, "ST", "CANARY original file name")


def ge(data: Dataset) -> None:
    """The series time is after the acquisition: GE's own scan time decides."""
    spoil(data)
    data.SeriesTime = "120000"
    block = data.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", "20240315101459.00")


def injected_the_day_before(data: Dataset) -> None:
    spoil(data)
    item = data.RadiopharmaceuticalInformationSequence[0]
    item.RadiopharmaceuticalStartDateTime = "20240314235500"
    data.SeriesDate = data.AcquisitionDate = "20240315"
    data.SeriesTime = data.AcquisitionTime = "004000"


def lean(data: Dataset) -> None:
    spoil(data)
    data.Units, data.SUVType, data.PatientSex = "GML", "LBM", "F"


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (philips, {"113108", "113111"}),
        (ge, {"113108", "113111"}),
        (injected_the_day_before, {"113108"}),
        (pet(Units="GML"), {"113108"}),
        (lean, {"113108"}),
        (pet(DecayCorrection="ADMIN"), {"113108"}),
    ],
    ids=["philips", "ge", "midnight", "gml", "lean mass", "admin"],
)
def test_suv_of_every_kind_is_as_before(
    tmp_path: Path, uid_map: Path, change: Callable[[Dataset], None], options: set[str]
) -> None:
    source = study(tmp_path / "in", Stack(sop_class=PET, **FLAT), change=change)
    deidentify(source, tmp_path / "out", uid_map)
    one, two = (
        to_volume(read_study(folder).series[0], get_modality("pet"))
        for folder in (source, tmp_path / "out")
    )
    np.testing.assert_array_equal(one.array, two.array)
    assert one.provenance == two.provenance
    for data in copies(tmp_path / "out"):
        codes = {item.CodeValue for item in data.DeidentificationMethodCodeSequence}
        assert codes == {"113100", "113107"} | options
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert b"CANARY" not in path.read_bytes()
        assert b"20240315" not in path.read_bytes()


def test_dates_move_together_and_keep_their_distance(tmp_path: Path, uid_map: Path) -> None:
    def change(data: Dataset) -> None:
        data.AcquisitionDate, data.StudyDate = "20240401", "20240315"

    deidentify(study(tmp_path / "in", Stack(**FLAT), change=change), tmp_path / "out", uid_map)
    data = copies(tmp_path / "out")[0]
    first, last = (pydicom.valuerep.DA(v) for v in (data.StudyDate, data.AcquisitionDate))
    assert (last - first).days == 17
    assert first.year < 2024
    assert data.StudyTime == "101500"


def test_the_map_gives_the_same_copy_again_and_another_map_another(
    tmp_path: Path, uid_map: Path
) -> None:
    source = study(tmp_path / "in", Stack(**FLAT))
    for name, place in (("a", uid_map), ("b", uid_map), ("c", tmp_path / "other.sqlite")):
        deidentify(source, tmp_path / name, place)
    a, b, c = (
        [p.read_bytes() for p in sorted((tmp_path / n).rglob("*.dcm"))] for n in ("a", "b", "c")
    )
    assert a == b
    assert not set(a) & set(c)


def test_the_map_links_old_and_new_for_its_owner_alone(tmp_path: Path, uid_map: Path) -> None:
    source = study(tmp_path / "in", Stack(**FLAT))
    done = deidentify(source, tmp_path / "out", uid_map)
    assert stat.S_IMODE(uid_map.stat().st_mode) == 0o600
    assert stat.S_IMODE(uid_map.parent.stat().st_mode) == 0o700
    assert {p.name for p in uid_map.parent.iterdir()} == {uid_map.name}
    pairs = dict(sqlite3.connect(uid_map).execute("SELECT old, new FROM uid"))
    assert done.series.items() <= pairs.items()
    with UidMap(uid_map) as identities:
        assert list(identities.originals().values()) == ["TRAP-1\\"]
    assert "TRAP-1" not in repr(done)
    assert traps.uid("A") not in repr(done)


def test_references_stay_references(tmp_path: Path, uid_map: Path) -> None:
    def change(data: Dataset) -> None:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, traps.uid("A", 0)
        data.SourceImageSequence = [item]

    deidentify(study(tmp_path / "in", Stack(**FLAT), change=change), tmp_path / "out", uid_map)
    data = copies(tmp_path / "out")
    aims = {d.SourceImageSequence[0].ReferencedSOPInstanceUID for d in data}
    assert len(aims) == 1
    assert aims < {d.SOPInstanceUID for d in data}
    assert data[0].SourceImageSequence[0].ReferencedSOPClassUID == CT


def test_two_patients_get_two_pseudonyms(tmp_path: Path, uid_map: Path) -> None:
    source = study(tmp_path / "in", Stack(**FLAT), Stack(name="B", **FLAT))
    for path in (source / "CANARY B").iterdir():
        data = pydicom.dcmread(path)
        data.PatientID = "TRAP-2"
        data.save_as(path)
    deidentify(source, tmp_path / "out", uid_map)
    assert len({data.PatientID for data in copies(tmp_path / "out")}) == 2
    with pytest.raises(StudyError, match="E_PATIENT_MIX"):
        read_study(tmp_path / "out")


def test_two_processes_share_a_map(tmp_path: Path, uid_map: Path) -> None:
    script = (
        "import sys; from differseg_med.io import UidMap\n"
        "with UidMap(sys.argv[1]) as m:\n"
        "    print(*(m.uid(f'1.2.{n}') for n in range(300)), m.patient('a').name)"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", script, uid_map], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (run.communicate(timeout=120)[0] for run in runs)
    assert first == second
    assert len(set(first.split())) == 301


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_map_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "map.sqlite"
    path.touch()
    path.chmod(mode)
    with pytest.raises(UsageError, match=r"E_UID_MAP.*0600"):
        deidentify(study(tmp_path / "in", Stack(**FLAT)), tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.sqlite"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(UsageError, match="E_UID_MAP"):
        deidentify(study(tmp_path / "in", Stack(**FLAT)), tmp_path / "out", path)


@pytest.mark.parametrize(
    "values",
    [
        {"BurnedInAnnotation": "YES"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"ConversionType": "WSD"},
    ],
    ids=str,
)
def test_pixels_that_may_show_identity_are_refused(
    tmp_path: Path, uid_map: Path, values: dict[str, object]
) -> None:
    source = study(tmp_path / "in", Stack(**FLAT))
    path = sorted(source.rglob("*.dcm"))[-1]
    data = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(data, keyword, value)
    data.save_as(path)
    with pytest.raises(StudyError, match="E_BURNED_IN") as caught:
        deidentify(source, tmp_path / "out", uid_map)
    assert "CANARY" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_secondary_captures_and_reports_are_left_out(tmp_path: Path, uid_map: Path) -> None:
    source = study(tmp_path / "in", Stack(**FLAT))
    other = pydicom.dcmread(sorted(source.rglob("*.dcm"))[0])
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    other.save_as(source / "capture.dcm")
    (source / "CANARY.txt").write_text("CANARY")
    done = deidentify(source, tmp_path / "out", uid_map)
    assert dict(done.left_out) == {"Secondary Capture Image Storage": 1, "not DICOM": 1}
    assert done.files == 4
    (tmp_path / "only").mkdir()
    (source / "capture.dcm").rename(tmp_path / "only/capture.dcm")
    with pytest.raises(StudyError, match=r"E_EMPTY.*1 Secondary Capture"):
        deidentify(tmp_path / "only", tmp_path / "none", uid_map)
    assert not (tmp_path / "none").exists()


def test_only_what_is_asked_for_is_copied(tmp_path: Path, uid_map: Path) -> None:
    source = study(tmp_path / "in", Stack(**FLAT), Stack(name="B", **FLAT))
    (one, _) = read_study(source).series
    wanted = {instance.source for instance in one.instances}
    done = deidentify(source, tmp_path / "out", uid_map, only=wanted)
    assert (set(done.series), done.files) == ({one.uid}, len(wanted))


def test_results_are_never_written_over(tmp_path: Path, uid_map: Path) -> None:
    source = study(tmp_path / "in", Stack(**FLAT))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(OutputError, match="E_EXISTS"):
        deidentify(source, tmp_path / "out", uid_map)


def test_compressed_pixels_are_copied_as_they_are(tmp_path: Path, uid_map: Path) -> None:
    def change(data: Dataset) -> None:
        spoil(data)
        data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)

    source = study(tmp_path / "in", Stack(**FLAT), change=change)
    deidentify(source, tmp_path / "out", uid_map)
    one, two = (
        sorted(bytes(pydicom.dcmread(path).PixelData) for path in folder.rglob("*.dcm"))
        for folder in (source, tmp_path / "out")
    )
    assert one == two


def test_values_that_break_their_kind_are_removed(tmp_path: Path, uid_map: Path) -> None:
    """A name in a number, a sentence in a code, text in a date."""

    def change(data: Dataset) -> None:
        data.SliceLocation, data.BodyPartExamined = "111111", "AAAAAA"
        data.AcquisitionTime = "101600.121212"
        data.AcquisitionDate = "20240316"

    source = study(tmp_path / "in", Stack(**FLAT), change=change)
    for path in source.rglob("*.dcm"):
        raw = path.read_bytes()
        for old, new in (
            (b"111111", b"CANARY"),
            (b"AAAAAA", b"CAN~RY"),
            (b"20240316", b"CANARY@@"),
        ):
            assert old in raw
            raw = raw.replace(old, new)
        path.write_bytes(raw.replace(b"101600.121212", b"CANARYS.HOUSE"))
    deidentify(source, tmp_path / "out", uid_map)
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert b"CAN" not in path.read_bytes()
