"""Cross-validation of a bundle: its own training per fold, judged on cases that fold never saw."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differseg_med.bundle._compose import overlay, read_fragment
from differseg_med.bundle._folds import Fold, plan_folds, read_datalist
from differseg_med.bundle._locate import BundleInfo, find_bundle
from differseg_med.engine import (
    PROVENANCE,
    describe_environment,
    hash_configs,
    read_rows,
    sha256,
    write_results,
    write_text,
)
from differseg_med.errors import BundleError, OutputError, UsageError
from differseg_med.metrics import Summary

__all__ = ["CrossValidation", "cross_validate"]

_STATUS = "fold.json"


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation gave.

    Attributes:
        folder: where everything is.
        folds: number of folds.
        reused: folds that had been finished before.
        rows: a row per case and method; every case was judged by the fold that did not see it.
        summary: summary per method and metric.
    """

    folder: Path
    folds: int
    reused: int
    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Mapping[str, Summary]]


@dataclass(frozen=True)
class _Plan:
    """What all folds share."""

    info: BundleInfo
    dataset_dir: Path
    folder: Path
    overrides: Mapping[str, str]
    seed: int

    def fold_dir(self, fold: Fold) -> Path:
        return self.folder / f"fold_{fold.number}"


def cross_validate(
    bundle: str | Path,
    dataset_dir: str | Path,
    datalist: str | Path,
    out: str | Path,
    *,
    folds: int | None = None,
    overrides: Mapping[str, str] | None = None,
    seed: int = 0,
    validation_share: float = 0.1,
    trust: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda stage: None,
) -> CrossValidation:
    """Train and evaluate a bundle once per fold, and join the tables of the held-out cases.

    Every fold runs ``python -m monai.bundle run training`` and ``... run evaluating`` with a
    datalist of its own. The weights of a fold are chosen on patients of its training part, so that
    no held-out case has a say in them. A second call goes on where the first one ended: finished
    folds are kept, an interrupted training resumes.

    Args:
        bundle: name or folder of the bundle.
        dataset_dir: folder that the datalist's paths are relative to.
        datalist: cases and, where it has them, folds and patients.
        out: folder for ``fold_N/``, ``cases.csv``, ``summary.json``, ``summary.csv``,
            ``report.html`` and ``provenance.json``.
        folds: number of folds; the datalist's own, or 5, if None.
        overrides: values over the bundle's training configuration, by key.
        seed: seed of folds, training and bootstrap.
        validation_share: part of a fold's training patients that choose its weights.
        trust: run the configuration of a bundle that is not one of this distribution.
        overwrite: drop what another configuration left in `out`.
        report: is told what is being done.

    Raises:
        UsageError: ``E_OPTION`` or ``E_BUNDLE``.
        BundleError: ``E_DATALIST``, ``E_CONFIG`` or ``E_TRUST``; ``E_FOLD`` when a run failed.
        OutputError: ``E_EXISTS`` when `out` belongs to another configuration, ``E_WRITE``.
    """
    if (folds is not None and folds < 2) or not 0 < validation_share < 1:
        raise UsageError("E_OPTION", "at least 2 folds and a validation share between 0 and 1")
    info = find_bundle(bundle)
    if not (info.trusted or trust):
        raise BundleError("E_TRUST", f"the bundle {info.name} is not part of this distribution")
    chosen = {**(overrides or {}), "seed": str(seed)}
    _check_overrides(info, chosen)
    plan = _Plan(info, Path(dataset_dir).resolve(), Path(out), chosen, seed)
    content = read_datalist(Path(datalist))
    planned = plan_folds(content, folds, seed=seed, validation_share=validation_share)
    _claim(plan, planned, Path(datalist), overwrite=overwrite)
    reused = sum(_run_fold(plan, fold, len(planned), report) for fold in planned)
    rows = [row for fold in planned for row in _rows(plan, fold)]
    settings = _settings(plan.fold_dir(planned[0]) / "eval" / "summary.json")
    settings |= {"seed": seed, "folds": len(planned), "bundle": info.name}
    summary = write_results(plan.folder, rows, settings, f"Cross-validation of {info.name}")
    return CrossValidation(plan.folder, len(planned), reused, rows, summary)


def _check_overrides(info: BundleInfo, overrides: Mapping[str, str]) -> None:
    """Refuse keys that the training configuration does not have; MONAI would take them silently."""
    reserved = {"dataset_dir", "datalist", "run_dir", "output_dir", "bundle_root", "resume"}
    if taken := sorted(reserved & set(overrides)):
        raise UsageError("E_OPTION", f"{', '.join(taken)} is set by the cross-validation itself")
    overlay(read_fragment(info.root / "configs" / "train.yaml"), overrides, "--set")


def _claim(plan: _Plan, folds: Sequence[Fold], datalist: Path, *, overwrite: bool) -> None:
    """Write what this cross-validation is; refuse a folder that belongs to another one."""
    identity = {
        "bundle": plan.info.name,
        "configs_sha256": hash_configs(plan.info.root),
        "datalist_sha256": sha256([datalist]),
        "folds_sha256": _digest([fold.datalist for fold in folds]),
        "overrides": dict(plan.overrides),
    }
    path = plan.folder / PROVENANCE
    before = _read_json(path)
    if before and before.get("identity") != identity:
        if not overwrite:
            raise OutputError(
                "E_EXISTS",
                f"{plan.folder.name} holds the cross-validation of another bundle, configuration, "
                "datalist or seed",
            )
        for old in plan.folder.glob("fold_*"):
            shutil.rmtree(old, ignore_errors=True)
    runs = before.get("runs", []) if before.get("identity") == identity else []
    entry = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **describe_environment(),
    }
    content = {"schema": 1, "identity": identity, "runs": [*runs, entry]}
    write_text(path, json.dumps(content, indent=2) + "\n")


def _run_fold(plan: _Plan, fold: Fold, count: int, report: Callable[[str], None]) -> bool:
    """Train and evaluate one fold; return whether that had been done before."""
    folder = plan.fold_dir(fold)
    if _read_json(folder / _STATUS).get("state") == "done":
        return True
    start = time.monotonic()
    write_text(folder / "datalist.json", json.dumps(fold.datalist, indent=2) + "\n")
    run = folder / "run"
    if not _is_trained(run):
        report(f"fold {fold.number}/{count}: training")
        resume = {"resume": "true"} if (run / "resume.pt").is_file() else {}
        _monai(plan, fold, "training", ["train.yaml"], {"run_dir": str(run), **resume})
    report(f"fold {fold.number}/{count}: evaluating")
    weights = run / "model.pt"
    if not weights.is_file():
        raise BundleError("E_FOLD", f"fold {fold.number}: training ended without a validated model")
    target = {"ckpt_path": str(weights), "output_dir": str(folder / "eval")}
    _monai(plan, fold, "evaluating", ["train.yaml", "evaluate.yaml"], target)
    _rows(plan, fold)
    status = {
        "state": "done",
        "weights_sha256": sha256([weights]),
        "seconds": round(time.monotonic() - start, 1),
    }
    write_text(folder / _STATUS, json.dumps(status, indent=2) + "\n")
    return False


def _monai(
    plan: _Plan, fold: Fold, run_id: str, configs: Sequence[str], own: Mapping[str, str]
) -> None:
    """One run of MONAI's own command; its output goes to a log in the fold's folder."""
    folder, root = plan.fold_dir(fold), plan.info.root
    files = [str(root / "configs" / name) for name in configs]
    values = {
        "bundle_root": str(root),
        "dataset_dir": str(plan.dataset_dir),
        "datalist": str(folder.resolve() / "datalist.json"),
        **plan.overrides,
        **{key: str(Path(v).resolve()) if "/" in v else v for key, v in own.items()},
    }
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", repr(files)]
    command += [part for key, value in values.items() for part in (f"--{key}", value)]
    log = folder / f"{run_id}.log"
    with log.open("w", encoding="utf-8") as file:
        bar = None if sys.stderr.isatty() else subprocess.STDOUT
        done = subprocess.run(command, stdout=file, stderr=bar, check=False)
    if done.returncode:
        lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line]
        last = lines[-1].strip() if lines else "no output"
        raise BundleError(
            "E_FOLD",
            f"fold {fold.number}: {run_id} ended with status {done.returncode}: {last}",
            f"Read {log.relative_to(plan.folder)}; finished folds stay, run the same again.",
        )


def _rows(plan: _Plan, fold: Fold) -> list[dict[str, Any]]:
    """The fold's rows, which must be those of its held-out cases."""
    rows = read_rows(plan.fold_dir(fold) / "eval" / "cases.csv")
    if {row["case"] for row in rows} != set(fold.patients):
        raise BundleError("E_FOLD", f"fold {fold.number}: its table has other cases than the fold")
    extra = {row["case"]: {"patient": fold.patients[row["case"]]} for row in rows}
    return [{**row, **extra[row["case"]], "fold": fold.number} for row in rows]


def _is_trained(run: Path) -> bool:
    runs = _read_json(run / PROVENANCE).get("runs") or [{}]
    return bool(runs[-1].get("state") == "done") and (run / "model.pt").is_file()


def _settings(path: Path) -> dict[str, Any]:
    return dict(_read_json(path).get("settings") or {})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON file that may be absent; one that cannot be read counts as absent."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
