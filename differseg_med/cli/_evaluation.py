"""Commands about how good masks are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differseg_med.cli import _print, _print_evaluation
from differseg_med.cli._base import ALL_FAILED, SOME_FAILED, Debug, Json, Overwrite, app
from differseg_med.errors import UsageError

if TYPE_CHECKING:
    from differseg_med.engine import DatalistTruth, FolderTruth

__all__: list[str] = []

Metrics = Annotated[
    str | None, typer.Option(help="Names of metrics, separated by commas. Default: all.")
]
DatasetDir = Annotated[
    Path | None,
    typer.Option(
        "--dataset_dir",
        "--dataset-dir",
        help="Folder that the datalist's paths are relative to. Default: the datalist's own.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the bootstrap.")]


Truth = Annotated[Path | None, typer.Option(help="Folder of true masks.")]
Datalist = Annotated[
    Path | None, typer.Option(help="Datalist whose labels are the truth, instead of --truth.")
]
Section = Annotated[str, typer.Option(help="Section of the datalist.")]
Pattern = Annotated[
    str | None,
    typer.Option(help="Path of a prediction below its folder, such as {case}/lesion.nii.gz."),
]
TruthPattern = Annotated[str | None, typer.Option(help="The same for --truth.")]
Tolerance = Annotated[
    float, typer.Option(help="Tolerance of the normalised surface Dice, in mm.", min=0.0)
]
Label = Annotated[
    int | None, typer.Option(help="Value of the foreground, where masks hold several.")
]
PredictionLabel = Annotated[
    int | None, typer.Option(help="The same for predictions, where it differs.")
]
IgnoreLabel = Annotated[
    int | None, typer.Option(help="Value in the truth of voxels that do not count.")
]
Threshold = Annotated[
    float | None, typer.Option(help="Values from here on are foreground (JPEG masks).")
]
Resample = Annotated[
    bool, typer.Option("--resample", help="Bring predictions to the truth's grid.")
]


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option(help="Folder of masks, whoever made them.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and report.")],
    truth: Truth = None,
    datalist: Datalist = None,
    section: Section = "test",
    dataset_dir: DatasetDir = None,
    pattern: Pattern = None,
    truth_pattern: TruthPattern = None,
    name: Annotated[str | None, typer.Option(help="What the method is called.")] = None,
    metrics: Metrics = None,
    nsd_tolerance: Tolerance = 3.0,
    label: Label = None,
    prediction_label: PredictionLabel = None,
    ignore_label: IgnoreLabel = None,
    threshold: Threshold = None,
    resample: Resample = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare masks with the truth, case by case; write tables with intervals and a report."""
    from differseg_med.engine import EvaluateOptions, evaluate_folder

    source = _source(truth, truth_pattern, datalist, section, dataset_dir)
    options = EvaluateOptions(
        metrics=_split(metrics),
        nsd_tolerance_mm=nsd_tolerance,
        label=label,
        prediction_label=prediction_label,
        ignore_label=ignore_label,
        threshold=threshold,
        resample=resample,
        seed=seed,
    )
    with _print.progress() as report:
        done = evaluate_folder(
            predictions,
            source,
            out,
            options,
            pattern=pattern,
            name=name,
            overwrite=overwrite,
            report=report,
        )
    _print_evaluation.evaluation(done, as_json=json)
    if done.failed:
        raise typer.Exit(SOME_FAILED if len(done.failed) < len(done.rows) else ALL_FAILED)


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders with cases.csv, the first is what the others are compared with; "
            "RUN@METHOD chooses a method.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the comparison as CSV, JSON and HTML.")
    ] = None,
    metrics: Metrics = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare on the cases that all runs have.")
    ] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Test whether runs differ on the same cases: paired, adjusted for testing several times."""
    from differseg_med.engine import compare_runs

    done = compare_runs(
        runs, out, metrics=_split(metrics), common=common, seed=seed, overwrite=overwrite
    )
    _print_evaluation.comparison(done, as_json=json)


@app.command("cross-validate")
def cross_validate(
    bundle: Annotated[str, typer.Option(help="Bundle to train, by name or folder.")],
    datalist: Annotated[Path, typer.Option(help="Cases, with folds and patients if it has them.")],
    out: Annotated[Path, typer.Option(help="Folder for folds, tables and report.")],
    dataset_dir: DatasetDir = None,
    folds: Annotated[
        int | None, typer.Option(help="Number of folds. Default: the datalist's own, or 5.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Value over the bundle's training configuration; may be repeated.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of folds, training and bootstrap.")] = 0,
    validation_share: Annotated[
        float, typer.Option(help="Part of a fold's training patients that choose its weights.")
    ] = 0.1,
    trust_bundle: Annotated[
        bool, typer.Option("--trust-bundle", help="Run a bundle that is not of this distribution.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train and evaluate a bundle per fold; a second call goes on where the first one ended."""
    from differseg_med.bundle import cross_validate as run

    with _print.progress() as report:
        done = run(
            bundle,
            dataset_dir or datalist.parent,
            datalist,
            out,
            folds=folds,
            overrides=_pairs(override or []),
            seed=seed,
            validation_share=validation_share,
            trust=trust_bundle,
            overwrite=overwrite,
            report=report,
        )
    _print_evaluation.cross_validation(done, as_json=json)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [
        text for text, (key, mark, _) in zip(texts, pairs, strict=True) if not key or not mark
    ]:
        raise UsageError("E_OPTION", f"--set takes KEY=VALUE, got {wrong[0]!r}")
    return {key: value for key, _, value in pairs}


def _source(
    truth: Path | None,
    pattern: str | None,
    datalist: Path | None,
    section: str,
    dataset_dir: Path | None,
) -> FolderTruth | DatalistTruth:
    from differseg_med.engine import DatalistTruth, FolderTruth

    if truth is not None and datalist is None:
        return FolderTruth(truth, pattern)
    if datalist is not None and truth is None:
        return DatalistTruth(datalist, section, dataset_dir)
    raise UsageError("E_OPTION", "evaluate takes --truth DIR or --datalist FILE")


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (names or "").split(",") if part.strip())
