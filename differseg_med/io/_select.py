"""Which series serves which modality: by DICOM code, by the user's choice, or by a rules file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from differseg_med.errors import StudyError, UsageError
from differseg_med.io._rules import Rules
from differseg_med.io._study import Series, Study
from differseg_med.modality import Modality

__all__ = ["describe_series", "parse_choice", "select_series"]

_CHOICE = re.compile(r"^(?P<name>[A-Za-z0-9_]+)(?P<rest>[=@].+)$")


def select_series(
    study: Study,
    modalities: Sequence[Modality],
    *,
    required: Collection[str],
    choices: Mapping[str, str] | None = None,
    rules: Rules | None = None,
    spatial_dims: int = 3,
) -> dict[str, Series | None]:
    """Choose one series per modality, or None for an optional modality that is absent.

    A choice wins over a rule, a rule over the DICOM modality code alone. Stacks of a single slice
    are no candidates for a volume while others are there. Series that a choice, a rule or their
    code gives to no other modality stay candidates, so nothing is taken because it came first.

    Args:
        study: what `read_study` found.
        modalities: what the bundle takes, in order.
        required: names of the modalities that must be there.
        choices: modality name to ``SERIES_NUMBER``, ``UID`` or ``DIR``, each with an optional
            ``@key=value,...`` for a part; or the part alone. Made with `parse_choice`.
        rules: conditions per modality.
        spatial_dims: 2 accepts stacks of a single slice.

    Raises:
        StudyError: ``E_AMBIGUOUS``, ``E_MISSING_MODALITY`` or ``E_SERIES_MISSING``.
        UsageError: ``E_MODALITY`` for a choice that names no modality of the bundle.
    """
    choices = dict(choices or {})
    unknown = set(choices) - {modality.name for modality in modalities}
    if unknown:
        names = ", ".join(modality.name for modality in modalities)
        raise UsageError("E_MODALITY", f"{sorted(unknown)[0]!r} is not one of {names}")
    found: dict[str, Series | None] = {}
    for modality in modalities:
        candidates = _candidates(study, modality, choices.get(modality.name), rules)
        candidates = _volumes(candidates, spatial_dims)
        if modality.name not in choices:
            candidates = _unclaimed(candidates, modality, modalities, rules)
        if rules is not None and len(candidates) > 1:
            candidates = rules.break_tie(modality.name, candidates)
        found[modality.name] = _only(candidates, modality, modality.name in required, study)
    _check_distinct(found)
    return found


def parse_choice(text: str) -> tuple[str, str]:
    """Split ``NAME=SERIES`` or ``NAME@key=value`` as given on the command line.

    >>> parse_choice("ct=4"), parse_choice("mr_dwi@b=1000"), parse_choice("mr_dwi=6@b=1000")
    (('ct', '4'), ('mr_dwi', '@b=1000'), ('mr_dwi', '6@b=1000'))

    Raises:
        UsageError: ``E_OPTION`` when it is neither.
    """
    match = _CHOICE.match(text.strip())
    if not match:
        raise UsageError("E_OPTION", f"NAME=SERIES or NAME@key=value was expected, got {text!r}")
    rest = match["rest"]
    return match["name"], rest[1:] if rest.startswith("=") else rest


def describe_series(series: Series) -> str:
    """One line for a list of candidates: number, part, spacing and slices; no free text."""
    part = ",".join(f"{key}={value}" for key, value in series.part.items())
    number = "?" if series.number is None else str(series.number)
    spacing = "no grid"
    if series.grid is not None:
        spacing = " x ".join(f"{step:.2f}" for step in series.grid.spacing) + " mm"
    label = f"{number}@{part}" if part else number
    return f"{label} ({series.dicom}, {spacing}, {len(series.instances)} slices)"


def _candidates(
    study: Study, modality: Modality, choice: str | None, rules: Rules | None
) -> list[Series]:
    fitting = [series for series in study.series if series.dicom == modality.dicom]
    if choice is not None:
        return _chosen(study, fitting, modality, choice)
    if rules is not None and rules.knows(modality.name):
        return [series for series in fitting if rules.matches(modality.name, series)]
    return fitting


def _chosen(
    study: Study, fitting: Sequence[Series], modality: Modality, choice: str
) -> list[Series]:
    selector, _, part = choice.partition("@")
    pool = fitting
    if selector:
        pool = [series for series in study.series if _is_named(series, selector, study.source)]
        if pool and not any(series in fitting for series in pool):
            raise StudyError(
                "E_SERIES_MISSING",
                f"{selector!r} is {pool[0].dicom}, {modality.name} takes {modality.dicom}",
            )
    wanted = dict(item.partition("=")[::2] for item in part.split(",") if item)
    pool = [s for s in pool if s in fitting and wanted.items() <= dict(s.part).items()]
    if not pool:
        raise StudyError("E_SERIES_MISSING", f"nothing fits {modality.name}={choice!r}")
    return pool


def _is_named(series: Series, selector: str, root: str) -> bool:
    """Whether a series number, UID or folder names the series."""
    if series.uid == selector or (series.number is not None and str(series.number) == selector):
        return True
    wanted, base = _parts(selector), _parts(root)
    whole = _parts(str(Path(root).resolve()))
    if Path(selector).is_absolute():
        wanted = _parts(str(Path(selector).resolve()))
    for instance in series.instances:
        inside = _parts(instance.source)[len(base) : -1]
        starts = (inside[: len(wanted)], (base + inside)[: len(wanted)])
        if not wanted or wanted not in (*starts, (whole + inside)[: len(wanted)]):
            return False
    return True


def _parts(path: str) -> list[str]:
    text = path.replace("!", "/")
    return [part for part in Path(text).parts if part not in (".", "/")]


def _volumes(candidates: Sequence[Series], spatial_dims: int) -> list[Series]:
    """Leave single slices out where a volume is wanted and another candidate is there."""
    several = [s for s in candidates if len(s.instances) > 1]
    return several if several and spatial_dims == 3 else list(candidates)


def _unclaimed(
    candidates: list[Series],
    modality: Modality,
    modalities: Sequence[Modality],
    rules: Rules | None,
) -> list[Series]:
    """A code alone cannot tell two modalities that share it apart."""
    if rules is not None and rules.knows(modality.name):
        return candidates
    sharing = [other.name for other in modalities if other.dicom == modality.dicom]
    if candidates and len(sharing) > 1:
        raise StudyError(
            "E_AMBIGUOUS",
            f"{modality.dicom} alone does not tell {', '.join(sharing)} apart; there are "
            + "; ".join(map(describe_series, candidates)),
        )
    return candidates


def _only(
    candidates: Sequence[Series], modality: Modality, required: bool, study: Study
) -> Series | None:
    if len(candidates) == 1:
        return candidates[0]
    if len(candidates) > 1:
        raise StudyError(
            "E_AMBIGUOUS",
            f"{len(candidates)} series fit {modality.name}: "
            + "; ".join(map(describe_series, candidates)),
        )
    if required:
        codes = sorted({series.dicom for series in study.series})
        raise StudyError(
            "E_MISSING_MODALITY", f"no series fits {modality.name}; the study has {codes}"
        )
    return None


def _check_distinct(found: Mapping[str, Series | None]) -> None:
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}
    for name, series in found.items():
        if series is None:
            continue
        key = (series.uid, tuple(series.part.items()))
        if key in seen:
            raise StudyError("E_AMBIGUOUS", f"one series serves both {seen[key]} and {name}")
        seen[key] = name
