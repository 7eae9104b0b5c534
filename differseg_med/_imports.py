"""Heavy and optional imports happen at use: `require` for extras, `lazy` for our own packages."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from differseg_med.errors import UsageError

__all__ = ["lazy", "require"]


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


def lazy(
    package: str, public: Sequence[str], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose names are imported at first use.

    Args:
        package: its ``__name__``.
        public: its ``__all__``.
        homes: private module, relative to the package, by public name.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: list(public)
