"""What a dataset is like, in numbers: spacing, shape, intensities, foreground.

Which statistics are taken follows nnU-Net's dataset fingerprint (Isensee et al. 2021, Nat Methods
18:203, doi:10.1038/s41592-020-01008-z): spacings, shapes, and mean, standard deviation and the 0.5
and 99.5 percentiles of the intensities in the foreground. Each case counts the same. Added here:
the same in the body, absent modalities, volumes of the foreground, counts of label values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from differseg_med.geometry import Grid, Volume
from differseg_med.types import FloatArray, MaskArray

__all__ = ["SAMPLES", "body_of", "summarise_cases", "summarise_image"]

SAMPLES = 1001
"""Values kept of each case, image and region: its quantiles at even steps."""

_BODY_ABOVE = {"ct": -500.0}
"""Lowest value of the body where it is not the modality's background (air in CT is not body)."""


def body_of(volume: Volume, background: float) -> npt.NDArray[np.bool_]:
    """Voxels that show the body: above air in CT, above the background elsewhere.

    Args:
        volume: the image.
        background: the modality's background.
    """
    above = _BODY_ABOVE.get(volume.modality or "", background)
    return np.asarray(volume.array > above)


def summarise_image(
    volumes: Sequence[Volume], mask: MaskArray | None, background: float
) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Statistics of one image of one case.

    Args:
        volumes: its channels.
        mask: foreground on the same grid, None where it has no label.
        background: the modality's background.

    Returns:
        Grid and moments as JSON values, and quantiles by region.
    """
    regions = {"body": [body_of(volume, background) for volume in volumes]}
    if mask is not None:
        regions["foreground"] = [mask == 1] * len(volumes)
    facts: dict[str, Any] = {"grid": describe_shape(volumes[0].grid)}
    quantiles: dict[str, FloatArray] = {}
    for region, where in regions.items():
        values = np.concatenate([v.array[w] for v, w in zip(volumes, where, strict=True)])
        if values.size == 0:
            continue
        facts[region] = {
            "voxels": int(values.size),
            "mean": float(values.mean(dtype=np.float64)),
            "sd": float(values.std(dtype=np.float64)),
            "min": float(values.min()),
            "max": float(values.max()),
        }
        quantiles[region] = np.quantile(values, np.linspace(0, 1, SAMPLES)).astype(np.float32)
    return facts, quantiles


def describe_shape(grid: Grid) -> dict[str, Any]:
    """Shape and spacing of a grid as JSON values."""
    return {"shape": list(grid.shape), "spacing_mm": [round(s, 5) for s in grid.spacing]}


def summarise_cases(
    records: Iterable[tuple[Mapping[str, Any], Mapping[str, FloatArray]]],
    streams: Sequence[str],
    reference: str,
) -> dict[str, Any]:
    """The fingerprint of a set of cases.

    Args:
        records: facts and quantiles of each case, as `summarise_image` and the label gave them.
        streams: names of the modalities.
        reference: the modality that the label lies on.

    Returns:
        JSON values.
    """
    seen = list(records)
    return {
        "cases": len(seen),
        "reference": reference,
        "modalities": {name: _modality(name, seen) for name in streams},
        "label": _label([facts["label"] for facts, _ in seen if facts.get("label")]),
        "per_case": [_line(facts, reference) for facts, _ in seen],
    }


def _modality(
    name: str, seen: Sequence[tuple[Mapping[str, Any], Mapping[str, FloatArray]]]
) -> dict[str, Any]:
    images = [facts["images"][name] for facts, _ in seen if name in facts["images"]]
    result: dict[str, Any] = {"present": len(images), "absent": len(seen) - len(images)}
    if not images:
        return result
    for key in ("spacing_mm", "shape"):
        values = np.array([image["grid"][key] for image in images], dtype=np.float64)
        result[key] = {
            "median": np.median(values, axis=0).round(5).tolist(),
            "percentile_10": np.percentile(values, 10, axis=0).round(5).tolist(),
            "min": values.min(axis=0).tolist(),
            "max": values.max(axis=0).tolist(),
        }
    result["intensity"] = {}
    for region in ("foreground", "body"):
        facts = [image[region] for image in images if region in image]
        pooled = [q[f"{name}.{region}"] for _, q in seen if f"{name}.{region}" in q]
        if facts:
            result["intensity"][region] = _intensity(facts, np.concatenate(pooled))
    return result


def _intensity(facts: Sequence[Mapping[str, float]], pooled: FloatArray) -> dict[str, float]:
    """Moments and percentiles in which each case counts the same."""
    means = np.array([fact["mean"] for fact in facts])
    squares = np.array([fact["sd"] ** 2 + fact["mean"] ** 2 for fact in facts])
    low, median, high = np.percentile(pooled, (0.5, 50.0, 99.5))
    return {
        "cases": len(facts),
        "mean": float(means.mean()),
        "sd": float(np.sqrt(max(0.0, squares.mean() - means.mean() ** 2))),
        "min": float(min(fact["min"] for fact in facts)),
        "percentile_0.5": float(low),
        "median": float(median),
        "percentile_99.5": float(high),
        "max": float(max(fact["max"] for fact in facts)),
    }


def _label(labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for label in labels:
        counts.update(label["values"])
    volumes = np.array([label["foreground_ml"] for label in labels])
    return {
        "labelled": len(labels),
        "empty": int((volumes == 0).sum()),
        "values": dict(sorted(counts.items(), key=lambda item: float(item[0]))),
        "foreground_voxels": sum(label["foreground"] for label in labels),
        "ignored_voxels": sum(label["ignored"] for label in labels),
        "foreground_ml": _spread(volumes) if len(volumes) else {},
    }


def _spread(values: npt.NDArray[np.float64]) -> dict[str, float]:
    low, median, high = np.percentile(values, (5, 50, 95))
    return {
        "min": float(values.min()),
        "percentile_5": float(low),
        "median": float(median),
        "mean": float(values.mean()),
        "percentile_95": float(high),
        "max": float(values.max()),
    }


def _line(facts: Mapping[str, Any], reference: str) -> dict[str, Any]:
    label = facts.get("label") or {}
    return {
        "case": facts["case"],
        **facts["images"][reference]["grid"],
        "foreground_ml": label.get("foreground_ml"),
    }
