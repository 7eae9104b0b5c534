"""Which patient a series is of, as a hash that cannot be turned back."""

from __future__ import annotations

import hashlib
import hmac

from differseg_med.io._header import read_header
from differseg_med.io._source import SourceReader, parse_label
from differseg_med.io._study import Series

__all__ = ["patient_key"]

_LENGTH = 16


def patient_key(series: Series, salt: bytes) -> str | None:
    """A key that is the same for all series of a patient, and says nothing without the salt.

    Args:
        series: any of the patient's series.
        salt: secret bytes; the same for all studies that are compared.

    Returns:
        16 hexadecimal digits, None where the header names no patient.

    Raises:
        StudyError: ``E_CORRUPT`` when the header cannot be read.
    """
    source = parse_label(series.instances[0].source)
    with SourceReader() as reader:
        _, identity = read_header(reader, source)
    number = identity[0].strip() if identity else ""
    if not number:
        return None
    return hmac.new(salt, number.encode(), hashlib.sha256).hexdigest()[:_LENGTH]
