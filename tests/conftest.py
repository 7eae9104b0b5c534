"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from differseg_med.data.phantom import Phantom

# Tests work on small tensors, where threads gain nothing, and cost up to ten times the time on a
# machine with other work to do. Set before torch is imported; subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real studies and golden tensors; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real studies beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def copy_bundle(root: Path) -> Callable[[Path], Path]:
    """Copies the sarcoma bundle with the smallest network and random weights of seed 0."""

    def copy(folder: Path) -> Path:
        import torch
        import yaml

        from differseg_med.networks import DifferSeg

        source = root / "bundles" / "sts_petctmr" / "configs"
        target = folder / "configs"
        target.mkdir(parents=True)
        shutil.copy(source / "metadata.json", target)
        config = yaml.safe_load((source / "inference.yaml").read_text(encoding="utf-8"))
        config["network_def"]["size"] = "tiny"
        config["patch_size"], config["overlap"] = [16, 16, 16], 0.0
        (target / "inference.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        torch.manual_seed(0)
        network = DifferSeg(spatial_dims=3, in_channels=config["channels"], size="tiny")
        (folder / "models").mkdir()
        torch.save(network.state_dict(), folder / "models" / "model.pt")
        return folder

    return copy


@pytest.fixture(scope="session")
def tiny_bundle(
    copy_bundle: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle that runs in a second; tests must not change it."""
    return copy_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def nifti_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as a folder of NIfTI files; tests must not change it."""
    from differseg_med.data.phantom import write_phantom_nifti

    (folder,) = write_phantom_nifti(tmp_path_factory.mktemp("nifti"), 1, seed=3)
    return folder


@pytest.fixture(scope="session")
def dicom_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Phantom]:
    """The phantom as a folder of DICOM series, and the truth; tests must not change it."""
    from differseg_med.data.phantom import write_phantom_dicom

    folder = tmp_path_factory.mktemp("dicom") / "study_1"
    return folder, write_phantom_dicom(folder, 3)
