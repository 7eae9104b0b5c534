"""A study as NIfTI files: one folder, one file per modality, named after it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from differseg_med.errors import StudyError

__all__ = ["find_nifti"]


def find_nifti(folder: str | Path, modalities: Iterable[str]) -> dict[str, Path]:
    """Find ``<modality>.nii.gz`` or ``<modality>.nii`` in a folder; no file is opened.

    Args:
        folder: folder of one study.
        modalities: names to look for.

    Returns:
        A path for each modality that is there.

    Raises:
        StudyError: ``E_AMBIGUOUS`` when ``.nii`` and ``.nii.gz`` lie side by side.
    """
    found = {}
    for name in modalities:
        names = (f"{name}.nii.gz", f"{name}.nii")
        paths = [path for path in (Path(folder) / file for file in names) if path.is_file()]
        if len(paths) > 1:
            raise StudyError(
                "E_AMBIGUOUS",
                f"{name}.nii and {name}.nii.gz lie side by side",
                "Remove one of the two files.",
            )
        if paths:
            found[name] = paths[0]
    return found
