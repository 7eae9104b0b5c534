"""How a watch is doing, on a port of this machine: ``/health`` and ``/metrics``."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from differseg_med._imports import require
from differseg_med.errors import UsageError
from differseg_med.integrations.archive._server import EXTRA
from differseg_med.integrations.archive._state import STATES

__all__ = ["Health", "serve"]

_HOST = "127.0.0.1"
_LAST_PORT = 65535


class Health:
    """What is known about a watch; written by the watch, read by the port."""

    def __init__(self) -> None:
        prometheus = require("prometheus_client", extra=EXTRA)
        self._lock = threading.Lock()
        self._started = time.time()
        self._values: dict[str, Any] = {
            "archive": "not asked yet",
            "doing": "starting",
            "last_poll": None,
            "last_error": None,
            "studies": dict.fromkeys(STATES, 0),
        }
        self._registry = prometheus.CollectorRegistry()
        self._render = prometheus.generate_latest
        self.content_type: str = prometheus.CONTENT_TYPE_LATEST
        own = {"registry": self._registry, "namespace": "differseg_watch"}
        self._studies = prometheus.Gauge("studies", "Studies by state.", ["state"], **own)
        self._up = prometheus.Gauge("archive_up", "1 where the last poll succeeded.", **own)
        self._polled = prometheus.Gauge(
            "last_poll_timestamp_seconds", "When the archive last answered a poll.", **own
        )
        self._failures = prometheus.Counter(
            "failures", "Steps that failed, by code, those tried again included.", ["code"], **own
        )
        self._seconds = prometheus.Summary(
            "step_seconds", "Duration of the steps that succeeded.", ["step"], **own
        )

    def polled(self, error: str | None = None) -> None:
        """The archive was asked.

        Args:
            error: code of what went wrong.
        """
        with self._lock:
            self._values["archive"] = "down" if error else "up"
            if error is None:
                self._values["last_poll"] = time.time()
                self._polled.set_to_current_time()
        self._up.set(0 if error else 1)
        if error:
            self.failed(error)

    def doing(self, what: str) -> None:
        """What the watch does now.

        Args:
            what: in a few words.
        """
        with self._lock:
            self._values["doing"] = what

    def failed(self, code: str) -> None:
        """A step failed.

        Args:
            code: why.
        """
        with self._lock:
            self._values["last_error"] = {"code": code, "at": time.time()}
        self._failures.labels(code).inc()

    def done(self, step: str, seconds: float) -> None:
        """A step succeeded.

        Args:
            step: the state that was reached.
            seconds: how long it took.
        """
        self._seconds.labels(step).observe(seconds)

    def counted(self, studies: dict[str, int]) -> None:
        """How many studies there are.

        Args:
            studies: number by state.
        """
        with self._lock:
            self._values["studies"] = dict(studies)
        for state, number in studies.items():
            self._studies.labels(state).set(number)

    def page(self, path: str) -> tuple[int, str, bytes]:
        """Answer to a request: status, content type and content.

        Args:
            path: what is asked for.
        """
        if path == "/metrics":
            return 200, self.content_type, bytes(self._render(self._registry))
        if path != "/health":
            return 404, "text/plain; charset=utf-8", b"/health or /metrics\n"
        with self._lock:
            values = {**self._values, "up_s": round(time.time() - self._started, 1)}
        down = values["archive"] == "down"
        values["status"] = "archive is down" if down else "ok"
        return 503 if down else 200, "application/json", json.dumps(values).encode() + b"\n"


@contextlib.contextmanager
def serve(health: Health, port: int | None) -> Iterator[int | None]:
    """Answer on a port of this machine, and of no other, for as long as the block runs.

    Args:
        health: what is answered.
        port: the port, 0 for any free one, None for none.

    Yields:
        The port.

    Raises:
        UsageError: ``E_OPTION`` when the port cannot be had.
    """
    if port is None:
        yield None
        return
    if not 0 <= port <= _LAST_PORT:
        raise UsageError("E_OPTION", f"--port is 0 to {_LAST_PORT}, not {port}")
    try:
        server = ThreadingHTTPServer((_HOST, port), _handler(health))
    except OSError as error:
        raise UsageError("E_OPTION", f"port {port} cannot be used: {error.strerror}") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            status, kind, content = health.page(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Requests for the health are not worth a line each."""

    return Handler
