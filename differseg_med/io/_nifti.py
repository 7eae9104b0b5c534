"""NIfTI in and out. The header is checked against the file before anything is allocated."""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from differseg_med.errors import OutputError, StudyError
from differseg_med.geometry import Grid, Volume
from differseg_med.io._limits import DEFLATE_RATIO, MAX_VOXELS, check_voxels
from differseg_med.modality import Modality
from differseg_med.types import Affine

__all__ = ["NiftiHeader", "Xform", "read_nifti", "read_nifti_header", "write_nifti"]

Xform: TypeAlias = Literal["sform", "qform"]

XFORM_TOLERANCE_MM = 0.1
"""qform and sform that put no voxel further apart than this are the same."""

_CHUNK = 1 << 22
_MILLIMETRE_UNITS = {0, 2}  # unknown, millimetre
_WRITABLE = {"uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"}
_READ_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says, after its checks.

    Attributes:
        grid: where the voxels lie.
        dtype: how values are stored, with byte order.
        slope: factor from stored to real values.
        intercept: offset from stored to real values.
        offset: position of the first voxel in the (uncompressed) file, in bytes.
        xform: which of the header's two transforms gave the affine.
    """

    grid: Grid
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    offset: int
    xform: Xform


def read_nifti_header(
    path: str | Path,
    *,
    xform: Xform | None = None,
    max_voxels: int = MAX_VOXELS,
    channel: int | None = None,
) -> NiftiHeader:
    """Read and check the header of a ``.nii`` or ``.nii.gz`` file; no voxel is read.

    Args:
        path: the file.
        xform: which transform to use where qform and sform disagree.
        max_voxels: largest number of voxels that is accepted.
        channel: which volume of a file with four dimensions; None for a file that holds one.

    Raises:
        StudyError: the file is refused; the code says why.
    """
    path = Path(path)
    _check_name(path)
    raw = _parse_header(path)
    *space, count = _shape(raw, channel)
    shape = (space[0], space[1], space[2])
    check_voxels((*shape, count), max_voxels)
    dtype = _dtype(raw)
    offset = _check_size(path, raw, (*shape, count), dtype)
    offset += (channel or 0) * int(np.prod(shape)) * dtype.itemsize
    slope, intercept = _scaling(raw, dtype)
    affine, used = _affine(raw, shape, xform)
    return NiftiHeader(Grid(shape, affine), dtype, slope, intercept, offset, used)


def read_nifti(
    path: str | Path,
    modality: Modality | None = None,
    *,
    xform: Xform | None = None,
    max_voxels: int = MAX_VOXELS,
    channel: int | None = None,
) -> Volume:
    """Read a 3D NIfTI file as float32, with its affine as it stands in the header.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.
        modality: what the file shows; recorded on the volume.
        xform: which transform to use where qform and sform disagree.
        max_voxels: largest number of voxels that is accepted.
        channel: which volume of a file with four dimensions; None for a file that holds one.

    Raises:
        StudyError: the file is refused; the code says why.
    """
    path = Path(path)
    header = read_nifti_header(path, xform=xform, max_voxels=max_voxels, channel=channel)
    stored = _read_voxels(path, header)
    array = stored.astype(np.float32, copy=False)
    if not array.flags.writeable or array.dtype.byteorder not in "=|<>":
        array = array.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        if header.slope != 1.0:
            array *= np.float32(header.slope)
        if header.intercept != 0.0:
            array += np.float32(header.intercept)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise StudyError("E_VALUES", f"{bad} of {array.size} voxels are NaN or infinite")
    provenance = {"format": "nifti", "xform": header.xform, "stored": str(header.dtype.name)}
    return Volume(array, header.grid, modality.name if modality else None, (), provenance)


def write_nifti(volume: Volume, path: str | Path) -> Path:
    """Write a volume as NIfTI-1; the file appears whole or not at all.

    The affine is stored as float32 sform, so an affine that came from a NIfTI file returns bit for
    bit. The qform is set where it says the same (it cannot hold shear).

    Args:
        volume: array and grid.
        path: target that ends in ``.nii`` or ``.nii.gz``; an existing file is replaced.

    Returns:
        The path.

    Raises:
        OutputError: ``E_WRITE`` when the type is not stored by NIfTI or the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise OutputError("E_WRITE", "a NIfTI file name ends in .nii or .nii.gz")
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    if array.dtype.name not in _WRITABLE:
        raise OutputError("E_WRITE", f"values of type {array.dtype} are not written as NIfTI")
    if max(array.shape) > np.iinfo(np.int16).max:
        raise OutputError("E_WRITE", f"NIfTI-1 holds no shape such as {array.shape}")
    image = nib.Nifti1Image(array, None)
    _set_geometry(image.header, volume.grid)
    try:
        _write_atomically(path, image)
    except OSError as error:
        raise OutputError("E_WRITE", f"{type(error).__name__}: {error.strerror}") from error
    return path


def _check_name(path: Path) -> None:
    if not path.name.endswith((".nii", ".nii.gz")):
        raise StudyError("E_NIFTI", "a file that ends in .nii or .nii.gz was expected")
    if not path.is_file():
        raise StudyError("E_EMPTY", "there is no NIfTI file at the given path")
    twin = path.with_suffix("") if path.name.endswith(".gz") else Path(f"{path}.gz")
    if twin.exists():
        raise StudyError(
            "E_AMBIGUOUS",
            "the same name stands as .nii and as .nii.gz side by side",
            "Remove one of the two files.",
        )


def _open(path: Path) -> IO[bytes]:
    if path.name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _cause(error: BaseException) -> str:
    """Why, without the path that an error of the system ends with."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


def _parse_header(path: Path) -> Any:
    try:
        with _open(path) as file:
            block = file.read(540)
    except _READ_ERRORS as error:
        raise StudyError("E_CORRUPT", f"the NIfTI file cannot be read: {_cause(error)}") from error
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        size = kind.template_dtype.itemsize
        if len(block) >= size and kind.may_contain_header(block):
            return kind(block[:size], check=False)
    raise StudyError("E_NIFTI", "the file does not start with a NIfTI header")


def _shape(raw: Any, channel: int | None = None) -> tuple[int, int, int, int]:
    """Sizes in space, and the number of volumes."""
    dim = [int(n) for n in raw["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise StudyError("E_NIFTI", f"the header's dimensions {dim[: max(1, dim[0]) + 1]} are void")
    sizes = dim[1 : dim[0] + 1]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) != (3 if channel is None else 4):
        raise StudyError("E_DIMENSIONS", f"the image has {len(sizes)} dimensions {tuple(sizes)}")
    count = 1 if channel is None else sizes[3]
    if channel is not None and not 0 <= channel < count:
        raise StudyError("E_CHANNELS", f"volume {channel} was wanted of a file that holds {count}")
    return sizes[0], sizes[1], sizes[2], count


def _dtype(raw: Any) -> np.dtype[Any]:
    try:
        dtype = cast("np.dtype[Any]", raw.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise StudyError("E_NIFTI", f"data type code {int(raw['datatype'])} is unknown") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise StudyError("E_NIFTI", f"values of type {dtype} are not a scalar image")
    return dtype


def _check_size(path: Path, raw: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Compare what the header claims with what the file can hold; return the data offset."""
    offset = float(raw["vox_offset"])
    least = raw.template_dtype.itemsize
    if not np.isfinite(offset) or offset < least or offset != int(offset):
        raise StudyError("E_NIFTI", f"the data cannot start at byte {offset:g} of a single file")
    claimed = int(offset) + int(np.prod(shape, dtype=object)) * dtype.itemsize
    length = path.stat().st_size
    most = length * DEFLATE_RATIO if path.name.endswith(".gz") else length
    if claimed > most:
        raise StudyError(
            "E_SIZE", f"the header claims {claimed} bytes, the file of {length} cannot hold them"
        )
    return int(offset)


def _scaling(raw: Any, dtype: np.dtype[Any]) -> tuple[float, float]:
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0.0 or (np.isnan(slope) and np.isnan(intercept)):
        return 1.0, 0.0  # the standard's way to say "not scaled", and nibabel's
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise StudyError("E_NIFTI", f"scl_slope {slope:g} and scl_inter {intercept:g} are void")
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        largest = max(abs(float(n) * slope + intercept) for n in (info.min, info.max))
        if largest > float(np.finfo(np.float32).max):
            raise StudyError("E_NIFTI", f"scl_slope {slope:g} takes {dtype} beyond float32")
    return slope, intercept


def _affine(raw: Any, shape: tuple[int, int, int], xform: Xform | None) -> tuple[Affine, Xform]:
    pixdim = np.asarray(raw["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(pixdim).all() or pixdim.min() <= 0:
        raise StudyError("E_NIFTI", f"spacing {pixdim.tolist()} is zero, negative or not finite")
    units = int(raw["xyzt_units"]) & 7
    if units not in _MILLIMETRE_UNITS:
        raise StudyError("E_NIFTI", f"the unit of length has code {units}, millimetres are needed")
    found = _coded_affines(raw)
    if xform is not None and xform not in found:
        raise StudyError("E_XFORM", f"the header has no {xform}; it has {list(found) or 'none'}")
    if not found:
        raise StudyError("E_NIFTI", "neither qform nor sform is set: the orientation is unknown")
    if xform is None and len(found) == 2:
        _check_agreement(Grid(shape, found["sform"]), Grid(shape, found["qform"]))
    used: Xform = xform or ("sform" if "sform" in found else "qform")
    return found[used], used


def _coded_affines(raw: Any) -> dict[Xform, Affine]:
    """Both transforms as float64 with float32 values, so that a written sform returns them."""
    try:
        coded = {"sform": raw.get_sform(coded=True)[0], "qform": raw.get_qform(coded=True)[0]}
    except (HeaderDataError, ValueError) as error:
        raise StudyError("E_NIFTI", f"the qform is void: {error}") from error
    exact = np.float64 if isinstance(raw, nib.Nifti2Header) else np.float32
    return {
        cast("Xform", name): np.asarray(affine, dtype=exact).astype(np.float64)
        for name, affine in coded.items()
        if affine is not None
    }


def _check_agreement(sform: Grid, qform: Grid) -> None:
    apart = float(np.linalg.norm(sform.corners() - qform.corners(), axis=1).max())
    if apart > XFORM_TOLERANCE_MM:
        raise StudyError(
            "E_XFORM", f"qform and sform put a corner {apart:.2f} mm apart, allowed is 0.1 mm"
        )


def _read_voxels(path: Path, header: NiftiHeader) -> npt.NDArray[Any]:
    """Fill one preallocated block from the file; check that it is whole (gzip: its checksum)."""
    size = int(np.prod(header.grid.shape)) * header.dtype.itemsize
    block = np.empty(size, dtype=np.uint8)
    view = memoryview(block.data)
    try:
        with _open(path) as file:
            file.seek(header.offset)
            filled = 0
            while filled < size:
                part = file.read(min(_CHUNK, size - filled))
                if not part:
                    break
                view[filled : filled + len(part)] = part
                filled += len(part)
            file.read(1)  # past the end, where gzip compares its checksum
    except _READ_ERRORS as error:
        raise StudyError("E_CORRUPT", f"the NIfTI file cannot be read: {_cause(error)}") from error
    if filled < size:
        raise StudyError("E_CORRUPT", f"the file ends after {filled} of {size} bytes of voxels")
    return block.view(header.dtype).reshape(header.grid.shape, order="F")


def _set_geometry(header: Any, grid: Grid) -> None:
    header.set_xyzt_units("mm")
    header.set_zooms(grid.spacing)
    header.set_sform(grid.affine, code="scanner")
    header.set_qform(grid.affine, code="scanner", strip_shears=True)
    stored = Grid(grid.shape, header.get_qform())
    if not stored.is_same(grid, tolerance_mm=XFORM_TOLERANCE_MM / 10):
        header["qform_code"] = 0


def _write_atomically(path: Path, image: Any) -> None:
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as raw:
            if path.suffix == ".gz":
                # no name and no time in the gzip header: same input, same bytes
                with gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as packed:
                    image.to_stream(packed)
            else:
                image.to_stream(raw)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
