"""Commands about privacy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from differseg_med.cli import _print
from differseg_med.cli._base import Debug, Json, UidMap, app

__all__: list[str] = []


@app.command()
def deid(
    study: Annotated[Path, typer.Argument(help="Folder or .zip of DICOM files.")],
    out: Annotated[Path, typer.Option(help="Folder for the copy; new or empty.")],
    uid_map: UidMap = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a copy of a study's images without the patient's identity."""
    from differseg_med import io

    with _print.progress() as report:
        report("de-identify")
        done = io.deidentify(study, out, uid_map or io.default_uid_map())
    _print.deidentified(done, as_json=json)
