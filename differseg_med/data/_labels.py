"""What the values of a label mean, and what to do with those that count neither way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from differseg_med.errors import BundleError
from differseg_med.types import FloatArray

__all__ = ["IGNORED", "PREPARED", "PREPARED_PICTURE", "LabelRule", "SplitIgnoredd"]

IGNORED = -1.0
"""Value of a loaded label where a voxel counts neither in the loss nor in a metric."""


@dataclass(frozen=True)
class LabelRule:
    """How stored label values become foreground, background and voxels that do not count.

    Every value that stands in a label must be named, so that a label of another kind is refused.

    Attributes:
        foreground: values of the target.
        background: values of everything else.
        ignore: values that count neither way.
        threshold: for pictures, whose masks are rarely clean: values from here on are foreground,
            and the three lists are not looked at.
    """

    foreground: Sequence[float] = (1,)
    background: Sequence[float] = (0,)
    ignore: Sequence[float] = ()
    threshold: float | None = None

    def __post_init__(self) -> None:
        values = [*self.foreground, *self.background, *self.ignore]
        if len(set(values)) != len(values) or not self.foreground:
            raise BundleError("E_CONFIG", f"a target's label values {values} are not distinct")

    def apply(self, array: FloatArray, where: str) -> FloatArray:
        """Return 1 for foreground, 0 for background and `IGNORED`.

        Args:
            array: stored values.
            where: case and file, for the error.

        Raises:
            BundleError: ``E_DATALIST`` naming values that the target does not know.
        """
        if self.threshold is not None:
            return self._above(array, self.threshold, where)
        known = {*self.foreground, *self.background, *self.ignore}
        found = np.unique(array)
        if strange := [v for v in found if v not in known]:
            shown = ", ".join(f"{v:g}" for v in found[:6])
            expected = ", ".join(f"{v:g}" for v in sorted(known))
            hint = "Write 1 where it holds 255" if strange == [255] else "Correct the label"
            raise BundleError(
                "E_DATALIST",
                f"the label of {where} holds {shown}; expected {expected}",
                f"{hint}, or name its values under targets of the bundle.",
            )
        result = np.isin(array, list(self.foreground)).astype(np.float32)
        result[np.isin(array, list(self.ignore))] = IGNORED
        return result

    @staticmethod
    def _above(array: FloatArray, threshold: float, where: str) -> FloatArray:
        highest = float(array.max())
        if 0 < highest < threshold:
            raise BundleError(
                "E_DATALIST",
                f"the label of {where} holds values up to {highest:g}; foreground starts at "
                f"{threshold:g}",
                "Write masks with 0 and 255, or set the target's threshold in the bundle.",
            )
        return (array >= threshold).astype(np.float32)


PREPARED = LabelRule(foreground=(1,), background=(0,), ignore=(2,))
"""Values of labels of volumes that ``differseg-med prepare`` wrote."""

PREPARED_PICTURE = LabelRule(threshold=128)
"""Values of labels of pictures that it wrote: 0 and 255, so that people see them."""


class SplitIgnoredd(Transform):
    """Before metrics: voxels that do not count become background in prediction and label.

    Where there are any, they are kept as a mask under `ignore_key`.

    Args:
        pred_key: key of the binary prediction.
        label_key: key of the label with `IGNORED` in it.
        ignore_key: key of the mask.
    """

    def __init__(
        self, pred_key: str = "pred", label_key: str = "label", ignore_key: str = "ignore"
    ) -> None:
        self.pred_key, self.label_key, self.ignore_key = pred_key, label_key, ignore_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of `data` with a binary label."""
        result = dict(data)
        label = result[self.label_key]
        ignored = (label < 0).as_tensor() if isinstance(label, MetaTensor) else label < 0
        if bool(ignored.any()):
            pred = result[self.pred_key]
            result[self.ignore_key] = ignored
            result[self.label_key] = torch.where(ignored, torch.zeros_like(label), label)
            away = ignored.to(pred.device)
            result[self.pred_key] = torch.where(away, torch.zeros_like(pred), pred)
        return result
