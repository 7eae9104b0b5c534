"""The page of many cases counts what it is given and escapes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from differseg_med._codes import CODES
from differseg_med.engine import write_cohort_report
from differseg_med.errors import OutputError

ROWS = [
    {"case": "a", "state": "done", "volume_ml": 0.0, "lesions": 0, "seconds": 2.0},
    {"case": "b", "state": "done", "volume_ml": 2.0, "warnings": "W_FOV W_ABSENT", "seconds": 4.0},
    {"case": "c", "state": "done", "volume_ml": 2.5, "warnings": ["W_FOV"], "has_report": True},
    {"case": "d", "state": "done", "volume_ml": 500.0, "code": None},
    {"case": "e", "state": "failed", "code": "E_GAP", "message": "E_GAP: <b>12</b> is missing"},
]


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_states_codes_and_warnings_are_counted(tmp_path: Path) -> None:
    path = write_cohort_report(ROWS, tmp_path / "cohort.html", title="Five")
    page = path.read_text("utf-8")
    text = text_of(page)
    for fact in ("Done 4", "Failed 1", "With warnings 2", "Median volume 2.2 ml", "Empty masks 1"):
        assert fact in text, fact
    assert "Median time 3.0 s" in text
    assert f"E_GAP 1 {CODES['E_GAP'].cause}" in text
    assert f"W_FOV 2 {CODES['W_FOV'].cause}" in text
    assert f"W_ABSENT 1 {CODES['W_ABSENT'].cause}" in text
    assert re.findall(r'<a href="([^"#]+)"', page) == ["c/report.html"]


def test_the_histogram_has_half_decades_and_a_bin_for_empty_masks(tmp_path: Path) -> None:
    page = write_cohort_report(ROWS, tmp_path / "cohort.html").read_text("utf-8")
    bars = dict(re.findall(r"<title>([^<]*): (\d+) cases</title>", page))
    assert bars == {
        "empty": "1",
        "1 to 3.16 ml": "2",
        "3.16 to 10 ml": "0",
        "10 to 31.6 ml": "0",
        "31.6 to 100 ml": "0",
        "100 to 316 ml": "0",
        "316 to 1000 ml": "1",
    }


@pytest.mark.parametrize("rows", [[], ROWS[4:], ROWS[:1], [ROWS[0]] * 3])
def test_few_cases_make_a_page_too(rows: list, tmp_path: Path) -> None:
    page = write_cohort_report(rows, tmp_path / "cohort.html").read_text("utf-8")
    assert f"{len(rows)} cases" in page


def test_values_stay_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    rows = [{"case": hostile, "state": hostile, "message": hostile, "has_report": True}]
    page = write_cohort_report(rows, tmp_path / "cohort.html", title=hostile).read_text("utf-8")
    assert hostile not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"E_WRITE: cohort\.html"):
        write_cohort_report(ROWS, tmp_path / "nowhere/cohort.html")
