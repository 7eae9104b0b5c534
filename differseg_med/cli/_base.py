"""The app itself and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differseg_med import __version__
from differseg_med.cli import _print
from differseg_med.errors import UsageError

if TYPE_CHECKING:
    from differseg_med.engine import ReadOptions

__all__ = [
    "ALL_FAILED",
    "REFUSED",
    "SOME_FAILED",
    "STUDY_HELP",
    "Choices",
    "Debug",
    "Device",
    "Json",
    "Lenient",
    "Overwrite",
    "Pet",
    "Register",
    "RulesFile",
    "Trust",
    "UidMap",
    "Weights",
    "Xform",
    "app",
    "read_options",
]

SOME_FAILED = 3
ALL_FAILED = 4
REFUSED = 5

app = typer.Typer(
    name="differseg-med",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

STUDY_HELP = "Folder or .zip of DICOM files, or folder of NIfTI files named by modality."
Choices = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        metavar="NAME=SERIES",
        help="Series number, UID, folder or NIfTI file of a modality, or NAME@key=value for a part "
        "of a series; may be repeated.",
    ),
]
RulesFile = Annotated[
    Path | None, typer.Option("--rules", help="YAML file that says which series serves what.")
]
Pet = Annotated[
    list[str] | None,
    typer.Option(
        "--pet",
        metavar="KEY=VALUE",
        help="Value that a PET header lacks, such as weight_kg=70; recorded; may be repeated.",
    ),
]
Xform = Annotated[
    str | None,
    typer.Option("--nifti-xform", help="sform or qform, where a NIfTI file's two disagree."),
]
Register = Annotated[
    str | None,
    typer.Option(
        "--register", help="rigid: bring modalities in another frame of reference to the reference."
    ),
]
Lenient = Annotated[
    bool, typer.Option("--lenient", help="Correct what can be corrected, with a warning.")
]
UidMap = Annotated[
    Path | None,
    typer.Option(
        "--uid-map",
        metavar="FILE",
        help="Private file of old and new identities. Default: in the user's state folder.",
    ),
]
Weights = Annotated[Path | None, typer.Option(help="Weights to use instead of the bundle's own.")]
Device = Annotated[str, typer.Option(help="Where the network runs: cpu or cuda.")]
Trust = Annotated[
    bool, typer.Option("--trust-bundle", help="Run the configuration of a foreign bundle.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON lines instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


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


def read_options(
    modality: list[str] | None,
    rules: Path | None,
    pet: list[str] | None,
    xform: str | None,
    register: str | None,
    lenient: bool,
) -> ReadOptions:
    """How a study is read, from the options that say so."""
    from differseg_med import io
    from differseg_med.engine import ReadOptions

    pairs = [io.parse_choice(text) for text in modality or []]
    choices = dict(pairs)
    if len(choices) < len(pairs):
        raise UsageError("E_OPTION", "--modality was given twice for one name")
    if xform not in (None, "sform", "qform"):
        raise UsageError("E_OPTION", f"--nifti-xform is sform or qform, not {xform!r}")
    if register not in (None, "rigid"):
        raise UsageError("E_OPTION", f"--register is rigid, not {register!r}")
    return ReadOptions(
        choices=choices,
        rules=io.read_rules(rules) if rules else None,
        pet=io.PetOverrides.parse(pet) if pet else None,
        xform=xform,  # type: ignore[arg-type] # checked above
        register=register,  # type: ignore[arg-type]
        lenient=lenient,
    )
