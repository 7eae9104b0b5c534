"""What the headers of a study say; plain data, no pixel values, no patient identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from differseg_med.errors import Finding
from differseg_med.geometry import Grid

__all__ = ["Instance", "Series", "Skipped", "Study"]


@dataclass(frozen=True)
class Instance:
    """One image file, or one frame of an enhanced multi-frame file.

    Attributes:
        source: where the bytes are: a file path, or ``ARCHIVE.zip!MEMBER``.
        uid: SOP Instance UID.
        frame: index of the frame in a multi-frame file, 0 otherwise.
        position: ImagePositionPatient in LPS mm, None if absent.
        orientation: ImageOrientationPatient (row then column cosines), None if absent.
        pixel_spacing: (between rows, between columns) in mm, None if absent.
        rows: number of rows.
        columns: number of columns.
        tags: further header values that rules and splitting need, by DICOM keyword.
    """

    source: str
    uid: str
    frame: int
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, float] | None
    rows: int
    columns: int
    tags: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Series:
    """One stack of slices that could become a volume, in order of position.

    Attributes:
        uid: Series Instance UID.
        number: Series Number, None if absent.
        description: Series Description; may hold anything, never used in a path.
        dicom: DICOM Modality, such as ``"CT"``.
        sop_class: SOP Class UID.
        frame: FrameOfReferenceUID, None if absent.
        study_uid: Study Instance UID.
        instances: slices sorted along the normal.
        grid: where the voxels lie; None where `problems` says why it could not be made.
            Array axes are (column index, row index, slice index).
        part: what tells this stack from others of the same series, such as ``{"b": "1000"}``.
        problems: what would refuse the series (``E_`` codes).
        findings: what is worth knowing (``W_`` codes).
        uneven: whether slices are resampled by their true positions to lie on the grid.
    """

    uid: str
    number: int | None
    description: str
    dicom: str
    sop_class: str
    frame: str | None
    study_uid: str
    instances: tuple[Instance, ...]
    grid: Grid | None
    part: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()
    uneven: bool = False


@dataclass(frozen=True)
class Skipped:
    """A file that is not an image series: junk, reports, secondary captures, localizers.

    Attributes:
        source: where it is.
        reason: one short phrase.
    """

    source: str
    reason: str


@dataclass(frozen=True)
class Study:
    """Everything that was found under one path.

    Attributes:
        source: the path that was read.
        series: stacks that could become volumes.
        skipped: everything else, by file.
        findings: what concerns the study as a whole.
        n_files: number of files that were looked at.
    """

    source: str
    series: tuple[Series, ...]
    skipped: tuple[Skipped, ...] = ()
    findings: tuple[Finding, ...] = ()
    n_files: int = 0
