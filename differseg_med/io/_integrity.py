"""Does a file hold the pixels that its header claims? Checked on lengths, before any decoding."""

from __future__ import annotations

import hashlib
import math

from differseg_med.errors import Finding
from differseg_med.io._source import SourceReader, parse_label, short_name
from differseg_med.io._study import Instance
from differseg_med.io._tags import ENHANCED, INVALID

__all__ = ["frame_bytes", "instance_problem", "is_native", "pixel_digest"]

_NATIVE = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
}
_DEFLATED = "1.2.840.10008.1.2.1.99"

_MUST_READ = {
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "HighBit",
    "NumberOfFrames",
    "PixelPaddingValue",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
}


def is_native(instance: Instance) -> bool:
    """Whether the pixels stand uncompressed in the file."""
    return instance.tags.get("TransferSyntaxUID") in _NATIVE


def frame_bytes(instance: Instance) -> int:
    """Length of one uncompressed frame."""
    return instance.rows * instance.columns * int(_number(instance, "BitsAllocated", 0)) // 8


def _number(instance: Instance, keyword: str, default: float) -> float:
    value = instance.tags.get(keyword)
    return float(value) if isinstance(value, (int, float)) else default


def instance_problem(instance: Instance) -> Finding | None:
    """What is wrong with one file or frame, by its header and length alone."""
    name = short_name(instance.source)
    unreadable = _MUST_READ.intersection(_invalid(instance))
    if unreadable:
        return Finding("E_CORRUPT", f"{name}: {', '.join(sorted(unreadable))} cannot be read")
    if "MOSAIC" in (instance.tags.get("ImageType") or ()):
        return Finding("E_UNSUPPORTED", f"{name} is a mosaic: many slices in one plane")
    if _number(instance, "NumberOfFrames", 1) > 1 and instance.tags["SOPClassUID"] not in ENHANCED:
        return Finding("E_UNSUPPORTED", f"{name} has several frames in a single-frame class")
    slope, offset = _number(instance, "RescaleSlope", 1), _number(instance, "RescaleIntercept", 0)
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(offset)):
        return Finding("E_CORRUPT", f"{name}: RescaleSlope {slope:g}, RescaleIntercept {offset:g}")
    return _length_problem(instance, name)


def _invalid(instance: Instance) -> tuple[str, ...]:
    value = instance.tags.get(INVALID)
    return value if isinstance(value, tuple) else ()


def _length_problem(instance: Instance, name: str) -> Finding | None:
    tags = instance.tags
    bits = int(_number(instance, "BitsAllocated", 0))
    if min(instance.rows, instance.columns) < 1 or bits not in (8, 16, 32):
        size = f"{instance.rows} x {instance.columns} pixels of {bits} bits"
        return Finding("E_CORRUPT", f"{name}: the header claims {size}")
    if tags.get("TransferSyntaxUID") == _DEFLATED:
        return None  # inflated, its lengths are compared when it is decoded
    if "PixelOffset" not in tags:
        return Finding("E_CORRUPT", f"{name} has no pixel data, or ends before it")
    if not is_native(instance):
        return None  # encapsulated, its fragments are checked when it is decoded
    expected = frame_bytes(instance) * int(_number(instance, "NumberOfFrames", 1))
    length = int(_number(instance, "PixelLength", -1))
    if length not in (expected, expected + expected % 2):
        return Finding("E_CORRUPT", f"{name}: {length} bytes of pixels, expected {expected}")
    end = _number(instance, "PixelOffset", 0) + expected
    file_size = _number(instance, "FileSize", -1)
    if 0 <= file_size < end:
        return Finding("E_CORRUPT", f"{name} ends {end - file_size:.0f} bytes too early")
    return None


def pixel_digest(reader: SourceReader, instance: Instance) -> str:
    """Digest of a slice's pixels and their meaning; unique where frames cannot be compared."""
    source = parse_label(instance.source)
    tags = instance.tags
    if is_native(instance):
        offset = int(_number(instance, "PixelOffset", 0)) + instance.frame * frame_bytes(instance)
        data = reader.read_range(source, offset, frame_bytes(instance))
    elif tags["SOPClassUID"] in ENHANCED or "PixelOffset" not in tags:
        return f"{instance.uid}#{instance.frame}"
    else:
        data = reader.read(source)[int(_number(instance, "PixelOffset", 0)) :]
    meaning = [tags.get(k) for k in ("RescaleSlope", "RescaleIntercept", "PixelRepresentation")]
    head = repr((instance.rows, instance.columns, instance.position, meaning)).encode()
    return hashlib.sha256(head + data).hexdigest()
