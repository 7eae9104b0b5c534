"""Plots of the results, small PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.accuracy.bench import BASELINES
from benchmarks.accuracy.disturb import LEVELS
from benchmarks.accuracy.results import Results

__all__ = ["plot_dice", "plot_robustness", "plot_subsets"]

OURS, PEER, NONE = "#0b6e99", "#c2571a", "#8a8a8a"
LABELS = {
    "shift_mm": "CT and MR shifted, mm",
    "rotation_deg": "CT and MR turned, degrees",
    "noise": "noise, share of the window",
    "bias_field": "bias field of the MR, log amplitude",
    "pet_scale": "PET multiplied by",
    "resolution_mm": "no finer than, mm",
}


def plot_dice(results: Results, path: Path) -> None:
    """Mean Dice per experiment: interval over patients, a dot per seed."""
    names = [*reversed(BASELINES), *reversed(results.names)]
    figure, axes = plt.subplots(figsize=(10, 0.34 * len(names) + 1.1))
    for place, name in enumerate(names):
        found = results.summary(name)["dice"]
        color = _color(results, name)
        axes.plot([found.low, found.high], [place, place], color=color, lw=2)
        axes.plot(found.mean, place, "o", color=color, ms=7)
        seeds = results.seed_means(name)
        if len(seeds) > 1:
            axes.plot(seeds, [place] * len(seeds), "|", color="black", ms=9)
    axes.set_yticks(range(len(names)), [results.title(name) for name in names])
    axes.set_xlabel("mean Dice, 95 % interval; | is a seed")
    _finish(figure, axes, path)


def plot_subsets(results: Results, names: Sequence[str], path: Path) -> None:
    """How far Dice falls without some of the modalities."""
    subsets = results.subset_names()[1:]
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    width = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        drops = [results.subset(name, subset) for subset in subsets]
        places = [i + (number - (len(names) - 1) / 2) * width for i in range(len(subsets))]
        color = plt.get_cmap("tab10")(number)
        axes.bar(places, [d.drop for d in drops], width, color=color, label=results.title(name))
    axes.set_xticks(range(len(subsets)), [s.replace("+", "\n+ ") for s in subsets])
    axes.set_ylabel("fall of mean Dice\nagainst all modalities")
    axes.axhline(0, color="black", lw=0.8)
    figure.legend(fontsize=7, ncols=1, loc="outside upper left")
    _finish(figure, axes, path)


def plot_robustness(results: Results, names: Sequence[str], path: Path) -> None:
    """Mean Dice over the level of each disturbance."""
    figure, grid = plt.subplots(2, 3, figsize=(9, 5.4), sharey=True, layout="constrained")
    for axes, kind in zip(grid.flat, LEVELS, strict=True):
        for number, name in enumerate(names):
            points = results.curve(name, kind)
            color = plt.get_cmap("tab10")(number)
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, "o-", ms=3, color=color, label=results.title(name))
        axes.set_xlabel(LABELS[kind], fontsize=8)
        axes.grid(alpha=0.3)
    grid[0, 0].set_ylabel("mean Dice")
    grid[1, 0].set_ylabel("mean Dice")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, ncols=2, loc="outside upper left")
    _finish(figure, None, path)


def _color(results: Results, name: str) -> str:
    if name in BASELINES:
        return NONE
    return OURS if results.plan.experiments[name].group == "ours" else PEER


def _finish(figure: Any, axes: Any, path: Path) -> None:
    if axes is not None:
        axes.grid(alpha=0.3, axis="both")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
