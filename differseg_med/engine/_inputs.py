"""One volume per modality from a study, whether it is DICOM or NIfTI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from differseg_med import io
from differseg_med.engine._deid import deidentified
from differseg_med.errors import Finding, StudyError, UsageError
from differseg_med.geometry import Volume
from differseg_med.modality import get_modalities, get_modality

__all__ = [
    "Inputs",
    "ReadOptions",
    "Wanted",
    "check_between",
    "nifti_files",
    "read_inputs",
    "select",
]


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a study.

    Attributes:
        modalities: names in channel order.
        required: names without which the study is refused.
        reference: the modality whose grid results are given on.
        min_overlap: share of the reference's box that a modality must cover, where it is regional.
    """

    modalities: tuple[str, ...]
    required: tuple[str, ...]
    reference: str
    min_overlap: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadOptions:
    """How a study is read.

    Attributes:
        choices: series number, UID, folder, part or NIfTI file by modality.
        rules: conditions on headers that say which series serves which modality.
        pet: values that stand in for what a PET header lacks; recorded.
        xform: which transform to use where a NIfTI file's two disagree.
        register: how modalities in another frame of reference are brought to the reference's; None
            refuses them.
        lenient: correct what can be corrected, with a warning.
        deid: map of old and new UIDs; the chosen series are de-identified, and only the copy is
            used from there on. None reads the study itself.
    """

    choices: Mapping[str, str] = field(default_factory=dict)
    rules: io.Rules | None = None
    pet: io.PetOverrides | None = None
    xform: Literal["sform", "qform"] | None = None
    register: Literal["rigid"] | None = None
    lenient: bool = False
    deid: Path | None = None


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
    study: str | Path, wanted: Wanted, options: ReadOptions, scratch: Path | None = None
) -> Inputs:
    """Read a study.

    Args:
        study: a folder or archive of DICOM files, or a folder of NIfTI files named by modality.
        wanted: what is looked for.
        options: how the study is read.
        scratch: folder for a de-identified copy, which must stay for as long as the result is used.

    Raises:
        UsageError: ``E_PATH``, ``E_MODALITY`` or ``E_OPTION``.
        StudyError: the study is refused; the code says why.
    """
    files = nifti_files(study, wanted.modalities, options)
    if files:
        return _read_nifti(files, wanted, options)
    return _read_dicom(study, wanted, options, scratch)


def nifti_files(
    study: str | Path, modalities: tuple[str, ...], options: ReadOptions
) -> dict[str, Path]:
    """NIfTI file by modality; empty where the study is DICOM.

    Args:
        study: the study's path.
        modalities: names to look for.
        options: choices that are NIfTI files count; others belong to a DICOM study.

    Raises:
        UsageError: ``E_PATH`` for a path that is not there, ``E_MODALITY`` for a name that the
            bundle does not take, ``E_OPTION`` for NIfTI files and DICOM series in one call or an
            option that the study's kind has no use for.
    """
    folder, choices = Path(study), options.choices
    if not folder.exists():
        raise UsageError("E_PATH", f"there is no study at {study}")
    unknown = sorted(set(choices) - set(modalities))
    if unknown:
        raise UsageError("E_MODALITY", f"{unknown[0]!r} is not one of {', '.join(modalities)}")
    named = {name: Path(text) for name, text in choices.items() if _is_nifti(text)}
    missing = [str(path) for path in named.values() if not path.is_file()]
    if missing:
        raise UsageError("E_PATH", f"there is no file {missing[0]}")
    if _is_nifti(str(study)):
        raise UsageError(
            "E_OPTION",
            "a single NIfTI file does not say which modality it is",
            f"Give its folder and --modality {modalities[0]}=FILE.",
        )
    found = {**io.find_nifti(folder, modalities, given=named), **named}
    _check_kind(options, dicom=not found)
    if found and len(named) < len(choices):
        raise UsageError("E_OPTION", "NIfTI files and DICOM series cannot be mixed in one study")
    return found


def select(study: io.Study, wanted: Wanted, options: ReadOptions) -> dict[str, io.Series | None]:
    """The series that serves each modality, None where an optional one is absent.

    Args:
        study: what was found.
        wanted: what is looked for.
        options: choices and rules.

    Raises:
        StudyError: none or several fit; the code and the list of candidates say more.
    """
    return io.select_series(
        study,
        get_modalities(wanted.modalities),
        required=wanted.required,
        choices=options.choices,
        rules=options.rules,
    )


def check_between(
    chosen: Mapping[str, io.Series | None], wanted: Wanted, options: ReadOptions
) -> tuple[Finding, ...]:
    """Whether the chosen series belong together.

    Args:
        chosen: what `select` chose.
        wanted: says which is the reference and which modalities are regional.
        options: whether frames of reference may differ.

    Raises:
        StudyError: ``E_FRAME`` or ``E_OVERLAP``.
    """
    return io.check_between(
        chosen,
        wanted.reference,
        register=options.register is not None,
        min_overlap=wanted.min_overlap,
    )


def _check_kind(options: ReadOptions, *, dicom: bool) -> None:
    """An option that would do nothing is refused rather than ignored."""
    idle = {
        "--nifti-xform": dicom and options.xform,
        "--rules": not dicom and options.rules,
        "--pet": not dicom and options.pet,
        "--register": not dicom and options.register,
        "--deid": not dicom and options.deid,
    }
    useless = [name for name, given in idle.items() if given]
    if useless:
        kind = "DICOM" if dicom else "NIfTI"
        raise UsageError("E_OPTION", f"{useless[0]} has no use in a {kind} study")


def _is_nifti(text: str) -> bool:
    return text.endswith((".nii", ".nii.gz"))


def _read_nifti(files: Mapping[str, Path], wanted: Wanted, options: ReadOptions) -> Inputs:
    lacking = [name for name in wanted.required if name not in files]
    if lacking:
        raise StudyError(
            "E_MISSING_MODALITY",
            f"the study lacks {', '.join(lacking)}; it has NIfTI files of {', '.join(files)}",
        )
    volumes = {
        name: io.read_nifti(files[name], get_modality(name), xform=options.xform)
        if name in files
        else None
        for name in wanted.modalities
    }
    return Inputs("nifti", volumes, {name: (path,) for name, path in files.items()})


def _read_dicom(
    path: str | Path, wanted: Wanted, options: ReadOptions, scratch: Path | None
) -> Inputs:
    study = io.read_study(path)
    chosen = select(study, wanted, options)
    between = check_between(chosen, wanted, options)
    series = {name: found for name, found in chosen.items() if found is not None}
    if options.deid is not None:
        if scratch is None:
            raise ValueError("a de-identified copy needs a scratch folder")
        series = deidentified(path, series, scratch / "deid", options.deid)
        between += (Finding("W_DEID", f"{len(series)} series were de-identified before use"),)
    volumes = {
        name: _decode(series[name], name, options) if name in series else None
        for name in wanted.modalities
    }
    if options.register:
        volumes = _registered(volumes, wanted.reference)
    files = {name: _containers(found) for name, found in series.items()}
    return Inputs("dicom", volumes, files, series, (*study.findings, *between))


def _decode(series: io.Series, name: str, options: ReadOptions) -> Volume:
    return io.to_volume(series, get_modality(name), lenient=options.lenient, pet=options.pet)


def _registered(volumes: Mapping[str, Volume | None], reference: str) -> dict[str, Volume | None]:
    """Volumes of other frames moved into the reference's; a frame not known counts as other."""
    fixed = volumes[reference]
    moved = dict(volumes)
    for name, volume in volumes.items():
        if fixed is None or volume is None or volume is fixed:
            continue
        if fixed.grid.frame is None or volume.grid.frame != fixed.grid.frame:
            moved[name] = io.register_rigid(volume, fixed).apply(volume)
    return moved


def _containers(series: io.Series) -> tuple[Path, ...]:
    """The files of a series, in the order of its slices; an archive counts as one file."""
    paths = [io.source_file(instance.source) for instance in series.instances]
    return tuple(dict.fromkeys(paths))
