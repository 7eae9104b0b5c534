"""A bundle becomes a predictor, or one line says which key or file is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from differseg_med.bundle import find_bundle, load_predictor
from differseg_med.errors import BundleError, UsageError

Copy = Callable[[Path], Path]


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((1, 3, 16, 13, 10), generator=generator) * 5


def load(folder: Path, **options):
    return load_predictor(find_bundle(folder), trust=True, **options)


def change(folder: Path, edit: Callable[[dict], object]) -> Path:
    path = folder / "configs/inference.yaml"
    config = yaml.safe_load(path.read_text())
    edit(config)
    path.write_text(yaml.safe_dump(config))
    return folder


def test_predictor_says_what_the_metadata_says(tiny_bundle: Path) -> None:
    info = find_bundle(tiny_bundle)
    predictor = load(tiny_bundle)
    assert predictor.modalities == info.modalities
    assert predictor.required == info.required
    assert predictor.spacing == info.spacing
    assert predictor.min_overlap == info.min_overlap
    config = yaml.safe_load((tiny_bundle / "configs/inference.yaml").read_text())
    assert list(predictor.window) == config["patch_size"]


def test_probability_is_the_networks_on_the_prepared_image(
    tiny_bundle: Path, image: torch.Tensor
) -> None:
    """The whole chain again by hand: window per modality, network, logistic function."""
    from differseg_med.networks import DifferSeg
    from differseg_med.transforms import NormalizeModalitiesd

    probability = load(tiny_bundle)(image)
    network = DifferSeg(spatial_dims=3, in_channels=[1, 1, 1], size="tiny").eval()
    network.load_state_dict(torch.load(tiny_bundle / "models/model.pt", weights_only=True))
    ready = NormalizeModalitiesd("image", ["pet", "ct", "mr_t1"])({"image": image[0]})["image"]
    window = np.array(load(tiny_bundle).window)
    pad = np.maximum(window - image.shape[2:], 0)
    sides = [int(n) for p in pad[::-1] for n in (p // 2, p - p // 2)]
    with torch.inference_mode():
        logits = network(torch.nn.functional.pad(ready[None], sides))
    cut = tuple(slice(p // 2, p // 2 + n) for p, n in zip(pad, image.shape[2:], strict=True))
    expected = 1 / (1 + np.exp(-logits.numpy()[0, 0][cut].astype(np.float64)))
    np.testing.assert_allclose(probability[0, 0].numpy(), expected, atol=1e-5)


def test_progress_is_shown_on_request(
    tiny_bundle: Path, image: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tiny_bundle)(image)
    assert capsys.readouterr() == ("", "")
    load(tiny_bundle, progress=True)(image)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "100%" in shown.err


def test_an_absent_modality_has_no_say(tiny_bundle: Path, image: torch.Tensor) -> None:
    predictor = load(tiny_bundle)
    absent = image.clone()
    absent[:, 1] = torch.nan
    first = predictor(absent)
    absent[:, 1, 3, 3, 3] = 700.0  # still declared absent by every other voxel
    assert torch.equal(first, predictor(absent))
    assert not torch.equal(first, predictor(image))


def test_safetensors_and_a_whole_checkpoint_give_the_same(
    tiny_bundle: Path, tmp_path: Path, image: torch.Tensor
) -> None:
    state = torch.load(tiny_bundle / "models/model.pt", weights_only=True)
    save_file(state, tmp_path / "model.safetensors")
    torch.save({"model": state, "epoch": 3}, tmp_path / "checkpoint.pt")
    expected = load(tiny_bundle)(image)
    for name in ("model.safetensors", "checkpoint.pt"):
        assert torch.equal(load(tiny_bundle, weights=tmp_path / name)(image), expected)


def test_a_foreign_bundle_needs_trust(copy_bundle: Copy, tmp_path: Path) -> None:
    folder = change(copy_bundle(tmp_path / "b"), lambda c: c.update(device="$torch.device('cpu')"))
    with pytest.raises(BundleError, match=r"E_TRUST.*--trust-bundle"):
        load_predictor(find_bundle(folder))
    load(folder)


def test_a_bundle_for_images_is_refused(copy_bundle: Copy, tmp_path: Path) -> None:
    path = copy_bundle(tmp_path / "b") / "configs/metadata.json"
    metadata = json.loads(path.read_text())
    metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] = ["8*n", "8*n"]
    path.write_text(json.dumps(metadata))
    with pytest.raises(BundleError, match=r"E_CONFIG: the bundle b is for pictures"):
        load(tmp_path / "b")


def test_a_bundle_without_weights_is_refused(copy_bundle: Copy, tmp_path: Path) -> None:
    folder = copy_bundle(tmp_path / "b")
    (folder / "models/model.pt").unlink()
    with pytest.raises(BundleError, match=r"E_WEIGHTS.*--weights"):
        load(folder)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": torch.zeros(1)}, "1 are foreign"),
        (torch.zeros(3), "holds Tensor"),
        (b"no checkpoint", "E_WEIGHTS: w.pt"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tiny_bundle: Path, tmp_path: Path, weights: object, message: str
) -> None:
    path = tmp_path / "w.pt"
    if isinstance(weights, bytes):
        path.write_bytes(weights)
    else:
        torch.save(weights, path)
    with pytest.raises(BundleError, match=message) as caught:
        load(tiny_bundle, weights=path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_size_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_bundle / "models/model.pt", weights_only=True)
    torch.save({name: tensor[..., None] for name, tensor in state.items()}, tmp_path / "w.pt")
    with pytest.raises(BundleError, match=r"E_WEIGHTS.*shapes differ"):
        load(tiny_bundle, weights=tmp_path / "w.pt")


def test_pickled_code_is_never_run(tiny_bundle: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"a": Trap()}, tmp_path / "w.pt")
    with pytest.raises(BundleError, match="E_WEIGHTS"):
        load(tiny_bundle, weights=tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("prepare"), "no key 'prepare'"),
        (lambda c: c["network_def"].update(sise="tiny"), "key 'network_def'.*sise"),
        (lambda c: c["network_def"].update(size="huge"), "E_NETWORK|key 'network_def'"),
        (lambda c: c["sliding_window"].update(_target_="NoSuchInferer"), "key 'inferer'"),
        (lambda c: c.update(network_def={"_target_": "builtins.dict"}), "not a network"),
    ],
)
def test_a_wrong_key_is_named_in_one_line(
    copy_bundle: Copy, tmp_path: Path, edit: Callable[[dict], object], message: str
) -> None:
    folder = change(copy_bundle(tmp_path / "b"), edit)
    with pytest.raises(BundleError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_no_yaml_or_not_there_is_refused(
    copy_bundle: Copy, tmp_path: Path
) -> None:
    path = copy_bundle(tmp_path / "b") / "configs/inference.yaml"
    path.write_text("a: [")
    with pytest.raises(BundleError, match=r"E_CONFIG: inference.yaml"):
        load(tmp_path / "b")
    path.unlink()
    with pytest.raises(BundleError, match="E_CONFIG"):
        load(tmp_path / "b")


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(tiny_bundle: Path, device: str) -> None:
    if device == "cuda:99" and torch.cuda.is_available():
        pytest.skip("torch reports a missing GPU index only when it is used")
    with pytest.raises(UsageError, match="E_OPTION"):
        load(tiny_bundle, device=device)


def test_weights_that_are_not_there_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="E_PATH"):
        load(tiny_bundle, weights=tmp_path / "none.pt")
