"""Commands about studies. Heavy imports happen inside them, so that ``--help`` stays fast."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from differseg_med.cli import _print, _print_batch
from differseg_med.cli._base import (
    ALL_FAILED,
    REFUSED,
    SOME_FAILED,
    STUDY_HELP,
    Choices,
    Debug,
    Json,
    Lenient,
    Pet,
    Register,
    RulesFile,
    UidMap,
    Xform,
    app,
    read_options,
)
from differseg_med.errors import UsageError

if TYPE_CHECKING:
    from differseg_med.engine import BatchOptions, CaseOptions, Inspection, StudySource

__all__: list[str] = []


class Place(TypedDict):
    """What runs, and where."""

    weights: Path | None
    device: str
    trust: bool


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


@app.command()
def segment(
    studies: Annotated[
        list[Path],
        typer.Argument(
            help=f"{STUDY_HELP} Also folders of these, and manifests of studies (.jsonl)."
        ),
    ],
    bundle: Annotated[str, typer.Option("--bundle", help="Name or folder of the bundle.")],
    out: Annotated[Path, typer.Option(help="Folder for results; each case gets a folder in it.")],
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
        typer.Option("--case-id", help="Name of one case. Default: from the study's path."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep results that stand, and run every other case."),
    ] = False,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only this share of the cases, such as 1/4.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="pipeline (default) reads the next case while the network works; serial needs "
            "least memory; ray spreads cases over processes and machines."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes of --engine ray. Default: what the cluster has.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster. Default: one on this machine.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust-bundle", help="Run the configuration of a foreign bundle.")
    ] = False,
    deid: Annotated[
        bool, typer.Option("--deid", help="De-identify a copy first; results refer to the copy.")
    ] = False,
    uid_map: UidMap = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment studies with a bundle and write the masks; several end in a table of all cases."""
    from differseg_med.engine import tune_process

    tune_process()  # before torch is imported
    from differseg_med.bundle import segment as segment_study
    from differseg_med.bundle import study_sources
    from differseg_med.engine import BatchOptions, CaseOptions, Part

    options = CaseOptions(
        formats=tuple(formats.split(",")) if formats is not None else None,
        read=dataclasses.replace(
            read_options(modality, rules, pet, nifti_xform, register, lenient),
            deid=_uid_map(deid, uid_map),
        ),
        case=case,
        overwrite=overwrite,
    )
    place: Place = {"weights": weights, "device": device, "trust": trust}
    sources = study_sources(studies, bundle)
    alone = [source.study for source in sources] == studies
    if alone and len(studies) == 1 and not (resume or part or engine or workers or ray_address):
        with _print.progress() as report:
            result = segment_study(studies[0], bundle, out, options, report=report, **place)
        _print.case(result, as_json=json)
        return
    if case is not None:
        raise UsageError("E_OPTION", "--case-id names one case; name several in a manifest")
    batch = BatchOptions(
        resume=resume,
        part=Part.parse(part) if part else Part(),
        engine=engine or "pipeline",  # type: ignore[arg-type] # checked there
        workers=workers,
        ray_address=ray_address,
    )
    _segment_many(sources, bundle, out, options, batch, place, json)


def _uid_map(deid: bool, given: Path | None) -> Path | None:
    """The map to de-identify with; None for no de-identification."""
    if not deid:
        if given is not None:
            raise UsageError("E_OPTION", "--uid-map has no use without --deid")
        return None
    from differseg_med import io

    return given or io.default_uid_map()


def _segment_many(
    sources: Sequence[StudySource],
    bundle: str,
    out: Path,
    options: CaseOptions,
    batch: BatchOptions,
    place: Place,
    json: bool,
) -> None:
    from differseg_med.bundle import segment_many

    states: list[str] = []
    codes: list[str] = []
    mine = [source for source in sources if batch.part.holds(source.case)]
    outcomes = segment_many(mine, bundle, out, options, batch, **place)
    with _print_batch.progress(len(mine)) as report, contextlib.closing(outcomes):
        for outcome in outcomes:
            report(outcome, json)
            states.append(outcome.state)
            codes += [outcome.code] if outcome.code else []
    _print_batch.summary(states, codes)
    if codes:
        raise typer.Exit(SOME_FAILED if len(codes) < len(states) else ALL_FAILED)


@app.command()
def cohort(
    out: Annotated[Path, typer.Argument(help="Folder of cases.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the table and the page of all cases in a folder again, from their records."""
    from differseg_med.engine import write_cohort

    rows = write_cohort(out)
    for row in rows if json else ():
        _print.dump(row)
    _print_batch.summary(
        [row["state"] for row in rows], [row["code"] for row in rows if row["code"]]
    )
