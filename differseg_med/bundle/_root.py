"""Where a running bundle lies and which checkpoint it takes; called from bundle configurations."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from differseg_med.bundle._locate import find_bundle
from differseg_med.errors import BundleError

__all__ = ["bundle_root", "checkpoint"]

_log = logging.getLogger(__name__)


def bundle_root(name: str) -> str:
    """Folder of the bundle whose configuration is being run.

    ``python -m monai.bundle run`` puts the folder of its configuration on ``sys.path``; this makes
    a copied bundle find itself from any working directory. Other commands fall back to the working
    directory, to ``bundles/NAME`` below it, and to the distribution.

    Args:
        name: name of the bundle; a folder whose metadata has another name is not taken.

    Raises:
        UsageError: ``E_BUNDLE`` when it is nowhere.
    """
    here = Path.cwd()
    for folder in (*map(Path, sys.path[:3]), here, here.parent, here / "bundles" / name):
        if _name(folder) == name:
            return str(folder.resolve())
    return str(find_bundle(name).root)


def _name(folder: Path) -> str | None:
    path = folder / "configs" / "metadata.json"
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text()).get("bundle"))
    except (OSError, ValueError) as error:
        raise BundleError("E_METADATA", f"{path.name} cannot be read as JSON") from error


def checkpoint(root: str, run_dir: str) -> str:
    """The weights to evaluate or to infer with: your own training's if there are any, else shipped.

    Which one is taken is logged. Give ``--ckpt_path FILE`` to choose.

    Raises:
        BundleError: ``E_WEIGHTS`` when there are none.
    """
    for path in (Path(run_dir) / "model.pt", Path(root) / "models" / "model.pt"):
        if path.is_file():
            _log.info("weights: %s", path)
            return str(path)
    raise BundleError(
        "E_WEIGHTS",
        "neither runs/model.pt nor models/model.pt exists in the bundle",
        "Train the bundle, or give --ckpt_path FILE.",
    )
