"""Exports by ONNX Runtime: against eager mode, and against the naive formulas exported alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cases
import table
import timing
import torch
from torch import Tensor, nn

__all__ = ["measure_exported"]


class _Computed(nn.Module):
    """A way to compute something from a module's weights, as a module of its own."""

    def __init__(self, weights: nn.Module, way: Callable[..., Tensor]) -> None:
        super().__init__()
        self.weights, self.way = weights, way

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.way(*inputs)


def measure_exported(repeats: int, short: bool) -> Iterator[table.Row]:
    """Eager mode and exports of the same weights, outputs compared."""
    for part in cases.exports(short):
        module = part.module.eval().requires_grad_(False)
        inputs = tuple(part.inputs)
        with torch.inference_mode():
            ways: dict[str, Callable[[], Tensor]] = {
                "eager": lambda inputs=inputs, part=part: part.ours(*inputs),
                "exported": _session(_Computed(module, part.ours), inputs),
                "naive": _session(_Computed(module, part.naive), inputs),
            }
            expected = ways["eager"]()
            share = max(
                timing.agree(ways[way](), expected, f"{part.name} {part.shape}, {way}")
                for way in ("exported", "naive")
            )
            times = timing.interleaved(ways, repeats)
        yield {
            "part": part.name,
            "on": part.shape,
            "ours_s": times["exported"].cpu,
            "eager_s": times["eager"].cpu,
            "naive_exported_s": times["naive"].cpu,
            "of_eager": times["eager"].cpu / times["exported"].cpu,
            "of_naive": times["naive"].cpu / times["exported"].cpu,
            "of_naive_wall": times["naive"].wall / times["exported"].wall,
            "wanted": part.eval_target,
            "difference": share,
        }


def _session(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """A call of the exported module, with torch's number of threads."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "module.onnx")
        # By tracing, as the bundles are exported: the other exporter takes minutes per network.
        torch.onnx.export(module.eval(), inputs, path, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options)
    names = [item.name for item in session.get_inputs()]
    fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return lambda: torch.from_numpy(session.run(None, fed)[0])
