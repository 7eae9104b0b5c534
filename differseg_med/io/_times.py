"""DICOM dates and times as Python values."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from differseg_med.io._study import Instance, Series

__all__ = ["acquired", "parse_datetime", "series_time"]

_DATETIME = re.compile(r"^(\d{4})(\d{2})(\d{2})(\d{2})?(\d{2})?(\d{2})?(\.\d{1,6})?([+-]\d{4})?$")
_TIME = re.compile(r"^(\d{2}):?(\d{2})?:?(\d{2})?(\.\d{1,6})?$")


def parse_datetime(date: object, time: object = None) -> datetime | None:
    """A DICOM date and time, or one DT value; None where it cannot be read.

    A zone offset is dropped: all values of a study are taken as local time of the scanner.

    Args:
        date: DA (``20240131``, or ``2024.01.31`` of old files) or DT value.
        time: TM value, None for a DT.
    """
    text = str(date or "").strip().replace(".", "", 2) if time is not None else str(date or "")
    clock = timedelta()
    if time is not None:
        found = parse_clock(time)
        if found is None or len(text) != 8:
            return None
        clock = found
    match = _DATETIME.match(text.strip())
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, _ = match.groups()
    try:
        base = datetime(int(year), int(month), int(day))
    except ValueError:
        return None
    clock += timedelta(
        hours=int(hour or 0),
        minutes=int(minute or 0),
        seconds=int(second or 0) + float(fraction or 0),
    )
    return base + clock


def parse_clock(time: object) -> timedelta | None:
    """A DICOM time of day; None where it cannot be read."""
    match = _TIME.match(str(time or "").strip())
    if not match:
        return None
    hour, minute, second, fraction = match.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    seconds = int(second or 0) + float(fraction or 0)
    return timedelta(hours=int(hour), minutes=int(minute or 0), seconds=seconds)


def acquired(instance: Instance) -> datetime | None:
    """When a slice was acquired; without any acquisition time, when its content was made."""
    tags = instance.tags
    for keyword in ("FrameAcquisitionDateTime", "AcquisitionDateTime"):
        moment = parse_datetime(tags.get(keyword))
        if moment:
            return moment
    date = tags.get("AcquisitionDate") or tags.get("SeriesDate") or tags.get("StudyDate")
    for keyword in ("AcquisitionTime", "ContentTime"):
        moment = parse_datetime(date, tags.get(keyword) or "")
        if moment:
            return moment
    return None


def series_time(series: Series) -> datetime | None:
    """When the first slice of a series was acquired, else when the series began."""
    moments = [moment for moment in map(acquired, series.instances) if moment]
    if moments:
        return min(moments)
    tags = series.instances[0].tags
    date = tags.get("SeriesDate") or tags.get("StudyDate")
    return parse_datetime(date, tags.get("SeriesTime") or tags.get("StudyTime") or "000000")
