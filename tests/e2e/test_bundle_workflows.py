"""Bundles with weights through MONAI's own commands, as a user runs them, on phantom cases."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from differseg_med.data.phantom import write_phantom_nifti
from differseg_med.io import read_nifti

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.parents[1].name for path in ROOT.glob("bundles/*/models/model.pt"))
pytestmark = pytest.mark.slow
PATCH = ["--patch_size", "[16,16,16]", "--network_def#size", "tiny"]


def monai(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``python -m monai.bundle`` and show its output where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *arguments],
        cwd=cwd,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantom cases and a datalist; one case lacks CT, one lacks MR."""
    folder = tmp_path_factory.mktemp("cases")
    paths = write_phantom_nifti(folder, 4, leave_out={"ct": [1], "mr_t1": [3]})
    entries = [
        {
            "case": path.name,
            **{
                name: f"{path.name}/{name}.nii.gz"
                for name in ("pet", "ct", "mr_t1")
                if (path / f"{name}.nii.gz").is_file()
            },
            "label": f"{path.name}/pet_gtv.nii.gz",
        }
        for path in paths
    ]
    content = {"training": entries[:2], "validation": entries[2:], "test": entries[2:]}
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def trained(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: training from the root is killed, and resumed from the bundle's folder."""
    run = tmp_path_factory.mktemp("run")
    common = [
        *("--dataset_dir", str(cases), "--datalist", str(cases / "datalist.json")),
        *("--run_dir", str(run), "--val_interval", "1", "--max_epochs", "4", *PATCH),
    ]
    configs = "bundles/sts_petctmr/configs"
    command = ["run", "training", "--config_file", f"{configs}/train.yaml", *common]
    with subprocess.Popen(
        [sys.executable, "-m", "monai.bundle", *command],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not (run / "resume.pt").is_file() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    assert (run / "model.pt").is_file()
    again = ["run", "training", "--config_file", "configs/train.yaml", "--resume", "true"]
    done = monai(*again, *common, cwd=ROOT / "bundles" / "sts_petctmr")
    assert "resumed after epoch" in done.stdout
    assert list((run / "tensorboard").glob("events.*"))
    return run


@pytest.mark.parametrize("place", ["root", "bundle"])
def test_evaluating_writes_a_row_per_case(
    place: str, cases: Path, trained: Path, tmp_path: Path
) -> None:
    bundle = ROOT / "bundles" / "sts_petctmr"
    prefix, cwd = ("bundles/sts_petctmr/", ROOT) if place == "root" else ("", bundle)
    files = f"['{prefix}configs/train.yaml','{prefix}configs/evaluate.yaml']"
    monai(
        *("run", "evaluating", "--config_file", files, "--dataset_dir", str(cases)),
        *("--datalist", str(cases / "datalist.json"), "--ckpt_path", str(trained / "model.pt")),
        *("--output_dir", str(tmp_path), *PATCH),
        cwd=cwd,
    )
    rows = list(csv.DictReader((tmp_path / "cases.csv").read_text().splitlines()))
    assert {row["case"] for row in rows} == {"case_002", "case_003"}
    assert {row["method"] for row in rows} == {"differseg", "box_ellipsoid", "suv_above_2"}
    assert {"dice", "iou", "hd95_mm", "nsd", "volume_error_ml"} <= set(rows[0])
    assert "differseg" in json.loads((tmp_path / "summary.json").read_text())["methods"]


@pytest.mark.parametrize("place", ["root", "bundle"])
def test_inference_writes_masks_on_the_reference_grid(
    place: str, cases: Path, trained: Path, tmp_path: Path
) -> None:
    bundle = ROOT / "bundles" / "sts_petctmr"
    prefix, cwd = ("bundles/sts_petctmr/", ROOT) if place == "root" else ("", bundle)
    monai(
        *("run", "inference", "--config_file", f"{prefix}configs/inference.yaml"),
        *("--dataset_dir", str(cases), "--ckpt_path", str(trained / "model.pt")),
        *("--output_dir", str(tmp_path), *PATCH),
        cwd=cwd,
    )
    for case in ("case_000", "case_001", "case_002", "case_003"):
        mask = read_nifti(tmp_path / case / "mask.nii.gz")
        pet = read_nifti(cases / case / "pet.nii.gz")
        assert mask.array.shape == pet.array.shape
        np.testing.assert_array_equal(mask.grid.affine, pet.grid.affine)
        assert set(np.unique(mask.array)) <= {0, 1}


@pytest.mark.parametrize("name", NAMES)
def test_bundle_passes_monais_own_checks(name: str, tmp_path: Path) -> None:
    configs = f"bundles/{name}/configs"
    files = ["--config_file", f"{configs}/inference.yaml"]
    meta = ["--meta_file", f"{configs}/metadata.json"]
    monai("verify_net_in_out", "network_def", *files, *meta, "--n", "4")
    monai("verify_metadata", *meta, "--filepath", "configs/schema/bundle_metadata.json")
    weights = ["--ckpt_file", f"bundles/{name}/models/model.pt"]
    for command, file in (("ckpt_export", "model.ts"), ("onnx_export", "model.onnx")):
        target = tmp_path / file
        monai(command, "network_def", "--filepath", str(target), *weights, *files, *meta)
        assert target.stat().st_size > 100_000


def test_two_processes_train_together(cases: Path, tmp_path: Path) -> None:
    configs = "bundles/sts_petctmr/configs"
    files = f"['{configs}/train.yaml','{configs}/multi_gpu_train.yaml']"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "monai.bundle", "run", "training", "--config_file", files),
        *("--dataset_dir", str(cases), "--datalist", str(cases / "datalist.json")),
        *("--run_dir", str(tmp_path), "--max_epochs", "1", "--val_interval", "1", *PATCH),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "model.pt").is_file()
