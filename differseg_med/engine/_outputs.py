"""What a case can be written as: one row per format, one function each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from differseg_med import __version__, io
from differseg_med.data import Stack
from differseg_med.engine._inputs import Inputs
from differseg_med.engine._measurements import CaseMeasurements, measure_case
from differseg_med.errors import OutputError, UsageError
from differseg_med.geometry import Volume

__all__ = ["FORMATS", "Format", "Results", "choose_formats", "write_outputs"]

_READBACK_MM = 0.01


@dataclass(frozen=True)
class Results:
    """Everything that is known of a case once its mask stands; what formats are written from.

    Attributes:
        case: name of the case.
        inputs: what was read.
        reference: the modality whose grid the mask lies on.
        bundle: identity of bundle and weights; ``target`` says what the mask shows.
        stack: the image that the network saw.
        probability: probability of the foreground on the grid of `stack`.
        mask: 0 and 1 on the reference grid.
        record: what ``status.json`` will say, except for the outputs.
        contributions: by modality its weight at each voxel, on the grid of `stack`; None where they
            were not asked for or the predictor cannot tell.
    """

    case: str
    inputs: Inputs
    reference: str
    bundle: Mapping[str, Any]
    stack: Stack
    probability: Volume
    mask: Volume
    record: Mapping[str, Any]
    contributions: Mapping[str, Volume] | None = None

    @cached_property
    def measurements(self) -> CaseMeasurements:
        """Measurements of the target and its lesions; made at first use."""
        return measure_case(self)


@dataclass(frozen=True)
class Format:
    """One thing that a case can be written as.

    Attributes:
        file: its name in the folder of the case; ``{modality}`` in it stands for one file each.
        writer: ``module:function`` that takes the results and the path; imported at use.
        dicom: whether it needs a DICOM study.
        refers_to: formats that must be written too, because this one refers to their files.
        contributions: whether the contributions of the modalities are ``needed``, ``used`` where
            the predictor can tell them, or ``unused``.
    """

    file: str
    writer: str
    dicom: bool = False
    refers_to: tuple[str, ...] = ()
    contributions: Literal["needed", "used", "unused"] = "unused"

    def write(self, results: Results, folder: Path) -> None:
        """Write the file or files into the folder of the case.

        Args:
            results: what is written.
            folder: where; holds the files of formats that stand before this one in `FORMATS`.

        Raises:
            OutputError: ``E_WRITE`` whichever library failed to write, ``E_READBACK``.
        """
        module, name = self.writer.split(":")
        try:
            getattr(importlib.import_module(module), name)(results, folder / self.file)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise OutputError("E_WRITE", f"{self.file}: {reason}") from error


_HERE = "differseg_med.engine._outputs"
_OBJECTS = "differseg_med.engine._report_groups"

FORMATS: dict[str, Format] = {
    "nifti": Format("mask.nii.gz", f"{_HERE}:write_mask"),
    "probability": Format("probability.nii.gz", f"{_HERE}:write_probability"),
    "seg": Format("mask.dcm", f"{_HERE}:write_segmentation", dicom=True),
    "sr": Format("measurements.dcm", f"{_OBJECTS}:write_report", dicom=True, refers_to=("seg",)),
    "rtstruct": Format("contours.dcm", f"{_OBJECTS}:write_contours", dicom=True),
    "json": Format("measurements.json", "differseg_med.engine._tables:write_json"),
    "csv": Format("measurements.csv", "differseg_med.engine._tables:write_csv"),
    "png": Format("montage.png", "differseg_med.engine._montage:write_montage"),
    "explain": Format(
        "contribution_{modality}.nii.gz",
        "differseg_med.engine._contributions:write_contributions",
        contributions="needed",
    ),
    "html": Format(
        "report.html", "differseg_med.engine._report:write_report", contributions="used"
    ),
}
"""Formats in the order in which they are written."""


def choose_formats(
    wanted: Sequence[str] | None, inputs: Inputs, reference: str, *, explains: bool = False
) -> tuple[str, ...]:
    """The formats to write, in order; refuses what cannot be written before anything is computed.

    Args:
        wanted: names of `FORMATS`; None for NIfTI, and DICOM SEG where the study is DICOM.
        inputs: what was read.
        reference: the modality whose grid the mask will lie on.
        explains: whether the predictor tells which modality drove which voxel.

    Raises:
        UsageError: ``E_OPTION`` for a DICOM format of a NIfTI study, for contributions that the
            predictor cannot tell, or for a format without the one whose file it refers to.
        OutputError: ``E_NO_FRAME`` when the reference has no frame of reference.
    """
    dicom = inputs.kind == "dicom"
    names = tuple(wanted) if wanted else (("nifti", "seg") if dicom else ("nifti",))
    placed = [name for name in names if FORMATS[name].dicom]
    if placed and not dicom:
        raise UsageError(
            "E_OPTION",
            f"format {placed[0]} needs a DICOM study; this one is NIfTI",
            "Use --formats nifti.",
        )
    for name in names:
        lacking = [other for other in FORMATS[name].refers_to if other not in names]
        if lacking:
            raise UsageError(
                "E_OPTION",
                f"format {name} refers to {lacking[0]}, which is not asked for",
                f"Use --formats {lacking[0]},{name}.",
            )
    needy = [name for name in names if FORMATS[name].contributions == "needed"]
    if needy and not explains:
        raise UsageError(
            "E_OPTION",
            f"format {needy[0]} needs a network that tells which modality drove which voxel",
            "Leave it out, or use a bundle whose network can.",
        )
    if placed and inputs.series[reference].frame is None:
        raise OutputError("E_NO_FRAME", f"the series of {reference} has no frame of reference")
    return tuple(name for name in FORMATS if name in names)


def write_outputs(formats: Sequence[str], results: Results, folder: Path) -> None:
    """Write a case in several formats.

    Args:
        formats: what `choose_formats` gave.
        results: what is written.
        folder: where.

    Raises:
        OutputError: a file could not be written or differs when read back.
    """
    for name in formats:
        FORMATS[name].write(results, folder)


def write_mask(results: Results, path: Path) -> None:
    """The mask as NIfTI.

    Args:
        results: what is written.
        path: the file.
    """
    write_checked(results.mask, path)


def write_probability(results: Results, path: Path) -> None:
    """The probability on the reference grid as NIfTI.

    Args:
        results: what is written.
        path: the file.
    """
    grid = results.mask.grid
    values = io.resample(results.probability, grid, order="linear", fill=0.0, antialias=False)
    write_checked(Volume(values, grid), path)


def write_checked(volume: Volume, path: Path) -> None:
    """A volume as NIfTI, read back and compared.

    Args:
        volume: what is written.
        path: the file.

    Raises:
        OutputError: ``E_WRITE`` or ``E_READBACK``.
    """
    io.write_nifti(volume, path)
    back = io.read_nifti(path)
    if not back.grid.is_same(volume.grid, _READBACK_MM) or not np.array_equal(
        back.array, volume.array
    ):
        raise OutputError("E_READBACK", f"{path.name} differs from what was computed")


def write_segmentation(results: Results, path: Path) -> None:
    """The mask as DICOM SEG on the reference series.

    Args:
        results: what is written.
        path: the file.
    """
    series = results.inputs.series[results.reference]
    io.write_seg(results.mask, series, path, segment_info(results.bundle))


def segment_info(bundle: Mapping[str, Any]) -> io.SegmentInfo:
    """What a mask shows, from the bundle's ``target``; codes are (value, scheme, meaning).

    Args:
        bundle: identity of the bundle.
    """
    name, version = bundle.get("name", "differseg_med"), bundle.get("version", __version__)
    target = bundle.get("target")
    made = (("weights_sha256", sha),) if (sha := bundle.get("weights_sha256")) else ()
    if target is None:
        return io.SegmentInfo("Segmentation", name, version, parameters=made)
    category, kind = (
        io.SegmentCode(value, meaning, scheme)
        for value, scheme, meaning in (target["category"], target["type"])
    )
    return io.SegmentInfo(target["label"], name, version, category, kind, parameters=made)
