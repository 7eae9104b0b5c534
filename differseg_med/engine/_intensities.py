"""Values of an image inside a lesion: at its voxel centres, and SUVpeak in a sphere of 1 mL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from differseg_med.geometry import Grid, Volume
from differseg_med.modality import Modality

__all__ = ["PEAK_RADIUS_MM", "Sampler", "Statistics", "is_suv", "summarise"]

PEAK_RADIUS_MM = float((3000.0 / (4.0 * np.pi)) ** (1.0 / 3.0))
"""Radius of the sphere of 1 mL that SUVpeak is the mean of (PERCIST): 6.2 mm."""

_FINE = 9
"""Each voxel of the sphere's kernel is divided this often per axis to find the part inside."""

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Values of one modality in one region.

    Attributes:
        voxels: voxels of the region inside the modality's field of view; all else is over these.
        outside: voxels of the region outside of it.
        mean: mean value; like the following None where no voxel is inside.
        sd: standard deviation (n - 1), None for fewer than two voxels.
        min: least value.
        median: middle value.
        max: greatest value.
        suv_peak: greatest mean of a 1 mL sphere around a voxel centre; PET only.
        tlg_g: mean SUV times volume in mL; PET only.
    """

    voxels: int
    outside: int
    mean: float | None = None
    sd: float | None = None
    min: float | None = None
    median: float | None = None
    max: float | None = None
    suv_peak: float | None = None
    tlg_g: float | None = None


def is_suv(modality: Modality) -> bool:
    """Whether SUVpeak and TLG are defined for a modality.

    Args:
        modality: what the image shows.
    """
    return modality.unit.startswith("g/ml{SUV")


def summarise(values: _Values, peak: float | None, voxel_ml: float, *, suv: bool) -> Statistics:
    """Statistics of sampled values.

    Args:
        values: one per voxel of the region, NaN outside the field of view.
        peak: SUVpeak of the region.
        voxel_ml: volume of one voxel of the region.
        suv: whether the values are standardised uptake values.
    """
    inside = values[~np.isnan(values)]
    outside = len(values) - len(inside)
    if not len(inside):
        return Statistics(0, outside)
    return Statistics(
        voxels=len(inside),
        outside=outside,
        mean=float(inside.mean()),
        sd=float(inside.std(ddof=1)) if len(inside) > 1 else None,
        min=float(inside.min()),
        median=float(np.median(inside)),
        max=float(inside.max()),
        suv_peak=peak,
        tlg_g=float(inside.sum()) * voxel_ml if suv else None,
    )


class Sampler:
    """Takes a volume's values at points of another grid, by linear interpolation.

    Args:
        volume: the image; it may lie on another grid than the points.
        grid: grid whose indices the points are given in.
    """

    def __init__(self, volume: Volume, grid: Grid) -> None:
        self.array, self.own = volume.array, volume.grid
        self.same = volume.grid.is_same(grid)
        self.grid = grid

    def values(self, index: npt.NDArray[np.int_]) -> _Values:
        """Values at voxel centres; NaN outside the outer faces of the volume's voxels.

        Args:
            index: (n, 3) indices in the grid of the points.
        """
        if self.same:
            return np.asarray(self.array[tuple(index.T)], dtype=np.float64)
        points, inside = self._own(index)
        values = np.full(len(points), np.nan)
        values[inside] = _interpolate(self.array, points[inside])
        return values

    def peak(self, index: npt.NDArray[np.int_]) -> float | None:
        """Greatest mean of a 1 mL sphere whose centre is the centre of one of the voxels.

        Voxels count by the part of them that lies inside the sphere. Where the sphere reaches out
        of the image, the mean is over the part within.

        Args:
            index: (n, 3) indices in the grid of the points.
        """
        points, inside = self._own(index)
        points = points[inside]
        if not len(points):
            return None
        kernel = self._kernel
        reach = (np.array(kernel.shape) - 1) // 2
        start = np.maximum(np.floor(points.min(axis=0)).astype(int) - reach, 0)
        stop = np.ceil(points.max(axis=0)).astype(int) + reach + 1
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        part = np.asarray(self.array[window], dtype=np.float64)
        means = signal.oaconvolve(part, kernel, mode="same")
        means /= signal.oaconvolve(np.ones_like(part), kernel, mode="same")
        return float(_interpolate(means, points - start).max())

    @cached_property
    def _kernel(self) -> _Values:
        return _sphere(self.own)

    def _own(self, index: npt.NDArray[np.int_]) -> tuple[_Values, npt.NDArray[np.bool_]]:
        """Indices in the volume's own grid, and which of them lie in its field of view."""
        points = self.own.to_index(self.grid.to_world(index))
        if self.same:
            points = np.rint(points)
        inside = (points >= -0.5) & (points <= np.array(self.own.shape) - 0.5)
        return points, np.asarray(inside.all(axis=1))


def _interpolate(array: npt.NDArray[np.generic], points: _Values) -> _Values:
    """Linear, with the edge's value up to half a voxel outside the outermost centres."""
    found = ndimage.map_coordinates(
        array, points.T, output=np.float64, order=1, mode="nearest", prefilter=False
    )
    return np.asarray(found)


def _sphere(grid: Grid) -> _Values:
    """Part of each voxel around the origin that lies in the sphere; sums to 1."""
    inverse = np.linalg.inv(grid.affine[:3, :3])
    reach = np.ceil(PEAK_RADIUS_MM * np.linalg.norm(inverse, axis=1) - 0.5).astype(int)
    axes = [
        np.repeat(np.arange(-n, n + 1), _FINE)
        + np.tile((np.arange(_FINE) + 0.5) / _FINE - 0.5, 2 * n + 1)
        for n in np.maximum(reach, 0)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ grid.affine[:3, :3].T
    inside = (points**2).sum(axis=-1) <= PEAK_RADIUS_MM**2
    for axis in range(3):
        shape = list(inside.shape)
        shape[axis : axis + 1] = [shape[axis] // _FINE, _FINE]
        inside = inside.reshape(shape).sum(axis=axis + 1)
    return np.asarray(inside / inside.sum(), dtype=np.float64)
