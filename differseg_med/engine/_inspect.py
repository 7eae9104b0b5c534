"""What a study holds and whether it would do, from headers alone; never imports torch or MONAI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from differseg_med import io
from differseg_med._codes import CODES
from differseg_med.engine._inputs import ReadOptions, Wanted, check_between, nifti_files, select
from differseg_med.errors import DifferSegError, Finding, StudyError
from differseg_med.modality import MODALITIES

__all__ = ["Inspection", "StackReport", "inspect_study"]


@dataclass(frozen=True)
class StackReport:
    """One stack of slices, or one NIfTI file.

    Attributes:
        label: series number with its part, or name of the file.
        kind: DICOM modality, or ``NIfTI``.
        description: series description, as it stands in the header.
        slices: number of slices.
        shape: voxels per axis, None where there is no grid.
        spacing: mm per axis, None where there is no grid.
        serves: the bundle's modality that it would serve; without a bundle every declared modality
            that it could.
        problems: what would refuse it (``E_`` codes).
        findings: what is worth knowing (``W_`` codes).
    """

    label: str
    kind: str
    description: str
    slices: int
    shape: tuple[int, ...] | None
    spacing: tuple[float, float, float] | None
    serves: tuple[str, ...]
    problems: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What a study holds.

    Attributes:
        study: the path that was given.
        kind: what the study is made of.
        stacks: what was found in it.
        absent: optional modalities of the bundle that are not there.
        skipped: number of files that are no images, by reason.
        problems: why the study is refused; empty where it is not.
        findings: what concerns the study as a whole.
    """

    study: str
    kind: Literal["dicom", "nifti"]
    stacks: tuple[StackReport, ...] = ()
    absent: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the study is refused."""
        return bool(self.problems)


def inspect_study(
    study: str | Path, wanted: Wanted | None = None, options: ReadOptions | None = None
) -> Inspection:
    """Read a study's headers and say what they are good for.

    With `wanted` a study is refused where a bundle would refuse it; without, where any of its
    stacks has a problem.

    Args:
        study: a folder or archive of DICOM files, or a folder of NIfTI files named by modality.
        wanted: what a bundle looks for.
        options: how the study is read.

    Raises:
        UsageError: the path or a choice is wrong.
    """
    options = options or ReadOptions()
    names = wanted.modalities if wanted else tuple(MODALITIES)
    try:
        files = nifti_files(study, names, options)
    except StudyError as error:
        return Inspection(str(study), "nifti", problems=(_finding(error),))
    if files:
        return _inspect_nifti(study, files, wanted, options)
    try:
        found = io.read_study(study)
    except StudyError as error:
        refused = Inspection(str(study), "dicom", problems=(_finding(error),))
        return _listed(refused, options) if error.code == "E_PATIENT_MIX" else refused
    return _inspect_dicom(study, found, wanted, options)


def _listed(refused: Inspection, options: ReadOptions) -> Inspection:
    """A study of several patients stays refused, but its series are named all the same."""
    try:
        found = io.read_study(refused.study, one_patient=False)
    except StudyError:  # the first reason for the refusal says enough
        return refused
    listing = _inspect_dicom(refused.study, found, None, options)
    return replace(listing, problems=refused.problems)


def _inspect_dicom(
    path: str | Path, study: io.Study, wanted: Wanted | None, options: ReadOptions
) -> Inspection:
    chosen: Mapping[str, io.Series | None] = {}
    problems: list[Finding] = []
    findings = list(study.findings)
    if wanted is not None:
        try:
            chosen = select(study, wanted, options)
            findings += check_between(chosen, wanted, options)
        except StudyError as error:
            problems.append(_finding(error))
    stacks = tuple(_stack(series, chosen, wanted, options) for series in study.series)
    for stack in stacks:
        if wanted is None or stack.serves:
            problems += [problem for problem in stack.problems if not _passes(problem, options)]
    return Inspection(
        str(path),
        "dicom",
        stacks,
        tuple(name for name, series in chosen.items() if series is None),
        dict(Counter(item.reason for item in study.skipped)),
        tuple(problems),
        tuple(findings),
    )


def _stack(
    series: io.Series,
    chosen: Mapping[str, io.Series | None],
    wanted: Wanted | None,
    options: ReadOptions,
) -> StackReport:
    if wanted is None:
        serves = tuple(name for name, m in MODALITIES.items() if m.dicom == series.dicom)
    else:
        serves = tuple(name for name, one in chosen.items() if one is series)
    part = ",".join(f"{key}={value}" for key, value in series.part.items())
    number = "?" if series.number is None else str(series.number)
    problems, findings = list(series.problems), list(series.findings)
    if series.dicom == "PT" and series.instances and not problems:
        try:
            findings += io.suv_scale(series, options.pet).findings
        except StudyError as error:
            problems.append(_finding(error))
    return StackReport(
        label=f"{number}@{part}" if part else number,
        kind=series.dicom,
        description="".join(c if c.isprintable() else "?" for c in series.description),
        slices=len(series.instances),
        shape=series.grid.shape if series.grid else None,
        spacing=series.grid.spacing if series.grid else None,
        serves=serves,
        problems=tuple(problems),
        findings=tuple(findings),
    )


def _inspect_nifti(
    study: str | Path, files: Mapping[str, Path], wanted: Wanted | None, options: ReadOptions
) -> Inspection:
    stacks = tuple(_file(name, path, options) for name, path in files.items())
    problems = [problem for stack in stacks for problem in stack.problems]
    absent: tuple[str, ...] = ()
    if wanted is not None:
        absent = tuple(name for name in wanted.modalities if name not in files)
        lacking = [name for name in wanted.required if name in absent]
        if lacking:
            problems.append(Finding("E_MISSING_MODALITY", f"the study lacks {', '.join(lacking)}"))
    return Inspection(str(study), "nifti", stacks, absent, problems=tuple(problems), findings=())


def _file(name: str, path: Path, options: ReadOptions) -> StackReport:
    shape, spacing = None, None
    problems: tuple[Finding, ...] = ()
    try:
        grid = io.read_nifti_header(path, xform=options.xform).grid
        shape, spacing = grid.shape, grid.spacing
    except StudyError as error:
        problems = (_finding(error),)
    slices = shape[2] if shape else 0
    return StackReport(path.name, "NIfTI", "", slices, shape, spacing, (name,), problems)


def _passes(problem: Finding, options: ReadOptions) -> bool:
    return options.lenient and CODES[problem.code].lenient


def _finding(error: DifferSegError) -> Finding:
    return Finding(error.code, error.detail)
