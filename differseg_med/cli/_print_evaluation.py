"""What the commands about results print."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from differseg_med.cli._print import dump, line, note, table

if TYPE_CHECKING:
    from differseg_med.bundle import CrossValidation
    from differseg_med.engine import Comparison, Evaluation
    from differseg_med.errors import Finding
    from differseg_med.metrics import Summary

__all__ = ["comparison", "cross_validation", "evaluation", "summaries"]


_SUMMARY_HEAD = ("METRIC", "MEAN", "95 % INTERVAL", "MEDIAN", "N", "UNDEFINED")


def evaluation(done: Evaluation, *, as_json: bool) -> None:
    """Write the summary of an evaluation and every case that failed."""
    _notes(done.findings)
    if as_json:
        for row in done.rows:
            dump(_plain(row))
        return
    for row in done.failed:
        line(f"{row['case']}: {row['state']}, {row['code']}: {row['detail']}")
    line(f"{len(done.rows)} cases, {len(done.failed)} failed")
    summaries(done.summary)
    line(str(done.folder / "report.html"))


def summaries(summary: Any) -> None:
    """Write a table of means with intervals."""
    rows: list[tuple[str, ...]] = [_SUMMARY_HEAD]
    rows += [_summary_row(name, value) for name, value in summary.items()]
    table(rows)


def comparison(done: Comparison, *, as_json: bool) -> None:
    """Write the tests of a comparison."""
    _notes(done.findings)
    if as_json:
        for row in done.rows:
            dump(_plain(dataclasses.asdict(row)))
        return
    line(f"{done.cases} cases in common, {done.left_out} left out; against {done.runs[0]}")
    rows = [("RUN", "METRIC", "N", "DIFFERENCE", "95 % INTERVAL", "P", "P (HOLM)", "BETTER")]
    rows += [
        (
            *(row.second, row.metric, str(row.n), _number(row.difference)),
            *(_interval(row.low, row.high), _number(row.p), _number(row.p_holm), row.better),
        )
        for row in done.rows
    ]
    table(rows)


def cross_validation(done: CrossValidation, *, as_json: bool) -> None:
    """Write the out-of-fold summary of the method under test."""
    if as_json:
        for row in done.rows:
            dump(_plain(dict(row)))
        return
    cases = len({row["case"] for row in done.rows})
    line(f"{cases} cases, each judged by the fold that did not see it; {done.folds} folds")
    if done.reused:
        line(f"{done.reused} folds had been finished before")
    summaries(next(iter(done.summary.values())))
    line(str(done.folder / "report.html"))


def _summary_row(name: str, value: Summary) -> tuple[str, ...]:
    centre = (_number(value.mean), _interval(value.low, value.high), _number(value.median))
    return (name, *centre, str(value.n), str(value.undefined))


def _notes(findings: Iterable[Finding]) -> None:
    for finding in findings:
        note(f"{finding.code}: {finding.detail}")


def _interval(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}" if math.isfinite(low) else "-"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    undefined = {k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)}
    return {k: None if k in undefined else v for k, v in row.items()}
