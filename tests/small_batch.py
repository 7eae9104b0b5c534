"""A batch that runs in seconds: small studies and a predictor whose answer can be worked out.

Also a program, for tests that kill it: ``small_batch.main(STUDIES, OUT, engine, pause)``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from differseg_med.engine import (
    BatchOptions,
    BatchSetup,
    CaseOptions,
    CaseOutcome,
    find_sources,
    segment_cases,
)
from differseg_med.geometry import Grid, Volume
from differseg_med.io import StudyInfo, write_nifti, write_series

FORMATS = None  # NIfTI, and DICOM SEG of DICOM studies
NO_MEMORY, CRASH, INTERRUPT = 13.0, 14.0, 15.0
"""Highest PET values that make the predictor fail in different ways."""


class Level:
    """Foreground where the PET is above a level; some values do harm on purpose."""

    modalities = ("pet", "ct")
    required = ("pet",)
    reference = "pet"
    spacing = None
    window = (8, 8, 8)
    min_overlap = {"ct": 0.5}  # noqa: RUF012 - stands for an instance's attribute

    def __init__(self, level: float = 3.0, pause: float = 0.0) -> None:
        self.level, self.pause = level, pause

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        time.sleep(self.pause)
        top = float(image[:, 0].max())
        if top == NO_MEMORY:
            raise MemoryError
        if top == CRASH:
            os.kill(os.getpid(), signal.SIGKILL)
        if top == INTERRUPT:
            raise KeyboardInterrupt
        return torch.sigmoid(4 * (image[:, :1] - self.level))


def volume(seed: int, top: float = 6.0) -> Volume:
    """A PET of noise with one hot block."""
    array = np.random.default_rng(seed).uniform(0, 5, (8, 9, 10)).astype(np.float32)
    array[3:5, 3:5, 3:5] = top
    return Volume(array, Grid(array.shape, np.diag([-4.0, -4.0, 4.0, 1.0])), "pet")


def write_study(folder: Path, seed: int, *, top: float = 6.0) -> Path:
    """A NIfTI study."""
    folder.mkdir(parents=True)
    write_nifti(volume(seed, top), folder / "pet.nii.gz")
    return folder


def write_dicom_study(folder: Path, seed: int) -> Path:
    """A DICOM study."""
    write_series(volume(seed), folder / "pet", study=StudyInfo.from_seed(seed), number=1)
    return folder


def run(
    paths: list[Path], out: Path, level: float = 3.0, pause: float = 0.0, **batch: object
) -> dict[str, CaseOutcome]:
    """The outcomes of a batch, by case, in the order in which they came."""
    options = CaseOptions(formats=FORMATS, overwrite=bool(batch.pop("overwrite", False)))
    device = batch.pop("device", "cpu")
    bundle = {"name": "level", "weights_sha256": str(level), "device": device}
    setup = BatchSetup(partial(Level, level, pause), out, options, bundle)
    sources = find_sources(paths, Level.modalities)
    outcomes = list(segment_cases(sources, setup, BatchOptions(**batch)))
    assert len({outcome.case for outcome in outcomes}) == len(outcomes)
    return {outcome.case: outcome for outcome in outcomes}


def main(studies: str, out: str, engine: str, pause: str) -> None:
    """Resume a batch over a folder of studies."""
    torch.set_num_threads(1)
    workers = {"workers": 2} if engine == "ray" else {}
    run([Path(studies)], Path(out), pause=float(pause), resume=True, engine=engine, **workers)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start `main` in a process of its own, which leads a group."""
    code = f"import small_batch; small_batch.main(*{[str(a) for a in arguments]!r})"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)
