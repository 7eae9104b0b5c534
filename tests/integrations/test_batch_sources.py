"""Studies of an archive become cases of a batch; what cannot be fetched fails with its reason."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pydicom
import pytest
from archive_server import Orthanc, files_of, write_tiny_study
from small_batch import Level, write_study

from differseg_med.cli._app import run
from differseg_med.engine import BatchSetup, CaseOptions, segment_cases
from differseg_med.errors import StudyError
from differseg_med.integrations.archive import (
    PulledStudy,
    Server,
    _sources,
    case_of,
    pulled_sources,
)


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


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_segment_takes_its_studies_from_a_real_archive(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    uids = [write_tiny_study(tmp_path / name, seed) for seed, name in enumerate("ab")]
    orthanc.add(*files_of(tmp_path / "a"), *files_of(tmp_path / "b"))
    out = tmp_path / "out"
    asked = ["segment", "--server", orthanc.url, "--query", "ModalitiesInStudy=PT"]
    how = ["--bundle", "sts_petctmr", "--out", str(out), "--formats", "seg", "--json"]
    monkeypatch.setattr("sys.argv", ["differseg-med", *asked, *how])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 0, capsys.readouterr().err
    for uid in uids:
        segmentation = pydicom.dcmread(out / case_of(uid) / "mask.dcm")
        assert segmentation.StudyInstanceUID == uid
    assert (out / "cohort.csv").is_file()
