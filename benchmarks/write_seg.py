"""Time of writing a DICOM SEG of 300 x 512 x 512, read back and compared.

    python benchmarks/write_seg.py [--slices 300] [--tries 3]

Prints seconds (best of several) for a mask with 50 lesions and for one that is set in every slice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from differseg_med.geometry import Grid, Volume
from differseg_med.io import SegmentInfo, Series, StudyInfo, read_study, write_seg, write_series


def make_series(folder: Path, slices: int) -> Series:
    """A CT of zeros as one series."""
    grid = Grid((512, 512, slices), np.diag([-0.8, -0.8, 1.5, 1.0]), "1.2.3")
    volume = Volume(np.zeros(grid.shape, np.float32), grid, "ct")
    write_series(volume, folder, study=StudyInfo.from_seed(0), number=1)
    (series,) = read_study(folder).series
    return series


def make_masks(grid: Grid) -> dict[str, Volume]:
    """Fifty balls, and a cylinder through all slices."""
    rng = np.random.default_rng(0)
    balls = np.zeros(grid.shape, np.uint8, order="F")
    for _ in range(50):
        r = int(rng.integers(4, 20))
        center = [int(rng.integers(r, n - r)) for n in grid.shape]
        ball = (np.indices((2 * r + 1,) * 3) - r) ** 2
        window = tuple(slice(c - r, c + r + 1) for c in center)
        balls[window] |= (ball.sum(axis=0) <= r * r).astype(np.uint8)
    disc = ((np.indices(grid.shape[:2]) - 256) ** 2).sum(axis=0) <= 150**2
    cylinder = np.asfortranarray(np.repeat(disc[:, :, None], grid.shape[2], axis=2), np.uint8)
    return {"50 lesions": Volume(balls, grid), "every slice": Volume(cylinder, grid)}


def main() -> None:
    """Make the series, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--tries", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        series = make_series(Path(temporary, "ct"), options.slices)
        if series.grid is None:
            raise SystemExit("the series is no volume")
        for name, mask in make_masks(series.grid).items():
            walls, works = [], []
            for _ in range(options.tries):
                wall, work = time.perf_counter(), time.process_time()
                write_seg(mask, series, Path(temporary, "seg.dcm"), SegmentInfo("Lesion", "b", "1"))
                walls.append(time.perf_counter() - wall)
                works.append(time.process_time() - work)
            sys.stdout.write(f"{name}: {min(walls):.2f} s ({min(works):.2f} s of processor)\n")


if __name__ == "__main__":
    main()
