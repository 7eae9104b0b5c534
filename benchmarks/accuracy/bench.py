"""One job of the benchmark from data to rows: search, train, evaluate, take apart, disturb."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.evaluation import Tested, load_images, robustness, subsets
from benchmarks.accuracy.jobs import append_rows, locked, read_table
from benchmarks.accuracy.plan import Experiment, Plan
from benchmarks.accuracy.training import Place, evaluating, search_rate, train
from differseg_med.bundle import find_bundle
from differseg_med.data.phantom import write_phantom_nifti
from differseg_med.engine import describe_environment

__all__ = ["Bench", "make_place"]

PHANTOMS = {"training": 4, "validation": 2, "test": 3}
BASELINES = ("box_ellipsoid", "suv_above_2")


def make_place(plan: Plan, dataset_dir: Path, folder: Path) -> Place:
    """The data of a profile: the bundle's own datalist, or phantoms that are made here."""
    if plan.profile.data == "phantom":
        root = folder / "phantoms"
        return Place(root, _write_phantoms(root), folder)
    datalist = find_bundle(plan.bundle).root / "configs" / "datalist.json"
    return Place(dataset_dir.resolve(), datalist, folder)


def _write_phantoms(root: Path) -> Path:
    datalist = root / "datalist.json"
    if datalist.is_file():
        return datalist
    folders = iter(write_phantom_nifti(root, sum(PHANTOMS.values()), leave_out={"ct": {1}}))
    content = {
        section: [_entry(next(folders)) for _ in range(count)]
        for section, count in PHANTOMS.items()
    }
    datalist.write_text(json.dumps(content, indent=2) + "\n")
    return datalist


def _entry(folder: Path) -> dict[str, str]:
    files = {path.name.split(".")[0]: f"{folder.name}/{path.name}" for path in folder.iterdir()}
    label = files.pop("pet_gtv")
    return {"case": folder.name, **files, "label": label}


class Bench:
    """What one job needs.

    Args:
        plan: what is declared.
        place: where data is and where results go.
    """

    def __init__(self, plan: Plan, place: Place) -> None:
        self.plan, self.place = plan, place

    def job(self, experiment: Experiment, seed: int) -> Mapping[str, Any]:
        """Train, evaluate in every way, append the rows."""
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        folder = self.place.run(experiment.name, seed)
        if experiment.shipped:
            weights, rate, trained = _shipped(self.plan), "", {"steps": ""}
        else:
            weights, rate = folder / "model.pt", self.rate(experiment)
            trained = train(self.plan, experiment, seed, rate, self.place)
        out = folder / "eval"
        parser = evaluating(self.plan, experiment, weights, out, self.place)
        key = {"experiment": experiment.name, "seed": seed}
        self._append_cases(key, read_table(out / "cases.csv"))
        tested = Tested(parser)
        start = time.process_time()
        self._append("subsets", key, subsets(tested))
        spent = {"subsets_cpu_s": round(time.process_time() - start, 1)}
        own = self.plan.profile
        if experiment.name in own.robustness and (
            experiment.shipped or seed in own.robustness_seeds
        ):
            step = parser.get_parsed_content("spacing_mm")[0]
            file = self.place.folder / f"disturbed_{step:g}mm.npz"
            with locked(file):
                images = load_images(file, parser, tested)
            self._append("robustness", key, robustness(tested, images))
        result = {**key, "learning_rate": rate, **trained, **spent, "started": started}
        result |= {"commit": describe_environment()["commit"]}
        self._append("runs", key, [result])
        return result

    def rate(self, experiment: Experiment) -> float:
        """The learning rate that served best, searched once.

        Short trainings first; rates that they leave within the profile's margin of the best are
        trained to full length.
        """
        own = self.plan.profile
        if len(own.learning_rates) == 1:
            return own.learning_rates[0]
        source = self.plan.experiments[experiment.rate_of]
        with locked(self.place.folder / source.name / "rates"):
            found = self._search(source, own.learning_rates, own.search_epochs)
            best = max(found.values())
            close = [rate for rate, dice in found.items() if dice > best - own.search_margin]
            if len(close) > 1:
                found = self._search(source, close, own.overrides["max_epochs"])
        return max(found, key=lambda rate: found[rate])

    def _search(
        self, experiment: Experiment, rates: Sequence[float], epochs: int
    ) -> dict[float, float]:
        key = {"experiment": experiment.name, "epochs": epochs}
        text = {name: str(value) for name, value in key.items()}
        rows = [r for r in self._table("rates") if text.items() <= r.items()]
        if not rows:
            found = search_rate(self.plan, experiment, self.place, rates, epochs)
            self._append(
                "rates",
                key,
                [{"learning_rate": r, "validation_dice": d} for r, d in found.items()],
            )
            return found
        return {float(row["learning_rate"]): float(row["validation_dice"]) for row in rows}

    def _append_cases(self, key: Mapping[str, Any], rows: list[dict[str, str]]) -> None:
        own = [{k: v for k, v in r.items() if k != "method"} for r in rows]
        names = [row["method"] for row in rows]
        pairs = list(zip(names, own, strict=True))
        self._append("cases", key, [row for name, row in pairs if name not in BASELINES])
        for baseline in BASELINES:
            found = [row for name, row in pairs if name == baseline]
            self._append("cases", {"experiment": baseline, "seed": ""}, found)

    def _table(self, name: str) -> list[dict[str, str]]:
        return read_table(self.place.folder / f"{name}.csv")

    def _append(self, name: str, key: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
        own = [{k: _plain(v) for k, v in row.items()} for row in rows]
        append_rows(self.place.folder / f"{name}.csv", key, own)


def _shipped(plan: Plan) -> Path:
    return find_bundle(plan.bundle).root / "models" / "model.pt"


def _plain(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
