"""Clinical archives become training data: DICOM studies with contours to NIfTI and a datalist."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from differseg_med import io
from differseg_med.bundle._locate import BundleInfo, find_bundle
from differseg_med.data import split_patients
from differseg_med.engine import ReadOptions, Wanted, case_id, read_inputs, workspace
from differseg_med.errors import DifferSegError, OutputError, StudyError, UsageError

__all__ = ["PreparedCase", "prepare_from_dicom"]

_SECTIONS = ("training", "validation", "test")

SALT = "patients.salt"
"""Secret that patients' keys are made with; whoever has it can test whether an ID is among them."""


@dataclass(frozen=True)
class PreparedCase:
    """What became of one study.

    Attributes:
        case: its name in the datalist.
        modalities: names that are present; empty where the study was refused.
        patient: hash that is the same for all studies of a patient; its case where none is named.
        error: why it was refused, None where it was not.
    """

    case: str
    modalities: tuple[str, ...] = ()
    patient: str = ""
    error: DifferSegError | None = None


def prepare_from_dicom(
    source: str | Path,
    bundle: str | Path,
    out: str | Path,
    options: ReadOptions | None = None,
    *,
    roi: str | None = None,
    shares: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda case: None,
) -> list[PreparedCase]:
    """Turn DICOM studies with contours or segmentations into training cases.

    Every folder and every ``.zip`` directly below `source` is one study; without any, `source`
    itself is. Writes ``OUT/CASE/<modality>.nii.gz`` and ``OUT/CASE/label.nii.gz`` on their own
    grids, and ``OUT/datalist.json`` with a split that is fixed by the seed and the patients: all
    studies of a patient stay together. Patients are told apart by a hash of the PatientID with a
    random salt, which stays in ``OUT/patients.salt``; the ID itself is never written. A study that
    is refused does not stop the others.

    Args:
        source: folder of studies, or one study.
        bundle: name or folder of the bundle that the data is for.
        out: folder for the cases.
        options: how studies are read.
        roi: region or segment that is the truth, where an object holds several.
        shares: parts of the cases that train, validate and test.
        seed: seed of the split.
        overwrite: replace cases that exist.
        report: is told each case's name when it begins.

    Returns:
        One entry per study, in order of name.

    Raises:
        UsageError: ``E_PATH`` when `source` is not there, ``E_OPTION`` for impossible shares.
        OutputError: ``E_WRITE`` when the datalist cannot be written.
    """
    if len(shares) != len(_SECTIONS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise UsageError("E_OPTION", f"shares are {tuple(shares)}, expected three that sum to 1")
    info, results = find_bundle(bundle), []
    salt = _salt(Path(out))
    for study in _studies(Path(source)):
        case = case_id(study)
        report(case)
        try:
            with workspace(Path(out) / case, overwrite=overwrite) as folder:
                names, key = _write_case(study, info, options or ReadOptions(), roi, folder, salt)
            results.append(PreparedCase(case, names, key or f"case {case}"))
        except (StudyError, OutputError) as error:
            results.append(PreparedCase(case, error=error))
    _write_datalist(Path(out), [r for r in results if r.error is None], shares, seed)
    return results


def _studies(source: Path) -> list[Path]:
    if not source.exists():
        raise UsageError("E_PATH", f"there is no folder or archive {source}")
    if source.is_dir():
        inner = sorted(p for p in source.iterdir() if p.is_dir() or p.suffix.lower() == ".zip")
        if inner:
            return inner
    return [source]


def _write_case(
    study: Path,
    info: BundleInfo,
    options: ReadOptions,
    roi: str | None,
    folder: Path,
    salt: bytes,
) -> tuple[tuple[str, ...], str | None]:
    """Write a study's volumes and its truth; name the modalities and the patient's key."""
    wanted = Wanted(info.modalities, info.required, info.reference, info.min_overlap)
    inputs = read_inputs(study, wanted, options)
    if inputs.kind != "dicom":
        raise StudyError("E_UNSUPPORTED", "the study is NIfTI already", "Write a datalist for it.")
    label = io.read_truth(io.read_study(study), inputs.series[info.reference], roi=roi)
    present = {name: volume for name, volume in inputs.volumes.items() if volume is not None}
    for name, volume in [*present.items(), ("label", label)]:
        io.write_nifti(volume, folder / f"{name}.nii.gz")
    return tuple(present), io.patient_key(inputs.series[info.reference], salt)


def _salt(out: Path) -> bytes:
    """The secret of this folder, made at its first use; only its owner may read it."""
    path = out / SALT
    try:
        if path.is_file():
            return bytes.fromhex(path.read_text("ascii"))
        out.mkdir(parents=True, exist_ok=True)
        salt = secrets.token_bytes(16)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(salt.hex())
    except OSError as error:
        raise OutputError("E_WRITE", f"{SALT}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError("E_OPTION", f"{SALT} in the output folder is no salt") from error
    return salt


def _write_datalist(
    out: Path, cases: Sequence[PreparedCase], shares: Sequence[float], seed: int
) -> None:
    """Split by patient, by a draw that depends on the seed and the patients' keys alone."""
    part = split_patients(
        {c.patient for c in cases}, dict(zip(_SECTIONS, shares, strict=True)), seed
    )
    content: dict[str, object] = {"patients": dict(sorted((c.case, c.patient) for c in cases))}
    for section in _SECTIONS:
        content[section] = [
            {
                "case": c.case,
                **{name: f"{c.case}/{name}.nii.gz" for name in (*c.modalities, "label")},
            }
            for c in sorted(cases, key=lambda c: c.case)
            if part[c.patient] == section
        ]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "datalist.json").write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise OutputError("E_WRITE", f"the datalist: {error.strerror}") from error
