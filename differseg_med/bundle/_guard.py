"""``python -m monai.bundle run`` with one line for an error, and no misspelt option in silence.

MONAI takes any option, also one that no configuration has, and shows what goes wrong as a traceback
that never names the key. Bundles call `guard_run` first of all; it does nothing anywhere else.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monai.bundle.scripts import run as monai_run

from differseg_med.errors import BundleError, DifferSegError

__all__ = ["check_options", "explain_error", "guard_run"]

DEBUG = "DIFFERSEG_DEBUG"
"""Environment variable that brings the traceback back."""

_CODE = re.compile(r"\b(E_[A-Z_]+: .+)")
_RUN_KEYS = ("initialize", "run", "training", "evaluating", "inference", "finalize")


def guard_run() -> None:
    """Check the options of a running ``python -m monai.bundle run``; show its errors in one line.

    Raises:
        BundleError: ``E_CONFIG`` naming an option that no configuration has.
    """
    command = Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")
    if not command or sys.argv[1:2] != ["run"] or os.environ.get(DEBUG):
        return
    files = _config_files(sys.argv[2:])
    parser = ConfigParser()
    parser.read_config(files)

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = explain_error(error, parser, files)
        if line is None:
            sys.__excepthook__(kind, error, trace)
        else:
            sys.stderr.write(f"{line}\n")

    sys.excepthook = show
    for handler in logging.getLogger().handlers:  # MONAI's and ignite's handlers log it as well
        handler.addFilter(_without_traceback)
    check_options(sys.argv[2:], parser, files)


def check_options(arguments: list[str], parser: ConfigParser, files: list[str]) -> None:
    """Check that every option is a key of the configuration, or one that MONAI itself takes.

    Args:
        arguments: words of the command line.
        parser: the configuration.
        files: where it was read from.

    Raises:
        BundleError: ``E_CONFIG`` with the key that is nearest.
    """
    own = {*inspect.signature(monai_run).parameters, "args_file"}
    for word in arguments:
        key = word[2:].partition("=")[0]
        if not word.startswith("--") or key in own or key in parser:
            continue
        near = difflib.get_close_matches(key, [str(k) for k in parser.config], 1)
        remedy = f"Did you mean --{near[0]}?" if near else "Give a key of that file."
        raise BundleError("E_CONFIG", f"{_names(files)} has no key {key!r}", remedy)


def explain_error(error: BaseException, parser: ConfigParser, files: list[str]) -> str | None:
    """One line with code, remedy, key and file; None where only a traceback can help.

    Args:
        error: what ended the run.
        parser: the configuration.
        files: where it was read from.
    """
    chain = list(_chain(error))
    frames = [frame for e in chain for frame in _frames(e.__traceback__)]
    key = _key(frames, parser)
    place = f" [{f'key {key} of ' if key else ''}{_names(files)}]"
    own = [e for e in chain if isinstance(e, DifferSegError)]
    if own:
        return f"{own[0]}{place}"
    worker = _CODE.search(str(chain[0]))  # a loading process can only send text
    if worker is not None:
        return f"{worker[1]}{place}"
    if key is None or key.partition("#")[0] in _RUN_KEYS:
        return None
    cause = chain[-1]
    text = (str(cause).strip().splitlines() or ["no details"])[0]
    remedy = f"Correct the key that is named here; {DEBUG}=1 shows the traceback."
    found = BundleError("E_CONFIG", f"{type(cause).__name__}: {text}", remedy)
    return f"{found}{place}"


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info, record.exc_text = None, None
    return True


def _config_files(arguments: list[str]) -> list[str]:
    for number, word in enumerate(arguments):
        name, _, value = word.partition("=")
        if name == "--config_file":
            value = value or arguments[number + 1]
            found = yaml.safe_load(value)
            return [str(f) for f in found] if isinstance(found, list) else [value]
    return []


def _names(files: list[str]) -> str:
    return ", ".join(files) or "the configuration"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _frames(trace: TracebackType | None) -> Iterator[Any]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _key(frames: list[Any], parser: ConfigParser) -> str | None:
    """The key that was being built, or the one whose object was at work."""
    building, working = None, None
    for frame in frames:
        if frame.f_code.co_name == "_resolve_one_item":
            building = str(frame.f_locals.get("id", "")).replace("::", "#")
        owner = type(frame.f_locals.get("self"))
        if owner.__module__.startswith("differseg_med."):
            working = _keys_of(parser.config, owner.__name__) or working
    if building is not None and building.partition("#")[0] not in _RUN_KEYS:
        return building
    return working or building


def _keys_of(config: Any, name: str, key: str = "") -> str | None:
    """Keys whose text names a class."""
    pattern = re.compile(rf"(^|\.){re.escape(name)}(\(|$)")

    def walk(value: Any, key: str) -> Iterator[str]:
        if isinstance(value, str) and pattern.search(value):
            yield key.removesuffix("#_target_")
        pairs = value.items() if isinstance(value, dict) else ()
        for part, item in pairs or (enumerate(value) if isinstance(value, list) else ()):
            yield from walk(item, f"{key}#{part}" if key else str(part))

    return " or ".join(walk(config, key)) or None
