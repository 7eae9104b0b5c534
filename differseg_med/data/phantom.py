"""A multimodal body phantom: known anatomy, lesions that no single modality shows.

A lesion takes up tracer AND is dark on MR T1 AND is soft tissue on CT. Each kind of distractor
copies it in all but one modality, so that every modality is needed:

========  ==========  ======  ===========  =======================================
kind      PET         MR T1   CT           told from a lesion by
========  ==========  ======  ===========  =======================================
lesion    hot         dark    soft tissue
uptake    hot         normal  normal       MR T1 (uptake of a healthy organ)
nodule    background  dark    soft tissue  PET (a benign lump)
fluid     hot         dark    water        CT (tracer on its way out)
========  ==========  ======  ===========  =======================================

Every modality has its own grid (spacing, extent, tilt), noise and a misregistration of at most
2 mm against the PET; shapes are evaluated on each grid, nothing is resampled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from differseg_med.data._phantom_body import Blob, draw_body
from differseg_med.data._phantom_scan import (
    PHANTOM_MODALITIES,
    draw_grid,
    draw_shift,
    inside,
    scan,
)
from differseg_med.errors import UsageError
from differseg_med.geometry import Volume

__all__ = [
    "PHANTOM_MODALITIES",
    "Phantom",
    "make_phantom",
    "write_phantom_dicom",
    "write_phantom_nifti",
]


@dataclass(frozen=True)
class Phantom:
    """One case.

    Attributes:
        volumes: one volume per modality; CT in HU, PET in SUVbw, MR in arbitrary units.
        mask: the lesions on the PET grid, uint8.
        blobs: lesions and distractors with kind, centre, radii and uptake.
        shifts: misregistration of each modality against the PET, RAS mm.
    """

    volumes: Mapping[str, Volume]
    mask: Volume
    blobs: tuple[Blob, ...]
    shifts: Mapping[str, tuple[float, float, float]]


def make_phantom(
    seed: int,
    *,
    modalities: Iterable[str] = PHANTOM_MODALITIES,
    lesions: bool = True,
) -> Phantom:
    """Make one case of about 190 x 190 x 150 mm; the same seed gives the same case.

    Leaving out a modality, or the lesions, changes nothing in the rest of the anatomy.

    Args:
        seed: what the case is drawn from, 0 or more.
        modalities: which to make, of `PHANTOM_MODALITIES`.
        lesions: False for a healthy case with all distractors: its mask is empty.

    Raises:
        UsageError: ``E_MODALITY`` for a modality that the phantom does not know.

    Example:
        >>> case = make_phantom(0, modalities=["pet"])
        >>> case.volumes["pet"].grid.shape
        (48, 48, 45)
    """
    names = tuple(modalities)
    _check_names(names)
    body = draw_body(np.random.default_rng([seed, 0]), lesions=lesions)
    frame = _frame(seed)
    volumes: dict[str, Volume] = {}
    shifts: dict[str, tuple[float, float, float]] = {}
    grids = {name: draw_grid(name, _stream(seed, name, 0), frame) for name in ("pet", *names)}
    for name in names:
        shift = draw_shift(name, _stream(seed, name, 1))
        array = scan(name, body, grids[name], shift, _stream(seed, name, 2))
        volumes[name] = Volume(array, grids[name], name)
        shifts[name] = (float(shift[0]), float(shift[1]), float(shift[2]))
    mask = inside(body, "lesion", grids["pet"]).astype(np.uint8)
    return Phantom(volumes, Volume(mask, grids["pet"]), body.blobs, shifts)


def write_phantom_nifti(
    root: Path,
    n: int,
    seed: int = 0,
    *,
    leave_out: Mapping[str, Collection[int]] | None = None,
) -> tuple[Path, ...]:
    """Write cases as ``case_000/{pet,ct,mr_t1,pet_gtv}.nii.gz``.

    Args:
        root: folder that is made where it does not exist.
        n: number of cases.
        seed: case ``i`` is ``make_phantom(seed + i)``.
        leave_out: modality to the case numbers that lack it, such as ``{"ct": {1, 4}}``.

    Returns:
        The case folders, in order.
    """
    from differseg_med.io import write_nifti

    absent = leave_out or {}
    _check_names(absent)
    folders = []
    for i in range(n):
        names = [m for m in PHANTOM_MODALITIES if i not in absent.get(m, ())]
        case = make_phantom(seed + i, modalities=names)
        folder = root / f"case_{i:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, volume in case.volumes.items():
            write_nifti(volume, folder / f"{name}.nii.gz")
        write_nifti(case.mask, folder / "pet_gtv.nii.gz")
        folders.append(folder)
    return tuple(folders)


def write_phantom_dicom(
    root: Path,
    seed: int = 0,
    *,
    modalities: Iterable[str] = PHANTOM_MODALITIES,
    lesions: bool = True,
) -> Phantom:
    """Write one case as a DICOM study: one series per modality, all in one frame of reference.

    Args:
        root: folder that is made where it does not exist; each series gets a folder in it.
        seed: what the case and its UIDs are drawn from.
        modalities: which series to write.
        lesions: False for a healthy case.

    Returns:
        The case, with the truth that the study does not hold.
    """
    from differseg_med.io import StudyInfo, write_series

    case = make_phantom(seed, modalities=modalities, lesions=lesions)
    study = StudyInfo.from_seed(seed)
    for number, (name, volume) in enumerate(case.volumes.items(), start=1):
        write_series(volume, root / name, study=study, number=number)
    return case


def _check_names(names: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(PHANTOM_MODALITIES))
    if unknown:
        raise UsageError(
            "E_MODALITY", f"the phantom has {', '.join(PHANTOM_MODALITIES)}, not {unknown[0]!r}"
        )


def _frame(seed: int) -> str:
    """A frame of reference UID that only this seed has."""
    digest = hashlib.sha256(f"differseg-med phantom {seed}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _stream(seed: int, modality: str, use: int) -> np.random.Generator:
    """Random numbers of their own for each modality and use."""
    return np.random.default_rng([seed, 1 + PHANTOM_MODALITIES.index(modality), use])
