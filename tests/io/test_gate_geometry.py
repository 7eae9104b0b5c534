"""Rows of the study gate about slices, their positions and what one series may hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import traps
from traps import Stack, assert_sphere, save

from differseg_med.errors import StudyError
from differseg_med.io import read_study, select_series, to_volume
from differseg_med.io._study import Series
from differseg_med.modality import get_modality

CT = get_modality("ct")
MR = get_modality("mr_t2")


def only(folder: Path) -> Series:
    """The single stack of a study."""
    (series,) = read_study(folder).series
    return series


def codes(findings) -> list[str]:
    return [finding.code for finding in findings]


def refused(folder: Path, modality=CT, **options) -> StudyError:
    with pytest.raises(StudyError) as caught:
        to_volume(only(folder), modality, **options)
    return caught.value


def test_gate_plain_series_is_right(tmp_path: Path) -> None:
    stack = Stack()
    series = only(save(stack.slices(), tmp_path))
    assert (series.problems, series.findings) == ((), ())
    volume = to_volume(series, CT)
    assert_sphere(volume, stack)
    assert volume.array.dtype == np.float32
    assert volume.grid.spacing == pytest.approx((1.5, 1.25, 3.0))
    assert volume.grid.frame == traps.uid("frame")


@pytest.mark.parametrize(("row", "column"), traps.orientations() + traps.obliques())
def test_gate_24_orientations_and_3_oblique(tmp_path: Path, row, column) -> None:
    stack = Stack(row=row, column=column)
    assert_sphere(to_volume(only(save(stack.slices(), tmp_path)), CT), stack)


def test_gate_descending_slices_and_flipped_rows(tmp_path: Path) -> None:
    stack = Stack(row=(1, 0, 0), column=(0, -1, 0))
    slices = stack.slices()
    for number, data in enumerate(reversed(slices)):
        data.InstanceNumber = number + 1
    assert_sphere(to_volume(only(save(slices, tmp_path, shuffle=False)), CT), stack)


def test_gate_non_square_pixels(tmp_path: Path) -> None:
    stack = Stack(shape=(56, 22, 12), spacing=(0.9, 2.1, 3.0))
    volume = to_volume(only(save(stack.slices(), tmp_path)), CT)
    assert volume.array.shape == (56, 22, 12)
    assert_sphere(volume, stack)


def test_gate_missing_slice(tmp_path: Path) -> None:
    stack = Stack()
    slices = stack.slices()
    del slices[8]
    error = refused(save(slices, tmp_path, shuffle=False))
    assert error.code == "E_GAP"
    assert "0007.dcm" in error.detail
    assert "0008.dcm" in error.detail
    assert "6.00 mm" in error.detail


def test_gate_missing_slice_lenient(tmp_path: Path) -> None:
    stack = Stack()
    slices = stack.slices()
    del slices[8]
    volume = to_volume(only(save(slices, tmp_path)), CT, lenient=True)
    assert "W_GAP" in codes(volume.findings)
    assert volume.array.shape[2] == 12
    whole = to_volume(only(save(stack.slices(), tmp_path / "whole")), CT)
    kept = [k for k in range(12) if k != 8]
    assert np.allclose(volume.array[..., kept], whole.array[..., kept], atol=1e-3)
    between = (whole.array[..., 7] + whole.array[..., 9]) / 2
    assert np.allclose(volume.array[..., 8], between, atol=1e-3)


@pytest.mark.parametrize("missing", [(5, 6), (3, 6, 9), (4, 6)])
def test_gate_several_missing_slices(tmp_path: Path, missing: tuple[int, ...]) -> None:
    slices = [s for k, s in enumerate(Stack().slices()) if k not in missing]
    assert refused(save(slices, tmp_path)).code == "E_GAP"


def test_gate_two_slices_at_one_position_that_differ(tmp_path: Path) -> None:
    slices = Stack().slices()
    extra = Stack().slices()[7]
    extra.SOPInstanceUID = extra.file_meta.MediaStorageSOPInstanceUID = traps.uid("extra")
    extra.PixelData = slices[2].PixelData
    assert refused(save([*slices, extra], tmp_path)).code == "E_DUP"


def test_gate_stray_slice_of_another_acquisition(tmp_path: Path) -> None:
    slices = Stack().slices()
    extra = Stack(changes={"AcquisitionNumber": 2}).slices()[7]
    extra.SOPInstanceUID = extra.file_meta.MediaStorageSOPInstanceUID = traps.uid("extra")
    extra.PixelData = slices[2].PixelData
    for data in slices:
        data.AcquisitionNumber = 1
    assert refused(save([*slices, extra], tmp_path)).code == "E_DUP"


def test_gate_two_identical_slices_at_one_position(tmp_path: Path) -> None:
    stack = Stack()
    extra = stack.slices()[7]
    extra.SOPInstanceUID = extra.file_meta.MediaStorageSOPInstanceUID = traps.uid("extra")
    volume = to_volume(only(save([*stack.slices(), extra], tmp_path)), CT)
    assert codes(volume.findings) == ["W_DUP"]
    assert_sphere(volume, stack)


def test_gate_same_pixels_of_other_meaning_are_not_identical(tmp_path: Path) -> None:
    extra = Stack(changes={"RescaleSlope": 2}).slices()[7]
    extra.SOPInstanceUID = extra.file_meta.MediaStorageSOPInstanceUID = traps.uid("extra")
    assert refused(save([*Stack().slices(), extra], tmp_path)).code == "E_DUP"


def test_gate_same_sop_instance_uid_twice(tmp_path: Path) -> None:
    stack = Stack()
    volume = to_volume(only(save([*stack.slices(), stack.slices()[4]], tmp_path)), CT)
    assert codes(volume.findings) == ["W_DUP"]
    assert_sphere(volume, stack)


def test_gate_localizer_in_the_series(tmp_path: Path) -> None:
    stack = Stack()
    scout = Stack(row=(1, 0, 0), column=(0, 0, -1), shape=(40, 40, 2), name="A").slices()[0]
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = traps.uid("scout")
    study = read_study(save([*stack.slices(), scout], tmp_path))
    assert codes(study.findings) == ["W_LOCALIZER"]
    assert [item.reason for item in study.skipped] == ["localizer"]
    assert_sphere(to_volume(study.series[0], CT), stack)


def test_gate_three_orientations_in_one_series(tmp_path: Path) -> None:
    pairs = [((1, 0, 0), (0, 1, 0)), ((0, 1, 0), (0, 0, -1)), ((1, 0, 0), (0, 0, -1))]
    stacks = [Stack(row=row, column=column) for row, column in pairs]
    slices = [data for stack in stacks for data in stack.slices()]
    for number, data in enumerate(slices):
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = traps.uid("o", number)
    study = read_study(save(slices, tmp_path))
    assert sorted(s.part["orientation"] for s in study.series) == ["axial", "coronal", "sagittal"]
    for series in study.series:
        assert codes(series.findings) == ["W_SPLIT"]
        assert_sphere(to_volume(series, CT), stacks[0])
    with pytest.raises(StudyError) as caught:
        select_series(study, [CT], required=["ct"])
    assert caught.value.code == "E_AMBIGUOUS"
    assert all(name in caught.value.detail for name in ("axial", "coronal", "sagittal"))
    chosen = select_series(study, [CT], required=["ct"], choices={"ct": "@orientation=axial"})
    assert chosen["ct"].part == {"orientation": "axial"}


def test_gate_every_slice_in_its_own_orientation(tmp_path: Path) -> None:
    slices = Stack(shape=(20, 20, 8)).slices()
    for k, data in enumerate(slices):
        angle = np.pi * k / 8
        data.ImageOrientationPatient = [np.cos(angle), np.sin(angle), 0, 0, 0, -1]
    assert refused(save(slices, tmp_path)).code == "E_ORIENTATION"


@pytest.mark.parametrize("numbers", ["random", "constant", "absent"])
def test_gate_instance_number_is_ignored(tmp_path: Path, numbers: str) -> None:
    stack = Stack()
    slices = stack.slices()
    order = np.random.default_rng(0).permutation(len(slices))
    for k, data in enumerate(slices):
        data.InstanceNumber = int(order[k]) if numbers == "random" else 7
        if numbers == "absent":
            del data.InstanceNumber
    assert_sphere(to_volume(only(save(slices, tmp_path)), CT), stack)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_gate_one_slice_without_position(tmp_path: Path, keyword: str) -> None:
    slices = Stack().slices()
    delattr(slices[5], keyword)
    assert refused(save(slices, tmp_path)).code == "E_NO_POSITION"


def test_gate_no_pixel_spacing(tmp_path: Path) -> None:
    slices = Stack().slices()
    for data in slices:
        del data.PixelSpacing
    assert refused(save(slices, tmp_path)).code == "E_NO_SPACING"


def test_gate_spacing_3_then_5(tmp_path: Path) -> None:
    stack = Stack(steps=[3.0] * 6 + [5.0] * 5)
    series = only(save(stack.slices(), tmp_path))
    assert codes(series.findings) == ["W_SPACING"]
    assert series.uneven
    volume = to_volume(series, CT)
    assert volume.grid.spacing[2] == pytest.approx(3.0, abs=0.1)
    assert_sphere(volume, stack)


def test_gate_spacing_with_an_odd_slice(tmp_path: Path) -> None:
    stack = Stack(steps=[3.0] * 5 + [2.4, 3.6] + [3.0] * 4)
    volume = to_volume(only(save(stack.slices(), tmp_path)), CT)
    assert "W_SPACING" in codes(volume.findings)
    assert_sphere(volume, stack)


def test_gate_jitter_of_position_and_orientation(tmp_path: Path) -> None:
    stack = Stack()
    slices = stack.slices()
    rng = np.random.default_rng(5)
    for data in slices:
        position = np.array(data.ImagePositionPatient) + rng.uniform(-0.01, 0.01, 3)
        cosines = np.array(data.ImageOrientationPatient) + rng.uniform(-1e-5, 1e-5, 6)
        data.ImagePositionPatient = [f"{x:.6f}" for x in position]
        data.ImageOrientationPatient = [f"{x:.8f}" for x in cosines]
    series = only(save(slices, tmp_path))
    assert (series.problems, series.findings) == ((), ())
    assert_sphere(to_volume(series, CT), stack)


def test_gate_gantry_tilt(tmp_path: Path) -> None:
    tilt = np.radians(15)
    stack = Stack(
        row=(0, 0, -1), column=(0, 1, 0), shear=3.0 * np.tan(tilt), off_centre=(0.0, 0.0, 0.0)
    )
    series = only(save(stack.slices(), tmp_path))
    assert codes(series.findings) == ["W_TILT"]
    assert "15.0 degrees" in series.findings[0].detail
    volume = to_volume(series, CT)
    assert_sphere(volume, stack)
    for k, instance in enumerate(series.instances):
        corner = volume.grid.to_world([0, 0, k]) * [-1, -1, 1]
        assert corner == pytest.approx(instance.position, abs=1e-3)


def test_gate_slice_beside_the_line(tmp_path: Path) -> None:
    slices = Stack().slices()
    position = list(slices[6].ImagePositionPatient)
    slices[6].ImagePositionPatient = [position[0] + 20, position[1], position[2]]
    assert refused(save(slices, tmp_path)).code == "E_GEOMETRY"


@pytest.mark.parametrize(
    "cosines", [[1, 0, 0, 1, 0, 0], [1, 0, 0, 0.5, 0.9, 0], [2, 0, 0, 0, 1, 0]]
)
def test_gate_orientation_that_is_none(tmp_path: Path, cosines: list[float]) -> None:
    slices = Stack(changes={"ImageOrientationPatient": cosines}).slices()
    assert refused(save(slices, tmp_path)).code == "E_GEOMETRY"


def test_gate_rescale_slope_per_slice(tmp_path: Path) -> None:
    stack = Stack(sop_class=traps.PET)
    slices = stack.slices()
    for k, data in enumerate(slices):
        slope = 1.0 if k == 0 else 0.25 + 0.01 * k
        stored = np.frombuffer(data.PixelData, np.uint16) / slope
        data.PixelData = np.round(stored).astype(np.uint16).tobytes()
        data.RescaleSlope = f"{slope:.6f}"
        data.DecayCorrection = "ADMIN"
    volume = to_volume(only(save(slices, tmp_path)), get_modality("pet"))
    factor = 74000 / 3.7e8
    assert_sphere(volume, stack, background=24 * factor, scale=1000 * factor)
    assert np.unique(volume.array / factor % 1).size > 50  # no truncation to integers


@pytest.mark.parametrize("empty", [True, False])
def test_gate_rescale_slope_empty(tmp_path: Path, empty: bool) -> None:
    stack = Stack()
    slices = stack.slices()
    for data in slices:
        data.RescaleSlope = data.RescaleIntercept = None
        if not empty:
            del data.RescaleSlope, data.RescaleIntercept
    volume = to_volume(only(save(slices, tmp_path)), CT)
    assert codes(volume.findings) == ["W_NO_HU"]
    assert_sphere(volume, stack, background=24.0)


def test_gate_rescale_type_is_not_hu(tmp_path: Path) -> None:
    series = only(save(Stack(changes={"RescaleType": "US"}).slices(), tmp_path))
    assert codes(series.findings) == ["W_NO_HU"]


@pytest.mark.parametrize("slope", ["0", "nan", "1\\2"])
def test_gate_rescale_slope_void(tmp_path: Path, slope: str) -> None:
    slices = Stack().slices()
    slices[3].add_new(0x00281053, "LO", slope)
    assert refused(save(slices, tmp_path)).code == "E_CORRUPT"


def test_gate_monochrome1_is_not_inverted(tmp_path: Path) -> None:
    stack = Stack(changes={"PhotometricInterpretation": "MONOCHROME1"})
    assert_sphere(to_volume(only(save(stack.slices(), tmp_path)), CT), stack)


@pytest.mark.parametrize("signed", [False, True])
def test_gate_pixel_padding(tmp_path: Path, signed: bool) -> None:
    stack = Stack()
    slices = stack.slices()
    for data in slices:
        pixels = np.frombuffer(data.PixelData, np.uint16).astype(np.int32).reshape(36, 34)
        pixels[:5] = -2000 if signed else 63536
        data.PixelRepresentation = int(signed)
        data.PixelData = pixels.astype(np.int16 if signed else np.uint16).tobytes()
        data.add_new(0x00280120, "SS" if signed else "US", -2000 if signed else 63536)
    volume = to_volume(only(save(slices, tmp_path)), CT)
    assert codes(volume.findings) == ["W_PADDING"]
    assert f"{5 * 34 * 12} padding" in volume.findings[0].detail
    assert (volume.array[:, :5] == -1024).all()
    inside = Stack()
    trimmed = volume.array.copy()
    trimmed[:, :5] = -1000
    assert_sphere(type(volume)(trimmed, volume.grid), inside)


def test_gate_pixel_padding_range_with_the_wrong_sign(tmp_path: Path) -> None:
    slices = Stack().slices()
    for data in slices:
        pixels = np.frombuffer(data.PixelData, np.uint16).astype(np.int32).reshape(36, 34)
        pixels[:3], pixels[3:5] = -2000, -1500
        data.PixelRepresentation = 1
        data.PixelData = pixels.astype(np.int16).tobytes()
        data.add_new(0x00280120, "US", 63536)
        data.add_new(0x00280121, "US", 64036)
    volume = to_volume(only(save(slices, tmp_path)), CT)
    assert (volume.array[:, :5] == -1024).all()
    assert (volume.array[:, 5:] > -1024).all()


def test_gate_overlay_bits_above_the_stored_ones(tmp_path: Path) -> None:
    stack = Stack()
    slices = stack.slices()
    for data in slices:
        pixels = np.frombuffer(data.PixelData, np.uint16).copy()
        pixels[::3] |= 0xF000
        data.PixelData = pixels.tobytes()
        data.BitsStored, data.HighBit = 12, 11
    assert_sphere(to_volume(only(save(slices, tmp_path)), CT), stack)


def test_gate_two_frames_of_reference(tmp_path: Path) -> None:
    slices = Stack().slices()
    for data in slices[6:]:
        data.FrameOfReferenceUID = traps.uid("another frame")
    assert refused(save(slices, tmp_path)).code == "E_FOR_MIX"


def test_gate_single_slice(tmp_path: Path) -> None:
    slices = Stack().slices()[6:7]
    folder = save(slices, tmp_path)
    assert refused(folder).code == "E_TOO_FEW"
    flat = to_volume(only(folder), CT, spatial_dims=2)
    assert flat.array.shape == (34, 36, 1)
    assert flat.grid.spacing == pytest.approx((1.5, 1.25, 3.0))


def test_gate_two_sizes_in_one_series(tmp_path: Path) -> None:
    small = Stack(shape=(32, 34, 12))
    other = small.slices()
    for k, data in enumerate(other):
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = traps.uid("small", k)
    study = read_study(save([*Stack().slices(), *other], tmp_path))
    assert [s.part for s in study.series] != [{}, {}]
    assert len(study.series) == 2
    for series in study.series:
        assert_sphere(to_volume(series, CT), small)


COPIES = {
    "b": [("DiffusionBValue", 0.0), ("DiffusionBValue", 1000.0)],
    "echo": [("EchoTime", 12.5), ("EchoTime", 95.0)],
    "t": [("TemporalPositionIdentifier", 1), ("TemporalPositionIdentifier", 2)],
    "acquisition": [("AcquisitionNumber", 1), ("AcquisitionNumber", 2)],
    "phase": [("TriggerTime", 0.0), ("TriggerTime", 350.0)],
    "time": [("AcquisitionTime", "101600"), ("AcquisitionTime", "102200")],
    "type": [
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"]),
        ("ImageType", ["ORIGINAL", "PRIMARY", "P"]),
    ],
}


def two_copies(key: str) -> tuple[Stack, list]:
    """One series with two stacks at the same places; in the second the sphere weighs half."""
    stack = Stack(sop_class=traps.MR)
    slices = []
    for copy, (keyword, value) in enumerate(COPIES[key]):
        part = Stack(sop_class=traps.MR, changes={keyword: value}).slices()
        for k, data in enumerate(part):
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = traps.uid(copy, k)
            if copy:
                half = (np.frombuffer(data.PixelData, np.uint16) - 24) // 2 + 24
                data.PixelData = half.astype(np.uint16).tobytes()
        slices += part
    return stack, slices


@pytest.mark.parametrize("key", COPIES)
def test_gate_copies_in_one_series_are_split(tmp_path: Path, key: str) -> None:
    stack, slices = two_copies(key)
    study = read_study(save(slices, tmp_path))
    assert [list(series.part) for series in study.series] == [[key], [key]]
    assert [len(series.instances) for series in study.series] == [12, 12]
    with pytest.raises(StudyError) as caught:
        select_series(study, [MR], required=["mr_t2"])
    assert caught.value.code == "E_AMBIGUOUS"
    for series, scale in zip(study.series, (1000, 500), strict=True):
        (value,) = series.part.values()
        assert f"@{key}={value}" in caught.value.detail
        choice = {"mr_t2": f"@{key}={value}"}
        chosen = select_series(study, [MR], required=["mr_t2"], choices=choice)["mr_t2"]
        assert chosen is series
        assert_sphere(to_volume(chosen, MR), stack, scale=scale)


def test_gate_b_value_by_name(tmp_path: Path) -> None:
    _, slices = two_copies("b")
    study = read_study(save(slices, tmp_path))
    dwi = get_modality("mr_dwi")
    chosen = select_series(study, [dwi], required=["mr_dwi"], choices={"mr_dwi": "@b=1000"})
    assert chosen["mr_dwi"].part == {"b": "1000"}


def test_gate_b_values_at_interleaved_positions(tmp_path: Path) -> None:
    """No two slices at one place, and still two stacks."""
    slices = []
    for copy, value in enumerate((0.0, 1000.0)):
        stack = Stack(sop_class=traps.MR, changes={"DiffusionBValue": value})
        stack.centre = (12.0, -31.0, 57.0 + 1.5 * copy)
        for k, data in enumerate(stack.slices()):
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = traps.uid(copy, k)
            slices.append(data)
    study = read_study(save(slices, tmp_path))
    assert [series.part for series in study.series] == [{"b": "0"}, {"b": "1000"}]
    assert all(series.problems == () for series in study.series)


@pytest.mark.parametrize(
    ("creator", "group", "element", "vr", "values"),
    [
        ("SIEMENS MR HEADER", 0x19, 0x0C, "IS", (50, 800)),
        ("GEMS_PARM_01", 0x43, 0x39, "IS", ([1000000050, 8, 0, 0], [1000000800, 8, 0, 0])),
        ("Philips Imaging DD 001", 0x2001, 0x03, "FL", (50.0, 800.0)),
    ],
)
def test_gate_private_b_values(
    tmp_path: Path, creator: str, group: int, element: int, vr: str, values: tuple
) -> None:
    slices = []
    for copy, value in enumerate(values):
        for k, data in enumerate(Stack(sop_class=traps.MR).slices()):
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = traps.uid(copy, k)
            data.private_block(group, creator, create=True).add_new(element, vr, value)
            slices.append(data)
    study = read_study(save(slices, tmp_path))
    assert [series.part for series in study.series] == [{"b": "50"}, {"b": "800"}]
