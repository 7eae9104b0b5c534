"""Loading of multimodal cases into the dictionaries that MONAI's transforms pass on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from differseg_med.data._margins import CropMargins
from differseg_med.data._stack import Stack, stack_on_reference
from differseg_med.errors import BundleError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import read_nifti, resample
from differseg_med.modality import get_modality

__all__ = ["LoadImageModalitiesd", "as_meta_tensor", "reference_grid"]


def as_meta_tensor(array: Any, grid: Grid, **meta: Any) -> MetaTensor:
    """Wrap an array of shape (C, *space) with its grid's affine."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    affine = torch.from_numpy(np.array(grid.affine))
    return MetaTensor(tensor, affine=affine, meta=dict(meta))


def stack_to_meta_tensor(stack: Stack, case: str) -> MetaTensor:
    """The stacked image with what is needed to bring a result back to the reference grid."""
    return as_meta_tensor(
        stack.image,
        stack.grid,
        filename_or_obj=case,
        reference_affine=torch.from_numpy(np.array(stack.reference.affine)),
        reference_shape=torch.tensor(stack.reference.shape),
    )


def reference_grid(image: MetaTensor) -> Grid:
    """The reference grid that `LoadImageModalitiesd` stored with an image."""
    shape = tuple(int(n) for n in image.meta["reference_shape"])
    return Grid(shape, np.asarray(image.meta["reference_affine"], dtype=np.float64))


class LoadImageModalitiesd(Transform):
    """Read a case's NIfTI files and stack the modalities on the reference's box.

    Reads the file paths under the modalities' own names; a path that is absent or None means that
    the modality is absent. Writes ``image`` (C, *space; NaN where absent), ``present`` (M,) and,
    if `label_key` is given, the label under that key. The path keys are removed.

    Args:
        modalities: names in channel order.
        reference: the modality whose grid results are given on.
        spacing: spacing of the network's grid in mm, None for the reference's own.
        label_key: key of the label's path, if there is a label.
        label_on: ``work`` puts the label on the network's grid (linear, threshold 0.5),
            ``reference`` leaves it on the reference's grid.
        margins: draws crop margins anew around the label.
        min_overlap: see `stack_on_reference`.
        raw_key: if given, the reference modality's values on the reference grid go here.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        reference: str,
        spacing: Sequence[float] | None = None,
        label_key: str | None = None,
        label_on: str = "work",
        margins: CropMargins | None = None,
        min_overlap: Mapping[str, float] | None = None,
        raw_key: str | None = None,
    ) -> None:
        if label_on not in ("work", "reference"):
            raise BundleError("E_CONFIG", f"label_on is {label_on!r}, not 'work' or 'reference'")
        self.modalities = tuple(modalities)
        self.reference = reference
        self.spacing = None if spacing is None else _three(spacing)
        self.label_key = label_key
        self.label_on = label_on
        self.margins = margins
        self.min_overlap = dict(min_overlap or {})
        self.raw_key = raw_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Read one case.

        Raises:
            StudyError: what `read_nifti` and `stack_on_reference` refuse.
        """
        case = str(data["case"])
        volumes = {
            name: read_nifti(data[name], get_modality(name)) if data.get(name) else None
            for name in self.modalities
        }
        label = self._read_label(data, volumes[self.reference])
        crop = self.margins.box(label, case) if self.margins and label else None
        stack = stack_on_reference(
            volumes,
            self.modalities,
            self.reference,
            spacing=self.spacing,
            crop=crop,
            min_overlap=self.min_overlap,
        )
        result = {k: v for k, v in data.items() if k not in self.modalities}
        result["image"] = stack_to_meta_tensor(stack, case)
        result["present"] = torch.tensor(stack.present)
        if label is not None and self.label_key:
            result[self.label_key] = self._place_label(label, stack)
        if self.raw_key:
            base = volumes[self.reference]
            if base is None:  # refused above; tells the type checker so
                raise AssertionError
            raw = resample(base, stack.reference, order="nearest", fill=0.0)
            result[self.raw_key] = as_meta_tensor(raw[None], stack.reference)
        return result

    def _read_label(self, data: Mapping[str, Any], reference: Volume | None) -> Volume | None:
        if not self.label_key or not data.get(self.label_key):
            return None
        label = read_nifti(data[self.label_key])
        values = np.unique(label.array)
        if not np.isin(values, (0, 1)).all():
            shown = ", ".join(f"{v:g}" for v in values[:5])
            raise BundleError(
                "E_DATALIST", f"the label of case {data['case']} holds {shown}; expected 0 and 1"
            )
        if reference is None or label.grid.is_same(reference.grid, tolerance_mm=0.1):
            return label
        on_reference = resample(label, reference.grid, order="nearest", fill=0.0)
        return Volume(on_reference, reference.grid)

    def _place_label(self, label: Volume, stack: Stack) -> MetaTensor:
        if self.label_on == "work":
            soft = resample(label, stack.grid, order="linear", fill=0.0)
            return as_meta_tensor((soft >= 0.5).astype(np.float32)[None], stack.grid)
        kept = resample(label, stack.reference, order="nearest", fill=0.0)
        return as_meta_tensor(kept[None], stack.reference)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
