"""A volume becomes a classic DICOM series, slice by slice: CT, PET in BQML, or MR."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from differseg_med import __version__
from differseg_med.errors import OutputError, StudyError, UsageError
from differseg_med.geometry import Grid, Volume, lps_ras
from differseg_med.modality import get_modality
from differseg_med.types import FloatArray

__all__ = ["StudyInfo", "Tracer", "write_series"]

F18_HALF_LIFE_S = 6586.2
"""Half-life of fluorine-18 in seconds."""

_RIGHT_ANGLE = 1e-4
_MR_TIMES_MS = {"mr_t1": (550.0, 12.0), "mr_t1c": (550.0, 12.0)}
_MR_TIMES_OTHER_MS = (4500.0, 95.0)


@dataclass(frozen=True)
class Tracer:
    """What a PET header needs so that SUVbw can be computed from Bq/ml.

    Attributes:
        dose_bq: injected activity at the time of injection.
        half_life_s: of the nuclide, in seconds.
        uptake_s: seconds from injection to the start of the scan.
        frame_s: seconds that the scan lasted.
    """

    dose_bq: float = 3.7e8
    half_life_s: float = F18_HALF_LIFE_S
    uptake_s: float = 3600.0
    frame_s: float = 180.0

    def bq_per_suv(self, weight_kg: float) -> float:
        """Activity concentration in Bq/ml, corrected to the start of the scan, at SUVbw 1."""
        return self.dose_bq * 2 ** (-self.uptake_s / self.half_life_s) / (weight_kg * 1000)


@dataclass(frozen=True)
class StudyInfo:
    """What the series of one study share.

    Attributes:
        study_uid: Study Instance UID.
        frame_uid: frame of reference for volumes whose grid names none.
        patient_id: Patient ID.
        patient_name: Patient's Name, may be empty.
        weight_kg: Patient's Weight; a PET needs it.
        start: when the study began; the series follow at intervals of their number in minutes.
        description: Study Description.
        body_part: Body Part Examined, a DICOM term of an unpaired part.
    """

    study_uid: str = field(default_factory=lambda: str(generate_uid(prefix=None)))
    frame_uid: str = field(default_factory=lambda: str(generate_uid(prefix=None)))
    patient_id: str = "PHANTOM"
    patient_name: str = "Phantom^Body"
    weight_kg: float = 70.0
    start: datetime = datetime(2024, 1, 2, 9, 0, 0)
    description: str = "Phantom"
    body_part: str = "PELVIS"

    @classmethod
    def from_seed(cls, seed: int) -> StudyInfo:
        """A study whose UIDs follow from a seed."""
        return cls(study_uid=_uid("study", seed), frame_uid=_uid("frame", seed))


@dataclass(frozen=True)
class _Pixels:
    """Stored integers of one slice and how they become values again."""

    stored: npt.NDArray[np.integer]
    slope: str | None = None
    intercept: str | None = None


_Encode = Callable[[FloatArray], _Pixels]


def write_series(
    volume: Volume,
    folder: str | Path,
    *,
    study: StudyInfo,
    number: int,
    modality: str | None = None,
    description: str | None = None,
    tracer: Tracer | None = None,
) -> tuple[Path, ...]:
    """Write one classic DICOM file per slice; UIDs follow from study, number and content.

    Args:
        volume: axes (column, row, slice); CT in HU, PET in SUVbw, MR in any unit.
        folder: made where it does not exist; files are named by slice.
        study: what all series of the study share.
        number: Series Number.
        modality: name of a declared modality, the volume's own if left out.
        description: Series Description, the modality's title if left out.
        tracer: for PET: dose and times.

    Returns:
        The files, in slice order.

    Raises:
        StudyError: ``E_GEOMETRY`` or ``E_VALUES``: a classic series cannot hold this volume.
        OutputError: ``E_EXISTS`` or ``E_WRITE``; what was written before is removed.
        UsageError: ``E_MODALITY``: no such series is made.
    """
    name = modality or volume.modality or ""
    kind = get_modality(name)
    if kind.dicom not in _SOP_CLASSES:
        raise UsageError("E_MODALITY", f"a DICOM series is written for CT, PT, MR, not {name!r}")
    _check(volume)
    header = _header(volume.grid, study, number)
    header.SeriesDescription = description or kind.title
    header.SeriesInstanceUID = _uid(study.study_uid, number, name, _digest(volume))
    header.SOPClassUID = _SOP_CLASSES[kind.dicom]
    header.Modality = kind.dicom
    if kind.dicom == "CT":
        encode = _describe_ct(header)
    elif kind.dicom == "PT":
        encode = _describe_pet(header, study, tracer or Tracer(), volume.grid.shape[2])
    else:
        encode = _describe_mr(header, name, volume.array)
    return _write_all(_slices(header, volume, encode), Path(folder), volume.grid.shape[2])


_SOP_CLASSES = {
    "CT": CTImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
    "MR": MRImageStorage,
}


def _check(volume: Volume) -> None:
    axes = volume.grid.affine[:3, :3] / np.array(volume.grid.spacing)
    if abs(axes[:, 0] @ axes[:, 1]) > _RIGHT_ANGLE:
        raise StudyError("E_GEOMETRY", "rows and columns are not at right angles")
    if not np.isfinite(volume.array).all():
        raise StudyError("E_VALUES", "the volume to write holds NaN or infinite values")


def _write_all(slices: Iterator[Dataset], folder: Path, count: int) -> tuple[Path, ...]:
    paths = tuple(folder / f"IM{k + 1:04d}.dcm" for k in range(count))
    if any(path.exists() for path in paths):
        raise OutputError("E_EXISTS", f"the folder {folder.name!r} holds a series already")
    done: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, dataset in zip(paths, slices, strict=True):
            done.append(path)
            pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    except BaseException as error:
        for path in done:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(
                "E_WRITE", f"slice {len(done)} of {count}: {error.strerror}"
            ) from None
        raise
    return paths


def _slices(header: Dataset, volume: Volume, encode: _Encode) -> Iterator[Dataset]:
    """Yield the one header with each slice's own values in turn: nothing piles up."""
    affine = lps_ras(volume.grid.affine)
    axes = affine[:3, :3] / np.array(volume.grid.spacing)
    normal = np.cross(axes[:, 0], axes[:, 1])
    for k in range(volume.grid.shape[2]):
        position = affine[:3, 3] + k * affine[:3, 2]
        header.SOPInstanceUID = _uid(header.SeriesInstanceUID, k)
        header.InstanceNumber = k + 1
        header.ImagePositionPatient = _ds(position)
        header.SliceLocation = _ds([position @ normal])[0]
        if "ImageIndex" in header:
            header.ImageIndex = k + 1
        _set_pixels(header, encode(np.asarray(volume.array[:, :, k], dtype=np.float32)))
        header.file_meta = _file_meta(header)
        yield header


def _set_pixels(header: Dataset, pixels: _Pixels) -> None:
    stored = np.ascontiguousarray(pixels.stored.T).astype(pixels.stored.dtype.newbyteorder("<"))
    header.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    header.PixelData = stored.tobytes()
    if pixels.slope is not None:
        header.RescaleSlope = pixels.slope
        header.RescaleIntercept = pixels.intercept


def _file_meta(header: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _header(grid: Grid, study: StudyInfo, number: int) -> Dataset:
    """Modules that all three kinds of image share."""
    when = study.start + timedelta(minutes=number)
    ds = Dataset()
    ds.PatientName, ds.PatientID = study.patient_name, study.patient_id
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.PatientWeight = _ds([study.weight_kg])[0]
    ds.StudyInstanceUID, ds.StudyDescription = study.study_uid, study.description
    ds.StudyDate, ds.StudyTime = _date(study.start), _time(study.start)
    ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.StudyID = "1"
    ds.SeriesNumber, ds.BodyPartExamined = number, study.body_part
    ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = _date(when)
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = _time(when)
    ds.Manufacturer, ds.ManufacturerModelName = "differseg-med", "phantom"
    ds.SoftwareVersions, ds.DeviceSerialNumber = __version__, "0"
    ds.FrameOfReferenceUID = grid.frame or study.frame_uid
    ds.PositionReferenceIndicator = ""
    ds.PatientPosition = "HFS"
    _describe_plane(ds, grid)
    return ds


def _describe_plane(ds: Dataset, grid: Grid) -> None:
    """Image plane and image pixel modules; axes of the array are (column, row, slice)."""
    affine = lps_ras(grid.affine)
    spacing = grid.spacing
    axes = affine[:3, :3] / np.array(spacing)
    ds.ImageOrientationPatient = _ds([*axes[:, 0], *axes[:, 1]])
    ds.PixelSpacing = _ds([spacing[1], spacing[0]])
    normal = np.cross(axes[:, 0], axes[:, 1])
    ds.SliceThickness = _ds([abs(affine[:3, 2] @ normal)])[0]
    ds.Columns, ds.Rows = grid.shape[0], grid.shape[1]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0


def _describe_ct(ds: Dataset) -> _Encode:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.KVP, ds.AcquisitionNumber = "120", 1
    ds.RescaleType = "HU"
    return _encode_ct


def _encode_ct(plane: FloatArray) -> _Pixels:
    """Whole Hounsfield units, offset as scanners do."""
    stored = np.rint(plane) + 1024
    if stored.min() < 0 or stored.max() > 65535:
        raise StudyError("E_VALUES", "a CT slice holds values outside -1024 to 64511 HU")
    return _Pixels(stored.astype(np.uint16), "1", "-1024")


def _describe_mr(ds: Dataset, name: str, array: npt.NDArray[np.generic]) -> _Encode:
    repetition, echo = _MR_TIMES_MS.get(name, _MR_TIMES_OTHER_MS)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "SE", "NONE", ""
    ds.MRAcquisitionType, ds.EchoTrainLength = "2D", 1
    ds.RepetitionTime, ds.EchoTime = _ds([repetition, echo])
    ds.MagneticFieldStrength, ds.AcquisitionNumber = "1.5", 1
    ds.SpacingBetweenSlices = ds.SliceThickness
    return _mr_encoder(array)


def _mr_encoder(array: npt.NDArray[np.generic]) -> _Encode:
    """Whole numbers as they are; anything else by one linear rescale of the whole volume."""
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 65535 and np.array_equal(array, np.rint(array)):
        return lambda plane: _Pixels(plane.astype(np.uint16))
    slope = format_number_as_ds(max((high - low) / 65535, 1e-12))
    intercept = format_number_as_ds(low)

    def encode(plane: FloatArray) -> _Pixels:
        stored = np.rint((plane.astype(np.float64) - float(intercept)) / float(slope))
        return _Pixels(np.clip(stored, 0, 65535).astype(np.uint16), slope, intercept)

    return encode


def _encode_pet(plane: FloatArray, bq_per_suv: float) -> _Pixels:
    """Bq/ml with a slope per slice, as PET scanners write it; the intercept is always 0."""
    if plane.min() < 0:
        raise StudyError("E_VALUES", "a PET slice holds negative values")
    activity = plane.astype(np.float64) * bq_per_suv
    slope = format_number_as_ds(max(float(activity.max()), 1.0) / 32767)
    stored = np.minimum(np.rint(activity / float(slope)), 32767)
    return _Pixels(stored.astype(np.int16), slope, "0")


def _describe_pet(ds: Dataset, study: StudyInfo, tracer: Tracer, slices: int) -> _Encode:
    scan = study.start + timedelta(minutes=int(ds.SeriesNumber))
    rate = np.log(2) / tracer.half_life_s
    factor = rate * tracer.frame_s / (1 - np.exp(-rate * tracer.frame_s))
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SeriesType, ds.CountsSource, ds.Units = ["STATIC", "IMAGE"], "EMISSION", "BQML"
    ds.CorrectedImage = ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"]
    ds.DecayCorrection, ds.CollimatorType = "START", "NONE"
    ds.NumberOfSlices, ds.ImageIndex = slices, 1
    ds.AttenuationCorrectionMethod, ds.ReconstructionMethod = "measured, CT", "simulated"
    ds.RandomsCorrectionMethod, ds.ScatterCorrectionMethod = "DLYD", "model"
    ds.ActualFrameDuration = str(round(tracer.frame_s * 1000))
    ds.FrameReferenceTime = _ds([np.log(factor) / rate * 1000])[0]
    ds.DecayFactor = _ds([factor])[0]
    ds.AcquisitionNumber = 1
    ds.RadiopharmaceuticalInformationSequence = [_dose(tracer, scan)]
    del ds.PatientPosition  # the sequences below say it in a PET
    ds.PatientOrientationCodeSequence = [_code("102538003", "recumbent")]
    ds.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [
        _code("40199007", "supine")
    ]
    ds.PatientGantryRelationshipCodeSequence = [_code("102540008", "headfirst")]
    bq_per_suv = tracer.bq_per_suv(study.weight_kg)
    return lambda plane: _encode_pet(plane, bq_per_suv)


def _dose(tracer: Tracer, scan: datetime) -> Dataset:
    injected = scan - timedelta(seconds=tracer.uptake_s)
    dose = Dataset()
    dose.Radiopharmaceutical = "FDG"
    dose.RadiopharmaceuticalRoute = ""
    dose.RadiopharmaceuticalStartTime = _time(injected)
    dose.RadiopharmaceuticalStartDateTime = _date(injected) + _time(injected)
    dose.RadionuclideTotalDose = _ds([tracer.dose_bq])[0]
    dose.RadionuclideHalfLife = _ds([tracer.half_life_s])[0]
    dose.RadionuclidePositronFraction = "0.967"
    dose.RadionuclideCodeSequence = [_code("77004003", "^18^Fluorine")]
    dose.RadiopharmaceuticalCodeSequence = [_code("35321007", "Fluorodeoxyglucose F^18^")]
    return dose


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _ds(values: npt.ArrayLike) -> list[str]:
    """Decimal strings of at most 16 characters, as exact as they get."""
    return [format_number_as_ds(float(v) + 0.0) for v in np.asarray(values, dtype=np.float64)]


def _date(when: datetime) -> str:
    return when.strftime("%Y%m%d")


def _time(when: datetime) -> str:
    return when.strftime("%H%M%S.%f")


def _digest(volume: Volume) -> str:
    digest = hashlib.blake2b(np.ascontiguousarray(volume.array).tobytes(), digest_size=16)
    digest.update(volume.grid.affine.tobytes())
    return digest.hexdigest()


def _uid(*parts: object) -> str:
    """A UID that follows from its parts, in the form of a name-based UUID."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()
    number = int.from_bytes(digest, "big") & ~(0xF << 76) & ~(0x3 << 62) | (8 << 76) | (2 << 62)
    return f"2.25.{number}"
