"""Results on stdout, everything else on stderr, and the exit status says what became of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import pytest
import typer

from differseg_med import __version__, bundle
from differseg_med._codes import CODES
from differseg_med.cli._app import app, run
from differseg_med.data.phantom import Phantom
from differseg_med.engine import CaseResult


@dataclass
class Outcome:
    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Outcome]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["differseg-med", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            run()
        captured = capsys.readouterr()
        return Outcome(int(left.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> list[str]:
    """Options that name the tiny bundle."""
    monkeypatch.setenv("DIFFERSEG_BUNDLES", str(tiny_bundle.parent))
    return ["--bundle", "tiny", "--trust-bundle"]


def one_line(text: str, code: str) -> bool:
    return text.startswith(f"{code}: ") and text.count("\n") == 1


def test_version_and_help(cli: Command) -> None:
    assert cli("--version") == Outcome(0, f"differseg-med {__version__}\n", "")
    shown = cli("--help")
    assert shown.status == 0
    for name in ("inspect", "segment", "prepare", "demo", "bundles", "explain"):
        assert f"  {name} " in shown.out
    assert cli().status == 2
    assert cli("unheard-of").status == 2


def test_bundles_are_listed(cli: Command, use: list[str], tiny_bundle: Path) -> None:
    shown = cli("bundles")
    row = next(line for line in shown.out.splitlines() if line.startswith("tiny "))
    assert row.split()[2:7] == ["3D", "pet", "[ct]", "[mr_t1]", "yes"]
    found = next(row for row in cli("bundles", "--json").objects if row["name"] == "tiny")
    assert found["root"] == str(tiny_bundle.resolve())
    assert (found["weights"], found["trusted"]) == (True, False)


def test_explain(cli: Command, root: Path) -> None:
    assert cli("explain", "e_gap").out == (
        "E_GAP: A slice is missing inside a series. Export the series again; --lenient resamples "
        "by the true positions. Becomes a warning with --lenient.\n"
    )
    assert len(cli("explain", "--all").out.splitlines()) == len(CODES)
    page = (root / "docs/reference/codes.md").read_text(encoding="utf-8")
    assert cli("explain", "--all", "--markdown").out == page
    unknown = cli("explain", "E_X")
    assert unknown.status == 2
    assert one_line(unknown.err, "E_CODE")
    for arguments in ((), ("E_GAP", "--all"), ("E_GAP", "--markdown")):
        wrong = cli("explain", *arguments)
        assert wrong.status == 2
        assert one_line(wrong.err, "E_OPTION")


def test_inspect(cli: Command, dicom_study: tuple[Path, Phantom], tmp_path: Path) -> None:
    shown = cli("inspect", dicom_study[0], "--bundle", "sts_petctmr")
    assert (shown.status, shown.err) == (0, "")
    assert re.search(r"PT +48x48x45 +4.00 x 4.00 x 3.30 +pet +ok", shown.out)
    assert shown.out.endswith("  accepted\n")
    both = cli("inspect", dicom_study[0], tmp_path, "--json")
    assert both.status == 5
    assert [row["refused"] for row in both.objects] == [False, True]
    assert both.objects[1]["problems"][0]["code"] == "E_EMPTY"
    assert "refused: E_EMPTY: " in cli("inspect", tmp_path).out
    gone = cli("inspect", tmp_path / "nowhere")
    assert gone.status == 2
    assert one_line(gone.err, "E_PATH")


def test_segment_nifti(cli: Command, use: list[str], nifti_study: Path, tmp_path: Path) -> None:
    done = cli("segment", nifti_study, *use, "--out", tmp_path, "--json")
    assert (done.status, done.err) == (0, "")
    (status,) = done.objects
    assert status == json.loads((tmp_path / "case_000/status.json").read_text())
    assert status["bundle"]["name"] == "tiny"
    assert re.fullmatch(r"[0-9a-f]{64}", status["bundle"]["weights_sha256"])
    mask, pet = (
        nib.load(p) for p in (tmp_path / "case_000/mask.nii.gz", nifti_study / "pet.nii.gz")
    )
    assert mask.shape == pet.shape
    again = cli("segment", nifti_study, *use, "--out", tmp_path)
    assert again.status == 4
    assert one_line(again.err, "E_EXISTS")


def test_segment_dicom_prints_where_results_are(
    cli: Command, use: list[str], dicom_study: tuple[Path, Phantom], tmp_path: Path
) -> None:
    options = ["--formats", "seg,png", "--modality", "ct=2", "--case-id", "a-1"]
    done = cli("segment", dicom_study[0], *use, "--out", tmp_path, *options)
    assert done.status == 0
    assert done.out.splitlines()[1:] == [
        str(tmp_path / "a-1" / name) for name in ("mask.dcm", "montage.png")
    ]
    assert done.err.startswith("W_FOV: ")


def test_demo_says_where_things_are_and_how_well_it_did(
    cli: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The demo itself is tested with the bundles; here only that the command passes things on."""
    status = {
        "findings": [],
        "result": {"volume_ml": 12.34, "components": 2},
        "outputs": {"mask.dcm": {}},
    }
    calls = []

    def demo(out: Path, *, study: Path | None, report: object) -> bundle.DemoResult:
        calls.append((out, study))
        case = CaseResult("demo", out / "demo", status)
        return bundle.DemoResult(case, 0.5 if study is None else None, 61.4)

    monkeypatch.setattr(bundle, "demo", demo)
    shown = cli("demo", "--out", tmp_path)
    assert shown.out.splitlines() == [
        "demo: 12.3 ml in 2 parts",
        str(tmp_path / "demo/mask.dcm"),
        "Dice against the phantom's truth: 0.500",
        "took 61 s",
    ]
    assert cli("demo", "--study", "s", "--json").objects[0]["dice"] is None
    assert calls == [(tmp_path, None), (Path("out/demo"), Path("s"))]


def test_a_bundle_that_could_run_code_is_refused(
    cli: Command, use: list[str], tiny_bundle: Path, nifti_study: Path, tmp_path: Path
) -> None:
    foreign = shutil.copytree(tiny_bundle, tmp_path / "foreign")
    with (foreign / "configs/inference.yaml").open("a") as config:
        config.write("more: $print(1)\n")
    failed = cli("segment", nifti_study, "--out", tmp_path / "out", "--bundle", foreign)
    assert (failed.status, failed.out) == (2, "")
    assert one_line(failed.err, "E_TRUST")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["--bundle", "sts_petctmr", "--weights", "nowhere.pt"], 2, "E_PATH"),
        (["--bundle", "unheard-of"], 2, "E_BUNDLE"),
        (["--bundle", "tiny", "--trust-bundle", "--formats", "xls"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--trust-bundle", "--formats", "seg"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--trust-bundle", "--device", "toaster"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--trust-bundle", "--case-id", "../x"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--trust-bundle", "--modality", "ct"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--trust-bundle", "--modality", "us=3"], 2, "E_MODALITY"),
        (["--bundle", "tiny", "--modality", "ct=3", "--modality", "ct=4"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--nifti-xform", "both"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--register", "affine"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--trust-bundle", "--register", "rigid"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--pet", "mass=70"], 2, "E_OPTION"),
        (["--bundle", "tiny", "--rules", "nowhere.yaml"], 2, "E_PATH"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(
    cli: Command,
    use: list[str],
    nifti_study: Path,
    tmp_path: Path,
    arguments: list[str],
    status: int,
    code: str,
) -> None:
    failed = cli("segment", nifti_study, "--out", tmp_path / "out", *arguments)
    assert (failed.status, failed.out) == (status, "")
    assert one_line(failed.err, code)
    assert not list((tmp_path / "out").rglob("*"))


def test_a_refused_study_ends_with_5(
    cli: Command, use: list[str], nifti_study: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    study.mkdir()
    shutil.copy(nifti_study / "ct.nii.gz", study)
    failed = cli("segment", study, *use, "--out", tmp_path / "out")
    assert (failed.status, failed.out) == (5, "")
    assert one_line(failed.err, "E_MISSING_MODALITY")


def test_an_unexpected_error_is_one_line_without_its_text(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("a detail that nobody should see")

    monkeypatch.setattr(bundle, "list_bundles", fail)
    failed = cli("bundles")
    assert (failed.status, failed.out) == (1, "")
    assert one_line(failed.err, "E_INTERNAL")
    assert "nobody should see" not in failed.err
    monkeypatch.setattr(sys, "argv", ["differseg-med", "bundles", "--debug"])
    with pytest.raises(RuntimeError, match="nobody should see"):
        run()


def test_an_interrupt_ends_with_130(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "list_bundles", interrupt)
    assert cli("bundles").status == 130


def test_remedies_name_only_options_and_commands_that_exist(cli: Command) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = set(re.findall(r"--[a-z-]+", "".join(cli(name, "--help").out for name in commands)))
    known |= {"--dataset_dir", "--scale"}  # options of `python -m monai.bundle run`
    for code in CODES.values():
        named = set(re.findall(r"--[a-z_-]+", code.cause + code.remedy))
        assert named <= known, f"{code.name} names {named - known}"


def test_installed_command_and_module_are_the_same() -> None:
    command = Path(sys.executable).with_name("differseg-med")
    for start in ([command], [sys.executable, "-m", "differseg_med.cli"]):
        shown = subprocess.run([*start, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout == f"differseg-med {__version__}\n"
