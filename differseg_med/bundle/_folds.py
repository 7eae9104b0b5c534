"""Which cases a fold trains on, chooses its weights on, and is judged on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differseg_med.data import make_folds, split_patients
from differseg_med.errors import BundleError

__all__ = ["Fold", "plan_folds", "read_datalist"]

_SECTIONS = ("training", "validation")
_OWN_KEYS = ("fold", "patient")
"""Keys of an entry that say where it belongs; training does not know them."""


@dataclass(frozen=True)
class Fold:
    """One fold.

    Attributes:
        number: from 1.
        datalist: what its run reads: ``training``, ``validation`` (chooses the weights, patients of
            the training part) and ``test`` (the held-out cases, which nothing else sees).
        patients: patient by held-out case.
    """

    number: int
    datalist: Mapping[str, Any]
    patients: Mapping[str, str]


def read_datalist(path: Path) -> dict[str, Any]:
    """Content of a datalist.

    Raises:
        BundleError: ``E_DATALIST``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError("E_DATALIST", f"{path.name} cannot be read as JSON") from error
    if not isinstance(content, dict):
        raise BundleError("E_DATALIST", f"{path.name} holds no sections")
    return content


def plan_folds(
    content: Mapping[str, Any], count: int | None, *, seed: int, validation_share: float
) -> list[Fold]:
    """Divide the cases of ``training`` and ``validation``; ``test`` stays out of everything.

    Folds are the datalist's own where it has a list ``folds`` (as ``differseg-med prepare`` writes
    it) or a number ``fold`` at its entries; otherwise they are drawn by patient and seed.

    Args:
        content: the datalist; ``patients`` or the entries' ``patient`` say who is whose, else every
            case is a patient.
        count: number of folds; the datalist's own, or 5, if None.
        seed: seed of folds and of the choice of validation patients.
        validation_share: part of a fold's training patients that choose its weights.

    Raises:
        BundleError: ``E_DATALIST`` when the folds do not fit the cases or share a patient.
    """
    entries = _entries(content)
    known = content.get("patients") if isinstance(content.get("patients"), Mapping) else {}
    patients = {
        case: str(entry.get("patient") or known.get(case) or case)  # type: ignore[union-attr]
        for case, entry in entries.items()
    }
    held_out = _held_out(content, entries, patients, count, seed)
    return [
        _fold(number, held, content, entries, patients, (seed, validation_share))
        for number, held in enumerate(held_out, 1)
    ]


def _entries(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for section in _SECTIONS:
        for entry in content.get(section) or []:
            case = str(entry.get("case", "")) if isinstance(entry, Mapping) else ""
            if not case or (case in found and found[case] != entry):
                raise BundleError("E_DATALIST", f"case {case!r} has no name or stands twice")
            found[case] = entry
    if not found:
        raise BundleError("E_DATALIST", "the datalist has no cases to train on")
    return found


def _held_out(
    content: Mapping[str, Any],
    entries: Mapping[str, Mapping[str, Any]],
    patients: Mapping[str, str],
    count: int | None,
    seed: int,
) -> list[list[str]]:
    """Held-out cases by fold: every case in exactly one, no patient in two."""
    own = _declared(content, entries)
    if own and count is not None and count != len(own):
        raise BundleError(
            "E_DATALIST",
            f"the datalist has {len(own)} folds, {count} were asked for",
            "Leave out --folds, or remove the folds from the datalist.",
        )
    if not own:
        parts = make_folds(set(patients.values()), count or 5, seed)
        own = [[case for case in entries if patients[case] in set(part)] for part in parts]
    cases = [case for held in own for case in held]
    if sorted(cases) != sorted(entries) or not all(own):
        raise BundleError(
            "E_DATALIST", "the datalist's folds do not hold out every case exactly once"
        )
    seen: dict[str, int] = {}
    for index, held in enumerate(own):
        if any(seen.setdefault(patients[case], index) != index for case in held):
            raise BundleError("E_DATALIST", "a patient stands in two folds")
    return own


def _declared(
    content: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]
) -> list[list[str]]:
    folds = content.get("folds")
    if folds:
        try:
            return [[str(case) for case in fold["validation"]] for fold in folds]
        except (TypeError, KeyError) as error:
            raise BundleError(
                "E_DATALIST", "folds is no list of {training: [...], validation: [...]}"
            ) from error
    numbers = sorted({entry["fold"] for entry in entries.values() if "fold" in entry})
    return [[c for c, entry in entries.items() if entry.get("fold") == n] for n in numbers]


def _fold(
    number: int,
    held: Sequence[str],
    content: Mapping[str, Any],
    entries: Mapping[str, Mapping[str, Any]],
    patients: Mapping[str, str],
    draw: tuple[int, float],
) -> Fold:
    seed, share = draw
    rest = [case for case in entries if case not in set(held)]
    section = split_patients(
        {patients[case] for case in rest},
        {"training": 1 - share, "validation": share},
        f"validation/{seed}/{number}",
    )
    parts = {
        name: [_plain(entries[case]) for case in rest if section[patients[case]] == name]
        for name in _SECTIONS
    }
    if not all(parts.values()):
        raise BundleError("E_DATALIST", f"fold {number} has too few patients to train and validate")
    kept = {"target": content["target"]} if content.get("target") is not None else {}
    datalist = {**kept, **parts, "test": [_plain(entries[case]) for case in held]}
    return Fold(number, datalist, {case: patients[case] for case in held})


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in _OWN_KEYS}
