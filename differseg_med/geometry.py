"""Grids and volumes in patient space; NumPy only.

Convention inside the package: an affine maps voxel indices (i, j, k, in the order of the array's
axes) to RAS+ millimetres, as in NIfTI. DICOM's LPS is converted at the border, in `io`. Only the
affine is trusted: no name of a plane or orientation is ever used to flip an array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from differseg_med.errors import Finding, StudyError
from differseg_med.types import Affine, Point, Shape

__all__ = [
    "AFFINE_TOLERANCE_MM",
    "LPS_RAS",
    "Grid",
    "Volume",
    "centroid_mm",
    "covered_fraction",
    "foreground_box",
    "lps_ras",
    "work_grid",
]

AFFINE_TOLERANCE_MM = 1e-3
"""Two grids are the same where no voxel centre differs by more than this many millimetres."""

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns an LPS affine into a RAS one when multiplied from the left, and back."""


def lps_ras(affine: npt.ArrayLike) -> Affine:
    """Convert an affine between LPS and RAS patient coordinates (its own inverse).

    Args:
        affine: (4, 4) voxel-to-millimetre matrix.
    """
    return LPS_RAS @ np.asarray(affine, dtype=np.float64)


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an array lie.

    Attributes:
        shape: three sizes in voxels, in the order of the array's axes.
        affine: (4, 4) float64, voxel index to RAS+ millimetres.
        frame: identity of the patient frame (a DICOM FrameOfReferenceUID), None if not known.

    Raises:
        StudyError: ``E_GEOMETRY`` when the affine is not finite or not invertible.
    """

    shape: Shape
    affine: Affine = field(repr=False)
    frame: str | None = None

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or len(self.shape) != 3 or min(self.shape) < 1:
            raise StudyError("E_GEOMETRY", f"a 3D grid was expected, got shape {tuple(self.shape)}")
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise StudyError("E_GEOMETRY", "the affine is not finite or has no volume")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Length of one step along each array axis, in mm."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm3 (right for sheared grids, too)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def center(self) -> Point:
        """Centre of the grid in RAS millimetres."""
        return self.to_world((np.array(self.shape) - 1) / 2)

    def to_world(self, index: npt.ArrayLike) -> Point:
        """Voxel indices (..., 3) to RAS millimetres (..., 3)."""
        points = np.asarray(index, dtype=np.float64)
        return np.asarray(points @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, world: npt.ArrayLike) -> Point:
        """RAS millimetres (..., 3) to fractional voxel indices (..., 3)."""
        points = np.asarray(world, dtype=np.float64) - self.affine[:3, 3]
        return np.asarray(points @ np.linalg.inv(self.affine[:3, :3]).T)

    def corners(self) -> Point:
        """The eight corner voxel centres in RAS millimetres, shape (8, 3)."""
        ends = np.array(self.shape) - 1
        picks = np.indices((2, 2, 2)).reshape(3, -1).T
        return self.to_world(picks * ends)

    def crop(self, start: npt.ArrayLike, stop: npt.ArrayLike) -> Grid:
        """The part of the grid from voxel `start` up to but without voxel `stop`."""
        first, last = np.asarray(start, dtype=int), np.asarray(stop, dtype=int)
        affine = np.array(self.affine)
        affine[:3, 3] = self.to_world(first)
        return Grid(tuple(int(n) for n in last - first), affine, self.frame)

    def is_same(self, other: Grid, tolerance_mm: float = AFFINE_TOLERANCE_MM) -> bool:
        """Whether both grids put every voxel at the same place."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners() - other.corners()).max() <= tolerance_mm)


@dataclass(frozen=True)
class Volume:
    """An array and the grid that it lies on.

    Attributes:
        array: values, axes in the grid's order.
        grid: the grid, with the array's shape.
        modality: name of a declared modality, or None (masks).
        findings: what the gate noticed and let pass.
        provenance: how values came about (for PET: tags, times, factors), JSON-serialisable.
    """

    array: npt.NDArray[Any] = field(repr=False)
    grid: Grid
    modality: str | None = None
    findings: tuple[Finding, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.grid.shape:
            raise StudyError(
                "E_GEOMETRY",
                f"array of shape {tuple(self.array.shape)} does not fit grid {self.grid.shape}",
            )


def work_grid(reference: Grid, spacing: tuple[float, float, float] | None) -> Grid:
    """The grid on which a network works: the reference's box at another spacing.

    The axes keep the reference's directions; the outer faces of the first voxels coincide, the
    last voxels may reach past the reference's box by less than one voxel.

    Args:
        reference: the grid that results are given on.
        spacing: millimetres per axis, or None for the reference itself.
    """
    if spacing is None:
        return reference
    old = np.array(reference.spacing)
    new = np.array(spacing, dtype=np.float64)
    shape = np.maximum(1, np.ceil(np.array(reference.shape) * old / new - 1e-6)).astype(int)
    affine = np.array(reference.affine)
    affine[:3, :3] = affine[:3, :3] / old * new
    affine[:3, 3] = reference.to_world(-0.5 + 0.5 * new / old)
    return Grid(tuple(int(n) for n in shape), affine, reference.frame)


def covered_fraction(reference: Grid, other: Grid, samples: int = 24) -> float:
    """Share of the reference's box that lies inside the other grid's box, from 0 to 1.

    Args:
        reference: grid whose volume counts as 1.
        other: grid that may cover it.
        samples: number of sample points per axis.
    """
    axes = [(np.arange(samples) + 0.5) / samples * n - 0.5 for n in reference.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    index = other.to_index(reference.to_world(points))
    inside = (index >= -0.5) & (index <= np.array(other.shape) - 0.5)
    return float(inside.all(axis=1).mean())


def centroid_mm(volume: Volume) -> Point | None:
    """Centre of mass of a mask in RAS millimetres, None for an empty mask."""
    foreground = volume.array > 0
    counts = _counts(foreground)
    if not counts[0].any():
        return None
    return volume.grid.to_world([np.average(np.arange(len(n)), weights=n) for n in counts])


def foreground_box(foreground: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds every foreground voxel; empty slices where there is none."""
    edges = [np.flatnonzero(n)[[0, -1]] if n.any() else (0, -1) for n in _counts(foreground)]
    return tuple(slice(int(first), int(last) + 1) for first, last in edges)


def _counts(foreground: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Foreground voxels of every plane across each axis; listing voxels would take gigabytes."""
    flat = foreground.sum(axis=2, dtype=np.int64)
    return [flat.sum(axis=1), flat.sum(axis=0), foreground.sum(axis=(0, 1), dtype=np.int64)]
