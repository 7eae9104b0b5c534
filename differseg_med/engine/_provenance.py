"""What a training run was made with, written beside its weights."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from differseg_med import __version__
from differseg_med.engine._results import write_text
from differseg_med.engine._status import sha256

__all__ = ["PROVENANCE", "Provenance", "describe_environment", "hash_configs"]

PROVENANCE = "provenance.json"
"""Name of the file."""

_PACKAGES = ("torch", "monai", "numpy", "pytorch-ignite", "nibabel", "SimpleITK", "scipy")
_ROOT = Path(__file__).resolve().parents[2]


def describe_environment() -> dict[str, Any]:
    """Versions, machine and, in a checkout, the commit that is running."""
    return {
        "differseg_med": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
    }


def hash_configs(bundle_root: str | Path) -> dict[str, str]:
    """SHA-256 of every configuration file of a bundle, by name."""
    folder = Path(bundle_root) / "configs"
    return {p.name: sha256([p]) for p in sorted(folder.glob("*")) if p.is_file()}


class Provenance:
    """Write ``provenance.json`` when a run starts, and complete it when it ends.

    The file lists every run of the folder: a resumed run adds an entry. An entry has versions and
    commit, machine, command line, hashes of the bundle's configuration and of the datalist, seed,
    values that were in force and times; its state is ``started`` until it is ``done``.

    Args:
        run_dir: folder for the file.
        bundle_root: folder of the bundle.
        datalist: which cases there are.
        seed: seed of the run.
        device: where the network is trained.
        values: further values that were in force.
    """

    def __init__(
        self,
        run_dir: str,
        bundle_root: str,
        datalist: str,
        seed: int,
        device: torch.device | str,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(run_dir) / PROVENANCE
        self.fixed = {
            "device": str(device),
            "seed": seed,
            "values": dict(values or {}),
        }
        self._bundle_root, self._datalist = Path(bundle_root), Path(datalist)
        self._start = 0.0
        self._runs: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _open(self, engine: Engine) -> None:
        self._start = time.monotonic()
        entry = {
            "state": "started",
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "first_epoch": engine.state.epoch + 1,
            "max_epochs": engine.state.max_epochs,
            **self.fixed,
            "configs_sha256": hash_configs(self._bundle_root),
            "datalist": {"name": self._datalist.name, "sha256": sha256([self._datalist])},
            **describe_environment(),
        }
        self._runs = [*_earlier(self.path), entry]
        self._write()

    def _close(self, engine: Engine) -> None:
        seconds = round(time.monotonic() - self._start, 1)
        ended = {"state": "done", "last_epoch": engine.state.epoch, "seconds": seconds}
        self._runs[-1] = {**self._runs[-1], **ended}
        self._write()

    def _write(self) -> None:
        text = json.dumps({"schema": 1, "runs": self._runs}, indent=2, default=str)
        write_text(self.path, text + "\n")


def _earlier(path: Path) -> list[dict[str, Any]]:
    """Entries of earlier runs in the folder; a file that cannot be read starts anew."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return list(content["runs"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _commit() -> str | None:
    """The commit of the checkout that runs, with ``+`` where files differ from it."""
    if not (_ROOT / ".git").exists():
        return None
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    try:
        head, changed = (
            subprocess.run(
                ["git", *command], cwd=_ROOT, capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+" if changed else head
