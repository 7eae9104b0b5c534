"""Studies of an archive as the studies of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from differseg_med import io
from differseg_med.engine import StudySource
from differseg_med.integrations.archive._pull import pull
from differseg_med.integrations.archive._server import Server

__all__ = ["pulled_sources"]

FOLDER = ".studies"
"""Folder beside the results that fetched studies are kept in."""


def pulled_sources(
    server: Server | str,
    query: Mapping[str, str],
    out: str | Path,
    *,
    bundle: str | Path,
    rules: io.Rules | None = None,
    report: Callable[[str], None] = lambda stage: None,
) -> list[StudySource]:
    """Fetch every study that matches into ``OUT/.studies/``, and name each as a case.

    What is there already is not fetched again. A study that cannot be fetched becomes a case that
    fails with the reason.

    Args:
        server: the archive, or its address.
        query: value by DICOM keyword.
        out: folder for all cases.
        bundle: fetch only the series that may serve this bundle.
        rules: which series serve what.
        report: is told how far it is.

    Raises:
        UsageError: a wrong call.
        ServerError: the search itself failed, or the archive stays away.
        OutputError: ``E_WRITE``.
    """
    folder = Path(out) / FOLDER
    return [
        StudySource(study.case, study.path or folder / study.case, error=study.error)
        for study in pull(server, query, folder, bundle=bundle, rules=rules, report=report)
    ]
