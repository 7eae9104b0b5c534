"""Cases per second of our loader and of MONAI's stock chain, for the same work, side by side.

    python benchmarks/load_cases.py [--cases 4] [--spacing 4] [--data FOLDER]

Both read PET, CT, MR and label of phantom cases (or of FOLDER, laid out likewise), bring all of
them to the PET's box at one spacing, stack them and scale the intensities. The stock chain is
LoadImaged, EnsureChannelFirstd, Spacingd, ResampleToMatchd, ConcatItemsd and ScaleIntensity*.
Ours smooths before it samples more coarsely, which the stock chain leaves out and thereby aliases;
"smoothed" is that chain with MONAI's GaussianSmooth before it: the same work. Ours also checks
headers, values, fields of view and label values. The share of voxels with the same label is shown,
so that it is seen that the work is. One process, one thread; best of three.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    ConcatItemsd,
    EnsureChannelFirstd,
    GaussianSmooth,
    Lambdad,
    LoadImaged,
    ResampleToMatchd,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
)

from differseg_med.data import LoadImageModalitiesd
from differseg_med.data.phantom import PHANTOM_MODALITIES, write_phantom_nifti
from differseg_med.transforms import NormalizeModalitiesd

ANY = {"ct": 0.0, "mr_t1": 0.0}
Case = Mapping[str, Any]


def smoothed(spacing: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """As much as ours, by MONAI: point spreads are Gaussian, one voxel wide at half maximum."""

    def smooth(image: MetaTensor) -> torch.Tensor:
        steps = spacing / np.asarray(image.pixdim)
        sigma = np.sqrt(np.maximum(steps**2 - 1, 0) / (8 * np.log(2)))
        return GaussianSmooth([max(float(s), 1e-3) for s in sigma])(image)

    return smooth


def stock(spacing: float, smooth: bool = False) -> Callable[[Case], Case]:
    """MONAI's transforms as its tutorials string them together."""
    images, others = ["pet", "ct", "mr_t1"], ["ct", "mr_t1", "label"]
    return Compose(
        [
            LoadImaged([*images, "label"]),
            EnsureChannelFirstd([*images, "label"]),
            *([Lambdad(images, smoothed(spacing))] if smooth else []),
            Spacingd("pet", pixdim=[spacing] * 3, mode="bilinear"),
            ResampleToMatchd(others, "pet", mode=["bilinear", "bilinear", "nearest"]),
            ScaleIntensityRanged("pet", 0, 10, 0, 1, clip=True),
            ScaleIntensityRanged("ct", -160, 240, 0, 1, clip=True),
            ScaleIntensityRangePercentilesd("mr_t1", 0, 99.5, 0, 1, clip=True),
            ConcatItemsd(images, "image"),
        ]
    )


def ours(spacing: float) -> Callable[[Case], Case]:
    """The loading of the bundles."""
    order = ["pet", "ct", "mr_t1"]
    load = LoadImageModalitiesd(order, "pet", [spacing] * 3, label_key="label", min_overlap=ANY)
    return Compose([load, NormalizeModalitiesd("image", order)])


def cases_of(folder: Path) -> list[dict[str, str]]:
    """Complete cases of a folder in the phantom's layout."""
    names = {**{m: m for m in PHANTOM_MODALITIES}, "label": "pet_gtv"}
    found = []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        paths = {key: sub / f"{name}.nii.gz" for key, name in names.items()}
        if all(path.is_file() for path in paths.values()):
            found.append({"case": sub.name} | {key: str(path) for key, path in paths.items()})
    return found


def best(chain: Callable[[Case], Case], cases: list[dict[str, str]], repeats: int = 3) -> float:
    """Seconds for all cases, best of some."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        for case in cases:
            chain(dict(case))
        taken.append(time.perf_counter() - start)
    return min(taken)


def agreement(a: torch.Tensor, b: torch.Tensor) -> float:
    """Share of voxels with the same label, where both grids have voxels."""
    common = tuple(slice(0, min(m, n)) for m, n in zip(a.shape, b.shape, strict=True))
    same = (torch.as_tensor(a)[common] > 0) == (torch.as_tensor(b)[common] > 0)
    return float(same.float().mean())


def main() -> None:
    """Run both and show the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--spacing", type=float, default=4.0)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            write_phantom_nifti(Path(folder), options.cases)
        cases = cases_of(options.data or Path(folder))[: options.cases]
        chains = {
            "stock": stock(options.spacing),
            "smoothed": stock(options.spacing, smooth=True),
            "ours": ours(options.spacing),
        }
        labels = [chain(dict(cases[0]))["label"] for chain in chains.values()][1:]  # and warm up
        share = f"labels agree in {agreement(*labels):.2%} of the voxels"
        sys.stdout.write(f"{len(cases)} cases at {options.spacing:g} mm; {share}\n")
        seconds = {name: best(chain, cases) for name, chain in chains.items()}
    for name, taken in seconds.items():
        sys.stdout.write(f"{name:8} {len(cases) / taken:6.2f} cases/s\n")
    for name in ("stock", "smoothed"):
        ratio = seconds[name] / seconds["ours"]
        sys.stdout.write(f"ours is {ratio:.2f} times as fast as {name}\n")


if __name__ == "__main__":
    main()
