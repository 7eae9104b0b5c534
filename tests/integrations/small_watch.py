"""A watch whose network is a threshold, and a way to die at a chosen point of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from differseg_med import io
from differseg_med.engine import case_id
from differseg_med.geometry import Volume
from differseg_med.integrations.archive import Server, WatchOptions
from differseg_med.modality import get_modality

BUNDLE = "sts_petctmr"


def segment_by_threshold(study: Path, out: Path, name: str) -> None:
    """What a bundle leaves behind: a folder that appears whole, with a SEG and a status."""
    (series,) = (one for one in io.read_study(study).series if one.dicom == "PT")
    assert series.grid is not None
    volume = io.to_volume(series, get_modality("pet"))
    mask = Volume((volume.array > 4).astype(np.uint8), series.grid)
    fresh = out / f".{case_id(study, name)}.fresh"
    fresh.mkdir(parents=True, exist_ok=True)
    io.write_seg(mask, series, fresh / "mask.dcm", io.SegmentInfo("Lesion", BUNDLE, "1"))
    (fresh / "status.json").write_text('{"state": "done"}', encoding="utf-8")
    fresh.rename(out / name)


def options(url: str, out: Path, **changes: Any) -> WatchOptions:
    values = {
        "server": Server(url, connect_s=2, read_s=10, attempts=2),
        "bundle": BUNDLE,
        "out": out,
        "state": out / "watch.sqlite",
        "interval_s": 0.05,
        "once": True,
    }
    return WatchOptions(**{**values, **changes})


def die_after(number: int) -> None:
    """Count what makes something durable, and die right before or right after the last of it."""
    left = [number]

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            step()
            result = original(*args, **kwargs)
            step()
            return result

        setattr(owner, name, counted)

    from differseg_med.integrations.archive import _archive, _pull, _state

    around(_state.State, "reach")
    around(_archive.Archive, "store")
    around(_pull, "_put_in_place")
    around(_pull.io, "write_instance")
    around(Path, "rename")
    around(io, "write_seg")
