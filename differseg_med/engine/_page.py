"""Self-contained HTML pages: one file with its style, scripts and data, that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from differseg_med import __version__
from differseg_med._codes import CODES
from differseg_med.errors import OutputError

__all__ = ["code_rows", "render_page", "write_page"]

_FOLDER = Path(__file__).parent / "report"


def render_page(template: str, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Fill a template. All values are escaped; style and scripts are ours and go in as they are.

    The page forbids every request and every script and style but its own, which it names by hash.

    Args:
        template: its name in the folder of templates.
        styles: names of style sheets, joined in this order.
        scripts: names of scripts.
        values: what the template names.
    """
    style = "".join(_source(name) for name in styles)
    codes = [_source(name) for name in scripts]
    allowed = " ".join(_hash(code) for code in codes)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {allowed}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            style=Markup(style),
            scripts=[Markup(code) for code in codes],
            version=__version__,
            **values,
        )
    )


def write_page(path: Path, text: str) -> None:
    """Write a page so that it appears whole or not at all.

    Args:
        path: the file; one that exists is replaced.
        text: the page.

    Raises:
        OutputError: ``E_WRITE`` when it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError("E_WRITE", f"{path.name}: {error.strerror}") from error


def code_rows(counts: dict[str, int]) -> list[dict[str, Any]]:
    """Codes with how often they came up, their meaning and remedy; the most frequent first.

    Args:
        counts: number by code.
    """
    order = sorted(counts, key=lambda code: (-counts[code], code))
    return [
        {
            "code": code,
            "count": counts[code],
            "cause": CODES[code].cause if code in CODES else "",
            "remedy": CODES[code].remedy if code in CODES else "",
        }
        for code in order
    ]


@cache
def _source(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)


def _hash(code: str) -> str:
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return f"'sha256-{digest}'"
