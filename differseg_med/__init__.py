"""Multimodal binary segmentation: differential perception fusion as MONAI networks and bundles.

The package root imports nothing heavy: `import differseg_med` and the command line stay fast.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
