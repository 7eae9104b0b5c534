"""Named sizes of DifferSeg: one table of configuration values, no code."""

from __future__ import annotations

from typing import Any

__all__ = ["DECODERS", "FUSIONS", "SIZES"]

_CONSTANTS = {
    "interaction": 0.1,
    "coarse_share": 0.6,
    "detail": 0.3,
    "skip": 0.5,
    "learnable_constants": False,
}

DECODERS: dict[str, dict[str, Any]] = {
    "faithful": {
        "low_kernels": (3, 5, 7),
        "high_kernels": (1, 3, 5),
        "path_kernels": (1, 3, 5),
        "up_kernel": 4,
        "fusion_width": 1.0,
        "receptive_kernels": (3, 5, 7),
        **_CONSTANTS,
    },
    "light": {
        "low_kernels": (3, 5),
        "high_kernels": (1, 3),
        "path_kernels": (1, 3),
        "up_kernel": 2,
        "fusion_width": 0.5,
        "receptive_kernels": (3, 5, 7),
        **_CONSTANTS,
    },
    "unet": {
        "up_kernel": 2,
        "fusion_width": 0.5,
        "receptive_kernels": (3, 5, 7),
    },
}
"""Options of the decoding side by name; ``fusion_width`` scales the fusion's inner channels."""

FUSIONS: dict[str, dict[str, Any]] = {
    "dpf": {
        "operators": "both",
        "operator_start": "values",
        "learnable_operators": True,
        "residual": True,
        "joint": (),
        "blocks": "dense",
        "absence_offset": False,
    },
    "concat": {"joint": ()},
    "sum": {},
}
"""Options of the fusion by name."""

_LEAKY = ("leakyrelu", {"negative_slope": 0.01})
# The squeeze layers of small sizes have one to a dozen units: ReLU leaves whole layers dead.

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "encoder": {2: "residual", 3: "residual"},
        "encoder_options": {
            "residual": {"channels": (8, 16, 32, 64), "blocks": (1, 1, 1, 1), "stem_stride": 2},
            "swin": {"feature_size": 12, "num_heads": (1, 2, 4, 8), "window_size": 4},
            "hiera": {"variant": "tiny"},
        },
        "decoder": "light",
        "decoder_channels": (8, 16, 32, 64, 128),
        "act": _LEAKY,
    },
    "joint": {
        "encoder": {2: "residual", 3: "residual"},
        "encoder_options": {
            "residual": {"channels": (8, 16, 32, 64), "blocks": (1, 1, 1, 1), "stem_stride": 2}
        },
        "decoder": "unet",
        "decoder_channels": (8, 16, 32, 64),
        "joint_from": 1,
        "act": _LEAKY,
    },
    "small": {
        "encoder": {2: "residual", 3: "residual"},
        "encoder_options": {
            "residual": {"channels": (12, 24, 48, 96), "blocks": (1, 1, 1, 1), "stem_stride": 2},
            "swin": {"feature_size": 24, "num_heads": (3, 6, 12, 24), "window_size": 7},
            "hiera": {"variant": "small"},
        },
        "decoder": "light",
        "decoder_channels": (12, 24, 48, 96, 192),
        "act": _LEAKY,
    },
    "base": {
        "encoder": {2: "residual", 3: "residual"},
        "encoder_options": {
            "residual": {"channels": (16, 32, 64, 128), "blocks": (1, 1, 1, 1), "stem_stride": 2},
            "swin": {"feature_size": 48, "num_heads": (3, 6, 12, 24), "window_size": 7},
            "hiera": {"variant": "base_plus"},
        },
        "decoder": "light",
        "decoder_channels": (16, 32, 64, 128, 256),
        "act": _LEAKY,
    },
    "paper": {
        "encoder": {2: "hiera", 3: "residual"},
        "encoder_options": {
            "residual": {"channels": (64, 128, 256, 512), "blocks": (1, 1, 1, 1), "stem_stride": 4},
            "swin": {"feature_size": 48, "num_heads": (3, 6, 12, 24), "window_size": 7},
            "hiera": {"variant": "large"},
        },
        "decoder": "faithful",
        "decoder_channels": (64, 128, 256, 512, 1024),
        "act": "relu",
    },
}
"""Values that `DifferSeg` takes for arguments left out, by size name.

``encoder`` is by number of spatial dimensions, ``encoder_options`` by encoder; ``joint_from`` is
None where a size does not say;
``decoder_channels`` holds as many levels as the deepest encoder has, finest first.
"""
