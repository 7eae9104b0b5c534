"""Loading of pictures, of labels with values of their own and of images in another unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from differseg_med.data import (
    LabelRule,
    LoadImageModalitiesd,
    SaveImageMaskd,
    SplitIgnoredd,
    ToReferenceGridd,
    find_cases,
)
from differseg_med.errors import BundleError, StudyError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import write_nifti

GRID = Grid((8, 9, 6), np.diag([-2.0, 2.0, 2.0, 1.0]))


def volume(folder: Path, name: str, array: np.ndarray) -> str:
    return str(write_nifti(Volume(array, GRID), folder / f"{name}.nii.gz"))


def labelled(folder: Path, label: np.ndarray) -> dict[str, str]:
    flair = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    return {
        "case": "a",
        "mr_flair": volume(folder, "mr_flair", flair),
        "label": volume(folder, "label", label.astype(np.uint8)),
    }


def test_label_values_become_target_background_and_neither(tmp_path: Path) -> None:
    stored = np.zeros(GRID.shape)
    stored[2:4], stored[5:] = 1, 2
    case = labelled(tmp_path, stored)
    load = LoadImageModalitiesd(["mr_flair"], "mr_flair", label_key="label", labels={"ignore": [2]})
    expected = np.where(stored == 2, -1, stored)
    np.testing.assert_array_equal(load(case)["label"][0], expected)
    prepared = LoadImageModalitiesd(["mr_flair"], "mr_flair", label_key="label")
    np.testing.assert_array_equal(prepared({**case, "target": "wmh"})["label"][0], expected)
    with pytest.raises(BundleError, match=r"E_DATALIST.*label\.nii\.gz\) holds 0, 1, 2"):
        prepared(case)
    coarse = LoadImageModalitiesd(
        ["mr_flair"], "mr_flair", (4.0, 4.0, 4.0), "label", labels={"ignore": [2]}
    )
    assert set(np.unique(coarse(case)["label"])) == {-1, 0, 1}


def test_targets_of_one_label_differ_by_their_values_only() -> None:
    label = np.array([0, 1, 2, 3, 4], dtype=np.float32)
    rules = {
        "whole": LabelRule([1, 2, 3, 4]),
        "core": LabelRule([1, 3, 4], [0, 2]),
        "enhancing": LabelRule([3, 4], [0, 1, 2]),
    }
    found = {name: rule.apply(label, "x").tolist() for name, rule in rules.items()}
    assert found == {
        "whole": [0, 1, 1, 1, 1],
        "core": [0, 1, 0, 1, 1],
        "enhancing": [0, 0, 0, 1, 1],
    }
    with pytest.raises(BundleError, match="E_CONFIG"):
        LabelRule([1], [0, 1])


def test_255_for_1_is_named_with_its_remedy(tmp_path: Path) -> None:
    case = labelled(tmp_path, np.full(GRID.shape, 255))
    load = LoadImageModalitiesd(["mr_flair"], "mr_flair", label_key="label")
    with pytest.raises(BundleError, match=r"holds 255; expected 0, 1\. Write 1 where it holds 255"):
        load(case)


def test_ignored_voxels_leave_prediction_and_label() -> None:
    label = torch.tensor([[1.0, 0.0, -1.0, -1.0]])
    data = SplitIgnoredd()({"pred": torch.tensor([[1.0, 1.0, 1.0, 0.0]]), "label": label})
    assert data["pred"].tolist() == [[1, 1, 0, 0]]
    assert data["label"].tolist() == [[1, 0, 0, 0]]
    assert data["ignore"].tolist() == [[False, False, True, True]]
    assert "ignore" not in SplitIgnoredd()({"pred": label[:, :2], "label": label[:, :2]})


def test_a_diffusion_coefficient_in_another_unit_is_refused_or_scaled(tmp_path: Path) -> None:
    adc = np.random.default_rng(0).uniform(0.5, 3.0, GRID.shape).astype(np.float32)
    case = {"case": "a", "mr_adc": volume(tmp_path, "mr_adc", adc)}
    with pytest.raises(StudyError, match=r"E_UNIT: case a.*2\.99.*um2/s"):
        LoadImageModalitiesd(["mr_adc"], "mr_adc")(case)
    image = LoadImageModalitiesd(["mr_adc"], "mr_adc", scale={"mr_adc": 1000})(case)["image"]
    np.testing.assert_allclose(image[0], adc * 1000, rtol=1e-6)


@pytest.fixture
def picture(tmp_path: Path) -> dict[str, str]:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "in/p.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:50] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return {
        "case": "p",
        "rgb": str(tmp_path / "in" / "p.png"),
        "label": str(tmp_path / "mask.png"),
    }


def load_picture(**settings: object) -> LoadImageModalitiesd:
    arguments = {"label_key": "label", "spatial_dims": 2, "labels": {"threshold": 128}, **settings}
    return LoadImageModalitiesd(["rgb"], "rgb", **arguments)  # type: ignore[arg-type]


def test_pictures_go_to_one_size_and_back(picture: dict[str, str], tmp_path: Path) -> None:
    data = load_picture(size=[32, 32])(picture)
    assert data["image"].shape == (3, 32, 32)
    assert data["label"].shape == (1, 32, 32)
    assert float(data["label"].mean()) == pytest.approx(200 / 2400, abs=0.02)
    back = ToReferenceGridd("label")({**data, "label": data["label"].float()})
    assert back["label"].shape == (1, 60, 40)
    full = load_picture()(picture)
    assert full["label"].shape == (1, 60, 40)
    np.testing.assert_array_equal(
        np.asarray(full["image"]).transpose(2, 1, 0), np.asarray(Image.open(picture["rgb"]))
    )
    SaveImageMaskd(str(tmp_path / "out"), "label", name="mask.png")(full)
    written = np.asarray(Image.open(tmp_path / "out" / "p" / "mask.png"))
    np.testing.assert_array_equal(written, np.asarray(Image.open(picture["label"])))


def test_pictures_that_do_not_fit_are_refused(picture: dict[str, str], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 61), np.uint8)).save(tmp_path / "wide.png")
    with pytest.raises(StudyError, match=r"E_GEOMETRY: case p: the label \(wide\.png\)"):
        load_picture()({**picture, "label": str(tmp_path / "wide.png")})
    Image.fromarray(np.ones((40, 60), np.uint8)).save(tmp_path / "ones.png")
    with pytest.raises(BundleError, match=r"E_DATALIST.*ones\.png.*values up to 1"):
        load_picture()({**picture, "label": str(tmp_path / "ones.png")})
    with pytest.raises(BundleError, match="E_CONFIG"):
        load_picture(size=[8, 8], spacing=(1, 1, 1))


def test_volumes_are_no_pictures(tmp_path: Path) -> None:
    case = labelled(tmp_path, np.zeros(GRID.shape))
    with pytest.raises(StudyError, match="E_DIMENSIONS"):
        LoadImageModalitiesd(["mr_flair"], "mr_flair", spatial_dims=2)(case)
    with pytest.raises(StudyError, match=r"E_CHANNELS: case a: rgb has 1 channels, 3 were"):
        LoadImageModalitiesd(["rgb"], "rgb")({"case": "a", "rgb": case["mr_flair"]})


def test_a_folder_of_pictures_is_a_folder_of_cases(picture: dict[str, str]) -> None:
    folder = Path(picture["rgb"]).parent
    (folder / "b (1).jpg").touch()
    found = find_cases(folder, ["rgb"], ["rgb"])
    assert [case["case"] for case in found] == ["b-1", "p"]
    (folder / "p.jpg").touch()
    with pytest.raises(StudyError, match="E_AMBIGUOUS"):
        find_cases(folder, ["rgb"], ["rgb"])
