"""Tables of results: a row per case and method, their summary, and reading them back."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

from differseg_med import __version__
from differseg_med.errors import OutputError, UsageError
from differseg_med.metrics import METRICS, Summary, summarise

__all__ = [
    "FAILED",
    "Row",
    "RunResults",
    "plain_number",
    "read_results",
    "read_rows",
    "summarise_rows",
    "write_results",
    "write_rows",
    "write_text",
]

Row: TypeAlias = dict[str, Any]
"""A case under one method: text columns first, then a number per metric."""

FAILED = ("failed", "missing")
"""States of a case without a usable prediction."""

_TEXT = ("case", "method", "state", "code", "detail", "patient", "fold", "present", "resampled")
_SCHEMA = 1


@dataclass(frozen=True)
class RunResults:
    """Rows of one method, read back.

    Attributes:
        name: what the run is called in a comparison.
        rows: row by case.
        settings: what the metrics were computed with, as far as it was written beside them.
    """

    name: str
    rows: Mapping[str, Row]
    settings: Mapping[str, Any]


def summarise_rows(
    rows: Sequence[Row], *, seed: int = 0, resamples: int = 2000
) -> dict[str, dict[str, Summary]]:
    """Summary per method and metric; cases of one patient count as one in the intervals.

    Args:
        rows: the rows of all methods.
        seed: seed of the bootstrap.
        resamples: number of bootstrap samples.
    """
    result = {}
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        own = [row for row in rows if row["method"] == method]
        names = [name for name in METRICS if name in own[0]]
        values = {name: [float(row[name]) for row in own] for name in names}
        patients = [str(row.get("patient") or row["case"]) for row in own]
        result[method] = summarise(values, patients, seed=seed, resamples=resamples)
    return result


def write_results(
    folder: Path, rows: Sequence[Row], settings: Mapping[str, Any], title: str
) -> dict[str, dict[str, Summary]]:
    """Write ``cases.csv``, ``summary.json``, ``summary.csv`` and ``report.html``.

    Args:
        folder: where to; it is made.
        rows: the rows of all methods, one per case and method.
        settings: what the metrics were computed with; ``seed`` and ``resamples`` are taken from it.
        title: heading of the report.

    Returns:
        The summary per method and metric.

    Raises:
        OutputError: ``E_WRITE``.
    """
    from differseg_med.engine._results_html import results_page

    chosen = {key: settings[key] for key in ("seed", "resamples") if key in settings}
    summary = summarise_rows(rows, **chosen)
    failed = [
        {key: row.get(key) or "" for key in ("case", "method", "code")}
        for row in rows
        if row.get("state") in FAILED
    ]
    content = {
        "schema": _SCHEMA,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "settings": dict(settings),
        "cases": len({row["case"] for row in rows}),
        "failed": failed,
        "methods": {
            method: {name: _json(dataclasses.asdict(value)) for name, value in metrics.items()}
            for method, metrics in summary.items()
        },
    }
    write_rows(folder / "cases.csv", rows)
    write_rows(folder / "summary.csv", _summary_rows(summary))
    write_text(folder / "report.html", results_page(title, rows, summary, settings))
    write_text(folder / "summary.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    return summary


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV: text columns, then metrics, then whatever else there is.

    Raises:
        OutputError: ``E_WRITE``.
    """
    there = dict.fromkeys(key for row in rows for key in row)
    order = [*(k for k in (*_TEXT, *METRICS) if k in there)]
    columns = [*order, *(k for k in there if k not in order)]
    part = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        part.replace(path)
    except OSError as error:
        raise OutputError("E_WRITE", f"{path.name}: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all.

    Raises:
        OutputError: ``E_WRITE``.
    """
    part = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise OutputError("E_WRITE", f"{path.name}: {error.strerror}") from error


def read_results(run: str | Path) -> RunResults:
    """Read the rows of one method of a run.

    Args:
        run: a folder with ``cases.csv``, or such a file; ``PATH@METHOD`` chooses a method, else the
            first one in the file is taken, which is the method under test.

    Raises:
        UsageError: ``E_PATH`` when there is no such table, ``E_OPTION`` when it has no such method
            or is no table of results.
    """
    path, wanted = _locate(str(run))
    rows = read_rows(path)
    methods = list(dict.fromkeys(row.get("method") or "" for row in rows))
    method = methods[0] if wanted is None else wanted
    if method not in methods:
        raise UsageError("E_OPTION", f"{path} has no method {method!r}, only {', '.join(methods)}")
    chosen = [row for row in rows if (row.get("method") or "") == method]
    by_case = {str(row["case"]): row for row in chosen}
    if len(by_case) < len(chosen):
        raise UsageError("E_OPTION", f"a case stands twice in {path}")
    folder = path.parent.name or path.stem
    label = folder if len(methods) == 1 or method in ("", folder) else f"{folder}@{method}"
    return RunResults(label, by_case, _settings(path.parent / "summary.json"))


def read_rows(path: Path) -> list[Row]:
    """Read a ``cases.csv``: metrics as numbers, everything else as text.

    Raises:
        UsageError: ``E_PATH`` when there is none, ``E_OPTION`` when it is no table of results.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[Row] = [dict(row) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError("E_PATH", f"there is no table of results at {path}") from error
    if not rows or "case" not in rows[0]:
        raise UsageError("E_OPTION", f"{path} is no table of results: it has no cases")
    return [_numbers(row, path) for row in rows]


def plain_number(value: float) -> float | None:
    """A number that JSON can hold: None for what is not finite."""
    return value if math.isfinite(value) else None


def _locate(run: str) -> tuple[Path, str | None]:
    """The table that a run names, and the method if it names one."""
    path, method = Path(run), None
    if not path.exists() and "@" in run:
        front, _, method = run.rpartition("@")
        path = Path(front)
    return (path / "cases.csv" if path.is_dir() else path), method


def _numbers(row: Row, path: Path) -> Row:
    try:
        return {k: float(v) if k in METRICS else v for k, v in row.items() if k is not None}
    except (TypeError, ValueError) as error:
        where = f"case {row['case']}" if row.get("case") else "a row"
        raise UsageError(
            "E_OPTION", f"{where} of {path} holds a value that is no number"
        ) from error


def _settings(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("E_PATH", f"{path} cannot be read as JSON") from error
    settings = content.get("settings") if isinstance(content, dict) else None
    return settings if isinstance(settings, dict) else {}


def _summary_rows(summary: Mapping[str, Mapping[str, Summary]]) -> list[Row]:
    return [
        {"method": method, "metric": name, **dataclasses.asdict(value)}
        for method, metrics in summary.items()
        for name, value in metrics.items()
    ]


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: plain_number(v) if isinstance(v, float) else v for k, v in values.items()}
