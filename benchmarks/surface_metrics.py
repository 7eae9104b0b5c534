"""HD95, ASSD and surface Dice of one case: this package against MONAI, seconds of processor time.

    OMP_NUM_THREADS=1 python benchmarks/surface_metrics.py

Both get the same masks and spacing; the largest difference of the values is printed beside them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)

from differseg_med.metrics import case_metrics

SPACING = (2.0, 2.0, 3.0)
TOLERANCE_MM = 3.0
NAMES = ("hd95_mm", "assd_mm", "nsd")


def balls(shape: tuple[int, int, int], number: int, radius: int, seed: int) -> np.ndarray:
    """Balls at random places."""
    mask = np.zeros(shape, dtype=bool)
    ball = (np.indices((2 * radius + 1,) * 3) - radius) ** 2
    for place in np.random.default_rng(seed).integers(
        radius + 1, np.array(shape) - radius - 1, (number, 3)
    ):
        part = tuple(slice(p - radius, p + radius + 1) for p in place)
        mask[part] |= ball.sum(0) <= radius**2
    return mask


def ours(a: np.ndarray, b: np.ndarray) -> list[float]:
    """The three metrics by this package."""
    values = case_metrics(a, b, SPACING, nsd_tolerance_mm=TOLERANCE_MM, names=NAMES)
    return [values[name] for name in NAMES]


def monais(a: np.ndarray, b: np.ndarray) -> list[float]:
    """The three metrics by MONAI, on masks with a frame, as it needs for masks at a border."""
    p, q = (torch.from_numpy(np.pad(m, 1).astype(np.float32))[None, None] for m in (a, b))
    steps = list(SPACING)
    values = (
        compute_hausdorff_distance(p, q, percentile=95, spacing=steps),
        compute_average_surface_distance(p, q, symmetric=True, spacing=steps),
        compute_surface_dice(p, q, [TOLERANCE_MM], spacing=steps, use_subvoxels=True),
    )
    return [float(value) for value in values]


def seconds(run: Callable[[], list[float]]) -> tuple[float, list[float]]:
    """Least processor time of three runs, and the values."""
    times = []
    for _ in range(3):
        start = time.process_time()
        values = run()
        times.append(time.process_time() - start)
    return min(times), values


def main() -> None:
    """Print a table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases = {
        "one lesion, 128^3": ((128, 128, 128), 1, 30),
        "20 lesions, 200x200x300": ((200, 200, 300), 20, 6),
    }
    print("case                      ours s   MONAI s   ratio   largest difference")  # noqa: T201
    for name, (shape, number, radius) in cases.items():
        a = balls(shape, number, radius, 1)
        b = np.roll(a, 4, axis=0) if number == 1 else balls(shape, number, radius, 2)
        (mine, x), (theirs, y) = (seconds(lambda f=f, a=a, b=b: f(a, b)) for f in (ours, monais))
        gap = max(abs(i - j) for i, j in zip(x, y, strict=True))
        print(f"{name:<24} {mine:7.2f} {theirs:9.2f} {theirs / mine:7.1f}   {gap:.1e}")  # noqa: T201


if __name__ == "__main__":
    main()
