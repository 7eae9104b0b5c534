"""Read the header of one file: is it an image, of which series, and what does each frame say."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from differseg_med.errors import StudyError
from differseg_med.io._frames import frame_tags
from differseg_med.io._limits import MAX_INFLATED_BYTES
from differseg_med.io._source import READ_ERRORS, Source, SourceReader
from differseg_med.io._study import Instance, Skipped
from differseg_med.io._tags import ENHANCED, IMAGE_CLASSES, INVALID, READ_TAGS, plain_tags
from differseg_med.io._tags import private_tags as read_private

__all__ = ["Header", "quiet", "read_header"]

_HEAD_BYTES = 1 << 16
_META_BYTES = 512
_MEDIA_CLASS = re.compile(rb"\x02\x00\x02\x00UI..([0-9.]+)", re.DOTALL)
_PIXELS = 0x7FE00008
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_AFTER_IDENTITY = 0x00100041
_LENGTH_UNDEFINED = 0xFFFFFFFF
_PIXEL_TAG = (0x7FE0, 0x0010)
_LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"UN")


@dataclass(frozen=True)
class Header:
    """What one image file says.

    Attributes:
        series: Series and Study Instance UID, and DICOM Modality.
        patient: PatientID, birth date and sex, for comparison only; never kept.
        instances: one entry per frame.
    """

    series: tuple[str, str, str]
    patient: tuple[str, str, str]
    instances: tuple[Instance, ...]


class _Quiet:
    """How many callers want pydicom quiet, and what its settings were before the first."""

    lock = threading.Lock()
    depth = 0
    undo = contextlib.ExitStack()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's remarks on values that we check ourselves; nests, also across threads."""
    with _Quiet.lock:
        if _Quiet.depth == 0:
            settings = pydicom.config.settings
            before = settings.reading_validation_mode
            settings.reading_validation_mode = pydicom.config.IGNORE
            _Quiet.undo.callback(setattr, settings, "reading_validation_mode", before)
            _Quiet.undo.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _Quiet.depth += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.depth -= 1
            if _Quiet.depth == 0:
                _Quiet.undo.close()


def read_header(reader: SourceReader, source: Source) -> tuple[Header | Skipped, tuple[str, ...]]:
    """Read one file's header.

    Returns:
        The header, or why the file is skipped; and the patient's identity (may be empty strings).

    Raises:
        StudyError: ``E_CORRUPT`` for a DICOM file that cannot be read: it could be a slice.
    """
    if source.size == 0:
        return Skipped(source.label, "empty file"), ()
    try:
        start = reader.head(source, _META_BYTES).getvalue()
    except READ_ERRORS as error:
        if source.member is not None:
            return Skipped(source.label, f"unreadable archive member ({type(error).__name__})"), ()
        kind = type(error).__name__  # its text may hold the whole path
        raise StudyError("E_CORRUPT", f"{source.name} cannot be read ({kind})") from error
    marked = start[128:132] == b"DICM"
    if not marked and not _looks_like_dataset(start):
        damaged = source.path.suffix.lower() == ".zip" and source.member is None
        return Skipped(source.label, "damaged archive" if damaged else "not DICOM"), ()
    try:
        dataset, where = _parse(reader, source, start)
        return _classify(source, dataset, where, marked)
    except StudyError:
        raise
    except Exception as error:  # whatever a third-party parser raises on damaged bytes
        if not marked or _declared_other(start):
            return Skipped(source.label, f"unreadable ({type(error).__name__})"), ()
        raise StudyError("E_CORRUPT", f"{source.name} cannot be parsed") from error


def _declared_other(start: bytes) -> bool:
    """Whether the file meta information declares a class that is no image."""
    declared = _MEDIA_CLASS.search(start)
    return declared is not None and declared.group(1).decode() not in IMAGE_CLASSES


def _parse(reader: SourceReader, source: Source, start: bytes) -> tuple[Dataset, dict[str, Any]]:
    """Parse up to the pixels, from the file itself or from the head of an archive member."""
    if source.member is None:
        with reader.open(source) as file:
            return _parse_stream(file, start)
    whole = 0 < source.size <= _HEAD_BYTES
    try:
        dataset, where = _parse_stream(reader.head(source, _HEAD_BYTES), start)
        if whole or where or dataset.get("SOPClassUID") not in IMAGE_CLASSES:
            return dataset, where
    except Exception:  # the head may end inside an element; the whole member decides
        if whole:
            raise
    return _parse_stream(io.BytesIO(reader.read(source)), start)


def _parse_stream(file: IO[bytes], start: bytes) -> tuple[Dataset, dict[str, Any]]:
    _check_inflated_size(file, start)
    other = _declared_other(start)
    dataset = _read_until(file, _AFTER_IDENTITY if other else _PIXELS)
    if other and dataset.get("SOPClassUID") in IMAGE_CLASSES:
        dataset = _read_until(file, _PIXELS)
    return dataset, _pixel_place(file, dataset)


def _read_until(file: IO[bytes], first_unread: int) -> Dataset:
    file.seek(0)
    return read_partial(
        file, lambda tag, vr, length: int(tag) >= first_unread, force=True, specific_tags=READ_TAGS
    )


def _check_inflated_size(file: IO[bytes], start: bytes) -> None:
    """Refuse a deflated file that would unpack to more than a file may have."""
    if DeflatedExplicitVRLittleEndian.encode() not in start:
        return
    group_length = int.from_bytes(start[140:144], "little")
    file.seek(144 + group_length)
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    total, rest = 0, b""
    while rest or (rest := file.read(_HEAD_BYTES)):
        total += len(unpacker.decompress(rest, 1 << 24))
        rest = unpacker.unconsumed_tail
        if total > MAX_INFLATED_BYTES:
            raise StudyError("E_SIZE", f"a deflated file unpacks to more than {total} bytes")


def _looks_like_dataset(start: bytes) -> bool:
    """Whether bytes without preamble begin with an element of group 2 or 8."""
    if len(start) < 12:
        return False
    group = int.from_bytes(start[0:2], "little")
    element = int.from_bytes(start[2:4], "little")
    if group not in (0x0002, 0x0008) or element > 0x1200:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") < 1 << 16


def _pixel_place(file: IO[bytes], dataset: Dataset) -> dict[str, Any]:
    """Offset and length of the pixel data element, where the file itself can be addressed."""
    syntax = _transfer_syntax(dataset)
    if syntax == DeflatedExplicitVRLittleEndian:
        return {"TransferSyntaxUID": str(syntax)}
    at = file.tell()
    raw = file.read(12)
    order = "big" if syntax == ExplicitVRBigEndian else "little"
    tag = tuple(int.from_bytes(raw[i : i + 2], order) for i in (0, 2))  # type: ignore[arg-type]
    if len(raw) < 12 or tag != _PIXEL_TAG:
        return {}
    long_form = raw[4:6] in _LONG_VRS
    part = raw[8:12] if long_form else raw[4:8]
    length = int.from_bytes(part, order)  # type: ignore[arg-type]
    return {
        "TransferSyntaxUID": str(syntax),
        "PixelOffset": at + (12 if long_form else 8),
        "PixelLength": None if length == _LENGTH_UNDEFINED else length,
    }


def _transfer_syntax(dataset: Dataset) -> str:
    """The declared transfer syntax, or what pydicom found where none is declared."""
    declared = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if declared:
        return str(declared)
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return "1.2.840.10008.1.2.1" if little else str(ExplicitVRBigEndian)


def _classify(
    source: Source, dataset: Dataset, where: Mapping[str, Any], marked: bool
) -> tuple[Header | Skipped, tuple[str, ...]]:
    sop_class = str(dataset.get("SOPClassUID", "") or "")
    media = str(dataset.file_meta.get("MediaStorageSOPClassUID", "") or "")
    if media == _MEDIA_DIRECTORY:
        return Skipped(source.label, "DICOMDIR"), ()
    if not sop_class:
        if marked and media in ("", *IMAGE_CLASSES):
            raise StudyError("E_CORRUPT", f"{source.name} has no SOP class, or ends before it")
        return Skipped(source.label, "no SOP class"), ()
    patient = tuple(
        str(dataset.get(keyword, "") or "").strip()
        for keyword in ("PatientID", "PatientBirthDate", "PatientSex")
    )
    if sop_class not in IMAGE_CLASSES and media in IMAGE_CLASSES:
        raise StudyError("E_CORRUPT", f"{source.name} says two SOP classes, or ends in the first")
    if sop_class not in IMAGE_CLASSES:
        name = pydicom.uid.UID(sop_class).name
        return Skipped(source.label, "unknown class" if name == sop_class else name), patient
    tags = {**plain_tags(dataset), **read_private(dataset), **where, "FileSize": source.size}
    tags |= _radiopharmaceutical(dataset)
    unfit = _not_for_us(tags)
    if unfit:
        return Skipped(source.label, unfit), patient
    if not (tags.get("SeriesInstanceUID") and tags.get("SOPInstanceUID") and tags.get("Modality")):
        raise StudyError("E_CORRUPT", f"{source.name} lacks its series, instance or modality")
    series = (tags["SeriesInstanceUID"], tags.get("StudyInstanceUID", ""), tags["Modality"])
    instances = tuple(_instances(source, dataset, tags))
    return Header(series, (patient[0], patient[1], patient[2]), instances), patient


def _not_for_us(tags: Mapping[str, Any]) -> str | None:
    if tags.get("SamplesPerPixel", 1.0) != 1.0 or tags.get("PhotometricInterpretation") not in (
        "MONOCHROME1",
        "MONOCHROME2",
        None,
    ):
        return "colour image"
    if "LOCALIZER" in (tags.get("ImageType") or ()):
        return "localizer"
    return None


def _radiopharmaceutical(dataset: Dataset) -> dict[str, Any]:
    items = dataset.get("RadiopharmaceuticalInformationSequence") or []
    if not len(items):
        return {}
    found: dict[str, Any] = {"RadiopharmaceuticalCount": len(items)}
    item = items[0]
    for keyword in (
        "RadiopharmaceuticalStartTime",
        "RadiopharmaceuticalStartDateTime",
        "RadionuclideTotalDose",
        "RadionuclideHalfLife",
    ):
        value = item.get(keyword)
        if value not in (None, ""):
            found[keyword] = str(value)
    codes = item.get("RadionuclideCodeSequence") or []
    if len(codes):
        found["Radionuclide"] = str(codes[0].get("CodeMeaning", "") or "")
        found["RadionuclideCode"] = str(codes[0].get("CodeValue", "") or "")
    return found


def _instances(source: Source, dataset: Dataset, tags: dict[str, Any]) -> Iterator[Instance]:
    if tags["SOPClassUID"] in ENHANCED:
        for index, frame in enumerate(frame_tags(dataset)):
            invalid = (*tags.get(INVALID, ()), *frame.get(INVALID, ()))
            yield _instance(source, {**tags, **frame, INVALID: invalid}, index)
    else:
        yield _instance(source, tags, 0)


def _instance(source: Source, tags: dict[str, Any], frame: int) -> Instance:
    return Instance(
        source=source.label,
        uid=tags["SOPInstanceUID"],
        frame=frame,
        position=_triple(tags.get("ImagePositionPatient")),
        orientation=_floats(tags.get("ImageOrientationPatient"), 6),
        pixel_spacing=_pair(tags.get("PixelSpacing")),
        rows=int(tags.get("Rows") or 0),
        columns=int(tags.get("Columns") or 0),
        tags=tags,
    )


def _floats(value: Any, count: int) -> tuple[float, ...] | None:
    if not isinstance(value, tuple) or len(value) != count:
        return None
    if not all(isinstance(item, float) and abs(item) < 1e6 for item in value):
        return None
    return value


def _triple(value: Any) -> tuple[float, float, float] | None:
    found = _floats(value, 3)
    return None if found is None else (found[0], found[1], found[2])


def _pair(value: Any) -> tuple[float, float] | None:
    found = _floats(value, 2)
    return None if found is None or min(found) <= 0 else (found[0], found[1])
