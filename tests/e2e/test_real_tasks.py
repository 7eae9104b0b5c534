"""Real cases of three datasets: prepared, trained on for one epoch, evaluated."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from differseg_med.engine import prepare_dataset

pytestmark = [pytest.mark.slow, pytest.mark.realdata]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("bundle", "dataset", "cases", "spacing"),
    [
        ("sts_petctmr", "sts", ["sts/sts_002", "sts/sts_007"], 5.0),
        ("sts_slices", "sts", ["sts/sts_002"], 6.0),
        ("ms_lesion", "open_ms", ["ms/ms_07", "ms/ms_19"], 4.0),
        ("stroke", "isles2022", ["stroke"], 2.0),
    ],
)
def test_real_cases_become_figures(
    bundle: str,
    dataset: str,
    cases: list[str],
    spacing: float,
    root: Path,
    shared: Path,
    tmp_path: Path,
) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    for case in cases:
        (source / Path(case).name).symlink_to(shared / "data" / case)
    prepare_dataset(dataset, source, data, split=False)
    configs = root / "bundles" / bundle / "configs"
    plane = 2 if bundle == "sts_slices" else 3
    settings = {
        "dataset_dir": str(data),
        "datalist": str(data / "datalist.json"),
        "run_dir": str(tmp_path / "run"),
        "output_dir": str(tmp_path / "eval"),
        "spacing_mm": [spacing] * 3,
        "patch_size": [48] * plane,
        "network_def#size": "tiny",
        "samples_per_case": 1,
        "max_epochs": 1,
        "val_interval": 1,
        "overlap": 0.0,
    }
    for run_id, files in (("training", ["train"]), ("evaluating", ["train", "evaluate"])):
        workflow = ConfigWorkflow(
            config_file=[str(configs / f"{name}.yaml") for name in files],
            run_id=run_id,
            logging_file=False,
            workflow_type="train",
            **settings,
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    rows = list(csv.DictReader((tmp_path / "eval" / "cases.csv").read_text().splitlines()))
    found = [row for row in rows if row["method"] == "differseg"]
    assert len(found) == len(cases)
    assert all(0 <= float(row["dice"]) <= 1 and float(row["truth_ml"]) > 0 for row in found)
