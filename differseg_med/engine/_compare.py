"""Paired comparison of runs on the same cases."""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from differseg_med.engine._results import (
    FAILED,
    RunResults,
    plain_number,
    read_results,
    write_rows,
    write_text,
)
from differseg_med.engine._results_html import page, table
from differseg_med.errors import Finding, OutputError, UsageError
from differseg_med.metrics import METRICS, check_names, holm, paired_test

__all__ = ["Comparison", "PairedRow", "compare_runs"]

_TRUTH_ML = 1e-3
"""Two runs saw the same truth where its volume differs by no more than this share."""

_ENOUGH = 6
"""With fewer pairs the signed-rank test cannot reach p = 0.05."""


@dataclass(frozen=True)
class PairedRow:
    """One metric of one run against the first run.

    Attributes:
        metric: name of the metric.
        first: name of the first run.
        second: name of the other run.
        n: patients with a value in both.
        undefined: patients without a value in one of them.
        mean_first: mean of the first run over those pairs.
        mean_second: mean of the other run.
        difference: second minus first; of absolute values where zero is best.
        low: lower end of the 95 % interval of the difference.
        high: upper end.
        p: Wilcoxon signed-rank test.
        p_holm: the same, adjusted for all tests of the comparison.
        smallest_p: the smallest p that so many pairs can give.
        better: name of the run with the better mean, empty where they are equal.
    """

    metric: str
    first: str
    second: str
    n: int
    undefined: int
    mean_first: float
    mean_second: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    smallest_p: float
    better: str


@dataclass(frozen=True)
class Comparison:
    """Runs, compared with the first of them.

    Attributes:
        runs: names of the runs.
        cases: number of cases that all runs have.
        left_out: number of cases that only some runs have.
        rows: a row per run after the first and metric.
        failed: cases without a usable prediction by run.
        findings: what a reader should know.
    """

    runs: tuple[str, ...]
    cases: int
    left_out: int
    rows: tuple[PairedRow, ...]
    failed: dict[str, int]
    findings: tuple[Finding, ...]


def compare_runs(
    runs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    metrics: Sequence[str] = (),
    common: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> Comparison:
    """Test whether runs differ from the first one, case by case.

    Args:
        runs: two or more results; see `read_results` for how one is named.
        out: folder for ``comparison.csv``, ``comparison.json`` and ``comparison.html``.
        metrics: which to test; all that have a better direction and that all runs have if empty.
            Every further test makes the others harder to pass (Holm).
        common: compare on the cases that all runs have, and say how many were left out.
        seed: seed of the bootstrap.
        overwrite: replace a comparison that stands in `out`.

    Raises:
        UsageError: ``E_CASES`` when runs have other cases, truths or settings; ``E_OPTION``,
            ``E_PATH``.
        OutputError: ``E_EXISTS`` or ``E_WRITE``.
    """
    if len(runs) < 2:
        raise UsageError("E_OPTION", "at least two runs are compared")
    if out is not None and (Path(out) / "comparison.csv").exists() and not overwrite:
        raise OutputError("E_EXISTS", f"{Path(out).name} holds a comparison already")
    read = _named([read_results(run) for run in runs])
    cases, left_out = _shared(read, common=common)
    names = _tested(read, metrics)
    _check_same_truth(read, cases, names)
    rows = _rows(read, cases, names, seed)
    failed = {run.name: sum(_failed(run, case) for case in cases) for run in read}
    findings = _findings(rows, cases, left_out)
    done = Comparison(
        tuple(run.name for run in read), len(cases), left_out, tuple(rows), failed, findings
    )
    if out is not None:
        _write(Path(out), done)
    return done


def _named(runs: list[RunResults]) -> list[RunResults]:
    """Runs with names of their own: a name that stands twice gets a number."""
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else dataclasses.replace(run, name=f"{run.name} ({i})")
        for i, run in enumerate(runs, 1)
    ]


def _shared(runs: Sequence[RunResults], *, common: bool) -> tuple[list[str], int]:
    everywhere = set.intersection(*(set(run.rows) for run in runs))
    somewhere = set().union(*(set(run.rows) for run in runs))
    left_out = len(somewhere - everywhere)
    if left_out and not common:
        counts = ", ".join(f"{run.name}: {len(run.rows)}" for run in runs)
        raise UsageError(
            "E_CASES",
            f"{left_out} of {len(somewhere)} cases are not in every run ({counts})",
            "Evaluate the runs on the same cases, or use --common.",
        )
    if not everywhere:
        raise UsageError("E_CASES", "the runs have no case in common")
    return [case for case in runs[0].rows if case in everywhere], left_out


def _tested(runs: Sequence[RunResults], metrics: Sequence[str]) -> list[str]:
    there = set.intersection(*(set(next(iter(run.rows.values()))) for run in runs))
    if metrics:
        names = check_names(metrics)
        if absent := [name for name in names if name not in there]:
            raise UsageError("E_OPTION", f"not every run has the metric {', '.join(absent)}")
        return names
    return [n for n, metric in METRICS.items() if n in there and metric.better != "none"]


def _check_same_truth(
    runs: Sequence[RunResults], cases: Sequence[str], names: Sequence[str]
) -> None:
    """Refuse numbers that were not computed against the same thing in the same way."""
    for key in ("nsd_tolerance_mm", "ignore_label"):
        values = {str(run.settings[key]) for run in runs if key in run.settings}
        if len(values) > 1 and (key != "nsd_tolerance_mm" or "nsd" in names):
            raise UsageError("E_CASES", f"{key} is {' and '.join(sorted(values))} in these runs")
    first = runs[0].rows
    for run in runs[1:]:
        other = [c for c in cases if not _equal(_truth_ml(first[c]), _truth_ml(run.rows[c]))]
        if other:
            raise UsageError(
                "E_CASES",
                f"{runs[0].name} and {run.name} were evaluated against different truths in "
                f"{len(other)} of {len(cases)} cases, such as {other[0]}",
                "Evaluate the runs against the same truth on the same grid.",
            )


def _truth_ml(row: dict[str, object]) -> float:
    return float(str(row.get("truth_ml", "nan")))


def _equal(a: float, b: float) -> bool:
    return math.isnan(a) or math.isnan(b) or math.isclose(a, b, rel_tol=_TRUTH_ML, abs_tol=1e-9)


def _failed(run: RunResults, case: str) -> bool:
    return run.rows[case].get("state") in FAILED


def _rows(
    runs: Sequence[RunResults], cases: Sequence[str], names: Sequence[str], seed: int
) -> list[PairedRow]:
    first = runs[0]
    rows = [_row(first, run, cases, name, seed) for run in runs[1:] for name in names]
    adjusted = holm([row.p for row in rows])
    return [dataclasses.replace(r, p_holm=p) for r, p in zip(rows, adjusted, strict=True)]


def _row(
    first: RunResults, second: RunResults, cases: Sequence[str], name: str, seed: int
) -> PairedRow:
    metric = METRICS[name]
    patients = [str(first.rows[case].get("patient") or case) for case in cases]
    a, b = (
        [_value(run.rows[case][name], metric.better) for case in cases] for run in (first, second)
    )
    found = paired_test(a, b, patients, seed=seed)
    both = [(x, y) for x, y in zip(a, b, strict=True) if not (math.isnan(x) or math.isnan(y))]
    means = [sum(column) / len(both) for column in zip(*both, strict=True)] or [math.nan, math.nan]
    gain = found.difference if metric.better == "higher" else -found.difference
    better = second.name if gain > 0 else first.name if gain < 0 else ""
    return PairedRow(
        metric=name,
        first=first.name,
        second=second.name,
        n=found.n,
        undefined=len(set(patients)) - found.n,
        mean_first=means[0],
        mean_second=means[1],
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=found.p,
        p_holm=math.nan,
        smallest_p=found.smallest_p,
        better=better,
    )


def _value(value: float, better: str) -> float:
    return abs(value) if better == "zero" else value


def _findings(
    rows: Sequence[PairedRow], cases: Sequence[str], left_out: int
) -> tuple[Finding, ...]:
    findings = []
    if left_out:
        findings.append(
            Finding("W_CASES", f"{left_out} cases are not in every run and were left out")
        )
    fewest = min((row.n for row in rows), default=len(cases))
    if fewest < _ENOUGH:
        findings.append(
            Finding(
                "W_FEW_CASES",
                f"a test has {fewest} pairs; below {_ENOUGH} no difference can reach p = 0.05",
            )
        )
    return tuple(findings)


def _write(folder: Path, done: Comparison) -> None:
    rows = [dataclasses.asdict(row) for row in done.rows]
    write_rows(folder / "comparison.csv", rows)
    content = {
        **dataclasses.asdict(done),
        "rows": [
            {k: plain_number(v) if isinstance(v, float) else v for k, v in row.items()}
            for row in rows
        ],
    }
    write_text(folder / "comparison.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_text(folder / "comparison.html", _page(done))


_HEAD = (
    *("metric", "compared", "n", "undefined", "first", "second", "difference", "95 % interval"),
    *("p", "p (Holm)", "smallest p", "better"),
)


def _page(done: Comparison) -> str:
    facts = (
        f"{done.cases} cases in common, {done.left_out} left out. The difference is the other run "
        f"minus {done.runs[0]}, averaged within patients; for volume errors, of absolute values. "
        f"Wilcoxon signed-rank tests, two-sided; Holm's adjustment over all {len(done.rows)} tests "
        "of this page; intervals are 95 % paired bootstrap intervals of the mean difference. "
        "A large p is no proof of equality, and a failed case counts with the score of a failure "
        f"({', '.join(f'{name}: {n} failed' for name, n in done.failed.items())})."
    )
    remarks = "".join(
        f"<p><strong>{f.code}</strong>: {html.escape(f.detail)}</p>" for f in done.findings
    )
    cells = [
        [
            *(METRICS[row.metric].title, f"{row.second} against {row.first}"),
            *(str(row.n), str(row.undefined), _number(row.mean_first), _number(row.mean_second)),
            *(_number(row.difference), f"{_number(row.low)} to {_number(row.high)}"),
            *(_number(row.p), _number(row.p_holm), _number(row.smallest_p), row.better),
        ]
        for row in done.rows
    ]
    return page("Comparison", f"<p>{html.escape(facts)}</p>{remarks}{table(_HEAD, cells)}")


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"
