"""Plots as SVG text: no dependency, no script, nothing that a browser would have to fetch."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

__all__ = ["scatter", "strips"]

_WIDTH, _ROW, _LEFT, _RIGHT = 640, 34, 170, 20
_COLOURS = ("#1f6feb", "#d1622b", "#2a8a4a", "#8250df", "#9a6700", "#cf222e")


def strips(
    title: str,
    values: Mapping[str, Sequence[float]],
    centres: Mapping[str, tuple[float, float, float]],
) -> str:
    """A row of points per method, with the mean and its interval below each.

    Args:
        title: caption, with the unit.
        values: a value per case by method; NaN is left out.
        centres: mean, low and high by method; NaN is not drawn.
    """
    defined = {m: [v for v in vs if math.isfinite(v)] for m, vs in values.items()}
    low, high = _range([v for vs in defined.values() for v in vs])
    height = _ROW * len(defined) + 56
    parts = [_open(height, title)]
    for row, (method, points) in enumerate(defined.items()):
        y, colour = 40 + _ROW * row, _COLOURS[row % len(_COLOURS)]
        parts.append(_text(_LEFT - 10, y + 4, _short(method), "end"))
        parts += [
            _dot(_x(v, low, high), y - 3 + 6 * (i % 3 - 1) / 2, colour)
            for i, v in enumerate(points)
        ]
        parts.append(_interval(centres[method], low, high, y + 11, colour))
    parts += _axis(low, high, height - 24)
    return "".join([*parts, "</svg>"])


def scatter(title: str, x: Sequence[float], y: Sequence[float], axes: tuple[str, str]) -> str:
    """Points in a square with the line of equal values.

    Args:
        title: caption.
        x: values along the horizontal axis.
        y: values along the vertical axis.
        axes: names of both axes.
    """
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    low, high = _range([0.0, *(v for pair in pairs for v in pair)])
    side, left, top = 300, 70, 34
    scale = side / (high - low)
    parts = [_open(side + 86, title)]
    parts.append(
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#888"/>'
        f'<line x1="{left}" y1="{top + side}" x2="{left + side}" y2="{top}" stroke="#bbb"/>'
    )
    for a, b in pairs:
        parts.append(_dot(left + (a - low) * scale, top + side - (b - low) * scale, _COLOURS[0]))
    parts += [
        _text(left, top + side + 16, f"{low:.3g}"),
        _text(left - 6, top + 8, f"{high:.3g}", "end"),
    ]
    parts.append(_text(left + side, top + side + 16, f"{high:.3g}", "end"))
    parts.append(
        _text(left + side / 2, top + side + 34, f"{axes[0]} (across), {axes[1]} (up)", "middle")
    )
    return "".join([*parts, "</svg>"])


def _open(height: float, title: str) -> str:
    label = html.escape(title)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" height="{height:g}" role="img" '
        f'aria-label="{label}" font-family="sans-serif" font-size="12">'
        f'<text x="0" y="16" font-weight="bold">{label}</text>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    spare = (high - low) * 0.04 or 0.5
    return (0.0 if low >= 0 else low - spare), high + spare


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _axis(low: float, high: float, y: float) -> list[str]:
    parts = [f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#888"/>']
    for tick in range(5):
        value = low + (high - low) * tick / 4
        parts.append(_text(_x(value, low, high), y + 16, f"{value:.3g}", "middle"))
    return parts


def _interval(
    centre: tuple[float, float, float], low: float, high: float, y: float, colour: str
) -> str:
    mean, lower, upper = centre
    if not math.isfinite(mean):
        return ""
    x = _x(mean, low, high)
    mark = f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z" fill="{colour}"/>'
    if not math.isfinite(lower):
        return mark
    ends = f'x1="{_x(lower, low, high):.1f}" x2="{_x(upper, low, high):.1f}"'
    return f'<line {ends} y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2"/>{mark}'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" fill-opacity="0.5"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
