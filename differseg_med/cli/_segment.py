"""Segmenting one study or many. Heavy imports happen inside, so that ``--help`` stays fast."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from differseg_med.cli import _print, _print_batch
from differseg_med.cli._archive import Ca, InsecureHttp, Query, Timeout, connect
from differseg_med.cli._base import (
    ALL_FAILED,
    SOME_FAILED,
    STUDY_HELP,
    Choices,
    Debug,
    Device,
    Json,
    Lenient,
    Overwrite,
    Pet,
    Register,
    RulesFile,
    Trust,
    UidMap,
    Weights,
    Xform,
    app,
    read_options,
)
from differseg_med.errors import UsageError

if TYPE_CHECKING:
    from differseg_med.engine import BatchOptions, CaseOptions, StudySource

__all__: list[str] = []

Studies = Annotated[
    list[Path] | None,
    typer.Argument(help=f"{STUDY_HELP} Also folders of these, and manifests of studies (.jsonl)."),
]
Bundle = Annotated[str, typer.Option("--bundle", help="Name or folder of the bundle.")]
Out = Annotated[Path, typer.Option(help="Folder for results; each case gets a folder in it.")]
Formats = Annotated[
    str | None,
    typer.Option(
        help="Of nifti, probability, seg, sr, rtstruct, json, csv, png, explain, html, separated "
        "by commas. Default: nifti, and seg where the study is DICOM."
    ),
]
Case = Annotated[
    str | None,
    typer.Option("--case-id", help="Name of one case. Default: from the study's path."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep results that stand, and run every other case.")
]
PartOf = Annotated[
    str | None,
    typer.Option("--part", metavar="I/N", help="Only this share of the cases, such as 1/4."),
]
Engine = Annotated[
    str | None,
    typer.Option(
        help="pipeline (default) reads the next case while the network works; serial needs least "
        "memory; ray spreads cases over processes and machines."
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Processes of --engine ray. Default: what the cluster has.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="A running Ray cluster. Default: one on this machine.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="DICOM archive to fetch the studies of --query from."
    ),
]
Deid = Annotated[
    bool, typer.Option("--deid", help="De-identify a copy first; results refer to the copy.")
]


class Place(TypedDict):
    """What runs, and where."""

    weights: Path | None
    device: str
    trust: bool


@app.command()
def segment(
    bundle: Bundle,
    out: Out,
    studies: Studies = None,
    formats: Formats = None,
    modality: Choices = None,
    rules: RulesFile = None,
    pet: Pet = None,
    nifti_xform: Xform = None,
    register: Register = None,
    lenient: Lenient = False,
    weights: Weights = None,
    device: Device = "cpu",
    case: Case = None,
    resume: Resume = False,
    part: PartOf = None,
    engine: Engine = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    server: Address = None,
    query: Query = None,
    ca: Ca = None,
    insecure_http: InsecureHttp = False,
    timeout: Timeout = 60.0,
    overwrite: Overwrite = False,
    trust: Trust = False,
    deid: Deid = False,
    uid_map: UidMap = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment studies with a bundle and write the masks; several end in a table of all cases."""
    from differseg_med.engine import tune_process

    tune_process()  # before torch is imported
    from differseg_med.engine import CaseOptions

    read = read_options(modality, rules, pet, nifti_xform, register, lenient)
    options = CaseOptions(
        formats=tuple(formats.split(",")) if formats is not None else None,
        read=dataclasses.replace(read, deid=_uid_map(deid, uid_map)),
        case=case,
        overwrite=overwrite,
    )
    place: Place = {"weights": weights, "device": device, "trust": trust}
    batch = _batch(resume, part, engine, workers, ray_address)
    if bool(studies) == bool(server):
        raise UsageError("E_OPTION", "give studies, or --server and --query, and not both")
    if server is not None and deid:
        raise UsageError(
            "E_OPTION",
            "--server keeps what it fetches among the results, --deid wants no original there",
            "Fetch the studies to another place with differseg-med pull.",
        )
    if server is not None:
        fetch = (connect(server, ca, insecure_http, timeout), query, bundle, rules)
        _segment_many(_fetched(*fetch, out), bundle, out, options, batch, place, json)
    else:
        _segment_local(studies or [], bundle, out, options, batch, place, json)


def _uid_map(deid: bool, given: Path | None) -> Path | None:
    """The map to de-identify with; None for no de-identification."""
    if not deid:
        if given is not None:
            raise UsageError("E_OPTION", "--uid-map has no use without --deid")
        return None
    from differseg_med import io

    return (given or io.default_uid_map()).resolve()  # workers may run in another folder


def _batch(
    resume: bool,
    part: str | None,
    engine: str | None,
    workers: int | None,
    ray_address: str | None,
) -> BatchOptions | None:
    """How many cases are worked on; None where nothing was said about it."""
    from differseg_med.engine import BatchOptions, Part

    if not (resume or part or engine or workers is not None or ray_address):
        return None
    return BatchOptions(
        resume=resume,
        part=Part.parse(part) if part else Part(),
        engine=engine or "pipeline",  # type: ignore[arg-type] # checked there
        workers=workers,
        ray_address=ray_address,
    )


def _fetched(
    server: Any, query: list[str] | None, bundle: str, rules: Path | None, out: Path
) -> list[StudySource]:
    from differseg_med import io
    from differseg_med.integrations.archive import check_query, pulled_sources

    conditions = check_query(query or [])
    read = io.read_rules(rules) if rules else None
    with _print.progress() as report:
        return pulled_sources(server, conditions, out, bundle=bundle, rules=read, report=report)


def _segment_local(
    studies: list[Path],
    bundle: str,
    out: Path,
    options: CaseOptions,
    batch: BatchOptions | None,
    place: Place,
    json: bool,
) -> None:
    from differseg_med.bundle import segment as segment_study
    from differseg_med.bundle import study_sources

    sources = study_sources(studies, bundle)
    alone = len(studies) == 1 and [source.study for source in sources] == studies
    if alone and batch is None:
        with _print.progress() as report:
            result = segment_study(studies[0], bundle, out, options, report=report, **place)
        _print.case(result, as_json=json)
    else:
        _segment_many(sources, bundle, out, options, batch, place, json)


def _segment_many(
    sources: Sequence[StudySource],
    bundle: str,
    out: Path,
    options: CaseOptions,
    batch: BatchOptions | None,
    place: Place,
    json: bool,
) -> None:
    from differseg_med.bundle import segment_many
    from differseg_med.engine import BatchOptions

    if options.case is not None:
        raise UsageError("E_OPTION", "--case-id names one case; name several in a manifest")
    states: list[str] = []
    codes: list[str] = []
    batch = batch or BatchOptions()
    mine = [source for source in sources if batch.part.holds(source.case)]
    outcomes = segment_many(sources, bundle, out, options, batch, **place)
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
