"""One public face per package: what is public is listed, resolves, and is documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import differseg_med

PUBLIC_MODULES = {"errors", "geometry", "modality", "types"}
"""Modules of the package root that are meant to be imported."""

PUBLIC_PARTS = {"data/phantom"}
"""Public modules inside packages; every other file is private."""

PACKAGES = sorted(
    ["differseg_med"]
    + [
        f"differseg_med.{module.name}"
        for module in pkgutil.iter_modules(differseg_med.__path__)
        if module.ispkg
    ]
)

FACES = [*PACKAGES, *(f"differseg_med.{name}" for name in sorted(PUBLIC_MODULES))]


@pytest.mark.parametrize("name", FACES)
def test_public_names_are_listed_and_resolve(name: str) -> None:
    face = importlib.import_module(name)
    listed = face.__all__
    assert len(listed) == len(set(listed))
    assert not [entry for entry in listed if not hasattr(face, entry)]


@pytest.mark.parametrize("name", FACES)
def test_public_names_are_documented(name: str) -> None:
    face = importlib.import_module(name)
    assert inspect.getdoc(face), f"{name} has no docstring"
    things = {entry: getattr(face, entry) for entry in face.__all__}
    undocumented = [
        entry
        for entry, thing in things.items()
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not inspect.getdoc(thing)
    ]
    assert not undocumented


def test_lazy_names_are_found_by_dir_and_unknown_ones_are_refused() -> None:
    for name in PACKAGES:
        face = importlib.import_module(name)
        assert set(face.__all__) <= set(dir(face)), name
        with pytest.raises(AttributeError):
            _ = face.no_such_name


def test_files_are_private_but_the_named_ones(root: Path) -> None:
    package = root / "differseg_med"
    public = {
        path.relative_to(package).with_suffix("").as_posix()
        for path in package.rglob("*.py")
        if not path.name.startswith("_")
    }
    assert public == PUBLIC_MODULES | PUBLIC_PARTS


def test_no_module_has_a_name_that_says_nothing(root: Path) -> None:
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert not [
        path
        for folder in ("differseg_med", "tests", "benchmarks")
        for path in (root / folder).rglob("*")
        if path.stem.strip("_") in vague
    ]


def test_no_test_file_shares_its_name_with_another(root: Path) -> None:
    names = [path.name for path in (root / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
