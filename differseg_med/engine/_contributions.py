"""What came of the contributions of the modalities: numbers for the record, files to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from differseg_med.engine._outputs import Results, write_checked
from differseg_med.geometry import Volume
from differseg_med.io import resample

__all__ = ["summarize_contributions", "write_contributions"]


def summarize_contributions(
    contributions: Mapping[str, Volume], mask: Volume
) -> dict[str, dict[str, float | None]]:
    """Mean weight of each modality inside the mask and in the rest of the image.

    Args:
        contributions: weights by modality, all on one grid.
        mask: the mask on the reference grid.

    Returns:
        By modality ``mask`` (None where the mask is empty) and ``rest`` (None where it is full).
    """
    grid = next(iter(contributions.values())).grid
    foreground = Volume((mask.array > 0).astype(np.float32), mask.grid)
    share = resample(foreground, grid, order="linear", fill=0.0)
    return {
        name: {"mask": _mean(weights.array, share), "rest": _mean(weights.array, 1.0 - share)}
        for name, weights in contributions.items()
    }


def write_contributions(results: Results, path: Path) -> None:
    """The contribution of each modality on the reference grid, one NIfTI file each.

    Args:
        results: what is written; its contributions are known.
        path: the files; ``{modality}`` in the name stands for each modality.

    Raises:
        OutputError: ``E_WRITE`` or ``E_READBACK``.
    """
    grid = results.mask.grid
    for name, weights in (results.contributions or {}).items():
        values = resample(weights, grid, order="linear", fill=0.0, antialias=False)
        file = path.with_name(path.name.format(modality=name))
        write_checked(Volume(values, grid), file)


def _mean(weights: Any, share: Any) -> float | None:
    total = float(share.sum(dtype=np.float64))
    if total <= 0.0:
        return None
    return round(float((weights * share).sum(dtype=np.float64)) / total, 4)
