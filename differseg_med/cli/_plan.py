"""The command that plans a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from differseg_med.cli import _print_data
from differseg_med.cli._base import Debug, Json, app

__all__: list[str] = []


@app.command()
def plan(
    fingerprint: Annotated[
        Path, typer.Argument(help="A fingerprint.json, or a folder that prepare wrote.")
    ],
    memory: Annotated[str, typer.Option(help="Memory of the training device, such as 8GB.")],
    bundle: Annotated[
        str | None, typer.Option(help="Bundle to train; the dataset's first if left out.")
    ] = None,
    ram: Annotated[str, typer.Option(help="Memory that the cache of images may take.")] = "8GB",
    out: Annotated[Path | None, typer.Option(help="YAML file for the overrides.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Propose spacing, patch, batch and cache for a training, by the rules of nnU-Net."""
    from differseg_med.bundle import plan_training

    made = plan_training(fingerprint, memory, bundle=bundle, ram=ram, out=out)
    _print_data.plan(made, out, as_json=json)
