"""From headers to stacks: drop doubles, split what is mixed, and say what is wrong with each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from differseg_med.errors import Finding, StudyError
from differseg_med.io._geometry import Stack, build_stack, plane_problem, projections, same_place
from differseg_med.io._header import Header
from differseg_med.io._integrity import instance_problem, pixel_digest
from differseg_med.io._source import SourceReader, short_name
from differseg_med.io._split import Part, split
from differseg_med.io._study import Instance, Series
from differseg_med.io._tags import IMAGE_CLASSES

__all__ = ["group_series"]

_Check = Callable[[Sequence[Instance]], Finding | None]


def group_series(headers: Iterable[Header], reader: SourceReader) -> list[Series]:
    """Stacks of all series, in order of series number and part.

    Args:
        headers: image headers in any order.
        reader: reads pixels where two slices at one place must be compared.
    """
    members: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    studies: dict[tuple[str, str], str] = {}
    for header in headers:
        uid, study, modality = header.series
        members[uid, modality].extend(header.instances)
        studies.setdefault((uid, modality), study)
    found: list[Series] = []
    for key, instances in members.items():
        found += _series(studies[key], instances, reader)
    return sorted(found, key=_order)


def _order(series: Series) -> tuple[float, str, tuple[str, ...]]:
    number = float("inf") if series.number is None else float(series.number)
    return number, series.uid, tuple(series.part.values())


def _series(study: str, instances: list[Instance], reader: SourceReader) -> list[Series]:
    unique, findings = _drop_same_uid(instances)
    problem = _first_problem(unique)
    if problem:
        return [_make(study, Stack(tuple(unique), problems=(problem,)), {}, findings)]
    parts = split(unique)
    if len(parts) > 1:
        keys = ", ".join(dict.fromkeys(key for part in parts for key in part.labels))
        note = Finding("W_SPLIT", f"the series holds {len(parts)} stacks, told apart by {keys}")
        findings = (*findings, note)
    lone = [part for part in parts if len(part.instances) == 1]
    if len(lone) > 2 and len(lone) == len(parts):
        mixed = Finding("E_ORIENTATION", f"{len(lone)} slices in as many orientations or sizes")
        return [_make(study, Stack(tuple(unique), problems=(mixed,)), {}, findings)]
    return [_finish(study, part, findings, reader) for part in parts]


def _drop_same_uid(instances: Sequence[Instance]) -> tuple[list[Instance], tuple[Finding, ...]]:
    unique = {(i.uid, i.frame): i for i in reversed(instances)}
    kept = list(reversed(unique.values()))
    dropped = len(instances) - len(kept)
    if not dropped:
        return kept, ()
    return kept, (Finding("W_DUP", f"{dropped} files repeat a SOP Instance UID and were dropped"),)


def _first_problem(instances: Sequence[Instance]) -> Finding | None:
    """What forbids any stack to be made of the series."""
    for check in _CHECKS:
        problem = check(instances)
        if problem:
            return problem
    return None


def _damaged(instances: Sequence[Instance]) -> Finding | None:
    return next(filter(None, map(instance_problem, instances)), None)


def _placeless(instances: Sequence[Instance]) -> Finding | None:
    missing = [i for i in instances if i.position is None or i.orientation is None]
    if not missing:
        return None
    first = short_name(missing[0].source)
    return Finding("E_NO_POSITION", f"{len(missing)} of {len(instances)} slices, first: {first}")


def _framed(instances: Sequence[Instance]) -> Finding | None:
    frames = {i.tags.get("FrameOfReferenceUID") for i in instances}
    if len(frames) < 2:
        return None
    return Finding("E_FOR_MIX", f"{len(frames)} frames of reference in one series")


_CHECKS: tuple[_Check, ...] = (_damaged, _placeless, plane_problem, _framed)


def _finish(study: str, part: Part, findings: tuple[Finding, ...], reader: SourceReader) -> Series:
    kept, doubled = _drop_same_pixels(part.instances, reader)
    if doubled and doubled.code == "E_DUP":
        stack = Stack(tuple(kept), problems=(doubled,))
    else:
        findings = (*findings, doubled) if doubled else findings
        try:
            stack = build_stack(kept, kept[0].tags.get("FrameOfReferenceUID"))
        except StudyError as error:
            stack = Stack(tuple(kept), problems=(Finding(error.code, error.detail),))
    return _make(study, stack, part.labels, findings)


def _drop_same_pixels(
    instances: Sequence[Instance], reader: SourceReader
) -> tuple[list[Instance], Finding | None]:
    """Keep one of several slices at one place where their pixels are the same."""
    along = projections(instances)
    order = sorted(range(len(instances)), key=lambda i: along[i])
    kept: list[Instance] = []
    last = float("-inf")
    dropped = 0
    for index in order:
        instance = instances[index]
        if not same_place(along[index], last):
            kept.append(instance)
            last = float(along[index])
        elif pixel_digest(reader, instance) == pixel_digest(reader, kept[-1]):
            dropped += 1
        else:
            names = f"{short_name(kept[-1].source)} and {short_name(instance.source)}"
            return list(instances), Finding("E_DUP", f"{names} lie at one place and differ")
    if not dropped:
        return kept, None
    return kept, Finding("W_DUP", f"{dropped} slices with the same place and pixels were dropped")


def _make(study: str, stack: Stack, part: dict[str, str], findings: tuple[Finding, ...]) -> Series:
    first = stack.instances[0].tags
    number = first.get("SeriesNumber")
    return Series(
        uid=str(first["SeriesInstanceUID"]),
        number=None if number is None else int(number),
        description=str(first.get("SeriesDescription") or ""),
        dicom=str(first["Modality"]),
        sop_class=str(first["SOPClassUID"]),
        frame=first.get("FrameOfReferenceUID"),
        study_uid=study,
        instances=stack.instances,
        grid=stack.grid,
        part=part,
        problems=stack.problems,
        findings=(*findings, *stack.findings, *_remarks(stack)),
        uneven=stack.uneven,
    )


def _remarks(stack: Stack) -> tuple[Finding, ...]:
    """Warnings that the headers alone give."""
    found = []
    tags = [instance.tags for instance in stack.instances]
    if any(t.get("LossyImageCompression") == "01" for t in tags):
        found.append(Finding("W_LOSSY", "LossyImageCompression is 01"))
    if IMAGE_CLASSES[str(tags[0]["SOPClassUID"])].endswith("CT Image"):
        if any("RescaleSlope" not in t or "RescaleIntercept" not in t for t in tags):
            found.append(Finding("W_NO_HU", "RescaleSlope or RescaleIntercept is absent or empty"))
        elif any(t.get("RescaleType", "HU") not in ("HU", "HU_MOD") for t in tags):
            found.append(Finding("W_NO_HU", "RescaleType is not HU"))
    return tuple(found)
