"""One study in, one folder of results out: the single-case road."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from differseg_med import __version__, io
from differseg_med.data import Stack, stack_on_reference
from differseg_med.engine._inputs import Inputs, ReadOptions, Wanted, read_inputs
from differseg_med.engine._predict import Predictor, measure, predict, to_mask
from differseg_med.engine._status import (
    Timings,
    describe_findings,
    describe_grid,
    sha256,
    write_status,
)
from differseg_med.engine._workspace import case_id, workspace
from differseg_med.errors import DifferSegError, OutputError, UsageError
from differseg_med.geometry import Volume

__all__ = ["FORMATS", "CaseOptions", "CaseResult", "segment_case"]

FORMATS = ("nifti", "seg", "probability", "png")
"""What a case can be written as."""

_READBACK_MM = 0.01


@dataclass(frozen=True)
class CaseOptions:
    """How a case is read and written.

    Attributes:
        formats: names of `FORMATS`; None for NIfTI, and DICOM SEG where the study is DICOM.
        read: how the study is read.
        case: name of the case; from the study's path if None.
        overwrite: replace results that exist.

    Raises:
        UsageError: ``E_OPTION`` for a format that does not exist.
    """

    formats: tuple[str, ...] | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    case: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats or () if name not in FORMATS]
        if unknown or self.formats == ():
            raise UsageError(
                "E_OPTION", f"formats are {', '.join(FORMATS)}; got {', '.join(unknown) or 'none'}"
            )


@dataclass(frozen=True)
class CaseResult:
    """What became of a case.

    Attributes:
        case: its name.
        folder: where the results are.
        status: content of ``status.json``.
    """

    case: str
    folder: Path
    status: Mapping[str, Any]


def segment_case(
    study: str | Path,
    predictor: Predictor,
    out: str | Path,
    options: CaseOptions | None = None,
    *,
    bundle: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda stage: None,
) -> CaseResult:
    """Segment one study and write the results as ``OUT/CASE/``.

    The folder appears when everything in it is complete; a case that fails leaves a folder with
    nothing but ``status.json``, or the results of an earlier run untouched.

    Args:
        study: a folder or archive of DICOM files, or a folder of NIfTI files named by modality.
        predictor: what computes the probability.
        out: folder for all cases.
        options: how the case is read and written.
        bundle: identity of bundle and weights, recorded as it is; ``target`` says what the mask
            shows.
        report: is told the name of each stage when it begins.

    Returns:
        The case's folder and status.

    Raises:
        DifferSegError: the case failed; the code says why.
    """
    options = options or CaseOptions()
    run = _Run(study, predictor, options, dict(bundle or {}), report)
    target = Path(out) / run.case
    try:
        with workspace(target, overwrite=options.overwrite) as folder:
            status = run(folder)
    except UsageError:
        raise  # the call is wrong: there is no case to record
    except Exception as error:
        _record_failure(run, target, error)
        raise
    return CaseResult(run.case, target, status)


class _Run:
    """The stages of one case, and what they learn on the way."""

    def __init__(
        self,
        study: str | Path,
        predictor: Predictor,
        options: CaseOptions,
        bundle: dict[str, Any],
        report: Callable[[str], None],
    ) -> None:
        self.study, self.predictor, self.options, self.report = study, predictor, options, report
        self.bundle = bundle
        self.case = case_id(study, options.case)
        self.timings = Timings()

    def __call__(self, folder: Path) -> dict[str, Any]:
        """Run all stages and write everything into a folder."""
        inputs = self._stage("read", self._read)
        formats = _formats(self.options.formats, inputs, self.predictor.reference)
        stack = self._stage("resample", lambda: self._stack(inputs))
        probability = self._stage("predict", lambda: predict(stack, self.predictor))
        mask = self._stage("mask", lambda: to_mask(probability, stack.reference))
        write = _Writer(folder, self.case, inputs, self.predictor.reference, self.bundle)
        self._stage("write", lambda: write.all(formats, mask, probability))
        hashes = self._stage("hash", lambda: _hashes(inputs))
        return write_status(
            folder,
            {
                "state": "done",
                "code": None,
                **self.identity(),
                "input": _describe_inputs(inputs, hashes),
                "geometry": {
                    "reference": describe_grid(stack.reference),
                    "work": describe_grid(stack.grid),
                },
                "outputs": {
                    path.name: {"sha256": sha256([path]), "bytes": path.stat().st_size}
                    for path in sorted(folder.iterdir())
                },
                "result": measure(mask),
                "findings": describe_findings([*inputs.findings, *stack.findings]),
                "timings_s": self.timings.seconds,
            },
        )

    def identity(self) -> dict[str, Any]:
        """What is known of a case before anything was read."""
        versions = {name: importlib.metadata.version(name) for name in ("torch", "monai")}
        return {
            "case": self.case,
            "bundle": self.bundle,
            "software": {"differseg_med": __version__, **versions},
        }

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        self.report(name)
        with self.timings.stage(name):
            return work()

    def _read(self) -> Inputs:
        wanted = Wanted(
            self.predictor.modalities,
            self.predictor.required,
            self.predictor.reference,
            self.predictor.min_overlap,
        )
        return read_inputs(self.study, wanted, self.options.read)

    def _stack(self, inputs: Inputs) -> Stack:
        return stack_on_reference(
            inputs.volumes,
            self.predictor.modalities,
            self.predictor.reference,
            spacing=self.predictor.spacing,
            min_overlap=self.predictor.min_overlap,
        )


class _Writer:
    """Writes results into a folder, each under one fixed name."""

    def __init__(
        self, folder: Path, case: str, inputs: Inputs, reference: str, bundle: Mapping[str, Any]
    ) -> None:
        self.folder, self.case, self.inputs = folder, case, inputs
        self.reference, self.bundle = reference, bundle

    def all(self, formats: Sequence[str], mask: Volume, probability: Volume) -> None:
        """Write every format that is wanted."""
        for name in formats:
            if name == "nifti":
                self._nifti(mask, "mask.nii.gz")
            elif name == "probability":
                values = io.resample(
                    probability, mask.grid, order="linear", fill=0.0, antialias=False
                )
                self._nifti(Volume(values, mask.grid), "probability.nii.gz")
            elif name == "seg":
                self._seg(mask)
            else:
                self._png(mask)

    def _nifti(self, volume: Volume, name: str) -> None:
        path = io.write_nifti(volume, self.folder / name)
        back = io.read_nifti(path)
        if not back.grid.is_same(volume.grid, _READBACK_MM) or not np.array_equal(
            back.array, volume.array
        ):
            raise OutputError("E_READBACK", f"{name} differs from what was computed")

    def _seg(self, mask: Volume) -> None:
        segment = _segment_info(self.bundle)
        io.write_seg(mask, self.inputs.series[self.reference], self.folder / "mask.dcm", segment)

    def _png(self, mask: Volume) -> None:
        from differseg_med.engine._montage import draw_montage

        draw_montage(self.inputs.volumes, mask, self.folder / "montage.png", case=self.case)


def _formats(wanted: Sequence[str] | None, inputs: Inputs, reference: str) -> tuple[str, ...]:
    """The formats to write; refuses DICOM SEG before anything is computed where it cannot be."""
    dicom = inputs.kind == "dicom"
    formats = tuple(wanted) if wanted else (("nifti", "seg") if dicom else ("nifti",))
    if "seg" in formats and not dicom:
        raise UsageError(
            "E_OPTION", "a DICOM SEG needs a DICOM study; this one is NIfTI", "Use --formats nifti."
        )
    if "seg" in formats and inputs.series[reference].frame is None:
        raise OutputError("E_NO_FRAME", f"the series of {reference} has no frame of reference")
    return formats


def _segment_info(bundle: Mapping[str, Any]) -> io.SegmentInfo:
    """What a mask shows, from the bundle's ``target``; codes are (value, scheme, meaning)."""
    name, version = bundle.get("name", "differseg_med"), bundle.get("version", __version__)
    target = bundle.get("target")
    if target is None:
        return io.SegmentInfo("Segmentation", name, version)
    category, kind = (
        io.SegmentCode(value, meaning, scheme)
        for value, scheme, meaning in (target["category"], target["type"])
    )
    return io.SegmentInfo(target["label"], name, version, category, kind)


def _hashes(inputs: Inputs) -> dict[str, str]:
    return {name: sha256(paths) for name, paths in inputs.files.items()}


def _describe_inputs(inputs: Inputs, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What each modality was read from; no path, no UID, no description."""
    described: dict[str, Any] = {}
    for name, volume in inputs.volumes.items():
        if volume is None:
            described[name] = None
            continue
        series = inputs.series.get(name)
        described[name] = {
            "files": len(inputs.files[name]),
            "sha256": hashes[name],
            "grid": describe_grid(volume.grid),
            "provenance": dict(volume.provenance),
            **({"series_number": series.number} if series else {}),
        }
    return {"kind": inputs.kind, "modalities": described}


def _record_failure(run: _Run, target: Path, error: Exception) -> None:
    """Leave a record where no results stand; what stands there stays."""
    known = isinstance(error, DifferSegError)
    status = {
        "state": "failed",
        "code": error.code if isinstance(error, DifferSegError) else "E_INTERNAL",
        "message": str(error) if known else type(error).__name__,
        **run.identity(),
        "timings_s": run.timings.seconds,
    }
    try:
        with workspace(target, overwrite=False) as folder:
            write_status(folder, status)
    except OutputError:
        return  # results of an earlier run, or no place to write to: the error itself is raised
