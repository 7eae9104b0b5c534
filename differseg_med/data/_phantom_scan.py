"""How each modality sees the phantom: grid, tissue values, blur, noise, bias, misregistration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from differseg_med.data._phantom_body import Body, Layer, layers
from differseg_med.geometry import Grid
from differseg_med.types import FloatArray, Point

__all__ = ["MAX_SHIFT_MM", "PHANTOM_MODALITIES", "draw_grid", "draw_shift", "inside", "scan"]

FIELD_MM = (190.0, 190.0, 150.0)
"""Box that PET and CT cover; MR covers less."""

MAX_SHIFT_MM = 2.0
"""Largest misregistration of a modality against the PET."""


@dataclass(frozen=True)
class Scanner:
    """One modality's view.

    Attributes:
        spacing: mm along column, row and slice axis.
        field: box that is covered, mm.
        tilt_deg: largest tilt against the patient's axes.
        values: what each tissue measures; a layer without an entry leaves what is there.
    """

    spacing: tuple[float, float, float]
    field: tuple[float, float, float]
    tilt_deg: float
    values: dict[str, float]


_SCANNERS = {
    "pet": Scanner(
        (4.0, 4.0, 3.3),
        FIELD_MM,
        0.0,
        {
            "air": 0.0,
            "fat": 0.35,
            "muscle": 0.7,
            "cortex": 0.5,
            "marrow": 1.2,
            "gas": 0.2,
            "lesion": 5.0,
            "uptake": 5.0,
            "nodule": 0.7,
            "fluid": 6.0,
        },
    ),
    "ct": Scanner(
        (1.5, 1.5, 3.0),
        FIELD_MM,
        0.0,
        {
            "air": -1000.0,
            "fat": -100.0,
            "muscle": 55.0,
            "cortex": 950.0,
            "marrow": 220.0,
            "gas": -950.0,
            "lesion": 45.0,
            "nodule": 45.0,
            "fluid": 3.0,
        },
    ),
    "mr_t1": Scanner(
        (1.2, 1.2, 4.0),
        (168.0, 144.0, 128.0),
        6.0,
        {
            "air": 0.0,
            "fat": 900.0,
            "muscle": 430.0,
            "cortex": 40.0,
            "marrow": 700.0,
            "gas": 10.0,
            "lesion": 230.0,
            "nodule": 230.0,
            "fluid": 220.0,
        },
    ),
}

PHANTOM_MODALITIES = tuple(_SCANNERS)
"""Modalities that the phantom can be seen in."""


def draw_grid(modality: str, rng: np.random.Generator, frame: str) -> Grid:
    """Draw where a scanner puts its voxels: axes (column, row, slice), a little off centre."""
    scanner = _SCANNERS[modality]
    spacing = np.array(scanner.spacing)
    shape = np.round(np.array(scanner.field) / spacing).astype(int)
    angles = np.deg2rad(rng.uniform(-1, 1, size=2) * scanner.tilt_deg)
    axes = _turn(0, angles[0]) @ _turn(2, angles[1]) @ np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = rng.uniform(-2, 2, size=3) - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid(tuple(int(n) for n in shape), affine, frame)


def draw_shift(modality: str, rng: np.random.Generator) -> Point:
    """Draw a misregistration in mm; the PET is the reference and has none."""
    direction = rng.normal(size=3)
    length = rng.uniform(0.3, 1.0) * MAX_SHIFT_MM
    shift = direction / np.linalg.norm(direction) * length
    return np.zeros(3) if modality == "pet" else shift


def scan(
    modality: str, body: Body, grid: Grid, shift: Point, rng: np.random.Generator
) -> FloatArray:
    """Image the body on a grid.

    Args:
        modality: one of `PHANTOM_MODALITIES`.
        body: the anatomy.
        grid: where the voxels lie.
        shift: misregistration: the body appears moved by so many mm.
        rng: source of the noise.
    """
    view = {"pet": _scan_pet, "ct": _scan_ct, "mr_t1": _scan_mr}[modality]
    return view(body, grid, shift, rng)


def inside(body: Body, tissue: str, grid: Grid) -> npt.NDArray[np.bool_]:
    """Voxels whose centre lies inside a layer of that tissue."""
    points = _points(grid, np.zeros(3))
    found = np.zeros(grid.shape, dtype=bool)
    for layer in layers(body):
        if layer.tissue == tissue:
            box = _box(layer, grid, np.zeros(3))
            found[box] |= layer.shape.depth(points[box]) > 0
    return found


def _scan_pet(body: Body, grid: Grid, shift: Point, rng: np.random.Generator) -> FloatArray:
    """Activity on a grid twice as fine, noise that grows with it, 6 mm blur, block means."""
    fine = _finer(grid)
    image = _paint(_SCANNERS["pet"].values, body, fine, shift, edge_mm=2.0)
    noise = rng.standard_normal(fine.shape, dtype=np.float32)
    image += 0.9 * np.sqrt(np.maximum(image, 0.02)) * noise
    sigma = 6.0 / 2.355 / np.array(fine.spacing)
    image = ndimage.gaussian_filter(image, sigma, mode="nearest")
    i, j, k = grid.shape
    coarse = image.reshape(i, 2, j, 2, k, 2).mean(axis=(1, 3, 5))
    return np.asarray(np.maximum(coarse, 0), dtype=np.float32)


def _scan_ct(body: Body, grid: Grid, shift: Point, rng: np.random.Generator) -> FloatArray:
    """Soft edges and a noise with some grain; whole Hounsfield units from -1024."""
    image = _paint(_SCANNERS["ct"].values, body, grid, shift, edge_mm=1.5)
    grain = ndimage.uniform_filter(rng.standard_normal(grid.shape, dtype=np.float32), (2, 2, 1))
    image += 24.0 * grain
    return np.asarray(np.clip(np.rint(image), -1024, 3071), dtype=np.float32)


def _scan_mr(body: Body, grid: Grid, shift: Point, rng: np.random.Generator) -> FloatArray:
    """A smooth bias field, an arbitrary scale and Rician noise."""
    image = _paint(_SCANNERS["mr_t1"].values, body, grid, shift, edge_mm=2.0)
    image *= _bias(grid.shape, rng)
    real, imaginary = rng.standard_normal((2, *grid.shape), dtype=np.float32) * 18.0
    scale = rng.uniform(0.6, 1.6)
    return np.asarray(np.rint(np.hypot(image + real, imaginary) * scale), dtype=np.float32)


def _bias(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Exp of a random quadratic that stays within about 15 percent."""
    i, j, k = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    a = rng.uniform(-0.08, 0.08, size=6)
    first = a[0] * i[:, None, None] + a[1] * j[None, :, None] + a[2] * k
    second = (
        a[3] * (i**2)[:, None, None] + a[4] * (j**2)[None, :, None] + a[5] * i[:, None, None] * k
    )
    return np.asarray(np.exp(first + second), dtype=np.float32)


def _paint(
    values: dict[str, float], body: Body, grid: Grid, shift: Point, edge_mm: float
) -> FloatArray:
    """Fill the layers one over the other, with a linear edge as wide as `edge_mm`."""
    image = np.full(grid.shape, values["air"], dtype=np.float32)
    points = _points(grid, shift)
    for layer in layers(body):
        if layer.tissue not in values:
            continue
        value = values[layer.tissue]
        if layer.suv is not None and values is _SCANNERS["pet"].values:
            value = layer.suv
        box = _box(layer, grid, shift)
        share = np.clip(0.5 + layer.shape.depth(points[box]) / edge_mm, 0, 1)
        image[box] += share * (value - image[box])
    return image


def _points(grid: Grid, shift: Point) -> FloatArray:
    index = np.moveaxis(np.indices(grid.shape, dtype=np.float32), 0, -1)
    matrix = grid.affine[:3, :3].astype(np.float32)
    return np.asarray(index @ matrix.T + (grid.affine[:3, 3] - shift), dtype=np.float32)


def _box(layer: Layer, grid: Grid, shift: Point) -> tuple[slice, ...]:
    """Index box that holds a layer's shape within the grid."""
    heights = grid.corners()[:, 2] - shift[2]
    bounds = layer.shape.bounds(float(heights.min()), float(heights.max()))
    if bounds is None:
        return (slice(None),) * 3
    picks = np.indices((2, 2, 2)).reshape(3, -1)
    corners = np.stack([bounds[pick, axis] for axis, pick in enumerate(picks)], axis=1)
    index = grid.to_index(corners + shift)
    low = np.clip(np.floor(index.min(axis=0)) - 2, 0, None).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 3, 0, None).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _finer(grid: Grid) -> Grid:
    affine = np.array(grid.affine)
    affine[:3, :3] /= 2
    affine[:3, 3] = grid.to_world((-0.25, -0.25, -0.25))
    return Grid(tuple(2 * n for n in grid.shape), affine, grid.frame)


def _turn(axis: int, angle: float) -> npt.NDArray[np.float64]:
    """Rotation by `angle` radians about a coordinate axis."""
    a, b = (n for n in range(3) if n != axis)
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix
