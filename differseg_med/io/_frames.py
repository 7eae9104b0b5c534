"""Functional groups of enhanced multi-frame objects, flattened to the classic keywords."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset

from differseg_med.io._tags import INVALID, plain_tags

__all__ = ["frame_tags"]

_MACROS = (
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "TemporalPositionSequence",
    "CardiacSynchronizationSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "MRImageFrameTypeSequence",
    "MRModifierSequence",
    "MRTimingAndRelatedParametersSequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
    "PETFrameTypeSequence",
)

_CLASSIC_NAME = {"EffectiveEchoTime": "EchoTime", "FrameType": "ImageType"}


def frame_tags(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Values of every frame, the frame's own before the shared ones.

    Frames without an entry of their own (a header that lies about their number) get the shared
    values only, so that they lack a position and are refused.
    """
    shared_items = dataset.get("SharedFunctionalGroupsSequence") or []
    shared = _flatten(shared_items[0]) if len(shared_items) else {}
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    count = int(dataset.get("NumberOfFrames") or len(frames) or 1)
    if count > max(1, len(frames)):
        yield {**shared, INVALID: ("NumberOfFrames",)}
        return
    for index in range(count):
        own = _flatten(frames[index]) if index < len(frames) else {}
        yield {**shared, **own}


def _flatten(group: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    invalid: tuple[str, ...] = ()
    for macro in _MACROS:
        items = group.get(macro) or []
        if not len(items):
            continue
        values = plain_tags(items[0])
        invalid += values.pop(INVALID, ())
        found |= {_CLASSIC_NAME.get(name, name): value for name, value in values.items()}
        if macro == "MRDiffusionSequence":
            found |= _diffusion_direction(items[0])
    units = _units(group)
    if units:
        found["RealWorldUnits"] = units
    if invalid:
        found[INVALID] = invalid
    return found


def _diffusion_direction(item: Dataset) -> dict[str, Any]:
    inner = item.get("DiffusionGradientDirectionSequence") or []
    values = plain_tags(inner[0]) if len(inner) else {}
    direction = values.get("DiffusionGradientOrientation")
    return {"DiffusionGradientOrientation": direction} if direction else {}


def _units(group: Dataset) -> str | None:
    """UCUM unit of the first real world value mapping."""
    items = group.get("RealWorldValueMappingSequence") or []
    codes = items[0].get("MeasurementUnitsCodeSequence") or [] if len(items) else []
    return str(codes[0].get("CodeValue", "") or "") or None if len(codes) else None
