"""From files to a stacked image and back, on small made cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from differseg_med.data import (
    CropMargins,
    LoadImageModalitiesd,
    SaveImageMaskd,
    ToReferenceGridd,
    find_cases,
    load_datalist,
    reference_grid,
    stack_on_reference,
)
from differseg_med.errors import BundleError, StudyError, UsageError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import read_nifti, write_nifti
from differseg_med.modality import get_modality

ORDER = ("pet", "ct", "mr_t1")


def ball(grid: Grid, center: tuple[float, ...], radius: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    return np.linalg.norm(grid.to_world(index) - np.array(center), axis=-1) <= radius


PET = Grid((20, 22, 24), np.array([[-4.0, 0, 0, 40], [0, -4, 0, 42], [0, 0, 3, -30], [0, 0, 0, 1]]))
CT = Grid(
    (50, 55, 26), np.array([[-1.7, 0, 0, 41], [0, -1.7, 0, 44], [0, 0, 3, -32], [0, 0, 0, 1]])
)
PLACE = (5.0, 2.0, 4.0)


@pytest.fixture
def case(tmp_path: Path) -> dict[str, str]:
    """PET, CT and a label with one ball at a known place; no MR."""
    volumes = {
        "pet": Volume(ball(PET, PLACE, 15).astype(np.float32) * 6, PET),
        "ct": Volume(np.where(ball(CT, PLACE, 15), 60, -100).astype(np.float32), CT),
        "label": Volume(ball(PET, PLACE, 15).astype(np.uint8), PET),
    }
    paths = {"case": "case_1"}
    for name, volume in volumes.items():
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
        paths[name] = str(tmp_path / f"{name}.nii.gz")
    return paths


def load(**settings: object) -> LoadImageModalitiesd:
    arguments = {"spacing": (4.0, 4.0, 4.0), "label_key": "label", **settings}
    return LoadImageModalitiesd(ORDER, "pet", **arguments)  # type: ignore[arg-type]


def test_modalities_meet_in_patient_space(case: dict[str, str]) -> None:
    data = load()(case)
    image = data["image"]
    assert image.shape == (3, 20, 22, 18)
    assert data["present"].tolist() == [True, True, False]
    assert image[2].isnan().all()
    work = Grid(image.shape[1:], np.asarray(image.affine))
    inside = ball(work, PLACE, 10)
    assert float(image[0][inside].min()) > 5
    assert float(image[1][inside].min()) > 50
    outside = ~ball(work, PLACE, 20)
    assert float(image[0][outside].max()) < 1
    assert "pet" not in data
    assert "ct" not in data


def test_the_way_back_is_exact(case: dict[str, str], tmp_path: Path) -> None:
    data = load()(case)
    work = Grid(data["image"].shape[1:], np.asarray(data["image"].affine))
    data["pred"] = torch.from_numpy(ball(work, PLACE, 15).astype(np.float32))[None]
    result = ToReferenceGridd("pred")(data)
    assert result["pred"].shape == (1, *PET.shape)
    result["pred"] = result["pred"] >= 0.5
    result["pred"] = result["pred"].float()
    SaveImageMaskd(str(tmp_path / "out"))(result)
    mask = read_nifti(tmp_path / "out" / "case_1" / "mask.nii.gz")
    np.testing.assert_array_equal(mask.grid.affine, read_nifti(case["pet"]).grid.affine)
    truth = ball(PET, PLACE, 15)
    overlap = 2 * (truth & (mask.array > 0)).sum() / (truth.sum() + (mask.array > 0).sum())
    assert overlap > 0.9


def test_label_on_the_reference_is_untouched(case: dict[str, str]) -> None:
    data = load(label_on="reference", raw_key="raw")(case)
    np.testing.assert_array_equal(np.asarray(data["label"][0]), ball(PET, PLACE, 15))
    np.testing.assert_allclose(np.asarray(data["raw"][0]), ball(PET, PLACE, 15) * 6.0, atol=1e-4)
    assert reference_grid(data["image"]).is_same(PET)


def test_redrawn_margins_crop_the_reference(case: dict[str, str]) -> None:
    margins = CropMargins(8.0, 16.0, seed=3)
    data = load(margins=margins, label_on="reference")(case)
    cropped = reference_grid(data["image"])
    assert cropped.shape == data["label"].shape[1:]
    assert min(np.array(PET.shape) - cropped.shape) >= 0
    assert cropped.shape != PET.shape
    assert int(data["label"].sum()) == int(ball(PET, PLACE, 15).sum())
    again = load(margins=margins, label_on="reference")(case)
    assert reference_grid(again["image"]).is_same(cropped)
    other = load(margins=CropMargins(8.0, 16.0, seed=4), label_on="reference")(case)
    assert not reference_grid(other["image"]).is_same(cropped)


def test_a_label_with_other_values_is_refused(case: dict[str, str], tmp_path: Path) -> None:
    write_nifti(Volume((ball(PET, PLACE, 9) * 255).astype(np.uint8), PET), tmp_path / "l.nii.gz")
    with pytest.raises(BundleError, match=r"E_DATALIST.*case_1 \(l.nii.gz\) holds 0, 255"):
        load()({**case, "label": str(tmp_path / "l.nii.gz")})


def test_reference_must_be_there(case: dict[str, str]) -> None:
    with pytest.raises(StudyError, match="E_MISSING_MODALITY"):
        load(label_key=None)({k: v for k, v in case.items() if k != "pet"})


def test_fields_of_view_that_hardly_overlap_are_refused() -> None:
    moved = np.array(CT.affine)
    moved[0, 3] += 60
    volumes = {
        "pet": Volume(np.zeros(PET.shape, np.float32), PET),
        "ct": Volume(np.zeros(CT.shape, np.float32), Grid(CT.shape, moved)),
    }
    with pytest.raises(StudyError, match="E_OVERLAP"):
        stack_on_reference(volumes, ("pet", "ct"), "pet")
    stack = stack_on_reference(volumes, ("pet", "ct"), "pet", min_overlap={"ct": 0.1})
    assert [f.code for f in stack.findings] == ["W_FOV"]
    assert float(stack.image[1].min()) == get_modality("ct").background


def test_frames_that_differ_are_refused() -> None:
    volumes = {
        "pet": Volume(np.zeros(PET.shape, np.float32), Grid(PET.shape, PET.affine, "1.2")),
        "ct": Volume(np.zeros(CT.shape, np.float32), Grid(CT.shape, CT.affine, "1.3")),
    }
    with pytest.raises(StudyError, match="E_FRAME"):
        stack_on_reference(volumes, ("pet", "ct"), "pet")


def write_datalist(folder: Path, entries: object) -> Path:
    path = folder / "datalist.json"
    path.write_text(json.dumps({"training": entries}))
    return path


def test_datalist_resolves_paths_and_drops_absent(case: dict[str, str], tmp_path: Path) -> None:
    entry = {"case": "a", "pet": "pet.nii.gz", "ct": None, "label": "label.nii.gz"}
    path = write_datalist(tmp_path, [entry])
    (found,) = load_datalist(path, "training", tmp_path, ORDER, ["pet"])
    assert found == {"case": "a", "pet": case["pet"], "label": case["label"]}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "empty"),
        ({}, "no list 'training'"),
        ([{"case": "../a", "pet": "pet.nii.gz", "label": "label.nii.gz"}], "malformed"),
        ([{"case": "a", "label": "label.nii.gz"}], r"missing \['pet'\]"),
        ([{"case": "a", "pet": "pet.nii.gz"}], r"missing \['label'\]"),
        ([{"case": "a", "pte": "x", "pet": "pet.nii.gz", "label": "label.nii.gz"}], "'pte'"),
        ([{"case": "a", "pet": "gone.nii.gz", "label": "label.nii.gz"}], "'pet' is not at 'gone"),
    ],
)
def test_wrong_datalists_are_refused(
    case: dict[str, str], tmp_path: Path, entries: object, message: str
) -> None:
    path = write_datalist(tmp_path, entries)
    with pytest.raises(BundleError, match=f"E_DATALIST.*{message}"):
        load_datalist(path, "training", tmp_path, ORDER, ["pet"])


def test_cases_are_found_by_layout(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pet.nii.gz").touch()
    (tmp_path / "a" / "ct.nii").touch()
    (tmp_path / "notes").mkdir()
    found = find_cases(tmp_path, ORDER, ["pet"])
    assert [c["case"] for c in found] == ["a", "b"]
    assert set(found[0]) == {"case", "pet", "ct"}
    (tmp_path / "a" / "ct.nii.gz").touch()
    with pytest.raises(StudyError, match="E_AMBIGUOUS"):
        find_cases(tmp_path, ORDER, ["pet"])
    with pytest.raises(StudyError, match=r"E_MISSING_MODALITY.*case a lacks mr_t1"):
        find_cases(tmp_path, ["pet", "mr_t1"], ["mr_t1", "pet"])
    with pytest.raises(StudyError, match="E_EMPTY"):
        find_cases(tmp_path / "notes", ORDER, ["pet"])
    with pytest.raises(UsageError, match="E_PATH"):
        find_cases(tmp_path / "nowhere", ORDER, ["pet"])
