"""Fragments over fragments: every override must hit something."""

from __future__ import annotations

from pathlib import Path

import pytest

from differseg_med.bundle._compose import check_overlay, overlay, read_fragment
from differseg_med.bundle._render import render_all, render_bundle
from differseg_med.errors import BundleError

BASE = {"a": 1, "b": {"c": [10, {"d": 2}], "e": None}}


def test_overlay_by_path_leaves_the_base_alone() -> None:
    result = overlay(BASE, {"a": 5, "b#c#1#d": 7, "b#e": {"x": 1}}, "task")
    assert result == {"a": 5, "b": {"c": [10, {"d": 7}], "e": {"x": 1}}}
    assert BASE == {"a": 1, "b": {"c": [10, {"d": 2}], "e": None}}


@pytest.mark.parametrize("path", ["z", "b#z", "b#c#2", "b#c#1#z", "a#b", "b#c#d"])
def test_misspelt_overrides_are_named(path: str) -> None:
    with pytest.raises(BundleError, match=f"E_CONFIG: task.yaml sets '{path}'"):
        overlay(BASE, {path: 1}, "task.yaml")


def test_overlay_files_may_declare_plain_keys_only() -> None:
    check_overlay(BASE, {"new": 1, "b#c": 2}, "evaluate.yaml")
    with pytest.raises(BundleError, match="E_CONFIG"):
        check_overlay(BASE, {"b#new": 1}, "evaluate.yaml")


def test_fragments_must_be_mappings(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for text in ("- 1\n", "a: [\n"):
        path.write_text(text)
        with pytest.raises(BundleError, match=r"E_CONFIG: x\.yaml"):
            read_fragment(path)
    with pytest.raises(BundleError, match="E_CONFIG"):
        read_fragment(tmp_path / "none.yaml")


def test_unknown_task_keys_are_named(root: Path, tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    (configs / "tasks").mkdir(parents=True)
    task = configs / "tasks" / "x.yaml"
    task.write_text("name: x\ntrian: {}\n")
    with pytest.raises(BundleError, match=r"E_CONFIG: x\.yaml sets unknown keys \['trian'\]"):
        render_bundle(task)


def test_rendering_twice_changes_nothing(root: Path, tmp_path: Path) -> None:
    first = render_all(root / "configs", tmp_path)
    assert first
    assert render_all(root / "configs", tmp_path) == []
