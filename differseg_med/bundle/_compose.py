"""Fragments of configuration, laid over each other; a key that lies on nothing is an error.

MONAI takes a misspelt override in silence; here every override must hit a key that exists.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from differseg_med.errors import BundleError

__all__ = ["check_overlay", "overlay", "read_fragment"]


def read_fragment(path: Path) -> dict[str, Any]:
    """Read a YAML fragment that must be a mapping.

    Raises:
        BundleError: ``E_CONFIG`` when it is not there, not YAML or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BundleError("E_CONFIG", f"{path.name} cannot be read as YAML") from error
    if not isinstance(content, dict):
        raise BundleError("E_CONFIG", f"{path.name} holds no mapping")
    return content


def overlay(base: Mapping[str, Any], override: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Lay one configuration over another.

    Args:
        base: declares every key.
        override: new values by key, or by path such as ``train#dataset#cache_rate``.
        where: name of the override's source, for the error.

    Returns:
        A new configuration.

    Raises:
        BundleError: ``E_CONFIG`` naming a key that the base does not have.
    """
    result: dict[str, Any] = copy.deepcopy(dict(base))
    for path, value in override.items():
        parent, last = _walk(result, path, where)
        parent[last] = copy.deepcopy(value)
    return result


def check_overlay(base: Mapping[str, Any], override: Mapping[str, Any], where: str) -> None:
    """Check that every path (a key with ``#``) of an overlay exists in the base.

    Plain keys may be new: an overlay declares values of its own.

    Raises:
        BundleError: ``E_CONFIG`` naming a path that the base does not have.
    """
    for path in override:
        if "#" in path:
            _walk(base, path, where)


def _walk(config: Any, path: str, where: str) -> tuple[Any, Any]:
    """The container that holds the last step of a path, and that step."""
    steps: list[Any] = [int(s) if s.isdigit() else s for s in path.split("#")]
    for step in steps[:-1]:
        config = config[step] if _has(config, step) else None
    if not _has(config, steps[-1]):
        raise BundleError("E_CONFIG", f"{where} sets {path!r}, which nothing below it declares")
    return config, steps[-1]


def _has(config: Any, step: Any) -> bool:
    if isinstance(config, Mapping):
        return step in config
    return isinstance(config, list) and isinstance(step, int) and step < len(config)
