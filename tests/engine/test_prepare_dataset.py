"""Preparing a dataset: resuming, interruption, the command, own declarations, real data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from image_files import make_image, make_label, write_any
from layouts import make_dataset
from typer.testing import CliRunner

from differseg_med import engine, io
from differseg_med.cli._app import app
from differseg_med.data import load_datalist
from differseg_med.engine import _prepare, prepare_dataset
from differseg_med.errors import DifferSegError, UsageError


def _converted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that are converted from here on."""
    names: list[str] = []
    original = _prepare.convert_case

    def convert(case, *rest):
        names.append(case.case)
        return original(case, *rest)

    monkeypatch.setattr(_prepare, "convert_case", convert)
    return names


def test_a_case_that_is_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = make_dataset("wmh", tmp_path / "in")
    first = prepare_dataset("wmh", tmp_path / "in", tmp_path / "out")
    texts = {name: (tmp_path / "out" / name).read_text() for name in _files()}
    names = _converted(monkeypatch)
    again = prepare_dataset("wmh", tmp_path / "in", tmp_path / "out")
    assert (names, again.sections) == ([], first.sections)
    assert texts == {name: (tmp_path / "out" / name).read_text() for name in _files()}
    write_any(tmp_path / "in", _relative(cases[1]["mr_t1"], tmp_path), make_image("n", 9), "x", 0)
    (tmp_path / "out/cases/training_Singapore_50/samples.npz").unlink()
    prepare_dataset("wmh", tmp_path / "in", tmp_path / "out")
    assert sorted(names) == ["training_Singapore_50", "training_Utrecht_0"]


def _files() -> tuple[str, ...]:
    return ("datalist.json", "fingerprint.json", "prepared.json")


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root / "in").as_posix()


def test_an_interruption_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset("wmh", tmp_path / "in")
    stages: list[str] = []

    def report(stage: str) -> None:
        stages.append(stage)
        if stage.startswith("3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_dataset("wmh", tmp_path / "in", tmp_path / "out", report=report)
    assert re.fullmatch(r"2/6 cases, .* left: [\w-]+", stages[2])
    assert not (tmp_path / "out" / "datalist.json").exists()
    done = {path.parent.name for path in (tmp_path / "out/cases").glob("*/case.json")}
    assert 3 <= len(done) < 6
    names = _converted(monkeypatch)
    prepare_dataset("wmh", tmp_path / "in", tmp_path / "out")
    assert not set(names) & done
    assert len(names) + len(done) == 6
    assert not list((tmp_path / "out/cases").glob(".*"))


def test_a_refused_case_does_not_move_others_between_sections(tmp_path: Path) -> None:
    cases = make_dataset("brats", tmp_path / "in")
    prepare_dataset("brats", tmp_path / "in", tmp_path / "a")
    before = _sections(tmp_path / "a")
    cases[2]["mr_t2"].write_bytes(b"broken")
    result = prepare_dataset("brats", tmp_path / "in", tmp_path / "b", target="core", folds=0)
    assert [error.code for error in result.refused.values()] == ["E_CORRUPT"]
    (refused,) = result.refused
    after = _sections(tmp_path / "b")
    assert after == {case: part for case, part in before.items() if case != refused}
    label = io.read_nifti(tmp_path / "b/cases/BraTS2021_00000/label.nii.gz").array
    np.testing.assert_array_equal(label, np.isin(make_label((1, 2, 4), 0), (1, 4)))


def _sections(out: Path) -> dict[str, str]:
    content = json.loads((out / "datalist.json").read_text())
    return {
        entry["case"]: section
        for section in ("training", "validation", "test")
        for entry in content[section]
    }


def test_images_stay_where_they_are_and_are_named_relative(tmp_path: Path) -> None:
    make_dataset("isles2022", tmp_path / "in")
    prepare_dataset("isles2022", tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.nii.gz")), "binary labels on 3D files: no copy"
    tmp_path.joinpath("moved").mkdir()
    for name in ("in", "out"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    out = tmp_path / "moved" / "out"
    streams = ("mr_dwi", "mr_adc", "mr_flair")
    assert load_datalist(out / "datalist.json", "training", out, streams, streams[:1])


def test_a_patient_in_two_published_parts_is_refused(tmp_path: Path) -> None:
    make_dataset("amd_sd", tmp_path / "in")
    path = tmp_path / "in/AMD-SD/validation.txt"
    path.write_text("1/1_2.png\n7/7_1.png\n")
    with pytest.raises(DifferSegError, match="E_DATALIST: a patient stands in training and in"):
        prepare_dataset("amd_sd", tmp_path / "in", tmp_path / "out")


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    make_dataset("wmh", tmp_path)
    for options in ({"folds": 1}, {"folds": -1}, {"workers": 0}, {"target": "x"}, {"layout": "x"}):
        with pytest.raises(UsageError, match="E_OPTION"):
            prepare_dataset("wmh", tmp_path, tmp_path / "out", **options)


def _run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_says_what_became_of_the_cases(tmp_path: Path) -> None:
    cases = make_dataset("wmh", tmp_path / "in")
    options = ("prepare", "wmh", "--source", tmp_path / "in", "--out", tmp_path / "out")
    done = _run(*options, "--workers", 2)
    assert done.exit_code == 0, done.output
    assert "wmh, target wmh, layout dataverse: 4 training, 1 validation, 1 test" in done.stdout
    cases[0]["mr_t1"].unlink()
    some = _run(*options, "--json", "--folds", 0)
    assert some.exit_code == 3
    shown = json.loads(some.stdout)
    assert shown["refused"] == {"training_Amsterdam-GE3T_100": "E_MISSING_MODALITY"}
    text = _run(*options).stdout
    assert "mr_t1 at dataverse_files/training/Amsterdam/GE3T/100/pre/T1.nii.gz" in text


def test_command_refuses_options_that_do_not_go_together(tmp_path: Path) -> None:
    for arguments in (
        ("prepare", "--out", tmp_path),
        ("prepare", "wmh", "--out", tmp_path),
        ("prepare", "wmh", "--source", tmp_path, "--from-dicom", tmp_path, "--out", tmp_path),
        ("prepare", "wmh", "--source", tmp_path, "--roi", "x", "--out", tmp_path),
        ("prepare", "--from-dicom", tmp_path, "--out", tmp_path),
        (
            "prepare",
            "--from-dicom",
            tmp_path,
            "--bundle",
            "wmh",
            "--target",
            "x",
            "--out",
            tmp_path,
        ),
    ):
        result = _run(*arguments)
        assert getattr(result.exception, "code", None) == "E_OPTION", arguments


def test_datasets_are_listed() -> None:
    result = _run("datasets")
    assert result.exit_code == 0
    assert re.search(r"^sts +3D +pet \[ct\] \[mr_t1\] +gtv ", result.stdout, re.MULTILINE)
    lines = _run("datasets", "--json").stdout.splitlines()
    assert {"brats", "busi"} <= {json.loads(line)["name"] for line in lines}


def test_a_dataset_of_ones_own_is_read_as_the_page_says(root: Path, tmp_path: Path) -> None:
    page = (root / "docs/how-to/prepare-a-dataset.md").read_text(encoding="utf-8")
    (declaration,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "my_lesions.yaml").write_text(declaration)
    for patient in range(6):
        for visit in ("v1", "v2"):
            base, seed = f"p{patient}/{visit}", patient * 2 + (visit == "v2")
            flair, t1 = make_image("f", seed), make_image("t", seed)
            write_any(tmp_path / "in", f"{base}/flair.nii.gz", flair, "mr_flair", 0)
            if patient:
                ending = "mha" if patient % 2 else "nii.gz"
                write_any(tmp_path / "in", f"{base}/t1.{ending}", t1, "mr_t1", 0)
            label = make_label((1, 9), seed)
            write_any(tmp_path / "in", f"labels/p{patient}_{visit}.nii.gz", label, "label", 0)
    result = prepare_dataset(tmp_path / "my_lesions.yaml", tmp_path / "in", tmp_path / "out")
    assert not result.refused
    assert sum(result.sections.values()) == 12
    content = json.loads((tmp_path / "out/datalist.json").read_text())
    assert content["patients"]["p1_v1"] == content["patients"]["p1_v2"] == "p1"
    written = io.read_nifti(tmp_path / "out/cases/p1_v1/label.nii.gz").array
    wanted = make_label((1, 9), 2)
    np.testing.assert_array_equal(written, np.where(wanted == 9, 2, wanted))
    found = json.loads((tmp_path / "out/fingerprint.json").read_text())
    assert found["modalities"]["mr_t1"]["absent"] in (0, 2)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "folder", "streams"),
    [
        ("open_ms", "ms", ("mr_flair", "mr_t1", "mr_t2")),
        ("isles2022", "stroke", ("mr_dwi", "mr_adc", "mr_flair")),
    ],
)
def test_real_cases_are_prepared(name, folder, streams, shared, tmp_path) -> None:
    result = engine.prepare_dataset(name, shared / "data" / folder, tmp_path, split=False)
    assert not result.refused
    cases = load_datalist(tmp_path / "datalist.json", "training", tmp_path, streams, streams[:1])
    found = json.loads((tmp_path / "fingerprint.json").read_text())
    for case, line in zip(cases, found["per_case"], strict=True):
        label = io.read_nifti(case["label"])
        volume = (label.array > 0).sum() * np.prod(label.grid.spacing) / 1000
        assert line["foreground_ml"] == pytest.approx(volume, rel=1e-4)
    assert found["modalities"][streams[0]]["intensity"]["foreground"]["mean"] > 0


@pytest.mark.realdata
def test_real_sarcomas_are_prepared_with_their_absent_modalities(
    shared: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("sts_001", "sts_009", "sts_011", "sts_015", "sts_020"):
        (source / name).symlink_to(shared / "data" / "sts" / name)
    result = engine.prepare_dataset("sts", source, tmp_path / "out", folds=0)
    assert not result.refused
    content = json.loads((tmp_path / "out/datalist.json").read_text())
    entries = {e["case"]: e for s in ("training", "validation", "test") for e in content[s]}
    assert set(entries["sts_009"]) == {"case", "pet", "label"}
    assert set(entries["sts_011"]) == {"case", "pet", "mr_t1", "label"}
    assert set(entries["sts_001"]) == {"case", "pet", "ct", "mr_t1", "label"}
