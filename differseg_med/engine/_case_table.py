"""An ignite handler that writes one row of metrics per case, with a summary and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ignite.engine import Engine, Events

from differseg_med.data import grid_of
from differseg_med.engine._pairs import read_patients
from differseg_med.engine._results import Row, summarise_rows, write_results
from differseg_med.geometry import Grid
from differseg_med.metrics import Summary, case_metrics, check_names

__all__ = ["CaseTable"]

Array = npt.NDArray[Any]
Baseline = Callable[[Array, Grid], Array]


class CaseTable:
    """Compute metrics per case during an evaluation and write them when it is complete.

    Writes ``cases.csv`` (a row per case and method), ``summary.json``, ``summary.csv`` and
    ``report.html`` into the output folder, as ``differseg-med evaluate`` does.

    Args:
        output_dir: folder for the files.
        nsd_tolerance_mm: tolerance of the normalised surface Dice.
        baselines: methods computed from the raw reference image, by name.
        pred_key: binary prediction, (1, *space), on the same grid as the label.
        label_key: binary truth.
        raw_key: the reference modality's values on the same grid; needed for baselines.
        ignore_key: voxels that do not count, where a case has any.
        name: name of the method under test.
        metrics: names of metrics; all if empty.
        seed: seed of the bootstrap.
        datalist: says whose cases are whose, where it does; cases of a patient are drawn together.
    """

    def __init__(
        self,
        output_dir: str,
        nsd_tolerance_mm: float,
        baselines: Mapping[str, Baseline] | None = None,
        pred_key: str = "pred",
        label_key: str = "label",
        raw_key: str = "raw",
        ignore_key: str = "ignore",
        name: str = "differseg",
        metrics: Sequence[str] = (),
        seed: int = 0,
        datalist: str | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.baselines = dict(baselines or {})
        self.pred_key, self.label_key, self.raw_key = pred_key, label_key, raw_key
        self.ignore_key, self.name = ignore_key, name
        self.metrics = check_names(metrics)
        self.settings = {"nsd_tolerance_mm": nsd_tolerance_mm, "seed": seed}
        self.patients = read_patients(datalist) if datalist else {}
        self.rows: list[Row] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        for extra, output in zip(engine.state.batch, engine.state.output, strict=True):
            item = {**extra, **output}
            grid = grid_of(item[self.label_key])
            truth = _array(item[self.label_key])
            ignored = item.get(self.ignore_key)
            masks = {self.name: _array(item[self.pred_key])}
            for name, baseline in self.baselines.items():
                raw = _array(item[self.raw_key]).reshape(grid.shape)
                masks[name] = baseline(raw, grid).reshape(truth.shape)
            present = "".join("1" if p else "0" for p in item["present"])
            for name, mask in masks.items():
                values = case_metrics(
                    mask,
                    truth,
                    grid.spacing[: truth.ndim],
                    nsd_tolerance_mm=self.settings["nsd_tolerance_mm"],
                    ignore=None if ignored is None else _array(ignored),
                    names=self.metrics,
                )
                row = {"case": item["case"], "method": name, "present": present}
                known = self.patients.get(item["case"])
                row |= {} if known is None else {"patient": known}
                self.rows.append({**row, **values})

    def summary(self) -> dict[str, dict[str, Summary]]:
        """Mean, interval, median, standard deviation and counts per method and metric."""
        return summarise_rows(self.rows, seed=int(self.settings["seed"]))

    def _write(self, engine: Engine) -> None:
        write_results(self.output_dir, self.rows, self.settings, f"Evaluation of {self.name}")


def _array(tensor: Any) -> Array:
    return np.asarray(tensor[0].cpu())
