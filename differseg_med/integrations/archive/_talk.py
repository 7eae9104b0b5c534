"""What can go wrong on the wire, in our codes; and doing again what may succeed later."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from differseg_med._imports import require
from differseg_med.errors import ServerError
from differseg_med.integrations.archive._server import EXTRA

__all__ = ["AnswerError", "backoff_s", "insist", "is_transient", "talking", "whole_multipart"]

_T = TypeVar("_T")

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_TRANSIENT = frozenset(("E_SERVER", "E_TRANSFER"))
_LATER = frozenset((408, 425, 429))
_NOT_IMPLEMENTED = 501
_EPILOGUE = 1 << 12


class AnswerError(ServerError):
    """A server answered with an error.

    Args:
        code: our code.
        status: the HTTP status.
        wait_s: how long the server asked to wait, 0 if it did not say.
        body: what it said; for reading, never for a message.
    """

    def __init__(self, code: str, status: int, wait_s: float = 0.0, body: bytes = b"") -> None:
        super().__init__(code, f"the archive answered {status}")
        self.status, self.wait_s, self.body = status, wait_s, body


class _CutOffError(OSError):
    """A multipart answer ended before its closing boundary."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later.

    Args:
        error: what it raised.
    """
    return isinstance(error, ServerError) and error.code in _TRANSIENT


def backoff_s(
    failures: int, *, first: float | None = None, longest: float = _LONGEST_WAIT_S
) -> float:
    """Seconds to wait after a number of failures in a row: doubling, with jitter.

    Args:
        failures: 1 after the first.
        first: the wait after the first, on average three quarters of this; None for half a second.
        longest: where doubling ends.
    """
    start = _FIRST_WAIT_S if first is None else first
    return random.uniform(0.5, 1.0) * min(longest, start * 2.0 ** min(failures - 1, 30))


def insist(work: Callable[[], _T], attempts: int, sleep: Callable[[float], object]) -> _T:
    """Do something, and again where that helps: timeouts, 5xx, 429, answers that were cut off.

    Args:
        work: raises `ServerError`.
        attempts: how often at most.
        sleep: waits.

    Raises:
        ServerError: the last one.
    """
    failures = 0
    while True:
        try:
            return work()
        except ServerError as error:
            failures += 1
            if failures >= attempts or not is_transient(error):
                raise
            asked = error.wait_s if isinstance(error, AnswerError) else 0.0
        sleep(max(backoff_s(failures), min(asked, _LONGEST_WAIT_S)))


@contextmanager
def talking() -> Iterator[None]:
    """Turn what the HTTP libraries raise into one of our errors.

    Their texts, which may hold addresses with values of a query, go nowhere.
    """
    errors = require("requests", extra=EXTRA).exceptions
    try:
        yield
    except errors.HTTPError as error:
        raise answer_error(error.response) from None
    except errors.SSLError:
        raise ServerError("E_TLS", "the archive's certificate was not accepted") from None
    except errors.TooManyRedirects:
        raise ServerError("E_QUERY", "the archive redirects to another address") from None
    except errors.Timeout:
        raise ServerError("E_SERVER", "the archive did not answer in time") from None
    except (errors.ConnectionError, errors.ChunkedEncodingError, errors.ContentDecodingError):
        raise ServerError("E_SERVER", "the connection to the archive failed or broke") from None
    except _CutOffError:
        raise ServerError("E_TRANSFER", "an answer of the archive was cut off") from None
    except errors.RequestException as error:
        raise ServerError("E_QUERY", f"the request failed: {type(error).__name__}") from None
    except OSError:  # of a socket, where requests lets one through
        raise ServerError("E_SERVER", "the connection to the archive broke") from None


def answer_error(response: Any) -> AnswerError:
    """The error that an HTTP status stands for.

    Args:
        response: what ``requests`` got.
    """
    status = int(response.status_code)
    if status in (401, 403):
        return AnswerError("E_AUTH", status)
    if status in _LATER or (status >= 500 and status != _NOT_IMPLEMENTED):
        return AnswerError("E_SERVER", status, _retry_after_s(response))
    return AnswerError("E_QUERY", status, body=_body(response))


def whole_multipart(response: Any, *args: Any, **kwargs: Any) -> None:
    """Hook of a session: a multipart answer without its closing boundary is an error.

    The client takes whatever came before the end for the last part.

    Args:
        response: what ``requests`` got.
        args: not used.
        kwargs: not used.
    """
    boundary = _boundary(response.headers.get("Content-Type", ""))
    if boundary is None:
        return
    closing, read = b"--" + boundary + b"--", response.iter_content

    def iterate(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        tail = b""
        for chunk in read(*args, **kwargs):
            tail = (tail + chunk)[-len(closing) - _EPILOGUE :]
            yield chunk
        if closing not in tail:
            raise _CutOffError

    response.iter_content = iterate


def _boundary(content_type: str) -> bytes | None:
    kind, *parameters = content_type.split(";")
    if not kind.strip().lower().startswith("multipart/"):
        return None
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary":
            return value.strip('"').encode()
    return None


def _retry_after_s(response: Any) -> float:
    """Seconds of a Retry-After; a date there is not worth a parser."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _body(response: Any) -> bytes:
    with talking():
        return bytes(response.content)
