"""The way back: from the network's grid to the reference grid, and to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Transform

from differseg_med.data._load import as_meta_tensor, grid_of, reference_grid
from differseg_med.errors import BundleError, OutputError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import resample, write_image_mask, write_nifti

__all__ = ["SaveImageMaskd", "ToReferenceGridd"]


class ToReferenceGridd(Transform):
    """Resample a prediction from the network's grid to the reference grid of its image.

    Args:
        key: key of the prediction, (C, *work space); usually probabilities.
        image_key: key of the image that `LoadImageModalitiesd` made.
    """

    def __init__(self, key: str = "pred", image_key: str = "image") -> None:
        self.key = key
        self.image_key = image_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of `data` whose prediction lies on the reference grid."""
        image = data[self.image_key]
        target = reference_grid(image)
        pred = np.asarray(data[self.key].detach().cpu(), dtype=np.float32)
        axes = pred.ndim
        pred = pred.reshape(*pred.shape, *(1,) * (4 - axes))  # a picture is a volume of one slice
        work = Grid(pred.shape[1:], np.asarray(image.affine, dtype=np.float64))
        # The last work voxels reach past the box, so nothing at the border is extrapolated.
        channels = [
            resample(Volume(channel, work), target, order="linear", fill=0.0, antialias=False)
            for channel in pred
        ]
        result = np.stack(channels)
        return {**data, self.key: as_meta_tensor(result.reshape(result.shape[:axes]), target)}


class SaveImageMaskd(Transform):
    """Write the mask of each case as ``OUTPUT_DIR/CASE/NAME``, named by case, not by file.

    Args:
        output_dir: folder for all cases.
        key: key of the binary mask, (1, *space), on the reference grid.
        case_key: key of the case's name.
        name: file name; its ending says NIfTI (``.nii.gz``) or, for pictures, ``.png``.
    """

    def __init__(
        self,
        output_dir: str,
        key: str = "pred",
        case_key: str = "case",
        name: str = "mask.nii.gz",
    ) -> None:
        if not name.endswith((".nii", ".nii.gz", ".png")):
            raise BundleError("E_CONFIG", f"mask_name is {name!r}; it ends in .nii.gz or .png")
        self.name = name
        self.output_dir = Path(output_dir)
        self.key = key
        self.case_key = case_key

    def __call__(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write the mask and return `data` unchanged.

        Raises:
            OutputError: ``E_WRITE`` when the file cannot be written.
        """
        mask = data[self.key]
        grid = grid_of(mask)
        array = np.asarray(mask[0].detach().cpu()).astype(np.uint8).reshape(grid.shape)
        folder = self.output_dir / str(data[self.case_key])
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError("E_WRITE", f"the output folder: {error.strerror}") from error
        if self.name.endswith(".png"):
            write_image_mask(array, folder / self.name)
        else:
            write_nifti(Volume(array, grid), folder / self.name)
        return data
