"""Evaluation of a folder of masks, whoever made them, against their truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from differseg_med import io
from differseg_med.engine._pairs import (
    DatalistTruth,
    FolderTruth,
    Truth,
    find_masks,
    find_truths,
    unused_masks,
)
from differseg_med.engine._results import FAILED, Row, write_results
from differseg_med.engine._workspace import case_id
from differseg_med.errors import DifferSegError, Finding, OutputError, StudyError
from differseg_med.geometry import Grid, Volume
from differseg_med.metrics import Summary, case_metrics, check_names, failed_metrics

__all__ = ["EvaluateOptions", "Evaluation", "evaluate_folder"]

Mask = npt.NDArray[np.bool_]

_GRID_SHARE = 0.01
"""Grids are the same where voxels differ by less than this share of the smallest spacing."""

_SHOWN = 5
"""So many names are listed in a remark."""

_SKEW = 1e-3
"""Largest cosine between two axes of a grid whose distances are measured along its axes."""


@dataclass(frozen=True)
class EvaluateOptions:
    """How masks are compared.

    Attributes:
        metrics: names of metrics, all if empty.
        nsd_tolerance_mm: tolerance of the normalised surface Dice.
        label: value of the foreground where masks hold several.
        prediction_label: the same for predictions, where it differs.
        ignore_label: value in the truth of voxels that do not count.
        threshold: values from here on are foreground, for masks that are not clean.
        resample: bring predictions on another grid to the truth's (nearest neighbour).
        seed: seed of the bootstrap.
        resamples: bootstrap samples.
    """

    metrics: tuple[str, ...] = ()
    nsd_tolerance_mm: float = 3.0
    label: int | None = None
    prediction_label: int | None = None
    ignore_label: int | None = None
    threshold: float | None = None
    resample: bool = False
    seed: int = 0
    resamples: int = 2000


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        folder: where its files are.
        rows: a row per case.
        summary: summary per metric.
        findings: what a reader should know.
    """

    folder: Path
    rows: Sequence[Row]
    summary: Mapping[str, Summary]
    findings: Sequence[Finding] = ()

    @property
    def failed(self) -> list[Row]:
        """Rows without a usable prediction or truth."""
        return [row for row in self.rows if row["state"] != "ok"]


def evaluate_folder(
    predictions: str | Path,
    source: FolderTruth | DatalistTruth,
    out: str | Path,
    options: EvaluateOptions | None = None,
    *,
    pattern: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda stage: None,
) -> Evaluation:
    """Compare every truth with the prediction of its name and write tables and a report.

    Writes ``cases.csv``, ``summary.json``, ``summary.csv`` and ``report.html``. A case without a
    usable prediction is a row with a code, is counted as a failure and takes the scores that
    `differseg_med.metrics.METRICS` states for one; nothing is dropped.

    Args:
        predictions: folder of masks.
        source: where the truths are.
        out: folder for the results.
        options: how masks are compared.
        pattern: path of a prediction below its folder, with ``{case}``.
        name: what the method is called in tables; the folder's name if left out.
        overwrite: replace results that stand there.
        report: is told which case is at work.

    Raises:
        UsageError: a folder is not there or an option is wrong.
        BundleError: ``E_DATALIST``.
        OutputError: ``E_EXISTS`` or ``E_WRITE``.
    """
    folder, chosen = Path(out), options or EvaluateOptions()
    check_names(chosen.metrics)
    if (folder / "cases.csv").exists() and not overwrite:
        raise OutputError("E_EXISTS", f"{folder.name} holds an evaluation already")
    truths = find_truths(source)
    masks = find_masks(Path(predictions), pattern)
    method = name or case_id(Path(predictions))
    rows = []
    for number, truth in enumerate(truths, 1):
        report(f"{number}/{len(truths)} {truth.case}")
        rows.append(_row(truth, masks.get(truth.name, ()), method, chosen))
    settings = _settings(chosen, truths)
    summary = write_results(folder, rows, settings, f"Evaluation of {method}")
    return Evaluation(folder, rows, summary[method], _findings(unused_masks(masks, truths)))


def _findings(unused: Sequence[str]) -> tuple[Finding, ...]:
    if not unused:
        return ()
    shown = ", ".join(unused[:_SHOWN]) + (", ..." if len(unused) > _SHOWN else "")
    return (Finding("W_UNUSED", f"{len(unused)} predictions have no truth: {shown}"),)


def _settings(options: EvaluateOptions, truths: Sequence[Truth]) -> dict[str, Any]:
    settings = dataclasses.asdict(options)
    del settings["metrics"]
    for key, attribute in (("label", "label"), ("ignore_label", "ignore")):
        settings[key] = _first(settings[key], getattr(truths[0], attribute))
    return settings


def _row(truth: Truth, paths: Sequence[Path], method: str, options: EvaluateOptions) -> Row:
    """Everything about one case; what is wrong with it becomes its state and code."""
    row: Row = {"case": truth.case, "method": method, "state": "ok", "code": "", "detail": ""}
    row |= {"patient": truth.patient} if truth.patient is not None else {}
    try:
        volume = _read(truth.paths, "truth")
        _check_axes(volume.grid)
        target, ignore = _split_truth(volume, truth, options)
    except DifferSegError as error:
        unknown = dict.fromkeys(check_names(options.metrics), float("nan"))
        return {**row, **_problem("unscored", error), **unknown}
    try:
        mask, moved = _prediction(paths, volume.grid, truth, options)
    except DifferSegError as error:
        state = FAILED[0] if paths else FAILED[1]
        known = _of_truth(target, volume.grid, ignore, options)
        return {**row, **_problem(state, error), **known}
    values = _compare(mask, target, volume.grid, ignore, options)
    return {**row, "resampled": "yes" if moved else "no", **values}


def _problem(state: str, error: DifferSegError) -> Row:
    return {"state": state, "code": error.code, "detail": error.detail, "resampled": ""}


def _compare(
    mask: Mask, target: Mask, grid: Grid, ignore: Mask | None, options: EvaluateOptions
) -> dict[str, float]:
    return case_metrics(
        mask,
        target,
        grid.spacing,
        nsd_tolerance_mm=options.nsd_tolerance_mm,
        ignore=ignore,
        names=options.metrics,
    )


def _of_truth(
    target: Mask, grid: Grid, ignore: Mask | None, options: EvaluateOptions
) -> dict[str, float]:
    """Scores of a case without prediction, with what its truth says of itself."""
    describing = {"truth_ml", "truth_lesions"} & set(check_names(options.metrics))
    if not describing:
        return failed_metrics(None, options.metrics)
    only = dataclasses.replace(options, metrics=tuple(describing))
    known = _compare(np.zeros_like(target), target, grid, ignore, only)
    return failed_metrics(known, options.metrics)


def _prediction(
    paths: Sequence[Path], grid: Grid, truth: Truth, options: EvaluateOptions
) -> tuple[Mask, bool]:
    """The predicted mask on the truth's grid, and whether it had to be moved there."""
    volume = _read(paths, "prediction")
    label = _first(options.prediction_label, _first(options.label, truth.label))
    mask = _foreground(volume.array, label, options.threshold)
    tolerance = _GRID_SHARE * min(grid.spacing)
    if volume.grid.is_same(grid, tolerance):
        return mask, False
    if not options.resample:
        raise StudyError(
            "E_GEOMETRY", "prediction and truth lie on different grids; see --resample"
        )
    part = Volume(mask.astype(np.uint8), volume.grid)
    moved = io.resample(part, grid, order="nearest", fill=0.0) > 0.5
    if mask.any() and not moved.any():
        raise StudyError("E_OVERLAP", "nothing of the prediction lies inside the truth's image")
    return moved, True


def _split_truth(
    volume: Volume, truth: Truth, options: EvaluateOptions
) -> tuple[Mask, Mask | None]:
    """The true mask, and the voxels that do not count."""
    value = _first(options.ignore_label, truth.ignore)
    ignore = None if value is None else np.asarray(volume.array == value)
    array = volume.array if ignore is None else np.where(ignore, 0, volume.array)
    return _foreground(array, _first(options.label, truth.label), options.threshold), ignore


def _foreground(array: npt.NDArray[Any], label: int | None, threshold: float | None) -> Mask:
    """What of an array is foreground; a guess is never made between several values."""
    if threshold is not None:
        return np.asarray(array >= threshold)
    values = np.unique(array[array != 0])
    if not np.array_equal(values, np.round(values)):
        raise StudyError("E_MASK", "a mask holds fractions, whole values were expected")
    if label is not None:
        return np.asarray(array == label)
    if len(values) > 1:
        shown = ", ".join(f"{value:g}" for value in values[:6])
        raise StudyError("E_MASK", f"a mask holds {shown}; one foreground value was expected")
    return np.asarray(array != 0)


def _read(paths: Sequence[Path], what: str) -> Volume:
    if not paths or not paths[0].is_file():
        raise StudyError("E_EMPTY", f"there is no {what}")
    if len(paths) > 1:
        raise StudyError("E_AMBIGUOUS", f"{len(paths)} files could be the {what}")
    return io.read_image(paths[0])[0] if io.is_image(paths[0]) else io.read_nifti(paths[0])


def _check_axes(grid: Grid) -> None:
    steps = grid.affine[:3, :3] / np.array(grid.spacing)
    if np.abs(steps.T @ steps - np.eye(3)).max() > _SKEW:
        raise StudyError("E_GEOMETRY", "the axes of the truth's grid are not at right angles")


def _first(value: int | None, otherwise: int | None) -> int | None:
    return otherwise if value is None else value
