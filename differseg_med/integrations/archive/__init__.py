"""A DICOM archive over DICOMweb: fetch studies, store results, watch for new studies.

Nothing here talks to a network before it is called, and what is needed for it is imported then.
"""

from __future__ import annotations

from differseg_med.integrations.archive._archive import check_query
from differseg_med.integrations.archive._pull import PulledStudy, case_of, pull
from differseg_med.integrations.archive._push import PushedFile, PushReport, push
from differseg_med.integrations.archive._server import Server
from differseg_med.integrations.archive._sources import pulled_sources
from differseg_med.integrations.archive._watch import Event, Segmenter, WatchOptions, watch

__all__ = [
    "Event",
    "PulledStudy",
    "PushReport",
    "PushedFile",
    "Segmenter",
    "Server",
    "WatchOptions",
    "case_of",
    "check_query",
    "pull",
    "pulled_sources",
    "push",
    "watch",
]
