"""Errors that a user meets: each has a stable code, what came, what was expected and what to do.

The code decides the class and the exit status; cause and remedy of every code are declared once in
`differseg_med._codes`, from which the reference page and ``differseg-med explain`` are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from differseg_med._codes import CODES, Kind

__all__ = [
    "BundleError",
    "DifferSegError",
    "Finding",
    "ModelError",
    "OutputError",
    "ServerError",
    "StudyError",
    "UsageError",
]


class DifferSegError(Exception):
    """An error with a stable code; ``str()`` of it is the one line that a user sees.

    Args:
        code: a key of `differseg_med._codes.CODES`, such as ``"E_GAP"``.
        detail: what came and what was expected, without any patient data.
        remedy: what to do; the code's general remedy if left out.

    Raises:
        KeyError: the code is not declared.
    """

    kind: Kind | None = None

    def __init__(self, code: str, detail: str, remedy: str | None = None) -> None:
        spec = CODES[code]
        if self.kind is not None and spec.kind is not self.kind:
            raise ValueError(f"{code} is declared as {spec.kind.name}, raised as {self.kind.name}")
        self.code = code
        self.detail = detail
        self.remedy = remedy or spec.remedy
        super().__init__(code, detail, self.remedy)

    @property
    def exit_status(self) -> int:
        """The process exit status that this error stands for."""
        return CODES[self.code].kind.exit_status

    def __str__(self) -> str:
        return f"{self.code}: {self.detail.rstrip('.')}. {self.remedy}"


class UsageError(DifferSegError):
    """The command line or a call is wrong: options, paths, names."""

    kind = Kind.USAGE


class StudyError(DifferSegError):
    """A study or an image is refused by the gate."""

    kind = Kind.STUDY


class OutputError(DifferSegError):
    """A result could not be written, or differs when read back."""

    kind = Kind.OUTPUT


class BundleError(DifferSegError):
    """A bundle, its configuration, datalist or weights are wrong."""

    kind = Kind.BUNDLE


class ModelError(DifferSegError):
    """A network was given something that it cannot take."""

    kind = Kind.MODEL


class ServerError(DifferSegError):
    """An archive could not be reached, refused, or gave something else than was asked for."""

    kind = Kind.SERVER


@dataclass(frozen=True)
class Finding:
    """Something the gate noticed and let pass (``W_`` codes), or would refuse (``E_`` codes).

    Attributes:
        code: a key of `differseg_med._codes.CODES`.
        detail: one sentence without any patient data.
    """

    code: str
    detail: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise KeyError(self.code)
