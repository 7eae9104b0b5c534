"""Losses over lists of outputs and sums of losses."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from torch import nn

from differseg_med.errors import ModelError
from differseg_med.losses import DeepSupervisionLoss, StructureLoss, WeightedSumLoss


class _Mean(nn.Module):
    """The mean of the logits, so that sums can be worked out by hand."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        assert logits.shape == target.shape
        return logits.mean()


def test_a_tensor_is_one_output() -> None:
    loss = DeepSupervisionLoss(_Mean(), weights=[2.0, 100.0])
    assert float(loss(torch.full((1, 1, 4, 4), 3.0), torch.zeros(1, 1, 4, 4))) == 6.0


@pytest.mark.parametrize("resize", ["prediction", "target"])
@pytest.mark.parametrize(("weights", "total"), [(None, 111.0), ([1.0, 0.5], 56.0)])
def test_outputs_are_weighted_and_added(
    resize: str, weights: list[float] | None, total: float
) -> None:
    outputs = [
        torch.full((2, 1, *[n] * 3), value) for n, value in ((8, 1.0), (4, 10.0), (2, 100.0))
    ]
    loss = DeepSupervisionLoss(_Mean(), weights, resize)
    assert float(loss(outputs, torch.zeros(2, 1, 8, 8, 8))) == pytest.approx(total)


def test_targets_are_resized_to_the_nearest_label() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            seen.append(target)
            return logits.sum()

    target = torch.tensor([[[[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]]])
    DeepSupervisionLoss(Look(), resize="target")([torch.zeros(1, 1, 2, 2)], target)
    assert seen[0].tolist() == [[[[0, 1], [1, 0]]]]
    assert seen[0].dtype == target.dtype


def test_side_outputs_are_stretched_to_the_corners() -> None:
    """As the authors' heads do: linear, corners aligned."""
    seen = []

    class Look(nn.Module):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            seen.append(logits)
            return logits.sum()

    DeepSupervisionLoss(Look())([torch.tensor([[[[0.0, 2.0]]]])], torch.zeros(1, 1, 1, 5))
    assert seen[0].flatten().tolist() == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])


def test_works_with_losses_of_monai_from_a_configuration() -> None:
    parser = ConfigParser(
        {
            "loss": {
                "_target_": "differseg_med.losses.DeepSupervisionLoss",
                "loss": {
                    "_target_": "differseg_med.losses.WeightedSumLoss",
                    "losses": [
                        {"_target_": "differseg_med.losses.StructureLoss", "pool_size": 7},
                        {"_target_": "monai.losses.DiceCELoss", "sigmoid": True},
                    ],
                    "weights": [1.0, 0.5],
                },
                "weights": [1.0, 0.5],
            }
        }
    )
    loss = parser.get_parsed_content("loss")
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(1, 1, *[n] * 3, generator=generator) for n in (8, 4)]
    for output in outputs:
        output.requires_grad_()
    target = (torch.rand(1, 1, 8, 8, 8, generator=generator) > 0.7).float()
    loss(outputs, target).backward()
    assert all(output.grad is not None and output.grad.abs().sum() > 0 for output in outputs)
    single = StructureLoss(7)(outputs[0], target) + 0.5 * DiceCELoss(sigmoid=True)(
        outputs[0], target
    )
    torch.testing.assert_close(loss(outputs[:1], target), single)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ModelError, match="resize is 'both'"):
        DeepSupervisionLoss(_Mean(), resize="both")
    with pytest.raises(ModelError, match="2 losses and 1 weights"):
        WeightedSumLoss([_Mean(), _Mean()], [1.0])
