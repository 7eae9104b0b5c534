"""Split the slices of one series into stacks: by size, orientation, and what tells copies apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from differseg_med.io._geometry import (
    COSINE_TOLERANCE,
    POSITION_FLOOR_MM,
    projections,
)
from differseg_med.io._study import Instance
from differseg_med.io._times import acquired

__all__ = ["Part", "split"]

_Key = Callable[[Instance], Hashable]

_AXIS_NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Part:
    """Slices of one series that may be one stack.

    Attributes:
        instances: the slices.
        labels: what tells them from the others, such as ``{"b": "1000"}``.
    """

    instances: tuple[Instance, ...]
    labels: dict[str, str]


def split(instances: Sequence[Instance]) -> list[Part]:
    """Parts of a series whose slices all have a position and an orientation.

    Sizes and orientations are always split, b-values, echoes and temporal positions where they
    vary; other values (`_TIE_KEYS`) only where several slices lie at one place.
    """
    parts = [Part(tuple(instances), {})]
    parts = [piece for part in parts for piece in _by_value(part, "matrix", _matrix)]
    parts = [piece for part in parts for piece in _by_orientation(part)]
    for name, key in _ALWAYS_KEYS.items():
        parts = [piece for part in parts for piece in _by_varying(part, name, key)]
    return [piece for part in parts for piece in _by_ties(part, tuple(_TIE_KEYS))]


def _matrix(instance: Instance) -> Hashable:
    spacing = instance.pixel_spacing or (0.0, 0.0)
    return instance.rows, instance.columns, round(spacing[0], 3), round(spacing[1], 3)


def _b_value(instance: Instance) -> Hashable:
    tags = instance.tags
    for keyword in ("DiffusionBValue", "SiemensBValue", "GEBValue", "PhilipsBValue"):
        try:
            value = float(str(tags[keyword])) if keyword in tags else None
        except ValueError:
            value = None
        if value is not None:
            # GE adds 1e9 to say that the value was processed.
            return round(value % 1e9) if keyword == "GEBValue" else round(value)
    return None


def _echo(instance: Instance) -> Hashable:
    value = instance.tags.get("EchoTime")
    return None if value is None else round(float(str(value)), 2)


def _tag(*keywords: str) -> _Key:
    return lambda instance: next((instance.tags[k] for k in keywords if k in instance.tags), None)


_ALWAYS_KEYS: dict[str, _Key] = {
    "b": _b_value,
    "echo": _echo,
    "t": _tag("TemporalPositionIndex", "TemporalPositionIdentifier"),
}

_TIE_KEYS: dict[str, _Key] = {
    "type": _tag("ImageType"),
    "stack": _tag("StackID"),
    "acquisition": _tag("FrameAcquisitionNumber", "AcquisitionNumber"),
    "phase": _tag("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "inversion": _tag("InversionTime"),
    "flip": _tag("FlipAngle"),
    "kernel": _tag("ConvolutionKernel"),
    "direction": _tag("DiffusionGradientOrientation"),
}


def _groups(part: Part, key: _Key) -> dict[Hashable, list[Instance]]:
    groups: dict[Hashable, list[Instance]] = defaultdict(list)
    for instance in part.instances:
        groups[key(instance)].append(instance)
    return groups


def _label(value: Hashable) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return "/".join(_label(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pieces(part: Part, name: str, groups: dict[Hashable, list[Instance]]) -> list[Part]:
    if len(groups) < 2:
        return [part]
    ordered = sorted(groups.items(), key=lambda item: _sort_key(item[0]))
    return [Part(tuple(g), {**part.labels, name: _label(value)}) for value, g in ordered]


def _sort_key(value: Hashable) -> tuple[bool, float, str]:
    number = float(value) if isinstance(value, (int, float)) else 0.0
    return value is not None, number, str(value)


def _by_value(part: Part, name: str, key: _Key) -> list[Part]:
    return _pieces(part, name, _groups(part, key))


def _by_varying(part: Part, name: str, key: _Key) -> list[Part]:
    """Split where a value varies and every value has slices enough to be a stack."""
    groups = _groups(part, key)
    if min(len(group) for group in groups.values()) < 2:
        return [part]
    return _pieces(part, name, groups)


def _by_orientation(part: Part) -> list[Part]:
    clusters: list[tuple[np.ndarray, list[Instance]]] = []
    for instance in part.instances:
        cosines = np.array(instance.orientation)
        for centre, members in clusters:
            if np.abs(centre - cosines).max() <= COSINE_TOLERANCE:
                members.append(instance)
                break
        else:
            clusters.append((cosines, [instance]))
    if len(clusters) < 2:
        return [part]
    names = [_AXIS_NAMES[int(np.abs(np.cross(c[:3], c[3:])).argmax())] for c, _ in clusters]
    labels = [_numbered(names, i) for i in range(len(names))]
    return [
        Part(tuple(members), {**part.labels, "orientation": label})
        for label, (_, members) in zip(labels, clusters, strict=True)
    ]


def _numbered(names: Sequence[str], index: int) -> str:
    """A name, with its rank where it occurs before."""
    rank = list(names[: index + 1]).count(names[index])
    return names[index] if rank == 1 else f"{names[index]}{rank}"


def _places(instances: Sequence[Instance]) -> list[int]:
    """For each slice the rank of its position along the normal; equal for slices at one place."""
    along = projections(instances)
    places = [0] * len(instances)
    rank, last = -1, float("-inf")
    for index in np.argsort(along, kind="stable"):
        if along[index] - last > POSITION_FLOOR_MM:
            rank, last = rank + 1, float(along[index])
        places[int(index)] = rank
    return places


def _by_ties(part: Part, names: tuple[str, ...]) -> list[Part]:
    """Split by the first value that tells slices at one place apart; then each piece again."""
    places = _places(part.instances)
    if len(set(places)) == len(places):
        return [part]
    for position, name in enumerate(names):
        groups = _groups(part, _TIE_KEYS[name])
        if _are_stacks(part, groups, places):
            rest = names[position + 1 :]
            return [p for piece in _pieces(part, name, groups) for p in _by_ties(piece, rest)]
    return _by_time(part, places)


def _are_stacks(part: Part, groups: dict[Hashable, list[Instance]], places: Sequence[int]) -> bool:
    """Whether at least two groups cover half of the positions: else a value marks a stray slice."""
    if len(groups) < 2:
        return False
    place_of = dict(zip(map(id, part.instances), places, strict=True))
    total = len(set(places))
    covers = [len({place_of[id(i)] for i in group}) for group in groups.values()]
    return sum(2 * covered >= total and covered > 1 for covered in covers) >= 2


def _by_time(part: Part, places: Sequence[int]) -> list[Part]:
    """Where every place was taken equally often at different times: one part per repetition."""
    counts = set(Counter(places).values())
    if len(counts) != 1 or len(set(places)) < 2:
        return [part]
    at_place: dict[int, list[tuple[str, Instance]]] = defaultdict(list)
    for instance, place in zip(part.instances, places, strict=True):
        moment = acquired(instance)
        if moment is None:
            return [part]
        at_place[place].append((moment.isoformat(), instance))
    repetitions: dict[Hashable, list[Instance]] = defaultdict(list)
    for taken in at_place.values():
        if len({moment for moment, _ in taken}) != len(taken):
            return [part]
        for rank, (_, instance) in enumerate(sorted(taken, key=lambda pair: pair[0]), start=1):
            repetitions[rank].append(instance)
    return [replace(piece) for piece in _pieces(part, "time", repetitions)]
