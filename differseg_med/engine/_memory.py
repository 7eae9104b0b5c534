"""How the C library keeps memory between forward passes."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = (
    (_M_MMAP_THRESHOLD, 1 << 30),
    (_M_TRIM_THRESHOLD, (1 << 31) - 1),
    (_M_TOP_PAD, 64 << 20),
)


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed instead of returning it to the system.

    Under glibc's defaults every forward pass on a CPU gives its large blocks back and faults them
    in again page by page; how much time that costs depends on the machine. Results do not change;
    the process keeps its peak memory until it ends. Entry points call this once, before anything
    is allocated.

    Returns:
        Whether all settings were taken; False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, value) == 1 for option, value in _SETTINGS)
