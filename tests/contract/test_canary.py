"""No identity in anything that comes out: a word in every place that could hold one is looked for.

DICOM objects belong to their patient and carry the identity; with ``--deid`` they carry none.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import logging
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

sys.path.append(str(Path(__file__).parents[1] / "io"))
import traps
from traps import MR, PET, Stack

from differseg_med.cli._app import run
from differseg_med.engine import FORMATS
from differseg_med.io._deid import _TEXTS, _TIMES

WORD = "CANARY"
BORN = "19370211"
SCANNED = "20240315"  # the date of tests/io/traps.py
SECRETS = [
    *(re.compile(text.encode(), re.IGNORECASE) for text in (WORD, "TRAP-1", "Trap.One")),
    *(re.compile(rb"%s-?%s-?%s" % (d[:4].encode(), d[4:6].encode(), d[6:].encode()))
      for d in (BORN, SCANNED)),
    re.compile(rb"1\.2\.826\.0\.1\.3680043\.8\.498\.\d+"),  # every UID that traps makes
]  # fmt: skip
ROOT_UID = re.compile(rb"1\.2\.826\.0\.1\.3680043\.8\.498\.1(?!\d)")
"""pydicom's own implementation class, which is no secret."""

SHAPE = {"shape": (16, 15, 6), "spacing": (4.0, 4.0, 5.0)}
TEXT_VRS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
FALSE_TIMES = {"DA": BORN, "DT": BORN + "093000", "AS": "087Y"}
NEEDED = _TEXTS | _TIMES | {"PatientID", "IssuerOfPatientID"}


def poisons() -> dict[str, tuple[str, str]]:
    """Kind and value of every public element that could hold identity, by keyword."""
    found = {}
    for vr, _, _, retired, keyword in DicomDictionary.values():
        if retired or not keyword or keyword in NEEDED or keyword.startswith("Retired"):
            continue
        if vr in TEXT_VRS:
            found[keyword] = (vr, f"{WORD}^{WORD}" if vr == "PN" else WORD)
        elif vr in FALSE_TIMES:
            found[keyword] = (vr, FALSE_TIMES[vr])
    for keyword in ("FileSetID", "PrivateInformationCreatorUID"):
        found.pop(keyword, None)
    return {k: v for k, v in found.items() if pydicom.datadict.tag_for_keyword(k) > 0x00080000}


POISONS = poisons()


def elements() -> Dataset:
    data = Dataset()
    for keyword, (vr, value) in POISONS.items():
        data.add_new(keyword, vr, value)
    return data


ELEMENTS = elements()


def poison(data: Dataset) -> None:
    """Fill a data set; one call per slice, the same values in each."""
    data.update(ELEMENTS)
    data.PatientID, data.PatientName = f"{WORD}-ID", f"{WORD}^Name"
    data.add_new(0x00189999, "LO", WORD)
    data.private_block(0x0019, f"{WORD} CREATOR", create=True).add_new(1, "LO", WORD)
    data.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", WORD.encode())
    for keyword in ("RequestAttributesSequence", "ReferencedImageSequence", "ViewCodeSequence"):
        item = Dataset()
        item.PatientName, item.PatientBirthDate, item.CodeMeaning = f"{WORD}^In", BORN, "view"
        item.private_block(0x0011, WORD, create=True).add_new(1, "LO", WORD)
        setattr(data, keyword, [item])
    data.preamble = WORD.encode().ljust(128, b"\0")
    data.file_meta.SourceApplicationEntityTitle = WORD


def write(folder: Path, *stacks: Stack, change: Callable[[list[Dataset]], object] = len) -> Path:
    """A study whose contents, files and inner folders all carry the word."""
    for stack in stacks:
        slices = stack.slices()
        for data in slices:
            poison(data)
        change(slices)
        place = folder / f"{WORD} {stack.name}"
        place.mkdir(parents=True)
        for number, data in enumerate(slices):
            pydicom.dcmwrite(place / f"{WORD}_{number:03d}.dcm", data, enforce_file_format=True)
    return folder


STACKS = (Stack(sop_class=PET, name="P", **SHAPE), Stack(name="C", **SHAPE))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("poisoned") / "s1", *STACKS)


def layers(name: str, raw: bytes, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """A file's bytes, and what is packed in them."""
    yield name, raw
    if depth > 3:
        return
    inner: list[bytes] = []
    if raw[:2] == b"\x1f\x8b":
        inner.append(gzip.decompress(raw))
    if raw[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            inner += [archive.read(member) for member in archive.namelist()]
    if raw[:8] == b"\x89PNG\r\n\x1a\n":
        with Image.open(io.BytesIO(raw)) as image:
            image.load()
            inner.append(repr(image.info).encode())
    if raw[:4] == b"PAR1":
        from pyarrow import parquet

        table = parquet.read_table(io.BytesIO(raw))
        inner.append(repr((table.to_pylist(), table.schema.metadata)).encode())
    if b"base64," in raw[: 10**7] or name.endswith((".html", ".json")):
        for block in re.findall(rb"[A-Za-z0-9+/]{200,}={0,2}", raw):
            with contextlib.suppress(ValueError):
                decoded = base64.b64decode(block + b"=" * (-len(block) % 4))
                inner.append(decoded)
                with contextlib.suppress(zlib.error):
                    inner.append(zlib.decompress(decoded))
    for number, content in enumerate(inner):
        yield from layers(f"{name}[{number}]", content, depth + 1)


def leaks(name: str, raw: bytes) -> list[str]:
    found = []
    for layer, content in layers(name, raw):
        for secret in SECRETS:
            hits = [hit for hit in secret.finditer(content) if not ROOT_UID.match(hit.group())]
            found += [f"{layer}: {hit.group()!r}" for hit in hits[:1]]
    return found


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    """In plain sight, packed, in a picture's text, in a page's data and in a NIfTI header."""
    import nibabel
    import numpy as np
    from PIL.PngImagePlugin import PngInfo

    text = b"x" * 300 + WORD.encode()
    info = PngInfo()
    info.add_text("Comment", WORD, zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["descrip"] = WORD.lower()
    image.to_filename(tmp_path / "a.nii.gz")
    page = b"<script>const d = '" + base64.b64encode(zlib.compress(text * 9, 0)) + b"'</script>"
    (tmp_path / "a.html").write_bytes(page)
    (tmp_path / "a.json").write_text('{"born": "1937-02-11"}')
    (tmp_path / "b.json").write_text(f'{{"uid": "{traps.uid("A")}"}}')
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", text)
    for path in tmp_path.iterdir():
        assert leaks(path.name, path.read_bytes()), path.name
    assert not leaks("a", b"1.2.826.0.1.3680043.8.498.1")


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tiny_bundle: Path,
) -> Callable[..., tuple[int, str]]:
    """Runs a command; returns its exit status and everything that it said."""
    monkeypatch.setenv("DIFFERSEG_BUNDLES", str(tiny_bundle.parent))

    def command(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["differseg-med", *map(str, arguments)])
        capfd.readouterr()
        caplog.clear()
        with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as left:
            run()
        shown = capfd.readouterr()
        return int(left.value.code or 0), f"{shown.out}\n{shown.err}\n{caplog.text}"

    return command


def assert_silent(said: str, out: Path | None = None, *, dicom: bool = False) -> list[Path]:
    """Neither what was said nor what was written leaks; returns the files that were looked at."""
    found = leaks("said", said.encode())
    files = [path for path in out.rglob("*") if path.is_file()] if out is not None else []
    for path in files:
        found += leaks("path", str(path.relative_to(out)).encode())  # type: ignore[arg-type]
        if path.suffix != ".dcm" or dicom:
            found += leaks(path.name, path.read_bytes())
    assert not found, found
    return files


ALL = ",".join(FORMATS)


def test_every_text_of_the_standard_is_poisoned(study: Path) -> None:
    assert len(POISONS) > 700
    data = pydicom.dcmread(next(study.rglob("*.dcm")))
    assert {data[k].value for k in ("SeriesDescription", "ImageComments")} == {WORD}


@pytest.mark.parametrize(
    "options", [[], ["--bundle", "tiny"], ["--json"], ["--bundle", "sts_petctmr"]]
)
def test_inspect(call: Callable, study: Path, options: list[str]) -> None:
    status, said = call("inspect", study, *options)
    assert status == 0
    assert_silent(said)


def test_inspect_shows_descriptions_on_request_alone(call: Callable, study: Path) -> None:
    assert WORD in call("inspect", study, "--descriptions")[1]


def test_segment_in_every_format(call: Callable, study: Path, tmp_path: Path) -> None:
    status, said = call("segment", study, "--bundle", "tiny", "--out", tmp_path, "--formats", ALL)
    assert status == 0, said
    files = assert_silent(said, tmp_path)
    assert len(files) >= len(FORMATS) + 1
    for path in tmp_path.rglob("*.dcm"):  # these belong to the patient, and must say so
        assert pydicom.dcmread(path).PatientID == f"{WORD}-ID"


def test_segment_says_the_same_as_json(call: Callable, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said = call(
        "segment", study, "--bundle", "tiny", "--out", out, "--formats", "nifti", "--json"
    )
    assert status == 0, said
    assert_silent(said, out)


def test_without_identity_nothing_carries_any(call: Callable, study: Path, tmp_path: Path) -> None:
    named = shutil.copytree(study, tmp_path / f"{WORD}_JOHN")
    out = tmp_path / "out"
    status, said = call(
        "segment", named, "--bundle", "tiny", "--out", out, "--formats", ALL,
        "--deid", "--uid-map", tmp_path / "state" / "map.sqlite",
    )  # fmt: skip
    assert status == 0, said
    files = assert_silent(said, out, dicom=True)
    assert len(files) >= len(FORMATS) + 1
    assert not list(tmp_path.rglob(".*"))
    for path in out.rglob("*.dcm"):
        assert str(pydicom.dcmread(path).PatientID).startswith("DEID-")


def test_a_copy_carries_none(call: Callable, study: Path, tmp_path: Path) -> None:
    status, said = call("deid", study, "--out", tmp_path / "o", "--uid-map", tmp_path / "m.sqlite")
    assert status == 0, said
    assert len(assert_silent(said, tmp_path / "o", dicom=True)) == 12


def test_many_studies_and_their_tables(call: Callable, study: Path, tmp_path: Path) -> None:
    good, bad = (shutil.copytree(study, tmp_path / name) for name in ("a", "b"))
    shutil.rmtree(bad / f"{WORD} P")
    out = tmp_path / "out"
    status, said = call(
        "segment", good, bad, "--bundle", "tiny", "--out", out, "--formats", "nifti"
    )
    assert status == 3, said
    assert len(assert_silent(said, out)) >= 4


def without_middle(slices: list[Dataset]) -> None:
    del slices[4]


def twice_at_one_place(slices: list[Dataset]) -> None:
    slices[4].ImagePositionPatient = slices[3].ImagePositionPatient


def without(keyword: str) -> Callable[[list[Dataset]], None]:
    def change(slices: list[Dataset]) -> None:
        for data in slices:
            del data[keyword]

    return change


def with_value(
    keyword: str, value: object, *, first: bool = False
) -> Callable[[list[Dataset]], None]:
    def change(slices: list[Dataset]) -> None:
        for data in slices[:1] if first else slices:
            setattr(data, keyword, value)

    return change


def truncated(folder: Path) -> None:
    path = next((folder / f"{WORD} P").iterdir())
    path.write_bytes(path.read_bytes()[:-300])


def cut_in_the_header(folder: Path) -> None:
    path = next((folder / f"{WORD} P").iterdir())
    path.write_bytes(path.read_bytes()[:5000])


def junk(folder: Path) -> None:
    for path in folder.rglob("*.dcm"):
        path.write_bytes(WORD.encode() * 50)


def second_pet(folder: Path) -> None:
    write(folder, Stack(sop_class=PET, name="P2", **SHAPE))


def only_mr(folder: Path) -> None:
    shutil.rmtree(folder)
    write(folder, Stack(sop_class=MR, name="M", **SHAPE))


def lying_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / f"{WORD}.zip", "w") as archive:
        archive.writestr(f"{WORD}.dcm", b"\0" * 128 + b"DICM" + WORD.encode())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(f"{WORD}.dcm", b"")


SLICES = {
    "E_GAP": without_middle,
    "E_DUP": twice_at_one_place,
    "E_NO_POSITION": without("ImagePositionPatient"),
    "E_NO_SPACING": without("PixelSpacing"),
    "E_PET_UNITS": with_value("Units", "CPS"),
    "E_PET_META": without("PatientWeight"),
    "E_PET_CORRECTION": with_value("CorrectedImage", [WORD]),
    "E_PATIENT_MIX": with_value("PatientID", f"{WORD}-OTHER", first=True),
    "E_FOR_MIX": with_value("FrameOfReferenceUID", traps.uid("x"), first=True),
    "E_TOO_FEW": lambda slices: slices.__delitem__(slice(1, None)),
}
FILES = {
    "E_CORRUPT": truncated,
    "E_CORRUPT or E_EMPTY": cut_in_the_header,
    "E_EMPTY": junk,
    "E_AMBIGUOUS": second_pet,
    "E_MISSING_MODALITY": only_mr,
    "E_CORRUPT again": lying_archive,
}


def assert_fails_silently(call: Callable, folder: Path, tmp_path: Path, code: str) -> None:
    out = tmp_path / "out"
    expected = [word for word in code.split() if word.startswith("E_")]
    for arguments in (
        ("inspect", folder, "--bundle", "tiny", "--json"),
        ("inspect", folder),
        ("segment", folder, "--bundle", "tiny", "--out", out),
        ("segment", folder, "--bundle", "tiny", "--out", out / "deid", "--deid",
         "--uid-map", tmp_path / "m.sqlite"),
    ):  # fmt: skip
        status, said = call(*arguments)
        assert_silent(said, out if out.exists() else None)
        if arguments[0] == "segment":
            assert status != 0
            assert any(word in said for word in expected), said
    assert list(out.rglob("status.json"))


def some_slow(codes: Iterable[str], *fast: str) -> list[object]:
    return [code if code in fast else pytest.param(code, marks=pytest.mark.slow) for code in codes]


@pytest.mark.parametrize("code", some_slow(SLICES, "E_GAP"))
def test_failures_of_slices(call: Callable, tmp_path: Path, code: str) -> None:
    folder = write(tmp_path / "s1", STACKS[0], change=SLICES[code])
    assert_fails_silently(call, folder, tmp_path, code)


@pytest.mark.parametrize("code", some_slow(FILES, "E_AMBIGUOUS"))
def test_failures_of_files(call: Callable, study: Path, tmp_path: Path, code: str) -> None:
    folder = shutil.copytree(study, tmp_path / "s1")
    FILES[code](folder)
    assert_fails_silently(call, folder, tmp_path, code)


def test_an_error_inside_says_no_more_than_its_kind(
    call: Callable, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from differseg_med.engine import _case

    def fail(*arguments: object) -> None:
        raise RuntimeError(f"{WORD} in an exception")

    monkeypatch.setattr(_case, "to_mask", fail)
    status, said = call("segment", study, "--bundle", "tiny", "--out", tmp_path)
    assert status == 1
    assert "E_INTERNAL" in said
    assert_silent(said, tmp_path)


@pytest.mark.slow
def test_nifti_headers_are_not_carried_over(
    call: Callable, nifti_study: Path, tmp_path: Path
) -> None:
    import nibabel

    folder = tmp_path / "s1"
    folder.mkdir()
    for path in nifti_study.glob("*.nii.gz"):
        image = nibabel.load(path)
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            image.header[field] = WORD[:10]
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", WORD.encode()))
        image.to_filename(folder / path.name)
    out = tmp_path / "out"
    status, said = call(
        "segment", folder, "--bundle", "tiny", "--out", out, "--formats", "nifti,png"
    )
    assert status == 0, said
    assert_silent(said, out)
    (folder / "pet.nii.gz").rename(folder / f"sub-{WORD}_pet.nii.gz")
    shutil.copy(folder / f"sub-{WORD}_pet.nii.gz", folder / f"sub-{WORD}2_pet.nii.gz")
    status, said = call("segment", folder, "--bundle", "tiny", "--out", out / "2")
    assert status != 0
    assert_silent(said, out)
