"""Speed and memory: DPF, FGD, head and network against their formulas, peers, start-up times.

    python benchmarks/speed/run.py [--short] [--threads 1] [--repeats 7] [--out docs/results]
        [--parts blocks,exported,peers,start,heavy]

Writes speed-tables.md, speed.csv and speed.json into the folder that ``--out`` names (with --short:
``out/bench``). Every row's alternatives are computed in turn in this one process, under the same
memory settings; outputs are compared before they are timed. On a busy machine the ratios of
processor time are the fair ones; with several threads that is the time of all of them. The time
from a study to a DICOM SEG by stage is measured by benchmarks/study_to_seg.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from differseg_med.engine import tune_process

tune_process()  # before torch is imported

import cases  # noqa: E402
import table  # noqa: E402
import timing  # noqa: E402
import torch  # noqa: E402
from exported import measure_exported  # noqa: E402
from torch import nn  # noqa: E402

START = {
    "import differseg_med": [sys.executable, "-c", "import differseg_med"],
    "differseg-med --help": [sys.executable, "-m", "differseg_med.cli", "--help"],
}


def measure_blocks(repeats: int, short: bool) -> Iterator[table.Row]:
    """Our formulation against the naive one, evaluation and training step."""
    for pair in cases.blocks(short):
        pair.module.eval()
        with torch.inference_mode():
            share = timing.agree(pair.ours(), pair.naive(), f"{pair.name} {pair.shape}")
            times = timing.interleaved({"ours": pair.ours, "naive": pair.naive}, repeats)
        yield _row(pair, "evaluation", times, pair.eval_target, difference=share)
        pair.module.train()
        for x in pair.inputs:
            x.requires_grad_()
        cotangent = torch.randn_like(pair.ours().detach())
        ways = {"ours": pair.ours, "naive": pair.naive}
        saved = {name: timing.saved_bytes(way, pair.module) for name, way in ways.items()}
        steps = {
            name: timing.training_step(way, pair.module, cotangent) for name, way in ways.items()
        }
        times = timing.interleaved(steps, repeats)
        memory = saved["ours"] / saved["naive"]
        yield _row(pair, "training step", times, pair.train_target, saved=memory)


def _row(
    pair: cases.Pair,
    what: str,
    times: dict[str, timing.Times],
    target: float | None,
    **more: float,
) -> table.Row:
    ours, other = times["ours"], times["naive"]
    return {
        "part": pair.name,
        "on": pair.shape,
        "what": what,
        "ours_s": ours.cpu,
        "naive_s": other.cpu,
        "ratio": other.cpu / ours.cpu,
        "ratio_wall": other.wall / ours.wall,
        "wanted": target,
        **more,
    }


def measure_heavy(repeats: int, short: bool) -> Iterator[table.Row]:
    """The same for the peers that take minutes."""
    return measure_peers(repeats, short, heavy=True)


def measure_peers(repeats: int, short: bool, heavy: bool = False) -> Iterator[table.Row]:
    """Forward pass, training step and memory of whole networks at equal input."""
    side = 48 if short else 96
    x, cotangent = torch.randn(1, 2, *[side] * 3), torch.randn(1, 1, *[side] * 3)
    networks = {}
    for name, make in cases.peers(heavy).items():
        torch.manual_seed(0)
        networks[name] = make().eval()
    forwards = {name: (lambda n=network: n(x)) for name, network in networks.items()}
    with torch.inference_mode():
        forward = timing.interleaved(forwards, repeats)
    for network in networks.values():
        network.train()
    steps = {
        name: timing.training_step(forwards[name], network, cotangent)
        for name, network in networks.items()
    }
    step = timing.interleaved(steps, repeats)
    memory = {name: _peak(network, steps[name]) for name, network in networks.items()}
    base = next(iter(networks))
    for name, network in networks.items():
        yield {
            "network": name,
            "input": f"1 x 2 x {side}^3",
            "parameters": sum(p.numel() for p in network.parameters()),
            "forward_s": forward[name].cpu,
            "of_segresnet": forward[name].cpu / forward[base].cpu,
            "step_s": step[name].cpu,
            "step_of_segresnet": step[name].cpu / step[base].cpu,
            "peak_mb": memory[name] / 2**20,
            "peak_of_segresnet": memory[name] / memory[base],
        }


def _peak(network: nn.Module, step: Callable[[], None]) -> int:
    network.zero_grad(set_to_none=True)
    return timing.peak_bytes(step)


def measure_start(repeats: int, short: bool) -> Iterator[table.Row]:
    """Wall time of light entry points, in processes of their own."""
    for name, command in START.items():
        walls, cpus = [], []
        for _ in range(repeats + 1):
            wall, cpu = time.perf_counter(), os.times().children_user
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            walls.append(time.perf_counter() - wall)
            cpus.append(os.times().children_user - cpu)
        yield {
            "command": name,
            "wall_s": statistics.median(walls[1:]),
            "user_s": statistics.median(cpus[1:]),
        }


PARTS = {
    "blocks": measure_blocks,
    "exported": measure_exported,
    "peers": measure_peers,
    "start": measure_start,
    "heavy": measure_heavy,
}
USUAL = "blocks,exported,peers,start"


def main() -> None:
    """Measure the chosen parts and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="small inputs, fewer repeats")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parts", default=USUAL, help=", ".join(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    repeats = options.repeats or (3 if options.short else 7)
    out = options.out or Path("out/bench" if options.short else "docs/results")
    found = {}
    for part in options.parts.split(","):
        rows = []
        for row in PARTS[part](repeats, options.short):
            sys.stdout.write(f"{part}: {table.line(row)}\n")
            sys.stdout.flush()
            rows.append(row)
        found[part] = rows
    table.write(out, found, threads=options.threads, repeats=repeats, short=options.short)


if __name__ == "__main__":
    main()
