"""A picture to look at before a mask is used: three planes, every modality, the mask's outline."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from differseg_med.engine._outputs import Results
from differseg_med.errors import OutputError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import resample
from differseg_med.modality import get_modality
from differseg_med.transforms import normalize_modality

__all__ = ["canonical_axes", "draw_montage", "largest_planes", "to_canonical", "write_montage"]

Array = npt.NDArray[Any]

_PANEL = 280
_GAP = 6
_TITLE = 24
_OUTLINE = (255, 90, 60)
_DARK, _EMPTY, _TEXT = (16, 16, 16), (40, 40, 40), (235, 235, 235)


@dataclass(frozen=True)
class _Plane:
    """A plane of the page: the RAS axis across it, and the axes along the page's rows and columns.

    Both page axes run against the RAS axes, which is the radiological convention: the patient's
    right (or front) on the left of the page, front (or head) at its top.
    """

    name: str
    across: int
    horizontal: int
    vertical: int
    left: str
    top: str


_PLANES = (
    _Plane("axial", 2, 0, 1, "R", "A"),
    _Plane("coronal", 1, 0, 2, "R", "S"),
    _Plane("sagittal", 0, 1, 2, "A", "S"),
)


def draw_montage(
    volumes: Mapping[str, Volume | None], mask: Volume, path: str | Path, *, case: str
) -> Path:
    """Write a PNG: a row per plane through the mask's largest extent, a column per modality.

    Panels are in radiological orientation and in true proportions. The column of an absent
    modality is empty and says so.

    Args:
        volumes: volume by modality, None where absent, in the order of the columns.
        mask: the mask, on the reference grid.
        path: the PNG; an existing file is replaced.
        case: name of the case, for the caption.

    Returns:
        The path.

    Raises:
        OutputError: ``E_WRITE`` when it cannot be written.
    """
    path = Path(path)
    foreground, steps = to_canonical(mask.array > 0, mask.grid)
    picks = largest_planes(foreground)
    scale = _PANEL / float((np.array(foreground.shape) * steps).max())
    columns = [
        [
            _panel(gray, foreground, plane, pick, steps * scale)
            for plane, pick in zip(_PLANES, picks, strict=True)
        ]
        for gray in (_gray(name, volume, mask.grid) for name, volume in volumes.items())
    ]
    titles = [get_modality(name).title for name in volumes]
    volume_ml = float(foreground.sum()) * mask.grid.voxel_volume / 1000.0
    page = _page(columns, titles, f"{case}    mask {volume_ml:.1f} ml")
    try:
        page.save(path, format="PNG")
    except OSError as error:
        raise OutputError("E_WRITE", f"{path.name}: {error.strerror}") from error
    return path


def write_montage(results: Results, path: Path) -> None:
    """The montage of a case.

    Args:
        results: what is drawn.
        path: the PNG.

    Raises:
        OutputError: ``E_WRITE``.
    """
    draw_montage(results.inputs.volumes, results.mask, path, case=results.case)


def to_canonical(array: Array, grid: Grid) -> tuple[Array, npt.NDArray[np.float64]]:
    """Reorder an array's axes so that they run closest to right, anterior and superior.

    For display only: an oblique grid stays oblique.

    Args:
        array: values on the grid.
        grid: says where the axes run.

    Returns:
        A view of the array, and the steps along its new axes in mm.
    """
    order, steps = canonical_axes(grid)
    turned = array.transpose(order)[:: steps[0], :: steps[1], :: steps[2]]
    return turned, np.array(grid.spacing)[list(order)]


def canonical_axes(grid: Grid) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which axis runs closest to right, anterior and superior, and whether with it or against it.

    Args:
        grid: says where the axes run.

    Returns:
        An axis for each of the three directions, and 1 or -1 for each.
    """
    cosines = grid.affine[:3, :3] / np.array(grid.spacing)
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(cosines[world, axis]) for world, axis in enumerate(axes)),
    )
    return order, tuple(1 if cosines[world, axis] > 0 else -1 for world, axis in enumerate(order))


def largest_planes(foreground: Array) -> tuple[int, ...]:
    """Per plane (axial, coronal, sagittal) the index with most foreground, the middle of several.

    Args:
        foreground: mask with axes right, anterior, superior.
    """
    picks = []
    for plane in _PLANES:
        others = tuple(axis for axis in range(3) if axis != plane.across)
        areas = foreground.sum(axis=others)
        largest = np.flatnonzero(areas == areas.max())
        picks.append(int(largest[len(largest) // 2]))
    return tuple(picks)


def _gray(name: str, volume: Volume | None, grid: Grid) -> Array | None:
    """A modality on the reference grid as canonical 8-bit gray, windowed by its own rule."""
    if volume is None:
        return None
    modality = get_modality(name)
    values = resample(volume, grid, order="linear", fill=modality.background)
    shown = normalize_modality(torch.from_numpy(values), modality).numpy()
    return to_canonical((shown * 255).astype(np.uint8), grid)[0]


def _panel(
    gray: Array | None, foreground: Array, plane: _Plane, pick: int, pixels: npt.NDArray[np.float64]
) -> Image.Image:
    """One plane of one modality with the mask's outline, `pixels` wide per voxel."""
    outline = _cut(foreground, plane, pick)
    size = (
        max(1, round(outline.shape[1] * pixels[plane.horizontal])),
        max(1, round(outline.shape[0] * pixels[plane.vertical])),
    )
    if gray is None:
        panel = Image.new("RGB", size, _EMPTY)
        ImageDraw.Draw(panel).text((size[0] // 2, size[1] // 2), "absent", _TEXT, _font(), "mm")
        return panel
    image = Image.fromarray(_cut(gray, plane, pick)).resize(size, Image.Resampling.BILINEAR)
    rgb = np.array(image.convert("RGB"))
    large = Image.fromarray(outline.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
    inside = np.array(large) > 0
    rgb[inside & ~ndimage.binary_erosion(inside, iterations=2)] = _OUTLINE
    return Image.fromarray(rgb)


def _cut(array: Array, plane: _Plane, pick: int) -> Array:
    """A plane as page rows and columns, both against the RAS axes."""
    cut = array.take(pick, axis=plane.across)
    if plane.horizontal < plane.vertical:
        cut = cut.T
    return np.ascontiguousarray(cut[::-1, ::-1])


def _page(columns: list[list[Image.Image]], titles: list[str], caption: str) -> Image.Image:
    width = max(panel.width for column in columns for panel in column)
    heights = [max(column[row].height for column in columns) for row in range(len(_PLANES))]
    size = (
        _GAP + len(columns) * (width + _GAP),
        2 * _TITLE + sum(heights) + (len(heights) + 1) * _GAP,
    )
    page = Image.new("RGB", size, _DARK)
    draw = ImageDraw.Draw(page)
    for place, (title, column) in enumerate(zip(titles, columns, strict=True)):
        left = _GAP + place * (width + _GAP)
        draw.text((left + width // 2, _TITLE // 2), title, _TEXT, _font(), "mm")
        top = _TITLE + _GAP
        for plane, panel, height in zip(_PLANES, column, heights, strict=True):
            x, y = left + (width - panel.width) // 2, top + (height - panel.height) // 2
            page.paste(panel, (x, y))
            draw.text((x + 4, y + panel.height // 2), plane.left, _TEXT, _font(), "lm")
            draw.text((x + panel.width // 2, y + 3), plane.top, _TEXT, _font(), "mt")
            if place == 0:
                draw.text((left + 3, y + 3), plane.name, _TEXT, _font(), "lt")
            top += height + _GAP
    draw.text((_GAP, size[1] - _TITLE // 2), caption, _TEXT, _font(), "lm")
    return page


def _font() -> Any:
    return ImageFont.load_default(size=14)
