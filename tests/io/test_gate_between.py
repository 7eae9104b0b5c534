"""Rows of the study gate about several series: patients, frames, overlap, and who serves what."""

from __future__ import annotations

from pathlib import Path

import pytest
import traps
from traps import Stack, save

from differseg_med.errors import StudyError, UsageError
from differseg_med.io import check_between, parse_choice, read_rules, read_study, select_series
from differseg_med.modality import get_modalities, get_modality

PETCT = get_modalities(["pet", "ct"])


def study_of(folder: Path, *stacks: Stack):
    for number, stack in enumerate(stacks):
        slices = stack.slices()
        for k, data in enumerate(slices):
            name = traps.uid(number, k)
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = name
        save(slices, folder / f"s{number}")
    return read_study(folder)


def stack(sop_class: str, name: str, **changes: object) -> Stack:
    return Stack(sop_class=sop_class, name=name, shape=(16, 16, 10), changes=changes)


def pair(folder: Path, shift: float = 0.0, **changes: object):
    ct = stack(traps.CT, "ct", **changes)
    ct.centre = (12.0 + shift, -31.0, 57.0)
    study = study_of(folder, stack(traps.PET, "pet"), ct)
    return select_series(study, PETCT, required=["pet", "ct"])


def code(function, *args, **kwargs) -> str:
    with pytest.raises(StudyError) as caught:
        function(*args, **kwargs)
    return caught.value.code


def warnings_of(series, **options) -> list[str]:
    return [finding.code for finding in check_between(series, "pet", **options)]


@pytest.mark.parametrize(
    "change", [{"PatientID": "TRAP-2"}, {"PatientBirthDate": "19700101"}, {"PatientSex": "M"}]
)
def test_gate_two_patients(tmp_path: Path, change: dict) -> None:
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, stack(traps.PET, "pet"), stack(traps.CT, "ct", **change))
    assert caught.value.code == "E_PATIENT_MIX"
    for value in ("TRAP", "1970", "1960"):
        assert value not in str(caught.value)


def test_gate_report_of_another_patient(tmp_path: Path) -> None:
    other = stack(traps.CT, "sr", PatientID="TRAP-2").slices()[0]
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"
    save([other], tmp_path)
    assert code(study_of, tmp_path, stack(traps.PET, "pet")) == "E_PATIENT_MIX"


def test_gate_empty_identity_is_no_second_patient(tmp_path: Path) -> None:
    ct = stack(traps.CT, "ct", PatientID="", PatientBirthDate="", PatientSex="")
    assert len(study_of(tmp_path, stack(traps.PET, "pet"), ct).series) == 2


def test_gate_same_frame(tmp_path: Path) -> None:
    assert warnings_of(pair(tmp_path)) == []


@pytest.mark.parametrize("frame", [traps.uid("other"), None])
def test_gate_frames_differ(tmp_path: Path, frame: str | None) -> None:
    series = pair(tmp_path, FrameOfReferenceUID=frame)
    assert code(check_between, series, "pet") == "E_FRAME"
    assert warnings_of(series, register=True) == []


def test_gate_overlap(tmp_path: Path) -> None:
    """The reference is 24 mm wide: 11 mm aside leaves 54 %, 13 mm 46 %."""
    assert warnings_of(pair(tmp_path / "a", shift=11.0)) == []
    series = pair(tmp_path / "b", shift=13.0)
    assert code(check_between, series, "pet") == "E_OVERLAP"
    assert warnings_of(series, min_overlap={"ct": 0.4}) == []


def test_gate_other_study(tmp_path: Path) -> None:
    series = pair(tmp_path, StudyInstanceUID=traps.uid("another study"))
    assert warnings_of(series) == ["W_STUDY_MIX"]


@pytest.mark.parametrize(("date", "expected"), [("20240316", []), ("20240317", ["W_TIME_APART"])])
def test_gate_more_than_24_hours_apart(tmp_path: Path, date: str, expected: list[str]) -> None:
    series = pair(tmp_path, AcquisitionDate=date, AcquisitionTime="101559")
    assert warnings_of(series) == expected


def test_gate_no_reference(tmp_path: Path) -> None:
    series = {**pair(tmp_path), "pet": None}
    assert code(check_between, series, "pet") == "E_MISSING_MODALITY"


def test_gate_required_modality_missing(tmp_path: Path) -> None:
    study = study_of(tmp_path, stack(traps.CT, "ct"))
    assert code(select_series, study, PETCT, required=["pet"]) == "E_MISSING_MODALITY"


def test_gate_optional_modality_missing(tmp_path: Path) -> None:
    study = study_of(tmp_path, stack(traps.PET, "pet"))
    found = select_series(study, PETCT, required=["pet"])
    assert found["ct"] is None
    assert found["pet"] is study.series[0]


@pytest.fixture(scope="module")
def two_cts(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("two_cts")
    thin = stack(traps.CT, "thin", SeriesNumber=4, SeriesDescription="CT thin\x07 B70f")
    thick = stack(traps.CT, "thick", SeriesNumber=5, ConvolutionKernel="B30f")
    return study_of(folder / "x", stack(traps.PET, "pet", SeriesNumber=6), thin, thick)


def test_gate_two_series_fit(two_cts) -> None:
    with pytest.raises(StudyError) as caught:
        select_series(two_cts, PETCT, required=["pet"])
    assert caught.value.code == "E_AMBIGUOUS"
    for part in ("4 (CT", "5 (CT", "10 slices", "1.50 x 1.25 x 3.00 mm"):
        assert part in caught.value.detail
    assert "thin" not in str(caught.value)
    assert "TRAP" not in str(caught.value)
    assert "Trap" not in str(caught.value)


@pytest.mark.parametrize("choice", ["5", traps.uid("thick"), "s2", "s2/", "ABSOLUTE"])
def test_gate_choice_resolves(two_cts, choice: str) -> None:
    if choice == "ABSOLUTE":
        choice = f"{two_cts.source}/s2"
    found = select_series(two_cts, PETCT, required=["pet"], choices={"ct": choice})
    assert found["ct"].number == 5


def test_gate_choice_of_a_folder_by_any_path(two_cts, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(two_cts.source)
    monkeypatch.chdir(root.parent)
    study = read_study("x")
    for choice in ("s2", "x/s2", "./s2", str(root / "s2")):
        found = select_series(study, PETCT, required=["pet"], choices={"ct": choice})
        assert found["ct"].number == 5


@pytest.mark.parametrize("choice", ["9", "s9", "5@b=1000", "6"])
def test_gate_choice_of_what_is_not_there(two_cts, choice: str) -> None:
    call = (select_series, two_cts, PETCT)
    assert code(*call, required=["pet"], choices={"ct": choice}) == "E_SERIES_MISSING"


def test_choice_for_a_modality_that_is_not_taken(two_cts) -> None:
    with pytest.raises(UsageError) as caught:
        select_series(two_cts, PETCT, required=["pet"], choices={"mr_t1": "3"})
    assert caught.value.code == "E_MODALITY"


@pytest.mark.parametrize("text", ["ct", "=4", "ct=", "c t=4"])
def test_choice_that_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_choice(text)


def test_gate_code_cannot_tell_two_mr_apart(tmp_path: Path) -> None:
    study = study_of(tmp_path, stack(traps.MR, "one"), stack(traps.MR, "two"))
    both = get_modalities(["mr_t1", "mr_t2"])
    assert code(select_series, study, both, required=["mr_t1"]) == "E_AMBIGUOUS"
    choices = {"mr_t1": str(study.series[0].number), "mr_t2": str(study.series[1].number)}
    found = select_series(study, both, required=["mr_t1"], choices=choices)
    assert [found["mr_t1"], found["mr_t2"]] == list(study.series)


def test_gate_single_mr_for_two_mr_modalities_is_not_guessed(tmp_path: Path) -> None:
    study = study_of(tmp_path, stack(traps.MR, "one"))
    both = get_modalities(["mr_t1", "mr_t2"])
    assert code(select_series, study, both, required=["mr_t1"]) == "E_AMBIGUOUS"


def test_gate_one_series_cannot_serve_twice(tmp_path: Path) -> None:
    study = study_of(tmp_path, stack(traps.MR, "one", SeriesNumber=7))
    both = get_modalities(["mr_t1", "mr_t2"])
    choices = {"mr_t1": "7", "mr_t2": "7"}
    assert code(select_series, study, both, required=[], choices=choices) == "E_AMBIGUOUS"


def rules(folder: Path, text: str):
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return read_rules(path)


@pytest.mark.parametrize(
    "condition",
    [
        "{tag: ConvolutionKernel, equals: b30F}",
        "{tag: ConvolutionKernel, contains: 30}",
        '{tag: ConvolutionKernel, regex: "^B3"}',
        "{tag: SeriesNumber, range: [5, null]}",
        "{tag: ConvolutionKernel, present: true}",
        '{tag: description, regex: "thick$"}',
    ],
)
def test_gate_rules_resolve(two_cts, tmp_path: Path, condition: str) -> None:
    text = f"modalities:\n  ct:\n    all:\n      - {condition}\n"
    found = select_series(two_cts, PETCT, required=["pet"], rules=rules(tmp_path, text))
    assert found["ct"].number == 5


def test_gate_rules_exclude(two_cts, tmp_path: Path) -> None:
    text = "modalities: {ct: {none: [{tag: description, contains: THIN}]}}"
    found = select_series(two_cts, PETCT, required=["pet"], rules=rules(tmp_path, text))
    assert found["ct"].number == 5


def test_gate_rules_never_take_the_first(two_cts, tmp_path: Path) -> None:
    text = "modalities: {ct: {all: [{tag: slices, range: [5, 20]}]}}"
    call = (select_series, two_cts, PETCT)
    assert code(*call, required=["pet"], rules=rules(tmp_path, text)) == "E_AMBIGUOUS"


def test_gate_rules_break_a_tie_that_they_declare(two_cts, tmp_path: Path) -> None:
    text = (
        "modalities: {ct: {tie_break: [{by: slices, take: most}, {by: SeriesNumber, take: least}]}}"
    )
    found = select_series(two_cts, PETCT, required=["pet"], rules=rules(tmp_path, text))
    assert found["ct"].number == 4


def test_gate_rules_that_nothing_fits(two_cts, tmp_path: Path) -> None:
    text = "modalities: {ct: {all: [{tag: slices, range: [50, null]}]}}"
    found = select_series(two_cts, PETCT, required=["pet"], rules=rules(tmp_path, text))
    assert found["ct"] is None


def test_choice_wins_over_rules(two_cts, tmp_path: Path) -> None:
    made = rules(tmp_path, "modalities: {ct: {all: [{tag: SeriesNumber, equals: 5}]}}")
    found = select_series(two_cts, PETCT, required=["pet"], choices={"ct": "4"}, rules=made)
    assert found["ct"].number == 4


@pytest.mark.parametrize(
    "text",
    [
        "- 1",
        "modality: {}",
        "modalities: []",
        "modalities: {ct: {any: []}}",
        "modalities: {ct: {all: {}}}",
        "modalities: {ct: {all: [{equals: 3}]}}",
        "modalities: {ct: {all: [{tag: KVP, equals: 3, contains: 4}]}}",
        "modalities: {ct: {all: [{tag: KVP, like: 3}]}}",
        "modalities: {ct: {all: [{tag: KVP, range: 3}]}}",
        "modalities: {ct: {all: [{tag: KVP, regex: '('}]}}",
        "modalities: {ct: {tie_break: [{by: KVP, take: first}]}}",
        "modalities: {ct: {all: [}",
        "modalities: {ct: {all: [{tag: SeriesDescripton, equals: x}]}}",
        "modalities: {ct: {tie_break: [{by: PatientName, take: most}]}}",
    ],
)
def test_rules_that_are_wrong(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        rules(tmp_path, text)
    assert caught.value.code == "E_OPTION"


@pytest.mark.parametrize("name", ["petct", "brain_mr", "prostate_mr"])
def test_distributed_rules_are_right(root: Path, name: str) -> None:
    found = read_rules(root / "configs" / "rules" / f"{name}.yaml")
    assert get_modalities(found.modalities)


def test_rules_on_the_reference_page_are_right(root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "reference" / "rules.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    assert list(rules(tmp_path, example).modalities) == ["mr_t2"]


@pytest.mark.realdata
def test_distributed_rules_on_real_studies(root: Path, shared: Path) -> None:
    made = read_rules(root / "configs" / "rules" / "prostate_mr.yaml")
    study = read_study(shared / "data" / "dicom" / "prostatex_0000_mr.zip")
    names = ["mr_t2", "mr_dwi", "mr_adc"]
    found = select_series(study, get_modalities(names), required=names, rules=made)
    assert [(s.number, dict(s.part)) for s in found.values()] == [
        (4, {}),
        (6, {"b": "800"}),
        (7, {}),
    ]


def test_rules_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_rules(tmp_path / "absent.yaml")
    assert caught.value.code == "E_PATH"


def test_lone_slices_do_not_compete_with_a_stack(tmp_path: Path) -> None:
    lone = stack(traps.CT, "lone")
    folder = tmp_path / "lone"
    save(lone.slices()[:1], folder)
    study = study_of(tmp_path, stack(traps.CT, "full"))
    assert len(study.series) == 2
    found = select_series(study, [get_modality("ct")], required=["ct"])
    assert len(found["ct"].instances) == 10
