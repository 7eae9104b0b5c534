"""Memory of a training step per voxel of the patch, for `differseg-med plan`.

    OMP_NUM_THREADS=1 python benchmarks/activation_memory.py

For each network it prints bytes per voxel of the patch and per stream: tensors that autograd keeps
for the backward pass (saved-tensor hooks, each storage once), and the peak of everything that is
allocated during forward, loss and backward (allocator events of the profiler), both in float32 on
the CPU with batch size 1. What is saved, the numbers of parameters, and what a peak holds beyond
the saved tensors stand in `differseg_med.bundle._memory`.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from differseg_med.losses import DeepSupervisionLoss, StructureLoss
from differseg_med.networks import DifferSeg

PATCHES = {3: ((32, 32, 32), (48, 48, 32)), 2: ((128, 128), (192, 128))}
STREAMS = (1, 2, 4)


def measure(size: str, streams: int, patch: tuple[int, ...]) -> tuple[float, float, int]:
    """Bytes that are saved and that are allocated at the peak, and the number of parameters."""
    torch.manual_seed(0)
    network = DifferSeg(
        spatial_dims=len(patch), in_channels=[1] * streams, size=size, deep_supervision=True
    ).train()
    loss = DeepSupervisionLoss(loss=StructureLoss(pool_size=15))
    image = torch.rand(1, streams, *patch)
    label = (torch.rand(1, 1, *patch) > 0.7).float()
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(network(image), label)
    kept = sum(saved.values())
    value.backward()  # gradients exist from here on, as they do in training
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        loss(network(image), label).backward()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    steps = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    peak = float(np.cumsum(steps).max())
    return float(kept), peak, sum(p.numel() for p in network.parameters())


def main() -> None:
    """Print one line per network, number of streams and patch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["joint", "tiny", "small", "base"])
    parser.add_argument("--dims", nargs="+", type=int, default=[3, 2])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for dims in chosen.dims:
        for size in chosen.sizes:
            for streams in STREAMS:
                for patch in PATCHES[dims]:
                    kept, peak, parameters = measure(size, streams, patch)
                    voxels = float(np.prod(patch))
                    print(  # noqa: T201
                        f"{dims}D {size} streams {streams} patch {patch}: "
                        f"saved {kept / voxels:.0f}, peak {peak / voxels:.0f} bytes per voxel, "
                        f"{parameters} parameters"
                    )


if __name__ == "__main__":
    main()
