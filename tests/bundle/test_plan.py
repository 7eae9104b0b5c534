"""From a fingerprint and a memory to overrides of a training, against rules worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from differseg_med.bundle import find_bundle, plan_training
from differseg_med.bundle._compose import read_fragment
from differseg_med.bundle._memory import saved_bytes_per_voxel, step_bytes
from differseg_med.bundle._plan import parse_size, target_spacing
from differseg_med.errors import BundleError, UsageError

GIB = 2**30


def write_fingerprint(folder: Path, cases, dims: int = 3, dataset: str = "sts") -> Path:
    lines = [
        {"case": f"c{i}", "shape": list(shape), "spacing_mm": list(spacing), "foreground_ml": 1.0}
        for i, (shape, spacing) in enumerate(cases)
    ]
    facts = {"dataset": dataset, "dims": dims, "cases": len(lines), "per_case": lines}
    path = folder / "fingerprint.json"
    path.write_text(json.dumps(facts))
    return path


@pytest.mark.parametrize(
    ("spacings", "shape", "expected"),
    [
        ([[1, 1, 1], [1, 1, 3], [2, 1, 2]], [100, 100, 60], [1, 1, 2]),  # the medians
        # slices over three times as thick and a third as many: their 10th percentile
        ([[0.5, 0.5, 5.0], [0.5, 0.5, 6.0], [0.5, 0.5, 3.0]], [300, 300, 20], [0.5, 0.5, 3.4]),
        # as thick, but as many: the median again
        ([[0.5, 0.5, 5.0], [0.5, 0.5, 6.0], [0.5, 0.5, 3.0]], [300, 300, 120], [0.5, 0.5, 5.0]),
        # never finer than the other axes
        ([[1, 1, 4], [1, 1, 4], [1, 1, 0.5]], [300, 300, 20], [1, 1, 1.2]),
    ],
)
def test_spacing_follows_the_rule(spacings, shape, expected) -> None:
    found = target_spacing(np.array(spacings, dtype=float), np.array(shape, dtype=float))
    np.testing.assert_allclose(found, expected)


def test_sizes_are_read() -> None:
    assert parse_size("8GB") == 8 * GIB
    assert parse_size("512 MiB") == GIB // 2
    for text in ("", "8 bananas", "-1GB", "0GB"):
        with pytest.raises(UsageError, match="E_OPTION"):
            parse_size(text)


def test_small_images_are_taken_whole(tmp_path: Path) -> None:
    """Median image 40 x 38 x 70 at its own spacing: whole strides of 16, a batch of two."""
    path = write_fingerprint(tmp_path, [((40, 38, 70), (4.0, 4.0, 3.0))] * 20)
    plan = plan_training(path, "24GB")
    assert plan.bundle == "sts_petctmr"
    assert plan.overrides["spacing_mm"] == [4.0, 4.0, 3.0]
    assert plan.overrides["patch_size"] == [48, 48, 80]
    assert plan.overrides["cache_rate"] == 1.0
    # 20 x 40 x 38 x 70 voxels; a twentieth of them is less than one patch
    assert plan.overrides["batch_size"] == 2
    assert plan.cache_bytes == 20 * 40 * 38 * 70 * 4 * 4


@pytest.mark.parametrize("memory", ["3GB", "6GB", "12GB", "40GB"])
def test_estimate_stays_under_the_memory(memory: str, tmp_path: Path) -> None:
    path = write_fingerprint(tmp_path, [((200, 240, 150), (1.0, 1.0, 1.0))] * 30)
    plan = plan_training(path, memory, bundle="brats")
    patch, batch = plan.overrides["patch_size"], plan.overrides["batch_size"]
    assert all(size % 16 == 0 for size in patch)
    size = read_fragment(find_bundle("brats").root / "configs/train.yaml")["network_size"]
    assert plan.step_bytes == step_bytes(size, 4, patch, batch) <= parse_size(memory)
    ratios = np.array(patch) / (200, 240, 150)
    strides = 16 / np.array((200, 240, 150))
    assert ratios.max() - ratios.min() <= strides.max() + 1e-9, "the aspect of the median image"


def test_more_memory_never_gives_a_smaller_patch(tmp_path: Path) -> None:
    path = write_fingerprint(tmp_path, [((200, 240, 150), (1.0, 1.0, 1.0))] * 30)
    volumes = [
        np.prod(plan_training(path, f"{gb}GB", bundle="brats").overrides["patch_size"])
        for gb in (3, 4, 6, 8, 12, 24, 48)
    ]
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]


@pytest.mark.parametrize("bundle", ["sts_petctmr", "wmh", "stroke", "polyp", "sts_slices"])
def test_overrides_are_keys_of_the_training(bundle: str, tmp_path: Path) -> None:
    info = find_bundle(bundle)
    flat = bundle == "polyp"
    case = ((600, 500, 1), (1.0, 1.0, 1.0)) if flat else ((128, 120, 60), (1.0, 1.0, 3.0))
    path = write_fingerprint(tmp_path, [case] * 12, dims=2 if flat else 3, dataset="wmh")
    out = tmp_path / "plan.yaml"
    plan = plan_training(tmp_path, "12GB", bundle=bundle, ram="100MB", out=out)
    written = yaml.safe_load(out.read_text())
    assert written == dict(plan.overrides)
    train = read_fragment(info.root / "configs/train.yaml")
    assert set(written) <= set(train)
    assert ("spacing_mm" in written) != flat
    assert len(written["patch_size"]) == info.spatial_dims
    assert 0 < written["cache_rate"] <= 1
    assert path.name in "fingerprint.json"


def test_what_cannot_be_planned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="E_PATH"):
        plan_training(tmp_path, "8GB")
    (tmp_path / "fingerprint.json").write_text("[]")
    with pytest.raises(BundleError, match="E_DATALIST"):
        plan_training(tmp_path, "8GB")
    write_fingerprint(tmp_path, [((64, 64, 64), (1.0, 1.0, 1.0))])
    with pytest.raises(UsageError, match="not even two patches"):
        plan_training(tmp_path, "100MB")
    write_fingerprint(tmp_path, [((64, 64, 1), (1.0, 1.0, 1.0))], dims=2, dataset="myops")
    with pytest.raises(UsageError, match="give --bundle"):
        plan_training(tmp_path, "8GB")
    with pytest.raises(UsageError, match="measured"):
        saved_bytes_per_voxel("paper", 2, 2)


@pytest.mark.parametrize(
    ("dims", "patch"),
    [pytest.param(3, (32, 32, 32), marks=pytest.mark.slow), (2, (64, 64))],
)
@pytest.mark.parametrize("size", ["tiny", "joint"])
def test_memory_model_says_what_autograd_saves(
    dims: int, patch: tuple[int, ...], size: str
) -> None:
    import torch

    from differseg_med.losses import DeepSupervisionLoss, StructureLoss
    from differseg_med.networks import DifferSeg

    network = DifferSeg(
        spatial_dims=dims, in_channels=[1, 1], size=size, deep_supervision=True
    ).train()
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    label = (torch.rand(1, 1, *patch) > 0.7).float()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        DeepSupervisionLoss(loss=StructureLoss(pool_size=15))(
            network(torch.rand(1, 2, *patch)), label
        )
    measured = sum(saved.values()) / np.prod(patch)
    assert saved_bytes_per_voxel(size, 2, dims) == pytest.approx(measured, rel=0.1)
