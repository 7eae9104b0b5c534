"""A full disk, a limit on files, a folder that cannot be written: E_WRITE, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from differseg_med.engine import FORMATS, CaseOptions, Results, segment_case, workspace
from differseg_med.engine._case import CaseRun
from differseg_med.engine._status import write_status
from differseg_med.errors import OutputError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import StudyInfo, write_series

Fill = Callable[[Path], None]
Full = Callable[..., AbstractContextManager[None]]


class Level:
    """Foreground where the PET is above 3; explains itself."""

    modalities = ("pet", "ct")
    required = ("pet",)
    reference = "pet"
    spacing = None
    window = (8, 8, 8)
    min_overlap = {"ct": 0.5}  # noqa: RUF012 - stands for an instance's attribute

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(4 * (image[:, :1] - 3))

    def explain(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = torch.zeros(1, 2, *image.shape[2:])
        weights[:, 0] = 1
        return self(image), weights


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("space") / "study"
    rng = np.random.default_rng(5)
    array = rng.uniform(0, 5, (20, 22, 12)).astype(np.float32)
    array[5:9, 5:9, 5:9] = 9
    grid = Grid(array.shape, np.diag([-4.0, -4.0, 4.0, 1.0]))
    write_series(Volume(array, grid, "pet"), folder / "pet", study=StudyInfo.from_seed(1), number=1)
    return folder


@pytest.fixture(scope="module")
def results(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    run = CaseRun(study, Level(), CaseOptions(formats=tuple(FORMATS)), {"name": "level"})
    return run.compute(run.prepare(tmp_path_factory.mktemp("scratch")))


def nothing(folder: Path) -> None:
    """What lies in the folder before it fails."""


@contextmanager
def limited(folder: Path, before: Fill = nothing) -> Iterator[None]:
    """No file may grow beyond 32 bytes: as on a full disk, for every library."""
    before(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root and the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextmanager
def full(folder: Path, before: Fill = nothing) -> Iterator[None]:
    """A file system of 1 MiB without a free byte."""
    with mounted(folder, "size=1m"):
        before(folder)
        _fill(folder / ".filler")
        yield


@contextmanager
def read_only(folder: Path, before: Fill = nothing) -> Iterator[None]:
    with mounted(folder, "size=1m"):
        before(folder)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield


STATES = [limited, full, read_only]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_says_that_it_could_not_be_written(
    results: Results, tmp_path: Path, name: str, state: Full
) -> None:
    def before(folder: Path) -> None:
        for other in FORMATS[name].refers_to:
            FORMATS[other].write(results, folder)

    with state(tmp_path, before), pytest.raises(OutputError, match="E_WRITE") as caught:
        FORMATS[name].write(results, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert "None" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_record_of_a_case(tmp_path: Path, state: Full) -> None:
    with state(tmp_path):
        with pytest.raises(OutputError, match="E_WRITE"):
            write_status(tmp_path, {"state": "done", "text": "x" * 5000})
        assert not (tmp_path / "status.json").exists()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_case_leaves_nothing_half_written(study: Path, tmp_path: Path, state: Full) -> None:
    with state(tmp_path):
        with pytest.raises(OutputError, match="E_WRITE"):
            segment_case(study, Level(), tmp_path, CaseOptions(formats=("nifti", "seg", "png")))
        assert {p.name for p in tmp_path.rglob("*")} <= {".filler", "study", "status.json"}
        record = tmp_path / "study" / "status.json"
        assert not record.exists() or '"E_WRITE"' in record.read_text()


def test_results_that_stand_survive_a_full_disk(study: Path, tmp_path: Path) -> None:
    first = segment_case(study, Level(), tmp_path, CaseOptions(formats=("nifti",)))
    before = {p.name: p.read_bytes() for p in first.folder.iterdir()}
    options = CaseOptions(formats=("nifti", "seg"), overwrite=True)
    with limited(tmp_path), pytest.raises(OutputError, match="E_WRITE"):
        segment_case(study, Level(), tmp_path, options)
    assert {p.name: p.read_bytes() for p in first.folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == [first.case]


def test_a_disk_that_fills_up_between_files(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file fits, the second does not: the case has neither."""
    from differseg_med.engine import _outputs

    def no_space(results: Results, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(_outputs, "write_segmentation", no_space)
    with pytest.raises(OutputError, match=r"E_WRITE: mask.dcm: No space left on device"):
        segment_case(study, Level(), tmp_path, CaseOptions(formats=("nifti", "seg")))
    (record,) = (p for p in tmp_path.rglob("*") if p.is_file())
    assert record.name == "status.json"
    assert '"E_WRITE"' in record.read_text()


@pytest.mark.parametrize("state", [full, read_only], ids=lambda state: state.__name__)
def test_a_workspace_cannot_be_made(tmp_path: Path, state: Full) -> None:
    with state(tmp_path):
        for target in (tmp_path / "case", tmp_path / "new" / "case"):
            with (
                pytest.raises((OutputError, OSError)) as caught,
                workspace(target, overwrite=False) as folder,
            ):
                (folder / "a").write_bytes(bytes(5000))  # where a folder still fitted
            assert getattr(caught.value, "code", "E_WRITE") == "E_WRITE"
            assert not target.exists()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_copy_without_identity(study: Path, tmp_path: Path, state: Full) -> None:
    from differseg_med.io import deidentify

    place = tmp_path / "place"
    place.mkdir()
    private = tmp_path / "map.sqlite"
    deidentify(study, tmp_path / "first", private)  # the map is complete
    with state(place):
        with pytest.raises(OutputError, match="E_WRITE"):
            deidentify(study, place / "copy", private)
        assert not (place / "copy").exists()
