"""Which studies a batch is made of, and which of them fall to one of several machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from differseg_med.engine._workspace import case_id
from differseg_med.errors import DifferSegError, UsageError
from differseg_med.io import list_studies

__all__ = ["Part", "StudySource", "check_unique", "find_sources"]

_MANIFESTS = (".jsonl", ".ndjson")
_KEYS = {"case", "study", "modalities"}


@dataclass(frozen=True)
class StudySource:
    """One study of a batch.

    Attributes:
        case: name of the case, safe as the name of a folder.
        study: a folder or archive of DICOM files, or a folder of NIfTI files.
        choices: series or file by modality, for this study alone; they go before the ones that
            hold for all.
        error: why the study could not be fetched; the case then fails with it.
    """

    case: str
    study: Path
    choices: Mapping[str, str] = field(default_factory=dict)
    error: DifferSegError | None = None


@dataclass(frozen=True)
class Part:
    """One of several equal shares of a batch, by a hash of each case's name.

    Machines that get different parts of one batch never work on the same case, without talking to
    each other, whatever order the studies come in.

    Attributes:
        index: which part, from 1.
        count: how many parts there are.

    Raises:
        UsageError: ``E_OPTION`` for a part that does not exist.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError("E_OPTION", f"there is no part {self.index} of {self.count}")

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``I/N``.

        Raises:
            UsageError: ``E_OPTION`` when it is something else.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise UsageError("E_OPTION", f"a part is I/N, such as 1/4; got {text!r}")
        return cls(int(index), int(count))

    def holds(self, case: str) -> bool:
        """Whether a case falls into this part."""
        digest = hashlib.sha256(case.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1


def find_sources(paths: Iterable[str | Path], modalities: Sequence[str]) -> list[StudySource]:
    """The studies that paths stand for, in order.

    Args:
        paths: studies, folders of studies (`differseg_med.io.list_studies`), or manifests: JSON
            lines with ``study`` (a path, from the manifest's folder), and where wanted ``case``
            and ``modalities`` (series or NIfTI file by modality).
        modalities: names that NIfTI files may have.

    Raises:
        UsageError: ``E_PATH``, ``E_MANIFEST``, or ``E_OPTION`` when two studies have one name.
    """
    sources: list[StudySource] = []
    for path in map(Path, paths):
        if path.suffix.lower() in _MANIFESTS and path.is_file():
            sources += _read_manifest(path.absolute())
        else:
            sources += [StudySource(case_id(p), p) for p in list_studies(path, modalities)]
    check_unique(sources)
    return sources


def check_unique(sources: Iterable[StudySource]) -> None:
    """Refuse two studies under one name: the results of one would take the other's place.

    Args:
        sources: the studies of a batch.

    Raises:
        UsageError: ``E_OPTION`` naming both paths.
    """
    seen: dict[str, StudySource] = {}
    for source in sources:
        other = seen.setdefault(source.case, source)
        if other is not source:
            raise UsageError(
                "E_OPTION",
                f"{other.study} and {source.study} would both be case {source.case}",
                'Name them apart in a manifest: {"case": NAME, "study": PATH} on each line.',
            )


def _read_manifest(path: Path) -> list[StudySource]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("E_MANIFEST", f"{path.name} cannot be read as text") from error
    found = [
        _entry(line, path.parent, f"{path.name}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise UsageError("E_MANIFEST", f"{path.name} names no study")
    return found


def _entry(line: str, folder: Path, where: str) -> StudySource:
    try:
        values: Any = json.loads(line)
    except ValueError as error:
        raise UsageError("E_MANIFEST", f"{where} is not JSON") from error
    if not isinstance(values, dict) or not isinstance(values.get("study"), str):
        raise UsageError("E_MANIFEST", f"{where} is not an object with a path under 'study'")
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        raise UsageError(
            "E_MANIFEST",
            f"{where}: unknown key {unknown[0]!r}; keys are {', '.join(sorted(_KEYS))}",
        )
    choices, case = values.get("modalities", {}), values.get("case")
    if not _is_choices(choices) or not isinstance(case, str | None):
        raise UsageError("E_MANIFEST", f"{where}: 'case' is a name, 'modalities' maps names")
    study = folder / values["study"]
    try:
        name = case_id(study, case)
    except UsageError as error:
        raise UsageError("E_MANIFEST", f"{where}: {error.detail}") from error
    return StudySource(name, study, {key: _choice(str(v), folder) for key, v in choices.items()})


def _is_choices(values: object) -> bool:
    return isinstance(values, dict) and all(isinstance(v, str | int) for v in values.values())


def _choice(text: str, folder: Path) -> str:
    """NIfTI files are found from the manifest's folder, as studies are."""
    return str(folder / text) if text.endswith((".nii", ".nii.gz")) else text
