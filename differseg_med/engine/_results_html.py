"""Pages of results: one self-contained file without scripts."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from differseg_med import __version__
from differseg_med.engine._svg import scatter, strips
from differseg_med.metrics import METRICS, SET_METRICS, Summary

__all__ = ["page", "results_page", "table"]

_STYLE = """
body{font-family:sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;margin:1rem 0;font-size:.85rem;display:block;overflow-x:auto}
th,td{border:1px solid #ccc;padding:.25rem .5rem;text-align:right}
th{background:#f3f3f3}td:first-child,th:first-child{text-align:left}
tr.failed td{background:#fdecea}svg{display:block;margin:1.2rem 0}
p.note{color:#555}
"""


def results_page(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Mapping[str, Summary]],
    settings: Mapping[str, Any],
) -> str:
    """The report of an evaluation.

    Args:
        title: heading.
        rows: a row per case and method.
        summary: summary per method and metric.
        settings: what the metrics were computed with.
    """
    parts = [_facts(rows, settings)]
    for method, metrics in summary.items():
        parts.append(f"<h2>{html.escape(method)}</h2>")
        head = ("metric", "unit", "mean", "95 % interval", "median", "sd", "n", "undefined")
        parts.append(table(head, [_summary_cells(name, s) for name, s in metrics.items()]))
    parts += _plots(rows, summary)
    parts.append("<h2>Cases</h2>")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    failed = [row.get("state") in ("failed", "missing") for row in rows]
    parts.append(table(columns, cells, failed))
    return page(title, "".join(parts))


def page(title: str, body: str) -> str:
    """A complete page.

    Args:
        title: heading; escaped here.
        body: HTML.
    """
    name = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{name}</h1>{body}"
        f'<p class="note">differseg_med {__version__}. Research use only; not a medical device.'
        "</p></body></html>\n"
    )


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] | None = None
) -> str:
    """A table of plain text; everything is escaped.

    Args:
        head: names of columns.
        rows: cells.
        marked: which rows stand out.
    """
    parts = ["<table><tr>", *(f"<th>{html.escape(cell)}</th>" for cell in head), "</tr>"]
    for index, row in enumerate(rows):
        parts.append('<tr class="failed">' if marked and marked[index] else "<tr>")
        parts += [f"<td>{html.escape(cell)}</td>" for cell in row]
        parts.append("</tr>")
    return "".join([*parts, "</table>"])


def _facts(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    cases = len({row["case"] for row in rows})
    failed = sum(row.get("state") in ("failed", "missing") for row in rows)
    known = "; ".join(f"{key}: {value}" for key, value in settings.items() if value is not None)
    return (
        f"<p>{cases} cases, {failed} without a usable prediction (they count as failures). "
        "Intervals are 95 % bootstrap intervals of the mean over patients. Definitions and rules "
        f'for empty masks are on the page of metrics.</p><p class="note">{html.escape(known)}</p>'
    )


def _summary_cells(name: str, value: Summary) -> list[str]:
    metric = METRICS.get(name) or SET_METRICS[name]
    interval = f"{_cell(value.low)} to {_cell(value.high)}" if math.isfinite(value.low) else "-"
    numbers = [_cell(value.mean), interval, _cell(value.median), _cell(value.sd)]
    return [metric.title, metric.unit, *numbers, str(value.n), str(value.undefined)]


def _plots(
    rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Mapping[str, Summary]]
) -> list[str]:
    first = next(iter(summary))
    parts = ["<h2>Distributions</h2><p>A point is a case; below it the mean and its interval.</p>"]
    for name in (n for n in summary[first] if n in METRICS and METRICS[n].better != "none"):
        values = {m: [float(r[name]) for r in rows if r["method"] == m] for m in summary}
        centres = {m: (s[name].mean, s[name].low, s[name].high) for m, s in summary.items()}
        if any(math.isfinite(v) for vs in values.values() for v in vs):
            parts.append(strips(f"{METRICS[name].title} [{METRICS[name].unit}]", values, centres))
    if {"truth_ml", "volume_ml"} <= summary[first].keys():
        own = [row for row in rows if row["method"] == first]
        true, found = ([float(row[key]) for row in own] for key in ("truth_ml", "volume_ml"))
        names = ("true volume", "predicted volume")
        parts.append(scatter(f"Volumes by {first} [mL]", true, found, names))
    return parts


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "-"
    return str(value)
