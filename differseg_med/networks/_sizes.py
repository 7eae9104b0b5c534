"""Named sizes of DifferSeg: one table of configuration values, no code."""

from __future__ import annotations

from typing import Any

__all__ = ["DECODERS", "SIZES"]

DECODERS: dict[str, dict[str, Any]] = {
    "faithful": {
        "low_kernels": (3, 5, 7),
        "high_kernels": (1, 3, 5),
        "path_kernels": (1, 3, 5),
        "up_kernel": 4,
        "fusion_width": 1.0,
        "receptive_kernels": (3, 5, 7),
    },
    "light": {
        "low_kernels": (3, 5),
        "high_kernels": (1, 3),
        "path_kernels": (1, 3),
        "up_kernel": 2,
        "fusion_width": 0.5,
        "receptive_kernels": (3, 5, 7),
    },
}
"""Options of the decoding side by name; ``fusion_width`` scales DPF's inner channels."""

_LEAKY = ("leakyrelu", {"negative_slope": 0.01})
# The squeeze layers of small sizes have one to a dozen units: ReLU leaves whole layers dead.

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "encoder": "residual",
        "encoder_options": {"channels": (8, 16, 32, 64), "blocks": (1, 1, 1, 1), "stem_stride": 2},
        "encoder_sharing": "stem",
        "decoder": "light",
        "act": _LEAKY,
        "decoder_channels": (8, 16, 32, 64),
    },
    "small": {
        "encoder": "residual",
        "encoder_options": {"channels": (12, 24, 48, 96), "blocks": (1, 1, 1, 1), "stem_stride": 2},
        "encoder_sharing": "stem",
        "decoder": "light",
        "act": _LEAKY,
        "decoder_channels": (12, 24, 48, 96),
    },
    "base": {
        "encoder": "residual",
        "encoder_options": {
            "channels": (16, 32, 64, 128),
            "blocks": (1, 1, 1, 1),
            "stem_stride": 2,
        },
        "encoder_sharing": "stem",
        "decoder": "light",
        "act": _LEAKY,
        "decoder_channels": (16, 32, 64, 128),
    },
    "paper": {
        "encoder": "residual",
        "encoder_options": {
            "channels": (64, 128, 256, 512),
            "blocks": (2, 2, 2, 2),
            "stem_stride": 4,
        },
        "encoder_sharing": "shared",
        "decoder": "faithful",
        "act": "relu",
        "decoder_channels": (64, 128, 256, 512),
    },
}
"""Values of `DifferSeg` arguments by size name."""
