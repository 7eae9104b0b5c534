"""Measurements in the terms of a structured report; the DICOM objects of a case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from differseg_med import io
from differseg_med.engine._definitions import (
    LESION_COUNT,
    REGION,
    STATISTICS,
    Code,
    Definition,
    quantity,
    unit_code,
)
from differseg_med.engine._measurements import CaseMeasurements, Region
from differseg_med.modality import get_modality

if TYPE_CHECKING:
    from differseg_med.engine._outputs import Results

__all__ = ["report_groups", "write_contours", "write_report"]

_LENGTHS = ("longest_axial_diameter_mm", "perpendicular_diameter_mm")
_MOST_LABEL = 56
"""A name has at most 64 characters, and a lesion's ends with its number."""


def write_report(results: Results, path: Path) -> None:
    """Measurements as DICOM SR that refers to the SEG beside it.

    Args:
        results: what is written.
        path: the file; the SEG stands in the same folder.
    """
    from differseg_med.engine._outputs import FORMATS, segment_info

    segment = segment_info(results.bundle)
    groups = report_groups(results.measurements, segment.label)
    seg = path.with_name(FORMATS["seg"].file)
    io.write_sr(groups, seg, results.inputs.series, results.reference, path, segment)


def write_contours(results: Results, path: Path) -> None:
    """The mask as RT Structure Set on the reference series.

    Args:
        results: what is written.
        path: the file.
    """
    from differseg_med.engine._outputs import segment_info

    series = results.inputs.series[results.reference]
    io.write_rtstruct(results.mask, series, path, segment_info(results.bundle))


def report_groups(measurements: CaseMeasurements, label: str) -> list[io.ReportGroup]:
    """One group for the target, then one per lesion.

    Args:
        measurements: what was measured.
        label: what the mask shows.
    """
    target, count = measurements.target, float(len(measurements.lesions))
    number = io.ReportValue(_code(LESION_COUNT.concept), count, _unit(LESION_COUNT.unit))
    values = (number, *_values(target))
    groups = [io.ReportGroup(label, values, center=target.inner_point_lps_mm)]
    for lesion in measurements.lesions:
        point = lesion.inner_point_lps_mm
        name = f"{label[:_MOST_LABEL]} {lesion.number}"
        groups.append(io.ReportGroup(name, tuple(_values(lesion)), point, point))
    return groups


def _values(region: Region) -> Iterator[io.ReportValue]:
    sizes = {"volume_ml": region.volume_ml}
    if region.diameters is not None:
        lengths = (region.diameters.longest_mm, region.diameters.perpendicular_mm)
        sizes.update(zip(_LENGTHS, lengths, strict=True))
    for row in REGION:
        if row.key in sizes:
            yield io.ReportValue(_code(row.concept), sizes[row.key], _unit(row.unit))
    for name, statistics in region.statistics.items():
        if statistics is not None:
            yield from _statistics(name, vars(statistics))


def _statistics(name: str, values: Mapping[str, float | None]) -> Iterator[io.ReportValue]:
    modality = get_modality(name)
    concept = quantity(modality)
    for row in (row for row in STATISTICS if _is_reported(row)):
        value = values[row.key]
        if value is not None and (row.concept or concept):
            derivation = _code(row.derivation) if row.derivation else None
            unit = _unit(row.unit or modality.unit)
            yield io.ReportValue(_code(row.concept or concept), value, unit, derivation, name)


def _is_reported(row: Definition) -> bool:
    return row.concept is not None or row.derivation is not None


def _code(code: Code | None) -> io.SegmentCode:
    if code is None:
        raise ValueError("a measurement without a code is not for a report")
    value, scheme, meaning = code
    return io.SegmentCode(value, meaning, scheme)


def _unit(unit: str | None) -> io.SegmentCode:
    return _code(unit_code(unit or "1"))
