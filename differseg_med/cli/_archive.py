"""Commands that talk to a DICOM archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differseg_med.cli import _print, _print_archive
from differseg_med.cli._base import (
    ALL_FAILED,
    SOME_FAILED,
    Debug,
    Device,
    Json,
    Lenient,
    Register,
    RulesFile,
    Trust,
    Weights,
    app,
    read_options,
)

if TYPE_CHECKING:
    from differseg_med.integrations.archive import Server

__all__ = ["Ca", "InsecureHttp", "Query", "Timeout", "connect"]

Address = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="URL",
        help="Address of the archive up to its DICOMweb root. Credentials come from the "
        "environment (DIFFERSEG_DICOMWEB_USER and DIFFERSEG_DICOMWEB_PASSWORD, or "
        "DIFFERSEG_DICOMWEB_TOKEN) or from ~/.netrc.",
    ),
]
Query = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="KEY=VALUE",
        help="DICOM keyword and value that studies must match, such as ModalitiesInStudy=PT or "
        "StudyDate=20240101-; may be repeated.",
    ),
]
Ca = Annotated[Path | None, typer.Option("--ca", help="Certificates of an authority of your own.")]
InsecureHttp = Annotated[
    bool, typer.Option("--insecure-http", help="Allow plain HTTP to another machine.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds that the archive may be silent.")
]

Interval = Annotated[float, typer.Option("--interval", help="Seconds between polls.")]
Once = Annotated[
    bool, typer.Option("--once", help="End when every study that is there is at its end.")
]
Formats = Annotated[
    str | None,
    typer.Option(
        "--formats",
        help="What is written, separated by commas; DICOM goes to the archive. "
        "Default: seg, and sr where it can be written.",
    ),
]
Port = Annotated[
    int | None,
    typer.Option("--port", help="Port of this machine for /health and /metrics; 0: any."),
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Keep fetched studies after their results are stored.")
]


def connect(url: str, ca: Path | None, insecure_http: bool, timeout: float) -> Server:
    """The archive at an address."""
    from differseg_med.integrations.archive import Server

    return Server(url, ca=ca, insecure_http=insecure_http, read_s=timeout)


@app.command()
def pull(
    server: Address,
    out: Annotated[Path, typer.Option(help="Folder for studies; each gets a folder in it.")],
    query: Query = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="Fetch only what this bundle may use.")
    ] = None,
    rules: RulesFile = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="End after this number of studies.")
    ] = None,
    ca: Ca = None,
    insecure_http: InsecureHttp = False,
    timeout: Timeout = 60.0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Fetch studies from a DICOM archive, only the series that are needed."""
    from differseg_med.integrations.archive import check_query
    from differseg_med.integrations.archive import pull as pull_studies

    place, conditions = connect(server, ca, insecure_http, timeout), check_query(query or [])
    read = read_options(None, rules, None, None, None, False)
    count = failed = 0
    with _print.progress() as report:
        for study in pull_studies(
            place, conditions, out, bundle=bundle, rules=read.rules, limit=limit, report=report
        ):
            _print_archive.pulled(study, as_json=json)
            count, failed = count + 1, failed + (study.error is not None)
    if not count:
        _print.note("no study matches")
    _leave(failed, count)


@app.command()
def push(
    paths: Annotated[
        list[Path], typer.Argument(help="DICOM files, and folders whose DICOM files are sent.")
    ],
    server: Address,
    ca: Ca = None,
    insecure_http: InsecureHttp = False,
    timeout: Timeout = 60.0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Store DICOM results in a DICOM archive; what it has already is not sent again."""
    from differseg_med.integrations.archive import push as push_paths

    with _print.progress() as report:
        sent = push_paths(connect(server, ca, insecure_http, timeout), paths, report=report)
    for file in sent.files:
        _print_archive.pushed(file, as_json=json)
    _leave(len(sent.failed), len(sent.files))


@app.command()
def watch(
    server: Address,
    bundle: Annotated[str, typer.Option("--bundle", help="Name or folder of the bundle.")],
    out: Annotated[Path, typer.Option(help="Folder for fetched studies and for results.")],
    state: Annotated[Path, typer.Option("--state", help="SQLite file that remembers each step.")],
    query: Query = None,
    interval: Interval = 60.0,
    once: Once = False,
    formats: Formats = None,
    port: Port = None,
    rules: RulesFile = None,
    register: Register = None,
    lenient: Lenient = False,
    weights: Weights = None,
    device: Device = "cpu",
    keep: Keep = False,
    trust: Trust = False,
    ca: Ca = None,
    insecure_http: InsecureHttp = False,
    timeout: Timeout = 60.0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment every study that arrives in a DICOM archive and store the results there."""
    from differseg_med.engine import tune_process

    tune_process()  # before torch is imported
    from differseg_med.integrations.archive import WatchOptions, check_query
    from differseg_med.integrations.archive import watch as watch_archive

    options = WatchOptions(
        server=connect(server, ca, insecure_http, timeout),
        bundle=bundle,
        out=out,
        state=state,
        query=check_query(query or []),
        interval_s=interval,
        once=once,
        formats=tuple(formats.split(",")) if formats is not None else None,
        port=port,
        keep=keep,
        read=read_options(None, rules, None, None, register, lenient),
        weights=weights,
        device=device,
        trust=trust,
    )
    counts = watch_archive(options, report=lambda event: _print_archive.event(event, as_json=json))
    _print_archive.watched(counts, as_json=json)
    _leave(counts["failed"], counts["failed"] + counts["pushed"])


def _leave(failed: int, count: int) -> None:
    """End with the status that says how many of several failed."""
    if failed:
        raise typer.Exit(SOME_FAILED if failed < count else ALL_FAILED)
