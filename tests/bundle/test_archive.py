"""A bundle in a zip is unpacked safely, once, and treated as foreign."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from differseg_med.bundle import find_bundle, load_predictor
from differseg_med.errors import BundleError, OutputError

Entries = dict[str, bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "differseg-med" / "bundles"


@pytest.fixture
def whole(tiny_bundle: Path) -> Entries:
    files = (path for path in tiny_bundle.rglob("*") if path.is_file())
    return {f"tiny/{path.relative_to(tiny_bundle)}": path.read_bytes() for path in files}


def pack(path: Path, entries: Entries, extra: Callable[[zipfile.ZipFile], object] = len) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        if extra is not len:
            extra(archive)
    return path


def refused(path: Path, what: str, cache: Path) -> None:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(BundleError, match=rf"E_ARCHIVE.*{what}") as caught:
        find_bundle(path)
    assert "\n" not in str(caught.value)
    left = sorted(set(path.parent.rglob("*")) - set(before))
    assert not [p for p in left if p.is_file()], left
    assert not cache.is_dir() or not list(cache.iterdir())


@pytest.mark.parametrize("top", ["", "tiny/", "some folder/"])
def test_a_bundle_is_found_in_a_zip_and_runs_untrusted(
    tmp_path: Path, cache: Path, whole: Entries, top: str
) -> None:
    entries = {name.replace("tiny/", top, 1): content for name, content in whole.items()}
    info = find_bundle(pack(tmp_path / "mine.zip", entries))
    assert (info.name, info.trusted) == ("mine", False)
    assert info.root.is_relative_to(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    load_predictor(info)


def test_it_is_unpacked_once_and_again_when_it_changes(
    tmp_path: Path, cache: Path, whole: Entries
) -> None:
    path = pack(tmp_path / "mine.zip", whole)
    first = find_bundle(path).root
    stamp = (first / "configs/metadata.json").stat().st_mtime_ns
    assert find_bundle(path).root == first
    assert (first / "configs/metadata.json").stat().st_mtime_ns == stamp
    second = find_bundle(pack(path, {**whole, "tiny/docs/README.md": b"new"})).root
    assert second != first
    assert {p.name for p in cache.iterdir()} == {first.parent.name, second.parent.name}


def test_what_it_asks_for_is_walked(tmp_path: Path, whole: Entries) -> None:
    whole["tiny/configs/inference.yaml"] += b"\nevil: $__import__('os')\n"
    with pytest.raises(BundleError, match="E_TRUST"):
        load_predictor(find_bundle(pack(tmp_path / "mine.zip", whole)))


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "\\\\host\\evil",
        "a\\..\\..\\evil",
        "C:/evil",
        "a\x07b",
        "a/" + "b" * 300,
        "tiny/configs/metadata.json",
        "tiny/configs/METADATA.json",
        "tiny/configs/metadata.json/",
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_lead_elsewhere_or_stand_twice(
    tmp_path: Path, cache: Path, whole: Entries, name: str
) -> None:
    path = pack(tmp_path / "mine.zip", whole, lambda archive: archive.writestr(name, b"x"))
    refused(path, "name", cache)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK])
def test_links_and_devices(tmp_path: Path, cache: Path, whole: Entries, kind: int) -> None:
    def add(archive: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo("tiny/link")
        entry.external_attr = (kind | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")

    refused(pack(tmp_path / "mine.zip", whole, add), "link or a device", cache)


def test_bombs(tmp_path: Path, cache: Path, whole: Entries, monkeypatch) -> None:
    from differseg_med.bundle import _archive

    refused(pack(tmp_path / "ratio.zip", {**whole, "a": b"\0" * 10**7}), "200 times", cache)
    monkeypatch.setattr(_archive, "MAX_FILES", 2)
    refused(pack(tmp_path / "many.zip", whole), "over 2 files", cache)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_archive, "MAX_BYTES", 1000)
    refused(pack(tmp_path / "large.zip", whole), "1000 bytes", cache)
    monkeypatch.setattr(_archive, "MAX_DIRECTORY_BYTES", 10)
    refused(pack(tmp_path / "directory.zip", whole), "a directory of over", cache)


def test_an_archive_in_an_archive_is_a_file(tmp_path: Path, whole: Entries) -> None:
    inner = pack(tmp_path / "inner.zip", {"../evil": b"x"}).read_bytes()
    info = find_bundle(pack(tmp_path / "mine.zip", {**whole, "tiny/docs/inner.zip": inner}))
    assert (info.root / "docs/inner.zip").read_bytes() == inner
    assert not (info.root / "evil").exists()


def spoilt(path: Path, mark: bytes, offset: int, value: bytes) -> Path:
    """Overwrite bytes of every header with a mark."""
    blob, at = bytearray(path.read_bytes()), -1
    while (at := blob.find(mark, at + 1)) >= 0:
        blob[at + offset : at + offset + len(value)] = value
    path.write_bytes(bytes(blob))
    return path


def test_headers_that_lie(tmp_path: Path, cache: Path, whole: Entries) -> None:
    path = pack(tmp_path / "mine.zip", whole)
    refused(spoilt(path, b"PK\x01\x02", 8, b"\x01\x00"), "encrypted", cache)
    path = pack(tmp_path / "mine.zip", whole)
    refused(spoilt(path, b"PK\x01\x02", 24, struct.pack("<I", 5)), "cannot be unpacked", cache)
    path = pack(tmp_path / "mine.zip", whole)
    refused(spoilt(path, b"PK\x01\x02", 16, b"\0\0\0\0"), "cannot be unpacked", cache)
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "cannot be read", cache)
    path.write_bytes(b"PK\x03\x04 nothing")
    refused(path, "cannot be read", cache)


@pytest.mark.parametrize("count", [0, 2])
def test_no_bundle_or_two(tmp_path: Path, whole: Entries, count: int) -> None:
    entries = {"a.txt": b"x"}
    for number in range(count):
        entries |= {name.replace("tiny", f"t{number}"): content for name, content in whole.items()}
    with pytest.raises(BundleError, match=rf"E_ARCHIVE.*holds {count} bundles"):
        find_bundle(pack(tmp_path / "mine.zip", entries))


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, whole: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="E_WRITE"):
        find_bundle(pack(tmp_path / "mine.zip", whole))


def test_what_is_half_unpacked_is_never_used(
    tmp_path: Path, cache: Path, whole: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / "mine.zip", whole)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)  # as after a kill
        patch.setattr(
            Path, "rename", lambda *a: (_ for _ in ()).throw(OSError(28, os.strerror(28)))
        )
        with pytest.raises(OutputError, match=r"E_WRITE.*No space"):
            find_bundle(path)
    load_predictor(find_bundle(path))
