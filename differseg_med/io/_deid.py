"""A copy of a study without the patient's identity.

The DICOM basic application level confidentiality profile (PS3.15 Annex E, table of 2026c) as the
package ``dicom-anonymizer`` (BSD) has it, applied to every item of every sequence, which that
package leaves alone. On top of it, whatever is not known to be harmless is removed: private
elements, text and binary values that are on no list below, and dates and times that nothing needs.

Kept beyond the basic profile, and coded in DeidentificationMethodCodeSequence, is what SUV needs:
times with dates moved by a number of whole days per patient (Retain Longitudinal Temporal
Information with Modified Dates), the weight of a PET's patient, height and sex only where its SUVs
are normalised by another mass (Retain Patient Characteristics), and the few private numbers that
are read here (Retain Safe Private). Pixels are copied as they are, so objects that may hold
burned-in text are refused.
"""

from __future__ import annotations

import functools
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

from differseg_med import __version__
from differseg_med._imports import require
from differseg_med.errors import OutputError, StudyError, UsageError
from differseg_med.io._header import quiet, read_header
from differseg_med.io._source import Source, SourceReader, list_sources
from differseg_med.io._study import Skipped
from differseg_med.io._tags import PRIVATE, private_tags
from differseg_med.io._times import parse_clock
from differseg_med.io._uid_map import Pseudonym, UidMap

__all__ = ["Deidentified", "deidentify"]

_EDITION = "2026c"
_WELL_KNOWN = "1.2.840.10008."


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TIMES = _words("""
    StudyDate StudyTime SeriesDate SeriesTime AcquisitionDate AcquisitionTime AcquisitionDateTime
    ContentDate ContentTime RadiopharmaceuticalStartTime RadiopharmaceuticalStartDateTime
    DecayCorrectionDateTime FrameAcquisitionDateTime FrameReferenceDateTime
""")
"""Dates and times that are kept, dates moved: they place slices in time and decay."""

_TEXTS = _words("""
    CodeMeaning CodeValue CodingSchemeDesignator CodingSchemeVersion ConvolutionKernel Manufacturer
    ManufacturerModelName PositionReferenceIndicator Radiopharmaceutical RescaleType SequenceName
    StackID
""")
"""Texts that are kept where the profile keeps them: technical, and needed to tell stacks apart."""

_BINARY = frozenset(("PixelData", "FloatPixelData", "DoubleFloatPixelData", "LUTData"))

_TEXT_VRS = frozenset(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_BINARY_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_TIME_VRS = frozenset(("DA", "DT", "TM"))
_NUMBER = re.compile(r"\s*([+-]?[0-9.]+([eE][+-]?\d+)?)?\s*")
_FORMS = {
    "AS": re.compile(r"(\d{3}[DWMY])?"),
    "CS": re.compile(r"[A-Za-z0-9 _.+/-]{0,16}"),
    "DS": _NUMBER,
    "IS": _NUMBER,
}
"""What values of a kind look like; anything else in their place could be anything."""

_MOMENT = re.compile(r"\d{8}([0-9.+-]{0,18})")
_EMPTY = ("AccessionNumber", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyID")
_BODY_WEIGHT_ONLY = (None, "", "BW")

_OPTIONS = {
    "basic": ("113100", "Basic Application Confidentiality Profile"),
    "dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "body": ("113108", "Retain Patient Characteristics Option"),
    "private": ("113111", "Retain Safe Private Option"),
}

_Rule: TypeAlias = Callable[[Dataset, Any], None]


@dataclass(frozen=True)
class Deidentified:
    """What came of a study.

    Attributes:
        folder: the copy, a folder per series.
        files: number of objects in it.
        left_out: why objects were not copied, with how many.
        series: new Series Instance UID by the old one.
    """

    folder: Path
    files: int
    left_out: Mapping[str, int]
    series: Mapping[str, str] = field(repr=False)


def deidentify(
    study: str | Path,
    out: str | Path,
    uid_map: str | Path,
    *,
    only: Collection[str] | None = None,
) -> Deidentified:
    """Write a copy of a study's images without the patient's identity; the study stays as it is.

    Args:
        study: a folder or archive of DICOM files.
        out: a folder that does not exist or is empty.
        uid_map: file of old and new identities; the same study gives the same copy again.
        only: sources of the objects to copy, as `Instance.source` says; all images if None.

    Raises:
        UsageError: ``E_PATH``, ``E_UID_MAP``, or ``E_EXTRA`` without the ``deid`` extra.
        StudyError: ``E_EMPTY`` without an image, ``E_BURNED_IN`` where pixels may show identity,
            ``E_CORRUPT`` for an image that cannot be read.
        OutputError: ``E_EXISTS`` or ``E_WRITE``; nothing is left behind.
    """
    require("dicomanonymizer", extra="deid")
    folder = Path(out)
    if Path(uid_map).resolve().is_relative_to(folder.resolve()):
        raise UsageError("E_UID_MAP", "the UID map may not lie in the copy")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError("E_EXISTS", f"the folder {folder.name} is not empty")
    with UidMap(uid_map) as identities, SourceReader() as reader, quiet():
        copy = _Copy(folder, identities)
        try:
            for source in list_sources(Path(study)):
                if only is None or source.label in only:
                    copy.add(reader, source)
            if not copy.files:
                reasons = ", ".join(f"{n} {why}" for why, n in copy.left_out.most_common())
                raise StudyError("E_EMPTY", f"no image to copy: {reasons or 'no files'}")
        except BaseException:
            copy.undo()
            raise
    return Deidentified(folder, len(copy.files), dict(copy.left_out), dict(copy.series))


class _Copy:
    """The copy while it grows."""

    def __init__(self, folder: Path, identities: UidMap) -> None:
        self.folder, self.identities = folder, identities
        self.files: list[Path] = []
        self.folders: list[Path] = []
        self.series: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()

    def add(self, reader: SourceReader, source: Source) -> None:
        """Copy one object, or note why not."""
        header, _ = read_header(reader, source)
        if isinstance(header, Skipped):
            self.left_out[header.reason] += 1
            return
        try:
            dataset = pydicom.dcmread(io.BytesIO(reader.read(source)), force=True)
        except Exception as error:  # whatever the parser raises on damaged bytes
            raise StudyError("E_CORRUPT", f"{source.name} cannot be parsed") from error
        old = str(dataset.SeriesInstanceUID)
        clean(dataset, self.identities)
        self.series.setdefault(old, str(dataset.SeriesInstanceUID))
        self._write(dataset, list(self.series).index(old) + 1)

    def _write(self, dataset: Dataset, number: int) -> None:
        folder = self.folder / f"series_{number:03d}"
        path = folder / f"{len(self.files) + 1:06d}.dcm"
        try:
            for missing in (self.folder, folder):
                if not missing.exists():
                    missing.mkdir(parents=missing is self.folder)
                    self.folders.append(missing)
            self.files.append(path)
            pydicom.dcmwrite(path, dataset, enforce_file_format=True)
        except OSError as error:
            raise OutputError(
                "E_WRITE", f"the copy cannot be written: {error.strerror or error}"
            ) from error

    def undo(self) -> None:
        """Remove what was written."""
        with suppress(OSError):
            for path in self.files:
                path.unlink(missing_ok=True)
            for folder in reversed(self.folders):
                folder.rmdir()


def clean(dataset: Dataset, identities: UidMap) -> None:
    """Remove the patient's identity from one image object, in place.

    Args:
        dataset: a whole object with its file meta information.
        identities: what stands for what.

    Raises:
        StudyError: ``E_BURNED_IN``.
    """
    _check_burned_in(dataset)
    patient = identities.patient(_identity(dataset))
    kept = _kept_body(dataset)
    private = _numbers(dataset, patient.days)
    syntax = dataset.file_meta.get("TransferSyntaxUID") or pydicom.uid.ImplicitVRLittleEndian
    body = {keyword: dataset[keyword].value for keyword in kept if keyword in dataset}
    _clean_items(dataset, identities, patient)
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    for keyword, value in body.items():
        setattr(dataset, keyword, value)
    dataset.PatientID = dataset.PatientName = patient.name
    _put_private(dataset, private)
    options = ["basic", "dates", *(["body"] if body else []), *(["private"] if private else [])]
    _sign(dataset, options)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128


def _check_burned_in(dataset: Dataset) -> None:
    kind = dataset.get("ImageType") or ()
    screen = "SCREEN SAVE" in ([kind] if isinstance(kind, str) else list(kind))
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        raise StudyError("E_BURNED_IN", "an image says BurnedInAnnotation YES")
    if screen or dataset.get("ConversionType"):
        raise StudyError("E_BURNED_IN", "an image is a capture of a screen or of paper")


def _identity(dataset: Dataset) -> str:
    """What tells a patient from others; the study where no ID is given."""
    number = str(dataset.get("PatientID") or "").strip()
    issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
    study = str(dataset.get("StudyInstanceUID") or "")
    return f"{number}\\{issuer}" if number else f"study {study}"


def _kept_body(dataset: Dataset) -> tuple[str, ...]:
    if dataset.get("Modality") != "PT":
        return ()
    if dataset.get("SUVType") in _BODY_WEIGHT_ONLY:
        return ("PatientWeight",)
    return ("PatientWeight", "PatientSize", "PatientSex")


def _numbers(dataset: Dataset, days: int) -> dict[str, str]:
    """The private values that are read here: numbers, and one date that is moved."""
    found = {}
    for name, value in private_tags(dataset).items():
        with suppress(ValueError):
            number = "DateTime" not in name
            found[name] = f"{float(value):.10g}" if number else _moved(str(value), days)
    return {name: value for name, value in found.items() if value}


def _put_private(dataset: Dataset, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        group, element, creator = PRIVATE[name]
        block = dataset.private_block(group, creator, create=True)
        block.add_new(element, "DT" if "DateTime" in name else "DS", value)


def _sign(dataset: Dataset, options: Collection[str]) -> None:
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [
        f"DICOM PS3.15 {_EDITION} Annex E, basic profile",
        f"differseg-med {__version__}",
    ]
    items = []
    for value, meaning in (_OPTIONS[name] for name in options):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = items
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"


def _clean_items(dataset: Dataset, identities: UidMap, patient: Pseudonym) -> None:
    """The profile, then our own lists, in a data set and in every item inside it."""
    anonymizer = require("dicomanonymizer.simpledicomanonymizer", extra="deid")
    for tag in [tag for tag in list(dataset.keys()) if not _readable(dataset, tag)]:
        del dataset[tag]  # a value that cannot be read cannot be judged
    rules = _rules_for(dataset)
    anonymizer.anonymize_dataset(dataset, None, True, lambda: rules)
    for element in list(dataset):
        value = _judged(element, identities, patient.days)
        if value is None:
            del dataset[element.tag]
        elif isinstance(value, DicomSequence):
            for item in value:
                _clean_items(item, identities, patient)
        elif value is not element.value:
            element.value = value


def _readable(dataset: Dataset, tag: Any) -> bool:
    try:
        _ = dataset[tag].value
    except Exception:  # whatever a converter raises
        return False
    return True


def _judged(element: Any, identities: UidMap, days: int) -> Any:
    """The value that stays; None where nothing may."""
    keyword, vr, value = element.keyword, element.VR, element.value
    if element.tag.is_private or not (dictionary_has_tag(element.tag) or keyword):
        return None
    if vr == "UI":
        return _mapped(value, identities)
    if vr in _TIME_VRS:
        return _shifted(value, vr, days) if keyword in _TIMES else None
    unlisted = (vr in _TEXT_VRS and keyword not in _TEXTS) or (
        vr in _BINARY_VRS and keyword not in _BINARY
    )
    form = _FORMS.get(vr)
    if unlisted or (form and not all(form.fullmatch(text) for text in _several(value))):
        return None
    return "" if value is None else value


def _several(value: Any) -> Iterator[str]:
    if isinstance(value, (list, tuple, MultiValue)):
        yield from map(str, value)
    else:
        yield "" if value is None else str(value)


def _mapped(value: Any, identities: UidMap) -> Any:
    new = [
        uid if not uid or uid.startswith(_WELL_KNOWN) else identities.uid(uid)
        for uid in _several(value)
    ]
    return new if len(new) > 1 else new[0]


def _shifted(value: Any, vr: str, days: int) -> Any:
    if vr == "TM":
        new = [text if parse_clock(text) is not None else "" for text in _several(value)]
    else:
        new = [_moved(text, days) for text in _several(value)]
    return new if len(new) > 1 else new[0]


def _moved(text: str, days: int) -> str:
    """A date, or a date with a time, moved by whole days; empty where it cannot be read."""
    plain = text.strip().replace(".", "", 2) if text[4:5] == "." else text.strip()
    if not _MOMENT.fullmatch(plain):
        return ""
    try:
        day = date(int(plain[:4]), int(plain[4:6]), int(plain[6:8])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{day:%Y%m%d}{plain[8:]}"


def _rules_for(dataset: Dataset) -> dict[tuple[int, ...], _Rule]:
    """The rules that have something to do; those of four numbers are for groups 50xx and 60xx."""
    present = {(tag.group, tag.element) for tag in dataset.keys()}  # noqa: SIM118 - keys are tags
    repeating = any(group & 0xFF00 in (0x5000, 0x6000) for group, _ in present)
    return {
        tag: rule
        for tag, rule in _rules().items()
        if tag in present or (len(tag) == 4 and repeating)
    }


@functools.cache
def _rules() -> Mapping[tuple[int, ...], _Rule]:
    """The package's rules, made safe for every kind of value."""
    anonymizer = require("dicomanonymizer.simpledicomanonymizer", extra="deid")
    rules: dict[tuple[int, ...], _Rule] = {}
    for tag, action in anonymizer.initialize_actions(f"dicomfields_{_EDITION}").items():
        vr = dictionary_VR(tag) if len(tag) == 2 and dictionary_has_tag(tag) else "UN"
        if len(tag) == 2 and (keyword_for_tag(tag) in _TIMES or vr == "UI"):
            rules[tag] = anonymizer.keep  # moved and mapped here
        elif vr == "SQ" and action is anonymizer.delete_or_empty_or_replace_UID:
            rules[tag] = anonymizer.keep  # references: their UIDs are mapped here
        elif len(tag) == 2 and (action is anonymizer.delete or vr in ("SQ", "UN")):
            rules[tag] = _remove
        else:
            rules[tag] = action
    return rules


def _remove(dataset: Dataset, tag: Any) -> None:
    if tag in dataset:
        del dataset[tag]
