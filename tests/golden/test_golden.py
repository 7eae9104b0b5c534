"""Our blocks against tensors made by the authors' modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from differseg_med.losses import structure_loss
from differseg_med.networks import (
    DifferentialPerceptionFusion,
    FrequencyGuidedDecoder,
    ReceptiveFieldBlock,
    convert_authors_weights,
    load_authors_weights,
)

pytestmark = pytest.mark.realdata

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "golden"
FILES = sorted(FOLDER.glob("*.npz"))


def _meta(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return json.loads(str(arrays["meta_json"])) if "meta_json" in arrays else {}


CASES = [(path, case) for path in FILES for case in _meta(path).get("cases", [])]


def _build(meta: dict[str, Any]) -> nn.Module:
    if meta["cls"] == "DifferentialPerceptionFusion":
        return DifferentialPerceptionFusion(2, meta["channels"], 2)
    if meta["cls"] == "FrequencyGuidedDecoder":
        return FrequencyGuidedDecoder(2, meta["channels"])
    assert meta["cls"] == "RFB_modified"
    return ReceptiveFieldBlock(2, meta["in_channel"], meta["out_channel"])


class _Golden:
    """One file and one case of it."""

    def __init__(self, path: Path, case: str) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = {
                key: torch.from_numpy(arrays[key]) for key in arrays if "json" not in key
            }
            self.norms = json.loads(str(arrays[f"{case}/grad_norms_json"]))
        self.case = case
        self.module = _build(_meta(path))
        self.state = self.under("sd/")
        load_authors_weights(self.module, self.state)
        count = sum(key.startswith(f"{case}/in_") for key in self.arrays)
        self.inputs = [self[f"in_{i}"].requires_grad_() for i in range(count)]

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[f"{self.case}/{key}"]

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}

    def run(self) -> Tensor:
        if isinstance(self.module, DifferentialPerceptionFusion):
            return self.module(torch.stack(self.inputs, 1))
        if isinstance(self.module, ReceptiveFieldBlock):
            return self.module(self.inputs[0])
        return self.module(self.inputs)


@pytest.fixture(params=CASES, ids=lambda item: f"{item[0].stem}-{item[1]}")
def golden(request: pytest.FixtureRequest) -> _Golden:
    return _Golden(*request.param)


@pytest.mark.skipif(not CASES, reason="needs the golden tensors beside the checkout")
def test_evaluation(golden: _Golden) -> None:
    golden.module.eval()
    torch.testing.assert_close(golden.run(), golden["out_eval_0"], atol=1e-5, rtol=0)


@pytest.mark.skipif(not CASES, reason="needs the golden tensors beside the checkout")
def test_training_forward_and_backward(golden: _Golden) -> None:
    golden.module.train()
    output = golden.run()
    torch.testing.assert_close(output, golden["out_train_0"], atol=1e-5, rtol=0)
    output.backward(golden["cotangent_0"])
    for i, tensor in enumerate(golden.inputs):
        torch.testing.assert_close(tensor.grad, golden[f"grad_input_{i}"], atol=1e-4, rtol=0)
    _check_parameter_gradients(golden)
    _check_running_statistics(golden)


def _check_parameter_gradients(golden: _Golden) -> None:
    """Every parameter's gradient has the authors' norm; idle biases have none and are gone."""
    squares = {
        name: torch.tensor([norm**2], dtype=torch.float64)
        for name, norm in golden.norms.items()
        if norm is not None
    }
    expected = convert_authors_weights(golden.module, squares)
    found = dict(golden.module.named_parameters())
    assert set(found) <= set(expected)
    assert all(float(expected[name].sum()) < 1e-18 for name in set(expected) - set(found))
    for name, parameter in found.items():
        norm = float(expected[name].sum()) ** 0.5
        assert float(parameter.grad.norm()) == pytest.approx(norm, rel=1e-4, abs=1e-4), name


def _check_running_statistics(golden: _Golden) -> None:
    after = golden.under(f"{golden.case}/bn_after/")
    if not after:
        return
    expected = convert_authors_weights(golden.module, golden.state | after)
    for name, buffer in golden.module.named_buffers():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(buffer, expected[name], atol=1e-5, rtol=1e-5)


def test_structure_loss(shared: Path) -> None:
    with np.load(shared / "golden" / "structure_loss.npz", allow_pickle=False) as arrays:
        logits, mask = (torch.from_numpy(arrays[key]).double() for key in ("pred", "mask"))
        intended, authors = float(arrays["loss_intended"]), float(arrays["loss_reference"])
    assert float(structure_loss(logits, mask)) == pytest.approx(intended, abs=1e-6)
    found = structure_loss(logits.float(), mask.float(), authors_bce_mean=True)
    assert float(found) == pytest.approx(authors, abs=1e-6)
