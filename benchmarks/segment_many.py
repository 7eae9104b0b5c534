"""Studies through one network: read, computed and written at the same time, or one after another.

    python benchmarks/segment_many.py [--studies 8] [--threads N] [--size tiny] [--window 96]

Makes PET/CT studies as DICOM (CT 256 x 256, PET 96 x 96, 60 slices) and segments them with the
sarcoma bundle's preparation and a network of random weights, with ``--engine serial`` and
``--engine pipeline`` in turn, twice each. Prints seconds of the better run of each, and compares
all outputs. A network on a GPU leaves the processor to reading: there the gain is larger.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from differseg_med.engine import tune_process

tune_process()  # before torch is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402

from differseg_med.bundle import BundlePredictor, find_bundle, load_predictor  # noqa: E402
from differseg_med.engine import (  # noqa: E402
    BatchOptions,
    BatchSetup,
    CaseOptions,
    StudySource,
    segment_cases,
)
from differseg_med.geometry import Grid, Volume  # noqa: E402
from differseg_med.io import StudyInfo, write_series  # noqa: E402
from differseg_med.networks import DifferSeg  # noqa: E402

PLANE = {"ct": (256, 1.5), "pet": (96, 4.0)}
SLICES = 60


def make(folder: Path, studies: int) -> list[StudySource]:
    """Write studies of noise with a hot block."""
    sources = []
    for seed in range(studies):
        rng = np.random.default_rng(seed)
        study, place = StudyInfo.from_seed(seed), folder / f"case_{seed:02d}"
        for number, (name, (side, step)) in enumerate(PLANE.items(), 1):
            grid = Grid((side, side, SLICES), np.diag([-step, -step, 3.0, 1.0]), study.frame_uid)
            array = rng.uniform(0, 2, grid.shape).astype(np.float32)
            array[side // 3 : side // 2, side // 3 : side // 2, 20:30] += 6
            array = array * 500 - 1000 if name == "ct" else array
            write_series(Volume(array, grid, name), place / name, study=study, number=number)
        sources.append(StudySource(place.name, place))
    return sources


def load(size: str, window: int, device: str) -> BundlePredictor:
    """The sarcoma bundle with a network of another size, random weights and a large window."""
    info = find_bundle("sts_petctmr")
    base = load_predictor(info, device=device)
    torch.manual_seed(0)
    network = DifferSeg(spatial_dims=3, in_channels=[1] * len(info.modalities), size=size)
    base._network = network.to(device).eval()
    base._inferer.roi_size = (window,) * 3
    return base


def main() -> None:
    """Run both ways in turn and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = load(options.size, options.window, options.device)
    best: dict[str, float] = {}
    outputs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        sources = make(Path(temporary, "in"), options.studies)
        for turn in range(2):
            for engine in ("serial", "pipeline"):
                out = Path(temporary, f"{engine}{turn}")
                setup = BatchSetup(lambda: predictor, out, CaseOptions(formats=("nifti", "seg")))
                start = time.perf_counter()
                found = list(segment_cases(sources, setup, BatchOptions(engine=engine)))
                seconds = time.perf_counter() - start
                best[engine] = min(seconds, best.get(engine, seconds))
                masks = {o.case: o.status["outputs"]["mask.nii.gz"]["sha256"] for o in found}
                assert outputs.setdefault("masks", masks) == masks, "results differ"
                outputs["stages"] = found[-1].status["timings_s"]
    gain = best["serial"] / best["pipeline"]
    sys.stdout.write(
        f"{options.studies} studies, {options.threads} threads, {options.size} on "
        f"{options.device}: serial {best['serial']:.1f} s, pipeline {best['pipeline']:.1f} s, "
        f"{gain:.2f} times as fast, masks identical\nstages of the last: {outputs['stages']}\n"
    )


if __name__ == "__main__":
    main()
