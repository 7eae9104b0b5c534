"""A folder of studies told from a study whose series lie in folders, by a look at few headers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from differseg_med.errors import StudyError, UsageError
from differseg_med.io._header import quiet, read_header
from differseg_med.io._nifti_study import find_nifti
from differseg_med.io._source import Source, SourceReader, list_sources

__all__ = ["list_studies"]

_LOOKED_AT = 64
"""So many files of a folder are looked at for one that names a patient."""

Identity = Sequence[str]


def list_studies(path: str | Path, modalities: Sequence[str]) -> list[Path]:
    """The studies under a path: itself, or every folder and archive directly below a collection.

    A folder is a collection when it holds no image of its own and what lies directly below belongs
    to different patients, or is NIfTI. Only one header of each is read; whether a study holds one
    patient alone is left to `read_study`.

    Args:
        path: a folder, an archive or a file.
        modalities: names that NIfTI files may have.

    Raises:
        UsageError: ``E_PATH`` when there is nothing at the path.
    """
    root = Path(path)
    if not root.exists():
        raise UsageError("E_PATH", f"there is nothing at {path}")
    parts = _parts(root)
    if len(parts) < 2 or _is_nifti_study(root, modalities):
        return [root]
    loose = [file for file in sorted(root.iterdir()) if file.is_file() and file not in parts]
    with SourceReader() as reader, quiet():
        if any(_patient(reader, file) for file in loose[:_LOOKED_AT]):
            return [root]
        patients = [found for found in (_patient(reader, part) for part in parts) if found]
    nifti = sum(_holds_nifti(part) for part in parts)
    if nifti > 1 or (nifti and patients) or _differ(patients):
        return parts
    return [root]


def _parts(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    inner = (p for p in root.iterdir() if not p.name.startswith("."))
    return sorted(p for p in inner if p.is_dir() or p.suffix.lower() == ".zip")


def _is_nifti_study(root: Path, modalities: Sequence[str]) -> bool:
    try:
        return bool(find_nifti(root, modalities))
    except StudyError:  # several files fit one modality: they are of several studies
        return False
    except UsageError:  # there is a manifest, whatever is wrong with it
        return True


def _holds_nifti(part: Path) -> bool:
    return any(file.name.endswith((".nii", ".nii.gz")) for file in part.rglob("*.nii*"))


def _patient(reader: SourceReader, part: Path) -> Identity:
    """Identity in the first header that has one; empty where none is found soon."""
    for source in _first_sources(part):
        try:
            _, patient = read_header(reader, source)
        except StudyError:  # a damaged file is refused when its study is read
            continue
        if any(patient):
            return patient
    return ()


def _first_sources(part: Path) -> list[Source]:
    try:
        return list(islice(list_sources(part), _LOOKED_AT))
    except StudyError:  # so is an archive that is
        return []


def _differ(patients: Sequence[Identity]) -> bool:
    """Whether two known values of one kind are different."""
    return any(len({value for value in kind if value}) > 1 for kind in zip(*patients, strict=True))
