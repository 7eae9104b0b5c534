"""Volumes as a page shows them: 8 bits, axes right, anterior, superior, in the reference's box."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from differseg_med.engine._montage import canonical_axes, largest_planes
from differseg_med.geometry import Grid, Volume
from differseg_med.io import resample
from differseg_med.modality import Intensity, get_modality
from differseg_med.transforms import normalize_modality
from differseg_med.types import Shape

__all__ = ["MOST_CHARACTERS", "Picture", "Scene", "make_scene", "unit_name"]

MOST_CHARACTERS = 14_000_000
"""Length of all pictures of a page together."""

_VOXELS = 10_000_000
"""Voxels of the images of a page, to begin with; a byte of noise takes 4/3 characters."""

_LONGEST = 256
"""Voxels of a picture along one axis, at most."""

_LONGEST_WEIGHTS = 64
"""The same for contributions, which are smooth."""

_LEVEL = 3

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A volume of bytes in a box; its voxels fill the box.

    Attributes:
        shape: voxels along right, anterior and superior.
        data: base64 of the deflated differences along the first, fastest axis.
    """

    shape: Shape
    data: str


@dataclass(frozen=True)
class Scene:
    """All that the viewer of a page shows.

    Attributes:
        size_mm: size of the box along right, anterior and superior.
        images: a picture by modality; only modalities that are present.
        windows: by modality what black and white stand for.
        mask: picture of 0 and 1.
        contributions: a picture by modality (255 is a weight of 1); empty where they are not known.
        center: along each axis the voxel of the mask's picture whose plane holds most of the mask.
    """

    size_mm: tuple[float, float, float]
    images: Mapping[str, Picture]
    windows: Mapping[str, str]
    mask: Picture
    contributions: Mapping[str, Picture]
    center: tuple[int, ...]


def make_scene(
    volumes: Mapping[str, Volume | None],
    mask: Volume,
    contributions: Mapping[str, Volume] | None = None,
) -> Scene:
    """Pictures of a case; each is as fine as its volume, as far as `MOST_CHARACTERS` allows.

    Args:
        volumes: a volume per modality, None where absent.
        mask: the mask; the pictures show the box of its grid.
        contributions: weights by modality.
    """
    voxels = _VOXELS
    while True:
        scene = _make(volumes, mask, contributions or {}, voxels)
        pictures = (*scene.images.values(), scene.mask, *scene.contributions.values())
        if sum(len(picture.data) for picture in pictures) <= MOST_CHARACTERS:
            return scene
        voxels = voxels * 2 // 3


def _make(
    volumes: Mapping[str, Volume | None],
    mask: Volume,
    contributions: Mapping[str, Volume],
    voxels: int,
) -> Scene:
    box = _canonical(mask.grid)
    present = {name: volume for name, volume in volumes.items() if volume is not None}
    small = _shrink_mask(mask, box, _fit(box, box, _longest(box) / _LONGEST))
    shapes = _shapes(box, present, voxels)
    images, windows = {}, {}
    for name, volume in present.items():
        gray, windows[name] = _gray(name, volume, _regrid(box, shapes[name]))
        images[name] = _encode(gray)
    coarse = _longest(box) / _LONGEST_WEIGHTS
    return Scene(
        size_mm=_three(np.array(box.shape) * box.spacing),
        images=images,
        windows=windows,
        mask=_encode(small),
        contributions={
            name: _encode(_weights(weights, _regrid(box, _fit(box, weights.grid, coarse))))
            for name, weights in contributions.items()
        },
        center=largest_planes(small)[::-1],  # named by what they lie across: 2, 1, 0
    )


def _canonical(grid: Grid) -> Grid:
    """The same box with axes that run closest to right, anterior and superior."""
    order, signs = canonical_axes(grid)
    affine = np.array(grid.affine)
    first = [
        0 if sign > 0 else grid.shape[axis] - 1 for axis, sign in zip(order, signs, strict=True)
    ]
    corner = np.zeros(3)
    corner[list(order)] = first
    affine[:3, :3] = grid.affine[:3, list(order)] * signs
    affine[:3, 3] = grid.to_world(corner)
    shape = (grid.shape[order[0]], grid.shape[order[1]], grid.shape[order[2]])
    return Grid(shape, affine, grid.frame)


def _regrid(box: Grid, shape: Shape) -> Grid:
    """Another number of voxels in the same box."""
    ratio = np.array(box.shape) / np.array(shape)
    affine = np.array(box.affine)
    affine[:3, :3] = affine[:3, :3] * ratio
    affine[:3, 3] = box.to_world(-0.5 + 0.5 * ratio)
    return Grid(shape, affine, box.frame)


def _shapes(box: Grid, volumes: Mapping[str, Volume], voxels: int) -> dict[str, Shape]:
    """Shape of every image: its volume's own fineness, under one limit for all."""
    step = _longest(box) / _LONGEST
    while True:
        shapes = {name: _fit(box, volume.grid, step) for name, volume in volumes.items()}
        if sum(math.prod(shape) for shape in shapes.values()) <= voxels:
            return shapes
        step *= 1.04


def _longest(box: Grid) -> float:
    return float((np.array(box.shape) * box.spacing).max())


def _fit(box: Grid, grid: Grid, step: float) -> Shape:
    """Voxels along the box's axes, as fine as another grid but none smaller than a step in mm."""
    directions = box.affine[:3, :3] / box.spacing
    per_mm = np.linalg.norm(np.linalg.inv(grid.affine[:3, :3]) @ directions, axis=0)
    wanted = np.array(box.shape) * box.spacing * np.minimum(per_mm, 1.0 / step)
    counts = np.maximum(1, np.ceil(wanted - 1e-6)).astype(int)
    return int(counts[0]), int(counts[1]), int(counts[2])


def _gray(name: str, volume: Volume, grid: Grid) -> tuple[Bytes, str]:
    modality = get_modality(name)
    coarse = _shrink(volume, grid)
    values = resample(coarse, grid, order="linear", fill=modality.background, antialias=False)
    shown = normalize_modality(torch.from_numpy(values), modality).numpy()
    return np.asarray(np.rint(shown * 255), dtype=np.uint8), _window(
        modality.intensity, modality.unit
    )


def _window(intensity: Intensity, unit: str) -> str:
    if intensity.rule == "window":
        return f"{intensity.low:g} to {intensity.high:g} {unit_name(unit)}"
    return f"background to percentile {intensity.high:g}"


_UNITS = {"[hnsf'U]": "HU", "g/ml{SUVbw}": "SUVbw", "um2/s": "µm²/s", "1": "arbitrary"}


def unit_name(unit: str) -> str:
    """A unit for people.

    Args:
        unit: in UCUM.
    """
    return _UNITS.get(unit, unit)


def _weights(volume: Volume, grid: Grid) -> Bytes:
    coarse = _shrink(volume, grid)
    values = resample(coarse, grid, order="linear", fill=0.0, antialias=False)
    return np.asarray(np.rint(values.clip(0.0, 1.0) * 255), dtype=np.uint8)


def _shrink(volume: Volume, grid: Grid) -> Volume:
    """Means of whole blocks of voxels, as large as the target's voxels allow."""
    steps = np.linalg.norm(np.linalg.inv(grid.affine[:3, :3]) @ volume.grid.affine[:3, :3], axis=0)
    factors = np.maximum(1, np.floor(1.0 / steps + 1e-6)).astype(int)
    factors = np.minimum(factors, volume.grid.shape)
    array: npt.NDArray[Any] = volume.array
    for axis in np.argsort(-factors):  # the axis that shrinks most first: less is left to add
        factor = int(factors[axis])
        if factor > 1:
            array = _block_means(array, int(axis), factor)
    affine = np.array(volume.grid.affine)
    affine[:3, :3] = affine[:3, :3] * factors
    affine[:3, 3] = volume.grid.to_world((factors - 1) / 2)
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return Volume(array, Grid(shape, affine, volume.grid.frame), volume.modality)


def _block_means(array: npt.NDArray[Any], axis: int, factor: int) -> npt.NDArray[np.float32]:
    """Means of neighbours along an axis; the last that fill no block are left out."""
    whole = array.shape[axis] // factor * factor
    pick: list[slice] = [slice(None)] * 3
    pick[axis] = slice(0, whole, factor)
    total: npt.NDArray[np.float32] = array[tuple(pick)].astype(np.float32)
    for offset in range(1, factor):
        pick[axis] = slice(offset, whole, factor)
        total += array[tuple(pick)]
    total *= np.float32(1.0 / factor)
    return total


def _shrink_mask(mask: Volume, box: Grid, shape: Shape) -> Bytes:
    """A voxel of the picture is set where any voxel of the mask lies in it: nothing gets lost."""
    inside = np.argwhere(mask.array > 0)
    small = np.zeros(shape, np.uint8)
    index = np.rint(box.to_index(mask.grid.to_world(inside)))
    at = np.floor((index + 0.5) / np.array(box.shape) * np.array(shape)).astype(int)
    small[tuple(at.T)] = 1
    return small


def _encode(values: Bytes) -> Picture:
    """Differences along the first axis compress better than values."""
    turned = values.transpose(2, 1, 0)  # the first axis becomes the fastest in memory
    differences = np.diff(turned, axis=2, prepend=np.uint8(0))
    packed = zlib.compress(differences.tobytes(), _LEVEL)
    shape = (values.shape[0], values.shape[1], values.shape[2])
    return Picture(shape, base64.b64encode(packed).decode())


def _three(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return round(float(values[0]), 3), round(float(values[1]), 3), round(float(values[2]), 3)
