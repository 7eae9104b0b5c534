"""Made-up pictures of a field in the published layout of ``crop_weed``, for short runs.

Two kinds of plant on soil: crops are round, weeds long. Leaves are dark in the red band and bright
in the near infrared, stones are bright in both, and both bands are noisy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["write_field"]

SIZE = (160, 208)
CROP, WEED = (0, 255, 0), (255, 0, 0)
TRAINING, TEST = range(1, 9), range(20, 23)


def write_field(root: Path) -> None:
    """Write ``images`` and ``annotations`` under a folder."""
    for name in ("images", "annotations"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number in (*TRAINING, *TEST):
        image, marks = _scene(np.random.default_rng(number))
        Image.fromarray(image).save(root / "images" / f"{number:03}_image.png")
        Image.fromarray(marks).save(root / "annotations" / f"{number:03}_annotation.png")


def _scene(
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    red, nir = np.full(SIZE, 120.0), np.full(SIZE, 90.0)
    marks = np.zeros((*SIZE, 3), np.uint8)
    for _ in range(4):
        stone, crop, weed = _ellipse(rng, 8, 8), _ellipse(rng, 14, 14), _ellipse(rng, 16, 5)
        red[stone], nir[stone] = 180.0, 170.0
        for plant, colour in ((crop, CROP), (weed, WEED)):
            red[plant], nir[plant], marks[plant] = 60.0, 190.0, colour
    bands = [red, nir, red]
    noisy = [band + rng.normal(0, 12, SIZE) for band in bands]
    return np.clip(np.stack(noisy, -1), 0, 255).astype(np.uint8), marks


def _ellipse(rng: np.random.Generator, long: float, short: float) -> npt.NDArray[np.bool_]:
    y, x = np.indices(SIZE)
    y, x = y - rng.uniform(20, SIZE[0] - 20), x - rng.uniform(20, SIZE[1] - 20)
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    return np.asarray((along / long) ** 2 + (across / short) ** 2 < 1)
