"""Commands about training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from differseg_med.cli import _print
from differseg_med.cli._base import (
    ALL_FAILED,
    SOME_FAILED,
    Debug,
    Json,
    Lenient,
    Pet,
    Register,
    RulesFile,
    app,
    read_options,
)

__all__: list[str] = []


@app.command()
def prepare(
    from_dicom: Annotated[
        Path, typer.Option("--from-dicom", help="Folder of DICOM studies, folders or .zip files.")
    ],
    bundle: Annotated[str, typer.Option("--bundle", help="Bundle that the data is for.")],
    out: Annotated[Path, typer.Option(help="Folder for the cases and the datalist.")],
    roi: Annotated[
        str | None,
        typer.Option(help="Region or segment that is the truth."),
    ] = None,
    rules: RulesFile = None,
    pet: Pet = None,
    register: Register = None,
    lenient: Lenient = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace cases that exist.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn DICOM studies with contours or segmentations into training cases with a datalist."""
    from differseg_med.bundle import prepare_from_dicom

    options = read_options(None, rules, pet, None, register, lenient)
    with _print.progress() as report:
        cases = prepare_from_dicom(
            from_dicom, bundle, out, options, roi=roi, overwrite=overwrite, report=report
        )
    for case in cases:
        _print.prepared(case, as_json=json)
    failed = sum(case.error is not None for case in cases)
    if failed:
        raise typer.Exit(SOME_FAILED if failed < len(cases) else ALL_FAILED)
