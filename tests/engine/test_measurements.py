"""Measurements: by hand, on ellipses whose axes are known, and against SimpleITK."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from differseg_med.engine import measure, measure_mask, measurements_page
from differseg_med.engine._definitions import LESION_COUNT, REGION, STATISTICS, UNIT_NAMES
from differseg_med.engine._measurements import Region
from differseg_med.geometry import Grid, Volume
from differseg_med.modality import MODALITIES

OBLIQUE = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


def grid_of(shape, spacing=(1.0, 1.0, 1.0), direction=None, origin=(0.0, 0.0, 0.0)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([-1, -1, 1]) if direction is None else direction) * spacing
    affine[:3, 3] = origin
    return Grid(shape, affine, "1.2.3")


def measured(array: np.ndarray, grid: Grid, **volumes: Volume | None):
    mask = Volume(np.asarray(array, np.uint8), grid)
    return measure_mask(mask, volumes, tuple(volumes) or ("ct",), next(iter(volumes), "ct"))


def test_hand_worked_box() -> None:
    """3 x 2 x 1 voxels of 2 x 3 x 5 mm; its axes run towards the right and the front."""
    array = np.zeros((9, 8, 4))
    array[4:7, 1:3, 2] = 1
    found = measured(array, grid_of(array.shape, (2, 3, 5), origin=(10, 20, 30)))
    (lesion,) = found.lesions
    assert (lesion.number, lesion.voxels, lesion.volume_ml) == (1, 6, pytest.approx(0.18))
    assert lesion.centroid_lps_mm == pytest.approx((-10 + 2 * 5, -20 + 3 * 1.5, 40))
    assert lesion.bounding_box_index == ((4, 1, 2), (7, 3, 3))
    low, high = lesion.bounding_box_lps_mm
    assert low == pytest.approx((-10 + 2 * 3.5, -20 + 3 * 0.5, 37.5))
    assert high == pytest.approx((-10 + 2 * 6.5, -20 + 3 * 2.5, 42.5))
    assert not lesion.touches_border
    # From the lower edge of the first voxel of one row to the upper of the last of the other.
    assert lesion.diameters.longest_mm == pytest.approx(np.hypot(4, 6))
    assert lesion.diameters.slice == 2
    ends = np.array(lesion.diameters.longest_ends_lps_mm)
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(lesion.diameters.longest_mm)
    assert ends[:, 2] == pytest.approx(40)
    content = found.as_json()
    assert {**content["target"], "number": 1} == content["lesions"][0]


def test_one_voxel_is_as_long_as_wide() -> None:
    array = np.zeros((5, 5, 3))
    array[2, 2, 1] = 1
    (lesion,) = measured(array, grid_of(array.shape, (2, 2, 4))).lesions
    assert lesion.diameters.longest_mm == pytest.approx(2)
    assert lesion.diameters.perpendicular_mm == pytest.approx(2)


@pytest.mark.parametrize("angle", [0, 17, 45, 80, 133])
@pytest.mark.parametrize("direction", [None, OBLIQUE], ids=["straight", "oblique"])
def test_rotated_ellipses(angle: float, direction) -> None:
    """Half axes of 18 and 11 mm on voxels of 0.8 x 1.2 mm, in the middle one of three slices."""
    grid = grid_of((60, 44, 5), (0.8, 1.2, 3), direction)
    x, y = np.meshgrid(0.8 * (np.arange(60) - 29.3), 1.2 * (np.arange(44) - 21.6), indexing="ij")
    a = np.deg2rad(angle)
    u, v = x * np.cos(a) + y * np.sin(a), y * np.cos(a) - x * np.sin(a)
    array = np.zeros(grid.shape)
    for k, scale in ((1, 0.7), (2, 1.0), (3, 0.6)):
        array[:, :, k] = (u / 18) ** 2 + (v / 11) ** 2 <= scale**2
    (lesion,) = measured(array, grid).lesions
    assert lesion.diameters.slice == 2
    assert lesion.diameters.longest_mm == pytest.approx(36, abs=1.2)
    assert lesion.diameters.perpendicular_mm == pytest.approx(22, abs=1.5)
    (a0, a1), (b0, b1) = (
        np.array(lesion.diameters.longest_ends_lps_mm),
        np.array(lesion.diameters.perpendicular_ends_lps_mm),
    )
    assert abs((a1 - a0) @ (b1 - b0)) < 1e-6
    assert np.linalg.norm(b1 - b0) == pytest.approx(lesion.diameters.perpendicular_mm)
    index = grid.to_index(np.array([a0, a1, b0, b1]) * (-1, -1, 1))
    assert index[:, 2] == pytest.approx(2, abs=1e-6)


def test_parts_of_a_slice_are_measured_one_by_one() -> None:
    """A horseshoe that stands upright: its two legs are no diameter."""
    array = np.zeros((20, 7, 5))
    array[2:4, 3, 1:3] = array[16:18, 3, 1:3] = array[2:18, 3, 3] = 1
    (lesion,) = measured(array, grid_of(array.shape)).lesions
    assert (lesion.diameters.slice, lesion.diameters.longest_mm) == (3, pytest.approx(16))
    array[:, :, 3] = 0
    found = measured(array, grid_of(array.shape))
    assert [r.diameters.longest_mm for r in found.lesions] == pytest.approx([2, 2])


def test_lesions_touch_at_corners_and_come_by_volume() -> None:
    array = np.zeros((9, 9, 9))
    array[0, 0, 0] = array[1, 1, 1] = 1  # one lesion
    array[4:6, 4:6, 4:6] = 1
    array[8, 1, 3] = 1
    found = measured(array, grid_of(array.shape))
    assert [lesion.voxels for lesion in found.lesions] == [8, 2, 1]
    assert [lesion.touches_border for lesion in found.lesions] == [False, True, True]
    assert found.target.touches_border
    flat = Volume(np.asfortranarray(array.astype(np.uint8)), grid_of(array.shape))
    assert measure_mask(flat, {}, ("ct",), "ct") == found
    assert measure(flat)["components"] == 3
    assert measure(flat)["volume_ml"] == pytest.approx(found.target.volume_ml)


@pytest.mark.parametrize("direction", [None, OBLIQUE], ids=["straight", "oblique"])
def test_agrees_with_simpleitk(direction) -> None:
    generator = np.random.default_rng(5)
    grid = grid_of((30, 28, 20), (1.5, 2, 3), direction, (4, -7, 11))
    noise = ndimage.gaussian_filter(generator.normal(size=grid.shape), 2)
    array = (noise > 1.3 * noise.std()).astype(np.uint8)
    image = Volume(generator.normal(100, 30, grid.shape).astype(np.float32), grid, "ct")
    found = measured(array, grid, ct=image)

    def to_sitk(values: np.ndarray) -> sitk.Image:
        out = sitk.GetImageFromArray(values.T.copy())
        affine = np.diag([-1, -1, 1, 1]) @ grid.affine
        out.SetSpacing(grid.spacing)
        out.SetDirection((affine[:3, :3] / grid.spacing).ravel().tolist())
        out.SetOrigin(affine[:3, 3].tolist())
        return out

    labels = sitk.ConnectedComponent(to_sitk(array), True)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(labels)
    values = sitk.LabelIntensityStatisticsImageFilter()
    values.Execute(labels, to_sitk(image.array))
    assert len(found.lesions) == shape.GetNumberOfLabels() > 3
    for lesion in found.lesions:
        center = lesion.centroid_lps_mm
        label = min(
            shape.GetLabels(),
            key=lambda n: np.linalg.norm(np.subtract(shape.GetCentroid(n), center)),
        )
        assert shape.GetCentroid(label) == pytest.approx(center, abs=1e-6)
        assert shape.GetPhysicalSize(label) / 1000 == pytest.approx(lesion.volume_ml)
        box = shape.GetBoundingBox(label)
        first, after = lesion.bounding_box_index
        assert box == (*first, *np.subtract(after, first))
        ours = lesion.statistics["ct"]
        assert ours.mean == pytest.approx(values.GetMean(label), rel=1e-5)
        assert ours.max == pytest.approx(values.GetMaximum(label))
        assert ours.min == pytest.approx(values.GetMinimum(label))
        if lesion.voxels > 1:
            assert ours.sd == pytest.approx(values.GetStandardDeviation(label), rel=1e-4)
    inside = image.array[array > 0].astype(float)
    assert found.target.statistics["ct"].median == pytest.approx(np.median(inside))


def test_an_image_on_another_grid_is_sampled_in_patient_space() -> None:
    """A ramp along LPS x on an oblique grid that covers only part of the lesion."""
    grid = grid_of((12, 12, 6), (2, 2, 2), origin=(3, 3, 3))
    other = grid_of((9, 30, 30), (3, 1.5, 1.5), origin=(3, 10, -5))
    world = other.to_world(np.moveaxis(np.indices(other.shape), 0, -1))
    ramp = Volume((-world[..., 0]).astype(np.float32), other, "mr_t1")
    array = np.zeros(grid.shape)
    array[2:12, 5:7, 2:4] = 1
    statistics = measured(array, grid, mr_t1=ramp, ct=None).lesions[0].statistics
    assert statistics["ct"] is None
    x = -grid.to_world([(i, 5, 2) for i in range(2, 12)])[:, 0]
    reach = 3 * 8.5 - 3
    assert (x <= reach).all()
    assert (statistics["mr_t1"].voxels, statistics["mr_t1"].outside) == (40, 0)
    assert statistics["mr_t1"].mean == pytest.approx(np.minimum(x, 21).mean(), abs=1e-5)
    part = other.crop((0, 0, 0), (4, 30, 30))
    cut = measured(array, grid, mr_t1=Volume(ramp.array[:4], part)).lesions[0].statistics["mr_t1"]
    inside = x <= 3 * 3.5 - 3
    assert (cut.voxels, cut.outside) == (4 * inside.sum(), 4 * (~inside).sum())
    assert cut.mean == pytest.approx(np.minimum(x[inside], 6).mean(), abs=1e-5)
    away = Volume(ramp.array, grid_of(other.shape, (3, 1.5, 1.5), origin=(900, 0, 0)))
    none = measured(array, grid, mr_t1=away).lesions[0].statistics["mr_t1"]
    assert (none.voxels, none.outside, none.mean, none.max) == (0, 40, None, None)


def test_suv_peak_is_the_mean_of_a_millilitre() -> None:
    """Brute force: fine points in a sphere of 1 mL around every voxel of the lesion."""
    grid = grid_of((16, 15, 12), (4, 3.5, 5), OBLIQUE)
    values = np.random.default_rng(2).gamma(2.0, 2.0, grid.shape).astype(np.float32)
    array = np.zeros(grid.shape)
    array[5:9, 6:9, 4:7] = 1
    found = measured(array, grid, pet=Volume(values, grid, "pet"))
    axis = np.linspace(-6.3, 6.3, 64)
    cloud = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    cloud = cloud[(cloud**2).sum(axis=1) <= (3000 / (4 * np.pi)) ** (2 / 3)]
    means = [
        values[tuple(np.rint(grid.to_index(grid.to_world(index) + cloud)).astype(int).T)].mean()
        for index in np.argwhere(array)
    ]
    statistics = found.target.statistics["pet"]
    assert statistics.suv_peak == pytest.approx(max(means), rel=2e-3)
    assert statistics.max > statistics.suv_peak > statistics.mean
    assert statistics.tlg_g == pytest.approx(statistics.mean * found.target.volume_ml)


def test_suv_peak_of_even_uptake_is_the_uptake_also_at_the_border() -> None:
    grid = grid_of((5, 5, 5), (4, 4, 4))
    pet = Volume(np.full(grid.shape, 2.5, np.float32), grid, "pet")
    array = np.zeros(grid.shape)
    array[0, 0, 0] = 1
    statistics = measured(array, grid, pet=pet).target.statistics["pet"]
    assert statistics.suv_peak == pytest.approx(2.5)
    assert (statistics.sd, statistics.mean) == (None, pytest.approx(2.5))


def test_hot_voxel_counts_by_its_part_of_the_sphere() -> None:
    """Voxels of 20 mm hold the whole sphere; of 1 mm, one of them is 1/1000 of it."""
    for size, peak in ((20, 7.0), (1, 7.0 / 1000)):
        grid = grid_of((15, 15, 15), (size,) * 3)
        values = np.zeros(grid.shape, np.float32)
        values[7, 7, 7] = 7
        found = measured(values > 0, grid, pet=Volume(values, grid, "pet"))
        assert found.target.statistics["pet"].suv_peak == pytest.approx(peak, rel=0.01)


def test_an_empty_mask_is_measured() -> None:
    grid = grid_of((5, 4, 3))
    found = measured(np.zeros(grid.shape), grid, pet=Volume(np.ones(grid.shape), grid, "pet"))
    assert found.lesions == ()
    content = found.as_json()
    assert content["lesion_count"] == 0
    assert (content["target"]["volume_ml"], content["target"]["centroid_lps_mm"]) == (0.0, None)
    assert content["target"]["longest_axial_diameter_mm"] is None
    assert content["target"]["statistics"]["pet"]["voxels"] == 0
    json.dumps(content, allow_nan=False)


def test_table_of_definitions_names_every_key_and_every_unit(root) -> None:
    grid = grid_of((5, 4, 3))
    content = measured(np.ones(grid.shape), grid, pet=Volume(np.ones(grid.shape), grid)).as_json()
    assert {*content["lesions"][0]} == {row.key for row in REGION} | {"statistics"}
    assert {*content["lesions"][0]["statistics"]["pet"]} == {row.key for row in STATISTICS}
    assert LESION_COUNT.key in content
    assert {field.name for field in dataclasses.fields(Region)} - {*content["lesions"][0]} == {
        "diameters"
    }
    assert {modality.unit for modality in MODALITIES.values()} == set(UNIT_NAMES)
    page = (root / "docs/reference/measurements.md").read_text(encoding="utf-8")
    assert page == measurements_page(), "docs/reference/measurements.md is stale: run make bundles"
