"""Where bytes come from: files in folders, and members of zip archives read in place."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from differseg_med.errors import StudyError, UsageError
from differseg_med.io._limits import (
    DEFLATE_RATIO,
    MAX_DIRECTORY_BYTES,
    MAX_FILE_BYTES,
    MAX_PACKED_BYTES,
    MAX_PACKED_RATIO,
)

__all__ = ["READ_ERRORS", "Source", "SourceReader", "list_sources", "parse_label", "source_file"]

READ_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)
"""What reading a file or an archive member can raise (encrypted members: RuntimeError)."""

_SEPARATOR = ".zip!"
_END_BYTES = (1 << 16) + 22
"""Where the end of an archive's directory is looked for: its record and the longest comment."""

_DATE = re.compile(r"(19|20)\d\d[-_. ]?\d\d[-_. ]?\d\d")
_PARTS = re.compile(r"[-_. ]")
_WORDS = frozenset(
    """
    im img image mr ct pt pet slice file dicom dcm ima nii gz zip sub ses run acq echo dir flair dwi
    adc t1 t1w t2 t2w pd
    """.split()  # noqa: SIM905 - a list of words reads better as text
)
"""What names of files are made of besides counts."""


@dataclass(frozen=True)
class Source:
    """One file, or one member of an archive.

    Attributes:
        path: the file or the archive.
        member: name inside the archive, None for a plain file.
        size: length in bytes, uncompressed.
    """

    path: Path
    member: str | None
    size: int

    @property
    def label(self) -> str:
        """The path, or ``ARCHIVE.zip!MEMBER``."""
        return str(self.path) if self.member is None else f"{self.path}!{self.member}"

    @property
    def name(self) -> str:
        """The last part of the name only: what a message may show."""
        return short_name(self.label)


def short_name(label: str) -> str:
    """Name of a source as a message may show it.

    Exports name files after patients, accessions and UIDs, so only a name that is no more than a
    count is shown as it is; any other by the start of its SHA-256, which tells files apart.

    >>> short_name("/data/DOE_JOHN/IM-0001-0007.dcm"), short_name("a.zip!x/Doe^John.dcm")
    ('IM-0001-0007.dcm', 'file:cc2e99f4')
    """
    name = label.replace("!", "/").rstrip("/").rsplit("/", 1)[-1]
    dated = _DATE.search(name) is not None
    if not dated and all(_says_nothing(part) for part in _PARTS.split(name.lower())):
        return name
    return f"file:{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _says_nothing(part: str) -> bool:
    """A count of up to five digits, behind a known word or a single letter."""
    word = part.rstrip("0123456789")
    return part in _WORDS or (len(part) - len(word) <= 5 and (len(word) <= 1 or word in _WORDS))


def parse_label(label: str) -> Source:
    """The source that a label names; the size is looked up when it is read."""
    if _SEPARATOR in label.lower():
        cut = label.lower().index(_SEPARATOR) + len(_SEPARATOR) - 1
        return Source(Path(label[:cut]), label[cut + 1 :], -1)
    return Source(Path(label), None, -1)


def source_file(label: str) -> Path:
    """The file that holds a source's bytes: itself, or the archive that it is a member of.

    Args:
        label: what `Instance.source` says.
    """
    return parse_label(label).path


def list_sources(root: Path) -> Iterator[Source]:
    """Every file under a folder, every member of its archives, or one file or archive.

    Raises:
        UsageError: ``E_PATH`` when the path does not exist.
    """
    if root.is_dir():
        for folder, subfolders, names in os.walk(root):
            subfolders.sort()
            for name in sorted(names):
                yield from _expand(Path(folder) / name)
    elif root.exists():
        yield from _expand(root)
    else:
        raise UsageError("E_PATH", "the study's path does not exist")


def _expand(path: Path) -> Iterator[Source]:
    try:
        size = path.stat().st_size
        if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
            yield from _members(path)
            return
    except READ_ERRORS:
        size = -1
    yield Source(path, None, size)


def _members(path: Path) -> Iterator[Source]:
    """An archive's files; one that lists a name twice would hide all but the last of them."""
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    if len({info.filename for info in infos}) < len(infos):
        raise StudyError("E_CORRUPT", f"{short_name(path.name)} lists one name twice")
    for info in infos:
        packed = info.compress_size + 1
        lie = info.file_size > min(MAX_FILE_BYTES, packed * DEFLATE_RATIO)
        if info.file_size > max(MAX_PACKED_BYTES, packed * MAX_PACKED_RATIO):
            raise StudyError(
                "E_SIZE",
                f"a member of {short_name(path.name)} would unpack to {info.file_size} bytes, more "
                f"than {MAX_PACKED_RATIO} times its size",
            )
        yield Source(path, info.filename, -1 if lie else info.file_size)


def _check_directory(path: Path) -> None:
    """Refuse an archive whose directory alone would fill the memory, before it is read."""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _END_BYTES))
        end = file.read()
    at = end.rfind(b"PK\x05\x06")
    listed = int.from_bytes(end[at + 12 : at + 16], "little")
    if at >= 0 and listed > MAX_DIRECTORY_BYTES:
        raise StudyError(
            "E_SIZE", f"{short_name(path.name)} has a directory of over {MAX_DIRECTORY_BYTES} bytes"
        )


class SourceReader:
    """Reads sources from many threads; keeps each archive open until it is closed."""

    def __init__(self) -> None:
        self._archives: dict[Path, zipfile.ZipFile] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def open(self, source: Source) -> IO[bytes]:
        """Open for reading in binary; archive members can seek forwards cheaply only."""
        if source.member is None:
            return source.path.open("rb")
        with self._lock:
            archive = self._archives.get(source.path)
            if archive is None:
                archive = self._archives[source.path] = zipfile.ZipFile(source.path)
        try:
            return archive.open(source.member)
        except KeyError as error:
            raise StudyError("E_CORRUPT", f"{source.name} is not in its archive") from error

    def head(self, source: Source, size: int) -> io.BytesIO:
        """The first bytes, in memory."""
        with self.open(source) as file:
            return io.BytesIO(file.read(size))

    def read(self, source: Source) -> bytes:
        """The whole content, in memory; at most as many bytes as a file may have."""
        with self.open(source) as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise StudyError("E_SIZE", f"{source.name} has more than {MAX_FILE_BYTES} bytes")
        return data

    def read_range(self, source: Source, offset: int, length: int) -> bytes:
        """Bytes from an offset; fewer than asked for where the file ends before."""
        with self.open(source) as file:
            file.seek(offset)
            return file.read(length)
