"""A mask becomes a DICOM SEG on its reference series, and is believed only after reading it back.

The object is built by highdicom and read back by our own reader through pydicom, so that one
mistake in either shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from differseg_med import __version__
from differseg_med.errors import OutputError, StudyError
from differseg_med.geometry import Grid, Volume, lps_ras
from differseg_med.io._derived import (
    OF_IMAGES,
    atomic,
    check_texts,
    copy_identity,
    decimals,
    derive_uid,
    first_header,
    identified,
    quiet_writing,
    save,
    settle,
)
from differseg_med.io._read_seg import SegPlanes, place_on, read_planes
from differseg_med.io._study import Instance, Series
from differseg_med.io._tags import ENHANCED

__all__ = ["READBACK_TOLERANCE_MM", "SegmentCode", "SegmentInfo", "write_seg"]

READBACK_TOLERANCE_MM = 0.2
"""A plane that is read back further than this from where it belongs refuses the file."""

_COLOR = (62.0, 66.0, 52.0)
"""Display colour in CIELab: an orange red that stands out on grey."""

_OUT_OF_REACH = (1e9, 1e9, 1e9)
"""Position given to frames of other stacks in a multi-frame source: no plane matches them."""


@dataclass(frozen=True)
class SegmentCode:
    """A coded concept.

    Attributes:
        value: code value.
        meaning: what it stands for.
        scheme: coding scheme designator.
    """

    value: str
    meaning: str
    scheme: str = "SCT"

    def concept(self) -> hd.sr.CodedConcept:
        """The same for highdicom."""
        return hd.sr.CodedConcept(self.value, self.scheme, self.meaning)


@dataclass(frozen=True)
class SegmentInfo:
    """What the one segment shows and what made it.

    Attributes:
        label: name for people.
        algorithm_name: what made it, such as the bundle's name.
        algorithm_version: its version.
        category: segmented property category.
        property_type: segmented property type.
        tracking_id: name of the finding for follow-up, None for the label.
        tracking_uid: UID of the finding for follow-up, None for one that follows from the content.
        parameters: what else tells one run of the algorithm from another, such as the hash of the
            weights; pairs of name and value.
    """

    label: str
    algorithm_name: str
    algorithm_version: str
    category: SegmentCode = SegmentCode("49755003", "Morphologically Abnormal Structure")
    property_type: SegmentCode = SegmentCode("108369006", "Neoplasm")
    tracking_id: str | None = None
    tracking_uid: str | None = None
    parameters: tuple[tuple[str, str], ...] = field(default=())

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that is written as a long string."""
        algorithm = (self.algorithm_name, self.algorithm_version)
        return (self.label, *algorithm, self.tracking_id or self.label)


def write_seg(
    mask: Volume,
    series: Series,
    path: str | Path,
    segment: SegmentInfo,
    *,
    series_number: int = 900,
    description: str = "Segmentation, for research use only",
) -> Path:
    """Write a binary DICOM SEG, read it back and compare; an empty mask is a valid result.

    Slice ``k`` belongs to ``series.instances[k]`` where the series is evenly spaced; where it was
    resampled to even spacing, the planes of the grid are written.

    Args:
        mask: 0 and 1 on the grid of the series, axes (column, row, slice).
        series: the reference; its files must still be there.
        path: the file, replaced where it exists.
        segment: what the mask shows and what made it.
        series_number: Series Number of the new series.
        description: Series Description of the new series.

    Returns:
        The path.

    Raises:
        StudyError: ``E_GEOMETRY``: the mask is not on the grid of the series; ``E_VALUES``: it
            is no mask; ``E_CORRUPT``: the source is gone or changed.
        OutputError: ``E_NO_FRAME``, ``E_WRITE`` or ``E_READBACK``; nothing is left behind.
    """
    path = Path(path)
    grid = reference_grid(mask, series)
    planes = plane_positions(series, grid)
    voxels = frames_of(mask)
    check_texts(*segment.texts, description)
    with quiet_writing():
        dataset = _build(voxels, planes, grid, series, segment, series_number, description)
        with atomic(path) as temporary:
            save(dataset, temporary, "SEG")
            _read_back(temporary, voxels, planes, grid)
    return path


def frames_of(mask: Volume) -> npt.NDArray[np.uint8]:
    """The mask as (slice, row, column) of 0 and 1; a probability is no mask."""
    array = np.asarray(mask.array)
    if array.dtype.kind not in "bui" or array.min() < 0 or array.max() > 1:
        raise StudyError(
            "E_VALUES",
            f"a mask of 0 and 1 is written, got {array.dtype} from {array.min()} to {array.max()}",
        )
    return np.ascontiguousarray(array.astype(np.uint8, copy=False).T)


def reference_grid(mask: Volume, series: Series) -> Grid:
    if series.grid is None:
        raise StudyError("E_GEOMETRY", "the reference series is not a volume")
    if not series.frame:
        raise OutputError("E_NO_FRAME", "the reference series has no FrameOfReferenceUID")
    if not mask.grid.is_same(series.grid):
        raise StudyError(
            "E_GEOMETRY",
            f"a mask on {mask.grid.shape} was given for a series on {series.grid.shape}, "
            "or its affine differs",
        )
    return series.grid


def plane_positions(series: Series, grid: Grid) -> npt.NDArray[np.float64]:
    """LPS position of every plane: the source's own where the grid follows it."""
    affine = lps_ras(grid.affine)
    even = affine[:3, 3] + np.arange(grid.shape[2])[:, None] * affine[:3, 2]
    if len(series.instances) != grid.shape[2]:
        return np.asarray(even)
    own = np.array([instance.position for instance in series.instances], dtype=np.float64)
    return own if np.abs(own - even).max() <= READBACK_TOLERANCE_MM else np.asarray(even)


def _build(
    voxels: npt.NDArray[np.uint8],
    planes: npt.NDArray[np.float64],
    grid: Grid,
    series: Series,
    segment: SegmentInfo,
    number: int,
    description: str,
) -> Segmentation:
    header = first_header(series)
    sources = _sources(series, grid, int(header.get("NumberOfFrames") or 1))
    try:
        dataset = Segmentation(
            source_images=sources,
            pixel_array=voxels,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(segment)],
            series_instance_uid=generate_uid(prefix=None),
            series_number=number,
            sop_instance_uid=generate_uid(prefix=None),
            instance_number=1,
            manufacturer="differseg-med",
            manufacturer_model_name=segment.algorithm_name,
            software_versions=__version__,
            device_serial_number="1",
            content_label="SEGMENTATION",
            content_description=description,
            series_description=description,
            plane_positions=_positions_for(sources, planes),
            omit_empty_frames=bool(voxels.any()),
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise OutputError("E_WRITE", f"the SEG could not be built: {error}") from error
    _name_segment_in_every_frame(dataset)
    copy_identity(header, dataset, OF_IMAGES)
    if "ContentCreatorName" not in dataset:
        dataset.ContentCreatorName = ""
    content = hashlib.sha256(voxels.data)
    content.update(repr((segment, number, description, grid.shape, planes.tolist())).encode())
    content.update(grid.affine.tobytes())
    _derive_uids(dataset, settle(dataset, series, header, content.digest()), segment)
    return dataset


def _derive_uids(dataset: Segmentation, key: str, segment: SegmentInfo) -> None:
    """UIDs inside the object; highdicom's own are random."""
    dimensions = derive_uid("dimensions", key)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    dataset.SegmentSequence[0].TrackingUID = segment.tracking_uid or derive_uid("target", key)


def _name_segment_in_every_frame(dataset: Segmentation) -> None:
    """Move the segment's number from the shared group to the frames, where most receivers look."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" in shared:
        number = shared["SegmentIdentificationSequence"]
        del shared["SegmentIdentificationSequence"]
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.add(number)


def _positions_for(
    sources: list[Dataset], planes: npt.NDArray[np.float64]
) -> list[hd.PlanePositionSequence] | None:
    """None where plane ``k`` is slice ``k`` of the source: highdicom then need not match them."""
    if len(sources) == len(planes):
        own = np.array([source.ImagePositionPatient for source in sources], dtype=np.float64)
        if np.abs(own - planes).max() < 1e-6:
            return None
    patient = hd.CoordinateSystemNames.PATIENT
    return [hd.PlanePositionSequence(patient, [float(x) for x in plane]) for plane in planes]


def _describe(segment: SegmentInfo) -> SegmentDescription:
    return SegmentDescription(
        segment_number=1,
        segment_label=segment.label,
        segmented_property_category=segment.category.concept(),
        segmented_property_type=segment.property_type.concept(),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=segment.algorithm_name,
            version=segment.algorithm_version,
            family=codes.cid7162.ArtificialIntelligence,
            parameters=dict(segment.parameters) or None,
        ),
        tracking_id=segment.tracking_id or segment.label,
        tracking_uid=segment.tracking_uid or generate_uid(prefix=None),
        display_color=hd.color.CIELabColor(*_COLOR),
    )


def _sources(series: Series, grid: Grid, frames: int) -> list[Dataset]:
    """What highdicom needs of the source images: identity and place, no patient.

    One orientation and spacing stands for all: the gate let pass only what differs by rounding.
    """
    affine = lps_ras(grid.affine)
    axes = affine[:3, :2] / np.array(grid.spacing[:2])
    step = format_number_as_ds(float(abs(affine[:3, 2] @ np.cross(axes[:, 0], axes[:, 1]))))
    shared = Dataset()
    shared.ImageOrientationPatient = decimals(axes.T.ravel())
    shared.PixelSpacing = decimals((grid.spacing[1], grid.spacing[0]))
    shared.SliceThickness, shared.SpacingBetweenSlices = _thickness(series, step), step
    if series.sop_class in ENHANCED:
        return [_multi_frame(series, shared, frames)]
    return [_single_frame(series, shared, instance) for instance in series.instances]


def _single_frame(series: Series, shared: Dataset, instance: Instance) -> Dataset:
    """One classic slice."""
    dataset = identified(series, instance)
    dataset.update(shared)
    dataset.ImagePositionPatient = decimals(instance.position or ())
    return dataset


def _multi_frame(series: Series, shared: Dataset, frames: int) -> Dataset:
    """An enhanced source: one orientation and spacing, positions of this stack's frames only."""
    where = {instance.frame: instance.position for instance in series.instances}
    orientation, measures, group = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = shared.ImageOrientationPatient
    measures.update(shared)
    del measures.ImageOrientationPatient
    group.PlaneOrientationSequence, group.PixelMeasuresSequence = [orientation], [measures]
    dataset = identified(series, series.instances[0])
    dataset.NumberOfFrames = max(frames, max(where) + 1)
    dataset.SharedFunctionalGroupsSequence = [group]
    dataset.PerFrameFunctionalGroupsSequence = [
        _placed(where.get(index) or _OUT_OF_REACH) for index in range(dataset.NumberOfFrames)
    ]
    return dataset


def _placed(position: Iterable[float]) -> Dataset:
    """Functional group that says where a frame lies."""
    item, group = Dataset(), Dataset()
    item.ImagePositionPatient = decimals(position)
    group.PlanePositionSequence = [item]
    return group


def _thickness(series: Series, step: str) -> str:
    """The slices' own thickness, or their distance where the header names none."""
    own = series.instances[0].tags.get("SliceThickness")
    return format_number_as_ds(own) if isinstance(own, float) and own > 0 else step


def _read_back(
    path: Path, voxels: npt.NDArray[np.uint8], positions: npt.NDArray[np.float64], grid: Grid
) -> None:
    """Compare a file with what it was made from, in millimetres and voxel by voxel."""
    try:
        planes = read_planes(path)
        away = _farthest_corner(planes, positions, grid)
        if away > READBACK_TOLERANCE_MM:
            raise OutputError("E_READBACK", f"a plane lies {away:.2f} mm from where it belongs")
        wrong = int(np.count_nonzero(place_on(planes, grid) != voxels.T))
    except StudyError as error:
        raise OutputError("E_READBACK", error.detail) from error
    if wrong:
        raise OutputError("E_READBACK", f"{wrong} voxels of {voxels.size} differ")


def _farthest_corner(planes: SegPlanes, positions: npt.NDArray[np.float64], grid: Grid) -> float:
    """Largest distance of a plane's corner from the same corner of the nearest expected plane."""
    steps = lps_ras(grid.affine)[:3, :2]
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * (np.array(grid.shape[:2]) - 1)
    if planes.pixels.shape[1:] != (grid.shape[1], grid.shape[0]):
        return float("inf")
    worst = 0.0
    for position, axes in zip(planes.positions, planes.axes, strict=True):
        nearest = positions[np.linalg.norm(positions - position, axis=1).argmin()]
        apart = position - nearest + corners @ (axes - steps).T
        worst = max(worst, float(np.linalg.norm(apart, axis=1).max()))
    return worst
