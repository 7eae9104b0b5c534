"""DICOM series with one thing wrong: a sphere of 9 mm radius at a known place in patient space.

Slices are plain pydicom data sets, so a test spoils what it needs before it saves them. Pixels are
averaged over each voxel's cell: centroid and volume are right to far less than the tolerances.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from differseg_med.geometry import Volume

RADIUS_MM = 9.0
VOLUME_MM3 = 4 / 3 * np.pi * RADIUS_MM**3
CENTROID_TOLERANCE_MM = 0.2
VOLUME_TOLERANCE = 0.01

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
PET = "1.2.840.10008.5.1.4.1.1.128"
CODES = {CT: "CT", MR: "MR", PET: "PT"}

_DRAWN: dict[str, np.ndarray] = {}

SCALE = 1000
OFFSET = 24
BACKGROUND = {CT: -1000.0, MR: 24.0, PET: 24.0}


def uid(*parts: object) -> str:
    """A UID that is the same in every run."""
    return str(generate_uid(entropy_srcs=["traps", *map(str, parts)]))


@dataclass
class Stack:
    """Where slices go.

    Attributes:
        row, column: direction of growing column index, and of growing row index, in LPS.
        shape: columns, rows, slices.
        spacing: mm between columns, between rows, between slices.
        steps: mm between neighbouring slices where they differ.
        shear: mm that every slice moves along `row`, per slice.
        centre: centre of the sphere in LPS mm.
    """

    row: Sequence[float] = (1.0, 0.0, 0.0)
    column: Sequence[float] = (0.0, 1.0, 0.0)
    shape: tuple[int, int, int] = (34, 36, 12)
    spacing: tuple[float, float, float] = (1.5, 1.25, 3.0)
    steps: Sequence[float] | None = None
    shear: float = 0.0
    centre: tuple[float, float, float] = (12.0, -31.0, 57.0)
    off_centre: tuple[float, float, float] = (3.0, -4.0, 2.0)
    sop_class: str = CT
    name: str = "A"
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def axes(self) -> np.ndarray:
        """Columns: row, column and normal as unit vectors."""
        row, column = np.array(self.row, float), np.array(self.column, float)
        return np.stack([row, column, np.cross(row, column)], axis=1)

    @property
    def heights(self) -> np.ndarray:
        """Position of every slice along the normal, from the first."""
        steps = self.steps or [self.spacing[2]] * (self.shape[2] - 1)
        return np.concatenate([[0.0], np.cumsum(steps)])

    def positions(self) -> np.ndarray:
        """Centre of the first voxel of every slice."""
        heights = self.heights
        extent = np.array([(n - 1) * d for n, d in zip(self.shape, self.spacing, strict=True)])
        extent[2] = heights[-1]
        first = np.array(self.centre) - self.axes @ (extent / 2 + np.array(self.off_centre))
        aside = self.shear * (np.arange(self.shape[2]) - (self.shape[2] - 1) / 2)
        return first + np.outer(heights, self.axes[:, 2]) + np.outer(aside, self.axes[:, 0])

    def occupancy(self) -> np.ndarray:
        """Share of the sphere in every voxel, (slices, rows, columns)."""
        columns, rows, _ = self.shape
        fine = (np.arange(4) + 0.5) / 4 - 0.5
        key = repr((self.positions().round(6), self.axes.round(6), self.shape, self.spacing))
        if key in _DRAWN:
            return _DRAWN[key]
        x = (np.arange(columns)[:, None] + fine).ravel() * self.spacing[0]
        y = (np.arange(rows)[:, None] + fine).ravel() * self.spacing[1]
        out = np.zeros((self.shape[2], rows, columns))
        for k, (position, (low, high)) in enumerate(
            zip(self.positions(), self._cells(), strict=True)
        ):
            local = self.axes.T @ (np.array(self.centre) - position)
            flat = (x[None, :] - local[0]) ** 2 + (y[:, None] - local[1]) ** 2
            for depth in low + (np.arange(9) + 0.5) / 9 * (high - low):
                if abs(depth - local[2]) > RADIUS_MM:
                    continue
                inside = flat + (depth - local[2]) ** 2 <= RADIUS_MM**2
                out[k] += inside.reshape(rows, 4, columns, 4).mean(axis=(1, 3)) / 9
        _DRAWN[key] = out
        return out

    def _cells(self) -> list[tuple[float, float]]:
        """From half-way to the slice below to half-way to the slice above, from the slice."""
        steps = np.diff(self.heights)
        below = np.concatenate([[steps[0]], steps]) / 2
        above = np.concatenate([steps, [steps[-1]]]) / 2
        return [(-low, high) for low, high in zip(below, above, strict=True)]

    def slices(self) -> list[FileDataset]:
        """One data set per slice, in order of position."""
        pixels = np.round(self.occupancy() * SCALE + OFFSET).astype(np.uint16)
        return [
            self._slice(k, position, plane)
            for k, (position, plane) in enumerate(zip(self.positions(), pixels, strict=True))
        ]

    def _slice(self, k: int, position: np.ndarray, plane: np.ndarray) -> FileDataset:
        data = _frame_of(self, k)
        data.ImagePositionPatient = [float(f"{x:.9g}") for x in position]
        data.ImageOrientationPatient = [float(f"{x:.9g}") for x in (*self.row, *self.column)]
        data.PixelSpacing = [self.spacing[1], self.spacing[0]]
        data.SliceThickness = self.spacing[2]
        data.Rows, data.Columns = plane.shape
        data.PixelData = plane.tobytes()
        if self.sop_class == CT:
            data.RescaleSlope, data.RescaleIntercept = 1, -1024
        if self.sop_class == PET:
            _add_pet(data)
        for keyword, value in self.changes.items():
            setattr(data, keyword, value)
        return data


def _frame_of(stack: Stack, k: int) -> FileDataset:
    """Everything of a slice but its geometry and pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = stack.sop_class
    meta.MediaStorageSOPInstanceUID = uid(stack.name, k)
    data = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = stack.sop_class, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.PatientName = "TRAP-1", "Trap^One"
    data.PatientBirthDate, data.PatientSex = "19600101", "F"
    data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid(stack.name)
    data.FrameOfReferenceUID = uid("frame")
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = "20240315"
    data.StudyTime = data.SeriesTime = "101500"
    data.AcquisitionTime = f"1016{k % 60:02d}"
    data.Modality, data.Manufacturer = CODES[stack.sop_class], "Trap"
    data.SeriesNumber = 1 + sum(map(ord, stack.name)) % 900
    data.SeriesDescription = f"sphere {stack.name}"
    data.InstanceNumber = k + 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    return data


def _add_pet(data: Dataset) -> None:
    """A plain F-18 scan: 370 MBq, 74 kg, one hour of uptake, 1 Bq/ml per stored value."""
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.Units, data.DecayCorrection = "BQML", "START"
    data.CorrectedImage = ["ATTN", "DECY", "SCAT"]
    data.PatientWeight, data.PatientSize = 74, 1.75
    data.ActualFrameDuration = 120000
    item = Dataset()
    item.RadiopharmaceuticalStartTime = "091500"
    item.RadionuclideTotalDose = 3.7e8
    item.RadionuclideHalfLife = 6586.2
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-111A1", "SRT", "^18^Fluorine"
    item.RadionuclideCodeSequence = [code]
    data.RadiopharmaceuticalInformationSequence = [item]


def save(slices: Iterable[Dataset], folder: Path, *, shuffle: bool = True) -> Path:
    """Write data sets as files; by default names do not follow the order of positions."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = list(slices)
    order = np.random.default_rng(3).permutation(len(listed)) if shuffle else range(len(listed))
    start = len(list(folder.iterdir()))
    for name, index in enumerate(order, start=start):
        dcmwrite(folder / f"{name:04d}.dcm", listed[index], enforce_file_format=True)
    return folder


def measure(volume: Volume, background: float = -1000.0, scale: float = SCALE) -> tuple:
    """Centroid in LPS mm and volume in mm3 of the sphere in a volume."""
    weight = (volume.array.astype(np.float64) - background) / scale
    index = np.stack(np.nonzero(np.abs(weight) > 1e-6), axis=-1)
    weights = weight[tuple(index.T)]
    centre = weights @ volume.grid.to_world(index) / weights.sum()
    return centre * [-1, -1, 1], weights.sum() * volume.grid.voxel_volume


def assert_sphere(
    volume: Volume,
    stack: Stack,
    *,
    background: float | None = None,
    scale: float = SCALE,
    centroid_mm: float = CENTROID_TOLERANCE_MM,
    share: float = VOLUME_TOLERANCE,
) -> None:
    """The sphere is where it was put, as large as it was made."""
    if background is None:
        background = BACKGROUND[stack.sop_class]
    centre, mm3 = measure(volume, background, scale)
    assert np.linalg.norm(centre - stack.centre) < centroid_mm
    assert abs(mm3 / VOLUME_MM3 - 1) < share


def orientations() -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """The 24 pairs of row and column direction along the patient's axes."""
    axes = [
        tuple(s * (1.0 if i == a else 0.0) for i in range(3)) for a in range(3) for s in (1, -1)
    ]
    return [(r, c) for r, c in itertools.product(axes, axes) if not np.dot(r, c)]


def obliques() -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Three pairs of directions along no axis."""
    rng = np.random.default_rng(11)
    found = []
    for _ in range(3):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        found.append((tuple(q[:, 0]), tuple(q[:, 1])))
    return found
