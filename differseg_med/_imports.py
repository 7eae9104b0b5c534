"""Heavy and optional imports happen at use, through `require`."""

from __future__ import annotations

import importlib
from types import ModuleType

from differseg_med.errors import UsageError

__all__ = ["require"]


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Args:
        module: dotted module name, for example ``"transformers"``.
        extra: the extra of this distribution that installs it, for example ``"hiera"``.

    Returns:
        The imported module.

    Raises:
        UsageError: ``E_EXTRA`` when the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise UsageError(
            "E_EXTRA",
            f"the Python package {module.split('.')[0]!r} is needed here and is not installed",
            f'Install it with: pip install "differseg-med[{extra}]".',
        ) from error
