"""Time and size of the HTML report of a PET, CT and MR of 300 slices with contributions.

    python benchmarks/report_page.py [--slices 300] [--keep report.html]

Prints processor seconds (best of three) of making the measurements and the page together, and the
size of the page. Images are smooth shapes with noise, which compresses worse than anatomy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from differseg_med.data import stack_on_reference
from differseg_med.engine import Results
from differseg_med.engine._inputs import Inputs
from differseg_med.engine._report import write_report
from differseg_med.engine._status import describe_grid
from differseg_med.geometry import Grid, Volume

SHAPES = {"pet": (200, 3.5), "ct": (512, 1.37), "mr_t1": (384, 1.8)}
LEVELS = {"pet": (0.0, 3.0, 0.2), "ct": (-100.0, 150.0, 25.0), "mr_t1": (0.0, 500.0, 25.0)}


def image(name: str, slices: int) -> Volume:
    """An elliptic cylinder with waves inside, and noise."""
    size, spacing = SHAPES[name]
    base, height, noise = LEVELS[name]
    affine = np.diag([-spacing, -spacing, 3.0, 1.0])
    affine[:2, 3] = size * spacing / 2
    x, y = np.linspace(-1, 1, size)[:, None, None], np.linspace(-1, 1, size)[None, :, None]
    z = np.linspace(-1, 1, slices)[None, None]
    waves = height * (1 + 0.5 * np.sin(9 * x) * np.cos(7 * y) * np.cos(20 * z))
    array = np.where((x / 0.8) ** 2 + (y / 0.5) ** 2 < 1, base + waves, base).astype(np.float32)
    array += noise * np.random.default_rng(0).standard_normal(array.shape, np.float32)
    return Volume(np.asfortranarray(array), Grid(array.shape, affine), name)


def results(slices: int) -> Results:
    """A case with one lesion and contributions on a 4 mm grid."""
    volumes = {name: image(name, slices) for name in SHAPES}
    grid = volumes["pet"].grid
    mask = np.zeros(grid.shape, np.uint8)
    mask[90:110, 80:100, slices // 3 : slices // 3 + 20] = 1
    stack = stack_on_reference(volumes, tuple(SHAPES), "pet", spacing=(4.0, 4.0, 4.0))
    ramp = np.broadcast_to(
        np.linspace(0, 0.5, stack.grid.shape[0], dtype=np.float32)[:, None, None], stack.grid.shape
    )
    weights = {
        name: Volume(values, stack.grid)
        for name, values in zip(SHAPES, (ramp, 0.5 - ramp, 0 * ramp + 0.5), strict=True)
    }
    modalities = {
        name: {"files": slices, "sha256": "0" * 64, "grid": describe_grid(v.grid), "provenance": {}}
        for name, v in volumes.items()
    }
    record = {
        "bundle": {"name": "benchmark"},
        "software": {},
        "input": {"modalities": modalities},
        "geometry": {"reference": describe_grid(grid)},
        "result": {
            "contributions": {name: {"mask": 0.3, "rest": 0.3} for name in SHAPES},
            "quality": {"estimate": 0.9, "remark_below": None},
        },
        "findings": [],
    }
    inputs = Inputs("nifti", volumes, {})
    probability = Volume(np.zeros(stack.grid.shape, np.float32), stack.grid)
    foreground = Volume(mask, grid)
    return Results("benchmark", inputs, "pet", {}, stack, probability, foreground, record, weights)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder) / "report.html"
        for _ in range(3):
            case = results(arguments.slices)  # anew: measurements are made at first use
            start = time.process_time()
            write_report(case, path)
            seconds.append(time.process_time() - start)
        size = path.stat().st_size
    sys.stdout.write(f"{min(seconds):.2f} s of processor time, {size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
