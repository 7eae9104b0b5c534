"""Rows of the study gate about PET: what becomes SUVbw, by a formula written out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import traps
from pydicom.dataset import Dataset
from traps import Stack, assert_sphere, save

from differseg_med.errors import StudyError, UsageError
from differseg_med.io import PetOverrides, read_study, to_volume
from differseg_med.modality import get_modality

PET = get_modality("pet")
STORED = 5000.0
WEIGHT_G, DOSE, HALF_LIFE = 74000.0, 3.7e8, 6586.2


def slices(count: int = 3, **changes: object) -> list[Dataset]:
    """A small PET whose every pixel is 5000; injected 09:15, series and scan from 10:15."""
    stack = Stack(sop_class=traps.PET, shape=(4, 4, count), changes=changes)
    found = stack.slices()
    for data in found:
        data.PixelData = np.full(16, STORED, np.uint16).tobytes()
    return found


def tracer(data: list[Dataset], **changes: object) -> list[Dataset]:
    """Change the radiopharmaceutical of every slice; None deletes."""
    for one in data:
        item = one.RadiopharmaceuticalInformationSequence[0]
        for keyword, value in changes.items():
            if value is None:
                delattr(item, keyword)
            else:
                setattr(item, keyword, value)
    return data


def suv(data: list[Dataset], folder: Path, *overrides: str):
    (series,) = read_study(save(data, folder)).series
    return to_volume(series, PET, pet=PetOverrides.parse(overrides) if overrides else None)


def code(data: list[Dataset], folder: Path, *overrides: str) -> str:
    with pytest.raises(StudyError) as caught:
        suv(data, folder, *overrides)
    return caught.value.code


def expected(uptake_s: float, weight_g: float = WEIGHT_G, dose: float = DOSE) -> float:
    return STORED * weight_g / (dose * 2 ** (-uptake_s / HALF_LIFE))


def test_gate_pet_start(tmp_path: Path) -> None:
    volume = suv(slices(), tmp_path)
    assert volume.array == pytest.approx(expected(3600), rel=1e-6)
    assert volume.findings == ()
    assert volume.provenance["reference_time"] == "SeriesTime"
    assert volume.provenance["uptake_s"] == 3600
    assert volume.provenance["units"] == "BQML"


def test_gate_pet_sphere_is_right(tmp_path: Path) -> None:
    stack = Stack(sop_class=traps.PET)
    volume = suv(stack.slices(), tmp_path)
    factor = expected(3600) / STORED
    assert_sphere(volume, stack, background=24 * factor, scale=1000 * factor)


def test_gate_pet_slope_per_slice(tmp_path: Path) -> None:
    data = slices()
    for k, one in enumerate(data):
        one.RescaleSlope = 0.5 + k
    volume = suv(data, tmp_path)
    for k in range(3):
        assert volume.array[..., k] == pytest.approx(expected(3600) * (0.5 + k), rel=1e-6)


def test_gate_pet_series_time_after_the_earliest_acquisition(tmp_path: Path) -> None:
    """Post-processed: the series is newer than the scan, whose first file is not the earliest."""
    data = slices(SeriesTime="120000")
    for one, time in zip(data, ("102500", "102000", "103000"), strict=True):
        one.AcquisitionTime = time
    volume = suv(data, tmp_path)
    assert volume.provenance["reference_time"] == "earliest AcquisitionTime"
    assert volume.array == pytest.approx(expected(65 * 60), rel=1e-6)


def test_gate_pet_ge_scan_time(tmp_path: Path) -> None:
    data = slices(SeriesTime="120000")
    for one in data:
        block = one.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", "20240315101800.00")
    volume = suv(data, tmp_path)
    assert volume.provenance["reference_time"] == "GE scan time"
    assert volume.array == pytest.approx(expected(63 * 60), rel=1e-6)


def test_gate_pet_admin_has_no_decay_term(tmp_path: Path) -> None:
    volume = suv(
        tracer(slices(DecayCorrection="ADMIN"), RadiopharmaceuticalStartTime=None), tmp_path
    )
    assert volume.array == pytest.approx(expected(0), rel=1e-6)


def test_gate_pet_none_is_refused_without_the_flag(tmp_path: Path) -> None:
    data = slices(DecayCorrection="NONE", CorrectedImage=["ATTN"])
    assert code(data, tmp_path) == "E_PET_CORRECTION"


def test_gate_pet_none_decays_frame_by_frame(tmp_path: Path) -> None:
    data = slices(DecayCorrection="NONE", CorrectedImage=["ATTN"])
    for k, one in enumerate(data):
        one.AcquisitionTime = f"10{15 + 10 * k}00"
    volume = suv(data, tmp_path, "frame_decay=yes")
    rate = math.log(2) / HALF_LIFE
    for k in range(3):
        start = 3600 + 600 * k
        # mean of exp(-rate t) over the 120 s of the frame
        mean = (math.exp(-rate * start) - math.exp(-rate * (start + 120))) / (rate * 120)
        assert volume.array[..., k] == pytest.approx(STORED * WEIGHT_G / DOSE / mean, rel=1e-6)
    assert "W_PET_OVERRIDE" in [finding.code for finding in volume.findings]


@pytest.mark.parametrize("kind", [None, "BW"])
def test_gate_pet_gml_body_weight(tmp_path: Path, kind: str | None) -> None:
    data = tracer(slices(Units="GML"), RadionuclideTotalDose=None)
    for one in data:
        del one.PatientWeight
        if kind:
            one.SUVType = kind
    assert suv(data, tmp_path).array == pytest.approx(STORED)


MALE, FEMALE = ("M", 74.0, 1.75), ("F", 74.0, 1.75)


@pytest.mark.parametrize(
    ("kind", "person", "mass"),
    [
        ("LBM", MALE, 1.10 * 74 - 120 * (74 / 175) ** 2),
        ("LBM", FEMALE, 1.07 * 74 - 148 * (74 / 175) ** 2),
        ("LBMJAMES128", MALE, 1.10 * 74 - 128 * (74 / 175) ** 2),
        ("LBMJANMA", MALE, 9270 * 74 / (6680 + 216 * 74 / 1.75**2)),
        ("LBMJANMA", FEMALE, 9270 * 74 / (8780 + 244 * 74 / 1.75**2)),
        ("IBW", MALE, 48.0 + 1.06 * (175 - 152)),
        ("IBW", FEMALE, 45.5 + 0.91 * (175 - 152)),
    ],
)
def test_gate_pet_gml_lean_body_mass(tmp_path: Path, kind: str, person: tuple, mass: float) -> None:
    sex, weight, height = person
    data = slices(
        Units="GML", SUVType=kind, PatientSex=sex, PatientWeight=weight, PatientSize=height
    )
    assert suv(data, tmp_path).array == pytest.approx(STORED * weight / mass, rel=1e-6)


def test_gate_pet_gml_lean_body_mass_needs_height_and_sex(tmp_path: Path) -> None:
    for number, changes in enumerate(({"PatientSize": None}, {"PatientSex": "O"})):
        data = slices(Units="GML", SUVType="LBM", **changes)
        assert code(data, tmp_path / str(number)) == "E_PET_META"
    data = slices(Units="GML", SUVType="LBM", PatientSize=None, PatientSex="M")
    mass = 1.10 * 74 - 120 * (74 / 175) ** 2
    volume = suv(data, tmp_path / "given", "height_m=1.75")
    assert volume.array == pytest.approx(STORED * 74 / mass, rel=1e-6)


def test_gate_pet_gml_body_surface(tmp_path: Path) -> None:
    assert code(slices(Units="GML", SUVType="BSA"), tmp_path) == "E_PET_UNITS"


def philips(data: list[Dataset], **factors: float) -> list[Dataset]:
    for one in data:
        block = one.private_block(0x7053, "Philips PET Private Group", create=True)
        for name, value in factors.items():
            block.add_new({"suv": 0x00, "activity": 0x09}[name], "DS", str(value))
    return data


def test_gate_pet_philips_counts_with_suv_factor(tmp_path: Path) -> None:
    data = philips(slices(Units="CNTS"), suv=0.0004, activity=2.5)
    volume = suv(data, tmp_path)
    assert volume.array == pytest.approx(STORED * 0.0004, rel=1e-6)
    assert volume.provenance["units"] == "SUV"


def test_gate_pet_philips_counts_with_activity_factor(tmp_path: Path) -> None:
    data = philips(slices(Units="CNTS"), suv=0.0, activity=2.5)
    assert suv(data, tmp_path).array == pytest.approx(2.5 * expected(3600), rel=1e-6)


@pytest.mark.parametrize("units", ["CNTS", "CM2ML", "PROPCNTS", "NONE", None])
def test_gate_pet_other_units(tmp_path: Path, units: str | None) -> None:
    assert code(slices(Units=units), tmp_path) == "E_PET_UNITS"


@pytest.mark.parametrize("applied", [["ATTN", "SCAT"], ["DECY"], ["NORM"], None])
@pytest.mark.parametrize("units", ["BQML", "GML"])
def test_gate_pet_not_corrected(tmp_path: Path, applied: list | None, units: str) -> None:
    data = slices(CorrectedImage=applied, Units=units)
    assert code(data, tmp_path) == "E_PET_CORRECTION"
    assert suv(data, tmp_path / "asserted", "corrected=yes").array.min() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"RadionuclideTotalDose": None},
        {"RadionuclideTotalDose": 0},
        {"RadionuclideHalfLife": None},
        {"RadionuclideHalfLife": 0},
        {"RadiopharmaceuticalStartTime": None},
    ],
    ids=str,
)
def test_gate_pet_tracer_value_absent(tmp_path: Path, changes: dict) -> None:
    assert code(tracer(slices(), **changes), tmp_path) == "E_PET_META"


@pytest.mark.parametrize("weight", [None, 0])
def test_gate_pet_weight_absent(tmp_path: Path, weight: float | None) -> None:
    assert code(slices(PatientWeight=weight), tmp_path) == "E_PET_META"


def test_gate_pet_overrides_are_recorded(tmp_path: Path) -> None:
    data = tracer(slices(PatientWeight=None), RadionuclideTotalDose=None)
    volume = suv(data, tmp_path, "weight_kg=80", "dose_bq=4e8")
    assert volume.array == pytest.approx(expected(3600, 80000, 4e8), rel=1e-6)
    assert volume.provenance["overrides"] == {"weight_kg": 80.0, "dose_bq": 4e8}
    assert [finding.code for finding in volume.findings] == ["W_PET_OVERRIDE"]


@pytest.mark.parametrize("text", ["weight=80", "weight_kg", "weight_kg=heavy"])
def test_override_that_is_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        PetOverrides.parse([text])
    assert caught.value.code == "E_OPTION"


def test_gate_pet_dose_in_megabecquerel(tmp_path: Path) -> None:
    data = tracer(slices(), RadionuclideTotalDose=370)
    with pytest.raises(StudyError, match="probably MBq") as caught:
        suv(data, tmp_path)
    assert caught.value.code == "E_PET_META"


def test_gate_pet_two_tracers(tmp_path: Path) -> None:
    data = slices()
    for one in data:
        one.RadiopharmaceuticalInformationSequence.append(
            one.RadiopharmaceuticalInformationSequence[0]
        )
    assert code(data, tmp_path) == "E_PET_META"


def test_gate_pet_injected_before_midnight(tmp_path: Path) -> None:
    data = tracer(slices(SeriesTime="001500"), RadiopharmaceuticalStartTime="231500")
    for one in data:
        one.AcquisitionTime = "001600"
    volume = suv(data, tmp_path)
    assert volume.array == pytest.approx(expected(3600), rel=1e-6)
    assert [finding.code for finding in volume.findings] == ["W_PET_TIME"]


@pytest.mark.parametrize("dated", [True, False])
def test_gate_pet_scanned_across_midnight(tmp_path: Path, dated: bool) -> None:
    """The series starts at 23:50, its last slices are acquired the day after."""
    data = tracer(slices(SeriesTime="235000"), RadiopharmaceuticalStartTime="225000")
    for one, time in zip(data, ("235100", "235800", "000500"), strict=True):
        one.AcquisitionTime = time
        if not dated:
            del one.AcquisitionDate
        elif time < "12":
            one.AcquisitionDate = "20240316"
    volume = suv(data, tmp_path)
    assert volume.array == pytest.approx(expected(3600), rel=1e-6)
    assert volume.findings == ()


def test_gate_pet_date_and_time_of_injection(tmp_path: Path) -> None:
    data = tracer(slices(), RadiopharmaceuticalStartDateTime="20240315094500.00")
    assert suv(data, tmp_path).array == pytest.approx(expected(1800), rel=1e-6)


def test_gate_pet_injection_dated_a_day_late(tmp_path: Path) -> None:
    data = tracer(slices(), RadiopharmaceuticalStartDateTime="20240316091500")
    volume = suv(data, tmp_path)
    assert volume.array == pytest.approx(expected(3600), rel=1e-6)
    assert [finding.code for finding in volume.findings] == ["W_PET_TIME"]


@pytest.mark.parametrize("moment", ["20240320091500", "20240301091500"])
def test_gate_pet_injection_days_away(tmp_path: Path, moment: str) -> None:
    assert code(tracer(slices(), RadiopharmaceuticalStartDateTime=moment), tmp_path) == "E_PET_TIME"


def test_gate_pet_injection_minutes_after_the_scan(tmp_path: Path) -> None:
    """Minus a day would be 13 half-lives of uptake: the clocks differ."""
    assert code(tracer(slices(), RadiopharmaceuticalStartTime="102500"), tmp_path) == "E_PET_TIME"


@pytest.mark.parametrize(
    ("changes", "in_tracer", "warning"),
    [
        ({"PatientWeight": 0.8}, False, "W_PET_WEIGHT"),
        ({"PatientWeight": 301}, False, "W_PET_WEIGHT"),
        ({"RadionuclideHalfLife": 6500}, True, "W_PET_HALF_LIFE"),
        ({"RadiopharmaceuticalStartTime": "095000"}, True, "W_PET_UPTAKE"),
    ],
)
def test_gate_pet_warnings(tmp_path: Path, changes: dict, in_tracer: bool, warning: str) -> None:
    data = tracer(slices(), **changes) if in_tracer else slices(**changes)
    assert [finding.code for finding in suv(data, tmp_path).findings] == [warning]


def test_gate_pet_no_dates_in_the_provenance(tmp_path: Path) -> None:
    text = repr(suv(slices(), tmp_path).provenance)
    assert "2024" not in text
    assert "TRAP" not in text


def test_gate_enhanced_pet(tmp_path: Path) -> None:
    data = slices()[0]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.130"
    positions = [one.ImagePositionPatient for one in slices()]
    data.NumberOfFrames = 3
    data.AttenuationCorrected = data.DecayCorrected = "YES"
    data.DecayCorrectionDateTime = "20240315101500"
    shared, plane, measures, unit = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = data.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = data.PixelSpacing, data.SliceThickness
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "Bq/ml", "UCUM", "Bq/ml"
    mapping = Dataset()
    mapping.MeasurementUnitsCodeSequence = [unit]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    shared.RealWorldValueMappingSequence = [mapping]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k, position in enumerate(positions):
        frame, place, value = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = position
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = 1 + k, 0, "US"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [value]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    data.PixelData = data.PixelData * 3
    for keyword in ("Units", "DecayCorrection", "CorrectedImage", "RescaleSlope"):
        delattr(data, keyword)
    for keyword in ("RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(data, keyword)
    volume = suv([data], tmp_path)
    for k in range(3):
        assert volume.array[..., k] == pytest.approx(expected(3600) * (1 + k), rel=1e-6)
