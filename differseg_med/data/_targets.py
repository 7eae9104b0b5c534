"""Label values: what they mean, and the binary targets that are made of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from differseg_med.errors import StudyError
from differseg_med.types import MaskArray

__all__ = [
    "IGNORE",
    "Classes",
    "Target",
    "count_values",
    "parse_classes",
    "parse_targets",
    "to_target",
]

IGNORE = 2
"""Value of a prepared label where a voxel counts neither as target nor as background."""

Classes: TypeAlias = Mapping[str, tuple[tuple[float, float], ...]]
"""By name of a class, the closed intervals of stored values that mean it."""


@dataclass(frozen=True)
class Target:
    """One binary target of a dataset.

    Attributes:
        name: key on the command line.
        title: name for people.
        classes: names of the classes that are foreground.
        ignore: names of the classes that count neither way.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    ignore: tuple[str, ...] = ()

    def check(self, classes: Classes) -> None:
        """Check that a layout declares every class of the target.

        Raises:
            ValueError: naming the class that it does not.
        """
        unknown = [name for name in (*self.classes, *self.ignore) if name not in classes]
        if unknown or not self.classes:
            raise ValueError(f"target {self.name} names classes {unknown} that are not declared")


def parse_classes(content: Any) -> Classes:
    """Classes from ``name: value``, ``name: [values]``, ``name: lowest-highest`` or ``#rrggbb``.

    Raises:
        ValueError: a value is none of these, or stands twice.

    Examples:
        >>> parse_classes({"background": 0, "liver": "55-70"})
        {'background': ((0.0, 0.0),), 'liver': ((55.0, 70.0),)}
    """
    if not isinstance(content, dict) or not content:
        raise ValueError("classes must map names to values")
    found = {}
    for name, values in content.items():
        entries = values if isinstance(values, list) else [values]
        found[str(name)] = tuple(_interval(entry) for entry in entries)
    every = sorted(interval for intervals in found.values() for interval in intervals)
    if any(after[0] <= before[1] for before, after in itertools.pairwise(every)):
        raise ValueError("a label value stands in two classes")
    return found


def _interval(value: Any) -> tuple[float, float]:
    if isinstance(value, str) and value.startswith("#"):
        return float(int(value[1:], 16)), float(int(value[1:], 16))
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return float(low), float(high)
    return float(value), float(value)


def parse_targets(content: Mapping[str, Any]) -> dict[str, Target]:
    """Targets from ``name: {title, classes, ignore}``.

    Raises:
        ValueError: there is none, or a key is unknown.
    """
    found = {}
    for name, body in content.items():
        if not {"title", "classes"} <= set(body) <= {"title", "classes", "ignore"}:
            raise ValueError(f"target {name} needs title and classes, and may have ignore")
        ignore = tuple(body.get("ignore", ()))
        found[str(name)] = Target(str(name), body["title"], tuple(body["classes"]), ignore)
    if not found:
        raise ValueError("targets must name at least one")
    return found


def count_values(array: npt.NDArray[Any]) -> dict[float, int]:
    """How often each value stands in a label."""
    values, counts = np.unique(array, return_counts=True)
    return {float(v): int(n) for v, n in zip(values, counts, strict=True)}


def to_target(array: npt.NDArray[Any], classes: Classes, target: Target) -> MaskArray:
    """A label as 0, 1 and, where the target ignores classes, `IGNORE`.

    Args:
        array: stored values.
        classes: what they mean.
        target: what becomes foreground.

    Raises:
        StudyError: ``E_LABEL`` naming values that are not declared.
    """
    _check_range(array, classes)
    names, found = list(classes), np.full(array.shape, -1, dtype=np.int16)
    for index, name in enumerate(names):
        for low, high in classes[name]:
            found[(array >= low) & (array <= high)] = index
    if (found < 0).any():
        shown = ", ".join(f"{v:g}" for v in np.unique(array[found < 0])[:5])
        declared = ", ".join(f"{_text(classes[name])} {name}" for name in names)
        raise StudyError("E_LABEL", f"the label holds {shown}; declared are {declared}")
    mask = np.isin(found, [names.index(name) for name in target.classes]).astype(np.uint8)
    if target.ignore:
        mask[np.isin(found, [names.index(name) for name in target.ignore])] = IGNORE
    return mask


def _check_range(array: npt.NDArray[Any], classes: Classes) -> None:
    """A mask of 0 and 1 where 0 to 255 was declared would be empty without an error."""
    low, high = classes.get("background", ((0.0, 0.0),))[0]
    largest = float(array.max(initial=0))
    if low < largest <= high:
        raise StudyError(
            "E_LABEL",
            f"the label holds values up to {largest:g}, all of them declared as background "
            f"({low:g}-{high:g})",
        )


def _text(intervals: tuple[tuple[float, float], ...]) -> str:
    return ", ".join(f"{a:g}" if a == b else f"{a:g}-{b:g}" for a, b in intervals)
