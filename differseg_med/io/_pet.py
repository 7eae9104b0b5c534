"""PET stored values to SUVbw, slice by slice, or a coded refusal; nothing is assumed.

SUVbw = A[Bq/ml] * weight[g] / (dose[Bq] * 2 ** (-(t_ref - t_inj) / half-life)). The rules for the
reference time follow the vendor-neutral pseudo-code of the Quantitative Imaging Biomarkers
Alliance. What was used is recorded as durations and factors, never as dates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta

from differseg_med.errors import Finding, StudyError, UsageError
from differseg_med.io._body_mass import SUV_BODY_WEIGHT, lean_mass_kg
from differseg_med.io._study import Series
from differseg_med.io._times import acquired, parse_clock, parse_datetime

__all__ = ["PetOverrides", "SuvScale", "suv_scale"]

_DAY = timedelta(days=1)

_LEAST_DOSE_BQ = 1e4
"""An injected activity below this is no scan; F-18 doses in MBq look like 200 to 500."""

_MOST_HALF_LIVES = 8
"""Uptake beyond this many half-lives leaves nothing to image: the times are wrong."""

_LEAST_UPTAKE = timedelta(minutes=30)

_HALF_LIFE_TOLERANCE = 0.01

_HALF_LIVES = {
    # SNOMED code of the radionuclide: half-life in seconds (LNE-LNHB / NNDC evaluations)
    "C-105A1": 1221.8,  # C-11
    "C-107A1": 597.9,  # N-13
    "C-B1038": 122.24,  # O-15
    "C-111A1": 6586.2,  # F-18
    "C-127A2": 45721.0,  # Cu-64
    "C-131A3": 4069.8,  # Ga-68
    "C-159A2": 75.45,  # Rb-82
    "C-168A4": 282240.0,  # Zr-89
    "C-114A5": 360806.0,  # I-124
}


@dataclass(frozen=True)
class PetOverrides:
    """Values from the command line that stand in for what the header lacks; all are recorded.

    Attributes:
        weight_kg: body weight.
        height_m: body height (for SUVlbm and SUVibw).
        sex: ``M`` or ``F`` (for SUVlbm and SUVibw).
        dose_bq: injected activity.
        half_life_s: of the radionuclide.
        injection: time of day of the injection, ``HHMMSS``, or date and time.
        reference: date and time that the image is decay-corrected to, ``YYYYMMDDHHMMSS``.
        units: what the pixels are, ``BQML`` or ``GML``.
        decay: ``START``, ``ADMIN`` or ``NONE``.
        corrected: ``yes`` asserts that the image is corrected for attenuation and decay.
        frame_decay: ``yes`` accepts DecayCorrection NONE and corrects frame by frame (research).
    """

    weight_kg: float | None = None
    height_m: float | None = None
    sex: str | None = None
    dose_bq: float | None = None
    half_life_s: float | None = None
    injection: str | None = None
    reference: str | None = None
    units: str | None = None
    decay: str | None = None
    corrected: str | None = None
    frame_decay: str | None = None

    @classmethod
    def parse(cls, items: Iterable[str]) -> PetOverrides:
        """Read ``KEY=VALUE`` items as given on the command line.

        Raises:
            UsageError: ``E_OPTION`` for an unknown key or a value that is no number.
        """
        numbers = {"weight_kg", "height_m", "dose_bq", "half_life_s"}
        known = [f.name for f in fields(cls)]
        found: dict[str, float | str] = {}
        for item in items:
            key, _, value = item.partition("=")
            if key not in known or not value:
                raise UsageError("E_OPTION", f"--pet takes KEY=VALUE with {', '.join(known)}")
            try:
                found[key] = float(value) if key in numbers else value
            except ValueError as error:
                raise UsageError("E_OPTION", f"--pet {key} is a number") from error
        return cls(**found)  # type: ignore[arg-type]

    def given(self) -> dict[str, object]:
        """The values that were given."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}


@dataclass(frozen=True)
class SuvScale:
    """How rescaled values become SUVbw.

    Attributes:
        factors: one per slice, in the series' order.
        findings: what is worth knowing.
        provenance: units, weights, durations and where they came from.
    """

    factors: tuple[float, ...]
    findings: tuple[Finding, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)


@dataclass
class _Notes:
    """Findings and provenance as they come up."""

    findings: list[Finding] = field(default_factory=list)
    provenance: dict[str, object] = field(default_factory=dict)

    def warn(self, code: str, detail: str) -> None:
        self.findings.append(Finding(code, detail))


def suv_scale(series: Series, overrides: PetOverrides | None = None) -> SuvScale:
    """Factors from rescaled PET values to SUVbw.

    Args:
        series: a PET stack.
        overrides: values from the command line.

    Raises:
        StudyError: ``E_PET_UNITS``, ``E_PET_CORRECTION``, ``E_PET_META`` or ``E_PET_TIME``.
    """
    given = overrides or PetOverrides()
    tags = series.instances[0].tags
    notes = _Notes()
    if given.given():
        names = ", ".join(sorted(given.given()))
        notes.warn("W_PET_OVERRIDE", f"given on the command line: {names}")
        notes.provenance["overrides"] = given.given()
    decay = _decay_correction(series, given)
    _check_corrections(tags, given, decay)
    units, per_slice = _units(series, given)
    notes.provenance["units"] = units
    if units == "SUV":
        factors = per_slice
    elif units == "GML":
        factor = _to_body_weight(tags, given, notes)
        factors = [factor * value for value in per_slice]
    else:
        scale = _activity_scale(series, given, decay, notes)
        factors = [value * one for value, one in zip(per_slice, scale, strict=True)]
    notes.provenance["factor_min"], notes.provenance["factor_max"] = min(factors), max(factors)
    return SuvScale(tuple(factors), tuple(notes.findings), notes.provenance)


def _number(tags: Mapping[str, object], keyword: str) -> float | None:
    value = tags.get(keyword)
    try:
        number = float(str(value)) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _decay_correction(series: Series, given: PetOverrides) -> str:
    tags = series.instances[0].tags
    value = given.decay or tags.get("DecayCorrection")
    if value is None and tags.get("DecayCorrected") == "YES":
        return "DATETIME"
    if value is None and tags.get("DecayCorrected") == "NO":
        return "NONE"
    return str(value or "").upper()


def _check_corrections(tags: Mapping[str, object], given: PetOverrides, decay: str) -> None:
    if given.corrected == "yes":
        return
    done = tags.get("CorrectedImage") or ()
    applied = {str(item) for item in done} if isinstance(done, tuple) else {str(done)}
    if tags.get("AttenuationCorrected") == "YES":
        applied.add("ATTN")
    if tags.get("DecayCorrected") == "YES":
        applied.add("DECY")
    missing = {"ATTN", "DECY"} - applied
    if given.frame_decay == "yes" and decay == "NONE":
        missing.discard("DECY")
    if missing:
        raise StudyError(
            "E_PET_CORRECTION", f"CorrectedImage lacks {' and '.join(sorted(missing))}"
        )


def _units(series: Series, given: PetOverrides) -> tuple[str, list[float]]:
    """What the rescaled values are (BQML, GML or SUV), with a factor per slice to get there."""
    tags = series.instances[0].tags
    units = str(given.units or tags.get("Units") or _real_world(tags) or "").upper()
    ones = [1.0] * len(series.instances)
    if units in ("BQML", "GML"):
        return units, ones
    if units == "CNTS":
        for private, meaning in (("PhilipsSUVFactor", "SUV"), ("PhilipsActivityFactor", "BQML")):
            scale = [_number(instance.tags, private) or 0.0 for instance in series.instances]
            if all(value > 0 for value in scale):
                return meaning, scale
    raise StudyError("E_PET_UNITS", f"the unit is {units or 'absent'}, expected BQML or GML")


def _real_world(tags: Mapping[str, object]) -> str | None:
    """Unit of an enhanced PET, from its real world value mapping."""
    known = {"bq/ml": "BQML", "g/ml": "GML", "g/ml{suvbw}": "GML"}
    return known.get(str(tags.get("RealWorldUnits") or "").lower())


def _to_body_weight(tags: Mapping[str, object], given: PetOverrides, notes: _Notes) -> float:
    """Factor from the stored kind of SUV to SUVbw."""
    kind = str(tags.get("SUVType") or "BW").upper()
    notes.provenance["suv_type"] = kind
    if kind == SUV_BODY_WEIGHT:
        return 1.0
    weight = _weight(tags, given, notes)
    height = given.height_m or _number(tags, "PatientSize") or 0.0
    sex = str(given.sex or tags.get("PatientSex") or "")
    mass = lean_mass_kg(kind, weight, height, sex)
    if mass is None:
        raise StudyError("E_PET_UNITS", f"SUVType {kind} cannot be turned into SUVbw")
    return weight / mass


def _weight(tags: Mapping[str, object], given: PetOverrides, notes: _Notes) -> float:
    weight = given.weight_kg or _number(tags, "PatientWeight")
    if not weight or weight <= 0:
        raise StudyError("E_PET_META", "PatientWeight is absent or 0", _give("weight_kg"))
    if not 1 <= weight <= 300:
        notes.warn("W_PET_WEIGHT", f"the weight is {weight:g} kg")
    notes.provenance["weight_kg"] = weight
    return weight


def _give(key: str) -> str:
    return f"Give it with --pet {key}=VALUE; it is recorded."


def _activity_scale(series: Series, given: PetOverrides, decay: str, notes: _Notes) -> list[float]:
    """Factor per slice from Bq/ml to SUVbw."""
    tags = series.instances[0].tags
    weight_g = 1000 * _weight(tags, given, notes)
    half_life = _half_life(tags, given, notes)
    dose = _dose(tags, given, notes)
    notes.provenance["decay_correction"] = decay
    if decay == "ADMIN":
        return [weight_g / dose] * len(series.instances)
    if decay == "NONE" and given.frame_decay == "yes":
        injection = _injection(series, given, _series_start(series), half_life, notes)
        return [
            weight_g / (dose * remaining)
            for remaining in _frame_decay(series, injection, half_life)
        ]
    if decay not in ("START", "DATETIME"):
        raise StudyError(
            "E_PET_CORRECTION", f"DecayCorrection is {decay or 'absent'}, expected START or ADMIN"
        )
    reference, source = _reference_time(series, given, decay)
    injection = _injection(series, given, reference, half_life, notes)
    uptake = (reference - injection).total_seconds()
    notes.provenance |= {"uptake_s": uptake, "reference_time": source}
    return [weight_g / (dose * 2 ** (-uptake / half_life))] * len(series.instances)


def _half_life(tags: Mapping[str, object], given: PetOverrides, notes: _Notes) -> float:
    value = given.half_life_s or _number(tags, "RadionuclideHalfLife")
    if not value or value <= 0:
        raise StudyError("E_PET_META", "RadionuclideHalfLife is absent or 0", _give("half_life_s"))
    known = _HALF_LIVES.get(str(tags.get("RadionuclideCode") or ""))
    if known and abs(value / known - 1) > _HALF_LIFE_TOLERANCE:
        notes.warn("W_PET_HALF_LIFE", f"{value:g} s, the nuclide has {known:g} s")
    notes.provenance["half_life_s"] = value
    return value


def _dose(tags: Mapping[str, object], given: PetOverrides, notes: _Notes) -> float:
    several = tags.get("RadiopharmaceuticalCount")
    if given.dose_bq is None and isinstance(several, int) and several > 1:
        raise StudyError("E_PET_META", f"{several} radiopharmaceuticals", _give("dose_bq"))
    value = given.dose_bq or _number(tags, "RadionuclideTotalDose")
    if not value or value <= 0:
        raise StudyError("E_PET_META", "RadionuclideTotalDose is absent or 0", _give("dose_bq"))
    if value < _LEAST_DOSE_BQ:
        raise StudyError(
            "E_PET_META",
            f"RadionuclideTotalDose is {value:g} Bq, probably MBq",
            _give("dose_bq"),
        )
    notes.provenance["dose_bq"] = value
    return value


def _series_start(series: Series) -> datetime:
    """SeriesDate and SeriesTime, else the earliest acquisition."""
    tags = series.instances[0].tags
    start = parse_datetime(tags.get("SeriesDate"), tags.get("SeriesTime") or "")
    start = start or min(filter(None, map(acquired, series.instances)), default=None)
    if start is None:
        raise StudyError("E_PET_TIME", "the series has no date and time", _give("reference"))
    return start


def _earliest(series: Series, near: datetime) -> datetime:
    """Earliest acquisition of all slices; past midnight without a date of its own, a day later."""
    moments = []
    for instance in series.instances:
        moment = acquired(instance)
        if moment is None:
            raise StudyError("E_PET_TIME", "a slice has no AcquisitionTime", _give("reference"))
        dated = "AcquisitionDate" in instance.tags or "AcquisitionDateTime" in instance.tags
        if not dated and moment < near - _DAY / 2:
            moment += _DAY
        moments.append(moment)
    return min(moments)


def _reference_time(series: Series, given: PetOverrides, decay: str) -> tuple[datetime, str]:
    """The moment that the image is decay-corrected to, and where it was found."""
    tags = series.instances[0].tags
    if given.reference:
        moment = parse_datetime(given.reference)
        if moment is None:
            raise UsageError("E_OPTION", "--pet reference is written YYYYMMDDHHMMSS")
        return moment, "given"
    if decay == "DATETIME":
        moment = parse_datetime(tags.get("DecayCorrectionDateTime"))
        if moment is None:
            raise StudyError("E_PET_TIME", "no DecayCorrectionDateTime", _give("reference"))
        return moment, "DecayCorrectionDateTime"
    start = _series_start(series)
    earliest = _earliest(series, start)
    if start <= earliest:
        return start, "SeriesTime"
    scan = parse_datetime(tags.get("GEScanDateTime"))
    if scan:
        return scan, "GE scan time"
    return earliest, "earliest AcquisitionTime"


def _injection(
    series: Series, given: PetOverrides, reference: datetime, half_life: float, notes: _Notes
) -> datetime:
    """When the activity was injected; the day before where the clock says after the scan."""
    injection = _stated_injection(series.instances[0].tags, given, reference)
    if injection > reference:
        injection -= _DAY
        if injection > reference:
            raise StudyError("E_PET_TIME", "the injection is more than a day after the scan")
        notes.warn("W_PET_TIME", "the injection time is after the scan; the day before was taken")
    uptake = (reference - injection).total_seconds()
    if uptake > _MOST_HALF_LIVES * half_life:
        raise StudyError("E_PET_TIME", f"{uptake / 3600:.1f} h from injection to scan are too many")
    if uptake < _LEAST_UPTAKE.total_seconds():
        notes.warn("W_PET_UPTAKE", f"the uptake time is {uptake / 60:.0f} minutes")
    return injection


def _stated_injection(
    tags: Mapping[str, object], given: PetOverrides, reference: datetime
) -> datetime:
    """Date and time of the injection; a time alone is put on the reference's day."""
    names = ("RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime")
    stated = [given.injection] if given.injection else [tags.get(name) for name in names]
    for value in filter(None, stated):
        moment = parse_datetime(value)
        if moment and len(str(value).split(".")[0]) > 8:
            return moment
        clock = parse_clock(value)
        if clock is not None:
            return datetime(reference.year, reference.month, reference.day) + clock
    raise StudyError("E_PET_META", "the injection time is absent", _give("injection"))


def _frame_decay(series: Series, injection: datetime, half_life: float) -> list[float]:
    """Mean activity left during each slice's frame, as a share of the injected one."""
    shares = []
    decay = math.log(2) / half_life
    for instance in series.instances:
        moment, length = acquired(instance), _number(instance.tags, "ActualFrameDuration")
        if moment is None or not length:
            raise StudyError("E_PET_TIME", "a slice has no AcquisitionTime or frame duration")
        before = 2 ** (-(moment - injection).total_seconds() / half_life)
        during = decay * length / 1000
        shares.append(before * -math.expm1(-during) / during)
    return shares
