"""Cases: datalists, loading, stacking on one grid, the way back, phantoms."""

from differseg_med.data._datalist import find_cases, load_datalist
from differseg_med.data._load import LoadImageModalitiesd, as_meta_tensor, reference_grid
from differseg_med.data._margins import CropMargins
from differseg_med.data._save import SaveImageMaskd, ToReferenceGridd
from differseg_med.data._stack import MIN_OVERLAP, Stack, stack_on_reference

__all__ = [
    "MIN_OVERLAP",
    "CropMargins",
    "LoadImageModalitiesd",
    "SaveImageMaskd",
    "Stack",
    "ToReferenceGridd",
    "as_meta_tensor",
    "find_cases",
    "load_datalist",
    "reference_grid",
    "stack_on_reference",
]
