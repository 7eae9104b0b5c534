"""The three services of an archive: search (QIDO), retrieve (WADO), store (STOW)."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from differseg_med import io
from differseg_med._imports import require
from differseg_med.errors import ServerError, UsageError
from differseg_med.integrations.archive._server import EXTRA, Server, open_session
from differseg_med.integrations.archive._talk import (
    AnswerError,
    answer_error,
    insist,
    talking,
    whole_multipart,
)

__all__ = ["Archive", "Item", "SeriesEntry", "StoreAnswer", "StudyEntry", "check_query", "value_of"]

Item = Mapping[str, Any]
"""One result of a search, in DICOM JSON."""

_PAGE = 500
_CHUNK_BYTES = 1 << 20
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_ANY_SYNTAX = (("application/dicom", "*"),)
_BOUNDARY = "differseg-med-6f1c9d0e4b7a4f0f"
_CONFLICT, _TOO_LARGE = 409, 413

_STUDY, _SERIES, _SOP = "0020000D", "0020000E", "00080018"
_MODALITY, _MANUFACTURER, _MODEL = "00080060", "00080070", "00081090"
_STUDY_SERIES, _STUDY_INSTANCES = "00201206", "00201208"
_STORED, _FAILED, _REFERENCED, _REASON = "00081199", "00081198", "00081155", "00081197"


@dataclass(frozen=True)
class StudyEntry:
    """A study as a search lists it.

    Attributes:
        uid: Study Instance UID.
        size: numbers of series and instances, None where the archive does not count.
    """

    uid: str
    size: str | None


@dataclass(frozen=True)
class SeriesEntry:
    """A series as a search lists it.

    Attributes:
        uid: Series Instance UID.
        modality: DICOM Modality.
        item: everything that the archive said.
    """

    uid: str
    modality: str
    item: Item = field(repr=False)


@dataclass(frozen=True)
class StoreAnswer:
    """What became of objects that were sent.

    Attributes:
        stored: SOP Instance UIDs that the archive says it took.
        failed: reason by SOP Instance UID.
        too_large: the archive refuses messages of this length.
    """

    stored: frozenset[str] = frozenset()
    failed: Mapping[str, int] = field(default_factory=dict)
    too_large: bool = False


class Archive:
    """A connection to an archive. Requests that may succeed later are made again.

    Args:
        server: which archive.
        sleep: waits between attempts; returns early where the program shall end.
    """

    def __init__(self, server: Server, sleep: Callable[[float], object] = time.sleep) -> None:
        self.server = server
        self.sleep = sleep
        self._session = open_session(server)
        self._session.hooks["response"].append(whole_multipart)
        client = require("dicomweb_client", extra=EXTRA).DICOMwebClient
        self._client = client(
            server.url,
            session=self._session,
            timeout=(server.connect_s, server.read_s),
            chunk_size=_CHUNK_BYTES,
        )
        self._client.set_http_retry_params(retry=False)  # it gives up on refused connections

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self._session.close()

    def studies(self, query: Mapping[str, str]) -> Iterator[StudyEntry]:
        """Studies that match, in the archive's order.

        Args:
            query: value by DICOM keyword.

        Raises:
            ServerError: the search failed.
        """
        fields = [_STUDY_SERIES, _STUDY_INSTANCES]
        for item in self._pages(
            _STUDY,
            lambda offset: self._client.search_for_studies(
                search_filters=dict(query), fields=fields, limit=_PAGE, offset=offset
            ),
        ):
            counts = [value_of(item, tag) for tag in (_STUDY_SERIES, _STUDY_INSTANCES)]
            size = None if None in counts else "/".join(str(count) for count in counts)
            yield StudyEntry(_uid(item, _STUDY), size)

    def series(self, study: str, fields: Sequence[str] = ()) -> list[SeriesEntry]:
        """Series of a study.

        Args:
            study: Study Instance UID.
            fields: tags that are wanted beside the usual ones.
        """
        found = self._pages(
            _SERIES,
            lambda offset: self._client.search_for_series(
                study, fields=list(fields), limit=_PAGE, offset=offset
            ),
        )
        return [
            SeriesEntry(_uid(item, _SERIES), str(value_of(item, _MODALITY) or ""), item)
            for item in found
        ]

    def instances(self, study: str, series: str) -> frozenset[str]:
        """SOP Instance UIDs of a series; empty where the archive does not know the series.

        Args:
            study: Study Instance UID.
            series: Series Instance UID.
        """
        try:
            found = self._pages(
                _SOP,
                lambda offset: self._client.search_for_instances(
                    study, series, limit=_PAGE, offset=offset
                ),
            )
            return frozenset(_uid(item, _SOP) for item in found)
        except AnswerError as error:
            if error.status in (404, 410):
                return frozenset()
            raise

    def retrieve(self, study: str, series: str) -> Iterator[Any]:
        """Every object of a series, as it is stored; not made again by itself when it breaks.

        Args:
            study: Study Instance UID.
            series: Series Instance UID.

        Yields:
            Datasets of pydicom.

        Raises:
            ServerError: the transfer failed.
        """
        with talking():
            try:
                yield from self._client.iter_series(study, series, media_types=_ANY_SYNTAX)
            except OSError:  # of the wire, requests' own included: `talking` tells them apart
                raise
            except Exception as error:  # whatever the parsers of parts and of objects raise
                raise ServerError(
                    "E_TRANSFER", "the archive sent something that is no DICOM object"
                ) from error

    def makers(self, study: str, series: str) -> set[tuple[str, str]]:
        """Manufacturer and model that the objects of a series name.

        Args:
            study: Study Instance UID.
            series: Series Instance UID.
        """
        items = self._ask(lambda: self._client.retrieve_series_metadata(study, series))
        return {(str(value_of(i, _MANUFACTURER)), str(value_of(i, _MODEL))) for i in items}

    def store(self, files: Sequence[bytes]) -> StoreAnswer:
        """Send objects in one message, exactly as they are; not made again by itself.

        The client would encode them anew, and takes an answer whose content type has a parameter
        for an answer without failures.

        Args:
            files: contents of DICOM files.

        Raises:
            ServerError: nobody knows what became of the objects.
        """
        head = f"\r\n--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(part for file in files for part in (head, file))
        kind = f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"'
        with talking():
            response = self._session.post(
                f"{self.server.url}/studies",
                data=body + f"\r\n--{_BOUNDARY}--\r\n".encode(),
                headers={"Content-Type": kind, "Accept": "application/dicom+json"},
                timeout=(self.server.connect_s, self.server.read_s),
            )
            content = bytes(response.content)
        if response.status_code == _TOO_LARGE:
            return StoreAnswer(too_large=True)
        if not response.ok and response.status_code != _CONFLICT:
            raise answer_error(response)
        return _read_answer(content)

    def _ask(self, request: Callable[[], Any]) -> list[Item]:
        return insist(lambda: _json(request), self.server.attempts, self.sleep)

    def _pages(self, key: str, request: Callable[[int], Any]) -> Iterator[Item]:
        """Results page by page; ends where nothing new comes, as some servers know no offset."""
        seen: set[str] = set()
        while items := self._ask(functools.partial(request, len(seen))):
            fresh = [item for item in items if _uid(item, key) not in seen]
            if not fresh:
                return
            seen |= {_uid(item, key) for item in fresh}
            yield from fresh


def check_query(pairs: Sequence[str]) -> dict[str, str]:
    """Conditions of a search from ``KEY=VALUE`` as given on the command line.

    A keyword that does not exist is refused here, because servers ignore it and then list every
    study.

    >>> check_query(["ModalitiesInStudy=PT", "StudyDate=20240101-"])
    {'ModalitiesInStudy': 'PT', 'StudyDate': '20240101-'}

    Args:
        pairs: the conditions.

    Raises:
        UsageError: ``E_OPTION``.
    """
    query: dict[str, str] = {}
    for pair in pairs:
        keyword, equals, value = pair.partition("=")
        if not equals or not value:
            raise UsageError("E_OPTION", "--query takes KEY=VALUE")
        if io.keyword_tag(keyword) is None:
            raise UsageError("E_OPTION", f"--query: there is no DICOM keyword {keyword!r}")
        if keyword in query:
            raise UsageError("E_OPTION", f"--query was given twice for {keyword}")
        query[keyword] = value
    return query


def value_of(item: Item, tag: str) -> Any:
    """First value of an attribute in DICOM JSON, or a tuple of several; None where it is empty.

    Args:
        item: one result of a search.
        tag: eight hexadecimal digits.
    """
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    if not isinstance(values, list) or not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)


def _json(request: Callable[[], Any]) -> list[Item]:
    with talking():
        try:
            items = request()
        except ValueError as error:  # what came is no JSON; requests' own error is a subclass
            raise _not_dicom_json() from error
    if not all(isinstance(item, Mapping) for item in items):
        raise _not_dicom_json()
    return list(items)


def _not_dicom_json() -> ServerError:
    return ServerError("E_QUERY", "the answer is no DICOM JSON")


def _uid(item: Item, tag: str) -> str:
    """A UID, which becomes part of addresses."""
    uid = str(value_of(item, tag) or "")
    if not _UID.fullmatch(uid):
        raise ServerError("E_QUERY", "the archive lists something without a UID")
    return uid


def _read_answer(content: bytes) -> StoreAnswer:
    """What an answer names; one that names nothing is no failure, the archive is asked then."""
    try:
        answer = json.loads(content) if content.strip() else {}
    except ValueError:
        return StoreAnswer()
    if isinstance(answer, list):
        answer = answer[0] if answer else {}
    if not isinstance(answer, Mapping):
        return StoreAnswer()
    stored = frozenset(str(value_of(item, _REFERENCED)) for item in _items(answer, _STORED))
    failed = {
        str(value_of(item, _REFERENCED)): int(value_of(item, _REASON) or 0)
        for item in _items(answer, _FAILED)
    }
    return StoreAnswer(stored - failed.keys(), failed)


def _items(answer: Item, tag: str) -> list[Item]:
    found = value_of(answer, tag)
    items = found if isinstance(found, tuple) else (found,)
    return [item for item in items if isinstance(item, Mapping)]
