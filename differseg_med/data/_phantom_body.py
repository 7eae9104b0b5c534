"""What the phantom is made of: shapes with a known depth everywhere, and where they are put."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Blob", "Body", "Kind", "Layer", "Rod", "Shape", "Trunk", "draw_body", "layers"]

Kind: TypeAlias = Literal["lesion", "uptake", "nodule", "fluid"]
_Points: TypeAlias = npt.NDArray[np.float32]

BUMP = 0.22
"""How far a blob's surface leaves its ellipsoid, as a share of the radius."""

_CLEARANCE_MM = 6.0
# Placed in this order; uptake comes last because it may lie over bone and fat.
_COUNTS: dict[Kind, tuple[int, int]] = {
    "lesion": (1, 2),
    "fluid": (1, 2),
    "nodule": (2, 3),
    "uptake": (3, 5),
}
_RADII_MM: dict[Kind, tuple[float, float]] = {
    "lesion": (12.0, 18.0),
    "uptake": (10.0, 17.0),
    "nodule": (9.0, 14.0),
    "fluid": (10.0, 15.0),
}
_UPTAKE_SUV: dict[Kind, tuple[float, float]] = {
    "lesion": (3.5, 7.0),
    "uptake": (3.5, 8.0),
    "nodule": (0.6, 0.9),
    "fluid": (4.0, 10.0),
}


class Shape(Protocol):
    """A body of which every point knows how deep inside it lies."""

    def depth(self, points: _Points) -> _Points:
        """Signed millimetres from the surface at points (..., 3), positive inside."""

    def bounds(self, low: float, high: float) -> npt.NDArray[np.float64] | None:
        """Box (2, 3) in RAS mm around the part between two heights, None for everything."""


@dataclass(frozen=True)
class Trunk:
    """A superelliptic cylinder along the patient's long axis that tapers towards the feet.

    Attributes:
        half_width: half of the left-right width at the middle, mm.
        half_height: half of the front-back height at the middle, mm.
        taper: change of both per mm upwards, as a share.
    """

    half_width: float
    half_height: float
    taper: float

    def depth(self, points: _Points) -> _Points:
        """Signed millimetres from the surface, positive inside (approximate off the axes)."""
        scale = 1 + self.taper * points[..., 2]
        x = np.abs(points[..., 0] / (self.half_width * scale))
        y = np.abs(points[..., 1] / (self.half_height * scale))
        level = np.sqrt(np.sqrt(x**4 + y**4 + 1.2 * x**2 * y**2))
        return np.asarray((1 - level) * min(self.half_width, self.half_height), dtype=np.float32)

    def bounds(self, low: float, high: float) -> None:
        """The trunk fills the field of view."""

    def shrunk(self, by: float) -> Trunk:
        """The same trunk with its surface moved inwards by so many mm."""
        return Trunk(self.half_width - by, self.half_height - by, self.taper)


@dataclass(frozen=True)
class Rod:
    """A cylinder that runs through the whole field of view: a long bone.

    Attributes:
        point: a point on its axis, RAS mm.
        direction: unit vector along its axis.
        radius: mm.
    """

    point: tuple[float, float, float]
    direction: tuple[float, float, float]
    radius: float

    def depth(self, points: _Points) -> _Points:
        """Signed millimetres from the surface, positive inside."""
        offset = points - np.asarray(self.point, dtype=np.float32)
        along = offset @ np.asarray(self.direction, dtype=np.float32)
        square = np.einsum("...i,...i->...", offset, offset) - along**2
        return np.asarray(self.radius - np.sqrt(np.maximum(square, 0)), dtype=np.float32)

    def bounds(self, low: float, high: float) -> npt.NDArray[np.float64]:
        """Box around the axis between two heights; a rod is nearly upright."""
        along = (np.array([[low], [high]]) - self.point[2]) / self.direction[2]
        axis = np.array(self.point) + along * np.array(self.direction)
        margin = self.radius / self.direction[2]
        return np.stack([axis.min(axis=0) - margin, axis.max(axis=0) + margin])


@dataclass(frozen=True)
class Blob:
    """A lump: an ellipsoid with a bumpy surface.

    Attributes:
        kind: what it stands for (see `differseg_med.data.phantom`), or "gas".
        center: RAS mm.
        radii: semi-axes in mm.
        rotation: rows are the ellipsoid's axes.
        bumps: two unit vectors that say where the surface swells and where it dips.
        suv: uptake in SUVbw.
    """

    kind: Kind | Literal["gas"]
    center: tuple[float, float, float]
    radii: tuple[float, float, float]
    rotation: tuple[tuple[float, float, float], ...]
    bumps: tuple[tuple[float, float, float], ...]
    suv: float

    def depth(self, points: _Points) -> _Points:
        """Signed millimetres from the surface, positive inside (approximate off the surface)."""
        offset = points - np.asarray(self.center, dtype=np.float32)
        turned = offset @ np.asarray(self.rotation, dtype=np.float32).T
        scaled = turned / np.asarray(self.radii, dtype=np.float32)
        level = np.sqrt(np.einsum("...i,...i->...", scaled, scaled))
        swell = (
            scaled @ np.asarray(self.bumps, dtype=np.float32).T / np.maximum(level, 1e-6)[..., None]
        )
        surface = 1 + BUMP * (swell[..., 0] * swell[..., 1] + 0.5 * swell[..., 0] ** 3)
        return np.asarray((1 - level / surface) * min(self.radii), dtype=np.float32)

    def bounds(self, low: float, high: float) -> npt.NDArray[np.float64]:
        """Box around the blob."""
        center, radius = self.reach()
        return np.stack([center - radius, center + radius])

    def reach(self) -> tuple[npt.NDArray[np.float64], float]:
        """Centre and radius of a ball that holds the blob, mm."""
        return np.asarray(self.center, dtype=np.float64), max(self.radii) * (1 + 1.5 * BUMP)


@dataclass(frozen=True)
class Body:
    """The anatomy of one case.

    Attributes:
        skin: outer surface.
        muscle: surface under the fat.
        bones: long bones and spine.
        gas: pockets of bowel gas.
        blobs: lesions and distractors.
    """

    skin: Trunk
    muscle: Trunk
    bones: tuple[Rod, ...]
    gas: tuple[Blob, ...]
    blobs: tuple[Blob, ...]


@dataclass(frozen=True)
class Layer:
    """One shape and what fills it; later layers cover earlier ones.

    Attributes:
        tissue: key of the scanners' tables.
        shape: where it is.
        suv: uptake that replaces the table's, None to keep it.
    """

    tissue: str
    shape: Shape
    suv: float | None = None


def layers(body: Body) -> Iterator[Layer]:
    """The body from the skin inwards."""
    yield Layer("fat", body.skin)
    yield Layer("muscle", body.muscle)
    for bone in body.bones:
        yield Layer("cortex", bone)
        yield Layer("marrow", Rod(bone.point, bone.direction, bone.radius - 3.5))
    for pocket in body.gas:
        yield Layer("gas", pocket)
    for blob in body.blobs:
        yield Layer(blob.kind, blob, blob.suv)


def draw_body(rng: np.random.Generator, *, lesions: bool) -> Body:
    """Draw one anatomy; the same draws are made with and without lesions."""
    skin = Trunk(rng.uniform(80, 90), rng.uniform(62, 72), rng.uniform(-6e-4, 6e-4))
    bones = (
        _rod(rng, -44, 4, rng.uniform(8, 11)),
        _rod(rng, 44, 4, rng.uniform(8, 11)),
        _rod(rng, 0, 8 - skin.half_height / 1.6, rng.uniform(11, 14)),
    )
    muscle = skin.shrunk(rng.uniform(9, 16))
    gas: list[Blob] = []
    blobs: list[Blob] = []
    for kind, (low, high) in _COUNTS.items():
        for _ in range(int(rng.integers(low, high + 1))):
            blobs.append(_place(rng, kind, muscle, bones, blobs))
    for _ in range(2):
        gas.append(_place(rng, "gas", muscle, bones, [*blobs, *gas]))
    kept = tuple(b for b in blobs if lesions or b.kind != "lesion")
    return Body(skin, muscle, bones, tuple(gas), kept)


def _rod(rng: np.random.Generator, x: float, y: float, radius: float) -> Rod:
    tilt = rng.uniform(-0.06, 0.06, size=2)
    direction = np.array([tilt[0], tilt[1], 1.0])
    direction /= np.linalg.norm(direction)
    offset = rng.uniform(-3, 3, size=2)
    return Rod((x + offset[0], y + offset[1], 0.0), tuple(direction), radius)


def _place(
    rng: np.random.Generator,
    kind: Kind | Literal["gas"],
    muscle: Trunk,
    bones: tuple[Rod, ...],
    others: list[Blob],
) -> Blob:
    """Draw a blob that touches nothing; it gets smaller when there is little room."""
    shrink = 1.0
    while True:
        for _ in range(60):
            blob = _blob(rng, kind, shrink)
            if _is_free(blob, muscle, bones, others):
                return blob
        shrink *= 0.9


def _blob(rng: np.random.Generator, kind: Kind | Literal["gas"], shrink: float) -> Blob:
    low, high = (8.0, 13.0) if kind == "gas" else _RADII_MM[kind]
    radius = rng.uniform(low, high) * shrink
    center = rng.uniform((-66, -48, -46), (66, 48, 46))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    bumps = rng.normal(size=(2, 3))
    bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
    radii = radius * rng.uniform(0.8, 1.25, size=3)
    suv = 0.3 if kind == "gas" else rng.uniform(*_UPTAKE_SUV[kind])
    return Blob(
        kind,
        _triple(center),
        _triple(radii),
        tuple(_triple(row) for row in rotation),
        tuple(_triple(row) for row in bumps),
        float(suv),
    )


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _is_free(blob: Blob, muscle: Trunk, bones: tuple[Rod, ...], others: list[Blob]) -> bool:
    """Whether the blob is clear of the others and, if tissue, of fat and bones."""
    center, radius = blob.reach()
    at = center.astype(np.float32)
    if float(muscle.depth(at)) < (0 if blob.kind == "uptake" else radius * 0.9):
        return False
    if blob.kind != "uptake" and any(float(bone.depth(at)) > -radius for bone in bones):
        return False
    gaps = (np.linalg.norm(center - place) - reach for place, reach in (o.reach() for o in others))
    return all(gap > radius + _CLEARANCE_MM for gap in gaps)
