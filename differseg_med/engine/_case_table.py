"""An ignite handler that writes one row of metrics per case, as CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ignite.engine import Engine, Events

from differseg_med.data import grid_of
from differseg_med.errors import OutputError
from differseg_med.geometry import Grid
from differseg_med.metrics import case_metrics

__all__ = ["CaseTable"]

Array = npt.NDArray[Any]
Baseline = Callable[[Array, Grid], Array]


class CaseTable:
    """Compute metrics per case during an evaluation and write them when it is complete.

    Writes ``cases.csv`` (a row per case and method) and ``summary.json`` (mean, median, standard
    deviation, count of defined values per method and metric) into the output folder.

    Args:
        output_dir: folder for both files.
        nsd_tolerance_mm: tolerance of the normalised surface Dice.
        baselines: methods computed from the raw reference image, by name.
        pred_key: binary prediction, (1, *space), on the same grid as the label.
        label_key: binary truth.
        raw_key: the reference modality's values on the same grid; needed for baselines.
        name: name of the method under test.
    """

    def __init__(
        self,
        output_dir: str,
        nsd_tolerance_mm: float,
        baselines: Mapping[str, Baseline] | None = None,
        pred_key: str = "pred",
        label_key: str = "label",
        raw_key: str = "raw",
        name: str = "differseg",
    ) -> None:
        self.output_dir = Path(output_dir)
        self.nsd_tolerance_mm = nsd_tolerance_mm
        self.baselines = dict(baselines or {})
        self.pred_key, self.label_key, self.raw_key = pred_key, label_key, raw_key
        self.name = name
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        for extra, output in zip(engine.state.batch, engine.state.output, strict=True):
            item = {**extra, **output}
            label = item[self.label_key]
            truth = np.asarray(label[0].cpu())
            grid = grid_of(label)
            masks = {self.name: np.asarray(item[self.pred_key][0].cpu())}
            for name, baseline in self.baselines.items():
                raw = np.asarray(item[self.raw_key][0].cpu()).reshape(grid.shape)
                masks[name] = baseline(raw, grid).reshape(truth.shape)
            present = "".join("1" if p else "0" for p in item["present"])
            for name, mask in masks.items():
                spacing = grid.spacing[: truth.ndim]
                values = case_metrics(mask, truth, spacing, nsd_tolerance_mm=self.nsd_tolerance_mm)
                self.rows.append(
                    {"case": item["case"], "method": name, "present": present, **values}
                )

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Mean, median, standard deviation and count per method and metric."""
        methods = dict.fromkeys(row["method"] for row in self.rows)
        return {m: _summarise([r for r in self.rows if r["method"] == m]) for m in methods}

    def _write(self, engine: Engine) -> None:
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            with (self.output_dir / "cases.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)
            text = json.dumps(self.summary(), indent=2, allow_nan=False)
            (self.output_dir / "summary.json").write_text(text + "\n")
        except OSError as error:
            raise OutputError("E_WRITE", f"the case table: {error.strerror}") from error


def _summarise(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    result = {}
    for metric in (k for k, v in rows[0].items() if isinstance(v, float)):
        values = np.array([r[metric] for r in rows if not math.isnan(r[metric])])
        if len(values):
            result[metric] = {
                "mean": float(values.mean()),
                "median": float(np.median(values)),
                "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
                "n": len(values),
            }
    return result
