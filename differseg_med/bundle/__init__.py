"""Bundles: which there are, what they take, and running them on studies.

Importing this package is cheap: each name is imported from its private module at first use, so that
listing bundles or a study never pays for torch or MONAI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from differseg_med.bundle._locate import BundleInfo, find_bundle, list_bundles

if TYPE_CHECKING:
    pass

__all__ = ["BundleInfo", "find_bundle", "list_bundles"]

_LAZY: dict[str, str] = {}


def __getattr__(name: str) -> Any:
    """Import a public name from its private module at first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
