"""Which series of a study are worth fetching, decided on what a search says about them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differseg_med import io
from differseg_med.bundle import find_bundle
from differseg_med.errors import StudyError
from differseg_med.integrations.archive._archive import SeriesEntry, value_of
from differseg_med.modality import get_modalities

__all__ = ["Needs", "needs_of"]

_NAMED = {"description": "SeriesDescription"}


@dataclass(frozen=True)
class Needs:
    """What is wanted of every study.

    Attributes:
        modalities: names of modalities; None for every series.
        required: those without which a study is not worth fetching.
        rules: conditions on headers, where there are any.
    """

    modalities: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    rules: io.Rules | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Tags that a search must return beside the usual ones."""
        tags = (io.keyword_tag(_NAMED.get(c.tag, c.tag)) for c in _conditions(self))
        return tuple(dict.fromkeys(tag for tag in tags if tag is not None))

    def choose(self, series: Iterable[SeriesEntry]) -> list[SeriesEntry]:
        """The series that may serve a modality; one that cannot be judged yet is kept.

        Args:
            series: all series of a study.

        Raises:
            StudyError: ``E_MISSING_MODALITY`` when none may serve a required modality, or none
                any.
        """
        listed = list(series)
        if self.modalities is None:
            chosen = listed
        else:
            fitting = {name: self._fitting(name, listed) for name in self.modalities}
            lacking = [name for name in self.required if not fitting[name]]
            if lacking:
                codes = sorted({entry.modality for entry in listed})
                raise StudyError(
                    "E_MISSING_MODALITY", f"no series fits {lacking[0]}; the study has {codes}"
                )
            kept = {entry.uid for entries in fitting.values() for entry in entries}
            chosen = [entry for entry in listed if entry.uid in kept]
        if not chosen:
            raise StudyError("E_MISSING_MODALITY", "the study has no series that is wanted")
        return chosen

    def _fitting(self, name: str, listed: Sequence[SeriesEntry]) -> list[SeriesEntry]:
        (modality,) = get_modalities([name])
        fitting = [entry for entry in listed if entry.modality == modality.dicom]
        if self.rules is None or not self.rules.knows(name):
            return fitting
        return [entry for entry in fitting if _may_match(self.rules, name, entry)]


def needs_of(bundle: str | Path | None, rules: io.Rules | None) -> Needs:
    """What a bundle, or rules alone, want of a study; every series where there is neither.

    Args:
        bundle: name or folder of the bundle.
        rules: conditions on headers.

    Raises:
        UsageError: the bundle, or a modality that the rules name, does not exist.
        BundleError: ``E_METADATA``.
    """
    if bundle is not None:
        info = find_bundle(bundle)
        return Needs(info.modalities, info.required, rules)
    if rules is not None:
        return Needs(tuple(m.name for m in get_modalities(rules.modalities)), (), rules)
    return Needs()


def _conditions(needs: Needs) -> Iterable[Any]:
    if needs.rules is None:
        return []
    return [c for rule in needs.rules.modalities.values() for c in (*rule.all, *rule.none)]


def _may_match(rules: io.Rules, name: str, entry: SeriesEntry) -> bool:
    """Whether no condition that can be judged speaks against a series.

    Values that a search did not return, and the number of slices, which one instance alone can
    hold, are judged when the files are there.
    """
    rule, series = rules.modalities[name], _as_series(entry, {c.tag for c in _rule_of(rules, name)})
    known = series.instances[0].tags.keys() | ({"description"} if series.description else set())
    return all(c.holds(series) for c in rule.all if c.tag in known) and not any(
        c.holds(series) for c in rule.none if c.tag in known
    )


def _rule_of(rules: io.Rules, name: str) -> tuple[Any, ...]:
    return (*rules.modalities[name].all, *rules.modalities[name].none)


def _as_series(entry: SeriesEntry, tags: Collection[str]) -> io.Series:
    """A series with the header values that a search returned, and nothing else."""
    found = {tag: _plain(value_of(entry.item, io.keyword_tag(tag) or "")) for tag in tags}
    values = {tag: value for tag, value in found.items() if value is not None}
    header = io.Instance("", "", 0, None, None, None, 0, 0, values)
    description = str(value_of(entry.item, "0008103E") or "")
    return io.Series(
        entry.uid, None, description, entry.modality, "", None, "", (header,), grid=None
    )


def _plain(value: Any) -> Any:
    """A value of DICOM JSON as `io` keeps it: numbers are floats."""
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, (int, float)):
        return float(value)
    return value.strip() or None if isinstance(value, str) else None
