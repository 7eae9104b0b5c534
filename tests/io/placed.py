"""Grids in all orientations, masks without symmetry, and reference series for SEG tests."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from differseg_med.geometry import Grid, Volume
from differseg_med.io import Instance, SegmentInfo, Series, StudyInfo, write_series

STUDY = StudyInfo.from_seed(5)
INFO = SegmentInfo("Lesion", "sts_petctmr", "0.1.0")
SHAPE = (7, 6, 5)


def directions() -> list[np.ndarray]:
    """The 24 right-handed orientations along the axes, their 24 mirrors, and 3 oblique ones."""
    found = [
        np.eye(3)[:, order] * signs
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]
    generator = np.random.default_rng(4)
    found += [np.linalg.qr(generator.normal(size=(3, 3)))[0] for _ in range(3)]
    return found


def make_grid(direction: np.ndarray | None = None, shape=SHAPE) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([-1, -1, 1]) if direction is None else direction) * (1.5, 2, 3.25)
    affine[:3, 3] = (12.5, -20.75, 101.125)
    return Grid(shape, affine, STUDY.frame_uid)


def make_mask(grid: Grid, seed: int = 0) -> Volume:
    """No symmetry, an empty slice at one end and one inside."""
    array = (np.random.default_rng(seed).random(grid.shape) < 0.3).astype(np.uint8)
    array[:, :, 0] = array[:, :, 3] = 0
    array[0, 0, 1] = array[1, 0, 1] = 1
    return Volume(array, grid)


def series_of(paths, grid: Grid | None, **changes) -> Series:
    """What the headers of classic files say, slice k of the grid being file k."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    instances = tuple(
        Instance(
            source=str(path),
            uid=ds.SOPInstanceUID,
            frame=0,
            position=tuple(map(float, ds.ImagePositionPatient)),
            orientation=tuple(map(float, ds.ImageOrientationPatient)),
            pixel_spacing=tuple(map(float, ds.PixelSpacing)),
            rows=ds.Rows,
            columns=ds.Columns,
            tags={"SliceThickness": float(ds.SliceThickness)},
        )
        for path, ds in zip(paths, headers, strict=True)
    )
    first = headers[0]
    series = Series(
        first.SeriesInstanceUID,
        int(first.SeriesNumber),
        first.SeriesDescription,
        first.Modality,
        first.SOPClassUID,
        first.FrameOfReferenceUID,
        first.StudyInstanceUID,
        instances,
        grid,
    )
    return replace(series, **changes)


def write_reference(folder: Path, grid: Grid, modality: str = "ct") -> Series:
    volume = Volume(np.zeros(grid.shape, np.float32), grid, modality)
    return series_of(write_series(volume, folder, study=STUDY, number=1), grid)


def set_points(mask: Volume) -> np.ndarray:
    """Centres of the voxels that are set, LPS mm, in lexical order."""
    points = mask.grid.to_world(np.argwhere(mask.array)) * (-1, -1, 1)
    return in_order(points)


def in_order(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 2).T)]
