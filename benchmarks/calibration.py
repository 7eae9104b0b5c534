"""Do probabilities mean what they say, and which score of a case finds the bad ones?

    OMP_NUM_THREADS=1 python benchmarks/calibration.py              # short, on phantoms
    OMP_NUM_THREADS=1 python benchmarks/calibration.py --data DATA  # writes docs/results
    python benchmarks/calibration.py --page                         # the page again, from its rows

`DATA` holds the files that the datalist of `sts_petctmr` names. The short run writes the
same page for three phantoms to out/bench; the network was not made for them, so its figures say
nothing but that everything works.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from differseg_med.engine import tune_process

tune_process()  # before torch is imported
sys.path.insert(0, str(Path(__file__).parents[1]))  # the parts stand beside this file

import torch  # noqa: E402

from benchmarks.case_quality.measure import Case, listed, measure, usual_volume  # noqa: E402
from benchmarks.case_quality.page import make_page  # noqa: E402
from benchmarks.case_quality.pictures import draw_reliability, draw_risk_coverage  # noqa: E402
from benchmarks.case_quality.summary import SHIPPED, pooled, table_of  # noqa: E402
from differseg_med.bundle import find_bundle, load_predictor  # noqa: E402
from differseg_med.data.phantom import write_phantom_nifti  # noqa: E402
from differseg_med.engine import sha256  # noqa: E402

BUNDLE = "sts_petctmr"
RESULTS = Path(__file__).parents[1] / "docs" / "results"
SHORT = Path("out", "bench")
ROWS = ("cases", "bins")
COMMAND = ("benchmarks/calibration.py", "--data", "DATA")


def main() -> None:
    """Measure and write, or write again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the cases; without: phantoms")
    parser.add_argument("--short", action="store_true", help="phantoms; what no option gives, too")
    parser.add_argument("--page", action="store_true", help="write the page from its rows")
    parser.add_argument("--out", type=Path, help="folder of the page; default docs/results")
    chosen = parser.parse_args()
    if chosen.short and chosen.data:
        parser.error("--short is on phantoms and takes no --data")
    torch.set_num_threads(1)
    out = chosen.out or (RESULTS if chosen.data or chosen.page else RESULTS.parents[1] / SHORT)
    if chosen.page:
        write_page(out)
    elif chosen.data:
        run(cases_of(chosen.data), chosen.data, out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(phantoms(Path(folder)), None, out)


def cases_of(folder: Path) -> list[tuple[str, Case]]:
    """Validation and test patients of the bundle."""
    return listed(find_bundle(BUNDLE), folder, ("validation", "test"))


def phantoms(folder: Path) -> list[tuple[str, Case]]:
    """One case to fit on and two to test on."""
    names = {"pet": "pet", "ct": "ct", "mr_t1": "mr_t1", "label": "pet_gtv"}
    made = write_phantom_nifti(folder, 3, seed=11)
    return [
        (
            "test" if number else "validation",
            {
                "case": case.name,
                **{key: str(case / f"{file}.nii.gz") for key, file in names.items()},
            },
        )
        for number, case in enumerate(made)
    ]


def run(cases: list[tuple[str, Case]], data: Path | None, out: Path) -> None:
    """Measure; write rows, pictures and page."""
    info = find_bundle(BUNDLE)
    predictor = load_predictor(info)
    usual = usual_volume(listed(info, data, ("training",))) if data else None
    rows, bins, temperature = measure(info, predictor, cases, usual)
    assert info.weights is not None
    about = {
        "bundle": BUNDLE,
        "weights_sha256": sha256([info.weights]),
        "data": "patients of the collection Soft-tissue-Sarcoma" if data else "PHANTOMS",
        "temperature": temperature,
        "date": date.today().isoformat(),
        "machine": "2-core x86 CPU, no GPU, shared with other work",
        "threads": torch.get_num_threads(),
        "versions": f"Python {platform.python_version()}, torch {version('torch')}",
        "cpu_minutes": time.process_time() / 60,
        "command": f"OMP_NUM_THREADS=1 python {' '.join(COMMAND[: 3 if data else 1])}",
    }
    folder = out / "calibration"
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip(ROWS, (rows, bins), strict=True):
        write_rows(folder / f"{name}.csv", part)
    (folder / "run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    write_page(out)


def write_page(out: Path) -> None:
    """The page and its pictures, from the rows beside it."""
    folder = out / "calibration"
    rows, bins = (read_rows(folder / f"{name}.csv") for name in ROWS)
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (out / "calibration.md").write_text(make_page(rows, bins, about), encoding="utf-8")
    titles = {"near": "near the lesion", "all": "whole image"}
    tables = {
        title: tuple(pooled(table_of(bins, "test", region, scaled)) for scaled in ("no", "yes"))
        for region, title in titles.items()
    }
    draw_reliability(tables, float(about["temperature"]), folder / "reliability.png")
    test = [row for row in rows if row["section"] == "test"]
    draw_risk_coverage(test, SHIPPED, folder / "risk_coverage.png")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as CSV with short numbers."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(read_back(rows))


def read_back(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Rows as they stand in a file, so that a page is the same whichever it is made from."""
    return [{key: _text(value) for key, value in row.items()} for row in rows]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return str(value)


if __name__ == "__main__":
    main()
