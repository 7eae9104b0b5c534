"""The commands. Heavy imports happen inside them, so that ``--help`` stays fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differseg_med import __version__
from differseg_med.cli import _print
from differseg_med.errors import DifferSegError, UsageError

if TYPE_CHECKING:
    from differseg_med.engine import Inspection, ReadOptions

__all__ = ["app", "run"]

_SOME_FAILED = 3
_ALL_FAILED = 4
_REFUSED = 5

app = typer.Typer(
    name="differseg-med",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_STUDY_HELP = "Folder or .zip of DICOM files, or folder of NIfTI files named by modality."
Choices = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        metavar="NAME=SERIES",
        help="Series number, UID, folder or NIfTI file of a modality, or NAME@key=value for a part "
        "of a series; may be repeated.",
    ),
]
RulesFile = Annotated[
    Path | None, typer.Option("--rules", help="YAML file that says which series serves what.")
]
Pet = Annotated[
    list[str] | None,
    typer.Option(
        "--pet",
        metavar="KEY=VALUE",
        help="Value that a PET header lacks, such as weight_kg=70; recorded; may be repeated.",
    ),
]
Xform = Annotated[
    str | None,
    typer.Option("--nifti-xform", help="sform or qform, where a NIfTI file's two disagree."),
]
Register = Annotated[
    str | None,
    typer.Option(
        "--register", help="rigid: bring modalities in another frame of reference to the reference."
    ),
]
Lenient = Annotated[
    bool, typer.Option("--lenient", help="Correct what can be corrected, with a warning.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON lines instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def run() -> None:
    """Run the app; an error becomes one line on stderr and the exit status that it stands for."""
    try:
        app()
    except DifferSegError as error:
        if _debug(sys.argv):
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_status)
    except Exception as error:
        if _debug(sys.argv):
            raise
        sys.stderr.write(f"{_print.internal(error)}\n")
        sys.exit(1)


def _debug(arguments: list[str]) -> bool:
    return "--debug" in arguments[1:]


def _version(wanted: bool) -> None:
    if wanted:
        _print.line(f"differseg-med {__version__}")
        raise typer.Exit


@app.callback()
def differseg_med(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Multimodal binary segmentation of DICOM and NIfTI studies. Research use only."""


@app.command()
def inspect(
    studies: Annotated[list[Path], typer.Argument(help=_STUDY_HELP)],
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="Bundle that decides what is refused.")
    ] = None,
    modality: Choices = None,
    rules: RulesFile = None,
    pet: Pet = None,
    nifti_xform: Xform = None,
    register: Register = None,
    lenient: Lenient = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List a study's series, their geometry and problems; exit 5 when a study is refused."""
    from differseg_med.bundle import inspect_studies

    options = _read_options(modality, rules, pet, nifti_xform, register, lenient)
    seen: list[Inspection] = []
    with _print.progress() as report:
        for inspection in inspect_studies(studies, bundle, options):
            report(f"{len(seen) + 1} studies")
            _print.inspection(inspection, as_json=json)
            seen.append(inspection)
    if not json:
        _print.summary(seen)
    if any(inspection.refused for inspection in seen):
        raise typer.Exit(_REFUSED)


@app.command()
def segment(
    study: Annotated[Path, typer.Argument(help=_STUDY_HELP)],
    bundle: Annotated[str, typer.Option("--bundle", help="Name or folder of the bundle.")],
    out: Annotated[Path, typer.Option(help="Folder for results; the case gets a folder in it.")],
    formats: Annotated[
        str | None,
        typer.Option(
            help="Of nifti, seg, probability, png, separated by commas. "
            "Default: nifti, and seg where the study is DICOM."
        ),
    ] = None,
    modality: Choices = None,
    rules: RulesFile = None,
    pet: Pet = None,
    nifti_xform: Xform = None,
    register: Register = None,
    lenient: Lenient = False,
    weights: Annotated[
        Path | None, typer.Option(help="Weights to use instead of the bundle's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the network runs: cpu or cuda.")] = "cpu",
    case: Annotated[
        str | None,
        typer.Option("--case-id", help="Name of the case. Default: from the study's path."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust-bundle", help="Run the configuration of a foreign bundle.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment one study with a bundle and write the mask."""
    from differseg_med.engine import tune_process

    tune_process()  # before torch is imported
    from differseg_med.bundle import segment as segment_study
    from differseg_med.engine import CaseOptions

    options = CaseOptions(
        formats=tuple(formats.split(",")) if formats is not None else None,
        read=_read_options(modality, rules, pet, nifti_xform, register, lenient),
        case=case,
        overwrite=overwrite,
    )
    with _print.progress() as report:
        result = segment_study(
            study, bundle, out, options, weights=weights, device=device, trust=trust, report=report
        )
    _print.case(result, as_json=json)


@app.command()
def prepare(
    from_dicom: Annotated[
        Path, typer.Option("--from-dicom", help="Folder of DICOM studies, folders or .zip files.")
    ],
    bundle: Annotated[str, typer.Option("--bundle", help="Bundle that the data is for.")],
    out: Annotated[Path, typer.Option(help="Folder for the cases and the datalist.")],
    roi: Annotated[
        str | None,
        typer.Option(help="Region or segment that is the truth."),
    ] = None,
    rules: RulesFile = None,
    pet: Pet = None,
    register: Register = None,
    lenient: Lenient = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace cases that exist.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn DICOM studies with contours or segmentations into training cases with a datalist."""
    from differseg_med.bundle import prepare_from_dicom

    options = _read_options(None, rules, pet, None, register, lenient)
    with _print.progress() as report:
        cases = prepare_from_dicom(
            from_dicom, bundle, out, options, roi=roi, overwrite=overwrite, report=report
        )
    for case in cases:
        _print.prepared(case, as_json=json)
    failed = sum(case.error is not None for case in cases)
    if failed:
        raise typer.Exit(_SOME_FAILED if failed < len(cases) else _ALL_FAILED)


@app.command()
def demo(
    study: Annotated[
        Path | None,
        typer.Option(
            help="DICOM study to segment with the shipped weights. Default: train on phantoms and "
            "segment one that was never seen."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("out/demo"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The main job once: train a small bundle on phantoms, segment a study, write results."""
    from differseg_med.engine import tune_process

    tune_process()  # before torch is imported
    from differseg_med.bundle import demo as run_demo

    with _print.progress() as report:
        result = run_demo(out, study=study, report=report)
    _print.demo(result, as_json=json)


@app.command()
def bundles(json: Json = False, debug: Debug = False) -> None:
    """List the bundles that can be used by name."""
    from differseg_med.bundle import list_bundles

    _print.bundles(list_bundles(), as_json=json)


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(help="A code such as E_GAP.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every code.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="With --all: as the reference page.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Say what a code means and what to do about it."""
    from differseg_med._codes import CODES, codes_page

    if everything == (code is not None) or (markdown and not everything):
        raise UsageError("E_OPTION", "explain takes one CODE, or --all, or --all --markdown")
    if markdown:
        _print.line(codes_page().removesuffix("\n"))
        return
    name = (code or "").upper()
    if code is not None and name not in CODES:
        raise UsageError("E_CODE", f"there is no code {code!r}")
    _print.codes(list(CODES.values()) if everything else [CODES[name]])


def _read_options(
    modality: list[str] | None,
    rules: Path | None,
    pet: list[str] | None,
    xform: str | None,
    register: str | None,
    lenient: bool,
) -> ReadOptions:
    """How a study is read, from the options that say so."""
    from differseg_med import io
    from differseg_med.engine import ReadOptions

    pairs = [io.parse_choice(text) for text in modality or []]
    choices = dict(pairs)
    if len(choices) < len(pairs):
        raise UsageError("E_OPTION", "--modality was given twice for one name")
    if xform not in (None, "sform", "qform"):
        raise UsageError("E_OPTION", f"--nifti-xform is sform or qform, not {xform!r}")
    if register not in (None, "rigid"):
        raise UsageError("E_OPTION", f"--register is rigid, not {register!r}")
    return ReadOptions(
        choices=choices,
        rules=io.read_rules(rules) if rules else None,
        pet=io.PetOverrides.parse(pet) if pet else None,
        xform=xform,  # type: ignore[arg-type] # checked above
        register=register,  # type: ignore[arg-type]
        lenient=lenient,
    )
