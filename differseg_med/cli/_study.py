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
            _print.inspection(inspection, as_json=json)
            seen.append(inspection)
    if not json:
        _print.summary(seen)
    if any(inspection.refused for inspection in seen):
        raise typer.Exit(REFUSED)


@app.command()
def segment(
    study: Annotated[Path, typer.Argument(help=STUDY_HELP)],
    bundle: Annotated[str, typer.Option("--bundle", help="Name or folder of the bundle.")],
    out: Annotated[Path, typer.Option(help="Folder for results; the case gets a folder in it.")],
    formats: Annotated[
        str | None,
        typer.Option(
            help="Of nifti, seg, probability, png, separated by commas. "
            "Default: nifti, and seg where the study is DICOM."
        ),
    ] = None,
    modality: Choices = None,
    rules: RulesFile = None,
    pet: Pet = None,
    nifti_xform: Xform = None,
    register: Register = None,
    lenient: Lenient = False,
    weights: Annotated[
        Path | None, typer.Option(help="Weights to use instead of the bundle's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the network runs: cpu or cuda.")] = "cpu",
    case: Annotated[
        str | None,
        typer.Option("--case-id", help="Name of the case. Default: from the study's path."),
    ] = None,
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
    from differseg_med.engine import tune_process

    tune_process()  # before torch is imported
    from differseg_med.bundle import segment as segment_study
    from differseg_med.engine import CaseOptions

    options = CaseOptions(
        formats=tuple(formats.split(",")) if formats is not None else None,
        read=read_options(modality, rules, pet, nifti_xform, register, lenient),
        case=case,
        overwrite=overwrite,
    )
    with _print.progress() as report:
        result = segment_study(
            study, bundle, out, options, weights=weights, device=device, trust=trust, report=report
        )
    _print.case(result, as_json=json)
