"""Rules files: conditions on headers that say which series serves which modality.

A rules file is YAML. Unknown keys are refused, so a typing error is never ignored::

    modalities:
      mr_t1:
        all:
          - {tag: SeriesDescription, regex: "(?i)t1"}
          - {tag: slices, range: [20, 400]}
        none:
          - {tag: ContrastBolusAgent, present: true}
        tie_break: [{by: slices, take: most}]

Tags are DICOM keywords (of the first slice), or `slices`, `spacing` (between slices),
`description`, `part.KEY`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from differseg_med.errors import UsageError
from differseg_med.io._study import Series
from differseg_med.io._tags import KEYWORDS

__all__ = ["Rules", "read_rules"]

_TESTS = ("equals", "contains", "regex", "range", "present")
_DERIVED = frozenset(("slices", "spacing", "description"))
_TAKE = {"most": -1.0, "least": 1.0}


@dataclass(frozen=True)
class Condition:
    """One test on one value of a series.

    Attributes:
        tag: DICOM keyword or derived name.
        test: one of equals, contains, regex, range, present.
        value: what is compared with.
    """

    tag: str
    test: str
    value: Any

    def holds(self, series: Series) -> bool:
        """Whether the series passes; an absent value passes no test but ``present: false``."""
        value = series_value(series, self.tag)
        if self.test == "present":
            return (value is not None) == bool(self.value)
        if value is None:
            return False
        if self.test == "range":
            return _in_range(value, self.value)
        items = value if isinstance(value, tuple) else (value,)
        if self.test == "equals":
            return any(_same(item, self.value) for item in items)
        if self.test == "contains":
            return any(str(self.value).lower() in str(item).lower() for item in items)
        return any(re.search(self.value, str(item)) for item in items)


@dataclass(frozen=True)
class ModalityRule:
    """Conditions for one modality.

    Attributes:
        all: every one must hold.
        none: none may hold.
        tie_break: (tag, ``most`` or ``least``) in order, for several that fit.
    """

    all: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()
    tie_break: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Rules:
    """A rules file.

    Attributes:
        modalities: rule by modality name.
    """

    modalities: Mapping[str, ModalityRule] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        """Whether there is a rule for a modality."""
        return name in self.modalities

    def matches(self, name: str, series: Series) -> bool:
        """Whether a series passes a modality's conditions."""
        rule = self.modalities[name]
        return all(c.holds(series) for c in rule.all) and not any(
            c.holds(series) for c in rule.none
        )

    def break_tie(self, name: str, candidates: Sequence[Series]) -> list[Series]:
        """What is left after the declared tie-break; several where it does not decide."""
        left = list(candidates)
        for tag, take in self.modalities[name].tie_break if self.knows(name) else ():
            scores = [_score(series, tag) for series in left]
            best = min(score * _TAKE[take] for score in scores)
            left = [s for s, score in zip(left, scores, strict=True) if score * _TAKE[take] == best]
        return left


def series_value(series: Series, tag: str) -> Any:
    """A header value of the first slice, or a derived one; None where it is absent."""
    if tag == "slices":
        return float(len(series.instances))
    if tag == "spacing":
        return None if series.grid is None else series.grid.spacing[2]
    if tag == "description":
        return series.description or None
    if tag.startswith("part."):
        return series.part.get(tag[5:])
    return series.instances[0].tags.get(tag)


def _score(series: Series, tag: str) -> float:
    value = series_value(series, tag)
    return float(value) if isinstance(value, (int, float)) else float("inf")


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and isinstance(wanted, (int, float)):
        return value == float(wanted)
    return str(value).strip().lower() == str(wanted).strip().lower()


def _in_range(value: Any, bounds: Sequence[float | None]) -> bool:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    low, high = bounds
    return (low is None or number >= low) and (high is None or number <= high)


def read_rules(path: str | Path) -> Rules:
    """Read and check a rules file.

    Raises:
        UsageError: ``E_PATH`` or ``E_OPTION`` naming the place that is wrong.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError("E_PATH", f"the rules file cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError("E_OPTION", "the rules file is not YAML") from error
    body = _mapping(content, "the rules file", {"modalities"})
    modalities = _mapping(body.get("modalities"), "modalities", None)
    return Rules({str(name): _rule(rule, str(name)) for name, rule in modalities.items()})


def _mapping(value: Any, where: str, allowed: set[str] | None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError("E_OPTION", f"{where} must be a mapping")
    unknown = set(value) - allowed if allowed is not None else set()
    if unknown:
        raise UsageError("E_OPTION", f"{where} has an unknown key {sorted(unknown)[0]!r}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError("E_OPTION", f"{where} must be a list")
    return value


def _rule(value: Any, name: str) -> ModalityRule:
    body = _mapping(value, name, {"all", "none", "tie_break"})
    ties = []
    for item in _list(body.get("tie_break", []), f"{name}.tie_break"):
        entry = _mapping(item, f"{name}.tie_break", {"by", "take"})
        if entry.get("take") not in _TAKE or "by" not in entry:
            raise UsageError("E_OPTION", f"{name}.tie_break needs by, and take: most or least")
        ties.append((_tag(entry["by"], f"{name}.tie_break"), str(entry["take"])))
    groups = {
        key: tuple(
            _condition(c, f"{name}.{key}") for c in _list(body.get(key, []), f"{name}.{key}")
        )
        for key in ("all", "none")
    }
    return ModalityRule(groups["all"], groups["none"], tuple(ties))


def _condition(value: Any, where: str) -> Condition:
    body = _mapping(value, where, {"tag", *_TESTS})
    tests = [key for key in body if key != "tag"]
    if "tag" not in body or len(tests) != 1:
        raise UsageError("E_OPTION", f"{where} needs tag and one of {', '.join(_TESTS)}")
    test, wanted = tests[0], body[tests[0]]
    if test == "range" and not _is_range(wanted):
        raise UsageError("E_OPTION", f"{where}: range is [low, high], either may be null")
    if test == "regex":
        try:
            re.compile(str(wanted))
        except re.error as error:
            raise UsageError("E_OPTION", f"{where}: {wanted!r} is no regular expression") from error
        wanted = str(wanted)
    return Condition(_tag(body["tag"], where), test, wanted)


def _tag(value: Any, where: str) -> str:
    tag = str(value)
    if tag in KEYWORDS or tag in _DERIVED or tag.startswith("part."):
        return tag
    raise UsageError("E_OPTION", f"{where}: {tag!r} is not among the header values that are read")


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(bound is None or isinstance(bound, (int, float)) for bound in value)
    )
