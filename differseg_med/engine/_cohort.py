"""A table of all cases in a folder, made from their records: as CSV and Parquet."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from differseg_med.engine._status import STATUS
from differseg_med.engine._workspace import read_status
from differseg_med.errors import OutputError, UsageError

__all__ = ["COHORT_COLUMNS", "cohort_rows", "write_cohort"]

Status = Mapping[str, Any]
Row = dict[str, Any]

_STAGES = ("read", "resample", "hash", "predict", "mask", "write")


def _at(*keys: str) -> Callable[[Status], Any]:
    """A value inside a record, None where it is not there."""

    def look(status: Status) -> Any:
        value: Any = status
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    return look


def _present(status: Status) -> str | None:
    modalities = _at("input", "modalities")(status)
    return " ".join(name for name, there in modalities.items() if there) if modalities else None


def _warnings(status: Status) -> str:
    return " ".join(dict.fromkeys(finding["code"] for finding in status.get("findings", ())))


def _total(status: Status) -> float:
    return float(round(sum(status.get("timings_s", {}).values()), 3))


_COLUMNS: dict[str, tuple[type, Callable[[Status], Any]]] = {
    "case": (str, _at("case")),
    "state": (str, _at("state")),
    "code": (str, _at("code")),
    "written": (str, _at("written")),
    "modalities": (str, _present),
    "warnings": (str, _warnings),
    "volume_ml": (float, _at("result", "volume_ml")),
    "voxels": (int, _at("result", "voxels")),
    "components": (int, _at("result", "components")),
    **{f"{name}_s": (float, _at("timings_s", name)) for name in _STAGES},
    "total_s": (float, _total),
    "bundle": (str, _at("bundle", "name")),
    "bundle_version": (str, _at("bundle", "version")),
    "weights_sha256": (str, _at("bundle", "weights_sha256")),
    "input_sha256": (str, _at("input", "sha256")),
}

COHORT_COLUMNS: tuple[str, ...] = tuple(_COLUMNS)
"""Columns of the table, always all of them in this order; new ones come at the end."""


def cohort_rows(out: str | Path) -> list[Row]:
    """One row per case, in order of name.

    Args:
        out: folder of all cases.

    Raises:
        UsageError: ``E_PATH`` when there is no such folder.
    """
    folder = Path(out)
    if not folder.is_dir():
        raise UsageError("E_PATH", f"there is no folder {out}")
    rows = []
    for record in sorted(folder.glob(f"[!.]*/{STATUS}")):
        status = read_status(record.parent)
        if status is not None:
            rows.append({name: look(status) for name, (_, look) in _COLUMNS.items()})
    return rows


def write_cohort(out: str | Path) -> list[Row]:
    """Write ``cohort.csv`` and ``cohort.parquet`` from the records in a folder.

    Args:
        out: folder of all cases, of whichever run or machine.

    Returns:
        The rows.

    Raises:
        UsageError: ``E_PATH`` when there is no such folder.
        OutputError: ``E_WRITE`` when the table cannot be written.
    """
    rows, folder = cohort_rows(out), Path(out)
    for name, content in (("cohort.csv", _csv(rows)), ("cohort.parquet", _parquet(rows))):
        _replace(folder / name, content)
    return rows


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COHORT_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    schema = pa.schema([(name, kinds[kind]) for name, (kind, _) in _COLUMNS.items()])
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place whole; what stood there stays until then."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            temporary = Path(name)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError("E_WRITE", f"{path.name}: {error.strerror}") from error


def _umask() -> int:
    """What the user takes from the permissions of new files; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
