"""The page of results: tables and plots made from the tables of a profile."""

from __future__ import annotations

import math
import platform
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.accuracy.bench import BASELINES
from benchmarks.accuracy.disturb import LEVELS
from benchmarks.accuracy.findings import factors
from benchmarks.accuracy.plan import Plan, Profile
from benchmarks.accuracy.plots import plot_dice, plot_robustness, plot_subsets
from benchmarks.accuracy.results import Results
from differseg_med.engine import describe_environment
from differseg_med.errors import UsageError

__all__ = ["write_report"]


def write_report(plan: Plan, folder: Path, out: Path) -> Path:
    """Write the profile's page, its plots and the tables that they were made from.

    Args:
        plan: what is declared.
        folder: folder of the profile, with its tables.
        out: where the page goes; tables go to ``data`` in it.

    Returns:
        The page.

    Raises:
        UsageError: ``E_OPTION`` while the experiment that all are compared with has no runs.
    """
    results, stem = Results(plan, folder), plan.profile.page
    if plan.profile.first not in results.names:
        raise UsageError(
            "E_OPTION",
            f"{plan.profile.first!r}, which all others are compared with, has no runs yet",
            "Run train first.",
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "data").mkdir(exist_ok=True)
    for table in sorted(folder.glob("*.csv")):
        shutil.copyfile(table, out / "data" / f"{stem}-{table.name}")
    shown = [name for name in plan.profile.robustness if name in results.names]
    disturbed = [name for name in shown if results.curve(name, "noise")[1:]]
    plot_dice(results, out / f"{stem}-dice.png")
    plot_subsets(results, shown, out / f"{stem}-subsets.png")
    if disturbed:
        plot_robustness(results, disturbed, out / f"{stem}-robustness.png")
    parts = [
        *_heading(results),
        *_main_table(results),
        *factors(results),
        *_cost_table(results),
        *_subset_table(results),
        *(_robustness_table(results, disturbed) if disturbed else []),
        *_rates(results),
        *_files(results),
    ]
    page = out / f"{stem}.md"
    page.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")
    return page


def _heading(results: Results) -> list[str]:
    here, profile = describe_environment(), results.plan.profile
    packages = here["packages"]
    trained = [row for row in results.runs if row["train_cpu_s"]]
    minutes = sum(float(row["train_cpu_s"]) for row in trained) / 60
    days = sorted({row["started"][:10] for row in results.runs})
    commits = sorted(
        {row["commit"][:8] + "+" * row["commit"].endswith("+") for row in results.runs}
    )
    overrides = ", ".join(f"{k} {v}" for k, v in profile.overrides.items() if k != "val_interval")
    return [
        "# Accuracy" if profile.page == "accuracy" else f"# Accuracy, profile `{profile.name}`",
        "",
        *_what(profile),
        f"- **Profile** `{profile.name}` of `benchmarks/accuracy/experiments.yaml`: {overrides}; "
        f"everything else as in the bundle `{results.plan.bundle}`.",
        f"- **Machine** {_processor()}, {here['cpus']} cores, {here['threads']} thread per "
        f"process, no GPU, shared with other work; {here['system']}, Python {here['python']}, "
        f"torch {packages['torch']}, MONAI {packages['monai']}, NumPy {packages['numpy']}.",
        f"- **Date** {' to '.join(dict.fromkeys((days[0], days[-1])))}; "
        f"{len(trained)} trainings of {trained[0]['steps']} steps, "
        f"{minutes:.0f} minutes of processor time; commit {', '.join(commits)} "
        "(+: with changes that were not committed yet).",
        f"- **Command** `python -m benchmarks.accuracy train --profile {profile.name} "
        f"--dataset-dir DATA`, then `cost` and `report`.",
        "",
    ]


def _what(profile: Profile) -> list[str]:
    if profile.data == "phantom":
        return [
            "Phantoms, a handful of steps: a proof that every part runs. **The figures say nothing "
            "about the networks.**",
            "",
        ]
    return [
        "Every network is trained by the same bundle on the same patients, patches in the same "
        "order, augmentation, steps, optimiser, schedule, averaging and loss. The test patients "
        "are the ten of the bundle's datalist, with crop margins of 20 to 50 mm drawn anew "
        "(seed 0), on the PET's grid. Two baselines without a network stand beside every figure, "
        f"since the crop gives a part of the answer away. {profile.remark} What is shipped is in "
        "the [model card](../../bundles/sts_petctmr/docs/README.md).",
        "",
    ]


def _main_table(results: Results) -> list[str]:
    first = results.plan.profile.first
    others = [name for name in (*results.names, *BASELINES) if name != first]
    tests = results.against(first, others)
    rows = []
    for name in (*results.names, *BASELINES):
        found = results.summary(name)
        dice = found["dice"]
        row = [results.title(name), str(len(results.seeds(name)) or "-"), results.rate(name)]
        row += [f"**{dice.mean:.3f}** ({dice.low:.3f} to {dice.high:.3f})"]
        spread = results.seed_means(name)
        row += [" ".join(f"{v:.3f}" for v in spread) if len(spread) > 1 else "-"]
        row += [_number(found["hd95_mm"].mean, 1), _number(found["nsd"].mean, 3)]
        row += [_number(found["volume_error_ml"].mean, 0)]
        if name == first:
            row += ["", ""]
        else:
            pair, adjusted = tests[name]
            row += [f"{pair.difference:+.3f} ({pair.low:+.3f} to {pair.high:+.3f})"]
            row += [f"{pair.p:.3g} ({adjusted:.3g})"]
        rows.append(row)
    head = ["network", "seeds", "rate", "Dice (95 %)", "Dice by seed", "HD95 mm", "NSD 3 mm"]
    head += ["abs. volume error mL", f"Dice against {results.title(first)}", "p (Holm)"]
    return [
        "## Dice on the test patients",
        "",
        f"![Dice by network]({results.plan.profile.page}-dice.png)",
        "",
        *_table(head, rows),
        "",
        "Means over patients after averaging the seeds of a patient; intervals: 95 % bootstrap "
        f"over the {results.patients} patients; differences: paired over the seeds that both have; "
        "p: Wilcoxon signed-rank test over patients, in brackets adjusted for all rows (Holm). "
        "Networks and seeds share these patients: an interval says what other patients of this "
        "collection might give, not what other collections would.",
        "",
    ]


def _cost_table(results: Results) -> list[str]:
    rows = []
    for name in results.names:
        cost = results.costs.get(name)
        if cost is None:
            continue
        runs = [row for row in results.runs if row["experiment"] == name]
        seconds = [float(r["train_cpu_s"]) / float(r["steps"]) for r in runs if r["train_cpu_s"]]
        subset_runs = sum(r["experiment"] == name for r in results.subsets) / len(runs)
        case = sum(float(r["subsets_cpu_s"]) for r in runs) / len(runs) / subset_runs
        rows.append([
            results.title(name),
            f"{int(cost['parameters']) / 1e6:.2f}",
            f"{float(cost['gflop_forward']):.2f}",
            f"{float(cost['peak_step_mb']):.0f}",
            f"{1000 * float(cost['step_s']):.0f}",
            f"{1000 * float(cost['forward_s']):.0f}",
            f"{1000 * sum(seconds) / len(seconds):.0f}" if seconds else "-",
            f"{1000 * case:.0f}",
        ])  # fmt: skip
    if not rows:
        return []
    any_cost = next(iter(results.costs.values()))
    head = ["network", "parameters, millions", "GFLOP forward", "peak of a step, MB"]
    head += ["step, ms", "forward, ms", "step in training, ms", "test case, ms"]
    return [
        "## What it costs",
        "",
        *_table(head, rows),
        "",
        f"FLOPs, peak, step and forward: one patch of {any_cost['patch']} voxels, batch 1, "
        f"{any_cost['threads']} thread; processor time, medians of {any_cost['repeats']} repeats "
        "taken in turns over all networks. FLOPs as torch counts them (a multiplication and an "
        "addition are two); the peak without weights and gradients. Step in training: the bundle's "
        "whole step with loading, augmentation, optimiser and averaging, batch as in the profile. "
        "Test case: sliding windows, the way back to the PET's grid and all metrics.",
        "",
    ]


def _subset_table(results: Results) -> list[str]:
    subsets = results.subset_names()
    rows, cases = [], 0
    for name in results.names:
        cells = [results.title(name)]
        for subset in subsets:
            found = results.subset(name, subset)
            cases = max(cases, found.cases)
            if subset == subsets[0]:
                cells.append(f"{found.dice:.3f}")
            else:
                cells.append(f"{found.dice:.3f} ({0 - found.drop:+.3f})")
        rows.append(cells)
    return [
        "## Missing modalities",
        "",
        f"![Fall of Dice without some modalities]({results.plan.profile.page}-subsets.png)",
        "",
        *_table(["network", *subsets], rows),
        "",
        f"Mean Dice on the {cases} test patients that have all modalities, with those of the "
        "column left; in brackets the change against all of them. Without PET the masks still lie "
        "on the PET's grid. In training some patients lack CT or MR, and each modality is dropped "
        "at the bundle's rate unless the row says otherwise.",
        "",
        *_drops(results),
    ]


def _drops(results: Results) -> list[str]:
    """Falls with one modality missing, ours against the peer that falls least."""
    subsets = results.subset_names()
    whole = subsets[0].split("+")
    lines = []
    for subset in [name for name in subsets if name.count("+") == len(whole) - 2]:
        (missing,) = set(whole) - set(subset.split("+"))
        falls = {name: results.subset(name, subset).drop for name in results.names}
        groups = {name: results.plan.experiments[name].group for name in falls}
        least = {
            group: min((n for n in falls if groups[n] == group), key=falls.__getitem__, default="")
            for group in ("ours", "peer")
        }
        if not all(least.values()):
            return []
        ours, peer = least["ours"], least["peer"]
        lines.append(
            f"- {missing}: of ours {results.title(ours)} falls least ({falls[ours]:+.3f}), "
            f"of the peers {results.title(peer)} ({falls[peer]:+.3f}); "
            f"{results.title(results.plan.profile.first)}: "
            f"{falls[results.plan.profile.first]:+.3f}."
        )
    return ["Fall of Dice with one modality missing (positive is worse):", "", *lines, ""]


def _robustness_table(results: Results, names: Sequence[str]) -> list[str]:
    conditions = [(kind, level) for kind, levels in LEVELS.items() for level in levels]
    rows = []
    start = {name: results.curve(name, "noise")[0][1] for name in names}
    rows.append(["none", *(f"{start[name]:.3f}" for name in names)])
    curves = {(n, k): dict(results.curve(n, k)) for n in names for k in LEVELS}
    for kind, level in conditions:
        values = [curves[name, kind][level] for name in names]
        label = f"{kind.replace('_', ' ')} {level:g}"
        changes = [f"{v:.3f} ({v - start[n]:+.3f})" for n, v in zip(names, values, strict=True)]
        rows.append([label, *changes])
    seeds = sorted({row["seed"] for row in results.robustness})
    return [
        "## Robustness",
        "",
        f"![Dice under disturbances]({results.plan.profile.page}-robustness.png)",
        "",
        *_table(["disturbance", *(results.title(name) for name in names)], rows),
        "",
        f"Mean Dice over the test patients, weights of seed {', '.join(seeds)}, one draw per "
        "patient and kind. CT and MR are moved against the PET each their own way (by their "
        "affines); noise is Gaussian in shares of each modality's intensity window; the bias field "
        "multiplies the MR; in resolution no modality is finer than the level. A first layer per "
        "modality without bias, followed by group norm, as in DifferSeg, does not see the scale of "
        "its modality but for the window's upper end.",
        "",
    ]


def _rates(results: Results) -> list[str]:
    if not results.rates:
        return []
    own = results.plan.profile
    rates = list(dict.fromkeys(row["learning_rate"] for row in results.rates))
    lengths = sorted({int(row["epochs"]) for row in results.rates})
    columns = [(epochs, rate) for epochs in lengths for rate in rates]
    rows = []
    for name in dict.fromkeys(row["experiment"] for row in results.rates):
        found = {
            (int(r["epochs"]), r["learning_rate"]): f"{float(r['validation_dice']):.3f}"
            for r in results.rates
            if r["experiment"] == name
        }
        cells = [found.get(column, "-") for column in columns]
        rows.append([results.title(name), *cells, results.rate(name)])
    heads = [f"{rate}, {epochs} epochs" for epochs, rate in columns]
    return [
        "## Search of the learning rate",
        "",
        *_table(["network", *heads, "chosen"], rows),
        "",
        f"Dice on the validation patients after a training of {own.search_epochs} epochs (seed 0); "
        f"rates within {own.search_margin:g} of the best are trained to full length and judged "
        "again. Experiments that are not in the table take the rate of the network that they are a "
        "variant of. Four validation patients are few: the choice is noisy.",
        "",
    ]


def _files(results: Results) -> list[str]:
    tables = sorted(results.folder.glob("*.csv"))
    links = ", ".join(f"[{t.stem}](data/{results.plan.profile.page}-{t.name})" for t in tables)
    return [
        "## Values",
        "",
        f"Per case, experiment and seed: {links}. `python -m benchmarks.accuracy report` makes "
        "this page from them.",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'-|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "a processor"
