"""Commands that show what there is and how it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from differseg_med.cli import _print
from differseg_med.cli._base import Debug, Json, app
from differseg_med.errors import UsageError

__all__: list[str] = []


@app.command()
def demo(
    study: Annotated[
        Path | None,
        typer.Option(
            help="DICOM study to segment with the shipped weights. Default: train on phantoms and "
            "segment one that was never seen."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("out/demo"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The main job once: train a small bundle on phantoms, segment a study, write results."""
    from differseg_med.engine import tune_process

    tune_process()  # before torch is imported
    from differseg_med.bundle import demo as run_demo

    with _print.progress() as report:
        result = run_demo(out, study=study, report=report)
    _print.demo(result, as_json=json)


@app.command()
def bundles(json: Json = False, debug: Debug = False) -> None:
    """List the bundles that can be used by name."""
    from differseg_med.bundle import list_bundles

    _print.bundles(list_bundles(), as_json=json)


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(help="A code such as E_GAP.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every code.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="With --all: as the reference page.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Say what a code means and what to do about it."""
    from differseg_med._codes import CODES, codes_page

    if everything == (code is not None) or (markdown and not everything):
        raise UsageError("E_OPTION", "explain takes one CODE, or --all, or --all --markdown")
    if markdown:
        _print.line(codes_page().removesuffix("\n"))
        return
    name = (code or "").upper()
    if code is not None and name not in CODES:
        raise UsageError("E_CODE", f"there is no code {code!r}")
    _print.codes(list(CODES.values()) if everything else [CODES[name]])
