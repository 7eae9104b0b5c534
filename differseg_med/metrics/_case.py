"""All metrics of one case."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from differseg_med.errors import UsageError
from differseg_med.metrics._lesions import count_lesions, missed_voxels
from differseg_med.metrics._masks import Mask, as_masks, union_box
from differseg_med.metrics._overlap import dice, iou, precision, sensitivity, two_class_iou
from differseg_med.metrics._surface import assd_of, border_distances, hd95_of, nsd
from differseg_med.metrics._table import METRICS

__all__ = ["case_metrics", "check_names", "failed_metrics"]

_LESION_WISE = {"lesion_f1", "lesion_sensitivity", "lesion_precision", "lesions", "truth_lesions"}
_MISSED = {"fp_volume_ml", "fn_volume_ml"}


def case_metrics(
    pred: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    spacing: Sequence[float],
    *,
    nsd_tolerance_mm: float,
    ignore: npt.NDArray[Any] | None = None,
    names: Collection[str] | None = None,
) -> dict[str, float]:
    """Compare a mask with the truth on one grid.

    Args:
        pred: 2D or 3D mask; a 3D one with a single slice is taken as 2D.
        truth: mask of the same shape.
        spacing: mm per voxel and axis (right angles between the axes).
        nsd_tolerance_mm: tolerance of the normalised surface Dice.
        ignore: voxels that do not count at all.
        names: metrics to compute; all of `METRICS` if left out.

    Returns:
        Values by name in the order of `METRICS`; NaN where a metric is undefined.

    Raises:
        UsageError: ``E_OPTION`` when shapes differ or a metric is not known.
    """
    wanted = set(check_names(names))
    a, b = as_masks(pred, truth, ignore)
    if len(spacing) != a.ndim:
        raise UsageError("E_OPTION", f"spacing {tuple(spacing)} does not fit {a.ndim} dimensions")
    voxel_ml = float(np.prod(spacing)) / 1000
    counted = a.size - (0 if ignore is None else int(np.count_nonzero(ignore)))
    a, b, spacing = _flat(*_boxed(a, b), spacing)  # everything that is left to do is fast there
    values = _volumes(a, b, voxel_ml)
    both, union = int(np.count_nonzero(a & b)), int(np.count_nonzero(a | b))
    values |= {"dice": dice(a, b), "iou": iou(a, b)}
    values |= {"miou_two_class": two_class_iou(both, union, counted)}
    values |= {"sensitivity": sensitivity(a, b), "precision": precision(a, b)}
    values |= _surfaces(a, b, spacing, nsd_tolerance_mm, wanted)
    values |= _lesion_wise(a, b) if wanted & _LESION_WISE else {}
    if wanted & _MISSED:
        values["fp_volume_ml"] = missed_voxels(a, b) * voxel_ml
        values["fn_volume_ml"] = missed_voxels(b, a) * voxel_ml
    return {name: values[name] for name in METRICS if name in wanted}


def failed_metrics(
    truth_values: dict[str, float] | None = None, names: Collection[str] | None = None
) -> dict[str, float]:
    """Values of a case that has no usable prediction.

    Args:
        truth_values: what is known of its truth, by name.
        names: metrics that are wanted; all of `METRICS` if left out.
    """
    known = truth_values or {}
    rules = {name: METRICS[name].failed for name in check_names(names)}
    values = {name: math.nan if rule is None else rule for name, rule in rules.items()}
    return {name: known.get(name, value) for name, value in values.items()}


def check_names(names: Collection[str] | None) -> list[str]:
    """Names of metrics in the order of `METRICS`; all of them if none are given.

    Raises:
        UsageError: ``E_OPTION`` naming what is not known.
    """
    if unknown := sorted(set(names or ()) - set(METRICS)):
        raise UsageError(
            "E_OPTION",
            f"there is no metric {', '.join(unknown)}; there are: {', '.join(METRICS)}",
        )
    return [name for name in METRICS if not names or name in names]


def _boxed(a: Mask, b: Mask) -> tuple[Mask, Mask, tuple[int, ...]]:
    """Both masks in their common box, and the shape that they had."""
    box = union_box(a, b) if a.any() or b.any() else (slice(0, 1),) * a.ndim
    return a[box], b[box], a.shape


def _flat(
    a: Mask, b: Mask, shape: tuple[int, ...], spacing: Sequence[float]
) -> tuple[Mask, Mask, Sequence[float]]:
    """A volume of one slice has no surface across it: take it as an image."""
    if len(shape) != 3 or shape.count(1) != 1:
        return a, b, spacing
    axis = shape.index(1)
    rest = [step for index, step in enumerate(spacing) if index != axis]
    return a.squeeze(axis), b.squeeze(axis), rest


def _volumes(a: Mask, b: Mask, voxel_ml: float) -> dict[str, float]:
    found, expected, both = (int(np.count_nonzero(m)) * voxel_ml for m in (a, b, a & b))
    error = found - expected
    return {
        "volume_ml": found,
        "truth_ml": expected,
        "overlap_ml": both,
        "volume_error_ml": error,
        "volume_error_relative": error / expected if expected else math.nan,
    }


def _surfaces(
    a: Mask, b: Mask, spacing: Sequence[float], tolerance_mm: float, wanted: set[str]
) -> dict[str, float]:
    values = {}
    if wanted & {"hd95_mm", "assd_mm"}:
        if a.any() and b.any():
            distances = border_distances(a, b, spacing)
            values = {"hd95_mm": hd95_of(distances), "assd_mm": assd_of(distances)}
        else:
            empty = math.nan if a.any() or b.any() else 0.0
            values = {"hd95_mm": empty, "assd_mm": empty}
    if "nsd" in wanted:
        values["nsd"] = nsd(a, b, spacing, tolerance_mm)
    return values


def _lesion_wise(a: Mask, b: Mask) -> dict[str, float]:
    lesions = count_lesions(a, b)
    return {
        "lesion_f1": lesions.f1,
        "lesion_sensitivity": lesions.sensitivity,
        "lesion_precision": lesions.precision,
        "lesions": float(lesions.predicted),
        "truth_lesions": float(lesions.true),
    }
