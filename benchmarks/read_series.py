"""Time and memory of reading a CT of 300 x 512 x 512: headers, volume, and a plain pydicom loop.

    python benchmarks/read_series.py [--slices 300] [--keep FOLDER]

Prints seconds (best of three) and the peak memory of `to_volume` as a multiple of the float32
volume. The plain loop is `dcmread` and `pixel_array` of every file, rescaled into one array.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom

from differseg_med.geometry import Grid, Volume
from differseg_med.io import Series, StudyInfo, read_study, to_volume, write_series
from differseg_med.modality import Modality, get_modality

MEMORY = """
import sys
from pathlib import Path
from differseg_med.io import read_study, to_volume
from differseg_med.modality import get_modality
def peak():  # not ru_maxrss, which a process inherits from its parent
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
(series,) = read_study(sys.argv[1]).series
before = peak()
volume = to_volume(series, get_modality("ct"))
print((peak() - before) / volume.array.nbytes)
"""


def make(folder: Path, slices: int) -> None:
    """Write noise of a CT's range as one series."""
    rng = np.random.default_rng(0)
    array = rng.integers(-1000, 1500, (512, 512, slices)).astype(np.float32)
    affine = np.diag([-0.8, -0.8, 1.5, 1.0])
    volume = Volume(array, Grid(array.shape, affine, "1.2.3"), "ct")
    write_series(volume, folder, study=StudyInfo.from_seed(0), number=1)


def best(function: Callable[[], object]) -> float:
    """Seconds of the fastest of three calls."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def plain_loop(folder: Path) -> np.ndarray:
    """What a short script would do: no order, no geometry, no checks."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    out = None
    for k, path in enumerate(files):
        data = pydicom.dcmread(path)
        plane = data.pixel_array
        if out is None:
            out = np.empty((len(files), *plane.shape), np.float32)
        out[k] = plane * float(data.RescaleSlope) + float(data.RescaleIntercept)
    return out


def main() -> None:
    """Make the series where it is not there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not any(folder.iterdir()):
            make(folder, options.slices)
        (series,) = read_study(folder).series
        modality = get_modality("ct")
        report(folder, series, modality)


def report(folder: Path, series: Series, modality: Modality) -> None:
    """Measure and print."""
    headers = best(lambda: read_study(folder))
    ours = best(lambda: to_volume(series, modality))
    plain = best(lambda: plain_loop(folder))
    command = [sys.executable, "-c", MEMORY, str(folder)]
    memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sys.stdout.write(
        f"read_study {headers:.2f} s\nto_volume {ours:.2f} s\nplain pydicom loop {plain:.2f} s\n"
        f"ratio {ours / plain:.2f}\npeak memory / volume {float(memory):.2f}\n"
    )


if __name__ == "__main__":
    main()
