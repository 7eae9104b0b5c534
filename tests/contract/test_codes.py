"""The code table, its reference page and the code agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from differseg_med._codes import CODES, Kind, codes_page
from differseg_med.errors import DifferSegError, Finding, StudyError


def test_page_is_the_one_made_from_the_table(root: Path) -> None:
    committed = (root / "docs/reference/codes.md").read_text(encoding="utf-8")
    assert committed == codes_page(), "docs/reference/codes.md is stale: run make bundles"


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.name)
def test_code_says_cause_and_remedy_in_whole_sentences(code) -> None:
    assert re.fullmatch(r"[EW]_[A-Z_]+", code.name)
    assert code.name.startswith("W_") == (code.kind is Kind.WARNING)
    assert code.cause.endswith(".")
    assert code.remedy.endswith(".")
    assert "|" not in code.cause + code.remedy


def test_no_code_stands_twice(root: Path) -> None:
    table = (root / "differseg_med/_codes.py").read_text(encoding="utf-8")
    names = re.findall(r"^([EW]_[A-Z_]+)\*? \|", table, flags=re.MULTILINE)
    assert len(names) == len(set(names)) == len(CODES)


def test_every_code_in_the_package_is_declared(root: Path) -> None:
    used = {
        (path.name, code)
        for path in (root / "differseg_med").rglob("*.py")
        for code in re.findall(r"\"([EW]_[A-Z_]+)\"", path.read_text(encoding="utf-8"))
    }
    assert not {(name, code) for name, code in used if code not in CODES}


def test_every_declared_code_can_come_up(root: Path) -> None:
    """By its name in the package, or as the warning that ``--lenient`` makes of an error."""
    package = (root / "differseg_med").rglob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in package)
    lenient = {code.name.replace("E_", "W_", 1) for code in CODES.values() if code.lenient}
    assert not [name for name in CODES if f'"{name}"' not in text and name not in lenient]


def test_error_is_one_line_with_code_detail_and_remedy() -> None:
    error = StudyError("E_GAP", "between 3 mm and 9 mm a slice is missing")
    assert str(error) == (
        "E_GAP: between 3 mm and 9 mm a slice is missing. "
        "Export the series again; --lenient resamples by the true positions."
    )
    assert error.exit_status == 5


def test_code_and_class_must_fit() -> None:
    with pytest.raises(ValueError, match="declared as BUNDLE"):
        StudyError("E_CONFIG", "x")
    with pytest.raises(KeyError):
        DifferSegError("E_NOT_A_CODE", "x")
    with pytest.raises(KeyError):
        Finding("W_NOT_A_CODE", "x")
