"""DICOM files as whole objects: who they are, and received ones onto the disk as they came."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from differseg_med.errors import OutputError, StudyError
from differseg_med.io._header import quiet

__all__ = ["InstanceId", "instance_id", "keyword_tag", "read_instance_id", "write_instance"]

_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_PREAMBLE, _MAGIC = 128, b"DICM"


@dataclass(frozen=True)
class InstanceId:
    """Which object a DICOM file holds.

    Attributes:
        study: Study Instance UID.
        series: Series Instance UID.
        sop_class: SOP Class UID.
        sop: SOP Instance UID.
    """

    study: str
    series: str
    sop_class: str
    sop: str


def instance_id(dataset: Dataset) -> InstanceId:
    """Which object a dataset is.

    Args:
        dataset: as pydicom holds it.

    Raises:
        StudyError: ``E_CORRUPT`` when one of its UIDs is absent.
    """
    values = [str(dataset.get(keyword) or "").strip() for keyword in _IDENTITY]
    if not all(values):
        lacking = [name for name, value in zip(_IDENTITY, values, strict=True) if not value]
        raise StudyError("E_CORRUPT", f"a DICOM object lacks its {lacking[0]}")
    return InstanceId(*values)


def read_instance_id(path: str | Path) -> InstanceId | None:
    """Which object a file holds; None where it is no DICOM file.

    Args:
        path: the file.

    Raises:
        StudyError: ``E_CORRUPT`` for a DICOM file that cannot be read or does not say what it is.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] != _MAGIC:
                return None
        with quiet():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_IDENTITY))
    except Exception as error:  # whatever the parser raises on damaged bytes
        raise StudyError("E_CORRUPT", f"{path.name} cannot be read") from error
    return instance_id(dataset)


def write_instance(dataset: Dataset, path: str | Path) -> None:
    """Write a received object as it came; the file appears whole or not at all.

    Args:
        dataset: the object; values that nobody touched are written back byte for byte.
        path: the file, in a folder that exists.

    Raises:
        OutputError: ``E_WRITE``.
        StudyError: ``E_CORRUPT`` when what came cannot be written as a DICOM file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with quiet():
            dataset.save_as(temporary, enforce_file_format=True)
        temporary.replace(path)
    except OSError as error:
        raise OutputError("E_WRITE", f"{path.name}: {error.strerror}") from error
    except Exception as error:  # whatever the writer raises on values that make no sense
        raise StudyError("E_CORRUPT", "a received object is not a whole DICOM file") from error
    finally:
        temporary.unlink(missing_ok=True)


def keyword_tag(keyword: str) -> str | None:
    """Tag of a DICOM keyword as eight hexadecimal digits; None where there is no such keyword.

    >>> keyword_tag("StudyDate"), keyword_tag("StudyDay")
    ('00080020', None)
    """
    tag = tag_for_keyword(keyword)
    return None if tag is None else f"{tag:08X}"
