"""Options for ablation: other fusions, other decoders, single choices inside DPF and FGD."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from differseg_med.bundle._explain import explainable
from differseg_med.errors import ModelError
from differseg_med.networks import (
    ConcatenationFusion,
    DifferentialPerceptionFusion,
    DifferSeg,
    FrequencyGuidedDecoder,
    SummationFusion,
    UNetDecoder,
)

JOINT = ("streams", "product", "minimum")
OPTIONS: dict[str, dict[str, Any]] = {
    "concat": {"fusion": "concat", "decoder": "unet"},
    "concat-joint": {"fusion": "concat", "fusion_options": {"joint": JOINT[1:]}},
    "sum": {"fusion": "sum", "decoder": "unet"},
    "cascade": {"fusion": "concat", "decoder": "unet", "cascade": True},
    "joint": {"fusion_options": {"joint": JOINT, "blocks": "pointwise"}, "cascade": True},
    "deepened": {"fusion": "dpf", "decoder": "unet", "joint_from": 1},
    "offset": {"fusion_options": {"absence_offset": True}, "decoder": "unet", "joint_from": 1},
    "fixed": {
        "fusion_options": {"operators": "sobel", "learnable_operators": False, "residual": False},
        "decoder_options": {"learnable_constants": True},
    },
}


def _network(name: str, channels: tuple[int, ...] = (1, 2, 1)) -> DifferSeg:
    torch.manual_seed(0)
    small = {"encoder_options": {"channels": (8, 8), "blocks": (1, 1)}, "decoder_channels": (8, 8)}
    group = {"norm": ("group", {"num_groups": 4})}
    return DifferSeg(2, channels, size="tiny", **{**small, **group, **OPTIONS[name]})


@pytest.fixture(params=list(OPTIONS))
def network(request: pytest.FixtureRequest) -> DifferSeg:
    return _network(request.param)


def test_absent_content_cannot_change_the_output(network: DifferSeg) -> None:
    network.eval().requires_grad_(False)
    image, outputs = torch.randn(2, 4, 13, 10), []
    present = torch.tensor([[True, True, True], [True, False, True]])
    for content in (0.0, 1e6, float("inf"), float("nan")):
        image[1, 1:3] = content
        outputs.append(network(image, present))
    assert bool(outputs[0].isfinite().all())
    assert all(torch.equal(output, outputs[0]) for output in outputs[1:])


def test_every_parameter_is_trained(network: DifferSeg) -> None:
    image = torch.randn(2, 4, 13, 10)
    present = torch.ones(4, 3, dtype=torch.bool)
    present[1:] ^= torch.eye(3, dtype=torch.bool)  # every modality is absent once
    image = torch.cat([image, image])
    sum(output.square().mean() for output in network(image, present)).backward()
    wanted = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert not [name for name, grad in wanted.items() if grad is None or not bool(grad.any())]


@pytest.mark.parametrize("name", ["deepened", "offset", "joint", "fixed"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted(name: str) -> None:
    network = _network(name).eval().requires_grad_(False)
    scripted = torch.jit.script(network)
    image = torch.randn(2, 4, 17, 12)
    image[1, 1:3] = float("nan")
    torch.testing.assert_close(scripted(image), network(image))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(OPTIONS))
def test_exported(name: str) -> None:
    network = _network(name).eval().requires_grad_(False)
    image = torch.randn(2, 4, 24, 16)
    space = {axis: torch.export.Dim(f"space{axis}", min=9) for axis in (2, 3)}
    axes = {0: torch.export.Dim("batch"), **space}
    program = torch.export.export(network, (image,), dynamic_shapes={"x": axes}).module()
    other = torch.randn(3, 4, 17, 16)
    other[1, 1:3] = float("nan")
    torch.testing.assert_close(program(other), network(other), atol=1e-4, rtol=0)


def test_shipped_weights_fit_the_default_network(root: Path) -> None:
    network = DifferSeg(3, (1, 1, 1), size="joint")
    path = root / "bundles" / "sts_petctmr" / "models" / "model.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state.get("model", state))


def test_an_offset_marks_the_absent_and_them_alone() -> None:
    fusion = DifferentialPerceptionFusion(2, 4, 3, absence_offset=True).eval()
    x, present = torch.randn(2, 3, 4, 8, 8), torch.ones(2, 3, dtype=torch.bool)
    present[1, 1:] = False
    with torch.no_grad():
        before = fusion(x, present)
        assert fusion.offset is not None
        fusion.offset += torch.tensor([[1.0], [10.0], [100.0]])
        added = fusion(x, present) - before
    assert not bool(added[0].any())
    torch.testing.assert_close(added[1], torch.full_like(added[1], 110.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["concat", "sum"])
def test_fusions_without_maps_refuse_to_explain(name: str) -> None:
    network = _network(name).eval()
    assert not explainable(network)
    with pytest.raises(ModelError, match=r"E_NETWORK.*no maps"):
        network.explain(torch.randn(1, 4, 9, 9))
    assert explainable(_network("joint"))
    assert explainable(_network(name, channels=(2,)))


def test_deep_levels_see_the_fused_map_alone() -> None:
    network = _network("deepened").eval()
    image = torch.randn(2, 4, 13, 10)
    logits, maps = network.explain(image)
    assert [level.shape[1] for level in maps] == [3]
    features = network.encode(list(image.split((1, 2, 1), 1)))
    assert [f.shape[0] for f in features] == [6]
    fine = network.fuse[0](network.receive[0](features[0]).view(2, 3, 8, 7, 5))
    deep = network.receive[1](network.deepen[0](fine))
    found = network.head(network.decode([deep, fine]))
    torch.testing.assert_close(
        functional.interpolate(found, (13, 10), mode="bilinear", align_corners=True), logits
    )


def test_concatenation_by_its_formula() -> None:
    block = ConcatenationFusion(2, 4, 3, "batch", hidden_channels=2).double().eval()
    x = torch.randn(2, 3, 4, 6, 5, dtype=torch.float64)
    first, norm, act, last, last_norm = block.integrate

    def integrate(joined: Tensor) -> Tensor:
        hidden = functional.conv2d(joined, first.weight, padding=1)
        hidden = (hidden / (1 + norm.eps) ** 0.5).relu()
        return functional.conv2d(hidden, last.weight) / (1 + last_norm.eps) ** 0.5

    assert isinstance(act, nn.ReLU)
    torch.testing.assert_close(block(x), integrate(torch.cat(list(x.unbind(1)), 1)))
    zeros = torch.zeros_like(x[:, 0])
    shown = torch.cat([1.5 * x[:, 0], zeros, 1.5 * x[:, 2]], 1)
    present = torch.tensor([[True, False, True]]).expand(2, 3)
    torch.testing.assert_close(block(x, present), integrate(shown))


def test_summation_by_hand() -> None:
    block = SummationFusion(2, 1, 3)
    block.project.weight.data.fill_(1.0)
    block.project.bias.data.copy_(torch.tensor([0.0, 0.0, 10.0]))
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1)
    assert block(x).item() == 1 + 2 + 13
    assert block(x, torch.tensor([[True, True, False]])).item() == 4.5
    shares = block.explain(x, torch.tensor([[True, True, False]]))[1]
    assert shares.flatten().tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("present", "product", "minimum"),
    [
        ((True, True, True), 26.0, 2.0),
        ((False, True, True), 12.0, 3.0),
        ((True, False, False), 0, 2),
    ],
)
def test_joint_terms_by_hand(present: tuple[bool, ...], product: float, minimum: float) -> None:
    block = DifferentialPerceptionFusion(2, 1, 3, "batch", joint=JOINT).eval()
    flags = torch.tensor([present])
    values = torch.tensor([2.0, 3.0, 4.0]) * flags[0]
    found = [term(values.view(1, 3, 1, 1, 1), flags) for term in block.joint]
    assert found[0].flatten().tolist() == [float(v) * 3 / sum(present) for v in values]
    assert [found[1].item(), found[2].item()] == [product, minimum]


@pytest.mark.parametrize(
    ("kinds", "dims", "count"),
    [("both", 2, 3), ("sobel", 2, 2), ("sobel", 3, 3), ("laplacian", 3, 1)],
)
def test_kinds_of_operators(kinds: str, dims: int, count: int) -> None:
    every = DifferentialPerceptionFusion(dims, 4, 2).operators.kernels
    block = DifferentialPerceptionFusion(dims, 4, 2, operators=kinds)
    wanted = {"both": every, "sobel": every[:-1], "laplacian": every[-1:]}[kinds]
    assert len(block.operators.kernels) == count
    assert torch.equal(block.operators.kernels, wanted)
    assert block(torch.randn(1, 2, 4, *[5] * dims)).shape == (1, 4, *[5] * dims)


def test_start_and_training_of_operators() -> None:
    torch.manual_seed(0)
    zero = DifferentialPerceptionFusion(2, 4, 2, operator_start="zero")
    assert not zero.operators.kernels.any()
    assert zero.operators.kernels.requires_grad
    random = DifferentialPerceptionFusion(
        2, 4, 2, operator_start="random", learnable_operators=False
    )
    assert random.operators.kernels.unique().numel() == 27
    assert not random.operators.kernels.requires_grad
    assert "operators.kernels" in random.state_dict()


def test_without_residual_the_sum_of_the_streams_is_missing() -> None:
    torch.manual_seed(0)
    with_sum = DifferentialPerceptionFusion(2, 4, 2).eval()
    without = DifferentialPerceptionFusion(2, 4, 2, residual=False).eval()
    without.load_state_dict(with_sum.state_dict())
    x = torch.randn(1, 2, 4, 6, 6)
    streams = with_sum.project(x.flatten(1, 2)).view(x.shape)
    torch.testing.assert_close(with_sum(x) - without(x), streams.sum(1), atol=1e-5, rtol=0)


def test_constants_of_the_decoder_can_be_trained_and_start_where_they_stand() -> None:
    torch.manual_seed(0)
    fixed = FrequencyGuidedDecoder(2, [16, 8, 8]).eval()
    trained = FrequencyGuidedDecoder(2, [16, 8, 8], learnable_constants=True).eval()
    more = set(trained.state_dict()) - set(fixed.state_dict())
    levels = {"attentions.0.share", "attentions.1.share", "attentions.2.share", "balance.skip"}
    rises = {f"rises.{i}.{name}_share" for i in (0, 1) for name in ("coarse", "detail")}
    assert more == levels | rises
    trained.load_state_dict(fixed.state_dict(), strict=False)
    features = [torch.randn(1, c, n, n) for c, n in ((16, 3), (8, 6), (8, 11))]
    torch.testing.assert_close(trained(features), fixed(features))
    trained(features).square().mean().backward()
    assert all(bool(trained.get_parameter(name).grad.abs() > 0) for name in more)


def test_constants_are_where_the_formulas_have_them() -> None:
    torch.manual_seed(0)
    rise = FrequencyGuidedDecoder(2, [8, 8], coarse_share=0.25, detail=0.0).eval().rises[0]
    low, high, here_low, here_high = torch.randn(4, 1, 8, 5, 5).unbind(0)
    found = torch.stack(rise(low, high, here_low, here_high))
    rise.coarse_share = 1.0
    up = torch.stack(rise(low, high, here_low, here_high))
    torch.testing.assert_close(found, 0.25 * up + 0.75 * torch.stack([here_low, here_high]))


@pytest.mark.parametrize("dims", [2, 3])
def test_plain_decoder_by_its_formula(dims: int) -> None:
    torch.manual_seed(0)
    decoder = UNetDecoder(dims, [8, 4, 4], norm=("group", {})).eval()
    features = [torch.randn(1, c, *[n] * dims) for c, n in ((8, 3), (4, 6), (4, 11))]
    raise_ = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}[dims]
    x, mode = features[0], {2: "bilinear", 3: "trilinear"}[dims]
    for i, (deep, here) in enumerate(itertools.pairwise(features)):
        assert x.shape == deep.shape
        x = raise_(x, decoder.rises[i].weight, stride=2)
        x = functional.interpolate(x, here.shape[2:], mode=mode)
        x = decoder.blocks[i](torch.cat([x, here], 1))
    torch.testing.assert_close(decoder(features), x)
    assert [type(layer).__name__ for layer in decoder.blocks[0]].count(f"Conv{dims}d") <= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fusion": "max"}, "fusion is 'max', expected one of ['concat', 'dpf', 'sum']"),
        ({"fusion": "sum", "fusion_options": {"joint": ()}}, "fusion_options holds ['joint']"),
        ({"fusion_options": {"operators": "canny"}}, "operators is 'canny'"),
        ({"fusion_options": {"operator_start": "one"}}, "operator_start is 'one'"),
        ({"fusion_options": {"blocks": "wide"}}, "blocks is 'wide'"),
        ({"fusion_options": {"joint": ["maximum"]}}, "joint is 'maximum'"),
        ({"fusion_options": {"joint": "streams"}}, "expected names, each once"),
        ({"decoder": "unet", "decoder_options": {"skip": 1.0}}, "decoder_options holds ['skip']"),
        ({"joint_from": 0}, "joint_from is 0, expected 1 to 3"),
        ({"joint_from": 4}, "joint_from is 4, expected 1 to 3"),
        ({"joint_from": 1, "decoder_channels": (16, 8, 16, 32)}, "same number of encoder"),
        ({"joint_from": 1, "encoder": "swin"}, "expected a residual encoder"),
    ],
)
def test_wrong_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match="E_NETWORK") as caught:
        DifferSeg(2, (1, 1), size="tiny", **arguments)
    assert message in str(caught.value)


def test_a_decoder_without_levels_is_refused() -> None:
    with pytest.raises(ModelError, match="no level"):
        UNetDecoder(2, [])
