"""From slice positions to a grid: order, spacing, gaps, shear. Only positions are trusted.

Every check has a named tolerance; what is measured is stated in the finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from differseg_med.errors import Finding
from differseg_med.geometry import Grid, lps_ras
from differseg_med.io._source import short_name
from differseg_med.io._study import Instance

__all__ = [
    "COSINE_TOLERANCE",
    "Stack",
    "build_stack",
    "normal_of",
    "plane_problem",
    "projections",
    "same_place",
    "slice_line",
]

COSINE_TOLERANCE = 1e-3
"""Largest difference between direction cosines that count as the same orientation."""

SPACING_TOLERANCE = 0.02
"""Largest deviation from even spacing, as a share of the spacing."""

POSITION_FLOOR_MM = 0.02
"""Deviations under this many millimetres are rounding, whatever the spacing."""

GAP_RATIO = 1.5
"""A step this much larger than the usual one is a gap, unless it goes on for several slices."""

REGION_STEPS = 4
"""So many equal steps in a row are a region with its own spacing, not a gap."""

TILT_DEGREES = 0.1
"""Between the line of the slices and their normal; above it the affine is called sheared."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """Slices in order, and where they lie.

    Attributes:
        instances: sorted along the normal.
        grid: None where a problem forbids it.
        uneven: whether the slices must be resampled to lie on the grid.
        problems: what refuses the stack.
        findings: what is worth knowing.
    """

    instances: tuple[Instance, ...]
    grid: Grid | None = None
    uneven: bool = False
    problems: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


def normal_of(instance: Instance) -> _Floats:
    """Unit normal of a slice, in LPS."""
    cosines = np.array(instance.orientation, dtype=np.float64)
    normal = np.cross(cosines[:3], cosines[3:])
    length = np.linalg.norm(normal)
    return normal / length if length > 0 else normal


def projections(instances: Sequence[Instance]) -> _Floats:
    """Positions along the first slice's normal, in mm."""
    positions = np.array([instance.position for instance in instances], dtype=np.float64)
    return np.asarray(positions @ normal_of(instances[0]), dtype=np.float64)


def same_place(first: float, second: float) -> bool:
    """Whether two positions along the normal are the same slice position."""
    return abs(first - second) <= POSITION_FLOOR_MM


def build_stack(instances: Sequence[Instance], frame: str | None) -> Stack:
    """Sort slices of one orientation, check their steps and place the grid.

    Args:
        instances: slices that `plane_problem` passes, no two at one place.
        frame: FrameOfReferenceUID for the grid.
    """
    along = projections(instances)
    order = np.argsort(along, kind="stable")
    ordered = tuple(instances[i] for i in order)
    if len(ordered) == 1:
        return _single(ordered, frame)
    return _many(ordered, along[order], frame)


def plane_problem(instances: Sequence[Instance]) -> Finding | None:
    """A plane that has no millimetres or no right angles."""
    if any(instance.pixel_spacing is None for instance in instances):
        return Finding("E_NO_SPACING", "PixelSpacing is absent or void")
    cosines = np.array([instance.orientation for instance in instances], dtype=np.float64)
    rows, columns = cosines[:, :3], cosines[:, 3:]
    lengths = np.linalg.norm(np.stack([rows, columns]), axis=-1)
    skew = np.abs((rows * columns).sum(axis=1))
    if np.abs(lengths - 1).max() > COSINE_TOLERANCE or skew.max() > COSINE_TOLERANCE:
        return Finding(
            "E_GEOMETRY", "ImageOrientationPatient is not two unit vectors at right angles"
        )
    return None


def _single(instances: tuple[Instance, ...], frame: str | None) -> Stack:
    only = instances[0]
    few = Finding("E_TOO_FEW", "the series has 1 slice, a volume needs at least 2")
    thickness = only.tags.get("SliceThickness")
    if not isinstance(thickness, float) or not 0 < thickness < 1e3:
        return Stack(instances, problems=(Finding("E_NO_SPACING", "one slice, no SliceThickness"),))
    step = normal_of(only) * thickness
    grid = _grid(instances, np.array(only.position), step, 1, frame)
    return Stack(instances, grid, problems=(few,))


def _many(instances: tuple[Instance, ...], along: _Floats, frame: str | None) -> Stack:
    start, line, problem = slice_line(instances, along)
    if problem:
        return Stack(instances, problems=(problem,))
    gap = _gap(instances, along)
    uniform, step_mm = _even_step(along)
    count = round((along[-1] - along[0]) / step_mm) + 1
    step_mm = (along[-1] - along[0]) / (count - 1)
    grid = _grid(instances, start, line * step_mm, count, frame)
    findings = _tilt(instances, line)
    if not uniform and not gap:
        steps = np.diff(along)
        findings += (
            Finding(
                "W_SPACING",
                f"steps from {steps.min():.3f} to {steps.max():.3f} mm; "
                f"resampled to {step_mm:.3f} mm",
            ),
        )
    return Stack(instances, grid, not uniform, (gap,) if gap else (), findings)


def slice_line(
    instances: Sequence[Instance], along: _Floats
) -> tuple[_Floats, _Floats, Finding | None]:
    """Where the first slice starts, the way per millimetre of normal, and what forbids a line.

    Args:
        instances: slices in order.
        along: their positions along the normal.
    """
    positions = np.array([instance.position for instance in instances], dtype=np.float64)
    line = (positions[-1] - positions[0]) / (along[-1] - along[0])
    on_line = positions[0] + np.outer(along - along[0], line)
    aside = np.linalg.norm(positions - on_line, axis=1)
    allowed = max(POSITION_FLOOR_MM, SPACING_TOLERANCE * float(np.median(np.diff(along))))
    problem = None
    if aside.max() > allowed:
        worst = short_name(instances[int(aside.argmax())].source)
        problem = Finding(
            "E_GEOMETRY", f"slice {worst} lies {aside.max():.2f} mm beside the line of the others"
        )
    return positions[0], line, problem


def _runs(steps: _Floats) -> list[tuple[int, int, float]]:
    """Stretches of equal steps as (first step, number of steps, step)."""
    runs: list[tuple[int, int, float]] = []
    for index, step in enumerate(steps):
        if runs:
            first, count, value = runs[-1]
            if abs(step - value) <= max(POSITION_FLOOR_MM * 2, SPACING_TOLERANCE * value):
                runs[-1] = (first, count + 1, (value * count + step) / (count + 1))
                continue
        runs.append((index, 1, float(step)))
    return runs


def _gap(instances: Sequence[Instance], along: _Floats) -> Finding | None:
    """The largest step that is neither usual nor the spacing of a whole region."""
    runs = _runs(np.diff(along))
    usual = max(runs, key=lambda run: (run[1], -run[2]))[2]
    gaps = [run for run in runs if run[1] < REGION_STEPS and run[2] >= GAP_RATIO * usual]
    if not gaps:
        return None
    first, _, value = max(gaps, key=lambda run: run[2])
    before, after = (short_name(instances[first + i].source) for i in (0, 1))
    total = sum(run[1] for run in gaps)
    more = f" ({total} such steps)" if total > 1 else ""
    return Finding(
        "E_GAP",
        f"{value:.2f} mm from {before} to {after}, expected {usual:.2f} mm{more}",
    )


def _even_step(along: _Floats) -> tuple[bool, float]:
    """Whether the slices are evenly spaced, and the step of the grid in mm."""
    extent = float(along[-1] - along[0])
    mean = extent / (len(along) - 1)
    even = along[0] + mean * np.arange(len(along))
    allowed = max(POSITION_FLOOR_MM, SPACING_TOLERANCE * mean)
    if np.abs(along - even).max() <= allowed:
        return True, mean
    runs = _runs(np.diff(along))
    regions = [run[2] for run in runs if run[1] >= REGION_STEPS]
    usual = max(runs, key=lambda run: (run[1], -run[2]))[2]
    return False, min([*regions, usual])


def _tilt(instances: Sequence[Instance], line: _Floats) -> tuple[Finding, ...]:
    cosine = min(1.0, 1.0 / float(np.linalg.norm(line)))
    degrees = float(np.degrees(np.arccos(cosine)))
    if degrees <= TILT_DEGREES:
        return ()
    return (Finding("W_TILT", f"slices are sheared by {degrees:.1f} degrees"),)


def _grid(
    instances: Sequence[Instance],
    start: _Floats,
    step: _Floats,
    count: int,
    frame: str | None,
) -> Grid:
    first = instances[0]
    assert first.pixel_spacing is not None
    cosines = np.mean(np.array([i.orientation for i in instances], dtype=np.float64), axis=0)
    row, column = cosines[:3], cosines[3:]
    affine = np.eye(4)
    affine[:3, 0] = row / np.linalg.norm(row) * first.pixel_spacing[1]
    affine[:3, 1] = column / np.linalg.norm(column) * first.pixel_spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = start
    return Grid((first.columns, first.rows, count), lps_ras(affine), frame)
