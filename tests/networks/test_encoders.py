"""Encoders keep the protocol, and share among modalities as they are told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from differseg_med.errors import ModelError, UsageError
from differseg_med.networks import DifferSeg, Encoder, HieraEncoder, ResidualEncoder, SwinEncoder


def _encoders() -> list[Any]:
    return [
        pytest.param(lambda: ResidualEncoder(2, (8, 16), (1, 2), stem_stride=1), 2, id="plain-2d"),
        pytest.param(lambda: ResidualEncoder(3, (8, 16, 32), (1, 1, 1)), 3, id="plain-3d"),
        pytest.param(lambda: SwinEncoder(2, 12, num_heads=(1, 2, 4, 8)), 2, id="swin-2d"),
        pytest.param(lambda: SwinEncoder(3, 12, num_heads=(1, 2, 4, 8)), 3, id="swin-3d"),
        pytest.param(lambda: HieraEncoder(variant="tiny"), 2, id="hiera"),
    ]


@pytest.mark.parametrize(("make", "dims"), _encoders())
def test_channels_and_strides_are_as_declared(make: Any, dims: int) -> None:
    pytest.importorskip("einops")
    pytest.importorskip("transformers")
    encoder = make().eval()
    assert isinstance(encoder, Encoder)
    space = (35, 48, 17)[:dims]
    with torch.no_grad():
        features = encoder(encoder.make_stem(1)(torch.randn(1, 1, *space)))
    expected = [
        (1, channels, *(-(-n // stride) for n in space))
        for channels, stride in zip(encoder.out_channels, encoder.strides, strict=True)
    ]
    assert [tuple(feature.shape) for feature in features] == expected


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sharing_decides_what_every_modality_has_of_its_own() -> None:
    shared, stem, separate = (
        DifferSeg(2, [1, 1, 1], size="tiny", encoder_sharing=sharing)
        for sharing in ("shared", "stem", "separate")
    )
    trunk, first = _count(shared.encode.encoder), _count(shared.encode.stem)
    assert _count(stem.encode) == trunk + 3 * first
    assert _count(separate.encode) == 3 * (trunk + first)


def test_shared_streams_are_the_same_function() -> None:
    encode = DifferSeg(2, [1, 1], size="tiny", encoder_sharing="shared").eval().encode
    x = torch.randn(2, 1, 20, 20)
    first, second = encode([x, x])[0].unflatten(0, (2, 2)).unbind(1)
    torch.testing.assert_close(first, second)


def test_an_encoder_of_ones_own_is_taken() -> None:
    encoder = ResidualEncoder(2, (8, 16), (1, 1))
    network = DifferSeg(2, [2], encoder=encoder, decoder_channels=[8, 8]).eval()
    assert network(torch.zeros(1, 2, 9, 9)).shape == (1, 1, 9, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "unet"}, "encoder is 'unet', expected one of"),
        ({"encoder": "hiera", "spatial_dims": 3}, "spatial_dims 3, expected 2"),
        ({"encoder": "hiera", "encoder_options": {"variant": "huge"}}, "variant is 'huge'"),
        ({"encoder_options": {"depth": 3}}, "encoder_options do not fit 'residual'"),
        ({"encoder_options": {"blocks": [1]}}, "4 channels and 1 blocks"),
        ({"encoder_sharing": "some"}, "encoder_sharing is 'some'"),
        ({"encoder_sharing": "shared", "in_channels": [1, 2]}, "Use encoder_sharing 'stem'"),
        ({"encoder": nn.Identity}, "not an encoder"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    pytest.importorskip("transformers")
    defaults = {"spatial_dims": 2, "in_channels": [1, 1], "size": "tiny"}
    with pytest.raises(ModelError, match="E_NETWORK") as caught:
        DifferSeg(**defaults | arguments)
    assert message in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def absent(name: str, *args: Any) -> Any:
        if name.split(".")[0] in {"transformers", "einops"}:
            raise ModuleNotFoundError(name=name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UsageError, match=r"E_EXTRA.*differseg-med\[hiera\]"):
        HieraEncoder(variant="tiny")
    with pytest.raises(UsageError, match=r"E_EXTRA.*differseg-med\[swin\]"):
        SwinEncoder(2)


def test_the_paper_network_has_the_authors_parameters() -> None:
    """303.4 M and 91.2 M trainable, without the 1.05 M that the authors never use."""
    pytest.importorskip("transformers")
    with torch.device("meta"):
        network = DifferSeg(2, [3, 1], size="paper")
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert _count(network) / 1e6 == pytest.approx(303.4 - 1.05, abs=0.1)
    assert trainable / 1e6 == pytest.approx(91.2 - 1.05, abs=0.1)
    parts = {
        "receptive field": (network.receive, 36.3),
        "fusion": (network.fuse, 26.1),
        "decoder": (network.decode, 27.0 - 1.05),
        "adapters": (network.encode.encoder.adapters, 1.7),
    }
    for name, (part, millions) in parts.items():
        assert _count(part) / 1e6 == pytest.approx(millions, abs=0.06), name


def test_frozen_trunks_stay_and_adapters_learn() -> None:
    pytest.importorskip("transformers")
    encoder = HieraEncoder(variant="tiny")
    assert not any(p.requires_grad for p in encoder.trunk.parameters())
    assert all(p.requires_grad for p in encoder.adapters.parameters())
    assert all(p.requires_grad for p in HieraEncoder(variant="tiny", freeze=False).parameters())


def test_hiera_equals_the_whole_model_of_transformers_where_adapters_add_nothing() -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    encoder = HieraEncoder(variant="tiny").eval()
    nn.init.normal_(encoder.trunk.pos_embed)
    nn.init.normal_(encoder.trunk.pos_embed_window)
    for adapter in encoder.adapters:
        nn.init.zeros_(adapter[2].weight)
        nn.init.zeros_(adapter[2].bias)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = encoder(x)
        expected = encoder.trunk(pixel_values=x).intermediate_hidden_states
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.permute(0, 3, 1, 2))
