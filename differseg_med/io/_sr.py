"""Measurements become a DICOM structured report (TID 1500) that refers to a DICOM SEG.

The report is built by highdicom and read back through pydicom alone. The target's group refers to
segment 1 of the SEG. Each lesion's group has a tracking identifier of its own and is placed by a
point inside the lesion, as all lesions lie in that one segment; its outline is in the SEG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage, generate_uid

from differseg_med import __version__
from differseg_med.errors import OutputError
from differseg_med.io._derived import (
    atomic,
    check_texts,
    copy_identity,
    derive_uid,
    first_header,
    identified,
    quiet_writing,
    save,
    settle,
)
from differseg_med.io._object import read_object
from differseg_med.io._seg import SegmentCode, SegmentInfo
from differseg_med.io._study import Instance, Series
from differseg_med.io._tags import ENHANCED

__all__ = ["ReportGroup", "ReportValue", "write_sr"]

_READBACK = 1e-6
"""Largest relative difference of a value that is read back; values have 16 characters."""

_GROUP, _IDENTIFIER, _TRACKING_UID = "125007", "112039", "112040"
_DERIVATION, _SEGMENT, _POINT = "121401", "121191", "121231"


@dataclass(frozen=True)
class ReportValue:
    """One measurement.

    Attributes:
        concept: what was measured.
        value: the number.
        unit: its unit, a UCUM code.
        derivation: how one number was made of many, such as the mean.
        modality: the image that it was measured in, a key of the series that are given.
    """

    concept: SegmentCode
    value: float
    unit: SegmentCode
    derivation: SegmentCode | None = None
    modality: str | None = None


@dataclass(frozen=True)
class ReportGroup:
    """Measurements of one region.

    Attributes:
        name: name for people, at most 64 characters.
        values: what was measured.
        point: a point inside the region, LPS mm; None for the whole segment.
        center: where the region lies, LPS mm; says which slice of a source series is referred to.
    """

    name: str
    values: tuple[ReportValue, ...]
    point: tuple[float, ...] | None = None
    center: tuple[float, ...] | None = None


def write_sr(
    groups: Sequence[ReportGroup],
    seg: str | Path,
    series: Mapping[str, Series],
    reference: str,
    path: str | Path,
    segment: SegmentInfo,
    *,
    series_number: int = 901,
    description: str = "Measurements, for research use only",
) -> Path:
    """Write a Comprehensive 3D SR, read it back and compare.

    Args:
        groups: the target first, then its lesions.
        seg: the DICOM SEG that shows the target; must exist.
        series: source series by modality.
        reference: the modality that the SEG was made on.
        path: the file, replaced where it exists.
        segment: what the target is and what made it.
        series_number: Series Number of the new series.
        description: Series Description of the new series.

    Returns:
        The path.

    Raises:
        StudyError: ``E_CORRUPT``: the source is gone or changed.
        OutputError: ``E_NO_FRAME``, ``E_WRITE`` or ``E_READBACK``; nothing is left behind.
    """
    path = Path(path)
    check_texts(*segment.texts, description, *(group.name for group in groups))
    if not series[reference].frame:
        raise OutputError("E_NO_FRAME", "the reference series has no FrameOfReferenceUID")
    with quiet_writing():
        shown = _Shown.read(seg)
        dataset = _build(groups, shown, series, reference, segment, series_number, description)
        with atomic(path) as temporary:
            save(dataset, temporary, "report")
            _read_back(temporary, groups, shown)
    return path


@dataclass(frozen=True)
class _Shown:
    """The SEG that a report refers to."""

    dataset: Dataset
    tracking_uid: str

    @classmethod
    def read(cls, path: str | Path) -> _Shown:
        dataset = read_object(str(path), {SegmentationStorage}, "DICOM SEG")
        if "PixelData" in dataset:
            del dataset.PixelData
        return cls(dataset, str(dataset.SegmentSequence[0].TrackingUID))

    @property
    def uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    def tracking(self, number: int) -> str:
        """UID of the group of that number; 0 is the target."""
        return str(derive_uid("lesion", self.uid, str(number))) if number else self.tracking_uid


def _build(
    groups: Sequence[ReportGroup],
    shown: _Shown,
    series: Mapping[str, Series],
    reference: str,
    segment: SegmentInfo,
    number: int,
    description: str,
) -> sr.Comprehensive3DSR:
    header = first_header(series[reference])
    evidence = [*_evidence(series, reference), _identified_seg(shown)]
    images = [str(image.SOPInstanceUID) for image in evidence]
    content = repr((groups, images, segment, number, description))
    try:
        dataset = sr.Comprehensive3DSR(
            evidence=evidence,
            content=_report(groups, shown, series, reference, segment)[0],
            series_instance_uid=generate_uid(prefix=None),
            series_number=number,
            sop_instance_uid=generate_uid(prefix=None),
            instance_number=1,
            manufacturer="differseg-med",
            manufacturer_model_name=segment.algorithm_name,
            software_versions=__version__,
            device_serial_number="1",
            series_description=description,
            is_complete=True,
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise OutputError("E_WRITE", f"the report could not be built: {error}") from error
    copy_identity(header, dataset)
    settle(dataset, series[reference], header, content.encode())
    return dataset


def _evidence(series: Mapping[str, Series], reference: str) -> list[Dataset]:
    """Every image that was looked at, the reference's first; an enhanced one once."""
    ordered = [series[reference], *(s for name, s in series.items() if name != reference)]
    images = {i.uid: identified(one, i) for one in ordered for i in one.instances}
    return list(images.values())


def _identified_seg(shown: _Shown) -> Dataset:
    dataset = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, keyword, shown.dataset[keyword].value)
    return dataset


def _report(
    groups: Sequence[ReportGroup],
    shown: _Shown,
    series: Mapping[str, Series],
    reference: str,
    segment: SegmentInfo,
) -> sr.MeasurementReport:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", __version__),
        name="differseg-med",
        manufacturer_name="differseg-med",
        model_name=segment.algorithm_name,
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[
            _group(number, group, shown, series, reference, segment)
            for number, group in enumerate(groups)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _group(
    number: int,
    group: ReportGroup,
    shown: _Shown,
    series: Mapping[str, Series],
    reference: str,
    segment: SegmentInfo,
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    source = sr.SourceSeriesForSegmentation(series[reference].uid)
    frame = series[reference].frame
    region: dict[str, Any] = {}
    if group.point is None:
        region["referenced_segment"] = sr.ReferencedSegment(
            SegmentationStorage, shown.uid, 1, source_series=source
        )
    else:
        region["referenced_volume_surface"] = sr.VolumeSurface(
            sr.GraphicTypeValues3D.POINT, np.array([group.point]), frame, source_series=source
        )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(shown.tracking(number), group.name),
        finding_category=segment.category.concept(),
        finding_type=segment.property_type.concept(),
        algorithm_id=sr.AlgorithmIdentification(
            segment.algorithm_name,
            segment.algorithm_version,
            [f"{name}={value}" for name, value in segment.parameters] or None,
            family=codes.cid7162.ArtificialIntelligence,
        ),
        measurements=[_measurement(value, group, series) for value in group.values],
        **region,
    )


def _measurement(
    value: ReportValue, group: ReportGroup, series: Mapping[str, Series]
) -> sr.Measurement:
    images = None
    if value.modality is not None:
        images = [_source_image(series[value.modality], group.center)]
    return sr.Measurement(
        name=value.concept.concept(),
        value=value.value,
        unit=value.unit.concept(),
        derivation=None if value.derivation is None else value.derivation.concept(),
        referenced_images=images,
    )


def _source_image(series: Series, center: tuple[float, ...] | None) -> sr.SourceImageForMeasurement:
    """The slice whose plane is nearest to a point stands for the series."""
    instance = series.instances[len(series.instances) // 2]
    if center is not None and instance.orientation:
        normal = np.cross(instance.orientation[:3], instance.orientation[3:])

        def away(candidate: Instance) -> float:
            return abs(float(np.subtract(center, candidate.position or center) @ normal))

        instance = min(series.instances, key=away)
    frames = [instance.frame + 1] if series.sop_class in ENHANCED else None
    return sr.SourceImageForMeasurement(series.sop_class, instance.uid, frames)


def _read_back(path: Path, groups: Sequence[ReportGroup], shown: _Shown) -> None:
    """Compare every value, unit, concept, tracking UID and reference with what was to be said."""
    try:
        dataset = pydicom.dcmread(path)
        found = list(_groups_in(dataset))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise OutputError("E_READBACK", "the report lacks what it must have") from error
    if len(found) != len(groups):
        raise OutputError("E_READBACK", f"{len(found)} of {len(groups)} groups were found")
    for number, (items, group) in enumerate(zip(found, groups, strict=True)):
        _compare(number, items, group, shown)


def _groups_in(dataset: Dataset) -> Iterator[list[Dataset]]:
    for item in dataset.ContentSequence:
        for group in item.get("ContentSequence") or []:
            if _code(group.ConceptNameCodeSequence) == _GROUP:
                yield list(group.ContentSequence)


def _compare(number: int, items: list[Dataset], group: ReportGroup, shown: _Shown) -> None:
    named: dict[str, Dataset] = {_code(item.ConceptNameCodeSequence): item for item in items}
    texts = (str(named[_IDENTIFIER].TextValue), str(named[_TRACKING_UID].UID))
    if texts != (group.name, shown.tracking(number)):
        raise OutputError("E_READBACK", f"group {number} is tracked by another name or UID")
    if group.point is None:
        target = named[_SEGMENT].ReferencedSOPSequence[0]
        place = (str(target.ReferencedSOPInstanceUID), int(target.ReferencedSegmentNumber))
        right = place == (shown.uid, 1)
    else:
        right = bool(np.allclose(named[_POINT].GraphicData, group.point, rtol=1e-6, atol=1e-3))
    if not right:
        raise OutputError("E_READBACK", f"group {number} refers to another place")
    numbers = [item for item in items if item.ValueType == "NUM"]
    if len(numbers) != len(group.values):
        raise OutputError("E_READBACK", f"group {number} has {len(numbers)} measurements")
    for item, value in zip(numbers, group.values, strict=True):
        if not _says(item, value):
            raise OutputError("E_READBACK", f"{value.concept.meaning} of group {number} differs")


def _says(item: Dataset, value: ReportValue) -> bool:
    measured = item.MeasuredValueSequence[0]
    derivations = [
        _code(part.ConceptCodeSequence)
        for part in item.get("ContentSequence") or []
        if _code(part.ConceptNameCodeSequence) == _DERIVATION
    ]
    return (
        _code(item.ConceptNameCodeSequence) == value.concept.value
        and _code(measured.MeasurementUnitsCodeSequence) == value.unit.value
        and derivations == ([value.derivation.value] if value.derivation else [])
        and bool(np.isclose(float(measured.NumericValue), value.value, rtol=_READBACK, atol=1e-12))
    )


def _code(sequence: Any) -> str:
    return str(sequence[0].CodeValue)
