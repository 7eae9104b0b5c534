"""Which cases there are, and which of them train, validate and test."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from differseg_med.errors import BundleError, StudyError, UsageError
from differseg_med.io import IMAGE_SUFFIXES
from differseg_med.modality import MODALITIES

__all__ = ["find_cases", "load_datalist"]

_CASE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_ENDINGS = (".nii.gz", ".nii", *IMAGE_SUFFIXES)


def load_datalist(
    path: str | Path,
    section: str,
    dataset_dir: str | Path,
    modalities: Sequence[str],
    required: Sequence[str],
    label_key: str | None = "label",
    target: str | None = None,
) -> list[dict[str, str]]:
    """Read one section of a datalist and check every file it names.

    A datalist is JSON: ``{"training": [{"case": ..., "<modality>": path, "label": path}], ...}``
    with paths relative to the dataset's folder; a modality that is absent is left out or null, one
    that is not asked for is passed over.
    Where it has ``"target": NAME``, its labels were prepared for that target (1, 0 and 2 for voxels
    that do not count) and each case carries that name.

    Args:
        path: the JSON file.
        section: such as ``training``, ``validation`` or ``test``.
        dataset_dir: folder that the paths are relative to.
        modalities: names that may stand in an entry.
        required: names that must stand in every entry.
        label_key: key that must stand in every entry, None where labels are not needed.
        target: name of the target that labels must have been prepared for, if they were.

    Returns:
        One dictionary per case; absent modalities are left out.

    Raises:
        BundleError: ``E_DATALIST`` naming the case and the key.
    """
    entries, prepared = _read_section(Path(path), section)
    if target is not None and prepared not in (None, target):
        raise BundleError(
            "E_DATALIST",
            f"{Path(path).name} was prepared for {prepared!r}, the bundle's target is {target!r}",
            f"Prepare the data for it, or give --target {prepared}.",
        )
    wanted = [*required, *([label_key] if label_key else [])]
    known = {"case", *modalities, *([label_key] if label_key else ["label"])}
    cases: list[dict[str, str]] = []
    for entry in entries:
        case = str(entry.get("case", ""))
        if not _CASE.fullmatch(case) or any(case == c["case"] for c in cases):
            raise BundleError(
                "E_DATALIST", f"{Path(path).name}: case name {case!r} is malformed or stands twice"
            )
        unknown = set(entry) - known - set(MODALITIES)
        missing = [k for k in wanted if not entry.get(k)]
        if unknown or missing:
            found = f"unknown {sorted(unknown)}, missing {missing}; known are {sorted(known)}"
            raise BundleError("E_DATALIST", f"{Path(path).name}, case {case}: {found}")
        resolved = _resolve(entry, case, Path(dataset_dir), Path(path).name)
        cases.append(resolved | ({"target": prepared} if prepared else {}))
    if not cases:
        raise BundleError("E_DATALIST", f"section {section!r} of {Path(path).name} is empty")
    return cases


def _read_section(path: Path, section: str) -> tuple[list[dict[str, Any]], str | None]:
    """Entries of a section, and the target that all labels were prepared for."""
    if not path.is_file():
        raise BundleError(
            "E_DATALIST",
            f"there is no datalist at {path}",
            "Make one with differseg-med prepare, or give --datalist FILE.",
        )
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BundleError("E_DATALIST", f"{path.name} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get(section), list):
        raise BundleError("E_DATALIST", f"{path.name} has no list {section!r}")
    prepared = content.get("target")
    return list(content[section]), None if prepared is None else str(prepared)


def _resolve(entry: dict[str, Any], case: str, root: Path, name: str) -> dict[str, str]:
    resolved = {"case": case}
    for key, value in entry.items():
        if key == "case" or value is None:
            continue
        path = root / str(value)
        if not path.is_file():
            raise BundleError(
                "E_DATALIST",
                f"{name}, case {case}: the file of {key!r} is not at {value!r} in the dataset",
            )
        resolved[key] = str(path)
    return resolved


def find_cases(
    folder: str | Path, modalities: Sequence[str], required: Sequence[str]
) -> list[dict[str, str]]:
    """Find cases by layout: one folder per case, one file such as ``<modality>.nii.gz`` each.

    Where there is one modality only, the folder may also hold the files themselves, such as
    pictures; then every file is a case.

    Args:
        folder: folder of case folders, or of files.
        modalities: names to look for.
        required: names without which a folder is refused.

    Returns:
        One dictionary per case in order of name; absent modalities are left out.

    Raises:
        UsageError: ``E_PATH`` when the folder is not there.
        StudyError: ``E_EMPTY`` when no case is found, ``E_MISSING_MODALITY`` when a case lacks a
            required modality, ``E_AMBIGUOUS`` when two files serve one modality, or two files one
            case.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError("E_PATH", f"there is no folder {folder!s}")
    cases = []
    for sub in sorted(p for p in root.iterdir() if p.is_dir()):
        case = {"case": sub.name, **_modality_files(sub, modalities)}
        if len(case) == 1:
            continue
        lacking = [name for name in required if name not in case]
        if lacking:
            raise StudyError("E_MISSING_MODALITY", f"case {sub.name} lacks {', '.join(lacking)}")
        cases.append(case)
    if len(modalities) == 1 and not cases:
        cases = _single_files(root, modalities[0])
    if not cases:
        names = ", ".join(f"{name}.nii.gz (or .png ...)" for name in modalities)
        raise StudyError("E_EMPTY", f"no folder below {folder!s} holds any of {names}")
    return cases


def _single_files(root: Path, modality: str) -> list[dict[str, str]]:
    files = sorted(p for p in root.iterdir() if p.is_file() and p.name.lower().endswith(_ENDINGS))
    found: dict[str, dict[str, str]] = {}
    for path in files:
        case = _UNSAFE.sub("-", path.name.split(".")[0])[:64].strip("-") or "case"
        if case in found:
            raise StudyError("E_AMBIGUOUS", f"two files would both be the case {case}")
        found[case] = {"case": case, modality: str(path)}
    return list(found.values())


def _modality_files(folder: Path, modalities: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in modalities:
        paths = [p for ending in _ENDINGS if (p := folder / f"{name}{ending}").is_file()]
        if len(paths) > 1:
            raise StudyError("E_AMBIGUOUS", f"{paths[0].name} and {paths[1].name} lie side by side")
        if paths:
            found[name] = str(paths[0])
    return found
