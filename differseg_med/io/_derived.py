"""What all objects that are made from a source series share: identity, UIDs, times, writing.

UIDs follow from what the object is made of, and its times from the source, so that the same input
with the same software gives the same bytes. When a program ran is not said in the object.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import highdicom as hd
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import format_number_as_ds, validate_value

from differseg_med import __version__
from differseg_med.errors import OutputError, StudyError
from differseg_med.io._header import quiet
from differseg_med.io._source import READ_ERRORS, SourceReader, parse_label
from differseg_med.io._study import Instance, Series
from differseg_med.io._times import parse_datetime, series_time

__all__ = [
    "OF_IMAGES",
    "REQUIRED",
    "atomic",
    "check_texts",
    "copy_identity",
    "decimals",
    "derive_uid",
    "first_header",
    "identified",
    "quiet_writing",
    "save",
    "settle",
]

REQUIRED = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
"""Attributes that may be absent from an image in practice but must exist in what is made of it."""

OF_IMAGES = (
    "LossyImageCompression",
    "LossyImageCompressionMethod",
    "LossyImageCompressionRatio",
    "PositionReferenceIndicator",
)
"""Attributes that an image inherits from the image that it is made of."""

_IDENTITY = ("PatientID", "PatientName")
"""Copied even where they break the rules for their kind: the archive files by them."""

_NAMESPACE = uuid.UUID("5b0c1c5e-8f3b-5d55-9d8e-3f7f0c2f6a11")
"""Any fixed number: it keeps UIDs of this package apart from those of others."""

_NO_TIME = ("19700101", "000000")
"""Stands where the source has no time at all; the attributes must have a value."""


def derive_uid(*parts: str) -> UID:
    """A UID that follows from texts; the same ones always give the same UID.

    Args:
        parts: what identifies the object.
    """
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}")


def first_header(series: Series) -> Dataset:
    """The first file's header, read again for patient and study.

    Args:
        series: the source.

    Raises:
        StudyError: ``E_CORRUPT``: the file is gone or another one.
    """
    instance = series.instances[0]
    try:
        with SourceReader() as reader:
            content = io.BytesIO(reader.read(parse_label(instance.source)))
        header = pydicom.dcmread(content, stop_before_pixels=True)
    except (*READ_ERRORS, pydicom.errors.InvalidDicomError) as error:
        raise StudyError("E_CORRUPT", "a file of the reference series cannot be read") from error
    if header.get("SOPInstanceUID") != instance.uid:
        raise StudyError("E_CORRUPT", "a file of the reference series was changed meanwhile")
    return header


def copy_identity(header: Dataset, dataset: hd.base.SOPClass, more: Iterable[str] = ()) -> None:
    """Patient and study as they stand in the source; values that break their VR are left empty.

    highdicom's constructor never sees them: it would refuse values that are bad but real, and log
    names.

    Args:
        header: the source.
        dataset: what is made of it.
        more: further attributes to copy where they exist.
    """
    dataset.copy_patient_and_study_information(header)
    for keyword in ("SpecificCharacterSet", *more):
        if keyword in header:
            dataset[keyword] = header[keyword]
    for element in [dataset[tag] for tag in dataset.keys() & header.keys()]:
        if element.keyword not in _IDENTITY and not _is_valid(element):
            dataset[element.tag].value = None
    for keyword in REQUIRED:
        if keyword not in dataset:
            setattr(dataset, keyword, "")


def _is_valid(element: pydicom.DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            if isinstance(value, str):
                validate_value(element.VR, value, pydicom.config.RAISE)
    except ValueError:
        return False
    return True


def settle(dataset: hd.base.SOPClass, series: Series, header: Dataset, content: bytes) -> str:
    """Give an object its final UIDs and times.

    The UIDs follow from the software, the source's identity and the content.

    Args:
        dataset: the object, with identity copied.
        series: the source series.
        header: the source's first header.
        content: everything else that the object is made of.

    Returns:
        The key that further UIDs of the object can be derived from.
    """
    digest = hashlib.sha256(content)
    versions = (__version__, hd.__version__, pydicom.__version__)
    for text in (*versions, series.uid, *(instance.uid for instance in series.instances)):
        digest.update(f"\0{text}".encode())
    for tag in sorted(dataset.keys() & header.keys()):
        if header[tag].VR not in ("SQ", "UN") and dataset[tag].value == header[tag].value:
            digest.update(f"\0{tag}={header[tag].value!r}".encode())
    key = digest.hexdigest()
    kind = str(dataset.SOPClassUID)
    dataset.SOPInstanceUID = derive_uid(kind, "instance", key)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SeriesInstanceUID = derive_uid(kind, "series", key)
    date, time = _moment(series, header)
    for keyword in ("ContentDate", "StructureSetDate"):
        if keyword in dataset:
            setattr(dataset, keyword, date)
            setattr(dataset, keyword.replace("Date", "Time"), time)
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.get("ContributingEquipmentSequence") or []:
        item.pop(0x0018A002, None)  # when highdicom ran
    return key


def _moment(series: Series, header: Dataset) -> tuple[str, str]:
    """When the source was acquired, else when its study began."""
    moment = series_time(series) or parse_datetime(
        header.get("StudyDate"), header.get("StudyTime") or "000000"
    )
    return (moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")) if moment else _NO_TIME


def identified(series: Series, instance: Instance) -> Dataset:
    """What highdicom needs of a source image to refer to it: identity, no patient.

    Args:
        series: the image's series.
        instance: the image.
    """
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = series.sop_class, instance.uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = series.study_uid, series.uid
    dataset.Modality = series.dicom
    if series.frame:
        dataset.FrameOfReferenceUID = series.frame
    dataset.Rows, dataset.Columns = instance.rows, instance.columns
    for keyword in REQUIRED:
        setattr(dataset, keyword, "")
    return dataset


def decimals(values: Iterable[float]) -> list[str]:
    """Numbers as decimal strings of at most 16 characters.

    Args:
        values: the numbers.
    """
    return [format_number_as_ds(float(value)) for value in values]


def check_texts(*texts: str) -> None:
    """Refuse texts that a DICOM long string cannot hold; nothing else looks at them.

    Args:
        texts: what the caller says.

    Raises:
        OutputError: ``E_WRITE``.
    """
    try:
        for text in texts:
            validate_value("LO", text, pydicom.config.RAISE)
    except ValueError as error:
        raise OutputError("E_WRITE", f"a text cannot be stored: {error}") from error


def save(dataset: Dataset, path: Path, kind: str) -> None:
    """Write a file.

    Args:
        dataset: what is written.
        path: the file.
        kind: name of the object for people.

    Raises:
        OutputError: ``E_WRITE`` when the object cannot be encoded.
    """
    try:
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
        # The message may quote a value of the patient's.
        name = type(error).__name__
        raise OutputError("E_WRITE", f"the {kind} could not be encoded ({name})") from error


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write beside the target and move into place; leave nothing where that fails.

    Args:
        path: the target.

    Raises:
        OutputError: ``E_WRITE``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError("E_WRITE", f"{path.name}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def quiet_writing() -> Iterator[None]:
    """Copy the patient's values as they are, even bad ones, and keep them out of warnings."""
    settings = pydicom.config.settings
    before = settings.writing_validation_mode
    settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        with quiet():
            yield
    finally:
        settings.writing_validation_mode = before
