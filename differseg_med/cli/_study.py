"""Commands about studies. Heavy imports happen inside them, so that ``--help`` stays fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differseg_med.cli import _print
from differseg_med.cli._base import (
    REFUSED,
    STUDY_HELP,
    Choices,
    Debug,
    Json,
    Lenient,
    Pet,
    Register,
    RulesFile,
    Xform,
    app,
    read_options,
)

if TYPE_CHECKING:
    from differseg_med.engine import Inspection

__all__: list[str] = []


@app.command()
def inspect(
    studies: Annotated[list[Path], typer.Argument(help=STUDY_HELP)],
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="Bundle that decides what is refused.")
    ] = None,
    modality: Choices = None,
    rules: RulesFile = None,
    pet: Pet = None,
    nifti_xform: Xform = None,
    register: Register = None,
    lenient: Lenient = False,
    descriptions: Annotated[
        bool,
        typer.Option("--descriptions", help="Show what series are called; may hold patient data."),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List a study's series, their geometry and problems; exit 5 when a study is refused."""
    from differseg_med.bundle import inspect_studies

    options = read_options(modality, rules, pet, nifti_xform, register, lenient)
    seen: list[Inspection] = []
    with _print.progress() as report:
        for inspection in inspect_studies(studies, bundle, options):
            report(f"{len(seen) + 1} studies")
            _print.inspection(inspection, as_json=json, descriptions=descriptions)
            seen.append(inspection)
    if not json:
        _print.summary(seen)
    if any(inspection.refused for inspection in seen):
        raise typer.Exit(REFUSED)
