"""What the commands about a DICOM archive print; no UID and no value of a header is among it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from differseg_med.cli._print import dump, line

if TYPE_CHECKING:
    from differseg_med.integrations.archive import Event, PulledStudy, PushedFile

__all__ = ["event", "pulled", "pushed", "watched"]


def pulled(study: PulledStudy, *, as_json: bool) -> None:
    """Write what became of a study that was asked for."""
    code = study.error.code if study.error else None
    path = None if study.path is None else str(study.path)
    if as_json:
        dump({"case": study.case, "path": path, "fetched": study.fetched, "code": code})
    elif study.error:
        line(f"{study.case}: {study.error}")
    else:
        line(f"{path}: {study.fetched} files fetched")


def pushed(file: PushedFile, *, as_json: bool) -> None:
    """Write what became of a file that was to be stored."""
    if as_json:
        code = file.error.code if file.error else None
        dump({"path": str(file.path), "state": file.state, "code": code})
    else:
        line(f"{file.path}: {file.error or file.state}")


def event(happened: Event, *, as_json: bool) -> None:
    """Write one step of a watch."""
    if as_json:
        dump({"case": happened.case, "state": happened.state, "code": happened.code})
        return
    words = [happened.case, happened.state, *filter(None, (happened.code, happened.detail))]
    line(" ".join(words))


def watched(counts: Mapping[str, int], *, as_json: bool) -> None:
    """Write how many studies are in which state when a watch ends."""
    if as_json:
        dump({"studies": dict(counts)})
    else:
        line(", ".join(f"{number} {state}" for state, number in counts.items() if number) or "none")
