"""Commands about bundles of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from differseg_med.cli import _print
from differseg_med.cli._base import Debug, Json, app

__all__: list[str] = []


@app.command(name="new-bundle")
def new_bundle(
    name: Annotated[str, typer.Argument(help="Name: lower-case letters, digits, underscores.")],
    modalities: Annotated[
        str | None,
        typer.Option(help="Names in channel order, such as flair,t1; the source's if left out."),
    ] = None,
    dims: Annotated[
        int | None,
        typer.Option(help="3 for volumes; 2 for pictures, or for slices of volumes."),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", help="Bundle to start from, or template.")
    ] = "template",
    reference: Annotated[
        str | None, typer.Option(help="Modality that gives the result's grid; the first one.")
    ] = None,
    required: Annotated[
        str | None, typer.Option(help="Modalities that must be there; the reference.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that the bundle is made in.")] = Path("bundles"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a bundle of your own that can be trained as it is."""
    from differseg_med.bundle import new_bundle as make

    folder = make(
        name,
        out,
        modalities=_names(modalities),
        dims=dims,
        source=source,
        reference=reference,
        required=_names(required) or None,
    )
    if json:
        _print.dump({"bundle": str(folder)})
    else:
        train = folder / "configs" / "train.yaml"
        _print.line(f"{folder}: train it with")
        _print.line(f"python -m monai.bundle run training --config_file {train} --dataset_dir DATA")


def _names(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
