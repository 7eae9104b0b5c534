"""Receptive field block and frequency-guided decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from differseg_med.errors import ModelError
from differseg_med.networks import FrequencyGuidedDecoder, ReceptiveFieldBlock


def _flatten_along_z(deep: ReceptiveFieldBlock, flat: ReceptiveFieldBlock) -> None:
    """Give the 3D block the 2D block's weights, and kernels that look at one slice alone."""
    state = flat.state_dict()
    with torch.no_grad():
        for i, branch in enumerate(deep.branches):
            source = list(flat.branches[i])
            for layer in branch:
                if isinstance(layer, nn.Conv3d) and layer.kernel_size[0] > 1 and _is_along_z(layer):
                    nn.init.dirac_(layer.weight)
                    continue
                if isinstance(layer, nn.Conv3d):
                    _centre(layer, source.pop(0))
                elif source and isinstance(source[0], nn.BatchNorm2d):
                    layer.load_state_dict(source.pop(0).state_dict())
        for name in ("merge", "shortcut"):
            _centre(getattr(deep, name)[0], getattr(flat, name)[0])
            getattr(deep, name)[1].load_state_dict(
                {k.removeprefix(f"{name}.1."): v for k, v in state.items() if f"{name}.1." in k}
            )


def _is_along_z(layer: nn.Conv3d) -> bool:
    return layer.kernel_size[1:] == (1, 1)


def _centre(deep: nn.Conv3d, flat: nn.Conv2d) -> None:
    deep.weight.zero_()
    deep.weight[:, :, deep.kernel_size[0] // 2] = flat.weight


def test_receptive_field_in_3d_is_2d_slice_by_slice_where_z_is_left_alone() -> None:
    torch.manual_seed(0)
    flat = ReceptiveFieldBlock(2, 5, 4, norm="batch").double().eval()
    deep = ReceptiveFieldBlock(3, 5, 4, norm="batch").double().eval()
    for module in flat.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0)
    _flatten_along_z(deep, flat)
    # The norm behind a kernel along z is still the identity but for its epsilon.
    for module in deep.modules():
        if isinstance(module, nn.BatchNorm3d) and torch.equal(
            module.running_var, torch.ones_like(module.running_var)
        ):
            module.eps = 0.0
    plane = torch.randn(2, 5, 9, 8, dtype=torch.float64)
    found = deep(plane.unsqueeze(2).expand(2, 5, 3, 9, 8))
    torch.testing.assert_close(found, flat(plane).unsqueeze(2).expand_as(found))


def test_receptive_field_reaches_as_far_as_its_kernels() -> None:
    """3 from the row of 7, 7 from the dilated kernel, 1 from the merge: 11 voxels."""
    block = ReceptiveFieldBlock(2, 2, 2, norm="batch").eval()
    block.merge[1].bias.data.fill_(100.0)
    x = torch.zeros(1, 2, 31, 31, requires_grad=True)
    block(x)[0, :, 15, 15].sum().backward()
    touched = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (int(touched.min()), int(touched.max())) == (15 - 11, 15 + 11)


@pytest.mark.parametrize("up_kernel", [2, 4])
@pytest.mark.parametrize("dims", [2, 3])
def test_decoder_takes_levels_that_are_no_exact_doubles(dims: int, up_kernel: int) -> None:
    torch.manual_seed(0)
    decoder = FrequencyGuidedDecoder(dims, [16, 8, 8], norm=("group", {}), up_kernel=up_kernel)
    features = [
        torch.randn(1, c, *[n] * dims, requires_grad=True) for c, n in ((16, 2), (8, 5), (8, 9))
    ]
    output = decoder(features)
    assert output.shape == features[-1].shape
    output.square().mean().backward()
    assert all(bool(f.grad.abs().sum() > 0) for f in features)


def test_low_and_high_band_add_up_to_the_level_where_the_gate_is_open() -> None:
    split = FrequencyGuidedDecoder(2, [8]).eval().splits[0]
    split.gate[1].weight.data.zero_()
    split.gate[1].bias.data.fill_(40.0)
    x = torch.randn(1, 8, 6, 6)
    low, high = split(x)
    torch.testing.assert_close(low + high, x)


def test_a_single_level_decodes_to_itself() -> None:
    x = torch.randn(2, 8, 5, 5)
    assert FrequencyGuidedDecoder(2, [8])([x]).shape == x.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": []}, "no level"),
        ({"channels": [16, 8], "up_kernel": 3}, "up_kernel is 3"),
        ({"channels": [17]}, "17 cannot be cut into 2 groups"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        FrequencyGuidedDecoder(2, **arguments)
