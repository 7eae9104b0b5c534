"""Read one DICOM object that is no image, from a file or from inside an archive."""

from __future__ import annotations

import io
from collections.abc import Collection

import pydicom
from pydicom.dataset import Dataset

from differseg_med.errors import StudyError
from differseg_med.io._source import READ_ERRORS, SourceReader, parse_label

__all__ = ["read_object"]


def read_object(source: str, sop_classes: Collection[str], what: str) -> Dataset:
    """Read an object of certain SOP classes.

    Args:
        source: the file, or ``ARCHIVE.zip!MEMBER``.
        sop_classes: UIDs that are accepted.
        what: what they are called, for the message.

    Raises:
        StudyError: ``E_CORRUPT`` or ``E_UNSUPPORTED``.
    """
    place = parse_label(source)
    try:
        with SourceReader() as reader:
            dataset = pydicom.dcmread(io.BytesIO(reader.read(place)))
    except (*READ_ERRORS, pydicom.errors.InvalidDicomError) as error:
        raise StudyError("E_CORRUPT", f"{place.name} is no readable DICOM file") from error
    if dataset.get("SOPClassUID") not in sop_classes:
        raise StudyError("E_UNSUPPORTED", f"{place.name} is no {what}")
    return dataset
