"""One volume per modality from a study, whether it is DICOM or NIfTI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from differseg_med import io
from differseg_med.errors import Finding, StudyError, UsageError
from differseg_med.geometry import Volume
from differseg_med.modality import get_modality

__all__ = ["Inputs", "nifti_files", "read_inputs"]


@dataclass(frozen=True)
class Inputs:
    """What a study holds for a bundle.

    Attributes:
        kind: what the study is made of.
        volumes: a volume per modality, None where an optional one is absent.
        files: the files that each present modality was read from, slice by slice.
        series: the DICOM series of each present modality.
        findings: what concerns the study or its series.
    """

    kind: Literal["dicom", "nifti"]
    volumes: Mapping[str, Volume | None]
    files: Mapping[str, tuple[Path, ...]]
    series: Mapping[str, io.Series] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def read_inputs(
    study: str | Path,
    modalities: Sequence[str],
    required: Sequence[str],
    choices: Mapping[str, str],
    *,
    lenient: bool = False,
) -> Inputs:
    """Read a study.

    Args:
        study: a folder or archive of DICOM files, or a folder of NIfTI files named by modality.
        modalities: names to look for.
        required: names without which the study is refused.
        choices: series number, UID, folder or NIfTI file by modality.
        lenient: correct what can be corrected, with a warning.

    Raises:
        UsageError: ``E_PATH``, ``E_MODALITY`` or ``E_OPTION``.
        StudyError: the study is refused; the code says why.
    """
    files = nifti_files(study, modalities, choices)
    if files:
        return _read_nifti(files, modalities, required)
    return _read_dicom(study, modalities, required, choices, lenient=lenient)


def nifti_files(
    study: str | Path, modalities: Sequence[str], choices: Mapping[str, str]
) -> dict[str, Path]:
    """NIfTI file by modality; empty where the study is DICOM.

    Args:
        study: the study's path.
        modalities: names to look for.
        choices: files that were named, by modality; anything else belongs to a DICOM study.

    Raises:
        UsageError: ``E_PATH`` for a path that is not there, ``E_MODALITY`` for a name that the
            bundle does not take, ``E_OPTION`` for NIfTI files and DICOM series in one call.
    """
    folder = Path(study)
    if not folder.exists():
        raise UsageError("E_PATH", f"there is no study at {study}")
    unknown = sorted(set(choices) - set(modalities))
    if unknown:
        raise UsageError("E_MODALITY", f"{unknown[0]!r} is not one of {', '.join(modalities)}")
    named = {name: Path(text) for name, text in choices.items() if _is_nifti(text)}
    missing = [str(path) for path in named.values() if not path.is_file()]
    if missing:
        raise UsageError("E_PATH", f"there is no file {missing[0]}")
    if _is_nifti(str(study)) and not named:
        raise UsageError(
            "E_OPTION",
            "a single NIfTI file does not say which modality it is",
            f"Give its folder and --modality {modalities[0]}=FILE.",
        )
    found = {**io.find_nifti(folder, modalities), **named} if folder.is_dir() else named
    if found and len(named) < len(choices):
        raise UsageError("E_OPTION", "NIfTI files and DICOM series cannot be mixed in one study")
    return found


def _is_nifti(text: str) -> bool:
    return text.endswith((".nii", ".nii.gz"))


def _read_nifti(
    files: Mapping[str, Path], modalities: Sequence[str], required: Sequence[str]
) -> Inputs:
    lacking = [name for name in required if name not in files]
    if lacking:
        raise StudyError(
            "E_MISSING_MODALITY",
            f"the study lacks {', '.join(lacking)}; it has NIfTI files of {', '.join(files)}",
        )
    volumes = {
        name: io.read_nifti(files[name], get_modality(name)) if name in files else None
        for name in modalities
    }
    return Inputs("nifti", volumes, {name: (path,) for name, path in files.items()})
