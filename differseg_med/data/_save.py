"""The way back: from the network's grid to the reference grid, and to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Transform

from differseg_med.data._load import as_meta_tensor, reference_grid
from differseg_med.errors import OutputError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import resample, write_nifti

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
        work = Grid(pred.shape[1:], np.asarray(image.affine, dtype=np.float64))
        # The last work voxels reach past the box, so nothing at the border is extrapolated.
        channels = [
            resample(Volume(channel, work), target, order="linear", fill=0.0, antialias=False)
            for channel in pred
        ]
        return {**data, self.key: as_meta_tensor(np.stack(channels), target)}


class SaveImageMaskd(Transform):
    """Write the mask of each case as ``OUTPUT_DIR/CASE/mask.nii.gz``, named by case, not by file.

    Args:
        output_dir: folder for all cases.
        key: key of the binary mask, (1, *space), on the reference grid.
        case_key: key of the case's name.
    """

    def __init__(self, output_dir: str, key: str = "pred", case_key: str = "case") -> None:
        self.output_dir = Path(output_dir)
        self.key = key
        self.case_key = case_key

    def __call__(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write the mask and return `data` unchanged.

        Raises:
            OutputError: ``E_WRITE`` when the file cannot be written.
        """
        mask = data[self.key]
        array = np.asarray(mask[0].detach().cpu()).astype(np.uint8)
        grid = Grid(array.shape, np.asarray(mask.affine, dtype=np.float64))
        folder = self.output_dir / str(data[self.case_key])
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError("E_WRITE", f"the output folder: {error.strerror}") from error
        write_nifti(Volume(array, grid), folder / "mask.nii.gz")
        return data
