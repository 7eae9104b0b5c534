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
        yield inspect_study(study, wanted, options)


def _wanted_by(info: BundleInfo) -> Wanted:
    return Wanted(info.modalities, info.required, info.reference, info.min_overlap)
