"""Weights become tensors by name, and nothing else: no code of a file ever runs."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from differseg_med.errors import BundleError

__all__ = ["MAX_WEIGHTS_BYTES", "read_weights"]

MAX_WEIGHTS_BYTES = 2**33
"""Largest file of weights that is read, and the most that it may unpack to."""


def read_weights(path: Path) -> Mapping[str, Any]:
    """Tensors by name of a ``.safetensors`` file, or of a ``.pt`` file as torch writes it.

    A whole training checkpoint gives its ``model``.

    Args:
        path: the file.

    Raises:
        BundleError: ``E_WEIGHTS`` for a file that is too large, damaged, compressed or of the old
            format without an archive, or that holds anything but tensors and plain values.
    """
    size = path.stat().st_size
    if size > MAX_WEIGHTS_BYTES:
        raise BundleError("E_WEIGHTS", f"{path.name} has {size} bytes, over {MAX_WEIGHTS_BYTES}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except BundleError:
        raise
    except Exception as error:  # both readers raise what the bytes make them raise
        raise BundleError("E_WEIGHTS", f"{path.name}: {_line(error)}") from error
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping):
        raise BundleError("E_WEIGHTS", f"{path.name} holds {type(state).__name__}, not tensors")
    return state


def _check_archive(path: Path) -> None:
    """Torch stores tensors as they are; a packed member would unpack to any size."""
    if not zipfile.is_zipfile(path):
        raise BundleError("E_WEIGHTS", f"{path.name} is not in the format that torch.save writes")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise BundleError("E_WEIGHTS", f"{path.name} is compressed, which torch.save never does")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise BundleError("E_WEIGHTS", f"{path.name} claims more than it holds")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no details'}"
