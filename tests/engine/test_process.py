"""What entry points set takes effect, and takes nothing away from the user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from differseg_med.engine import interrupt_on_termination

FAULTS = """
import resource, sys
import numpy as np
from differseg_med.engine._process import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
np.ones(32 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(32 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kept)
"""


def run(script: str, *arguments: str, **environment: str) -> list[str]:
    command = [sys.executable, "-c", script, *arguments]
    variables = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | environment
    return subprocess.run(
        command, env=variables, capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is a call of glibc")
def test_freed_memory_is_kept() -> None:
    """32 MiB are 8192 pages; given back, they fault in again every time."""
    usual, _ = run(FAULTS, "give back")
    faults, kept = run(FAULTS, "keep")
    assert kept == "True"
    assert int(faults) * 10 < int(usual)


def test_threads_sleep_unless_the_user_says_otherwise() -> None:
    script = (
        "import os, sys; from differseg_med.engine import tune_process; tune_process();"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    assert run(script) == ["PASSIVE", "False"]
    assert run(script, OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "False"]


def test_termination_is_an_interruption_inside_the_block_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupt_on_termination():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with interrupt_on_termination():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
