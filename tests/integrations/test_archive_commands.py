"""The commands as a user types them, and the page that shows them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from archive_server import PASSWORD, Orthanc, files_of, free_port, write_tiny_study

from differseg_med.cli._app import run
from differseg_med.engine import FORMATS
from differseg_med.integrations.archive import case_of

pytestmark = [pytest.mark.allow_hosts(["127.0.0.1"]), pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "archive.md"


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(
    orthanc: Orthanc,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ended]:
    """Runs a command as the program does, in a folder of its own, without a process of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("differseg_med.integrations.archive._talk._FIRST_WAIT_S", 0.01)

    def run_command(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["differseg-med", *words])
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run_command


def test_pull_and_push_tell_what_they_did(
    orthanc: Orthanc, tmp_path: Path, call: Callable[..., Ended]
) -> None:
    uid = write_tiny_study(tmp_path / "a", 1, ("pet",))
    sent = call("push", "a", "--server", orthanc.url, "--json")
    assert sent.returncode == 0, sent.stderr
    assert [json.loads(line)["state"] for line in sent.stdout.splitlines()] == ["stored"] * 4
    pulled = call("pull", "--server", orthanc.url, "--out", "b", "--json")
    assert pulled.returncode == 0, pulled.stderr
    told = json.loads(pulled.stdout)
    path = str(Path("b") / case_of(uid))
    assert told == {"case": case_of(uid), "path": path, "fetched": 4, "code": None}
    assert uid not in sent.stdout + sent.stderr + pulled.stdout + pulled.stderr
    assert len(files_of(tmp_path / "b")) == 4


@pytest.mark.parametrize(
    ("url", "password", "status", "code"),
    [
        ("http://127.0.0.1:{dead}/dicom-web", PASSWORD, 6, "E_SERVER"),
        ("{url}", "canary-wrong", 6, "E_AUTH"),
        ("{url}/nowhere", PASSWORD, 6, "E_QUERY"),
        ("https://127.0.0.1:{port}/dicom-web", PASSWORD, 6, "E_TLS"),
        ("http://name:canary@127.0.0.1/dicom-web", PASSWORD, 2, "E_OPTION"),
        ("http://pacs.example/dicom-web", PASSWORD, 2, "E_OPTION"),
    ],
)
def test_an_error_is_one_line_with_its_code(
    orthanc: Orthanc,
    call: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    password: str,
    status: int,
    code: str,
) -> None:
    monkeypatch.setenv("DIFFERSEG_DICOMWEB_PASSWORD", password)
    address = url.format(dead=free_port(), url=orthanc.url, port=orthanc.port)
    ended = call("pull", "--server", address, "--out", "b")
    assert ended.returncode == status
    assert ended.stderr.startswith(f"{code}: ")
    assert ended.stderr.count("\n") == 1
    assert "canary" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.slow
def test_page_goes_from_three_studies_to_three_segmentations(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## From three studies")[2]
    text = text.partition("\n## ")[0]
    (script,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    blocks = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S))
    lines = blocks.replace("\\\n", " ").replace("http://127.0.0.1:8042/dicom-web", orthanc.url)
    commands = [shlex.split(line) for line in lines.splitlines()]
    assert [words[1] for words in commands] == ["push", "watch", "pull"]
    for words in commands:
        ended = subprocess.run(
            [sys.executable, "-m", "differseg_med.cli", *words[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 3  # the last command found them
    found = orthanc.rest(
        "GET", "/dicom-web/instances", params={"Modality": "SEG"}, headers={"Accept": "text/json"}
    ).json()
    assert len({item["0020000D"]["Value"][0] for item in found}) == len(found) == 3
    kinds = [modality_of(file) for file in files_of(tmp_path / "back")]
    assert kinds.count("SEG") == 3
    assert kinds.count("SR") == (3 if "sr" in FORMATS else 0)


def modality_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).Modality)
