"""Archives of studies are read in place; what one could do to a reader is refused or left out."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from traps import Stack, assert_sphere, save

from differseg_med.errors import StudyError
from differseg_med.io import _source, read_study, to_volume
from differseg_med.modality import get_modality


@pytest.fixture
def stack() -> Stack:
    return Stack()


@pytest.fixture
def files(stack: Stack, tmp_path: Path) -> dict[str, bytes]:
    paths = save(stack.slices(), tmp_path / "plain").iterdir()
    return {path.name: path.read_bytes() for path in sorted(paths)}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_names_that_lead_elsewhere_are_only_names(
    tmp_path: Path, stack: Stack, files: dict[str, bytes]
) -> None:
    odd = ["../../{}", "/etc/{}", "C:\\{}", "a\\..\\{}", "~/{}"]
    renamed = {odd[i % 5].format(name): data for i, (name, data) in enumerate(files.items())}
    path = pack(tmp_path / "s.zip", renamed)
    before = sorted(tmp_path.parent.rglob("*"))
    study = read_study(path)
    assert_sphere(to_volume(study.series[0], get_modality("ct")), stack)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_links_are_read_as_what_they_hold(
    tmp_path: Path, stack: Stack, files: dict[str, bytes]
) -> None:
    path = pack(tmp_path / "s.zip", files)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(tmp_path / "plain" / "0000.dcm"))
    study = read_study(path)
    assert [item.reason for item in study.skipped] == ["not DICOM"]
    assert_sphere(to_volume(study.series[0], get_modality("ct")), stack)


def test_archives_in_archives_are_not_opened(
    tmp_path: Path, stack: Stack, files: dict[str, bytes]
) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("evil.dcm", files["0000.dcm"])
    study = read_study(pack(tmp_path / "s.zip", {**files, "inner.zip": inner.getvalue()}))
    assert [item.reason for item in study.skipped] == ["not DICOM"]
    assert len(study.series[0].instances) == len(files)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    """Only the last of them could be read: a slice would be lost without a word."""
    path = pack(tmp_path / "3.zip", files)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("0003.dcm", files["0004.dcm"])
    with pytest.raises(StudyError, match=r"E_CORRUPT: 3.zip lists one name twice"):
        read_study(path)


def test_a_member_that_would_fill_the_memory_is_refused(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = files["0000.dcm"][:400] + bytes(10**7)
    path = pack(tmp_path / "3.zip", {**files, "bomb.dcm": bomb})
    monkeypatch.setattr(_source, "MAX_PACKED_BYTES", 10**6)
    with pytest.raises(StudyError, match=r"E_SIZE.*more than 200 times its size"):
        read_study(path)


def test_a_member_that_claims_more_than_deflate_can_give_is_refused(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    path = pack(tmp_path / "3.zip", files)
    blob = bytearray(path.read_bytes())
    at = blob.index(b"PK\x01\x02") + 24
    blob[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(bytes(blob))
    with pytest.raises(StudyError, match="E_SIZE"):
        read_study(path)


def test_a_directory_that_would_fill_the_memory_is_refused(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / "3.zip", files)
    monkeypatch.setattr(_source, "MAX_DIRECTORY_BYTES", 100)
    monkeypatch.setattr(zipfile.ZipFile, "infolist", None)  # never reached
    with pytest.raises(StudyError, match=r"E_SIZE: 3.zip has a directory of over 100 bytes"):
        read_study(path)


def test_an_empty_archive_is_an_empty_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="E_EMPTY"):
        read_study(pack(tmp_path / "s.zip", {}))
