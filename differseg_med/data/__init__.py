"""Cases: datalists, loading, stacking on one grid, the way back, phantoms."""

from differseg_med.data._datalist import find_cases, load_datalist
from differseg_med.data._labels import IGNORED, LabelRule, SplitIgnoredd
from differseg_med.data._load import (
    LoadImageModalitiesd,
    as_meta_tensor,
    grid_of,
    reference_grid,
)
from differseg_med.data._margins import CropMargins
from differseg_med.data._save import SaveImageMaskd, ToReferenceGridd
from differseg_med.data._slices import SliceInferer, SliceView, TakeSliced
from differseg_med.data._stack import MIN_OVERLAP, Stack, stack_on_reference

__all__ = [
    "IGNORED",
    "MIN_OVERLAP",
    "CropMargins",
    "LabelRule",
    "LoadImageModalitiesd",
    "SaveImageMaskd",
    "SliceInferer",
    "SliceView",
    "SplitIgnoredd",
    "Stack",
    "TakeSliced",
    "ToReferenceGridd",
    "as_meta_tensor",
    "find_cases",
    "grid_of",
    "load_datalist",
    "reference_grid",
    "stack_on_reference",
]
