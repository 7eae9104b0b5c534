"""Layouts, splits, targets and statistics, each against a case worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from image_files import make_image, write_any
from layouts import make_dataset

from differseg_med.data import (
    check_disjoint,
    find_dataset,
    make_folds,
    read_published,
    split_patients,
    summarise_cases,
)
from differseg_med.data._fingerprint import summarise_image
from differseg_med.data._patterns import PathPattern, case_name, fill
from differseg_med.data._targets import Target, parse_classes, to_target
from differseg_med.errors import BundleError, StudyError, UsageError
from differseg_med.geometry import Grid, Volume

# --- patterns


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("{p}/{p}_t1.nii.gz", "x/1/1_t1.nii.gz", {"root_": "x/", "p": "1"}),
        ("{p}/{p}_t1.nii.gz", "1/2_t1.nii.gz", None),
        ("**/a/{p}.png", "b/c/a/1.png", {"root_": "", "p": "1"}),
        ("**/a/{p}.png", "a/1.png", {"root_": "", "p": "1"}),
        ("{p}_mask*.png", "1_mask_2.png", {"root_": "", "p": "1"}),
        ("{p}.nii", "1.nii.gz", None),
        ("{p}/a.png", "1/b/a.png", {"root_": "1/", "p": "b"}),
        ("a.b/{p}", "axb/1", None),
    ],
)
def test_patterns(pattern: str, path: str, expected) -> None:
    assert PathPattern(pattern).match(path) == expected


def test_a_placeholder_may_be_a_regular_expression() -> None:
    pattern = PathPattern("{site}/{n}/x", {"site": "Utrecht|Amsterdam/[^/]+", "n": r"\d+"})
    assert pattern.match("in/Amsterdam/GE3T/7/x") == {
        "root_": "in/",
        "site": "Amsterdam/GE3T",
        "n": "7",
    }
    assert pattern.match("Singapore/7/x") is None
    assert fill("{site}_{n}_{other}", {"site": "U", "n": "7"}) == "U_7_{other}"
    assert case_name("Amsterdam/GE3T_7 (b)") == "Amsterdam-GE3T_7-b"


# --- finding cases


def test_hidden_and_foreign_files_are_left_out_and_named(tmp_path: Path) -> None:
    make_dataset("msd_prostate", tmp_path)
    junk = tmp_path / "Task05_Prostate/imagesTr/._prostate_00.nii.gz"
    junk.write_bytes(b"\0" * 100)  # macOS leaves these in the archives of the decathlon
    found = read_published(find_dataset("msd_prostate"), tmp_path)
    assert found.root == "Task05_Prostate/"
    assert found.cases[0].case == "prostate_00"
    assert len(found.cases) == 7
    assert found.unmatched == ("Task05_Prostate/dataset.json",)


def test_the_layout_that_most_cases_fit_is_read(tmp_path: Path) -> None:
    make_dataset("open_ms", tmp_path)
    info = find_dataset("open_ms")
    for stream, name in (("mr_flair", "FLAIR"), ("label", "consensus_gt")):
        path = f"cross_sectional/coregistered/patient01/{name}.nii.gz"
        write_any(tmp_path, path, make_image(stream, 0), stream, 0)
    assert read_published(info, tmp_path).layout.name == "MNI"
    other = read_published(info, tmp_path, "coregistered")
    assert [case.case for case in other.cases] == ["patient01"]
    with pytest.raises(UsageError, match=r"no layout 'x'; it has MNI, resampled"):
        read_published(info, tmp_path, "x")


def test_nothing_that_fits_says_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(StudyError, match=r"E_LAYOUT.*pre/FLAIR.nii.gz"):
        read_published(find_dataset("wmh"), tmp_path)
    with pytest.raises(UsageError, match="E_PATH"):
        read_published(find_dataset("wmh"), tmp_path / "none")
    with pytest.raises(UsageError, match=r"E_DATASET.*there are: amd_sd, autopet"):
        find_dataset("wnh")


def test_two_files_for_one_image_are_ambiguous(tmp_path: Path) -> None:
    declared = _declaration(files={"mr_flair": "{patient}/*flair.nii.gz"})
    for name in ("flair", "old_flair"):
        write_any(tmp_path / "in", f"p1/{name}.nii.gz", make_image("x", 0), "mr_flair", 0)
    write_any(tmp_path / "in", "p1/lesion.nii.gz", make_image("x", 0), "label", 0)
    (case,) = read_published(_declare(tmp_path, declared), tmp_path / "in").cases
    assert "E_AMBIGUOUS" in str(case.problem)
    assert "p1/old_flair.nii.gz" in str(case.problem)


def test_names_that_cleaning_makes_equal_stay_apart(tmp_path: Path) -> None:
    declared = _declaration()
    for patient in ("a b", "a-b", "a  b"):
        for name in ("flair", "lesion"):
            write_any(tmp_path / "in", f"{patient}/{name}.nii.gz", make_image("x", 0), name, 0)
    cases = read_published(_declare(tmp_path, declared), tmp_path / "in").cases
    assert len({case.case for case in cases}) == len({case.patient for case in cases}) == 3


def test_a_published_list_that_is_gone_is_an_error(tmp_path: Path) -> None:
    make_dataset("amd_sd", tmp_path)
    (tmp_path / "AMD-SD/validation.txt").unlink()
    with pytest.raises(BundleError, match=r"E_DATALIST.*validation.txt is not there"):
        read_published(find_dataset("amd_sd"), tmp_path)


def test_patients_come_from_a_table_where_one_is_published(tmp_path: Path) -> None:
    make_dataset("cvc_clinicdb", tmp_path)
    found = read_published(find_dataset("cvc_clinicdb"), tmp_path)
    patients = {case.case: case.patient for case in found.cases}
    assert patients["1"] == patients["2"] == "s1" != patients["3"]
    assert found.patients_known
    (tmp_path / "metadata.csv").unlink()
    assert not read_published(find_dataset("cvc_clinicdb"), tmp_path).patients_known


# --- declarations


def _declaration(**layout) -> dict[str, object]:
    base = {
        "files": {"mr_flair": "{patient}/flair.nii.gz"},
        "label": "{patient}/lesion.nii.gz",
        "case": "{patient}",
        "patient": "{patient}",
    }
    return {
        **dict.fromkeys(("title", "group", "source", "licence", "confidence"), "own"),
        "name": "own",
        "tasks": [],
        "dims": 3,
        "published": {},
        "streams": ["mr_flair"],
        "reference": "mr_flair",
        "classes": {"background": 0, "lesion": 1},
        "targets": {"lesion": {"title": "Lesion", "classes": ["lesion"]}},
        "layouts": {"first": {**base, **layout}},
        "split": {"shares": [0.7, 0.1, 0.2]},
    }


def _declare(folder: Path, content: dict[str, object]):
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return find_dataset(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"naem": 1}, r"unknown keys \['naem'\]"),
        ({"streams": ["flair"]}, "modality 'flair' is unknown"),
        ({"reference": "mr_t1"}, "the reference among required"),
        ({"dims": 4}, "dims is 2 or 3"),
        ({"classes": {"background": 0, "lesion": 0}}, "stands in two classes"),
        ({"targets": {"x": {"title": "X", "classes": ["tumour"]}}}, "not declared"),
        ({"split": {"shares": [0.5, 0.1, 0.1]}}, "three that sum to 1"),
        ({"split": {"by": "part"}}, "come together"),
        ({"layouts": {"a": {"files": {}, "label": "x", "case": "x", "patient": "x"}}}, "lacks"),
        ({"name": "other"}, "the file is called own.yaml"),
    ],
)
def test_a_wrong_declaration_names_the_key(change, message: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=rf"E_CONFIG: own\.yaml.*{message}"):
        _declare(tmp_path, {**_declaration(), **change})


def test_a_pattern_must_name_the_case(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"labels\.nii\.gz lacks \['patient'\]"):
        _declare(tmp_path, _declaration(label="labels.nii.gz"))


# --- splits


def test_splits_depend_on_patients_and_seed_alone() -> None:
    shares = {"training": 0.7, "validation": 0.1, "test": 0.2}
    patients = [f"p{n}" for n in range(50)]
    first = split_patients(patients, shares, 0)
    assert first == split_patients(reversed(patients), shares, 0)
    assert first != split_patients(patients, shares, 1)
    counts = [list(first.values()).count(name) for name in shares]
    assert counts == [35, 5, 10]
    assert sorted(split_patients(["a", "b", "c"], shares, 0).values()) == [
        "test",
        "training",
        "validation",
    ]
    assert set(split_patients(["a"], shares, 0).values()) == {"training"}


def test_folds_hold_every_patient_once() -> None:
    folds = make_folds([f"p{n}" for n in range(13)], 5, 0)
    assert sorted(len(fold) for fold in folds) == [2, 2, 3, 3, 3]
    assert sorted(p for fold in folds for p in fold) == sorted(f"p{n}" for n in range(13))
    with pytest.raises(BundleError, match="2 patients do not make 5 folds"):
        make_folds(["a", "b"], 5, 0)


def test_a_patient_in_two_sections_is_refused_without_its_name() -> None:
    check_disjoint({"training": ["a"], "test": ["b"]})
    with pytest.raises(BundleError, match="a patient stands in training and in test") as caught:
        check_disjoint({"training": ["secret"], "test": ["secret"]})
    assert "secret" not in str(caught.value)


# --- targets


def test_classes_make_binary_targets() -> None:
    classes = parse_classes({"background": 0, "core": [1, 4], "oedema": "2-3", "other": "#0000ff"})
    stored = np.array([0, 1, 2, 3, 4, 255])
    target = Target("core", "Core", ("core",), ("other",))
    assert to_target(stored, classes, target).tolist() == [0, 1, 0, 0, 1, 2]
    with pytest.raises(StudyError, match=r"E_LABEL: the label holds 5, 7; declared are 0 back"):
        to_target(np.array([0, 5, 7]), classes, target)


def test_a_mask_that_would_be_empty_by_its_scale_is_refused() -> None:
    classes = parse_classes({"background": "0-127", "lesion": "128-255"})
    target = Target("lesion", "Lesion", ("lesion",))
    assert to_target(np.array([0, 0]), classes, target).sum() == 0
    assert to_target(np.array([0, 3, 250]), classes, target).tolist() == [0, 0, 1]
    with pytest.raises(StudyError, match="values up to 1, all of them declared as background"):
        to_target(np.array([0, 1]), classes, target)


# --- fingerprint


def test_statistics_are_those_of_the_voxels() -> None:
    generator = np.random.default_rng(0)
    grid = Grid((20, 18, 9), np.diag([1.0, 2.0, 3.0, 1.0]))
    records, inside = [], []
    for case in range(3):
        image = generator.normal(100 + 10 * case, 5, grid.shape).astype(np.float32)
        image[:5] = 0.0
        mask = np.zeros(grid.shape, np.uint8)
        mask[6 : 9 + case, 3:9, 2:5] = 1
        facts, quantiles = summarise_image([Volume(image, grid, "mr_t1")], mask, 0.0)
        inside.append(image[mask == 1])
        label = {"values": {"0": 1, "1": 2}, "foreground": 2, "ignored": 0, "foreground_ml": 1.5}
        records.append(
            (
                {"case": f"c{case}", "images": {"mr_t1": facts}, "label": label},
                {f"mr_t1.{name}": q for name, q in quantiles.items()},
            )
        )
        assert facts["body"]["voxels"] == (image > 0).sum()
        np.testing.assert_allclose(facts["body"]["sd"], image[image > 0].std(), rtol=1e-5)
    found = summarise_cases(records, ["mr_t1", "mr_t2"], "mr_t1")
    values = found["modalities"]["mr_t1"]["intensity"]["foreground"]
    # each case counts the same: moments of the mixture, by hand
    means = [v.mean() for v in inside]
    np.testing.assert_allclose(values["mean"], np.mean(means), rtol=1e-5)
    spread = np.mean([v.var() for v in inside]) + np.var(means)
    np.testing.assert_allclose(values["sd"], np.sqrt(spread), rtol=1e-5)
    same = np.concatenate([generator.choice(v, 5000) for v in inside])
    np.testing.assert_allclose(values["percentile_99.5"], np.percentile(same, 99.5), atol=1.0)
    np.testing.assert_allclose(values["median"], np.median(same), atol=1.0)
    assert values["max"] == max(v.max() for v in inside)
    assert found["modalities"]["mr_t2"] == {"present": 0, "absent": 3}
    assert found["modalities"]["mr_t1"]["spacing_mm"]["median"] == [1.0, 2.0, 3.0]
    assert found["label"]["values"] == {"0": 3, "1": 6}
    assert found["label"]["foreground_ml"]["mean"] == 1.5
    json.dumps(found, allow_nan=False)
