"""Where differential perception fusion and the frequency-guided decoder help, in one paragraph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.accuracy.results import Results
from differseg_med.metrics import Paired, holm

__all__ = ["factors", "verdict"]

CHANGES: Sequence[tuple[str, str, str]] = (
    ("DPF in place of concatenation, U-shaped decoder", "concat_unet", "dpf_unet"),
    ("DPF in place of concatenation, FGD", "concat_fgd", "full"),
    ("FGD in place of the U-shaped decoder, concatenation", "concat_unet", "concat_fgd"),
    ("FGD in place of the U-shaped decoder, DPF", "dpf_unet", "full"),
    ("both", "concat_unet", "full"),
    ("DPF with one encoder below it, in place of concatenation, FGD", "concat_fgd", "joint_fgd"),
    ("DPF in place of concatenation, one encoder below, FGD", "concat_joint_fgd", "joint_fgd"),
    (
        "DPF with one encoder below it, in place of concatenation, U-shaped decoder",
        "concat_unet",
        "joint_levels",
    ),
    (
        "DPF in place of concatenation, one encoder below, U-shaped decoder",
        "concat_joint_unet",
        "joint_levels",
    ),
)
"""One change at a time: what, from, to."""


BETTER, WORSE, OPEN = "better", "worse", "no difference to be seen"
HIGHER, LOWER = "higher, not significant", "lower, not significant"
SIGNIFICANT = 0.05


def verdict(pair: Paired, by_seed: Sequence[float], adjusted: float) -> str:
    """A word for a difference.

    The seeds must agree in its direction. It is proven where Holm's p over all rows is below 0.05,
    and a hint where the interval over patients is without zero.

    Args:
        pair: the difference, paired over patients.
        by_seed: mean difference for each seed.
        adjusted: Holm's p.
    """
    if len(by_seed) < 2:
        return "one seed: open"
    up, down = min(by_seed) > 0, max(by_seed) < 0
    if not (up or down) or pair.low <= 0 <= pair.high:
        return OPEN
    if adjusted < SIGNIFICANT:
        return BETTER if up else WORSE
    return HIGHER if up else LOWER


@dataclass(frozen=True)
class _Change:
    what: str
    pair: Paired
    seeds: Sequence[float]
    adjusted: float
    costs: tuple[str, str]

    @property
    def verdict(self) -> str:
        return verdict(self.pair, self.seeds, self.adjusted)


def factors(results: Results) -> list[str]:
    """A table of one change at a time and a paragraph that says it in words."""
    done = _changes(results)
    if not done:
        return []
    lines = [
        "## Where DPF and FGD help",
        "",
        "| change | Dice | by seed | p (Holm) | parameters | step | verdict |",
        "|-|-|-|-|-|-|-|",
    ]
    for change in done:
        pair = change.pair
        lines.append(
            f"| {change.what} | {pair.difference:+.3f} ({pair.low:+.3f} to {pair.high:+.3f}) "
            f"| {' '.join(f'{value:+.3f}' for value in change.seeds)} "
            f"| {pair.p:.3g} ({change.adjusted:.3g}) | {change.costs[0]} | {change.costs[1]} "
            f"| {change.verdict} |"
        )
    return [*lines, "", _paragraph(done), ""]


def _changes(results: Results) -> list[_Change]:
    found = [(what, a, b) for what, a, b in CHANGES if a in results.names and b in results.names]
    pairs = [results.paired(a, b) for _, a, b in found]
    adjusted = holm([pair.p for pair in pairs])
    return [
        _Change(what, pair, results.paired_by_seed(a, b), p, _costs(results, a, b))
        for (what, a, b), pair, p in zip(found, pairs, adjusted, strict=True)
    ]


def _costs(results: Results, first: str, second: str) -> tuple[str, str]:
    if first not in results.costs or second not in results.costs:
        return "-", "-"
    of, to = results.costs[first], results.costs[second]
    ratios = [float(to[key]) / float(of[key]) for key in ("parameters", "step_s")]
    return f"x {ratios[0]:.2f}", f"x {ratios[1]:.2f}"


def _paragraph(done: Sequence[_Change]) -> str:
    words = {
        BETTER: "Dice is higher with every seed, p below 0.05 after Holm's correction, with",
        HIGHER: "Dice is higher with every seed, by an interval over patients without zero, but "
        "not significantly after the correction, with",
        WORSE: "Dice is lower with every seed, p below 0.05 after Holm's correction, with",
        LOWER: "Dice is lower with every seed, by an interval over patients without zero, but not "
        "significantly after the correction, with",
        OPEN: "No difference can be told from chance for",
    }
    groups: dict[str, list[str]] = {word: [] for word in words}
    for change in done:
        groups.setdefault(change.verdict, []).append(
            f"{change.what} ({change.pair.difference:+.3f})"
        )
    said = [f"{words[key]} {'; '.join(groups[key])}." for key in words if groups[key]]
    patients = max(change.pair.n for change in done)
    fewest, most = (f(len(change.seeds) for change in done) for f in (min, max))
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    said.append(
        f"That is one collection, {patients} test patients, {seeds}, and a short training; the "
        "interval is over patients, one that includes zero is no proof of equality, and the "
        "columns say what a change costs in parameters and in processor time of a training step."
    )
    return " ".join(said)
