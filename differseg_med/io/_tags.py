"""Which header values are read, and how they become plain Python values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

__all__ = [
    "ENHANCED",
    "IMAGE_CLASSES",
    "INVALID",
    "KEYWORDS",
    "PRIVATE",
    "READ_TAGS",
    "plain_tags",
    "private_tags",
]

_CLASSIC = "1.2.840.10008.5.1.4.1.1."

IMAGE_CLASSES: Mapping[str, str] = {
    f"{_CLASSIC}2": "CT Image",
    f"{_CLASSIC}2.1": "Enhanced CT Image",
    f"{_CLASSIC}2.2": "Legacy Converted Enhanced CT Image",
    f"{_CLASSIC}4": "MR Image",
    f"{_CLASSIC}4.1": "Enhanced MR Image",
    f"{_CLASSIC}4.4": "Legacy Converted Enhanced MR Image",
    f"{_CLASSIC}128": "PET Image",
    f"{_CLASSIC}130": "Enhanced PET Image",
    f"{_CLASSIC}128.1": "Legacy Converted Enhanced PET Image",
}
"""SOP classes that are read as images; everything else is listed as skipped."""

ENHANCED = frozenset(uid for uid, name in IMAGE_CLASSES.items() if "Enhanced" in name)

INVALID = "_invalid"
"""Key under which the keywords of unreadable values are kept."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NUMBERS = _words("""
    AcquisitionNumber BitsAllocated BitsStored Columns DiffusionBValue EchoTime FlipAngle
    GantryDetectorTilt HighBit InstanceNumber InversionTime KVP NumberOfFrames PatientSize
    PatientWeight PixelPaddingRangeLimit PixelPaddingValue PixelRepresentation RepetitionTime
    RescaleIntercept RescaleSlope Rows SamplesPerPixel SeriesNumber SliceThickness
    SpacingBetweenSlices TemporalPositionIdentifier TemporalPositionIndex TriggerTime
    EffectiveEchoTime NominalCardiacTriggerDelayTime FrameReferenceTime ActualFrameDuration
    FrameAcquisitionNumber EchoNumbers
""")

_OTHERS = _words("""
    AcquisitionDate AcquisitionDateTime AcquisitionTime AttenuationCorrected BodyPartExamined
    ComplexImageComponent ContentTime ContrastBolusAgent ConvolutionKernel CorrectedImage
    DecayCorrected DecayCorrection DecayCorrectionDateTime DiffusionGradientOrientation
    FrameAcquisitionDateTime FrameOfReferenceUID FrameType ImageOrientationPatient
    ImagePositionPatient ImageType LossyImageCompression Manufacturer Modality
    PhotometricInterpretation PixelSpacing ProtocolName RescaleType SOPClassUID SOPInstanceUID
    ScanOptions ScanningSequence SequenceName SeriesDate SeriesDescription SeriesInstanceUID
    SeriesTime StackID StudyDate StudyInstanceUID StudyTime SUVType Units PatientSex
""")

_SEQUENCES = ("RadiopharmaceuticalInformationSequence",)

_FUNCTIONAL_GROUPS = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)

_IDENTITY = ("PatientID", "PatientBirthDate", "PatientSex")

_NUMERIC = frozenset(_NUMBERS)

PRIVATE = {
    # keyword of ours: (group, element within its block, private creator)
    "SiemensBValue": (0x0019, 0x0C, "SIEMENS MR HEADER"),
    "GEBValue": (0x0043, 0x39, "GEMS_PARM_01"),
    "PhilipsBValue": (0x2001, 0x03, "Philips Imaging DD 001"),
    "GEScanDateTime": (0x0009, 0x0D, "GEMS_PETD_01"),
    "PhilipsSUVFactor": (0x7053, 0x00, "Philips PET Private Group"),
    "PhilipsActivityFactor": (0x7053, 0x09, "Philips PET Private Group"),
}

KEYWORDS = frozenset((*_NUMBERS, *_OTHERS, *PRIVATE))
"""Names under which an instance's tags are kept."""

_BLOCKS = range(0x10, 0x14)
"""Private blocks that are looked into; real files use the first one or two."""


def _private_elements() -> list[int]:
    wanted = set()
    for group, element, _ in PRIVATE.values():
        for block in _BLOCKS:
            wanted |= {(group << 16) | block, (group << 16) | (block << 8) | element}
    return sorted(wanted)


READ_TAGS: list[BaseTag | int] = [
    int(Tag(name))
    for name in (
        *_NUMBERS,
        *_OTHERS,
        *_SEQUENCES,
        *_FUNCTIONAL_GROUPS,
        *_IDENTITY,
        *_private_elements(),
    )
]
"""Everything that is read from a header (plain integers compare faster than tags)."""

_KEPT: Mapping[int, str] = {int(Tag(keyword)): keyword for keyword in (*_NUMBERS, *_OTHERS)}

_KEPT_VR: Mapping[int, str] = {tag: dictionary_VR(tag) for tag in _KEPT}
_NUMBER_TEXT = frozenset(("DS", "IS"))
_PLAIN_TEXT = frozenset(("CS", "DA", "DT", "TM", "UI"))


def plain_tags(dataset: Dataset) -> dict[str, Any]:
    """Known values of a dataset by keyword: floats, text and tuples; empty ones are left out.

    Keywords whose value cannot be read, or that should be one number and are not, are listed under
    `INVALID` and have no value.
    """
    found: dict[str, Any] = {}
    invalid: list[str] = []
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset yields elements
        keyword = _KEPT.get(int(tag))
        if keyword is None:
            continue
        try:
            value = _value(dataset, tag, keyword in _NUMERIC)
        except (ValueError, TypeError, OverflowError, AttributeError, KeyError):
            invalid.append(keyword)
            continue
        if value is not None:
            found[keyword] = value
    if invalid:
        found[INVALID] = tuple(invalid)
    return found


def _value(dataset: Dataset, tag: BaseTag, numeric: bool) -> Any:
    """A value; plain text straight from its bytes, which spares most of pydicom's time."""
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
        vr = raw.VR or _KEPT_VR[int(tag)]
        if vr in _NUMBER_TEXT or vr in _PLAIN_TEXT:
            return _from_text(raw.value.decode("ascii"), vr in _NUMBER_TEXT, numeric)
    return _plain(dataset[tag].value, numeric=numeric)


def _from_text(text: str, number: bool, single: bool) -> Any:
    items = [item.strip(" \0") for item in text.split("\\")]
    if len(items) > 1 and single:
        raise ValueError("one number was expected")
    values = tuple(_finite(item) if number and item else item or None for item in items)
    return values if len(values) > 1 else values[0]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a finite number was expected")
    return number


def _plain(value: Any, *, numeric: bool) -> Any:
    """One value without pydicom's types; None for an empty one."""
    if value is None or isinstance(value, (bytes, DicomSequence, Dataset, PersonName)):
        return None
    if isinstance(value, (MultiValue, list, tuple)):
        if numeric:
            raise ValueError("one number was expected")
        return tuple(_plain(item, numeric=False) for item in value) or None
    if isinstance(value, str):
        text = str(value).strip(" \0")
        if numeric and text:
            return float(text)
        return text or None
    return float(value)


def private_tags(dataset: Dataset) -> dict[str, Any]:
    """Known private values, found through their creator in whichever block they stand."""
    found: dict[str, Any] = {}
    for name, (group, element, creator) in PRIVATE.items():
        for block in _BLOCKS:
            holder = dataset.get((group, block))
            if holder is None or str(holder.value).strip() != creator:
                continue
            item = dataset.get((group, (block << 8) | element))
            value = None if item is None else _private_value(item.value)
            if value is not None:
                found[name] = value
    return found


def _private_value(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip(" \0")
    if isinstance(value, (MultiValue, list, tuple)):
        value = value[0] if len(value) else None
    if isinstance(value, str):
        return value.split("\\")[0].strip() or None
    return None if value is None else float(value)
