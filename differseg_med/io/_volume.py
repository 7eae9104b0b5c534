"""From a series to a volume: decode, rescale slice by slice, place on the grid."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from differseg_med._codes import CODES
from differseg_med.errors import Finding, StudyError
from differseg_med.geometry import Volume
from differseg_med.io._decode import PixelDecoder
from differseg_med.io._geometry import projections
from differseg_med.io._header import quiet
from differseg_med.io._limits import MAX_VOXELS, check_voxels
from differseg_med.io._pet import PetOverrides, SuvScale, suv_scale
from differseg_med.io._source import SourceReader
from differseg_med.io._study import Instance, Series
from differseg_med.modality import Modality
from differseg_med.types import FloatArray

__all__ = ["to_volume"]

_WORKERS = 2


def to_volume(
    series: Series,
    modality: Modality,
    *,
    lenient: bool = False,
    pet: PetOverrides | None = None,
    spatial_dims: int = 3,
    max_voxels: int = MAX_VOXELS,
) -> Volume:
    """Decode a series into a float32 volume on its grid; PET becomes SUVbw.

    Args:
        series: a stack from `read_study`.
        modality: what the series serves as; its background fills padding pixels.
        lenient: turn refusals whose code allows it into a corrected volume with a warning.
        pet: values that stand in for what the PET header lacks; recorded.
        spatial_dims: 2 accepts a single slice.
        max_voxels: largest volume that is made.

    Raises:
        StudyError: the first problem of the series, or what decoding finds.
    """
    findings = _pass_problems(series, lenient, spatial_dims)
    grid = series.grid
    if grid is None:
        raise StudyError("E_GEOMETRY", "the series has no grid")
    check_voxels(grid.shape, max_voxels)
    check_voxels((len(series.instances), *grid.shape[:2]), max_voxels)
    suv = suv_scale(series, pet) if modality.dicom == "PT" else None
    array, padded = _decode(series, modality, suv)
    if series.uneven:
        array = _even(array, series)
    if padded:
        findings += (Finding("W_PADDING", f"{padded} padding pixels got {modality.background:g}"),)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise StudyError("E_VALUES", f"{bad} of {array.size} voxels are not finite")
    provenance = {"format": "dicom", **(suv.provenance if suv else {})}
    findings += suv.findings if suv else ()
    return Volume(array.transpose(2, 1, 0), grid, modality.name, findings, provenance)


def _pass_problems(series: Series, lenient: bool, spatial_dims: int) -> tuple[Finding, ...]:
    """Raise the first problem that stands; return the findings with what was let pass."""
    findings = series.findings
    for problem in series.problems:
        if problem.code == "E_TOO_FEW" and spatial_dims == 2:
            continue
        if lenient and CODES[problem.code].lenient and series.grid is not None:
            findings += (Finding(problem.code.replace("E_", "W_", 1), problem.detail),)
            continue
        raise StudyError(problem.code, problem.detail)
    return findings


def _decode(series: Series, modality: Modality, suv: SuvScale | None) -> tuple[FloatArray, int]:
    """Fill one preallocated array, slice by slice; also the number of padding pixels."""
    instances = series.instances
    array = np.empty((len(instances), instances[0].rows, instances[0].columns), np.float32)

    def fill(index: int) -> int:
        instance = instances[index]
        factor = 1.0 if suv is None else suv.factors[index]
        return _fill(array[index], decoder.stored_values(instance), instance, modality, factor)

    with SourceReader() as reader, quiet(), ThreadPoolExecutor(_WORKERS) as pool:
        decoder = PixelDecoder(reader)
        padded = sum(pool.map(fill, range(len(instances))))
    return array, padded


def _fill(
    target: FloatArray,
    stored: npt.NDArray[Any],
    instance: Instance,
    modality: Modality,
    factor: float,
) -> int:
    """Rescale one slice into its place; return how many pixels were padding."""
    tags = instance.tags
    slope, intercept = _number(tags, "RescaleSlope", 1.0), _number(tags, "RescaleIntercept", 0.0)
    padding = _padding(stored, tags)
    if slope * factor == 1.0:
        target[...] = stored
    else:
        np.multiply(stored, slope * factor, out=target, casting="unsafe")
    if intercept:
        target += np.float32(intercept * factor)
    if padding is None:
        return 0
    target[padding] = modality.background
    return int(padding.sum())


def _number(tags: Mapping[str, object], keyword: str, default: float) -> float:
    value = tags.get(keyword)
    return float(value) if isinstance(value, (int, float)) else default


def _padding(stored: npt.NDArray[Any], tags: Mapping[str, object]) -> npt.NDArray[np.bool_] | None:
    """Where pixels are padding; the tag is compared bit by bit, for its sign is often wrong."""
    first = tags.get("PixelPaddingValue")
    if not isinstance(first, (int, float)):
        return None
    last = _number(tags, "PixelPaddingRangeLimit", first)
    low, high = sorted(_as_stored(value, stored.dtype) for value in (float(first), last))
    mask = (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def _as_stored(value: float, dtype: np.dtype[Any]) -> int:
    """A padding value with the sign that the pixels have."""
    bits = 8 * dtype.itemsize
    unsigned = int(value) % (1 << bits)
    return unsigned - (1 << bits) if dtype.kind == "i" and unsigned >> (bits - 1) else unsigned


def _even(array: FloatArray, series: Series) -> FloatArray:
    """Linear interpolation between the true positions onto the grid's even ones."""
    assert series.grid is not None
    along = projections(series.instances)
    wanted = np.linspace(along[0], along[-1], series.grid.shape[2])
    upper = np.clip(np.searchsorted(along, wanted), 1, len(along) - 1)
    weight = (wanted - along[upper - 1]) / (along[upper] - along[upper - 1])
    even = np.empty((len(wanted), *array.shape[1:]), np.float32)
    for index, (top, share) in enumerate(zip(upper, weight, strict=True)):
        even[index] = array[top - 1] * np.float32(1 - share)
        even[index] += array[top] * np.float32(share)
    return even
