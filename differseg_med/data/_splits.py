"""Splits by patient: drawn from a hash of the patient and a seed, so that order never matters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from differseg_med.errors import BundleError

__all__ = ["draw_patients", "make_folds", "split_patients"]


def draw_patients(patients: Iterable[str], seed: int | str) -> list[str]:
    """Patients, each once, in an order that depends on the seed and their keys alone.

    Args:
        patients: keys; hashed ones do as well.
        seed: number or text that makes another order.
    """
    return sorted(set(patients), key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())


def split_patients(
    patients: Iterable[str], shares: Mapping[str, float], seed: int | str
) -> dict[str, str]:
    """Divide patients; a part with a share above 0 gets at least one as long as there are enough.

    Args:
        patients: keys.
        shares: part of the patients by section; the first section takes what is left over.
        seed: number or text that makes another draw.

    Returns:
        Section by patient.
    """
    drawn = draw_patients(patients, seed)
    first, *others = shares
    wanted = [name for name in others if shares[name] > 0]
    section, start = {}, 0
    for name in wanted:
        least = int(len(drawn) > len(wanted))
        count = max(least, round(len(drawn) * shares[name]))
        section.update(dict.fromkeys(drawn[start : start + count], name))
        start += count
    section.update(dict.fromkeys(drawn[start:], first))
    return section


def make_folds(patients: Iterable[str], count: int, seed: int | str) -> list[list[str]]:
    """Divide patients into folds whose sizes differ by one at most.

    Args:
        patients: keys.
        count: number of folds.
        seed: number or text that makes another draw.

    Returns:
        Patients by fold.

    Raises:
        BundleError: ``E_DATALIST`` when there are fewer patients than folds.
    """
    drawn = draw_patients(patients, f"folds/{seed}")
    if len(drawn) < count:
        raise BundleError("E_DATALIST", f"{len(drawn)} patients do not make {count} folds")
    return [drawn[index::count] for index in range(count)]


def check_disjoint(sections: Mapping[str, Sequence[str]]) -> None:
    """Refuse a patient in two sections.

    Args:
        sections: patients by section.

    Raises:
        BundleError: ``E_DATALIST`` naming the two sections, not the patient.
    """
    seen: dict[str, str] = {}
    for section, patients in sections.items():
        for patient in patients:
            other = seen.setdefault(patient, section)
            if other != section:
                raise BundleError("E_DATALIST", f"a patient stands in {other} and in {section}")
