"""Studies from an archive onto the disk: only the series that are needed, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from differseg_med import io
from differseg_med.errors import DifferSegError, OutputError, ServerError, StudyError, UsageError
from differseg_med.integrations.archive._archive import Archive
from differseg_med.integrations.archive._needs import Needs, needs_of
from differseg_med.integrations.archive._server import Server
from differseg_med.integrations.archive._talk import insist, is_transient

__all__ = ["PulledStudy", "case_of", "fetch_study", "pull"]

_NAME_DIGITS = 24
_FAILURES_IN_A_ROW = 3

_Listing = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class PulledStudy:
    """What became of one study of an archive.

    Attributes:
        case: name of the case, made from a hash of the study's UID.
        study_uid: Study Instance UID.
        path: its folder; None where it could not be fetched.
        error: why not.
        fetched: number of files that came over the network; 0 where all were here already.
    """

    case: str
    study_uid: str
    path: Path | None = None
    error: DifferSegError | None = None
    fetched: int = 0


def pull(
    server: Server | str,
    query: Mapping[str, str],
    out: str | Path,
    *,
    bundle: str | Path | None = None,
    rules: io.Rules | None = None,
    limit: int | None = None,
    report: Callable[[str], None] = lambda stage: None,
) -> Iterator[PulledStudy]:
    """Fetch every study that matches, one by one; ``OUT/CASE/`` appears when it is complete.

    What is here already, from this run or an earlier one that was cut short, is not fetched again.
    A study that cannot be fetched does not stop the others.

    Args:
        server: the archive, or its address.
        query: value by DICOM keyword, see `check_query`.
        out: folder for the studies.
        bundle: fetch only the series that may serve this bundle.
        rules: which series serve what; narrows the bundle's choice, or stands for it.
        limit: end after this number of studies.
        report: is told how far it is.

    Yields:
        Each study as soon as it is done.

    Raises:
        UsageError: a wrong call.
        ServerError: ``E_AUTH``, ``E_TLS`` or ``E_QUERY`` for the search itself, or ``E_SERVER``
            when the archive stays away.
        OutputError: ``E_WRITE``.
    """
    if limit is not None and limit < 1:
        raise UsageError("E_OPTION", "--limit is 1 or more")
    needs = needs_of(bundle, rules)
    server = Server(server) if isinstance(server, str) else server
    failures = 0
    with Archive(server) as archive:
        for number, study in enumerate(archive.studies(query), start=1):
            if limit is not None and number > limit:
                return
            report(f"study {number}")
            pulled = _try(archive, study.uid, needs, Path(out))
            failures = failures + 1 if pulled.error and is_transient(pulled.error) else 0
            yield pulled
            if pulled.error and failures >= _FAILURES_IN_A_ROW:
                raise pulled.error


def case_of(study: str) -> str:
    """Name of a study's case: the same for the same study, and nothing that could be read back.

    Args:
        study: Study Instance UID.
    """
    return f"study-{_digest(study)}"


def fetch_study(archive: Archive, study: str, needs: Needs, out: Path) -> PulledStudy:
    """Fetch the series of one study that are needed.

    The study is listed before and after; one that changed meanwhile is not complete.

    Args:
        archive: where from.
        study: Study Instance UID.
        needs: which series.
        out: folder for the studies.

    Raises:
        StudyError: ``E_MISSING_MODALITY`` or ``E_CORRUPT``.
        ServerError: the archive failed, or ``E_TRANSFER`` for a study that is still growing.
        OutputError: ``E_WRITE``.
    """
    case = case_of(study)
    folder = out / case
    listing = _list(archive, study, needs)
    if _holds(folder, listing):
        return PulledStudy(case, study, folder)
    part, fetched = out / f".{case}.part", 0
    try:
        _drop_strangers(part, listing)
        for series, expected in listing.items():
            if _files_in(part / _digest(series)) != _names(expected):
                fetched += _fetch_series(archive, study, series, expected, part)
        if _list(archive, study, needs) != listing:
            raise ServerError("E_TRANSFER", "the study changed while it was read")
        _put_in_place(part, folder)
    except OSError as error:
        raise OutputError("E_WRITE", f"{case}: {error.strerror}") from error
    return PulledStudy(case, study, folder, fetched=fetched)


def _try(archive: Archive, study: str, needs: Needs, out: Path) -> PulledStudy:
    """A study, or why it could not be fetched; what concerns all studies is raised."""
    try:
        return fetch_study(archive, study, needs, out)
    except (StudyError, ServerError) as error:
        if error.code in ("E_AUTH", "E_TLS"):
            raise
        return PulledStudy(case_of(study), study, error=error)


def _list(archive: Archive, study: str, needs: Needs) -> dict[str, frozenset[str]]:
    chosen = needs.choose(archive.series(study, needs.fields))
    listing = {entry.uid: archive.instances(study, entry.uid) for entry in chosen}
    empty = [uid for uid, instances in listing.items() if not instances]
    if empty:
        raise ServerError("E_TRANSFER", f"{len(empty)} series have no instances (yet)")
    return listing


def _fetch_series(
    archive: Archive, study: str, series: str, expected: frozenset[str], part: Path
) -> int:
    """All objects of a series into its folder, which appears when they are complete."""
    target = part / _digest(series)
    fresh = part / f".{target.name}"

    def transfer() -> int:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        with io.quiet():
            received = archive.retrieve(study, series)
            return sum(not _keep(dataset, study, series, expected, fresh) for dataset in received)

    others = insist(transfer, archive.server.attempts, archive.sleep)
    got = len(_files_in(fresh))
    if others or got != len(expected):  # the same request would bring the same again
        raise ServerError(
            "E_TRANSFER", f"{got} of {len(expected)} objects of a series came, and {others} others"
        )
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return got


def _keep(dataset: object, study: str, series: str, expected: frozenset[str], folder: Path) -> bool:
    """Write an object, unless it is none of those that were asked for."""
    try:
        identity = io.instance_id(dataset)
        wanted = (identity.study, identity.series) == (study, series) and identity.sop in expected
        if wanted:
            io.write_instance(dataset, folder / _name(identity.sop))
    except StudyError as error:
        raise ServerError("E_TRANSFER", error.detail) from error
    return wanted


def _put_in_place(part: Path, folder: Path) -> None:
    """Swap a complete study in; a crash in between leaves the complete part, found next time."""
    old = folder.with_name(f".{folder.name}.old")
    os.sync()  # a name must not reach the disk before its content
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _drop_strangers(part: Path, listing: _Listing) -> None:
    """Remove what an earlier attempt left and the archive no longer lists."""
    part.mkdir(parents=True, exist_ok=True)
    wanted = {_digest(series) for series in listing}
    for entry in part.iterdir():
        if entry.name not in wanted:
            shutil.rmtree(entry)


def _holds(folder: Path, listing: _Listing) -> bool:
    """Whether a folder is exactly what the archive lists."""
    if not folder.is_dir():
        return False
    wanted = {_digest(series): _names(instances) for series, instances in listing.items()}
    return {entry.name: _files_in(entry) for entry in folder.iterdir()} == wanted


def _files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _names(instances: frozenset[str]) -> set[str]:
    return {_name(sop) for sop in instances}


def _name(sop: str) -> str:
    return f"{_digest(sop)}.dcm"


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:_NAME_DIGITS]
