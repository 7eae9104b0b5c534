"""Many studies on the command line: what is printed, the exit status, the tables."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from pyarrow import parquet
from small_batch import Level, volume
from typer.testing import CliRunner

import differseg_med.bundle._segment as segment_module
from differseg_med.cli._app import app
from differseg_med.engine import COHORT_COLUMNS
from differseg_med.errors import UsageError
from differseg_med.io import write_nifti


class Other(Level):
    """The tiny predictor with the modalities of the bundle that stands for it."""

    modalities = ("pet", "ct", "mr_t1")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> list[str]:
    monkeypatch.setenv("DIFFERSEG_BUNDLES", str(tiny_bundle.parent))
    monkeypatch.setattr(segment_module, "load_predictor", lambda *_, **__: Other())
    return ["--bundle", "tiny", "--trust-bundle", "--formats", "nifti"]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for i in range(3):
        folder = tmp_path / "in" / f"case_{i}"
        folder.mkdir(parents=True)
        write_nifti(volume(i), folder / "pet.nii.gz")
    return tmp_path / "in"


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_of_studies(use: list[str], studies: Path, tmp_path: Path) -> None:
    (studies / "case_1/pet.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    done = call("segment", studies, *use, "--out", out)
    assert done.exit_code == 3
    shown = done.stdout.splitlines()
    assert [line.split(":")[0] for line in shown] == ["case_0", "case_1", "case_2"]
    assert shown[1].startswith("case_1: E_CORRUPT: ")
    assert done.stderr.splitlines()[-1] == ("3 cases: 2 done, 0 kept, 1 failed (E_CORRUPT 1 times)")
    again = call("segment", studies, *use, "--out", out, "--resume", "--json")
    assert again.exit_code == 3
    assert [row["state"] for row in lines(again.stdout)] == ["kept", "failed", "kept"]
    refused = call("segment", studies, *use, "--out", out)
    assert refused.exit_code == 4
    assert refused.stdout.count("E_EXISTS") == 2
    shutil.copy(studies / "case_0/pet.nii.gz", studies / "case_1")
    assert call("segment", studies, *use, "--out", out, "--resume").exit_code == 0


def test_tables_and_page_of_all_cases(use: list[str], studies: Path, tmp_path: Path) -> None:
    (studies / "case_1/pet.nii.gz").unlink()
    out = tmp_path / "out"
    for part in ("1/2", "2/2"):  # as two machines would
        call("segment", studies, *use, "--out", out, "--part", part)
    text = (out / "cohort.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["case"] for row in rows] == ["case_0", "case_1", "case_2"]
    assert [(row["state"], row["code"]) for row in rows] == [
        ("done", ""), ("failed", "E_EMPTY"), ("done", "")
    ]  # fmt: skip
    status = json.loads((out / "case_0/status.json").read_text())
    assert float(rows[0]["volume_ml"]) == status["result"]["volume_ml"] > 0
    assert rows[0]["modalities"] == "pet"
    table = parquet.read_table(out / "cohort.parquet")
    assert tuple(table.column_names) == COHORT_COLUMNS == tuple(rows[0])
    assert [str(kind) for kind in table.schema.types[:2]] == ["string", "string"]
    assert table.column("voxels").to_pylist()[1] is None
    assert table.column("voxels").to_pylist()[0] == int(rows[0]["voxels"])
    page = (out / "cohort.html").read_text()
    assert all(row["case"] in page for row in rows)
    for name in ("cohort.csv", "cohort.parquet", "cohort.html"):
        (out / name).unlink()
    made = call("cohort", out)
    assert (made.exit_code, made.stdout) == (0, "")
    assert (out / "cohort.csv").read_text() == text
    assert [row["case"] for row in lines(call("cohort", out, "--json").stdout)] == [
        row["case"] for row in rows
    ]
    with pytest.raises(UsageError, match="E_PATH"):
        CliRunner().invoke(app, ["cohort", str(tmp_path / "no")], catch_exceptions=False)


def test_measurements_of_a_case_are_in_the_table(
    use: list[str], studies: Path, tmp_path: Path
) -> None:
    (studies / "case_1/pet.nii.gz").unlink()
    call("segment", studies, *use[:-1], "nifti,json", "--out", tmp_path)
    table = parquet.read_table(tmp_path / "cohort.parquet").to_pylist()
    target = json.loads((tmp_path / "case_0/measurements.json").read_text())["target"]
    assert table[0]["pet_max"] == target["statistics"]["pet"]["max"] == 6.0
    assert table[0]["pet_suv_peak"] == target["statistics"]["pet"]["suv_peak"]
    assert table[0]["longest_axial_diameter_mm"] == target["longest_axial_diameter_mm"] > 0
    assert table[0]["touches_border"] is target["touches_border"]
    assert table[1]["pet_max"] is None


def test_a_manifest_names_cases_and_files(use: list[str], studies: Path, tmp_path: Path) -> None:
    (studies / "case_1/pet.nii.gz").rename(studies / "case_1/anything.nii.gz")
    manifest = tmp_path / "list.jsonl"
    rows = [
        {"case": "first", "study": "in/case_0"},
        {
            "case": "second",
            "study": "in/case_1",
            "modalities": {"pet": "in/case_1/anything.nii.gz"},
        },
        {"study": "in/gone"},
    ]
    manifest.write_text("\n\n".join(map(json.dumps, rows)))
    done = call("segment", manifest, *use, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 3
    assert [(row["case"], row["code"]) for row in lines(done.stdout)] == [
        ("first", None),
        ("second", None),
        ("gone", "E_PATH"),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is not JSON"),
        ('{"case": "x"}', "a path under 'study'"),
        ('{"study": "x", "modalitys": {}}', "unknown key 'modalitys'"),
        ('{"study": "x", "modalities": ["pet"]}', "'modalities' maps names"),
        ('{"study": "x", "case": "../x"}', "letters, digits"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_line(
    use: list[str], studies: Path, tmp_path: Path, line: str, says: str
) -> None:
    manifest = tmp_path / "list.jsonl"
    manifest.write_text(f'{{"study": "in/case_0"}}\n{line}\n')
    done = call("segment", manifest, *use, "--out", tmp_path / "out")
    assert isinstance(done.exception, UsageError)
    assert done.exception.code == "E_MANIFEST"
    assert says in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--case-id", "x"],
        ["--part", "3/2"],
        ["--engine", "threads"],
        ["--workers", "2"],
        ["--resume", "--overwrite"],
        ["--server", "http://127.0.0.1:1"],
    ],
)
def test_options_that_do_not_fit_are_refused(
    use: list[str], studies: Path, tmp_path: Path, options: list[str]
) -> None:
    done = call("segment", studies, *use, "--out", tmp_path / "out", *options)
    assert isinstance(done.exception, UsageError)
    assert done.exception.code == "E_OPTION"
    assert not (tmp_path / "out").exists()


def test_one_study_in_a_batch_of_its_own(use: list[str], studies: Path, tmp_path: Path) -> None:
    (studies / "case_0/pet.nii.gz").write_bytes(b"no image")
    failed = call("segment", studies / "case_0", *use, "--out", tmp_path / "out", "--resume")
    assert failed.exit_code == 4
    done = call("segment", studies / "case_1", *use, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert done.stdout.startswith("case_1: ")
