"""Studies of an archive become cases of a batch; what cannot be fetched fails with its reason."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from small_batch import Level, write_study

from differseg_med.engine import BatchSetup, CaseOptions, segment_cases
from differseg_med.errors import StudyError
from differseg_med.integrations.archive import PulledStudy, Server, _sources, pulled_sources


def test_fetched_studies_are_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def pull(server: object, query: object, out: Path, **options: object):
        asked.append((server, query, out, options["bundle"]))
        yield PulledStudy("one", "1.2.3", write_study(out / "one", 1), fetched=1)
        yield PulledStudy("two", "1.2.4", error=StudyError("E_CORRUPT", "a file is damaged"))

    monkeypatch.setattr(_sources, "pull", pull)
    server, query = Server("http://127.0.0.1:1/dicom-web"), {"StudyDate": "20240101"}
    sources = pulled_sources(server, query, tmp_path, bundle="level")
    assert asked == [(server, query, tmp_path / ".studies", "level")]
    setup = BatchSetup(partial(Level, 3.0), tmp_path, CaseOptions(formats=("nifti",)))
    outcomes = {outcome.case: outcome for outcome in segment_cases(sources, setup)}
    assert outcomes["one"].state == "done"
    assert outcomes["two"].code == "E_CORRUPT"
    assert "a file is damaged" in outcomes["two"].status["message"]
