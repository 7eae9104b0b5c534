"""Files in and out: DICOM studies, NIfTI, DICOM SEG. The only package that knows these formats.

Importing this package is cheap: each name is imported from its private module at first use, so that
listing a study never pays for SimpleITK, highdicom or nibabel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from differseg_med.io._study import Instance, Series, Skipped, Study

if TYPE_CHECKING:
    from differseg_med.io._nifti import read_nifti, read_nifti_header, write_nifti
    from differseg_med.io._nifti_study import find_nifti
    from differseg_med.io._resample import resample
    from differseg_med.io._write_series import StudyInfo, Tracer, write_series

__all__ = [
    "Instance",
    "Series",
    "Skipped",
    "Study",
    "StudyInfo",
    "Tracer",
    "find_nifti",
    "read_nifti",
    "read_nifti_header",
    "resample",
    "write_nifti",
    "write_series",
]

_LAZY = {
    "StudyInfo": "_write_series",
    "Tracer": "_write_series",
    "find_nifti": "_nifti_study",
    "read_nifti": "_nifti",
    "read_nifti_header": "_nifti",
    "resample": "_resample",
    "write_nifti": "_nifti",
    "write_series": "_write_series",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its private module at first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
