"""Files in and out: DICOM studies, NIfTI, DICOM SEG. The only package that knows these formats."""

from differseg_med.io._study import Instance, Series, Skipped, Study

__all__ = ["Instance", "Series", "Skipped", "Study"]
