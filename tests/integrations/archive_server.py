"""A real Orthanc on a free port, a proxy in front of it that fails on demand, tiny studies."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import requests

from differseg_med.geometry import Grid, Volume
from differseg_med.io import StudyInfo, write_series

USER, PASSWORD = "tester", "not-a-secret"
_PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"))


def find_orthanc() -> tuple[str, str] | None:
    """The server and its DICOMweb plugin, where both are installed."""
    program = shutil.which("Orthanc") or shutil.which("/usr/sbin/Orthanc")
    found = [f for folder in _PLUGINS for f in sorted(folder.glob("libOrthancDicomWeb.so*"))]
    return (program, str(found[0])) if program and found else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """One process with an empty archive; may be stopped and started again."""

    def __init__(self, folder: Path, program: str, plugin: str) -> None:
        self.port, self.folder, self.program = free_port(), folder, program
        self.process: subprocess.Popen[bytes] | None = None
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [plugin],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "StableAge": 2,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def rest(self, method: str, path: str, **options: object) -> requests.Response:
        return requests.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            auth=(USER, PASSWORD),
            timeout=30,
            **options,
        )

    def start(self) -> None:
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, str(self.folder / "orthanc.json")], stdout=log, stderr=log
            )
        for _ in range(300):
            with contextlib.suppress(requests.ConnectionError):
                if self.rest("GET", "/system").ok:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError((self.folder / "log.txt").read_text("utf-8")[-2000:])

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def clear(self) -> None:
        for patient in self.rest("GET", "/patients").json():
            self.rest("DELETE", f"/patients/{patient}")

    def add(self, *files: Path) -> None:
        for file in files:
            assert self.rest("POST", "/instances", data=file.read_bytes()).ok

    def count(self, modality: str, study: str | None = None) -> int:
        """Instances of a modality, in one study or in all."""
        query = {"Modality": modality} | ({"StudyInstanceUID": study} if study else {})
        found = self.rest(
            "POST", "/tools/find", data=json.dumps({"Level": "Instance", "Query": query})
        )
        return len(found.json())


@dataclass
class Fault:
    """What happens to requests whose method and path match, so many times.

    `action` is a status, ``hang`` (seconds in `seconds`), ``drop`` (no answer), ``cut`` (an answer
    that ends early without an error of the transport), ``half`` (the transport breaks), or
    ``forget`` (the server does it, and the answer is lost). `before` runs first.
    """

    method: str
    path: str
    action: int | str | None = None
    times: int = 1
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    longer_than: int = -1
    body: bytes = b"patient Canary^Name"

    def fits(self, method: str, path: str, length: int) -> bool:
        wanted = self.times > 0 and method == self.method and length > self.longer_than
        return wanted and re.search(self.path, path) is not None


class Proxy:
    """Passes everything on to a server, except where a fault is set."""

    def __init__(self, port: int, certificate: Path | None = None) -> None:
        self.faults: list[Fault] = []
        self.scheme = "https" if certificate else "http"
        self.seen: list[tuple[str, str, int]] = []
        self.target = port
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.handle(self)

            def do_POST(self) -> None:
                proxy.handle(self)

            def log_message(self, *args: object) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}/dicom-web"

    def requests(self, method: str, path: str = "") -> int:
        return sum(m == method and re.search(path, p) is not None for m, p, _ in self.seen)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.seen.append((request.command, urlsplit(request.path).path, len(body)))
        fault = next(
            (f for f in self.faults if f.fits(request.command, request.path, len(body))), None
        )
        if fault is not None:
            fault.times -= 1
            if fault.before is not None:
                fault.before()
            if fault.action == "drop":
                request.close_connection = True
                return
            if fault.action == "hang":
                time.sleep(fault.seconds)
            if isinstance(fault.action, int):
                self.answer(request, fault.action, fault.headers, fault.body)
                return
        status, headers, content = self.forward(request, body)
        if fault is not None and fault.action == "forget":
            request.close_connection = True
            return
        if fault is not None and fault.action == "cut":
            content = content[: len(content) * 2 // 3]
        broken = fault is not None and fault.action == "half"
        self.answer(request, status, headers, content, broken=broken)

    def forward(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.target, timeout=60)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() != "accept-encoding"}
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() == "content-type"}
            return answer.status, kept, answer.read()
        except OSError:
            return 502, {}, b""
        finally:
            connection.close()

    def answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        content: bytes,
        *,
        broken: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):  # the other side may have given up
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content[: len(content) // 2] if broken else content)
        if broken:
            request.close_connection = True

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def write_tiny_study(
    folder: Path, seed: int, modalities: tuple[str, ...] = ("pet", "ct"), slices: int = 4
) -> str:
    """A study of a few small slices per series; gives its UID."""
    study = StudyInfo.from_seed(90_000 + seed)
    rng = np.random.default_rng(seed)
    for number, name in enumerate(modalities, start=1):
        affine = np.diag([4.0, 4.0, 4.0, 1.0])
        array = rng.uniform(0.5, 6.0, (16, 16, slices)).astype(np.float32)
        volume = Volume(array, Grid(array.shape, affine, study.frame_uid), name)
        write_series(volume, folder / name, study=study, number=number)
    return study.study_uid


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """An archive for as long as the block runs."""
    program, plugin = find_orthanc() or ("", "")
    server = Orthanc(folder, program, plugin)
    server.start()
    try:
        yield server
    finally:
        server.stop()
