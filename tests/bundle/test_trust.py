"""A bundle of unknown origin runs when it asks for what is listed and nothing else."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from differseg_med.bundle import find_bundle, load_predictor
from differseg_med.errors import BundleError

EVIL = "$__import__('os').system('touch ran')"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle as a user would have it who trained from the template, run in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return shutil.copytree(tiny_bundle, tmp_path / "mine")


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "configs/inference.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


def refused(folder: Path, code: str = "E_TRUST") -> str:
    """The line that says what is refused; nothing of the bundle ran."""
    with pytest.raises(BundleError, match=code) as caught:
        load_predictor(find_bundle(folder))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert not list(Path().iterdir())
    return text


def test_what_a_user_trained_from_the_template_runs(bundle: Path) -> None:
    edit(bundle, lambda c: c.update(seed=20240101, overlap=0.5))
    predictor = load_predictor(find_bundle(bundle))
    assert predictor(torch.rand(1, 3, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def test_a_network_of_monai_runs(bundle: Path) -> None:
    network = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 3, "out_channels": 1}
    network |= {"channels": [4, 8], "strides": [2]}
    edit(bundle, lambda c: c.update(network_def=network))
    from monai.networks.nets import UNet

    network.pop("_target_")
    torch.save(UNet(**network).state_dict(), bundle / "models/model.pt")
    assert load_predictor(find_bundle(bundle))(torch.rand(1, 3, 16, 16, 16)).isfinite().all()


def test_every_bundle_of_the_distribution_passes_its_own_walk() -> None:
    from differseg_med.bundle import list_bundles
    from differseg_med.bundle._trust import check_bundle

    checked = [
        check_bundle(b) for b in list_bundles() if (b.root / "configs/inference.yaml").exists()
    ]
    assert checked


def put(*keys: Any, value: Any) -> Callable[[dict], None]:
    """Sets a value at a place in a configuration."""

    def change(config: Any) -> None:
        for key in keys[:-1]:
            config = config[key]
        if isinstance(config, list):
            config.append(value)
        else:
            config[keys[-1]] = value

    return change


SYSTEM = {"_target_": "os.system", "command": "touch ran"}


@pytest.mark.parametrize(
    ("change", "place", "what"),
    [
        (put("network_def", value=SYSTEM), "network_def::_target_", "os.system"),
        (put("anything", value=SYSTEM), "anything::_target_", "os.system"),
        (put("anything", value=[[[SYSTEM]]]), "anything::0::0::0::_target_", "os.system"),
        (
            put("network_def", "encoder_options", value={"a": SYSTEM}),
            "encoder_options::a",
            "os.system",
        ),
        (
            put("network_def", "_target_", value="DIFFERSEG_MED.networks.DifferSeg"),
            "_target_",
            "DIFF",
        ),
        (put("network_def", "_target_", value=" UNet"), "_target_", "UNet"),
        (put("network_def", "_target_", value="@name"), "_target_", "@name"),
        (put("network_def", "_target_", value=EVIL), "_target_", "system"),
        (put("network_def", "_target_", value=["os.system"]), "_target_", "os.system"),
        (
            put("network_def", "_target_", value="differseg_med.networks._layers.torch"),
            "_target_",
            "la",
        ),
        (put("network_def", "_target_", value="subprocess.run"), "_target_", "subprocess"),
        (put("network_def", "_mode_", value="debug"), "_mode_", "key"),
        (put("network_def", "_mode_", value="callable"), "_mode_", "key"),
        (put("network_def", "_requires_", value=[EVIL]), "_requires_", "key"),
        (put("network_def", "_disabled_", value=True), "_disabled_", "key"),
        (put("network_def", "__class__", value=1), "__class__", "key"),
        (put("imports", None, value="$import os"), "imports::5", "import os"),
        (put("imports", None, value="$import monai, os"), "imports::5", "import monai, os"),
        (put("anything", value="$import os as bundle"), "anything", "import os"),
        (put("device", value=EVIL), "device", "__import__"),
        (put("device", value=" " + EVIL), "device", "__import__"),
        (
            put("device", value="$torch.device('cuda' if torch.cuda.is_available() else 'cpu') "),
            "de",
            "$",
        ),
        (put("channels", value=[1, 1, EVIL]), "channels::2", "__import__"),
        (put("prepare", "keys", value=["image", [[EVIL]]]), "prepare::keys::1::0::0", "__import__"),
        (put("seed", value="@x" + EVIL), "seed", "__import__"),
        (put("seed", value="@a.__class__"), "seed", "reference"),
        (put("seed", value="%/etc/passwd.json#a"), "seed", "macro"),
        (put("seed", value="a %other.yaml#b"), "seed", "macro"),
        (put("a#b", value=1), "a#b", "key"),
        (put("network_def::_target_", value="os.system"), "network_def::_target_", "key"),
        (put("+imports", value=["$import os"]), "+imports", "key"),
        (put("$import os", value=1), "$import os", "key"),
        (put(3, value=1), "3", "key"),
        (put("_meta_", value={"a": EVIL}), "_meta_", "key"),
        (put("output_dir", value="/etc"), "output_dir", "out of the bundle"),
        (put("output_dir", value="../other"), "output_dir", "out of the bundle"),
        (put("output_dir", value="a/../../b"), "output_dir", "out of the bundle"),
        (put("output_dir", value="~/a"), "output_dir", "out of the bundle"),
        (put("output_dir", value="C:\\a"), "output_dir", "out of the bundle"),
        (put("output_dir", value="\\\\host\\a"), "output_dir", "out of the bundle"),
        (put("output_dir", value="https://example.org/a"), "output_dir", "out of the bundle"),
        (put("network_def", "in_channels", value=[10**6] * 3), "in_channels::0", "4096"),
        (put("seed", value=10**30), "seed", "a number over"),
        (put("network_def", "act", value="@evaluator"), "key", "E_TRUST"),
        (put("network_def", "size", value="@run"), "key", "E_TRUST"),
        (put("channels", value="@ckpt_path"), "key", "expression"),
        (put("patch_size", value=[2048, 2048, 2048]), "inference.yaml", "window"),
        (put("a", value=[0] * 30_000), "inference.yaml", "20000"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_an_attack_is_refused_with_file_key_and_what(
    bundle: Path, change: Callable[[dict], None], place: str, what: str
) -> None:
    edit(bundle, change)
    text = refused(bundle)
    assert "inference.yaml" in text
    assert place in text
    assert what in text
    assert "--trust-bundle" in text


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("a: !!python/object/apply:os.system [touch ran]", "E_TRUST"),
        ("a: !evil b", "E_TRUST"),
        ("a: !!str b", "E_TRUST"),
        ("a: &x 1\nb: *x", "E_TRUST"),
        ("a: &x [*x]", "E_TRUST"),
        ("a: &x {_target_: os.system}\nb: {<<: *x}", "E_TRUST"),
        ("a: {<<: {_target_: os.system}}", "E_TRUST"),
        ("a: " + "[" * 60 + "]" * 60, "E_TRUST"),
        ("a: " + "[" * 100_000, "E_TRUST"),
        ("a: " + "x" * 300_000, "E_TRUST"),
        ("a: 2024-01-01", "E_TRUST"),
        ("a: 0x" + "f" * 5000, "E_TRUST|E_CONFIG"),
        ("--- {}\n--- {}", "E_CONFIG"),
        ("a: \0", "E_CONFIG"),
        ("a: [", "E_CONFIG"),
    ],
    ids=lambda text: text[:30].encode("unicode_escape").decode(),
)
def test_yaml_itself_is_no_way_in(bundle: Path, line: str, code: str) -> None:
    path = bundle / "configs/inference.yaml"
    path.write_text(f"{path.read_text()}\n{line}\n")
    refused(bundle, code)


def test_a_config_that_is_no_text_or_no_mapping_is_refused(bundle: Path) -> None:
    path = bundle / "configs/inference.yaml"
    for raw in (b"\xff\xfe\x00", b"[1, 2]", b"", b"text"):
        path.write_bytes(raw)
        refused(bundle, "E_CONFIG")


@pytest.mark.parametrize("value", [EVIL, "$import os", "%x.json", "@network_def", "  $import os"])
def test_the_metadata_is_data(bundle: Path, value: str) -> None:
    path = bundle / "configs/metadata.json"
    metadata = json.loads(path.read_text())
    metadata["eval_metrics"] = {"dice": [1, {"note": value}]}
    path.write_text(json.dumps(metadata))
    assert "metadata.json: key 'eval_metrics::dice::1::note'" in refused(bundle)


@pytest.mark.parametrize("key", ["_target_", "a#b", "a::b", "$x", ""])
def test_keys_of_the_metadata_are_names(bundle: Path, key: str) -> None:
    path = bundle / "configs/metadata.json"
    metadata = json.loads(path.read_text())
    metadata["eval_metrics"] = {key: "os.system"}
    path.write_text(json.dumps(metadata))
    assert "metadata.json" in refused(bundle)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": "' + "x" * 2_000_000 + '"}'])
def test_metadata_that_is_too_deep_or_too_large_is_refused(bundle: Path, text: str) -> None:
    (bundle / "configs/metadata.json").write_text(text)
    with pytest.raises(BundleError, match="E_METADATA"):
        find_bundle(bundle)


def test_only_our_own_logging_configuration_is_let_through(bundle: Path, root: Path) -> None:
    """`logging.config.fileConfig` evaluates ``args``."""
    path = bundle / "configs/logging.conf"
    path.write_text((root / "bundles/sts_petctmr/configs/logging.conf").read_text())
    load_predictor(find_bundle(bundle))
    path.write_text(path.read_text().replace("sys.stdout", "__import__('os').system('touch ran')"))
    assert "logging.conf" in refused(bundle)


@pytest.mark.parametrize("name", ["configs/inference.yaml", "models/model.pt", "docs", "models/x"])
def test_links_out_of_the_bundle_are_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    path = bundle / name
    if path.exists():
        path.rename(outside)
    else:
        outside.mkdir()
    path.symlink_to(outside)
    assert f"'{name}'" in refused(bundle)


def test_links_inside_the_bundle_are_fine_and_those_to_nowhere_are_not(bundle: Path) -> None:
    (bundle / "models/model.pt").rename(bundle / "models/best.pt")
    (bundle / "models/model.pt").symlink_to("best.pt")
    load_predictor(find_bundle(bundle))
    (bundle / "loop").symlink_to("loop")
    refused(bundle)


def test_what_was_walked_is_what_is_built(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that is exchanged between check and use has no effect."""
    from differseg_med.bundle import _load

    check = _load.check_bundle

    def exchange(info: Any) -> Any:
        walked = check(info)
        edit(bundle, put("network_def", value=SYSTEM))
        return walked

    monkeypatch.setattr(_load, "check_bundle", exchange)
    load_predictor(find_bundle(bundle))
    assert not list(Path().iterdir())


def test_a_network_larger_than_its_weights_takes_no_memory(bundle: Path) -> None:
    network = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 3, "out_channels": 1}
    network |= {"channels": [4096, 4096, 4096], "strides": [2, 2]}
    edit(bundle, lambda c: c.update(network_def=network))
    assert "the network has" in refused(bundle, "E_WEIGHTS")


def test_trust_runs_the_bundle_as_it_is(bundle: Path) -> None:
    edit(bundle, put("device", value="$__import__('torch').device('cpu')"))
    refused(bundle)
    load_predictor(find_bundle(bundle), trust=True)


class _Code:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def pickled(path: Path) -> None:
    torch.save({"a": _Code()}, path)


def old_format(path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": _Code()}))


def packed(path: Path) -> None:
    """A kilobyte that would unpack to a megabyte."""
    torch.save({"a": torch.zeros(1 << 18)}, path)
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)


def foreign_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("../../evil", "x")


@pytest.mark.parametrize("write", [pickled, old_format, plain_pickle, packed, foreign_zip])
def test_weights_that_are_more_than_tensors_are_refused(
    bundle: Path, write: Callable[[Path], None]
) -> None:
    write(bundle / "models/model.pt")
    refused(bundle, "E_WEIGHTS")


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<Q", 2**62),
        struct.pack("<Q", 100) + b"{",
        struct.pack("<Q", 2) + b"{}",
        (lambda h: struct.pack("<Q", len(h)) + h)(
            b'{"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}'
        ),
        (lambda h: struct.pack("<Q", len(h)) + h + b"\0" * 8)(
            b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}'
        ),
        b"",
    ],
    ids=[
        "header beyond the file",
        "header cut",
        "no tensors",
        "tensor beyond",
        "shape lies",
        "empty",
    ],
)
def test_a_safetensors_header_that_lies_is_refused(bundle: Path, raw: bytes) -> None:
    (bundle / "models/model.safetensors").write_bytes(raw)
    refused(bundle, "E_WEIGHTS")


def test_weights_over_the_limit_are_refused_before_they_are_read(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from differseg_med.bundle import _weights

    save_file({"a": torch.zeros(100)}, bundle / "models/model.safetensors")
    monkeypatch.setattr(_weights, "MAX_WEIGHTS_BYTES", 100)
    assert re.search(r"has \d+ bytes, over 100", refused(bundle, "E_WEIGHTS"))


def test_sparse_file_of_a_terabyte_is_refused(bundle: Path) -> None:
    with (bundle / "models/model.pt").open("r+b") as file:
        file.truncate(1 << 40)
    assert "over" in refused(bundle, "E_WEIGHTS")
