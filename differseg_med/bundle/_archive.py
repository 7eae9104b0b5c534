"""A bundle in a zip archive: checked by its directory, then unpacked once, named by its hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from differseg_med.errors import BundleError, OutputError

__all__ = ["unpack_bundle"]

MAX_FILES = 10_000
MAX_BYTES = 2**33
MAX_RATIO = 200
"""Largest share of unpacked to packed bytes; weights hardly shrink, text by about ten."""

MAX_DIRECTORY_BYTES = 2**24
MAX_NAME = 200

_CHUNK = 1 << 20
_NOT_IN_NAMES = frozenset('\\:*?"<>|')
_FILE_TYPES = (0, stat.S_IFREG, stat.S_IFDIR)
_ENCRYPTED = 0x1
_READ_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError)


def unpack_bundle(archive: Path) -> Path:
    """Unpack a bundle into the cache, unless it is there already.

    Args:
        archive: a ``.zip`` file with a bundle at its top or in its only folder.

    Returns:
        Folder of the bundle.

    Raises:
        BundleError: ``E_ARCHIVE`` for an archive that is damaged, unsafe or holds no bundle.
        OutputError: ``E_WRITE`` where the cache cannot be written.
    """
    size, digest = _measure(archive)
    place = _cache() / digest
    if not place.is_dir():
        members = _members(archive, size)
        try:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as scratch:
                fresh = Path(scratch) / "new"
                fresh.mkdir()
                _extract(archive, members, fresh)
                _publish(fresh, place)
        except OSError as error:
            raise OutputError("E_WRITE", f"{archive.name}: {error.strerror or error}") from error
    return _bundle_in(place, archive)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "differseg-med" / "bundles"


def _refuse(archive: Path, reason: str) -> BundleError:
    return BundleError("E_ARCHIVE", f"{archive.name}: {reason}")


def _measure(archive: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
        return file.tell(), digest.hexdigest()


def _members(archive: Path, size: int) -> list[zipfile.ZipInfo]:
    """The archive's files, once every one of its entries was found harmless."""
    try:
        with zipfile.ZipFile(archive) as opened:
            if size - opened.start_dir > MAX_DIRECTORY_BYTES:
                raise _refuse(archive, f"a directory of over {MAX_DIRECTORY_BYTES} bytes")
            entries = opened.infolist()
    except _READ_ERRORS as error:
        raise _refuse(archive, f"cannot be read ({type(error).__name__})") from error
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_FILES or total > MAX_BYTES:
        raise _refuse(archive, f"over {MAX_FILES} files or {MAX_BYTES} bytes")
    seen: set[str] = set()
    for entry in entries:
        _check_entry(archive, entry)
        key = unicodedata.normalize("NFKC", entry.filename.rstrip("/")).casefold()
        if key in seen:
            raise _refuse(archive, f"entry {len(seen) + 1} has the name of another")
        seen.add(key)
    return [entry for entry in entries if not entry.is_dir()]


def _check_entry(archive: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = PurePosixPath(name).parts
    odd = any(c in _NOT_IN_NAMES or not c.isprintable() for c in name)
    if not parts or name.startswith("/") or ".." in parts or odd or len(name) > MAX_NAME:
        raise _refuse(archive, "an entry has a name that leads elsewhere or is no name")
    if entry.flag_bits & _ENCRYPTED:
        raise _refuse(archive, "an entry is encrypted")
    if stat.S_IFMT(entry.external_attr >> 16) not in _FILE_TYPES:
        raise _refuse(archive, "an entry is a link or a device")
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 64):
        raise _refuse(archive, f"an entry unpacks to more than {MAX_RATIO} times its size")


def _extract(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Write the members; what unpacks to more than its entry says is refused on the way."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, target.open("xb") as file:
                    left = member.file_size
                    while block := source.read(_CHUNK):
                        left -= len(block)
                        if left < 0:
                            raise _refuse(archive, "an entry is longer than it says")
                        file.write(block)
    except (EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, FileExistsError) as error:
        raise _refuse(archive, f"cannot be unpacked ({type(error).__name__})") from error


def _publish(fresh: Path, place: Path) -> None:
    try:
        fresh.rename(place)
    except OSError:
        if not place.is_dir():  # else another process was faster, with the same content
            raise
        shutil.rmtree(fresh)


def _bundle_in(place: Path, archive: Path) -> Path:
    metadata = Path("configs", "metadata.json")
    folders = [place, *(path for path in sorted(place.iterdir()) if path.is_dir())]
    found = [folder for folder in folders if (folder / metadata).is_file()]
    if len(found) != 1:
        raise _refuse(archive, f"holds {len(found)} bundles at its top or in a folder, 1 expected")
    return found[0]
