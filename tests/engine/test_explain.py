"""Contributions: the network's own weights, through the same windows, that sum to 1."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from differseg_med.bundle import find_bundle, load_predictor
from differseg_med.data import Stack
from differseg_med.engine import CaseOptions, segment_case
from differseg_med.engine._contributions import summarize_contributions
from differseg_med.engine._predict import can_explain, explain, predict
from differseg_med.errors import ModelError, UsageError
from differseg_med.geometry import Grid, Volume

MODALITIES = ("pet", "ct", "mr_t1")


class Shares:
    """Half of the foreground is where the PET is above 3; the PET has a quarter of the weight."""

    modalities = MODALITIES
    required = ("pet",)
    reference = "pet"
    spacing = (4.0, 4.0, 4.0)
    window = (16, 16, 16)
    min_overlap = {"mr_t1": 0.01}  # noqa: RUF012 - stands for an instance's attribute
    calls: list[str] = []  # noqa: RUF012 - shared on purpose

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.calls.append("call")
        return torch.sigmoid(4 * (image[:, :1] - 3))

    def explain(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probability = self(image)
        weights = torch.tensor([0.25, 0.75, 0.0]).view(1, 3, 1, 1, 1)
        return probability, weights.expand(1, 3, *image.shape[2:])


class Mute(Shares):
    explain = None


def stack(size: int, *, absent: tuple[int, ...] = ()) -> Stack:
    image = torch.rand(3, size, size, size, generator=torch.Generator().manual_seed(1)).numpy() * 9
    image[list(absent)] = np.nan
    grid = Grid((size,) * 3, np.diag([4.0, 4.0, 4.0, 1.0]))
    return Stack(image, grid, grid, MODALITIES, tuple(m not in absent for m in range(3)))


def test_one_pass_gives_the_same_probability_and_weights(tiny_bundle: Path) -> None:
    """The image is larger than the window, so that windows are blended; CT is absent."""
    predictor = load_predictor(find_bundle(tiny_bundle), trust=True)
    image = stack(24, absent=(1,))
    probability, contributions = explain(image, predictor)
    np.testing.assert_array_equal(probability.array, predict(image, predictor).array)
    weights = np.stack([contributions[name].array for name in MODALITIES])
    np.testing.assert_allclose(weights.sum(0), 1.0, atol=1e-6)
    assert not weights[1].any()
    assert weights[0].std() > 0


def test_weights_are_the_mean_of_the_networks_levels(tiny_bundle: Path) -> None:
    """One window, levels enlarged by hand: by a whole factor, linear interpolation is exact."""
    predictor = load_predictor(find_bundle(tiny_bundle), trust=True)
    image = stack(16)
    _, contributions = explain(image, predictor)
    prepared = predictor._prepare({"image": torch.from_numpy(image.image)})["image"]
    with torch.inference_mode():
        _, levels = predictor._network.explain(prepared[None])
    total = np.zeros((3, 16, 16, 16))
    for level in levels:
        array = level[0].double().numpy()
        for axis in (1, 2, 3):
            n = array.shape[axis]
            at = np.clip((np.arange(16) + 0.5) * n / 16 - 0.5, 0, n - 1)
            low = np.minimum(at.astype(int), max(n - 2, 0))
            part = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
            high = np.minimum(low + 1, n - 1)
            array = array.take(low, axis) * (1 - part) + array.take(high, axis) * part
        total += array / len(levels)
    for m, name in enumerate(MODALITIES):
        np.testing.assert_allclose(contributions[name].array, total[m], atol=1e-5)


def test_means_are_weighted_by_the_mask() -> None:
    """Four voxels along x: weights 0.9 and 0.1 in halves, the mask is the first voxel."""
    grid = Grid((4, 1, 1), np.eye(4))
    first = np.array([0.9, 0.9, 0.1, 0.1], np.float32).reshape(4, 1, 1)
    weights = {"pet": Volume(first, grid), "ct": Volume(1 - first, grid)}
    mask = Volume(np.array([1, 0, 0, 0], np.uint8).reshape(4, 1, 1), grid)
    assert summarize_contributions(weights, mask) == {
        "pet": {"mask": 0.9, "rest": 0.3667},
        "ct": {"mask": 0.1, "rest": 0.6333},
    }
    empty = Volume(np.zeros((4, 1, 1), np.uint8), grid)
    assert summarize_contributions(weights, empty)["pet"] == {"mask": None, "rest": 0.5}


def test_files_lie_on_the_references_grid_and_are_recorded(
    nifti_study: Path, tmp_path: Path
) -> None:
    Shares.calls.clear()
    result = segment_case(
        nifti_study, Shares(), tmp_path, CaseOptions(formats=("nifti", "explain"))
    )
    assert Shares.calls == ["call"]
    files = [f"contribution_{name}.nii.gz" for name in MODALITIES]
    status = json.loads((result.folder / "status.json").read_text())
    assert sorted(status["outputs"]) == sorted([*files, "mask.nii.gz"])
    reference = nib.load(nifti_study / "pet.nii.gz")
    for file, share in zip(files, (0.25, 0.75, 0.0), strict=True):
        image = nib.load(result.folder / file)
        np.testing.assert_array_equal(image.affine, reference.affine)
        np.testing.assert_allclose(np.asarray(image.dataobj), np.full(reference.shape, share))
    assert status["result"]["contributions"] == {
        "pet": {"mask": 0.25, "rest": 0.25},
        "ct": {"mask": 0.75, "rest": 0.75},
        "mr_t1": {"mask": 0.0, "rest": 0.0},
    }


def test_nothing_is_explained_where_nobody_asks(nifti_study: Path, tmp_path: Path) -> None:
    result = segment_case(nifti_study, Shares(), tmp_path)
    assert "contributions" not in result.status["result"]


def test_a_predictor_that_cannot_tell_is_refused_before_it_computes(
    nifti_study: Path, tmp_path: Path
) -> None:
    assert not can_explain(Mute())
    Shares.calls.clear()
    with pytest.raises(UsageError, match=r"E_OPTION: format explain needs a network"):
        segment_case(nifti_study, Mute(), tmp_path, CaseOptions(formats=("explain",)))
    assert Shares.calls == []


@pytest.mark.parametrize(
    "spoil",
    [lambda w: w * 0.9, lambda w: w.flip(1), lambda w: w * float("nan"), lambda w: w[:, :2]],
    ids=["sum", "absent has weight", "NaN", "shape"],
)
def test_weights_that_are_none_are_refused(spoil: Callable) -> None:
    class Wrong(Shares):
        def explain(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            probability, weights = super().explain(image)
            return torch.nan_to_num(probability), spoil(weights)

    with pytest.raises(ModelError, match="E_INTERNAL"):
        explain(stack(8, absent=(2,)), Wrong())


def test_a_bundle_of_another_network_cannot_explain(
    copy_bundle: Callable[[Path], Path], tmp_path: Path
) -> None:
    import yaml
    from monai.networks.nets import SegResNet

    folder = copy_bundle(tmp_path / "other")
    path = folder / "configs/inference.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    options = {"spatial_dims": 3, "in_channels": 3, "out_channels": 1, "init_filters": 8}
    config["network_def"] = {"_target_": "SegResNet", **options}
    path.write_text(yaml.safe_dump(config), "utf-8")
    shutil.rmtree(folder / "models")
    (folder / "models").mkdir()
    torch.save(SegResNet(**options).state_dict(), folder / "models/model.pt")
    assert not can_explain(load_predictor(find_bundle(folder), trust=True))


def test_a_network_of_slices_explains_a_volume(copy_bundle: Callable[[Path], Path]) -> None:
    """Slices of a volume go through a 2D network one by one, and its maps come back as a volume."""
    from monai.inferers import SlidingWindowInferer

    from differseg_med.bundle._explain import run_explained
    from differseg_med.data import SliceInferer, SliceView
    from differseg_med.networks import DifferSeg

    torch.manual_seed(0)
    network = DifferSeg(spatial_dims=2, in_channels=[1, 1], size="tiny").eval()
    window = SlidingWindowInferer(roi_size=(16, 16), overlap=0.25, mode="gaussian")
    inferer = SliceInferer(SliceView(channels=(1, 1)), window)
    image = torch.rand(1, 2, 24, 16, 3)
    with torch.inference_mode():
        logits, maps = run_explained(network, inferer, image)
        np.testing.assert_array_equal(logits, inferer(image, network))
    assert maps.shape == (1, 2, 24, 16, 3)
    np.testing.assert_allclose(maps.sum(1), 1.0, atol=1e-5)
