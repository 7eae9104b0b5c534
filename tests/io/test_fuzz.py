"""Damaged and odd input: nothing but a coded error comes out, and geometry holds for any stack."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import traps
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.uid import ImplicitVRLittleEndian
from traps import Stack, save

from differseg_med.errors import DifferSegError
from differseg_med.io import Instance, read_nifti, read_study, to_volume
from differseg_med.io._geometry import build_stack
from differseg_med.modality import get_modality

ROUNDS = 120
PET = get_modality("pet")


def attempt(folder: Path) -> str:
    """Read and decode everything; the code of the refusal, or nothing."""
    try:
        for series in read_study(folder).series:
            to_volume(series, PET)
    except DifferSegError as error:
        return error.code
    return ""


def spoil(blob: bytes, rng: np.random.Generator, first: int = 0) -> bytes:
    """Overwrite, insert, remove or cut a few bytes."""
    data = bytearray(blob)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(first, len(data) - 8))
        kind = int(rng.integers(4))
        if kind == 0:
            data[at] = int(rng.integers(256))
        elif kind == 1:
            data[at : at + 4] = rng.bytes(4)
        elif kind == 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            del data[at : at + int(rng.integers(1, 9))]
    return bytes(data[: int(rng.integers(first + 8, len(data)))] if rng.random() < 0.1 else data)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    return save(Stack(sop_class=traps.PET, shape=(6, 5, 4)).slices(), folder, shuffle=False)


def test_dicom_bytes_spoilt_at_random(plain: Path, tmp_path: Path) -> None:
    assert attempt(plain) == ""
    files = sorted(plain.iterdir())
    blobs = [file.read_bytes() for file in files]
    rng = np.random.default_rng(2024)
    codes = []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        for k, (file, blob) in enumerate(zip(files, blobs, strict=True)):
            content = spoil(blob, rng) if k == 1 else blob
            (folder / file.name).write_bytes(content)
        codes.append(attempt(folder))
    assert len(set(codes)) > 3


ODD = (b"", b"\xff" * 6, b"1e999", "\u00e9\u4e00".encode())


def test_every_element_gets_odd_values(tmp_path: Path) -> None:
    """Written as bytes in implicit encoding, so that no writer checks them."""
    keep = Stack(sop_class=traps.PET, shape=(6, 5, 3)).slices()
    for data in keep:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    files = sorted(save(keep, tmp_path, shuffle=False).iterdir())
    for tag in [element.tag for element in keep[1]]:
        for value in ODD:
            data = Stack(sop_class=traps.PET, shape=(6, 5, 3)).slices()[1]
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            data[tag] = DataElement(tag, "OB", value)
            dcmwrite(files[1], data, enforce_file_format=False)
            attempt(tmp_path)


def test_dicom_cut_anywhere_is_refused(plain: Path, tmp_path: Path) -> None:
    files = sorted(plain.iterdir())
    blob = files[2].read_bytes()
    for file in files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for length in range(133, len(blob), 41):
        (tmp_path / files[2].name).write_bytes(blob[:length])
        assert attempt(tmp_path) != "", length


def test_compressed_frames_spoilt_at_random(tmp_path: Path) -> None:
    slices = Stack(sop_class=traps.PET, shape=(40, 36, 3)).slices()
    for data in slices:
        data.compress("1.2.840.10008.1.2.4.90", generate_instance_uid=False)
    files = sorted(save(slices, tmp_path / "plain", shuffle=False).iterdir())
    rng = np.random.default_rng(7)
    blob = files[1].read_bytes()
    pixels = blob.index(b"\xe0\x7f\x10\x00")
    for _ in range(ROUNDS // 2):
        files[1].write_bytes(spoil(blob, rng, first=pixels))
        attempt(tmp_path / "plain")


def test_zip_bytes_spoilt_at_random(plain: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(plain.iterdir()):
            archive.write(file, file.name)
    rng = np.random.default_rng(5)
    blob = whole.read_bytes()
    for _ in range(ROUNDS // 2):
        whole.write_bytes(spoil(blob, rng))
        attempt(tmp_path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_bytes_spoilt_at_random(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    nib.save(nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4)), path)
    blob = path.read_bytes()
    raw = gzip.decompress(blob) if suffix == ".nii.gz" else blob
    rng = np.random.default_rng(3)
    for number in range(ROUNDS * 2):
        if suffix == ".nii.gz" and number % 2:
            path.write_bytes(gzip.compress(spoil(raw, rng), 1))
        else:
            path.write_bytes(spoil(blob, rng))
        try:
            volume = read_nifti(path, max_voxels=10**6)
        except DifferSegError:
            continue
        assert np.isfinite(volume.array).all()


angles = st.floats(-np.pi, np.pi, allow_nan=False)
lengths = st.floats(0.3, 8.0, allow_nan=False)


@st.composite
def stacks(draw) -> tuple[list[Instance], np.ndarray, float]:
    """Slices in any orientation, spacing and order, with rounding noise."""
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    step, shear = draw(lengths), draw(st.floats(-0.5, 0.5))
    count = draw(st.integers(2, 40))
    normal = np.cross(q[:, 0], q[:, 1])
    start = rng.uniform(-500, 500, 3)
    way = step * (normal + shear * q[:, 0])
    positions = start + np.outer(np.arange(count), way)
    positions += rng.uniform(-0.003, 0.003, positions.shape)
    spacing = (draw(lengths), draw(lengths))
    instances = [
        Instance(f"{k}.dcm", str(k), 0, tuple(p), (*q[:, 0], *q[:, 1]), spacing, 7, 9)
        for k, p in enumerate(positions)
    ]
    return [instances[i] for i in rng.permutation(count)], positions, step


@settings(max_examples=60, deadline=None)
@given(stacks())
def test_any_stack_lies_where_its_slices_are(made) -> None:
    instances, positions, _ = made
    stack = build_stack(instances, "f")
    assert stack.problems == ()
    assert not stack.uneven
    assert [i.uid for i in stack.instances] == [str(k) for k in range(len(positions))]
    corners = stack.grid.to_world([[0, 0, k] for k in range(len(positions))]) * [-1, -1, 1]
    assert np.abs(corners - positions).max() < 0.02
    first = instances[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    far = stack.grid.to_world([8, 6, 0]) * [-1, -1, 1]
    way = row * first.pixel_spacing[1] * 8 + column * first.pixel_spacing[0] * 6
    assert far - corners[0] == pytest.approx(way, abs=1e-6)
    assert stack.grid.shape == (9, 7, len(positions))


@settings(max_examples=60, deadline=None)
@given(stacks(), st.data())
def test_any_missing_slice_is_a_gap(made, data) -> None:
    instances, positions, _ = made
    count = len(positions)
    if count < 4:
        return
    missing = data.draw(st.integers(1, count - 2))
    left = [instance for instance in instances if instance.uid != str(missing)]
    codes = [problem.code for problem in build_stack(left, None).problems]
    assert codes == ["E_GAP"]


@settings(max_examples=60, deadline=None)
@given(stacks(), st.integers(0, 2**16))
def test_any_slice_pushed_aside_is_noticed(made, seed: int) -> None:
    instances, positions, step = made
    if len(positions) < 4:
        return
    rng = np.random.default_rng(seed)
    index = int(rng.integers(len(positions)))
    direction = rng.normal(size=3)
    push = direction / np.linalg.norm(direction) * (0.5 * step + 1.0)
    moved = [
        instance
        if instance.uid != str(index)
        else Instance(
            instance.source,
            instance.uid,
            0,
            tuple(np.array(instance.position) + push),
            instance.orientation,
            instance.pixel_spacing,
            7,
            9,
        )
        for instance in instances
    ]
    stack = build_stack(moved, None)
    noticed = stack.problems or stack.uneven or any(f.code == "W_TILT" for f in stack.findings)
    assert noticed
