"""Settings of the process that entry points make before anything heavy is imported."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupt_on_termination", "keep_freed_memory", "tune_process"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = (
    (_M_MMAP_THRESHOLD, 1 << 30),
    (_M_TRIM_THRESHOLD, (1 << 31) - 1),
    (_M_TOP_PAD, 64 << 20),
)


def tune_process() -> None:
    """Make inference on a CPU behave, for entry points; results do not change.

    Keeps freed memory (`keep_freed_memory`), and lets OpenMP's threads sleep while they wait for
    each other unless ``OMP_WAIT_POLICY`` says otherwise: threads that spin slow everything down as
    soon as the machine has other work. Call it before torch is imported.
    """
    keep_freed_memory()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed instead of returning it to the system.

    Under glibc's defaults every forward pass on a CPU gives its large blocks back and faults them
    in again page by page; how much time that costs depends on the machine. Results do not change;
    the process keeps its peak memory until it ends.

    Returns:
        Whether all settings were taken; False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, value) == 1 for option, value in _SETTINGS)


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """Make SIGTERM what Ctrl-C is, so that a run that is told to end leaves nothing half-done.

    Does nothing outside the main thread, where signals cannot be handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
