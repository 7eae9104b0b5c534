"""Which archive, and how to talk to it: address, credentials, certificate, patience."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from differseg_med._imports import require
from differseg_med.errors import UsageError

__all__ = ["EXTRA", "Server", "open_session"]

EXTRA = "dicomweb"
"""The extra that installs what this package needs."""

_USER, _PASSWORD, _TOKEN = (f"DIFFERSEG_DICOMWEB_{name}" for name in ("USER", "PASSWORD", "TOKEN"))


@dataclass(frozen=True)
class Server:
    """A DICOMweb server.

    Credentials are never part of it: they come from ``DIFFERSEG_DICOMWEB_USER`` and
    ``DIFFERSEG_DICOMWEB_PASSWORD``, from ``DIFFERSEG_DICOMWEB_TOKEN``, or from ``~/.netrc``.

    Attributes:
        url: address up to the DICOMweb root, such as ``https://pacs.example/dicom-web``.
        ca: file with the certificates of an authority of one's own; None for the usual ones.
        insecure_http: allow plain HTTP to another machine.
        connect_s: seconds that a connection may take.
        read_s: seconds that the server may be silent.
        attempts: how often a request that may succeed later is made before it counts as failed.

    Raises:
        UsageError: ``E_OPTION`` for an address that is none, holds credentials or is plain HTTP to
            another machine; ``E_PATH`` for a certificate file that is not there.
    """

    url: str
    ca: Path | None = None
    insecure_http: bool = False
    connect_s: float = 5.0
    read_s: float = 60.0
    attempts: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/"))
        _check_address(_split(self.url), insecure_http=self.insecure_http)
        if self.ca is not None and not self.ca.is_file():
            raise UsageError("E_PATH", f"there is no certificate file {self.ca}")
        if min(self.connect_s, self.read_s) <= 0 or self.attempts < 1:
            raise UsageError("E_OPTION", "timeouts are above 0 and there is at least one attempt")


def open_session(server: Server) -> Any:
    """A ``requests.Session`` for a server, with credentials, that follows no redirect.

    Args:
        server: the server.

    Raises:
        UsageError: ``E_EXTRA``, or ``E_OPTION`` for credentials that are not complete.
    """
    requests = require("requests", extra=EXTRA)
    _mute_the_client()
    session = requests.Session()
    # by itself requests lets REQUESTS_CA_BUNDLE win over `verify`, and sends a netrc's password
    # along a redirect; what is wanted of the environment is therefore asked for one by one
    session.trust_env = False
    session.max_redirects = 0
    session.proxies = requests.utils.get_environ_proxies(server.url)
    session.verify = True if server.ca is None else str(server.ca)
    token, pair = _credentials(os.environ)
    if token is not None:
        session.auth = _bearer(token)
    else:
        session.auth = pair or requests.utils.get_netrc_auth(server.url)
    session.mount(f"{_split(server.url).scheme}://", _adapter(requests))
    return session


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UsageError("E_OPTION", "--server is no address", _EXAMPLE) from None
    return parts


_EXAMPLE = "Give an address such as https://pacs.example/dicom-web."


def _check_address(parts: SplitResult, *, insecure_http: bool) -> None:
    """Messages never repeat the address, which may hold a password."""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("E_OPTION", "--server is no http or https address", _EXAMPLE)
    if "@" in parts.netloc:
        raise UsageError(
            "E_OPTION",
            "--server holds credentials, which every user of this machine could read",
            f"Set {_USER} and {_PASSWORD} instead, or add the host to ~/.netrc.",
        )
    if parts.query or parts.fragment:
        raise UsageError("E_OPTION", "--server ends with the path of the DICOMweb root", _EXAMPLE)
    if parts.scheme == "http" and not (insecure_http or _is_loopback(parts.hostname)):
        raise UsageError(
            "E_OPTION",
            "plain HTTP would send patient data in clear text over the network",
            "Use https, or --insecure-http where the network itself is protected.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _credentials(environ: Mapping[str, str]) -> tuple[str | None, tuple[str, str] | None]:
    """A token, or user and password, or neither."""
    user, password, token = (environ.get(name) or None for name in (_USER, _PASSWORD, _TOKEN))
    if token is not None and (user or password):
        raise UsageError("E_OPTION", f"{_TOKEN} and {_USER} are both set", "Set one of them.")
    if (user is None) != (password is None):
        raise UsageError("E_OPTION", f"{_USER} and {_PASSWORD} belong together", "Set both.")
    if token is not None:
        return token, None
    return None, None if user is None or password is None else (user, password)


def _bearer(token: str) -> Any:
    def authorize(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def _adapter(requests: Any) -> Any:
    class Adapter(requests.adapters.HTTPAdapter):
        """The client sets a Host without the port; the right one is made where there is none."""

        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            request.headers.pop("Host", None)
            return super().send(request, *args, **kwargs)

    return Adapter()


def _mute_the_client() -> None:
    """The client logs UIDs, query values and what servers write into warnings."""
    logger = logging.getLogger("dicomweb_client")
    logger.propagate = False
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
