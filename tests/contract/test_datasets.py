"""Every declared dataset, from a tiny copy in its published layout to a datalist that loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from image_files import SHAPE, make_image, make_label, write_any
from layouts import EXAMPLES as MEDICAL
from layouts import make_dataset
from natural_layouts import NATURAL

from differseg_med import io
from differseg_med.data import (
    IGNORED,
    LoadImageModalitiesd,
    datasets_page,
    find_dataset,
    list_datasets,
    load_datalist,
)
from differseg_med.engine import prepare_dataset
from differseg_med.errors import BundleError
from differseg_med.modality import get_modalities

EXAMPLES = {**MEDICAL, **NATURAL}
NAMES = [info.name for info in list_datasets()]
SECTIONS = ("training", "validation", "test")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory):
    """Prepares each dataset once."""
    made = {}

    def prepare(name: str):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            make_dataset(name, root / "source", EXAMPLES[name])
            result = prepare_dataset(name, root / "source", root / "out", workers=2)
            made[name] = (result, root / "source", root / "out")
        return made[name]

    return prepare


def _read(out: Path, name: str):
    return json.loads((out / name).read_text(encoding="utf-8"))


def _sections(out: Path) -> dict[str, list[str]]:
    content = _read(out, "datalist.json")
    return {name: [entry["case"] for entry in content[name]] for name in SECTIONS}


def test_every_dataset_has_a_copy_and_every_copy_a_declaration() -> None:
    assert set(NAMES) == set(EXAMPLES)


def test_bundles_that_declarations_name_exist(root: Path) -> None:
    tasks = {path.stem for path in (root / "configs/tasks").glob("*.yaml")}
    named = {task for info in list_datasets() for task in info.tasks}
    assert named <= tasks
    assert {"brats", "stroke", "wmh", "polyp"} <= named


def test_page_is_the_one_made_from_the_declarations(root: Path) -> None:
    committed = (root / "docs/reference/datasets.md").read_text(encoding="utf-8")
    assert committed == datasets_page(), "docs/reference/datasets.md is stale: run make bundles"


@pytest.mark.parametrize("name", NAMES)
def test_every_case_is_found_and_loads(name: str, prepared) -> None:
    result, _, out = prepared(name)
    info = find_dataset(name)
    assert not result.refused
    assert sum(result.sections.values()) == len(EXAMPLES[name].cases())
    loaded = []
    for section in SECTIONS:
        if result.sections[section]:
            loaded += load_datalist(
                out / "datalist.json", section, out, info.streams, info.required
            )
    assert len(loaded) == sum(result.sections[section] for section in SECTIONS)
    assert all(set(info.streams) <= set(case) for case in loaded)


@pytest.mark.parametrize("name", NAMES)
def test_first_case_is_where_it_was_published(name: str, prepared) -> None:
    """Its images hold what was written, its label is the default target, its section is kept."""
    _, source, out = prepared(name)
    example = EXAMPLES[name]
    content = _read(out, "datalist.json")
    case, section, entry = _first(content, out, name)
    mask = _mask(out / entry["label"])
    label = make_label(example.values, 0)
    label = label[:, :, 1:2] if mask.shape[2] == 1 else label
    wanted = np.isin(label, example.target).astype(np.uint8)
    wanted[np.isin(label, example.ignore)] = 2
    np.testing.assert_array_equal(mask, wanted)
    if example.section:
        assert section in example.section
    if example.patient:
        assert content["patients"][case] == example.patient
    for stream in find_dataset(name).streams:
        path = (out / entry[stream]).resolve()
        assert path.is_relative_to(source.resolve()) or path.is_relative_to(out.resolve())


def _first(content, out: Path, name: str):
    """The entry whose image of the reference is the first one that was written."""
    stream = find_dataset(name).reference
    wanted = make_image(stream, 0)
    for section in SECTIONS:
        for entry in content[section]:
            path = out / entry[stream]
            if io.is_image(path):  # JPEG changes values, other cases differ by 33 on average
                red = io.read_image(path, 3)[0].array[:, :, 0]
                found = np.abs(red - wanted[:, :, 1] // 8).mean() < 12
            else:
                found = np.abs(io.read_nifti(path).array - wanted).max() < 2
            if found:
                return entry["case"], section, entry
    raise AssertionError(f"the first case of {name} is in no section")


def _mask(path: Path) -> np.ndarray:
    if io.is_image(path):
        return (io.read_image(path)[0].array >= 128).astype(np.uint8)
    values = io.read_nifti(path).array
    assert np.isin(values, (0, 1, 2)).all()
    return values.astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_no_patient_stands_in_two_parts(name: str, prepared) -> None:
    _, _, out = prepared(name)
    content, sections = _read(out, "datalist.json"), _sections(out)
    patients = {s: {content["patients"][case] for case in cases} for s, cases in sections.items()}
    for one, other in (("training", "validation"), ("training", "test"), ("validation", "test")):
        assert not patients[one] & patients[other]
    usable = {*sections["training"], *sections["validation"]}
    for fold in content["folds"]:
        held = {content["patients"][case] for case in fold["validation"]}
        assert not held & {content["patients"][case] for case in fold["training"]}
        assert {*fold["training"], *fold["validation"]} == usable
    assert len(content["folds"]) in (0, 5)


@pytest.mark.parametrize("name", NAMES)
def test_fingerprint_says_what_a_plan_needs(name: str, prepared) -> None:
    result, _, out = prepared(name)
    found, info = _read(out, "fingerprint.json"), find_dataset(name)
    assert found["cases"] == result.sections["training"] + result.sections["validation"]
    if not found["cases"]:
        assert "training" not in {*info.split.sections.values()}
        return
    shape, spacing = (list(SHAPE), [1.5, 1.25, 3.0])
    if info.dims == 2:
        shape, spacing = [*SHAPE[:2], 1], [1.0, 1.0, 1.0]
    for stream in info.streams:
        facts = found["modalities"][stream]
        assert (facts["present"], facts["absent"]) == (found["cases"], 0)
        assert facts["shape"]["median"] == shape
        assert facts["spacing_mm"]["median"] == spacing
        for region in ("foreground", "body"):
            values = facts["intensity"][region]
            order = ("min", "percentile_0.5", "median", "percentile_99.5", "max")
            assert [values[key] for key in order] == sorted(values[key] for key in order)
            assert values["min"] <= values["mean"] <= values["max"]
            assert values["sd"] > 0
    assert found["label"]["labelled"] == found["cases"]
    assert found["label"]["foreground_ml"]["median"] > 0
    assert len(found["per_case"]) == found["cases"]


@pytest.mark.parametrize("name", NAMES)
def test_bad_cases_are_named_and_stop_no_other(name: str, tmp_path: Path) -> None:
    """A missing file, a label of other values, a label of another size, a file that is cut off."""
    example, info = EXAMPLES[name], find_dataset(name)
    cases = make_dataset(name, tmp_path / "source", example)
    bad, reference = cases[-4:], info.reference
    _remove(bad[0][reference])
    value = 1 if example.values == (255,) and info.dims == 2 else 77
    wrong = (make_label(example.values, 0) > 0) * value
    _replace(tmp_path / "source", bad[1]["label"], wrong)
    _replace(tmp_path / "source", bad[2]["label"], np.zeros((9, 8, 7)))
    _cut(bad[3][reference])
    result = prepare_dataset(name, tmp_path / "source", tmp_path / "out", folds=0)
    codes = sorted(error.code for error in result.refused.values())
    label = "E_LABEL" if bad[2]["label"].is_dir() else "E_GEOMETRY"
    assert codes == sorted(["E_MISSING_MODALITY", "E_LABEL", label, "E_CORRUPT"])
    texts = " ".join(str(error) for error in result.refused.values())
    assert bad[0][reference].name in texts
    assert sum(result.sections.values()) == len(cases) - 4
    recorded = _read(tmp_path / "out", "prepared.json")
    assert {item["code"] for item in recorded["refused"].values()} == set(codes)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
        return
    path.unlink()
    if path.suffix == ".mhd":
        path.with_suffix(".raw").unlink()


def _replace(source: Path, path: Path, array: np.ndarray) -> None:
    relative = path.relative_to(source).as_posix() + ("/" if path.is_dir() else "")
    _remove(path)
    write_any(source, relative, array.astype(np.int32), "label", 0)


def _cut(path: Path) -> None:
    file = sorted(path.iterdir())[2] if path.is_dir() else path
    file = file.with_suffix(".raw") if file.suffix == ".mhd" else file
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


@pytest.mark.parametrize("name", ["wmh", "isles2022", "msd_prostate", "polyp"])
def test_a_section_that_would_be_empty_is_refused(name: str, tmp_path: Path) -> None:
    cases = make_dataset(name, tmp_path / "source")
    for case in cases[1:]:
        for path in set(case.values()):
            path.unlink()
    with pytest.raises(BundleError, match=r"E_DATALIST: section '\w+' would be empty: 1 cases"):
        prepare_dataset(name, tmp_path / "source", tmp_path / "out")
    result = prepare_dataset(name, tmp_path / "source", tmp_path / "out", split=False)
    assert [result.sections[section] for section in SECTIONS] == [1, 1, 1]
    assert "W_NO_SPLIT" in {finding.code for finding in result.findings}


PAIRS = [(info.name, task) for info in list_datasets() for task in info.tasks]


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_a_bundle_loads_what_was_prepared_for_it(name: str, task: str, prepared, root) -> None:
    """Names of modalities and targets, required files, label values and units agree."""
    _, _, out = prepared(name)
    content = _read(out, "datalist.json")
    section = next(section for section in SECTIONS if content[section])
    train = yaml.safe_load((root / "bundles" / task / "configs/train.yaml").read_text("utf-8"))
    modalities, required = train["modalities"], train["required"]
    case, *_ = load_datalist(
        out / "datalist.json", section, out, modalities, required, target=train["target"]
    )
    options = {
        key: train[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for key, value in train["load_options"].items()
    }
    options |= {"labels": {}, "size": None, "spatial_dims": find_dataset(name).dims}
    if name == "isles2022":
        options["scale"] = {}  # the copies hold ADC in the unit of the modality
    loaded = LoadImageModalitiesd(**options, label_key="label", label_on="reference")(case)
    values = set(np.unique(loaded["label"]))
    assert {0.0, 1.0} <= values <= {0.0, 1.0, IGNORED}
    assert (IGNORED in values) == bool(find_dataset(name).target().ignore)
    assert loaded["image"].shape[0] == sum(m.channels for m in get_modalities(modalities))
    assert bool(loaded["present"].all())
