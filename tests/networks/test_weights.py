"""The authors' checkpoints: every name has its place, and nothing else is taken."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from differseg_med.errors import BundleError
from differseg_med.networks import (
    DifferentialPerceptionFusion,
    DifferSeg,
    FrequencyGuidedDecoder,
    HieraEncoder,
    ReceptiveFieldBlock,
    load_authors_weights,
    load_sam2_trunk,
)

CHANNELS = (8, 8, 16, 32)


class _Authors(dict[str, Tensor]):
    """A state dict in the authors' layout, written down layer by layer."""

    def conv(self, name: str, out: int, inner: int, *kernel: int, bias: bool = True) -> None:
        self[f"{name}.weight"] = torch.randn(out, inner, *(kernel or (1, 1)))
        if bias:
            self[f"{name}.bias"] = torch.randn(out)

    def norm(self, name: str, channels: int) -> None:
        for key in ("weight", "bias", "running_mean"):
            self[f"{name}.{key}"] = torch.randn(channels)
        self[f"{name}.running_var"] = torch.rand(channels) + 0.5
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def basic(self, name: str, out: int, inner: int, *kernel: int) -> None:
        self.conv(f"{name}.conv", out, inner, *kernel, bias=False)
        self.norm(f"{name}.bn", out)

    def receptive(self, name: str, inner: int, c: int) -> None:
        self.basic(f"{name}branch0.0", c, inner, 1, 1)
        for i, k in enumerate((3, 5, 7), 1):
            shapes = ((inner, 1, 1), (c, 1, k), (c, k, 1), (c, 3, 3))
            for j, shape in enumerate(shapes):
                self.basic(f"{name}branch{i}.{j}", c, *shape)
        self.basic(f"{name}conv_cat", c, 4 * c, 3, 3)
        self.basic(f"{name}conv_res", c, inner, 1, 1)

    def fusion(self, name: str, c: int) -> None:
        for operator in ("diff_x", "diff_y", "laplacian"):
            self[f"{name}learnable_{operator}"] = torch.randn(1, 1, 3, 3)
        self.conv(f"{name}rgb_proj", c, c)
        self.conv(f"{name}depth_proj", c, c)
        self.conv(f"{name}complementarity_net.0", c, 2 * c, 3, 3)
        self.norm(f"{name}complementarity_net.1", c)
        self.conv(f"{name}complementarity_net.3", 2, c)
        for net, inner, last in (("fusion_net", 3 * c, (3, 3)), ("integration_net", 2 * c, (1, 1))):
            self.conv(f"{name}{net}.0", c, inner, 3, 3)
            self.norm(f"{name}{net}.1", c)
            self.conv(f"{name}{net}.3", c, c, *last)
            self.norm(f"{name}{net}.4", c)

    def decoder(self, name: str, channels: tuple[int, ...]) -> None:
        for i, c in enumerate(channels):
            self._split(f"{name}freq_decomposers.{i}.", c)
            attention = f"{name}scale_attention."
            for band in ("low", "high"):
                self.conv(f"{attention}{band}_freq_attention.{i}.1", c // 8, c)
                self.conv(f"{attention}{band}_freq_attention.{i}.3", c, c // 8)
            self.conv(f"{attention}freq_interaction.{i}.0", c, 8, 3, 3)
            self.norm(f"{attention}freq_interaction.{i}.1", c)
            self.conv(f"{attention}freq_interaction.{i}.3", c, c)
        for i, (inner, c) in enumerate(itertools.pairwise(channels)):
            self._rise(f"{name}freq_guided_upsamplers.{i}.", inner, c)
        last = channels[-1]
        self.conv(f"{name}freq_balancer.weight_predictor.0", last // 4, 2 * last)
        self.conv(f"{name}freq_balancer.weight_predictor.2", 2, last // 4)
        self.conv(f"{name}freq_balancer.final_fusion.0", last, 2 * last, 3, 3)
        self.norm(f"{name}freq_balancer.final_fusion.1", last)
        self.conv(f"{name}freq_balancer.final_fusion.3", last, last)

    def _split(self, name: str, c: int) -> None:
        for k in (3, 5, 7):
            self.conv(f"{name}low_pass_{k}x{k}", c, 1, k, k)
        for block in ("low_freq_attention", "low_freq_fusion"):
            self.conv(f"{name}{block}.0", c, 3 * c)
            self.norm(f"{name}{block}.1", c)
        self.conv(f"{name}low_freq_attention.3", 3, c)
        for i, k in enumerate((1, 3, 5)):
            self.conv(f"{name}high_freq_branches.{i}.0", c // 4, c, k, k)
            self.norm(f"{name}high_freq_branches.{i}.1", c // 4)
        self.conv(f"{name}high_freq_fusion.0", c, 3 * (c // 4))
        self.norm(f"{name}high_freq_fusion.1", c)

    def _rise(self, name: str, inner: int, c: int) -> None:
        for band in ("low", "high"):
            for i, k in enumerate((1, 3, 5)):
                path = f"{name}{band}_upsamplers.{i}"
                self[f"{path}.0.weight"] = torch.randn(inner, c, 4, 4)
                self[f"{path}.0.bias"] = torch.randn(c)
                self.norm(f"{path}.1", c)
                self.conv(f"{name}{band}_transforms.{i}", c, 4, k, k)
        self.conv(f"{name}path_selector.1", c // 2, 6 * c)
        self.conv(f"{name}path_selector.3", 6, c // 2)
        self.conv(f"{name}detail_recovery.0", c, 4 * c, 3, 3)
        self.norm(f"{name}detail_recovery.1", c)
        self.conv(f"{name}detail_recovery.3", c, c, 3, 3)
        self.norm(f"{name}detail_recovery.4", c)
        self.conv(f"{name}detail_recovery.6", c, c)

    def head(self, name: str, c: int) -> None:
        self.conv(f"{name}.0", c, 1, 3, 3)
        self.norm(f"{name}.1", c)
        self.conv(f"{name}.3", 1, c)

    def linear(self, name: str, out: int, inner: int) -> None:
        self[f"{name}.weight"], self[f"{name}.bias"] = torch.randn(out, inner), torch.randn(out)

    def trunk(self, width: int, blocks: tuple[int, ...]) -> None:
        """SAM 2's tiny Hiera under its own names, every block inside an adapter."""
        self["encoder.pos_embed"] = torch.randn(1, width, 7, 7)
        self["encoder.pos_embed_window"] = torch.randn(1, width, 8, 8)
        self.conv("encoder.patch_embed.proj", width, 3, 7, 7)
        dims = [width * 2**stage for stage, count in enumerate(blocks) for _ in range(count)]
        for i, out in enumerate(dims):
            inner = dims[max(i - 1, 0)]
            name = f"encoder.blocks.{i}."
            self.linear(f"{name}prompt_learn.0", 32, inner)
            self.linear(f"{name}prompt_learn.2", inner, 32)
            for norm, size in (("norm1", inner), ("norm2", out)):
                self[f"{name}block.{norm}.weight"] = torch.randn(size)
                self[f"{name}block.{norm}.bias"] = torch.randn(size)
            self.linear(f"{name}block.attn.qkv", 3 * out, inner)
            self.linear(f"{name}block.attn.proj", out, out)
            self.linear(f"{name}block.mlp.layers.0", 4 * out, out)
            self.linear(f"{name}block.mlp.layers.1", out, 4 * out)
            if inner != out:
                self.linear(f"{name}block.proj", out, inner)


def _whole(modalities: int) -> _Authors:
    torch.manual_seed(0)
    state = _Authors()
    state.trunk(96, (1, 2, 7, 2))
    for i, c in enumerate(CHANNELS, 1):
        state.receptive(f"rfb{i}.", 96 * 2 ** (i - 1), c)
        state.head(f"predtrans{i}", c)
        if modalities > 1:
            state.fusion(f"dpf{i}.", c)
    state.decoder("freq_decoder.", CHANNELS[::-1])
    return state


def _network(modalities: int) -> DifferSeg:
    pytest.importorskip("transformers")
    return DifferSeg(
        2,
        [3, 1][:modalities],
        size="paper",
        encoder_options={"variant": "tiny"},
        decoder_channels=CHANNELS,
    ).eval()


@pytest.mark.parametrize("modalities", [1, 2])
def test_whole_checkpoints_find_every_place(modalities: int, tmp_path: Path) -> None:
    network, state = _network(modalities), _whole(modalities)
    torch.save({"epoch": 3, "model_state_dict": dict(state)}, tmp_path / "latest.pth")
    load_authors_weights(network, tmp_path / "latest.pth")
    trunk = network.encode.encoder
    block = trunk.trunk.blocks[3]
    assert torch.equal(trunk.adapters[1][2].weight, state["encoder.blocks.1.prompt_learn.2.weight"])
    assert torch.equal(block.mlp.proj_out.bias, state["encoder.blocks.3.block.mlp.layers.1.bias"])
    assert torch.equal(network.side_heads[1].layers[3].weight, state["predtrans3.3.weight"])
    decoder = FrequencyGuidedDecoder(2, CHANNELS[::-1])
    load_authors_weights(decoder, _under(state, "freq_decoder."))
    for name, tensor in decoder.state_dict().items():
        assert torch.equal(network.decode.state_dict()[name], tensor), name


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def test_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    """safetensors sorts by name, and "depth" comes before "rgb"."""
    state = _Authors()
    state.fusion("", 4)
    first, second = (DifferentialPerceptionFusion(2, 4, 2) for _ in range(2))
    load_authors_weights(first, state)
    save_file(state, tmp_path / "fusion.safetensors")
    load_authors_weights(second, tmp_path / "fusion.safetensors")
    assert torch.equal(first.project.weight[:4], state["rgb_proj.weight"])
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


def test_a_bias_before_a_norm_is_folded_exactly() -> None:
    network, state = _network(1), _whole(1)
    load_authors_weights(network, state)
    conv = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
    conv.load_state_dict(_under(state, "predtrans1.0."))
    norm = torch.nn.BatchNorm2d(8)
    norm.load_state_dict(_under(state, "predtrans1.1."))
    x = torch.randn(2, 8, 5, 5)
    for training in (False, True):
        ours = network.head.layers[:2].train(training)
        torch.testing.assert_close(ours(x), norm.train(training)(conv(x)))


def test_the_trunk_of_a_sam2_checkpoint_is_loaded_and_adapters_stay() -> None:
    pytest.importorskip("transformers")
    encoder = HieraEncoder(variant="tiny")
    adapters = {name: tensor.clone() for name, tensor in encoder.adapters.state_dict().items()}
    state = {
        name.replace("encoder.", "image_encoder.trunk.").replace(".block.", "."): tensor
        for name, tensor in _whole(1).items()
        if name.startswith("encoder.") and "prompt_learn" not in name
    }
    load_sam2_trunk(encoder, state | {"memory_encoder.x": torch.zeros(1)})
    expected = state["image_encoder.trunk.blocks.1.attn.qkv.weight"]
    assert torch.equal(encoder.trunk.blocks[1].attn.qkv.weight, expected)
    for name, tensor in encoder.adapters.state_dict().items():
        assert torch.equal(tensor, adapters[name])
    with pytest.raises(BundleError, match="E_WEIGHTS: the SAM 2 weights do not fit"):
        load_sam2_trunk(HieraEncoder(variant="small"), state)


def test_missing_unexpected_and_misshaped_tensors_are_listed() -> None:
    state = _Authors()
    state.receptive("", 6, 4)
    state["extra.weight"] = state.pop("branch0.0.conv.weight")
    state["conv_res.conv.weight"] = torch.zeros(4, 5, 1, 1)
    block = ReceptiveFieldBlock(2, 6, 4)
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    with pytest.raises(BundleError, match="E_WEIGHTS") as caught:
        load_authors_weights(block, state)
    message = str(caught.value)
    assert "1 missing: branches.0.0.weight" in message
    assert "1 unexpected: extra.weight" in message
    assert "shortcut.0.weight (4, 5, 1, 1) instead of (4, 6, 1, 1)" in message
    assert all(torch.equal(before[name], tensor) for name, tensor in block.state_dict().items())


def test_another_norm_is_refused() -> None:
    state = _Authors()
    state.receptive("", 6, 4)
    with pytest.raises(BundleError, match=r"unexpected: .*running_mean.* and \d+ more"):
        load_authors_weights(ReceptiveFieldBlock(2, 6, 4, norm="instance"), state)


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_files_that_hold_code_or_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = ReceptiveFieldBlock(2, 6, 4)
    torch.save({"state_dict": _Harm()}, tmp_path / "harm.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.safetensors").write_text("no tensors", encoding="utf-8")
    for name in ("harm.pth", "list.pth", "text.safetensors", "none.pth"):
        with pytest.raises(BundleError, match=rf"E_WEIGHTS.*{name}"):
            load_authors_weights(block, tmp_path / name)
    assert "executed" not in capsys.readouterr().out


def test_modules_that_the_authors_do_not_have_are_refused() -> None:
    with pytest.raises(BundleError, match="E_WEIGHTS: the authors have no Linear"):
        load_authors_weights(torch.nn.Linear(2, 2), {})
