"""The commands. Heavy imports happen inside them, so that ``--help`` stays fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from differseg_med import __version__
from differseg_med.cli import _print
from differseg_med.errors import DifferSegError, UsageError

__all__ = ["app", "run"]

app = typer.Typer(
    name="differseg-med",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Study = Annotated[
    Path, typer.Argument(help="Folder or .zip of DICOM files, or folder of NIfTI files.")
]
BundleOption = Annotated[str, typer.Option("--bundle", help="Name or folder of the bundle.")]
Choices = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        metavar="NAME=SERIES",
        help="Series number, UID, folder or NIfTI file of a modality; may be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON lines instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def run() -> None:
    """Run the app; an error becomes one line on stderr and the exit status that it stands for."""
    try:
        app()
    except DifferSegError as error:
        if _debug(sys.argv):
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_status)
    except Exception as error:
        if _debug(sys.argv):
            raise
        sys.stderr.write(f"{_print.internal(error)}\n")
        sys.exit(1)


def _debug(arguments: list[str]) -> bool:
    return "--debug" in arguments[1:]


def _version(wanted: bool) -> None:
    if wanted:
        _print.line(f"differseg-med {__version__}")
        raise typer.Exit


@app.callback()
def differseg_med(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Multimodal binary segmentation of DICOM and NIfTI studies. Research use only."""


@app.command()
def segment(
    study: Study,
    bundle: BundleOption,
    out: Annotated[Path, typer.Option(help="Folder for results; the case gets a folder in it.")],
    formats: Annotated[
        str | None,
        typer.Option(
            help="Of nifti, seg, probability, png, separated by commas. "
            "Default: nifti, and seg where the study is DICOM."
        ),
    ] = None,
    modality: Choices = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights to use instead of the bundle's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the network runs: cpu or cuda.")] = "cpu",
    case: Annotated[
        str | None,
        typer.Option("--case-id", help="Name of the case. Default: from the study's path."),
    ] = None,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Correct what can be corrected, with a warning.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust-bundle", help="Run the configuration of a foreign bundle.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment one study with a bundle and write the mask."""
    from differseg_med.engine import keep_freed_memory

    keep_freed_memory()  # before torch allocates anything
    from differseg_med.bundle import segment as segment_study
    from differseg_med.engine import CaseOptions

    options = CaseOptions(
        formats=tuple(formats.split(",")) if formats is not None else None,
        choices=_choices(modality),
        case=case,
        lenient=lenient,
        overwrite=overwrite,
    )
    with _print.progress() as report:
        result = segment_study(
            study, bundle, out, options, weights=weights, device=device, trust=trust, report=report
        )
    _print.case(result, as_json=json)


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


def _choices(pairs: list[str] | None) -> dict[str, str]:
    """``NAME=SERIES`` options as a mapping."""
    chosen: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not (name and equals and value) or name in chosen:
            raise UsageError("E_OPTION", f"--modality takes NAME=SERIES once a name; got {pair!r}")
        chosen[name] = value
    return chosen
