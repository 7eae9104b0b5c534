"""Pixels of one slice: straight from the file where they stand uncompressed, else by a decoder."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import generate_frames

from differseg_med.errors import StudyError
from differseg_med.io._integrity import frame_bytes, is_native
from differseg_med.io._source import READ_ERRORS, SourceReader, parse_label, short_name
from differseg_med.io._study import Instance

__all__ = ["PixelDecoder"]

_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_PACKAGES: Mapping[str, str] = {
    # JPEG processes 1, 2, 4 and 14: no decoder in the base install
    "1.2.840.10008.1.2.4.50": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.51": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.57": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.70": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg-rle",
}
"""Package that decodes a transfer syntax, for the message when it is missing."""

_NO_DECODER = "Export the series again, uncompressed or as JPEG 2000."


class PixelDecoder:
    """Decodes slices from many threads; keeps the compressed file that was read last.

    Args:
        reader: where bytes come from.
    """

    def __init__(self, reader: SourceReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._last: tuple[str, pydicom.Dataset] | None = None

    def stored_values(self, instance: Instance) -> npt.NDArray[Any]:
        """Stored values of one slice as integers, shape (rows, columns).

        Bits beyond BitsStored (overlays of old files) are cleared and the sign is extended.

        Raises:
            StudyError: ``E_CORRUPT`` or ``E_DECODER``.
        """
        try:
            raw = self._native(instance) if is_native(instance) else self._decoded(instance)
        except READ_ERRORS as error:
            raise StudyError(
                "E_CORRUPT",
                f"{short_name(instance.source)} cannot be read ({type(error).__name__})",
            ) from error
        return _clean(raw, instance.tags)

    def _native(self, instance: Instance) -> npt.NDArray[Any]:
        size = frame_bytes(instance)
        offset = _integer(instance.tags, "PixelOffset", 0) + instance.frame * size
        data = self._reader.read_range(parse_label(instance.source), offset, size)
        if len(data) != size:
            name = short_name(instance.source)
            raise StudyError("E_CORRUPT", f"{name} ends {size - len(data)} bytes too early")
        order = ">" if instance.tags["TransferSyntaxUID"] == _BIG_ENDIAN else "<"
        return np.frombuffer(data, _dtype(instance.tags, order)).reshape(
            instance.rows, instance.columns
        )

    def _decoded(self, instance: Instance) -> npt.NDArray[Any]:
        """Decode through pydicom's plugins; one frame at a time."""
        name = short_name(instance.source)
        try:
            dataset = self._dataset(instance, name)
            array = pydicom.pixels.pixel_array(dataset, index=instance.frame, raw=True)
        except StudyError:
            raise
        except Exception as error:  # decoders raise what they like on damaged or unknown streams
            raise _decode_error(instance, name, error) from error
        if array.shape != (instance.rows, instance.columns):
            expected = (instance.rows, instance.columns)
            raise StudyError("E_CORRUPT", f"{name} decodes to {array.shape}, expected {expected}")
        return np.asarray(array)

    def _dataset(self, instance: Instance, name: str) -> pydicom.Dataset:
        with self._lock:
            if self._last is not None and self._last[0] == instance.source:
                return self._last[1]
            data = self._reader.read(parse_label(instance.source))
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            _check_fragments(dataset, instance, name)
            self._last = (instance.source, dataset)
            return dataset


def _integer(tags: Mapping[str, object], keyword: str, default: int) -> int:
    value = tags.get(keyword)
    return int(value) if isinstance(value, (int, float)) else default


def _dtype(tags: Mapping[str, object], order: str = "=") -> np.dtype[Any]:
    kind = "i" if _integer(tags, "PixelRepresentation", 0) == 1 else "u"
    return np.dtype(f"{order}{kind}{_integer(tags, 'BitsAllocated', 16) // 8}")


def _check_fragments(dataset: pydicom.Dataset, instance: Instance, name: str) -> None:
    """Native data inside a deflated file, or complete fragments of an encapsulated one."""
    data = dataset.get("PixelData")
    if not data:
        raise StudyError("E_CORRUPT", f"{name} has no pixel data, or ends before it")
    frames = _integer(instance.tags, "NumberOfFrames", 1)
    if not pydicom.uid.UID(str(dataset.file_meta.TransferSyntaxUID)).is_encapsulated:
        expected = frame_bytes(instance) * frames
        if len(data) not in (expected, expected + expected % 2):
            raise StudyError(
                "E_CORRUPT", f"{name}: {len(data)} bytes of pixels, expected {expected}"
            )
        return
    found = sum(1 for _ in generate_frames(data, number_of_frames=frames))
    if found != frames:
        raise StudyError("E_CORRUPT", f"{name} holds {found} of {frames} frames")


def _decode_error(instance: Instance, name: str, error: Exception) -> StudyError:
    """The missing package where there is one, else damage."""
    syntax = pydicom.uid.UID(str(instance.tags.get("TransferSyntaxUID", "")))
    package = _PACKAGES.get(str(syntax))
    try:
        available = pydicom.pixels.get_decoder(syntax).available_plugins
    except NotImplementedError:
        return StudyError("E_DECODER", f"{name} is compressed as {syntax.name}", _NO_DECODER)
    plugin = "pyjpegls" if package == "pyjpegls" else "pylibjpeg"
    if package and plugin not in available:
        remedy = f"Install it with: pip install {package}."
        return StudyError("E_DECODER", f"{name} is compressed as {syntax.name}", remedy)
    return StudyError("E_CORRUPT", f"{name} cannot be decoded ({type(error).__name__})")


def _clean(raw: npt.NDArray[Any], tags: Mapping[str, object]) -> npt.NDArray[Any]:
    """Keep the stored bits only; sign-extend signed values."""
    allocated = 8 * raw.dtype.itemsize
    stored = _integer(tags, "BitsStored", allocated)
    high = _integer(tags, "HighBit", stored - 1)
    if not (0 < stored <= allocated and stored - 1 <= high < allocated):
        raise StudyError("E_CORRUPT", f"{stored} stored bits with high bit {high}")
    up, down = allocated - 1 - high, allocated - stored
    if up == 0 and down == 0:
        return raw
    native = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    return np.asarray(np.right_shift(np.left_shift(native, up), down))
