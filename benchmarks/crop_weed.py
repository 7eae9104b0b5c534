"""Ways to fuse two spectral bands on real pictures of a field, at equal parameters.

    differseg-med prepare crop_weed --source DIR --out DATA --folds 0
    python benchmarks/crop_weed.py DATA [--seeds 0 1 2] [--epochs 32] [--out docs/results]
    python benchmarks/crop_weed.py --short [--out out/bench]    # made-up pictures, two networks

Trains on the training scenes through the bundle ``crop_weed`` and tests on its held-out scenes, one
run after the other: method by seed. A run that is in the CSV file is not repeated, so that an
interrupted benchmark goes on. Everything but the network is the same: pictures of 208 x 160, crops
of 80 x 80, steps, augmentation, schedule, average of weights; the weights after the last step are
tested, nothing is chosen by a figure. Writes ``crop_weed.csv`` (one row per run, bands at hand and
picture) and ``crop_weed.md``. Pictures and trained weights are for non-commercial research only and
are not written to the results. One thread of a CPU is enough.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from differseg_med.engine import tune_process

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundles" / "crop_weed" / "configs"
COLUMNS = ("method", "seed", "bands", "picture", "dice", "sensitivity", "precision")
SIZE = (208, 160)
EPOCHS = 32
NORM = ["group", {"num_groups": 8}]


def network(
    in_channels: Any,
    channels: Sequence[int] = (8, 16, 32, 64),
    decoder: Sequence[int] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Our encoder and a plain decoder in the smallest size, at other widths or another fusion."""
    made = {
        "_target_": "differseg_med.networks.DifferSeg",
        "spatial_dims": 2,
        "in_channels": in_channels,
        "size": "tiny",
        "norm": NORM,
        "decoder": "unet",
        "encoder_options": {"channels": list(channels)},
        "decoder_channels": list(decoder or channels),
        **options,
    }
    return {key: value for key, value in made.items() if value is not None}


EARLY = {
    "_target_": "differseg_med.networks.EarlyFusion",
    "in_channels": "@channels",
    "network": network([2], (8, 16, 32, 96), (16, 24, 40, 64)),
}
LATE = {
    "_target_": "differseg_med.networks.LateFusion",
    "in_channels": "@channels",
    "network": {**network(None, (8, 16, 32, 64), (8, 16, 24, 48)), "_mode_": "callable"},
}
SINGLE = network("@channels", (8, 16, 32, 96), (16, 24, 40, 64))
METHODS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "dpf": (network("@channels"), ("red", "nir")),
    "concat": (
        network("@channels", fusion="concat", decoder_options={"fusion_width": 2.0}),
        ("red", "nir"),
    ),
    "early": (EARLY, ("red", "nir")),
    "late": (LATE, ("red", "nir")),
    "nir_alone": (SINGLE, ("nir",)),
    "red_alone": (SINGLE, ("red",)),
}
TITLES = {
    "dpf": "DPF at every level (ours)",
    "concat": "concatenation at every level",
    "early": "early fusion (bands as channels)",
    "late": "late fusion (a network per band, logits averaged)",
    "nir_alone": "near infrared alone",
    "red_alone": "red alone",
}


def settings(method: str, seed: int, data: Path, run: Path, epochs: int) -> dict[str, Any]:
    """What lies over the bundle's configuration."""
    definition, bands = METHODS[method]
    return {
        "network_def": definition,
        "modalities": list(bands),
        "required": list(bands[:1]),
        "reference": bands[0],
        "channels": [1] * len(bands),
        "image_size": list(SIZE),
        "patch_size": [80, 80],
        "sliding_window#roi_size": list(SIZE),
        "seed": seed,
        "max_epochs": epochs,
        "val_interval": epochs,
        "batch_size": 2,
        "samples_per_case": 2,
        "learning_rate": 3.0e-3,
        "cache_rate": 1.0,
        "dataset_dir": str(data),
        "datalist": str(data / "datalist.json"),
        "run_dir": str(run),
    }


def train(values: Mapping[str, Any]) -> Any:
    """Train through the bundle, as ``python -m monai.bundle run training`` does."""
    from monai.bundle import ConfigWorkflow

    made = ConfigWorkflow(
        config_file=str(CONFIGS / "train.yaml"),
        run_id="training",
        logging_file=False,
        workflow_type="train",
        **values,
    )
    made.initialize()
    made.run()
    made.finalize()
    return made.parser


def test(parser: Any, bands: Sequence[str], data: Path) -> list[dict[str, Any]]:
    """Every test picture with all bands and, where there are two, with each alone."""
    import torch

    from differseg_med.data import LoadImageModalitiesd, ToReferenceGridd, load_datalist
    from differseg_med.metrics import case_metrics

    options = parser.get_parsed_content("load_options")
    load = LoadImageModalitiesd(**options, label_key="label", label_on="reference")
    prepare, back = parser.get_parsed_content("prepare"), ToReferenceGridd("pred")
    net = parser.get_parsed_content("average").module.eval()
    absent: dict[str, int | None] = {"+".join(bands): None}
    if len(bands) == 2:
        absent |= {bands[0]: 1, bands[1]: 0}
    rows = []
    for case in load_datalist(data / "datalist.json", "test", data, bands, bands[:1]):
        item = prepare(load(case))
        truth = item["label"][0].numpy()
        for name, band in absent.items():
            image = item["image"].clone()
            if band is not None:
                image[band] = float("nan")
            with torch.inference_mode():
                item["pred"] = torch.sigmoid(net(image[None].as_tensor()))[0]
            mask = back(item)["pred"][0].numpy() >= 0.5
            found = case_metrics(mask, truth, (1.0, 1.0), nsd_tolerance_mm=3.0, names=COLUMNS[4:])
            kept = {key: f"{found[key]:.4f}" for key in COLUMNS[4:]}
            rows.append({"bands": name, "picture": case["case"], **kept})
    return rows


def one_run(method: str, seed: int, data: Path, epochs: int) -> tuple[list[dict[str, Any]], int]:
    """Train and test once; rows by picture and bands, and the number of parameters."""
    with tempfile.TemporaryDirectory() as folder:
        parser = train(settings(method, seed, data, Path(folder), epochs))
        count = sum(p.numel() for p in parser.get_parsed_content("network").parameters())
        rows = test(parser, METHODS[method][1], data)
    return [{"method": method, "seed": seed, **row} for row in rows], count


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of the runs that are done."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows; the file is replaced whole, so that a run is in it entirely or not at all."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def parameters(method: str) -> int:
    """Parameters of a method's network."""
    from monai.bundle import ConfigParser

    definition, bands = METHODS[method]
    parser = ConfigParser({"channels": [1] * len(bands), "net": definition})
    return sum(p.numel() for p in parser.get_parsed_content("net").parameters())


def means(rows: Sequence[Mapping[str, Any]], method: str, bands: str) -> dict[str, list[float]]:
    """Dice of every picture by seed, in order of pictures."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if (row["method"], row["bands"]) == (method, bands):
            found.setdefault(str(row["seed"]), {})[row["picture"]] = float(row["dice"])
    return {seed: [v for _, v in sorted(values.items())] for seed, values in found.items()}


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The results in Markdown, whatever they are."""
    done = [m for m in METHODS if any(row["method"] == m for row in rows)]
    cells = [_method_row(rows, method) for method in done]
    return "".join([*_head(rows), *cells, *_comparison(rows, done), _TAIL])


def _head(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    scenes = len({row["picture"] for row in rows})
    return [
        _HEAD.replace("SCENES", str(scenes)),
        "| network | parameters | seeds | both bands | red only | near infrared only |"
        " lowest, highest seed |\n|-|-|-|-|-|-|-|\n",
    ]


def _method_row(rows: Sequence[Mapping[str, Any]], method: str) -> str:
    import numpy as np

    from differseg_med.metrics import summarise

    cells, spread, seeds = [], "-", 0
    for bands in ("red+nir", "red", "nir"):
        found = means(rows, method, bands)
        if not found:
            cells.append("-")
            continue
        seeds = len(found)
        one = summarise({"dice": list(np.mean(list(found.values()), axis=0))})["dice"]
        cells.append(f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]")
        if bands in ("red+nir", "+".join(METHODS[method][1])):
            by_seed = [float(np.mean(values)) for values in found.values()]
            spread = f"{min(by_seed):.3f}, {max(by_seed):.3f}"
    shown = " | ".join([f"{parameters(method):,}", str(seeds), *cells, spread])
    return f"| {TITLES[method]} | {shown} |\n"


def _comparison(rows: Sequence[Mapping[str, Any]], done: Sequence[str]) -> list[str]:
    """DPF against every other network, on the seeds that both have."""
    import numpy as np

    from differseg_med.metrics import holm, paired_test

    tests = {}
    ours = means(rows, "dpf", "red+nir")
    for method in (m for m in done if m != "dpf"):
        other = means(rows, method, "+".join(METHODS[method][1]))
        seeds = sorted(set(ours) & set(other))
        if seeds:
            pair = [np.mean([one[seed] for seed in seeds], axis=0) for one in (other, ours)]
            tests[method] = (len(seeds), paired_test(*pair))
    if not tests:
        return []
    adjusted = holm([test.p for _, test in tests.values()])
    lines = [_TESTS]
    for (method, (seeds, test)), p in zip(tests.items(), adjusted, strict=True):
        change = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
        lines.append(f"| {TITLES[method]} | {seeds} | {change} | {_p(test.p)} | {_p(p)} |\n")
    return lines


def _p(value: float) -> str:
    return "below 0.0001" if value < 0.0001 else f"{value:.4f}"


MADE = (
    "**MADE-UP PICTURES in the layout of the set that is described below, and a few steps: the "
    "figures say nothing about the networks or the set.**\n\n"
)

_HEAD = """# Fusion of two bands on real pictures

Crop against weed and soil in red and near-infrared pictures of a field
([CWFID](../reference/datasets.md#crop_weed), Haug and Ostermann 2015,
[doi:10.1007/978-3-319-16220-1_8](https://doi.org/10.1007/978-3-319-16220-1_8); 40 of its 60
pictures, at half their size). SCENES scenes are held out as one block of neighbours. All networks
are made of the same kind of encoder and plain decoder, whose widths bring their parameters within
3 % of each other, and share pictures of 208 x 160, crops of 80 x 80, steps, augmentation and
schedule; the averaged weights after the last step are tested.
These are small, short trainings: the figures compare ways of fusion and are no measure of what can
be reached on the set.

```bash
differseg-med prepare crop_weed --source CWFID --out DATA --folds 0
python benchmarks/crop_weed.py DATA
```

This page is written by that command (a 2-core x86 CPU shared with other work, one thread, no GPU);
[values of every picture](crop_weed.csv).

## Dice

Mean over scenes of the mean over seeds, with the 95 % bootstrap interval over scenes. *Red only*
and *near infrared only*: the same trained network with the other band absent at test.

"""

_TESTS = """
## DPF against the others

Difference in Dice on the same scenes and seeds (positive: DPF is better), with its interval;
Wilcoxon's signed-rank test over scenes, and the same adjusted for several tests (Holm).

| other network | seeds | difference | p | adjusted p |
|-|-|-|-|-|
"""

_TAIL = """
The interval and the tests are over scenes of one field and one camera, given these seeds; with few
seeds, chance in training adds to them. The weights are bound by the licence of the pictures
(non-commercial research) and are not part of this repository.
"""


def main() -> None:
    """Run what is not done, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="folder that prepare wrote")
    parser.add_argument(
        "--short", action="store_true", help="made-up pictures: figures say nothing"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.short == bool(options.data):
        parser.error("give the folder that prepare wrote, or --short")
    tune_process()
    import torch

    torch.set_num_threads(1)
    if not options.short:
        out = options.out or ROOT / "docs" / "results"
        run_all(options.data, options.methods, options.seeds, options.epochs, out)
        return
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or ROOT / "out" / "bench"
        run_all(made_pictures(Path(folder)), ["dpf", "concat"], [0], 2, out, MADE)


def made_pictures(folder: Path) -> Path:
    """Made-up pictures, prepared like the published ones."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.made_field import write_field
    from differseg_med.engine import prepare_dataset

    write_field(folder / "source")
    prepare_dataset("crop_weed", folder / "source", folder / "data", folds=0)
    return folder / "data"


def run_all(
    data: Path,
    methods: Sequence[str],
    seeds: Sequence[int],
    epochs: int,
    out: Path,
    remark: str = "",
) -> None:
    """Every run that has no rows yet; the page is written again after each."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / "crop_weed.csv"
    rows: list[dict[str, Any]] = list(read_rows(table))
    plan = [(method, seed) for seed in seeds for method in methods]
    done = {(row["method"], int(row["seed"])) for row in rows}
    for number, (method, seed) in enumerate(plan, 1):
        if (method, seed) in done:
            continue
        start = time.process_time()
        new, count = one_run(method, seed, data.resolve(), epochs)
        rows += new
        write_rows(table, rows)
        (out / "crop_weed.md").write_text(remark + page(rows), encoding="utf-8")
        whole = [float(row["dice"]) for row in new if row["bands"] == new[0]["bands"]]
        sys.stderr.write(
            f"run {number}/{len(plan)} {method} seed {seed}: {count} parameters, mean Dice "
            f"{sum(whole) / len(whole):.3f}, {time.process_time() - start:.0f} s of CPU\n"
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
