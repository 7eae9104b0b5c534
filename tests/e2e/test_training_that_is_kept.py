"""Cross-validation, tracking and a distributed resume, as a user runs them, on phantom cases."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from differseg_med.bundle import CrossValidation, cross_validate
from differseg_med.data.phantom import write_phantom_nifti
from differseg_med.engine import compare_runs
from differseg_med.errors import BundleError, OutputError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = "bundles/sts_petctmr/configs"
SMALL = {"patch_size": "[16,16,16]", "network_def#size": "tiny", "val_interval": "1"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantom cases of four patients in two declared folds."""
    folder = tmp_path_factory.mktemp("cases")
    entries = [
        {
            "case": path.name,
            "pet": f"{path.name}/pet.nii.gz",
            "label": f"{path.name}/pet_gtv.nii.gz",
        }
        for path in write_phantom_nifti(folder, 4)
    ]
    names = [entry["case"] for entry in entries]
    folds = [{"training": [], "validation": held} for held in (names[:2], names[2:])]
    patients = {name: f"patient-{name}" for name in names}
    content = {"training": entries[:3], "validation": entries[3:], "test": []}
    (folder / "datalist.json").write_text(
        json.dumps({**content, "folds": folds, "patients": patients})
    )
    small = {"training": entries[:2], "validation": entries[2:]}
    (folder / "two.json").write_text(json.dumps(small))
    return folder


def test_cross_validation_goes_on_where_it_failed(cases: Path, tmp_path: Path) -> None:
    def run(**more: object) -> CrossValidation:
        return cross_validate(
            *("sts_petctmr", cases, cases / "datalist.json", tmp_path / "cv"),
            overrides={**SMALL, "max_epochs": "1", **more},
            validation_share=0.5,
        )

    label = cases / "case_000" / "pet_gtv.nii.gz"  # held out in the first fold
    label.rename(label.with_suffix(".away"))
    with pytest.raises(BundleError, match=r"E_FOLD: fold 1: evaluating .*fold_1/evaluating\.log"):
        run()
    label.with_suffix(".away").rename(label)
    weights = tmp_path / "cv" / "fold_1" / "run" / "model.pt"
    trained = weights.stat().st_mtime_ns
    done = run()
    assert weights.stat().st_mtime_ns == trained
    assert (done.folds, done.reused) == (2, 0)
    assert run().reused == 2
    own = [row for row in done.rows if row["method"] == "differseg"]
    assert [(r["case"], r["fold"], r["patient"]) for r in own] == [
        (f"case_{i:03}", 1 + i // 2, f"patient-case_{i:03}") for i in range(4)
    ]
    names = {p.name for p in (tmp_path / "cv").iterdir()}
    assert names >= {"cases.csv", "summary.json", "summary.csv", "report.html", "provenance.json"}
    settings = json.loads((tmp_path / "cv" / "summary.json").read_text())["settings"]
    assert (settings["folds"], settings["nsd_tolerance_mm"]) == (2, 3.0)
    kept = json.loads((tmp_path / "cv" / "provenance.json").read_text())
    assert len(kept["runs"]) == 3
    assert kept["identity"]["overrides"]["max_epochs"] == "1"
    for number in (1, 2):
        fold = json.loads((tmp_path / "cv" / f"fold_{number}" / "datalist.json").read_text())
        held = {e["case"] for e in fold["test"]}
        assert not held & {e["case"] for s in ("training", "validation") for e in fold[s]}
    paired = compare_runs([f"{tmp_path / 'cv'}@suv_above_2", tmp_path / "cv"], metrics=["dice"])
    assert paired.cases == 4
    with pytest.raises(OutputError, match="E_EXISTS"):
        run(learning_rate="0.1")
    with pytest.raises(
        BundleError, match="--set sets 'max_epoch', which nothing below it declares"
    ):
        run(max_epoch="3")


def run_monai(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def options(cases: Path, run_dir: Path, **more: str) -> list[str]:
    values = {
        "dataset_dir": str(cases),
        "datalist": str(cases / "two.json"),
        "run_dir": str(run_dir),
        **SMALL,
        **more,
    }
    return [part for key, value in values.items() for part in (f"--{key}", value)]


def test_tracking_and_provenance(cases: Path, tmp_path: Path) -> None:
    """MLflow's SQLite store, and an early stop: nothing is learnt at a rate of nearly 0."""
    run_monai(
        *("monai.bundle", "run", "training", "--config_file", f"{CONFIGS}/train.yaml"),
        *("--tracking", "mlflow", "--output_dir", str(tmp_path / "mlflow")),
        *options(cases, tmp_path, max_epochs="4", early_stopping="1", learning_rate="1.0e-12"),
    )
    with closing(sqlite3.connect(tmp_path / "mlflow" / "mlruns.db")) as store:
        metrics = {row[0] for row in store.execute("select distinct key from metrics")}
    assert "val_mean_dice" in metrics
    (kept,) = json.loads((tmp_path / "provenance.json").read_text())["runs"]
    assert (kept["state"], kept["max_epochs"], kept["last_epoch"]) == ("done", 4, 2)
    assert kept["values"]["amp"] is False  # mixed precision needs CUDA
    assert "--tracking" in kept["command"]


def test_two_processes_resume_together(cases: Path, tmp_path: Path) -> None:
    """A finished training that is resumed ends at once; a process that went on alone would hang."""
    files = f"['{CONFIGS}/train.yaml','{CONFIGS}/multi_gpu_train.yaml']"
    torchrun = ("torch.distributed.run", "--standalone", "--nproc_per_node=2")
    command = (*torchrun, "-m", "monai.bundle", "run", "training", "--config_file", files)
    run_monai(*command, *options(cases, tmp_path, max_epochs="1"))
    assert (tmp_path / "resume.pt").is_file()
    done = run_monai(*command, *options(cases, tmp_path, max_epochs="1", resume="true"))
    assert (done.stdout + done.stderr).count("resumed after epoch 1") == 2
