"""Clinical archives become training data: DICOM studies with contours to NIfTI and a datalist."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from differseg_med import io
from differseg_med.bundle._locate import BundleInfo, find_bundle
from differseg_med.engine import ReadOptions, Wanted, case_id, read_inputs, workspace
from differseg_med.errors import DifferSegError, OutputError, StudyError, UsageError

__all__ = ["PreparedCase", "prepare_from_dicom"]

_SECTIONS = ("training", "validation", "test")


@dataclass(frozen=True)
class PreparedCase:
    """What became of one study.

    Attributes:
        case: its name in the datalist.
        modalities: names that are present; empty where the study was refused.
        error: why it was refused, None where it was not.
    """

    case: str
    modalities: tuple[str, ...] = ()
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
    grids, and ``OUT/datalist.json`` with a split that is fixed by the seed and the cases' names. A
    study that is refused does not stop the others.

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
    for study in _studies(Path(source)):
        case = case_id(study)
        report(case)
        try:
            with workspace(Path(out) / case, overwrite=overwrite) as folder:
                names = _write_case(study, info, options or ReadOptions(), roi, folder)
            results.append(PreparedCase(case, names))
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
    study: Path, info: BundleInfo, options: ReadOptions, roi: str | None, folder: Path
) -> tuple[str, ...]:
    wanted = Wanted(info.modalities, info.required, info.reference, info.min_overlap)
    inputs = read_inputs(study, wanted, options)
    if inputs.kind != "dicom":
        raise StudyError("E_UNSUPPORTED", "the study is NIfTI already", "Write a datalist for it.")
    label = io.read_truth(io.read_study(study), inputs.series[info.reference], roi=roi)
    present = {name: volume for name, volume in inputs.volumes.items() if volume is not None}
    for name, volume in [*present.items(), ("label", label)]:
        io.write_nifti(volume, folder / f"{name}.nii.gz")
    return tuple(present)


def _write_datalist(
    out: Path, cases: Sequence[PreparedCase], shares: Sequence[float], seed: int
) -> None:
    """Split by a draw that depends on the seed and the names alone; small sets get one each."""
    drawn = sorted(cases, key=lambda c: hashlib.sha256(f"{seed}/{c.case}".encode()).digest())
    n = len(drawn)
    n_val = max(round(n * shares[1]), int(shares[1] > 0 and n >= 3))
    n_test = max(round(n * shares[2]), int(shares[2] > 0 and n >= 3))
    parts = {
        "training": drawn[n_val + n_test :],
        "validation": drawn[:n_val],
        "test": drawn[n_val : n_val + n_test],
    }
    content = {
        section: [
            {
                "case": c.case,
                **{name: f"{c.case}/{name}.nii.gz" for name in (*c.modalities, "label")},
            }
            for c in sorted(parts[section], key=lambda c: c.case)
        ]
        for section in _SECTIONS
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "datalist.json").write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise OutputError("E_WRITE", f"the datalist: {error.strerror}") from error
