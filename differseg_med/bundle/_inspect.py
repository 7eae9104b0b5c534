"""Whether studies would do for a bundle; never imports torch or MONAI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from differseg_med.bundle._locate import BundleInfo, find_bundle
from differseg_med.engine import Inspection, ReadOptions, Wanted, inspect_study

__all__ = ["inspect_studies"]


def inspect_studies(
    studies: Iterable[str | Path],
    bundle: str | Path | None = None,
    options: ReadOptions | None = None,
) -> Iterator[Inspection]:
    """Inspect studies one by one, on headers alone.

    A folder that mixes patients and holds several folders or archives is taken for a collection:
    each of these is inspected as a study of its own.

    Args:
        studies: folders or archives of DICOM files, or folders of NIfTI files.
        bundle: name or folder of the bundle that decides what is refused; without, a study is
            refused where any of its series has a problem.
        options: how studies are read.

    Yields:
        What each study holds.

    Raises:
        UsageError: a path, a choice or the bundle's name is wrong.
        BundleError: ``E_METADATA``.
    """
    wanted = None if bundle is None else _wanted_by(find_bundle(bundle))
    for study in studies:
        found = inspect_study(study, wanted, options)
        parts = _parts(Path(study)) if _mixes_patients(found) else []
        if len(parts) > 1:
            yield from (inspect_study(part, wanted, options) for part in parts)
        else:
            yield found


def _mixes_patients(found: Inspection) -> bool:
    return any(problem.code == "E_PATIENT_MIX" for problem in found.problems)


def _parts(study: Path) -> list[Path]:
    """Folders and archives directly below a folder."""
    if not study.is_dir():
        return []
    return sorted(p for p in study.iterdir() if p.is_dir() or p.suffix.lower() == ".zip")


def _wanted_by(info: BundleInfo) -> Wanted:
    return Wanted(info.modalities, info.required, info.reference, info.min_overlap)
