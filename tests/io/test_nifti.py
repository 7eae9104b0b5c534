from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from differseg_med.errors import OutputError, StudyError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import read_nifti, read_nifti_header, write_nifti
from differseg_med.modality import get_modality

OBLIQUE = np.array(
    [[-0.9, 0.2, 0.31, 12.5], [0.22, 1.1, -0.4, -80.1], [0.1, 0.33, 2.9, 33.3], [0, 0, 0, 1.0]]
)


def _image(shape: tuple[int, ...] = (5, 4, 3), dtype: str = "int16", affine=OBLIQUE):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return nib.Nifti1Image(values, affine)


def _save(image, path: Path) -> Path:
    nib.save(image, path)
    return path


def _patched(path: Path, **fields: object) -> Path:
    """Overwrite header fields in place, without any library's checks."""
    packed = path.name.endswith(".gz")
    blob = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    header = np.frombuffer(blob[:348], dtype=nib.Nifti1Header.template_dtype).copy()
    for name, value in fields.items():
        header[name] = value
    blob = header.tobytes() + blob[348:]
    path.write_bytes(gzip.compress(blob) if packed else blob)
    return path


def _code(path: Path, **options: object) -> str:
    with pytest.raises(StudyError) as caught:
        read_nifti(path, **options)
    return caught.value.code


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_values_and_affine_agree_with_nibabel(tmp_path: Path, dtype: str, suffix: str) -> None:
    path = _save(_image(dtype=dtype), tmp_path / f"x{suffix}")
    volume = read_nifti(path, get_modality("ct"))
    reference = nib.load(path)
    assert np.array_equal(volume.array, reference.get_fdata())
    assert np.array_equal(volume.grid.affine, reference.affine)
    assert volume.array.dtype == np.float32
    assert volume.array.flags.writeable
    assert volume.modality == "ct"


def test_scaled_values_and_other_byte_order(tmp_path: Path) -> None:
    image = _image()
    image.header.set_slope_inter(0.5, -3.0)
    path = _save(image, tmp_path / "x.nii.gz")
    assert np.allclose(read_nifti(path).array, nib.load(path).get_fdata())
    big = nib.Nifti1Image(np.arange(60.0).reshape(5, 4, 3).astype(">f4"), OBLIQUE)
    swapped = nib.Nifti1Image(big.dataobj, OBLIQUE, header=big.header.as_byteswapped(">"))
    path = _save(swapped, tmp_path / "y.nii")
    volume = read_nifti(path)
    assert np.array_equal(volume.array, np.arange(60.0).reshape(5, 4, 3))
    assert volume.array.dtype.isnative


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_affine_is_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    volume = read_nifti(_save(_image(), tmp_path / "in.nii"))
    path = write_nifti(Volume(volume.array > 9, volume.grid), tmp_path / f"out{suffix}")
    again = nib.load(path)
    assert again.affine.tobytes() == nib.load(tmp_path / "in.nii").affine.tobytes()
    assert again.get_data_dtype() == np.uint8
    assert int(again.header["sform_code"]) == 1
    assert np.array_equal(np.asarray(again.dataobj), volume.array > 9)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".tmp")] == []


def test_qform_only_returns_bit_for_bit_through_our_own_files(tmp_path: Path) -> None:
    image = _image()
    image.set_sform(None, 0)
    image.set_qform(OBLIQUE, 1)
    volume = read_nifti(_save(image, tmp_path / "in.nii"))
    again = read_nifti(write_nifti(volume, tmp_path / "out.nii"))
    assert again.grid.affine.tobytes() == volume.grid.affine.tobytes()
    assert np.allclose(volume.grid.affine, image.get_qform(), atol=1e-5)


def test_simpleitk_reads_what_is_written(tmp_path: Path) -> None:
    rotation = np.linalg.qr(OBLIQUE[:3, :3])[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * [1.0, 2.0, 3.0]
    affine[:3, 3] = [5, 6, 7]
    grid = Grid((3, 4, 5), affine)
    path = write_nifti(Volume(np.zeros(grid.shape, np.float32), grid), tmp_path / "x.nii.gz")
    image = sitk.ReadImage(str(path))
    point = np.array(image.TransformIndexToPhysicalPoint((2, 3, 4))) * [-1, -1, 1]
    assert point == pytest.approx(grid.to_world([2, 3, 4]), abs=1e-3)


def test_header_holds_no_text_and_bytes_are_reproducible(tmp_path: Path) -> None:
    volume = read_nifti(_save(_image(), tmp_path / "in.nii"))
    first = write_nifti(volume, tmp_path / "a.nii.gz").read_bytes()
    second = write_nifti(volume, tmp_path / "b.nii.gz").read_bytes()
    assert first == second
    header = nib.load(tmp_path / "a.nii.gz").header
    assert [header[k].item() for k in ("descrip", "aux_file", "intent_name")] == [b"", b"", b""]


def test_write_refuses_what_nifti_cannot_hold(tmp_path: Path) -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    with pytest.raises(OutputError) as caught:
        write_nifti(Volume(np.zeros((2, 2, 2), np.complex64), grid), tmp_path / "x.nii")
    assert caught.value.code == "E_WRITE"
    with pytest.raises(OutputError):
        write_nifti(Volume(np.zeros((2, 2, 2), np.uint8), grid), tmp_path / "absent" / "x.nii")
    with pytest.raises(OutputError):
        write_nifti(Volume(np.zeros((2, 2, 2), np.uint8), grid), tmp_path / "x.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_gate_nifti_xform_disagreement(tmp_path: Path) -> None:
    image = _image(affine=np.diag([1.0, 1.0, 2.0, 1.0]))
    moved = np.diag([1.0, 1.0, 2.0, 1.0])
    moved[0, 3] = 0.2
    image.set_qform(moved, 1)
    path = _save(image, tmp_path / "x.nii.gz")
    assert _code(path) == "E_XFORM"
    assert read_nifti(path, xform="sform").grid.affine[0, 3] == 0.0
    assert read_nifti(path, xform="qform").grid.affine[0, 3] == pytest.approx(0.2)
    moved[0, 3] = 0.05
    image.set_qform(moved, 1)
    assert read_nifti(_save(image, tmp_path / "y.nii.gz")).grid.affine[0, 3] == 0.0


def test_gate_nifti_xform_that_is_not_there(tmp_path: Path) -> None:
    image = _image()
    image.set_qform(None, 0)
    path = _save(image, tmp_path / "x.nii")
    assert _code(path, xform="qform") == "E_XFORM"
    image.set_sform(None, 0)
    image.header["sform_code"] = 0
    assert _code(_patched(path, sform_code=0, qform_code=0)) == "E_NIFTI"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_gate_nifti_small_file_that_claims_terabytes(tmp_path: Path, suffix: str) -> None:
    path = _save(_image(), tmp_path / f"x{suffix}")
    _patched(path, dim=[3, 32767, 32767, 1000, 1, 1, 1, 1])
    assert _code(path) == "E_SIZE"
    _patched(path, dim=[3, 900, 900, 900, 1, 1, 1, 1])
    assert _code(path) == "E_SIZE"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_gate_nifti_truncated(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).normal(size=(9, 9, 9)).astype("float32")
    path = _save(nib.Nifti1Image(values, OBLIQUE), tmp_path / f"x{suffix}")
    path.write_bytes(path.read_bytes()[:-900])
    assert _code(path) in {"E_SIZE", "E_CORRUPT"}


def test_gate_nifti_wrong_checksum(tmp_path: Path) -> None:
    path = _save(_image(), tmp_path / "x.nii.gz")
    blob = bytearray(path.read_bytes())
    blob[-6] ^= 0xFF
    path.write_bytes(bytes(blob))
    assert _code(path) == "E_CORRUPT"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gate_nifti_nan_or_infinity(tmp_path: Path, value: float) -> None:
    values = np.zeros((4, 4, 4), np.float32)
    values[1, 2, 3] = value
    assert _code(_save(nib.Nifti1Image(values, OBLIQUE), tmp_path / "x.nii")) == "E_VALUES"


@pytest.mark.parametrize("spacing", [0.0, -2.0, np.nan, np.inf])
def test_gate_nifti_zero_or_negative_spacing(tmp_path: Path, spacing: float) -> None:
    path = _save(_image(), tmp_path / "x.nii")
    pixdim = nib.load(path).header["pixdim"].copy()
    pixdim[2] = spacing
    assert _code(_patched(path, pixdim=pixdim)) == "E_NIFTI"


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3, 2)])
def test_gate_nifti_2d_or_4d(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert _code(_save(_image(shape), tmp_path / "x.nii.gz")) == "E_DIMENSIONS"


def test_trailing_dimensions_of_one_are_no_dimensions(tmp_path: Path) -> None:
    path = _save(_image((5, 4, 3, 1)), tmp_path / "x.nii")
    assert read_nifti_header(path).grid.shape == (5, 4, 3)


def test_gate_nifti_overflow_by_scl_slope(tmp_path: Path) -> None:
    path = _patched(_save(_image(), tmp_path / "x.nii"), scl_slope=3e38, scl_inter=0)
    assert _code(path) == "E_NIFTI"
    assert _code(_patched(path, scl_slope=np.inf)) == "E_NIFTI"
    floats = _save(_image(dtype="float32"), tmp_path / "y.nii")
    assert _code(_patched(floats, scl_slope=3e38, scl_inter=0)) == "E_VALUES"


def test_gate_nifti_nii_beside_gz(tmp_path: Path) -> None:
    for name in ("x.nii", "x.nii.gz"):
        _save(_image(), tmp_path / name)
    assert _code(tmp_path / "x.nii") == "E_AMBIGUOUS"
    assert _code(tmp_path / "x.nii.gz") == "E_AMBIGUOUS"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"datatype": 128, "bitpix": 24}, "E_NIFTI"),
        ({"datatype": 9999}, "E_NIFTI"),
        ({"dim": [9, 5, 4, 3, 1, 1, 1, 1]}, "E_NIFTI"),
        ({"dim": [3, 5, -4, 3, 1, 1, 1, 1]}, "E_NIFTI"),
        ({"vox_offset": np.nan}, "E_NIFTI"),
        ({"vox_offset": 0}, "E_NIFTI"),
        ({"xyzt_units": 1}, "E_NIFTI"),
        ({"srow_x": [np.nan, 0, 0, 0], "qform_code": 0}, "E_GEOMETRY"),
        ({"srow_x": [0, 0, 0, 0], "qform_code": 0}, "E_GEOMETRY"),
        ({"qform_code": 1, "sform_code": 0, "quatern_b": 3.0}, "E_NIFTI"),
    ],
)
def test_gate_nifti_void_headers(tmp_path: Path, fields: dict[str, object], code: str) -> None:
    assert _code(_patched(_save(_image(), tmp_path / "x.nii"), **fields)) == code


def test_not_nifti(tmp_path: Path) -> None:
    for blob in (b"", b"junk" * 200, gzip.compress(b"junk" * 200)):
        path = tmp_path / "x.nii.gz"
        path.write_bytes(blob)
        assert _code(path) in {"E_CORRUPT", "E_NIFTI"}
    assert _code(tmp_path / "absent.nii") == "E_EMPTY"
    assert _code(tmp_path / "x.nrrd") == "E_NIFTI"
