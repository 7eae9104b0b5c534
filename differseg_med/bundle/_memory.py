"""Memory of a training step, from numbers that ``benchmarks/activation_memory.py`` measured.

A step holds the network's parameters several times (weights, gradients, the two moments of AdamW,
the running average, and gradients on their way), what autograd saves for the backward pass, and
what is in flight at full resolution. All in float32. What a GPU library takes for itself was not
measured; `RESERVE` stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from differseg_med.errors import UsageError

__all__ = ["RESERVE", "STRIDE", "saved_bytes_per_voxel", "step_bytes"]

STRIDE = 16
"""Voxels of the input per voxel of the coarsest level, in every named size up to ``base``."""

RESERVE = 600 * 2**20
"""Bytes that CUDA and cuDNN take beside the tensors; an assumption, not a measurement."""

_COPIES = 6
_IN_FLIGHT = {3: 324, 2: 12}
_STREAMS = (1, 2, 4)
_SAVED = {
    (3, "joint"): (388, 658, 1080),
    (3, "tiny"): (631, 984, 1539),
    (3, "small"): (953, 1471, 2303),
    (3, "base"): (1232, 1920, 3027),
    (2, "joint"): (783, 1268, 1984),
    (2, "tiny"): (1379, 2273, 3585),
    (2, "small"): (2034, 3370, 5330),
    (2, "base"): (2688, 4467, 7076),
}
"""Bytes that autograd saves per voxel of the patch, for 1, 2 and 4 streams."""

_PARAMETERS = {
    (3, "joint"): (1_663_484, 1_671_842, 1_674_188),
    (3, "tiny"): (1_927_330, 2_603_762, 2_762_354),
    (3, "small"): (4_286_437, 5_806_785, 6_162_989),
    (3, "base"): (7_572_458, 10_274_002, 10_906_698),
    (2, "joint"): (662_636, 665_297, 666_203),
    (2, "tiny"): (779_554, 990_398, 1_050_782),
    (2, "small"): (1_734_973, 2_208_261, 2_343_713),
    (2, "base"): (3_066_410, 3_906_862, 4_147_302),
}


def step_bytes(size: str, streams: int, patch: Sequence[int], batch: int) -> int:
    """Memory of one training step in bytes.

    Args:
        size: named size of the network.
        streams: number of modalities.
        patch: size of the network's input in voxels.
        batch: number of patches.

    Raises:
        UsageError: ``E_OPTION`` for a size that was not measured.
    """
    dims = len(patch)
    voxels = float(np.prod(patch)) * batch
    per_voxel = saved_bytes_per_voxel(size, streams, dims) + _IN_FLIGHT[dims]
    parameters = _interpolate(_PARAMETERS[dims, size], streams)
    return int(per_voxel * voxels + parameters * 4 * _COPIES + RESERVE)


def saved_bytes_per_voxel(size: str, streams: int, dims: int) -> float:
    """What autograd saves per voxel of the input.

    Args:
        size: named size of the network.
        streams: number of modalities.
        dims: 2 or 3.

    Raises:
        UsageError: ``E_OPTION`` for a size that was not measured.
    """
    if (dims, size) not in _SAVED:
        known = ", ".join(sorted({name for _, name in _SAVED}))
        raise UsageError(
            "E_OPTION", f"memory was measured for {known}, not for {size!r} in {dims}D"
        )
    return _interpolate(_SAVED[dims, size], streams)


def _interpolate(values: Sequence[int], streams: int) -> float:
    """Between measured numbers of streams, and on along the last step."""
    if streams <= _STREAMS[-1]:
        return float(np.interp(streams, _STREAMS, values))
    step = (values[-1] - values[-2]) / (_STREAMS[-1] - _STREAMS[-2])
    return float(values[-1] + step * (streams - _STREAMS[-1]))
