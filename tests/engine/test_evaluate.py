"""Folders of masks in the layouts that tools write, against their truth."""

from __future__ import annotations

import csv
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from differseg_med import io
from differseg_med.engine import DatalistTruth, EvaluateOptions, FolderTruth, evaluate_folder
from differseg_med.errors import BundleError, OutputError, UsageError
from differseg_med.geometry import Grid, Volume
from differseg_med.metrics import METRICS

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
FAST = EvaluateOptions(metrics=("dice", "hd95_mm", "truth_ml", "volume_ml", "overlap_ml"))


def ball(shift: int = 0, value: int = 1) -> np.ndarray:
    array = np.zeros((12, 12, 8), dtype=np.uint8)
    array[3 + shift : 7 + shift, 3:7, 2:6] = value
    return array


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = Grid(tuple(array.shape), affine)
    return io.write_nifti(Volume(array, grid), path)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    for case in ("a", "b", "c"):
        write(tmp_path / "truth" / f"{case}.nii.gz", ball())
    return tmp_path / "truth"


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_nothing_is_dropped(truth: Path, tmp_path: Path) -> None:
    """One case is right, one has no prediction, one lies on another grid, one is extra."""
    ours = tmp_path / "ours"
    write(ours / "a.nii.gz", ball(1))
    write(ours / "c.nii.gz", ball(), np.diag([2.0, 2.0, 4.0, 1.0]))
    write(ours / "z.nii.gz", ball())
    done = evaluate_folder(ours, FolderTruth(truth), tmp_path / "out", FAST)
    found = rows(tmp_path / "out")
    assert {c: (r["state"], r["code"]) for c, r in found.items()} == {
        "a": ("ok", ""),
        "b": ("missing", "E_EMPTY"),
        "c": ("failed", "E_GEOMETRY"),
    }
    assert float(found["a"]["dice"]) == pytest.approx(0.75)
    assert float(found["b"]["dice"]) == float(found["c"]["dice"]) == 0.0
    assert float(found["b"]["truth_ml"]) == pytest.approx(64 * 12 / 1000)
    assert math.isnan(float(found["b"]["hd95_mm"]))
    assert [f.code for f in done.findings] == ["W_UNUSED"]
    assert len(done.failed) == 2
    assert done.summary["dice"].mean == pytest.approx(0.25)
    assert (done.summary["hd95_mm"].n, done.summary["hd95_mm"].undefined) == (1, 2)
    # 48 of 64 shared in one case of three
    assert done.summary["aggregated_dice"].mean == pytest.approx(2 * 48 / (64 + 3 * 64))
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [f["case"] for f in content["failed"]] == ["b", "c"]
    assert content["settings"]["nsd_tolerance_mm"] == 3.0


def test_another_grid_only_by_option(truth: Path, tmp_path: Path) -> None:
    fine = np.repeat(ball(), 2, axis=2)
    affine = np.diag([2.0, 2.0, 1.5, 1.0])
    affine[2, 3] = -0.75
    for case in ("a", "b", "c"):
        write(tmp_path / "ours" / f"{case}.nii.gz", fine, affine)
    options = EvaluateOptions(metrics=("dice",), resample=True)
    done = evaluate_folder(tmp_path / "ours", FolderTruth(truth), tmp_path / "out", options)
    assert [(r["dice"], r["resampled"]) for r in done.rows] == [(1.0, "yes")] * 3
    away = affine.copy()
    away[0, 3] = 500.0
    write(tmp_path / "ours" / "a.nii.gz", fine, away)
    done = evaluate_folder(
        tmp_path / "ours", FolderTruth(truth), tmp_path / "out", options, overwrite=True
    )
    assert done.rows[0]["code"] == "E_OVERLAP"


def test_flipped_storage_is_the_same_place(truth: Path, tmp_path: Path) -> None:
    """Tools store axes in other directions; the affine says where a voxel lies."""
    flipped = AFFINE.copy()
    flipped[0, 0], flipped[0, 3] = -2.0, 22.0
    for case in ("a", "b", "c"):
        write(tmp_path / "ours" / f"{case}.nii.gz", ball(2)[::-1].copy(), flipped)
    options = EvaluateOptions(metrics=("dice",), resample=True)
    done = evaluate_folder(tmp_path / "ours", FolderTruth(truth), tmp_path / "out", options)
    assert {row["dice"] for row in done.rows} == {0.5}


@pytest.mark.parametrize(
    ("layout", "pattern"),
    [
        ("{case}.nii.gz", None),  # nnU-Net
        ("{case}/mask.nii.gz", None),  # this package
        ("{case}/{case}.nii", None),
        ("{case}/lung_nodules.nii.gz", "{case}/lung_nodules.nii.gz"),  # TotalSegmentator
        ("run1/{case}_pred.nii.gz", "run*/{case}_pred.nii.gz"),
    ],
)
def test_layouts_of_predictions(
    layout: str, pattern: str | None, truth: Path, tmp_path: Path
) -> None:
    for case in ("a", "b", "c"):
        write(tmp_path / "ours" / layout.format(case=case), ball())
    done = evaluate_folder(
        tmp_path / "ours", FolderTruth(truth), tmp_path / "out", FAST, pattern=pattern, name="x"
    )
    assert [(row["method"], row["dice"]) for row in done.rows] == [("x", 1.0)] * 3


def test_two_files_for_a_case_are_no_choice(truth: Path, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a/mask.nii.gz", "b.nii.gz", "c.nii.gz"):
        write(tmp_path / "ours" / name, ball())
    done = evaluate_folder(tmp_path / "ours", FolderTruth(truth), tmp_path / "out", FAST)
    assert [row["code"] for row in done.rows] == ["E_AMBIGUOUS", "", ""]


def test_labels_are_named_and_never_guessed(tmp_path: Path) -> None:
    """WMH: 1 is the lesion, 2 another pathology that counts neither way."""
    both = ball() + np.roll(ball(0, 2), 5, axis=1)
    write(tmp_path / "truth" / "a.nii.gz", both)
    write(tmp_path / "ours" / "a.nii.gz", (both > 0).astype(np.uint8))
    source = FolderTruth(tmp_path / "truth")
    plain = EvaluateOptions(metrics=("dice",))
    done = evaluate_folder(tmp_path / "ours", source, tmp_path / "1", plain)
    assert (done.rows[0]["state"], done.rows[0]["code"]) == ("unscored", "E_MASK")
    assert done.summary["dice"].n == 0
    options = EvaluateOptions(metrics=("dice",), ignore_label=2)
    done = evaluate_folder(tmp_path / "ours", source, tmp_path / "2", options)
    assert done.rows[0]["dice"] == 1.0
    options = EvaluateOptions(metrics=("dice",), label=1, prediction_label=1)
    done = evaluate_folder(tmp_path / "ours", source, tmp_path / "3", options)
    assert done.rows[0]["dice"] == pytest.approx(2 / 3)
    write(tmp_path / "ours" / "a.nii.gz", both.astype(np.float32) * 0.4)
    done = evaluate_folder(tmp_path / "ours", source, tmp_path / "4", options)
    assert (done.rows[0]["state"], done.rows[0]["code"]) == ("failed", "E_MASK")


def test_datalist_with_patients_and_prepared_labels(tmp_path: Path) -> None:
    label = ball() + np.roll(ball(0, 2), 5, axis=1)
    for case in ("p1_a", "p1_b", "p2_a"):
        write(tmp_path / "data" / f"{case}.nii.gz", label)
        write(tmp_path / "ours" / f"{case}.nii.gz", ball(int(case == "p1_b")))
    entries = [
        {"case": case, "patient": case[:2], "ct": "x", "label": f"data/{case}.nii.gz"}
        for case in ("p1_a", "p1_b", "p2_a")
    ]
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"target": "lesion", "test": entries, "training": []}))
    done = evaluate_folder(tmp_path / "ours", DatalistTruth(path), tmp_path / "out", FAST)
    assert [row["dice"] for row in done.rows] == pytest.approx([1.0, 0.75, 1.0])
    assert [row["patient"] for row in done.rows] == ["p1", "p1", "p2"]
    # two patients: a sample of them has a mean of 0.875, (0.875 x 2 + 1) / 3 or 1
    assert (done.summary["dice"].low, done.summary["dice"].high) == (0.875, 1.0)
    with pytest.raises(BundleError, match=r"no cases in 'training'.*\['test', 'training'\]"):
        evaluate_folder(tmp_path / "ours", DatalistTruth(path, "training"), tmp_path / "out2")


def test_pictures(tmp_path: Path) -> None:
    picture = np.zeros((20, 30), dtype=np.uint8)
    picture[4:9, 5:11] = 255
    for folder, array in (("truth", picture), ("ours", np.roll(picture, 1, axis=1))):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "img1.png")
    done = evaluate_folder(tmp_path / "ours", FolderTruth(tmp_path / "truth"), tmp_path / "out")
    (row,) = done.rows
    assert row["dice"] == pytest.approx(5 / 6)
    assert row["hd95_mm"] == pytest.approx(1.0)  # a pixel counts as 1 mm
    assert set(METRICS) <= set(row)


def test_names_that_could_tell_something_are_hashed(tmp_path: Path) -> None:
    for folder in ("truth", "ours"):
        write(tmp_path / folder / "Doe^John.nii.gz", ball())
    done = evaluate_folder(tmp_path / "ours", FolderTruth(tmp_path / "truth"), tmp_path / "out")
    assert re.fullmatch(r"case-[0-9a-f]{16}", done.rows[0]["case"])
    assert "Doe" not in (tmp_path / "out" / "report.html").read_text()


def test_wrong_calls_are_refused(truth: Path, tmp_path: Path) -> None:
    source = FolderTruth(truth)
    with pytest.raises(UsageError, match="E_PATH: there is no folder"):
        evaluate_folder(tmp_path / "nowhere", source, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no masks were found"):
        evaluate_folder(truth, FolderTruth(tmp_path / "empty"), tmp_path / "out")
    with pytest.raises(UsageError, match=r"is no relative path with \{case\}"):
        evaluate_folder(truth, source, tmp_path / "out", pattern="mask.nii.gz")
    evaluate_folder(truth, source, tmp_path / "out", FAST)
    with pytest.raises(OutputError, match="E_EXISTS"):
        evaluate_folder(truth, source, tmp_path / "out", FAST)
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(BundleError, match="E_DATALIST"):
        evaluate_folder(truth, DatalistTruth(tmp_path / "bad.json"), tmp_path / "out2")


class Offline(HTMLParser):
    """Balanced tags, and nothing that a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "img", "iframe", "image", "use"}
        assert not {name for name, _ in attrs} & {"src", "href", "xlink:href", "onload"}
        self.tags.append(tag)
        if tag not in {"meta"}:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_report_is_self_contained(truth: Path, tmp_path: Path) -> None:
    evaluate_folder(truth, FolderTruth(truth), tmp_path / "out", name="<b>&x")
    text = (tmp_path / "out" / "report.html").read_text()
    parser = Offline()
    parser.feed(text)
    assert not parser.stack
    assert parser.tags.count("svg") > 5
    assert "http" not in text
    assert "&lt;b&gt;&amp;x" in text
