"""Size limits that are checked before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

from differseg_med.errors import StudyError

__all__ = [
    "DEFLATE_RATIO",
    "MAX_DIRECTORY_BYTES",
    "MAX_FILE_BYTES",
    "MAX_INFLATED_BYTES",
    "MAX_PACKED_BYTES",
    "MAX_PACKED_RATIO",
    "MAX_VOXELS",
    "check_voxels",
]

MAX_VOXELS = 2**30
"""Largest volume that is read: 4 GiB as float32, which is 4096 slices of 512 x 512."""

MAX_FILE_BYTES = 2**32
"""Largest file that is read into memory."""

MAX_INFLATED_BYTES = 2**30
"""Largest deflated data set that is unpacked in memory."""

MAX_DIRECTORY_BYTES = 2**25
"""Largest directory of an archive that is read: some hundred thousand members."""

MAX_PACKED_BYTES = 2**26
MAX_PACKED_RATIO = 200
"""Members of archives that are larger than the one may not be packed by more than the other."""

DEFLATE_RATIO = 1032
"""Deflate cannot compress by more than this factor, so a larger claim is a lie."""


def check_voxels(shape: Sequence[int], limit: int = MAX_VOXELS) -> int:
    """Return the number of voxels.

    Args:
        shape: sizes of the array.
        limit: largest number of voxels that is allowed.

    Raises:
        StudyError: ``E_SIZE`` when there are more than the limit.
    """
    voxels = math.prod(int(n) for n in shape)
    if voxels > limit:
        raise StudyError(
            "E_SIZE", f"the header claims {voxels} voxels {tuple(shape)}, allowed are {limit}"
        )
    return voxels
