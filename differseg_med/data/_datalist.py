"""Which cases there are, and which of them train, validate and test."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from differseg_med.errors import BundleError, StudyError, UsageError

__all__ = ["find_cases", "load_datalist"]

_CASE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def load_datalist(
    path: str | Path,
    section: str,
    dataset_dir: str | Path,
    modalities: Sequence[str],
    required: Sequence[str],
    label_key: str | None = "label",
) -> list[dict[str, str]]:
    """Read one section of a datalist and check every file it names.

    A datalist is JSON: ``{"training": [{"case": ..., "<modality>": path, "label": path}], ...}``
    with paths relative to the dataset's folder; a modality that is absent is left out or null.

    Args:
        path: the JSON file.
        section: such as ``training``, ``validation`` or ``test``.
        dataset_dir: folder that the paths are relative to.
        modalities: names that may stand in an entry.
        required: names that must stand in every entry.
        label_key: key that must stand in every entry, None where labels are not needed.

    Returns:
        One dictionary per case; absent modalities are left out.

    Raises:
        BundleError: ``E_DATALIST`` naming the case and the key.
    """
    entries = _read_section(Path(path), section)
    wanted = [*required, *([label_key] if label_key else [])]
    known = {"case", *modalities, *([label_key] if label_key else ["label"])}
    cases: list[dict[str, str]] = []
    for entry in entries:
        case = str(entry.get("case", ""))
        if not _CASE.fullmatch(case) or any(case == c["case"] for c in cases):
            raise BundleError("E_DATALIST", f"case name {case!r} is malformed or stands twice")
        unknown, missing = set(entry) - known, [k for k in wanted if not entry.get(k)]
        if unknown or missing:
            found = f"unknown {sorted(unknown)}, missing {missing}"
            raise BundleError("E_DATALIST", f"case {case}: {found}; known are {sorted(known)}")
        cases.append(_resolve(entry, case, Path(dataset_dir)))
    if not cases:
        raise BundleError("E_DATALIST", f"section {section!r} of {Path(path).name} is empty")
    return cases


def _read_section(path: Path, section: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BundleError("E_DATALIST", f"{path.name} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get(section), list):
        raise BundleError("E_DATALIST", f"{path.name} has no list {section!r}")
    return list(content[section])


def _resolve(entry: dict[str, Any], case: str, root: Path) -> dict[str, str]:
    resolved = {"case": case}
    for key, value in entry.items():
        if key == "case" or value is None:
            continue
        path = root / str(value)
        if not path.is_file():
            raise BundleError(
                "E_DATALIST", f"case {case}: the file of {key!r} is not at {value!r} in the dataset"
            )
        resolved[key] = str(path)
    return resolved


def find_cases(
    folder: str | Path, modalities: Sequence[str], required: Sequence[str]
) -> list[dict[str, str]]:
    """Find cases by layout: one folder per case, one ``<modality>.nii.gz`` or ``.nii`` each.

    Args:
        folder: folder of case folders.
        modalities: names to look for.
        required: names without which a folder is refused.

    Returns:
        One dictionary per case in order of name; absent modalities are left out.

    Raises:
        UsageError: ``E_PATH`` when the folder is not there.
        StudyError: ``E_EMPTY`` when no case is found, ``E_MISSING_MODALITY`` when a case lacks a
            required modality, ``E_AMBIGUOUS`` when ``.nii`` and ``.nii.gz`` lie side by side.
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
    if not cases:
        names = ", ".join(f"{name}.nii.gz" for name in modalities)
        raise StudyError("E_EMPTY", f"no folder below {folder!s} holds any of {names}")
    return cases


def _modality_files(folder: Path, modalities: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in modalities:
        paths = [p for p in (folder / f"{name}.nii.gz", folder / f"{name}.nii") if p.is_file()]
        if len(paths) > 1:
            raise StudyError("E_AMBIGUOUS", f"{name}.nii and {name}.nii.gz lie side by side")
        if paths:
            found[name] = str(paths[0])
    return found
