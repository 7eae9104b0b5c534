"""Results into an archive: each object once, in messages that the archive can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from differseg_med import io
from differseg_med.errors import DifferSegError, ServerError, StudyError, UsageError
from differseg_med.integrations.archive._archive import Archive, StoreAnswer
from differseg_med.integrations.archive._server import Server
from differseg_med.integrations.archive._talk import insist

__all__ = ["PushReport", "PushedFile", "push", "push_files"]

MESSAGE_BYTES = 32 << 20
"""Length of a message; a single object that is longer is sent alone."""

_DUPLICATE = 0x0111
"""Failure reason of a server that has the object already."""

_OUT_OF_RESOURCES = range(0xA700, 0xA800)
"""Failure reasons that may pass, such as a full disk there."""


@dataclass(frozen=True)
class PushedFile:
    """What became of one file.

    Attributes:
        path: the file.
        state: ``stored`` now, ``present`` in the archive before, or ``failed``.
        error: why it failed.
    """

    path: Path
    state: Literal["stored", "present", "failed"]
    error: DifferSegError | None = None


@dataclass(frozen=True)
class PushReport:
    """What became of all files.

    Attributes:
        files: one entry per DICOM file, in order.
    """

    files: tuple[PushedFile, ...]

    @property
    def failed(self) -> tuple[PushedFile, ...]:
        """Those that the archive did not take."""
        return tuple(file for file in self.files if file.state == "failed")


@dataclass(frozen=True)
class _File:
    path: Path
    identity: io.InstanceId
    size: int


def push(
    server: Server | str,
    paths: Iterable[str | Path],
    *,
    message_bytes: int = MESSAGE_BYTES,
    report: Callable[[str], None] = lambda stage: None,
) -> PushReport:
    """Store DICOM files in an archive; what is there already is not sent again.

    Args:
        server: the archive, or its address.
        paths: files, and folders whose DICOM files are sent.
        message_bytes: how much goes into one message; less where the archive asks for less.
        report: is told how far it is.

    Raises:
        UsageError: ``E_PATH`` when a path is not there, or there is no DICOM file.
        ServerError: the archive cannot be asked at all.
    """
    server = Server(server) if isinstance(server, str) else server
    files = list(_find(paths))
    with Archive(server) as archive:
        return push_files(archive, files, message_bytes=message_bytes, report=report)


def push_files(
    archive: Archive,
    paths: Iterable[Path],
    *,
    message_bytes: int = MESSAGE_BYTES,
    report: Callable[[str], None] = lambda stage: None,
) -> PushReport:
    """Store DICOM files through an open connection, see `push`.

    Args:
        archive: where to.
        paths: DICOM files.
        message_bytes: how much goes into one message.
        report: is told how far it is.

    Raises:
        UsageError: ``E_PATH`` when a file is no DICOM file.
        ServerError: the archive cannot be asked at all.
    """
    files, outcome = _identified(paths)
    there = _present(archive, files)
    outcome |= {f.path: PushedFile(f.path, "present") for f in files if f.identity.sop in there}
    waiting = [file for file in files if file.path not in outcome]
    queue = list(_messages(waiting, message_bytes))
    while queue:
        message = queue.pop(0)
        report(f"{len(outcome)} of {len(files)} objects")
        answer = _send(archive, message)
        if answer.too_large and len(message) > 1:
            half = len(message) // 2
            queue[:0] = [message[:half], message[half:]]
            continue
        outcome |= {file.path: _judge(file, answer) for file in message}
    return PushReport(tuple(outcome[path] for path in sorted(outcome)))


def _find(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Files that were named, and the DICOM files of folders, hidden ones left out."""
    none = True
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError("E_PATH", f"there is nothing at {path}")
        for file in [path] if path.is_file() else _visible(path):
            if _is_dicom(file):
                yield file
                none = False
            elif file == path:
                raise UsageError("E_PATH", f"{path.name} is no DICOM file")
    if none:
        raise UsageError("E_PATH", "there is no DICOM file to send", "Segment with --formats seg.")


def _visible(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not hidden and file.is_file():
            yield file


def _is_dicom(file: Path) -> bool:
    try:
        return io.read_instance_id(file) is not None
    except StudyError:  # it is one, and damaged: told when it is its turn
        return True


def _identified(paths: Iterable[Path]) -> tuple[list[_File], dict[Path, PushedFile]]:
    """Each object once, whatever files hold it; and the files that are damaged."""
    files: dict[str, _File] = {}
    damaged: dict[Path, PushedFile] = {}
    for path in paths:
        try:
            identity = io.read_instance_id(path)
        except StudyError as error:
            damaged[path] = PushedFile(path, "failed", error)
            continue
        if identity is None:
            raise UsageError("E_PATH", f"{path.name} is no DICOM file")
        files.setdefault(identity.sop, _File(path, identity, path.stat().st_size))
    return list(files.values()), damaged


def _present(archive: Archive, files: Sequence[_File]) -> frozenset[str]:
    """Which of the objects the archive has."""
    series = {(file.identity.study, file.identity.series) for file in files}
    there = (archive.instances(study, one) for study, one in sorted(series))
    return frozenset().union(*there) & {file.identity.sop for file in files}


def _messages(files: Sequence[_File], limit: int) -> Iterator[list[_File]]:
    message: list[_File] = []
    for file in files:
        if message and sum(f.size for f in message) + file.size > limit:
            yield message
            message = []
        message.append(file)
    if message:
        yield message


def _send(archive: Archive, message: Sequence[_File]) -> StoreAnswer:
    """Send a message until its fate is known.

    After an attempt that broke the archive is asked first: it may have taken everything before.
    """
    broken = False

    def attempt() -> StoreAnswer:
        nonlocal broken
        there = _present(archive, message) if broken else frozenset()
        rest = [file for file in message if file.identity.sop not in there]
        if not rest:
            return StoreAnswer(there)
        broken = True
        answer = archive.store([file.path.read_bytes() for file in rest])
        unnamed = {f.identity.sop for f in rest} - answer.stored - answer.failed.keys()
        stored = answer.stored | there
        if unnamed and not answer.too_large:
            stored |= _present(archive, rest)
        return StoreAnswer(stored, answer.failed, answer.too_large)

    try:
        return insist(attempt, archive.server.attempts, archive.sleep)
    except ServerError as error:
        if error.code in ("E_AUTH", "E_TLS", "E_SERVER"):
            raise
        return StoreAnswer()


def _judge(file: _File, answer: StoreAnswer) -> PushedFile:
    reason = answer.failed.get(file.identity.sop)
    if file.identity.sop in answer.stored:
        return PushedFile(file.path, "stored")
    if reason == _DUPLICATE:
        return PushedFile(file.path, "present")
    if reason in _OUT_OF_RESOURCES:
        error = ServerError("E_SERVER", f"the archive is out of resources (reason {reason:04X})")
        return PushedFile(file.path, "failed", error)
    if answer.too_large:
        detail = f"{file.path.name} is too large for the archive: {file.size} bytes"
    elif reason is not None:
        detail = f"{file.path.name} was refused with reason {reason:04X}"
    else:
        detail = f"{file.path.name} was sent and is not there"
    return PushedFile(file.path, "failed", ServerError("E_STOW", detail))
