"""Made cases for any bundle: volumes on grids of their own, or pictures, with a lesion in each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from differseg_med.bundle import BundleInfo
from differseg_med.geometry import Grid, Volume
from differseg_med.io import write_nifti
from differseg_med.modality import get_modality

SHAPE = (24, 26, 20)
_LEVELS = {"ct": (-100.0, 60.0), "pet": (1.0, 8.0), "mr_adc": (2500.0, 700.0)}


def bundle_config(info: BundleInfo, name: str = "train") -> dict[str, Any]:
    return yaml.safe_load((info.root / "configs" / f"{name}.yaml").read_text("utf-8"))


def write_cases(info: BundleInfo, folder: Path, count: int = 3) -> list[dict[str, str]]:
    """Cases and a datalist for a bundle; the last case has its required modalities only."""
    entries = []
    for number in range(count):
        lean = number == count - 1
        names = info.required if lean else info.modalities
        entries.append(_write_case(info, folder, f"case_{number}", names, number))
    content = {"training": entries[:1], "validation": entries[1:], "test": entries[1:]}
    (folder / "datalist.json").write_text(json.dumps(content))
    return entries


def _write_case(
    info: BundleInfo, root: Path, case: str, names: tuple[str, ...], seed: int
) -> dict[str, str]:
    folder = root / case
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    write = _pictures if bundle_config(info)["image_size"] else _volumes
    return {"case": case} | {
        key: str(path.relative_to(root)) for key, path in write(info, folder, names, rng).items()
    }


def _volumes(
    info: BundleInfo, folder: Path, names: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Path]:
    spacing = np.array(info.spacing or (1.0, 1.0, 1.0))
    base = Grid(SHAPE, np.diag([*spacing * [-1, 1, 1], 1.0]))
    center = base.center + rng.uniform(-2, 2, 3) * spacing
    paths = {}
    for name in names:
        grid = base if name == info.reference else _other(base, spacing)
        low, high = _LEVELS.get(name, (200.0, 600.0))
        values = np.where(_ball(grid, center, 5 * spacing), high, low)
        values += rng.normal(0, 0.02 * abs(high), grid.shape)
        values /= bundle_config(info)["scale"].get(name, 1.0)
        paths[name] = write_nifti(
            Volume(values.astype(np.float32), grid), folder / f"{name}.nii.gz"
        )
    config = bundle_config(info)
    rule = config["targets"][config["target"]]
    label = np.where(_ball(base, center, 5 * spacing), rule.get("foreground", [1])[-1], 0)
    for value in rule.get("ignore", []):
        label[:3] = value
    paths["label"] = write_nifti(Volume(label.astype(np.uint8), base), folder / "label.nii.gz")
    return paths


def _other(base: Grid, spacing: np.ndarray) -> Grid:
    """Another spacing, a shift and a little tilt, around the same place."""
    turn = np.array([[0.995, -0.0998, 0, 0], [0.0998, 0.995, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    grid = Grid((22, 22, 22), turn @ np.diag([*spacing * [-1.2, 1.25, 1.0], 1.0]))
    affine = np.array(grid.affine)
    affine[:3, 3] += base.center - grid.center
    return Grid(grid.shape, affine)


def _ball(grid: Grid, center: np.ndarray, radius: np.ndarray) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    return (((grid.to_world(index) - center) / radius) ** 2).sum(-1) <= 1


def _pictures(
    info: BundleInfo, folder: Path, names: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Path]:
    rows, columns = np.mgrid[:50, :60]
    inside = (rows - 25) ** 2 + (columns - rng.uniform(25, 35)) ** 2 <= 100
    paths = {}
    for name in names:
        channels = get_modality(name).channels
        noise = rng.integers(0, 60, (50, 60, channels))
        pixels = (noise + 150 * inside[..., None]).astype(np.uint8).squeeze()
        paths[name] = folder / f"{name}.png"
        Image.fromarray(pixels).save(paths[name])
    paths["label"] = folder / "label.png"
    Image.fromarray((inside * 255).astype(np.uint8)).save(paths["label"])
    return paths
