"""Errors of a bundle's run in one line: code, remedy, key and file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from differseg_med.bundle._guard import check_options, explain_error
from differseg_med.errors import BundleError

CONFIG: dict[str, Any] = {
    "imports": ["$import differseg_med.data as data"],
    "max_epochs": 3,
    "network": {"_target_": "differseg_med.networks.DifferSeg", "size": "huge"},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
    "cases": "$data.load_datalist('nowhere.json', 'training', '.', ['ct'], ['ct'])",
    "load": "$data.LoadImageModalitiesd(['ct'], 'ct')",
    "training": ["$1 / 0"],
    "broken": ["$@load({'case': 'p1', 'ct': 'gone.nii.gz'})"],
}
FILES = ["configs/train.yaml"]


def parser() -> ConfigParser:
    return ConfigParser(dict(CONFIG))


def explained(key: str) -> str | None:
    config = parser()
    try:
        config.get_parsed_content(key)
    except Exception as error:  # whatever MONAI wraps it in
        return explain_error(error, config, FILES)
    raise AssertionError(key)


@pytest.mark.parametrize(
    ("key", "start", "end"),
    [
        ("network", "E_NETWORK: ", " [key network of configs/train.yaml]"),
        ("optimizer", "E_CONFIG: TypeError: ", " [key optimizer of configs/train.yaml]"),
        ("cases", "E_DATALIST: there is no datalist at", " [key cases of configs/train.yaml]"),
        ("broken", "E_EMPTY: case p1: ct (gone.nii.gz)", " [key broken#0 of configs/train.yaml]"),
    ],
)
def test_one_line_names_code_key_and_file(key: str, start: str, end: str) -> None:
    line = explained(key)
    assert line is not None
    assert "\n" not in line
    assert line.startswith(start)
    assert line.endswith(end)


def test_at_work_the_key_of_the_component_is_named() -> None:
    config = parser()
    load = config.get_parsed_content("load")
    config["run"] = "$@load({'case': 'p1', 'ct': 'gone.nii.gz'})"
    try:
        load({"case": "p1", "ct": "gone.nii.gz"})
    except Exception as error:
        line = explain_error(error, config, FILES)
    assert line is not None
    assert "[key load" in line


def test_what_only_a_traceback_explains_keeps_it() -> None:
    assert explained("training") is None


def test_the_text_of_a_loading_process_is_enough() -> None:
    error = RuntimeError(
        "Caught BundleError in worker 0.\nE_DATALIST: the label is wrong. Mend it."
    )
    line = explain_error(error, parser(), FILES)
    assert line == "E_DATALIST: the label is wrong. Mend it. [configs/train.yaml]"


def test_options_must_be_keys() -> None:
    good = ["--config_file", "x", "--max_epochs", "3", "--optimizer#lr=0.2", "--tracking", "mlflow"]
    check_options(good, parser(), FILES)
    with pytest.raises(BundleError, match=r"has no key 'max_epoch'\. Did you mean --max_epochs\?"):
        check_options(["--max_epoch", "3"], parser(), FILES)
    with pytest.raises(BundleError, match="no key 'optimizer#lrr'"):
        check_options(["--optimizer#lrr", "3"], parser(), FILES)


@pytest.mark.slow
def test_monais_command_shows_one_line(root: Path, tmp_path: Path) -> None:
    config = root / "bundles" / "polyp" / "configs" / "train.yaml"
    base = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(config)]
    for options, expected in (
        (["--max_epoch", "1"], "Did you mean --max_epochs?"),
        (["--dataset_dir", str(tmp_path)], "E_DATALIST: there is no datalist"),
    ):
        done = subprocess.run([*base, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr + done.stdout
        assert expected in done.stderr.splitlines()[-1]
        assert "train.yaml" in done.stderr.splitlines()[-1]
