"""The formats json, csv, sr and rtstruct of a case say the same, and the same every time."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from differseg_med.cli._app import app
from differseg_med.engine import FORMATS, CaseOptions, segment_case
from differseg_med.engine._tables import csv_columns
from differseg_med.errors import UsageError
from differseg_med.io import read_nifti, read_rtstruct, read_seg

BUNDLE = {
    "name": "sts_petctmr",
    "version": "0.1.0",
    "weights_sha256": "ab" * 32,
    "target": {
        "label": "Gross tumour volume",
        "category": ["49755003", "SCT", "Morphologically Abnormal Structure"],
        "type": ["108369006", "SCT", "Neoplasm"],
    },
}
NAMES = ("nifti", "seg", "sr", "rtstruct", "json", "csv")


class Hot:
    """Takes the PET above a value for foreground."""

    modalities = ("pet", "ct", "mr_t1")
    required = ("pet",)
    reference = "pet"
    spacing = (4.0, 4.0, 4.0)
    window = (16, 16, 16)
    min_overlap = {"mr_t1": 0.01}  # noqa: RUF012 - stands for an instance's attribute

    def __init__(self, threshold: float = 3.0) -> None:
        self.threshold = threshold

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(4 * (image[:, :1] - self.threshold))


@pytest.fixture(scope="module")
def runs(dicom_study, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same case twice, and once without anything found."""
    folders = []
    for threshold in (3.0, 3.0, 1e6):
        options = CaseOptions(formats=NAMES, case="case_7")
        out = tmp_path_factory.mktemp("out")
        case = segment_case(dicom_study[0], Hot(threshold), out, options, bundle=BUNDLE)
        folders.append(case.folder)
    return folders


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "measurements.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_json_says_where_it_comes_from(runs: list[Path]) -> None:
    content = json.loads((runs[0] / "measurements.json").read_text("utf-8"))
    status = json.loads((runs[0] / "status.json").read_text("utf-8"))
    assert (content["schema"], content["case"], content["reference"]) == (1, "case_7", "pet")
    assert content["provenance"]["bundle"]["weights_sha256"] == "ab" * 32
    assert {*content["provenance"]["inputs_sha256"]} == {"pet", "ct", "mr_t1"}
    assert content["units"]["statistics"]["pet"]["tlg_g"] == "g"
    assert content["lesion_count"] == len(content["lesions"]) == status["result"]["components"] > 1
    assert content["target"]["volume_ml"] == pytest.approx(status["result"]["volume_ml"])
    assert content["target"]["voxels"] == sum(lesion["voxels"] for lesion in content["lesions"])


def test_csv_has_a_row_for_the_case_and_one_per_lesion(runs: list[Path]) -> None:
    content = json.loads((runs[0] / "measurements.json").read_text("utf-8"))
    found = rows(runs[0])
    assert list(found[0]) == csv_columns(Hot.modalities)
    assert [row["level"] for row in found] == ["case"] + ["lesion"] * content["lesion_count"]
    for row, region in zip(found, [content["target"], *content["lesions"]], strict=True):
        assert row["case"] == "case_7"
        assert float(row["volume_ml"]) == region["volume_ml"]
        assert float(row["pet_suv_peak"]) == region["statistics"]["pet"]["suv_peak"]
        assert float(row["ct_mean_hu"]) == region["statistics"]["ct"]["mean"]
        assert float(row["centroid_p_mm"]) == region["centroid_lps_mm"][1]
        assert float(row["box_max_s_mm"]) == region["bounding_box_lps_mm"][1][2]
    assert found[0]["lesion_count"] == str(content["lesion_count"])


def test_sr_says_the_same(runs: list[Path]) -> None:
    content = json.loads((runs[0] / "measurements.json").read_text("utf-8"))
    report = hd.sr.srread(runs[0] / "measurements.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 1 + content["lesion_count"]
    for group, region in zip(groups, [content["target"], *content["lesions"]], strict=True):
        said = {
            (m.name.meaning, m.derivation.meaning if m.derivation else None): m.value
            for m in group.get_measurements()
        }
        pet, ct, mr = (region["statistics"][name] for name in Hot.modalities)
        expected = {
            ("Volume", None): region["volume_ml"],
            ("Long Axis", None): region["longest_axial_diameter_mm"],
            ("Perpendicular Axis", None): region["perpendicular_diameter_mm"],
            ("SUVbw", "Mean"): pet["mean"],
            ("SUVbw", "Maximum"): pet["max"],
            ("SUVbw", "Peak Value Within ROI"): pet["suv_peak"],
            ("Total Lesion Glycolysis", None): pet["tlg_g"],
            ("Attenuation Coefficient", "Mean"): ct["mean"],
            ("Attenuation Coefficient", "Maximum"): ct["max"],
            ("MR signal intensity", "Mean"): mr["mean"],
            ("MR signal intensity", "Maximum"): mr["max"],
        }
        if group is groups[0]:
            expected["Number of lesions", None] = content["lesion_count"]
        assert said == pytest.approx(expected, abs=1e-5)


def test_contours_and_seg_hold_the_same_mask(runs: list[Path]) -> None:
    mask = read_nifti(runs[0] / "mask.nii.gz")
    for back in (
        read_seg(runs[0] / "mask.dcm", mask.grid),
        read_rtstruct(runs[0] / "contours.dcm", mask.grid),
    ):
        assert np.array_equal(back.array, mask.array)


def test_a_repeated_run_gives_the_same_bytes(runs: list[Path]) -> None:
    first, again, empty = (
        json.loads((folder / "status.json").read_text("utf-8"))["outputs"] for folder in runs
    )
    assert first == again
    assert len(first) == len(NAMES)
    assert not [name for name in first if first[name] == empty[name]]


def test_nothing_found_is_a_result_in_every_format(runs: list[Path]) -> None:
    (row,) = rows(runs[2])
    assert (row["lesion_count"], row["volume_ml"], row["pet_mean_suvbw"]) == ("0", "0.0", "")
    report = hd.sr.srread(runs[2] / "measurements.dcm")
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    assert {m.name.meaning: m.value for m in group.get_measurements()} == {
        "Number of lesions": 0,
        "Volume": 0,
    }


def test_a_report_needs_the_seg_that_it_refers_to(dicom_study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"E_OPTION: format sr refers to seg.*--formats seg,sr"):
        segment_case(dicom_study[0], Hot(), tmp_path, CaseOptions(formats=("sr",)))


def test_what_is_referred_to_is_written_before() -> None:
    order = list(FORMATS)
    for name, row in FORMATS.items():
        assert all(order.index(other) < order.index(name) for other in row.refers_to)


def test_every_format_is_in_the_help_and_on_the_page(root: Path) -> None:
    shown = " ".join(CliRunner().invoke(app, ["segment", "--help"]).stdout.split())
    listed = re.search(r"Of ([a-z, ]+), separated by commas", shown)
    assert listed is not None
    assert listed[1].split(", ") == list(FORMATS)
    page = (root / "docs/reference/outputs.md").read_text(encoding="utf-8")
    for name, row in FORMATS.items():
        file = row.file.replace("{modality}", "MODALITY")
        assert f"| `{name}` | `{file}` |" in page
