"""A real archive for the tests; they are skipped where Orthanc is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_server import PASSWORD, USER, Orthanc, Proxy, find_orthanc, running


@pytest.fixture(scope="session")
def orthanc_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if find_orthanc() is None:
        pytest.skip("needs Debian's orthanc and orthanc-dicomweb")
    with running(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def orthanc(orthanc_process: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    """An empty archive, with its credentials where the commands look for them."""
    monkeypatch.setenv("DIFFERSEG_DICOMWEB_USER", USER)
    monkeypatch.setenv("DIFFERSEG_DICOMWEB_PASSWORD", PASSWORD)
    orthanc_process.clear()
    return orthanc_process


@pytest.fixture
def proxy(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The same archive behind a proxy that fails on demand; waits are short."""
    monkeypatch.setattr("differseg_med.integrations.archive._talk._FIRST_WAIT_S", 0.01)
    front = Proxy(orthanc.port)
    yield front
    front.close()


@pytest.fixture
def tiny_out(tmp_path: Path) -> Path:
    return tmp_path / "out"
