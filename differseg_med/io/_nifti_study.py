"""A study as NIfTI files: which file is which modality, told by a manifest or by file names."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from differseg_med.errors import StudyError, UsageError
from differseg_med.io._source import short_name

__all__ = ["find_nifti"]

MANIFEST = "manifest.json"
"""File in a study's folder that names the NIfTI file of each modality."""

_BIDS = {
    "ct": "ct",
    "pet": "pet",
    "mr_t1": "T1w",
    "mr_t1c": "T1w",
    "mr_t2": "T2w",
    "mr_flair": "FLAIR",
    "mr_dwi": "dwi",
    "mr_adc": "adc",
}
"""BIDS suffix of each modality; T1 after contrast is told by the entity ``ce-``."""

_BIDS_NAME = re.compile(r"^sub-[A-Za-z0-9]+(_[A-Za-z]+-[A-Za-z0-9]+)*_(?P<suffix>[A-Za-z0-9]+)$")
_CHANNEL_NAME = re.compile(r"^.+_(?P<channel>\d{4})$")


def find_nifti(
    folder: str | Path, modalities: Iterable[str], *, given: Collection[str] = ()
) -> dict[str, Path]:
    """Find the NIfTI file of each modality in a study's folder; no NIfTI file is opened.

    Files are named in a ``manifest.json`` (``{"pet": "any/name.nii.gz"}``), or after the modality
    (``pet.nii.gz``), by BIDS (``sub-01_T1w.nii.gz``, also in ``anat``, ``dwi`` and such), or by
    nnU-Net (``case_0000.nii.gz``, channels in the order of `modalities`).

    Args:
        folder: folder of one study.
        modalities: names to look for, in the order of the channels.
        given: names whose file is known already; they are not looked for.

    Returns:
        A path for each modality that is there.

    Raises:
        StudyError: ``E_AMBIGUOUS`` when several files fit one modality, or ``.nii`` and ``.nii.gz``
            lie side by side.
        UsageError: ``E_OPTION`` for a manifest that cannot be used, ``E_PATH`` when it names a file
            that is not there.
    """
    folder, names = Path(folder), list(modalities)
    wanted = [name for name in names if name not in given]
    if (folder / MANIFEST).is_file():
        found = _from_manifest(folder, wanted)
    else:
        files = sorted(path for path in folder.rglob("*.nii*") if _is_nifti(path))
        found = {}
        for name in wanted:
            fitting = [path for path in files if _fits(path, folder, name, names)]
            _check_one(name, fitting)
            if fitting:
                found[name] = fitting[0]
    return found


def _is_nifti(path: Path) -> bool:
    return path.is_file() and path.name.endswith((".nii", ".nii.gz"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _fits(path: Path, folder: Path, name: str, names: Sequence[str]) -> bool:
    stem = _stem(path)
    bids = _BIDS_NAME.match(stem)
    if bids:
        after_contrast = "_ce-" in stem
        return bids["suffix"] == _BIDS.get(name) and after_contrast == (name == "mr_t1c")
    if path.parent != folder:
        return False
    channel = _CHANNEL_NAME.match(stem)
    if channel and int(channel["channel"]) < len(names):
        return names[int(channel["channel"])] == name
    return stem == name


def _check_one(name: str, fitting: Sequence[Path]) -> None:
    if len(fitting) < 2:
        return
    listed = ", ".join(short_name(path.name) for path in fitting[:4])
    if len({_stem(path) for path in fitting}) == 1:
        detail = f"{name}: the same name stands as .nii and .nii.gz: {listed}"
        raise StudyError("E_AMBIGUOUS", detail, "Remove one of the two files.")
    raise StudyError(
        "E_AMBIGUOUS",
        f"{len(fitting)} files fit {name}: {listed}",
        f"Give one case per folder, name the file with --modality {name}=FILE, or write a "
        f"{MANIFEST}.",
    )


def _from_manifest(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("E_OPTION", f"{MANIFEST} cannot be read as JSON") from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise UsageError("E_OPTION", f"{MANIFEST} must map modality names to file names")
    found = {}
    for name in names:
        if name not in content:
            continue
        path = folder / content[name]
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError("E_OPTION", f"{MANIFEST}: the file of {name} lies outside the folder")
        if not path.is_file():
            raise UsageError("E_PATH", f"{MANIFEST}: the file of {name} is not there")
        found[name] = path
    return found
