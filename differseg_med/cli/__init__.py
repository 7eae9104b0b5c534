"""The command line: parse, call one function, print. Results on stdout, the rest on stderr."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave the process with its exit status.

    0: done; 1: internal error; 2: wrong usage or bundle; 4: the case failed; 5: the study was
    refused; 6: an archive failed or refused; 130: interrupted. An error is one line on stderr;
    ``--debug`` shows its traceback.
    """
    from differseg_med.cli._app import run

    run()
