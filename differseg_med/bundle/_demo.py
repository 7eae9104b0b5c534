"""The main job once, on nothing but the repository: train on phantoms, segment an unseen study."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from differseg_med.bundle._locate import BundleInfo, find_bundle
from differseg_med.bundle._segment import segment
from differseg_med.data.phantom import write_phantom_dicom, write_phantom_nifti
from differseg_med.engine import CaseOptions, CaseResult
from differseg_med.errors import BundleError, OutputError
from differseg_med.io import read_nifti
from differseg_med.metrics import dice

__all__ = ["DemoResult", "demo"]

BUNDLE = "sts_petctmr"
FORMATS = ("nifti", "seg", "png", "html")
TRAINING, VALIDATION = 12, 2
STUDY_SEED = 9000
"""The study's phantom; training and validation use small seeds, so it was never seen."""

OVERRIDES: Mapping[str, Any] = {
    "max_epochs": 30,
    "val_interval": 10,
    "learning_rate": 3.0e-3,
    "average_decay": 0.98,
    "margin_mm": [20.0, 80.0],
    "patch_size": [32, 32, 32],
}
"""What differs from the bundle's own training: a run of minutes on whole phantoms."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        case: the segmented case.
        dice: Dice against the phantom's truth; None for a study of the user's own.
        seconds: wall time of all.
    """

    case: CaseResult
    dice: float | None
    seconds: float


def demo(
    out: str | Path,
    study: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda stage: None,
) -> DemoResult:
    """Train on phantoms and segment a phantom DICOM study, or segment a study of your own.

    Args:
        out: folder for everything; what an earlier demo left there is replaced.
        study: a DICOM study to segment with the bundle's shipped weights instead; nothing is
            trained then, since a network trained on phantoms says nothing about patients.
        overrides: training overrides over `OVERRIDES`.
        report: is told the name of each stage when it begins.

    Returns:
        The case, and its Dice where the truth is known.

    Raises:
        DifferSegError: what training or `segment` refuse.
    """
    start = time.monotonic()
    folder = Path(out)
    options = CaseOptions(formats=FORMATS, overwrite=True, case="demo")
    if study is not None:
        case = segment(study, BUNDLE, folder, options, report=report)
        return DemoResult(case, None, time.monotonic() - start)
    info = find_bundle(BUNDLE)
    report("phantoms")
    _fresh(folder)
    datalist = _write_training(folder / "phantoms")
    write_phantom_dicom(folder / "study", STUDY_SEED)
    report("training")
    weights = _train(info, folder, datalist, {**OVERRIDES, **(overrides or {})})
    case = segment(folder / "study", BUNDLE, folder, options, weights=weights, report=report)
    truth = read_nifti(_write_truth(folder))
    mask = read_nifti(case.folder / "mask.nii.gz")
    value = dice(np.asarray(mask.array), np.asarray(truth.array))
    return DemoResult(case, value, time.monotonic() - start)


def _fresh(folder: Path) -> None:
    try:
        for name in ("phantoms", "study", "run"):
            shutil.rmtree(folder / name, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("E_WRITE", f"the demo's folder: {error.strerror}") from error


def _write_training(folder: Path) -> Path:
    """Phantom cases in the layout of the bundle's data; every third lacks CT, one lacks MR."""
    absent = {"ct": range(1, TRAINING, 3), "mr_t1": (2,)}
    cases = [
        {
            "case": path.name,
            **{
                name: f"{path.name}/{name}.nii.gz"
                for name in ("pet", "ct", "mr_t1")
                if (path / f"{name}.nii.gz").is_file()
            },
            "label": f"{path.name}/pet_gtv.nii.gz",
        }
        for path in write_phantom_nifti(folder, TRAINING + VALIDATION, leave_out=absent)
    ]
    content = {"training": cases[:TRAINING], "validation": cases[TRAINING:]}
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps(content, indent=2) + "\n")
    return datalist


def _write_truth(folder: Path) -> Path:
    """The mask of the study's phantom."""
    (case,) = write_phantom_nifti(folder / "truth", 1, STUDY_SEED)
    return Path(case, "pet_gtv.nii.gz")


def _train(info: BundleInfo, folder: Path, datalist: Path, overrides: Mapping[str, Any]) -> Path:
    """Run the bundle's own training and return its best weights."""
    from monai.bundle import ConfigWorkflow

    logging.getLogger("ignite").setLevel(logging.WARNING)
    workflow = ConfigWorkflow(
        config_file=str(info.root / "configs" / "train.yaml"),
        run_id="training",
        workflow_type="train",
        bundle_root=str(info.root),
        dataset_dir=str(datalist.parent),
        datalist=str(datalist),
        run_dir=str(folder / "run"),
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    weights = folder / "run" / "model.pt"
    if not weights.is_file():
        raise BundleError("E_WEIGHTS", "training ended without a validated model")
    return weights
