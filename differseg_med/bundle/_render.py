"""Rendering of complete, self-contained bundles from fragments and one task file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from differseg_med.bundle._compose import check_overlay, overlay, read_fragment
from differseg_med.bundle._metadata import make_metadata
from differseg_med.errors import BundleError
from differseg_med.modality import get_modalities

__all__ = ["render_all", "render_bundle"]

_WORKFLOWS = ("train", "inference")
_OVERLAYS = ("evaluate", "multi_gpu_train")
_TASK_KEYS = frozenset(
    {"name", "dims", "title", "task", "target", "common", "metadata", *_WORKFLOWS, *_OVERLAYS}
)


def render_bundle(task_file: Path) -> dict[str, str]:
    """Make the files of one bundle.

    Args:
        task_file: ``configs/tasks/NAME.yaml``; fragments lie in the folders beside it.

    Returns:
        Text by path relative to the bundle's folder.

    Raises:
        BundleError: ``E_CONFIG`` naming the file and the key that is wrong.
    """
    configs = task_file.parents[1]
    task = read_fragment(task_file)
    if unknown := set(task) - _TASK_KEYS:
        raise BundleError("E_CONFIG", f"{task_file.name} sets unknown keys {sorted(unknown)}")
    dims = read_fragment(configs / "dims" / f"{task['dims']}.yaml")
    common = _layered(configs, "common", dims, task)
    common["name"] = task["name"]
    common["channels"] = [m.channels for m in get_modalities(common["modalities"])]
    files = {
        f"configs/{workflow}.yaml": {**common, **_layered(configs, workflow, dims, task)}
        for workflow in _WORKFLOWS
    }
    train = files["configs/train.yaml"]
    for name in _OVERLAYS:
        over = _layered(configs, name, dims, task)
        check_overlay(train, over, f"{name}.yaml")
        files[f"configs/{name}.yaml"] = over
    header = f"# Rendered from configs/tasks/{task_file.name}; edit there and run: make bundles\n"
    rendered = {path: header + _dump(content) for path, content in files.items()}
    metadata = make_metadata(task, common, _pins(configs.parent / "constraints.txt"))
    rendered["configs/metadata.json"] = json.dumps(metadata, indent=2) + "\n"
    rendered["configs/logging.conf"] = (configs / "base" / "logging.conf").read_text()
    rendered["LICENSE"] = (configs.parent / "LICENSE").read_text()
    return rendered


def render_all(configs: Path, bundles: Path) -> list[str]:
    """Render every task into its bundle's folder.

    Args:
        configs: folder of fragments.
        bundles: folder of bundles.

    Returns:
        Paths of files that changed, relative to `bundles`.
    """
    changed = []
    for task_file in sorted((configs / "tasks").glob("*.yaml")):
        for path, text in render_bundle(task_file).items():
            target = bundles / task_file.stem / path
            if not target.is_file() or target.read_text() != text:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
                changed.append(str(target.relative_to(bundles)))
    return changed


def _pins(path: Path) -> dict[str, str]:
    """Pinned versions by lower-case name."""
    lines = (re.split("[#;]", line)[0].strip() for line in path.read_text().splitlines())
    rows = (line.split("==") for line in lines)
    return {row[0].lower(): row[1] for row in rows if len(row) == 2}


def _layered(
    configs: Path, name: str, dims: Mapping[str, Any], task: Mapping[str, Any]
) -> dict[str, Any]:
    """Base fragment, then the dimension's overrides, then the task's."""
    config = read_fragment(configs / "base" / f"{name}.yaml")
    config = overlay(config, dims.get(name, {}), f"dims/{task['dims']}.yaml")
    return overlay(config, task.get(name, {}), f"tasks/{task['name']}.yaml")


class _Dumper(yaml.SafeDumper):
    """Short lists in one line, everything else in blocks."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: Any = None) -> Any:
        flow = all(not isinstance(item, dict | list) for item in sequence) and len(sequence) < 8
        longest = sum(len(str(item)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flow and longest < 60)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(config: Mapping[str, Any]) -> str:
    return yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, width=10_000)
