"""MetaImage files (``.mha``, ``.mhd`` with ``.raw``) as volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from differseg_med.errors import StudyError
from differseg_med.geometry import Grid, Volume, lps_ras
from differseg_med.io._limits import MAX_VOXELS, check_voxels
from differseg_med.modality import Modality

__all__ = ["read_meta_image"]

_HEADER = 4096
"""Longest header that is looked at for the size of what follows it."""


def read_meta_image(
    path: str | Path, modality: Modality | None = None, *, max_voxels: int = MAX_VOXELS
) -> Volume:
    """Read a 3D MetaImage as float32.

    Args:
        path: a ``.mha`` or ``.mhd`` file.
        modality: what the file shows; recorded on the volume.
        max_voxels: largest number of voxels that is accepted.

    Raises:
        StudyError: the file is refused; the code says why.
    """
    path = Path(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("MetaImageIO")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader.ReadImageInformation()
        _check(reader, max_voxels)
        _check_length(path, reader)
        image = reader.Execute()
    except RuntimeError as error:
        raise StudyError("E_CORRUPT", "the MetaImage file cannot be read") from error
    # SimpleITK's arrays are (k, j, i); a transposed view is (i, j, k) as everywhere here
    array = np.ascontiguousarray(sitk.GetArrayViewFromImage(image).T, dtype=np.float32)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise StudyError("E_VALUES", f"{bad} of {array.size} voxels are NaN or infinite")
    grid = Grid(image.GetSize(), _affine(image))
    return Volume(array, grid, modality.name if modality else None, (), {"format": "metaimage"})


def _check(reader: Any, max_voxels: int) -> None:
    if reader.GetDimension() != 3:
        raise StudyError("E_DIMENSIONS", f"the image has {reader.GetDimension()} dimensions")
    if reader.GetNumberOfComponents() != 1:
        raise StudyError("E_CHANNELS", f"a voxel has {reader.GetNumberOfComponents()} values")
    check_voxels(reader.GetSize(), max_voxels)


def _check_length(path: Path, reader: Any) -> None:
    """Uncompressed voxels must be there in full: the library fills what is missing in silence."""
    head = path.read_bytes()[:_HEADER].decode("latin-1")
    fields = dict(part.split("=", 1) for part in head.splitlines() if "=" in part[:40])
    values = {key.strip(): value.strip() for key, value in fields.items()}
    if values.get("CompressedData", "False").lower() == "true":
        return
    data = values.get("ElementDataFile", "LOCAL")
    file = path if data == "LOCAL" else path.parent / data
    if file.parent != path.parent or not file.is_file():
        raise StudyError("E_CORRUPT", "the file of the voxels is not beside its header")
    size = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    needed = int(np.prod(reader.GetSize(), dtype=object)) * size
    if file.stat().st_size < needed:
        raise StudyError(
            "E_CORRUPT", f"{needed} bytes of voxels were expected, the file is shorter"
        )


def _affine(image: Any) -> Any:
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = direction @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return lps_ras(affine)
