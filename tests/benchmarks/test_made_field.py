"""Made-up pictures of a field: the published layout, with what the short benchmark needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.made_field import TEST, TRAINING, write_field
from differseg_med.engine import prepare_dataset


def test_made_pictures_are_prepared_like_published_ones(tmp_path: Path) -> None:
    write_field(tmp_path / "source")
    result = prepare_dataset("crop_weed", tmp_path / "source", tmp_path / "data", folds=0)
    assert not result.refused
    sections = json.loads((tmp_path / "data" / "datalist.json").read_text())
    tested = [entry["case"] for entry in sections["test"]]
    assert tested == [f"{number:03}" for number in TEST]
    assert len(sections["training"]) + len(sections["validation"]) == len(TRAINING)


def test_plants_are_dark_in_red_and_bright_in_near_infrared(tmp_path: Path) -> None:
    write_field(tmp_path)
    for path in (tmp_path / "images").iterdir():
        name = path.name.replace("image", "annotation")
        image = np.asarray(Image.open(path)).astype(float)
        plants = np.asarray(Image.open(tmp_path / "annotations" / name)).any(-1)
        red, nir = image[plants, 0].mean(), image[plants, 1].mean()
        assert nir - red > 100
        assert abs(image[~plants, 0].mean() - image[~plants, 1].mean()) < 50
