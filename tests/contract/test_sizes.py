"""Functions and files stay small enough to read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_FILE = 500
NINETIETH_PERCENTILE = 36


def _functions(source: str) -> list[tuple[int, str]]:
    """Length in lines, decorators and docstring left out, and name of every function."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node, clean=False) is not None
            docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
            found.append((node.end_lineno - node.lineno + 1 - docstring, node.name))
    return found


def _sources(root: Path) -> list[Path]:
    folders = [root / name for name in ("differseg_med", "tests", "benchmarks")]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def test_no_function_is_longer_than_sixty_lines(root: Path) -> None:
    long = [
        f"{path.relative_to(root)}: {name} has {lines} lines"
        for path in _sources(root)
        for lines, name in _functions(path.read_text(encoding="utf-8"))
        if lines > MOST_LINES_OF_A_FUNCTION
    ]
    assert not long, long


def test_nine_in_ten_functions_of_the_package_are_short(root: Path) -> None:
    lengths = sorted(
        lines
        for path in (root / "differseg_med").rglob("*.py")
        for lines, _ in _functions(path.read_text(encoding="utf-8"))
    )
    assert lengths[int(0.9 * len(lengths))] < NINETIETH_PERCENTILE


def test_no_file_is_longer_than_five_hundred_lines(root: Path) -> None:
    lengths = {
        str(path.relative_to(root)): len(path.read_text(encoding="utf-8").splitlines())
        for path in _sources(root)
    }
    long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FILE}
    assert not long, long


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f():\n    return 1\n", 2),
        ('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n', 2),
        ("@g\ndef f(\n    a,\n):\n    return 1\n", 4),
    ],
)
def test_lengths_count_code_without_docstring(source: str, lines: int) -> None:
    assert _functions(source) == [(lines, "f")]
