from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from real_series import archives, outcomes

PAGE = Path("docs") / "reference" / "real-series.md"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
QUICK = {"sts_002", "prostatex_0000_missing_slice", "tiny_ct_seg_23x38x3"}


def _rows(root: Path, name: str) -> list[str]:
    lines = (root / PAGE).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(f"| {name} |")]


def _all() -> list[object]:
    found = archives(DATA) or [Path("absent.zip")]
    slow = pytest.mark.slow
    return [
        pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else slow) for path in found
    ]


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("archive", _all())
def test_every_real_series_is_right_or_refused(root: Path, shared: Path, archive: Path) -> None:
    if shutil.which("dcm2niix") is None:
        pytest.skip("needs dcm2niix")
    made = [outcome.row() for outcome in outcomes(archive)]
    assert made == _rows(root, archive.stem)
    assert made
    assert not [row for row in made if "| read:" in row]
