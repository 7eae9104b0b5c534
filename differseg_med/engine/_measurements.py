"""Measurements of a mask: the whole target, and each lesion by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from differseg_med.engine._diameters import Diameters, longest_diameter
from differseg_med.engine._intensities import Sampler, Statistics, is_suv, summarise
from differseg_med.geometry import Grid, Volume
from differseg_med.modality import get_modality

if TYPE_CHECKING:
    from differseg_med.engine._outputs import Results

__all__ = ["CaseMeasurements", "Lesion", "Region", "find_lesions", "measure_case", "measure_mask"]

_CONNECTED = np.ones((3, 3, 3))
"""Voxels that share a face, an edge or a corner belong together (26-connectivity)."""

_DIAMETERS = {
    "longest_axial_diameter_mm": "longest_mm",
    "perpendicular_diameter_mm": "perpendicular_mm",
    "diameter_slice": "slice",
    "longest_ends_lps_mm": "longest_ends_lps_mm",
    "perpendicular_ends_lps_mm": "perpendicular_ends_lps_mm",
}
"""Key in JSON, and the attribute of `Diameters` that it stands for."""

_DECIMALS = 6
_LPS = np.array([-1.0, -1.0, 1.0])
_Index = npt.NDArray[np.int_]


@dataclass(frozen=True)
class Lesion:
    """The voxels of one connected part of a mask.

    Attributes:
        voxels: its bounding box, True where the voxel belongs to it.
        start: index of the box's first voxel in the mask.
    """

    voxels: npt.NDArray[np.bool_] = dataclasses.field(repr=False)
    start: tuple[int, ...]

    @property
    def index(self) -> _Index:
        """Indices of the voxels in the mask, (n, 3)."""
        return np.asarray(np.argwhere(self.voxels) + self.start)


@dataclass(frozen=True)
class Region:
    """Measurements of one lesion, or of the whole target.

    Attributes:
        number: 1 for the largest lesion; None for the whole target.
        voxels: number of voxels.
        volume_ml: number of voxels times volume of a voxel.
        diameters: longest axial diameter and its perpendicular; of the whole target: those of the
            lesion whose longest diameter is longest; None without voxels.
        centroid_lps_mm: mean of the voxel centres; it may lie outside a curved lesion.
        inner_point_lps_mm: the voxel centre nearest to the centroid; of the whole target: that of
            the largest lesion.
        bounding_box_index: first voxel and the one after the last, per axis of the grid.
        bounding_box_lps_mm: least and greatest coordinate of the voxels with their extent.
        touches_border: whether a voxel lies in the outermost layer of the reference.
        statistics: by modality; None where the modality is absent.
    """

    number: int | None
    voxels: int
    volume_ml: float
    diameters: Diameters | None
    centroid_lps_mm: tuple[float, ...] | None
    inner_point_lps_mm: tuple[float, ...] | None
    bounding_box_index: tuple[tuple[int, ...], tuple[int, ...]] | None
    bounding_box_lps_mm: tuple[tuple[float, ...], tuple[float, ...]] | None
    touches_border: bool
    statistics: Mapping[str, Statistics | None]


@dataclass(frozen=True)
class CaseMeasurements:
    """Measurements of a case.

    Attributes:
        reference: the modality in whose slices diameters are measured.
        modalities: names, in the bundle's order.
        target: the whole mask.
        lesions: its connected parts, the largest first.
    """

    reference: str
    modalities: tuple[str, ...]
    target: Region
    lesions: tuple[Region, ...]

    def as_json(self) -> dict[str, Any]:
        """The measurements as JSON values, rounded; keys are those of the table of definitions."""
        return {
            "reference": self.reference,
            "lesion_count": len(self.lesions),
            "target": _as_json(self.target),
            "lesions": [_as_json(lesion) for lesion in self.lesions],
        }


def measure_case(results: Results) -> CaseMeasurements:
    """Measure a case; formats take ``results.measurements``, which calls this once.

    Args:
        results: mask and images.
    """
    return measure_mask(
        results.mask, results.inputs.volumes, results.stack.modalities, results.reference
    )


def measure_mask(
    mask: Volume, volumes: Mapping[str, Volume | None], modalities: Sequence[str], reference: str
) -> CaseMeasurements:
    """Measure a mask and the images under it.

    Args:
        mask: 0 and 1 on the grid of the reference.
        volumes: image by modality on its own grid, in the mask's frame; None where it is absent.
        modalities: names in order.
        reference: the modality that the mask was drawn on.
    """
    grid = mask.grid
    samplers = {
        name: None if volumes.get(name) is None else Sampler(volumes[name], grid)  # type: ignore[arg-type]
        for name in modalities
    }
    lesions, values = [], []
    for number, lesion in enumerate(find_lesions(mask), 1):
        index = lesion.index
        sampled = {name: s.values(index) for name, s in samplers.items() if s is not None}
        peaks = {
            name: s.peak(index) for name, s in samplers.items() if s is not None and _is_suv(name)
        }
        statistics = _statistics(modalities, sampled, peaks, grid)
        diameters = longest_diameter(lesion.voxels, lesion.start, grid)
        box = (lesion.start, tuple(np.add(lesion.start, lesion.voxels.shape).tolist()))
        lesions.append(_region(number, index, diameters, box, statistics, grid))
        values.append(sampled)
    target = _whole(lesions, values, samplers, grid)
    return CaseMeasurements(reference, tuple(modalities), target, tuple(lesions))


def find_lesions(mask: Volume) -> list[Lesion]:
    """Connected parts of a mask (26-connectivity), by volume, the largest first.

    Args:
        mask: non-zero is foreground.
    """
    flip = mask.array.flags.f_contiguous  # go through the voxels as they lie in memory
    array = mask.array.T if flip else mask.array
    window = _foreground_box(array)
    if window is None:
        return []
    labels, _ = ndimage.label(array[window], structure=_CONNECTED)
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        voxels = labels[box] == number
        start = tuple(int(w.start + b.start) for w, b in zip(window, box, strict=True))
        found.append(Lesion(voxels.T if flip else voxels, start[::-1] if flip else start))
    return sorted(found, key=lambda lesion: (-int(lesion.voxels.sum()), lesion.start))


def _foreground_box(array: npt.NDArray[Any]) -> tuple[slice, ...] | None:
    """Smallest box that holds every non-zero voxel."""
    box = []
    flat = np.asarray(array.any(axis=0))
    for line in (array.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0)):
        hits = np.flatnonzero(line)
        if not len(hits):
            return None
        box.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(box)


def _is_suv(name: str) -> bool:
    return is_suv(get_modality(name))


def _statistics(
    modalities: Sequence[str],
    sampled: Mapping[str, npt.NDArray[np.float64]],
    peaks: Mapping[str, float | None],
    grid: Grid,
) -> dict[str, Statistics | None]:
    ml = grid.voxel_volume / 1000.0
    return {
        name: summarise(sampled[name], peaks.get(name), ml, suv=_is_suv(name))
        if name in sampled
        else None
        for name in modalities
    }


def _region(
    number: int | None,
    index: _Index,
    diameters: Diameters | None,
    box: tuple[tuple[int, ...], tuple[int, ...]],
    statistics: Mapping[str, Statistics | None],
    grid: Grid,
) -> Region:
    centers = grid.to_world(index) * _LPS
    centroid = centers.mean(axis=0)
    inner = centers[((centers - centroid) ** 2).sum(axis=1).argmin()]
    half = 0.5 * np.abs(grid.affine[:3, :3]).sum(axis=1)
    return Region(
        number=number,
        voxels=len(index),
        volume_ml=len(index) * grid.voxel_volume / 1000.0,
        diameters=diameters,
        centroid_lps_mm=tuple(centroid.tolist()),
        inner_point_lps_mm=tuple(inner.tolist()),
        bounding_box_index=box,
        bounding_box_lps_mm=(
            tuple((centers.min(axis=0) - half).tolist()),
            tuple((centers.max(axis=0) + half).tolist()),
        ),
        touches_border=_touches(box, grid),
        statistics=statistics,
    )


def _touches(box: tuple[tuple[int, ...], tuple[int, ...]], grid: Grid) -> bool:
    """Whether a box reaches an end of the grid; an axis of one voxel has no ends."""
    return any(
        size > 1 and (first == 0 or last == size)
        for first, last, size in zip(*box, grid.shape, strict=True)
    )


def _whole(
    lesions: Sequence[Region],
    values: Sequence[Mapping[str, npt.NDArray[np.float64]]],
    samplers: Mapping[str, Sampler | None],
    grid: Grid,
) -> Region:
    """The target from its lesions."""
    sampled = {
        name: np.concatenate([np.empty(0), *(part[name] for part in values)])
        for name, sampler in samplers.items()
        if sampler is not None
    }
    peaks: dict[str, float | None] = {}
    for name in sampled:
        own = [s.suv_peak for r in lesions if (s := r.statistics[name]) and s.suv_peak is not None]
        peaks[name] = max(own, default=None)
    statistics = _statistics(tuple(samplers), sampled, peaks, grid)
    if not lesions:
        return Region(None, 0, 0.0, None, None, None, None, None, False, statistics)
    weights = np.array([lesion.voxels for lesion in lesions], dtype=np.float64)
    centers = np.array([lesion.centroid_lps_mm for lesion in lesions])
    longest = max((r.diameters for r in lesions if r.diameters), key=lambda d: d.longest_mm)
    return Region(
        number=None,
        voxels=int(weights.sum()),
        volume_ml=float(weights.sum()) * grid.voxel_volume / 1000.0,
        diameters=longest,
        centroid_lps_mm=tuple((weights @ centers / weights.sum()).tolist()),
        inner_point_lps_mm=lesions[0].inner_point_lps_mm,
        bounding_box_index=_around([r.bounding_box_index for r in lesions]),
        bounding_box_lps_mm=_around([r.bounding_box_lps_mm for r in lesions]),
        touches_border=any(lesion.touches_border for lesion in lesions),
        statistics=statistics,
    )


def _around(boxes: Sequence[Any]) -> Any:
    """The box around boxes."""
    pairs = np.array(boxes)
    return tuple(pairs[:, 0].min(axis=0).tolist()), tuple(pairs[:, 1].max(axis=0).tolist())


def _as_json(region: Region) -> dict[str, Any]:
    """One region; the diameters' keys stand beside the others."""
    plain = dataclasses.asdict(region)
    diameters = plain.pop("diameters") or {}
    statistics = plain.pop("statistics")
    for name, values in statistics.items():
        if values is not None and not _is_suv(name):
            del values["suv_peak"], values["tlg_g"]
    renamed = {key: diameters.get(name) for key, name in _DIAMETERS.items()}
    return dict(_rounded({**plain, **renamed, "statistics": statistics}))


def _rounded(value: Any) -> Any:
    """Numbers with six decimals: more would be noise."""
    if isinstance(value, float):
        return round(value, _DECIMALS) + 0.0
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, tuple | list) else value
