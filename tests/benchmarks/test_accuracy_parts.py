"""Parts of the accuracy benchmark: declarations, disturbances, the queue, and what a page says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import bench, nnunet
from benchmarks.accuracy.disturb import LEVELS, disturb, disturb_image
from benchmarks.accuracy.findings import factors, verdict
from benchmarks.accuracy.jobs import append_rows, locked, read_table, run_jobs
from benchmarks.accuracy.plan import DECLARED, Experiment, read_plan
from benchmarks.accuracy.report import write_report
from benchmarks.accuracy.results import Results
from benchmarks.accuracy.training import Place, parsed
from differseg_med.data.phantom import make_phantom, write_phantom_nifti
from differseg_med.errors import BundleError, UsageError
from differseg_med.geometry import Grid, Volume
from differseg_med.metrics import Paired

PROFILES = ("full", "cpu", "recipe", "smoke")
NAMES = list(read_plan("cpu").experiments)
NETWORKS = [name for name in NAMES if not name.endswith("no_dropout")]


def _place(folder: Path) -> Place:
    return Place(folder, folder / "datalist.json", folder)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_name_what_is_declared(profile: str) -> None:
    plan = read_plan(profile)
    runs = [(experiment.name, seed) for experiment, seed in plan.runs()]
    trained = [n for n in plan.profile.experiments if not plan.experiments[n].shipped]
    once = len(plan.profile.experiments) - len(trained)
    assert len(runs) == len(set(runs)) == len(trained) * len(plan.profile.seeds) + once
    assert set(plan.profile.robustness) <= set(plan.profile.experiments)
    assert {plan.experiments[name].rate_of for name in NAMES} <= set(NAMES)


def test_first_seed_of_a_stage_comes_before_the_second() -> None:
    runs = [(experiment.name, seed) for experiment, seed in read_plan("cpu").runs()]
    first = read_plan("cpu").profile.stages[0]
    assert runs[: len(first)] == [(name, 0) for name in first]


def test_an_unknown_profile_and_an_undeclared_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no profile 'huge'"):
        read_plan("huge")
    wrong = DECLARED.read_text().replace("experiments: [full,", "experiments: [misspelt,")
    (tmp_path / "experiments.yaml").write_text(wrong)
    with pytest.raises(UsageError, match="misspelt"):
        read_plan("smoke", tmp_path / "experiments.yaml")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_built(name: str, tmp_path: Path) -> None:
    plan = read_plan("cpu")
    network = parsed(plan, plan.experiments[name], _place(tmp_path)).get_parsed_content(
        "network_def"
    )
    assert 0.5e6 < sum(p.numel() for p in network.parameters()) < 6e6


def test_an_override_that_the_bundle_does_not_have_is_refused(tmp_path: Path) -> None:
    plan = read_plan("cpu")
    plan.profile.overrides["learning_rat"] = 1.0  # type: ignore[index]
    with pytest.raises(BundleError, match="learning_rat"):
        parsed(plan, plan.experiments["full"], _place(tmp_path))


@pytest.fixture(scope="module")
def volumes() -> dict[str, Volume]:
    return dict(make_phantom(0).volumes)


def test_shift_and_rotation_move_all_but_the_pet(volumes: dict[str, Volume]) -> None:
    center = volumes["pet"].grid.center
    shifted = disturb(volumes, "shift_mm", 4.0, "a", center)
    turned = disturb(volumes, "rotation_deg", 90.0, "a", center)
    assert shifted["pet"] is volumes["pet"]
    for name in ("ct", "mr_t1"):
        moved = shifted[name].grid.affine[:3, 3] - volumes[name].grid.affine[:3, 3]
        assert np.linalg.norm(moved) == pytest.approx(4.0)
        there = turned[name].grid.affine @ np.linalg.inv(volumes[name].grid.affine)
        np.testing.assert_allclose((there @ [*center, 1.0])[:3], center, atol=1e-9)
        assert np.trace(there[:3, :3]) == pytest.approx(1.0)  # 1 + 2 cos 90
        assert turned[name].array is volumes[name].array
    again = disturb(volumes, "shift_mm", 4.0, "a", center)
    np.testing.assert_array_equal(again["ct"].grid.affine, shifted["ct"].grid.affine)
    other = disturb(volumes, "shift_mm", 4.0, "b", center)
    assert not np.allclose(other["ct"].grid.affine, shifted["ct"].grid.affine)


def test_bias_scale_and_resolution(volumes: dict[str, Volume]) -> None:
    center = volumes["pet"].grid.center
    biased = disturb(volumes, "bias_field", 0.5, "a", center)
    positive = volumes["mr_t1"].array > 1
    ratio = np.log(biased["mr_t1"].array[positive] / volumes["mr_t1"].array[positive])
    assert -0.5 - 1e-5 <= ratio.min() < -0.2
    assert 0.2 < ratio.max() <= 0.5 + 1e-5
    assert biased["ct"] is volumes["ct"]
    scaled = disturb(volumes, "pet_scale", 0.7, "a", center)
    np.testing.assert_allclose(scaled["pet"].array, 0.7 * volumes["pet"].array, rtol=1e-6)
    coarse = disturb(volumes, "resolution_mm", 10.0, "a", center)
    for name, volume in coarse.items():
        assert min(volume.grid.spacing) >= 10.0 - 1e-9
        assert volume.array.mean() == pytest.approx(volumes[name].array.mean(), rel=0.2, abs=30)


def test_noise_has_its_level_and_leaves_absent_channels() -> None:
    image = np.zeros((2, 20, 20, 20), np.float32)
    image[1] = np.nan
    noisy = disturb_image(image, "noise", 0.1, "a")
    assert noisy[0].std() == pytest.approx(0.1, rel=0.05)
    assert np.isnan(noisy[1]).all()
    assert disturb_image(image, "shift_mm", 8.0, "a") is image


def test_rows_of_a_key_are_replaced(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    append_rows(table, {"experiment": "a", "seed": 0}, [{"dice": 0.1}, {"dice": 0.2}])
    append_rows(table, {"experiment": "b", "seed": 0}, [{"dice": 0.3, "nsd": 0.5}])
    append_rows(table, {"experiment": "a", "seed": 0}, [{"dice": 0.4}])
    rows = [(row["experiment"], row["dice"], row["nsd"]) for row in read_table(table)]
    assert rows == [("b", "0.3", "0.5"), ("a", "0.4", "")]
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == [table.name]


def test_a_queue_goes_on_where_it_was(tmp_path: Path) -> None:
    plan, done = read_plan("smoke"), []

    def job(experiment, seed):
        done.append(experiment.name)
        if experiment.name == "concat_unet" and len(done) < 4:
            raise RuntimeError("killed")
        return {"seed": seed}

    assert run_jobs(plan, tmp_path, job) == 1
    assert run_jobs(plan, tmp_path, job) == 0
    assert done == ["full", "concat_unet", "unet", "concat_unet"]
    assert json.loads((tmp_path / "unet" / "seed_0" / "done.json").read_text()) == {"seed": 0}
    assert run_jobs(plan, tmp_path / "late", job, until=0.0) == 0
    assert len(done) == 4


def test_rates_that_come_close_are_trained_to_full_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, asked = read_plan("cpu"), []
    values = {4: {0.001: 0.70, 0.003: 0.71}, 16: {0.001: 0.75, 0.003: 0.72}}

    def search(plan, experiment, place, rates, epochs):
        asked.append((experiment.name, epochs))
        return {rate: values[epochs][rate] for rate in rates}

    monkeypatch.setattr(bench, "search_rate", search)
    own = bench.Bench(plan, _place(tmp_path))
    assert own.rate(plan.experiments["full_no_dropout"]) == 0.001
    assert own.rate(plan.experiments["full"]) == 0.001  # found once, then read
    assert asked == [("full", 4), ("full", 16)]
    values[4][0.003] = 0.60
    assert own.rate(plan.experiments["segresnet"]) == 0.001
    assert asked[2:] == [("segresnet", 4)]


DICE = {  # case: Dice of full with all and with PET alone, of concatenation, of the ellipsoid
    "p1": (0.8, 0.6, 0.7, 0.5),
    "p2": (0.6, 0.5, 0.5, 0.5),
    "p3": (0.7, 0.6, 0.6, 0.5),
}


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Two seeds of two networks on three cases; the second seed is 0.02 better."""
    for seed in (0, 1):
        for name, column in (("full", 0), ("concat_unet", 2)):
            key = {"experiment": name, "seed": seed}
            own = {case: values[column] + 0.02 * seed for case, values in DICE.items()}
            fall = {case: values[0] - values[1] for case, values in DICE.items()}
            cases = [{"case": c, "dice": d, "volume_error_ml": -5} for c, d in own.items()]
            append_rows(tmp_path / "cases.csv", key, cases)
            parts = [
                {"subset": subset, "case": c, "present": "110" if c == "p3" else "111", "dice": d}
                for c in own
                for subset, d in (("pet+ct+mr_t1", own[c]), ("pet", own[c] - fall[c]))
            ]
            append_rows(tmp_path / "subsets.csv", key, parts)
            curve = [{"kind": "none", "level": 0.0, "case": "p1", "dice": 0.8}]
            curve += [
                {"kind": kind, "level": level, "case": "p1", "dice": 0.5}
                for kind, levels in LEVELS.items()
                for level in levels
            ]
            append_rows(tmp_path / "robustness.csv", key, curve)
            run = {"learning_rate": 0.003, "steps": 10, "train_cpu_s": 60, "subsets_cpu_s": 6}
            run |= {"started": "2026-01-01T00:00:00Z", "commit": "0123456789+"}
            append_rows(tmp_path / "runs.csv", key, [run])
    boxes = [{"case": case, "dice": values[3]} for case, values in DICE.items()]
    append_rows(tmp_path / "cases.csv", {"experiment": "box_ellipsoid", "seed": ""}, boxes)
    append_rows(tmp_path / "cases.csv", {"experiment": "suv_above_2", "seed": ""}, boxes)
    rates = [{"learning_rate": r, "validation_dice": d} for r, d in ((0.001, 0.2), (0.003, 0.3))]
    append_rows(tmp_path / "rates.csv", {"experiment": "full", "epochs": 4}, rates)
    cost = {"patch": "32x32x32", "parameters": 2_000_000, "gflop_forward": 1, "peak_step_mb": 9}
    cost |= {"step_s": 0.4, "forward_s": 0.1, "threads": 1, "repeats": 7}
    append_rows(tmp_path / "costs.csv", {"experiment": "full"}, [cost])
    append_rows(tmp_path / "costs.csv", {"experiment": "concat_unet"}, [{**cost, "step_s": 0.2}])
    return tmp_path


def test_results_against_a_hand_count(tables: Path) -> None:
    results = Results(read_plan("cpu"), tables)
    assert results.names == ["full", "concat_unet"]
    assert results.summary("full")["dice"].mean == pytest.approx(0.71)
    assert results.summary("full")["volume_error_ml"].mean == 5
    assert results.seed_means("full") == pytest.approx([0.70, 0.72])
    pair, adjusted = results.against("full", ["concat_unet", "box_ellipsoid"])["concat_unet"]
    assert (pair.n, pair.difference) == (3, pytest.approx(-0.1))
    assert adjusted == pytest.approx(min(1.0, 2 * pair.p))
    assert results.paired("full", "box_ellipsoid").difference == pytest.approx(-0.21)
    drop = results.subset("full", "pet")  # the case that lacks MR does not count
    assert (drop.cases, drop.dice) == (2, pytest.approx(0.56))
    assert drop.drop == pytest.approx(0.15)
    assert results.curve("full", "shift_mm") == [(0.0, 0.8), *((v, 0.5) for v in (1, 2, 4, 8))]
    assert [level for level, _ in results.curve("full", "pet_scale")] == [0.7, 0.85, 1, 1.15, 1.3]


def test_a_verdict_needs_seeds_that_agree_an_interval_and_the_correction(tables: Path) -> None:
    clear, open_ = Paired(3, 0.1, 0.05, 0.2, 0.25, 0.25), Paired(3, 0.1, -0.1, 0.2, 0.25, 0.25)
    lower = Paired(3, -0.1, -0.2, -0.05, 0.25, 0.25)
    assert verdict(clear, [0.1, 0.1], 0.01) == "better"
    assert verdict(clear, [0.1, 0.1], 0.06) == "higher, not significant"
    assert verdict(lower, [-0.2, -0.1], 0.01) == "worse"
    assert verdict(lower, [-0.2, -0.1], 0.06) == "lower, not significant"
    assert verdict(open_, [0.1, 0.1], 0.01) == "no difference to be seen"
    assert verdict(clear, [0.3, -0.1], 0.01) == "no difference to be seen"
    assert verdict(clear, [0.1], 0.01) == "one seed: open"
    text = "\n".join(factors(Results(read_plan("cpu"), tables)))
    assert "| both | +0.100 (+0.100 to +0.100)" in text
    assert "| +0.100 +0.100 | 0.25 (0.25) | x 1.00 | x 2.00 | higher, not significant |" in text
    assert "not significantly after the correction, with both (+0.100)." in text


def test_two_processes_share_a_queue(tmp_path: Path) -> None:
    plan, done = read_plan("smoke"), []
    with locked(tmp_path / "full" / "seed_0"):  # as another process would hold it

        def job(experiment: Experiment, seed: int) -> dict[str, int]:
            done.append(experiment.name)
            return {"seed": seed}

        assert run_jobs(plan, tmp_path, job) == 0
    assert done == ["concat_unet", "unet"]
    assert run_jobs(plan, tmp_path, job) == 0
    assert done[2:] == ["full"]


def test_a_page_is_made_from_the_tables_alone(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    page = write_report(read_plan("cpu"), tables, out).read_text()
    assert "**0.710**" in page
    assert "-0.100 (-0.100 to -0.100)" in page
    assert "0.560 (-0.150)" in page
    assert "01234567+" in page
    for name in ("dice", "subsets", "robustness"):
        assert f"accuracy-{name}.png" in page
        assert (out / f"accuracy-{name}.png").read_bytes()[:4] == b"\x89PNG"
    with (out / "data" / "accuracy-cases.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 3 + 6


def test_a_page_needs_what_all_are_compared_with(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"E_OPTION.*'joint_more_dropout'.*no runs yet"):
        write_report(read_plan("recipe"), tables, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_nnunet_gets_the_same_crops_and_is_judged_alike(tmp_path: Path) -> None:
    folders = write_phantom_nifti(tmp_path, 2, leave_out={"mr_t1": [1]})
    entries = [
        {"case": f.name, "label": f"{f.name}/pet_gtv.nii.gz"}
        | {m: f"{f.name}/{m}.nii.gz" for m in nnunet.MODALITIES if (f / f"{m}.nii.gz").is_file()}
        for f in folders
    ]
    datalist = tmp_path / "datalist.json"
    sections = {"training": entries[:1], "validation": entries[1:], "test": entries[1:]}
    datalist.write_text(json.dumps(sections))
    raw = nnunet.prepare(tmp_path, datalist, tmp_path / "out")
    names = sorted(path.name for path in (raw / "imagesTr").iterdir())
    assert names == [f"case_00{i}_000{c}.nii.gz" for i in range(2) for c in range(3)]
    assert json.loads((raw / "dataset.json").read_text())["numTraining"] == 2
    split = json.loads((tmp_path / "out/preprocessed" / raw.name / "splits_final.json").read_text())
    assert split == [{"train": ["case_000"], "val": ["case_001"]}]
    from differseg_med.io import read_nifti

    absent = read_nifti(raw / "imagesTs" / "case_001_0002.nii.gz")
    label = read_nifti(raw / "labelsTs" / "case_001.nii.gz")
    whole = read_nifti(tmp_path / "case_001" / "pet_gtv.nii.gz")
    assert not absent.array.any()
    assert label.grid.is_same(nnunet.MARGINS.box(whole, "case_001"))
    assert label.array.sum() == whole.array.sum()
    (tmp_path / "out" / nnunet.PREDICTED).symlink_to(raw / "labelsTs")
    rows = read_table(nnunet.collect(tmp_path / "out") / "cases.csv")
    assert [(row["case"], float(row["dice"])) for row in rows] == [("case_001", 1.0)]


def test_commands_of_nnunet_use_its_own_environment(tmp_path: Path) -> None:
    plan, train, predict = nnunet.commands(tmp_path, Path("/env/bin/python"))
    assert plan[0] == "/env/bin/nnUNetv2_plan_and_preprocess"
    assert train[1:4] == ["501", "3d_fullres", "0"]
    assert predict[predict.index("-o") + 1] == str(tmp_path / "predictions")
    assert nnunet.environment(tmp_path)["nnUNet_raw"] == str(tmp_path / "raw")


def test_grids_without_a_frame_are_written() -> None:
    grid = Grid((2, 2, 2), np.eye(4), "1.2.3")
    assert nnunet._plain(np.zeros((2, 2, 2), np.float32), grid).grid.frame is None
