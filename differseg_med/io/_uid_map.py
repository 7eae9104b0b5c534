"""Which identity became which: kept in one file that only its owner can read.

The file is SQLite, so that several processes may use one map and a killed one leaves it whole.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from pydicom.uid import generate_uid

from differseg_med.errors import OutputError, UsageError

__all__ = ["Pseudonym", "UidMap", "default_uid_map"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS uid (old TEXT PRIMARY KEY, new TEXT UNIQUE NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS patient (
    old TEXT PRIMARY KEY, new TEXT UNIQUE NOT NULL, days INTEGER NOT NULL) WITHOUT ROWID;
"""

_Row: TypeAlias = tuple[str | int, ...]

_WAIT_S = 60
_LEAST_DAYS, _MOST_DAYS = 365, 3650


@dataclass(frozen=True)
class Pseudonym:
    """What stands for a patient.

    Attributes:
        name: takes the place of PatientID and PatientName.
        days: by how many days all dates are moved; negative, so that none lies in the future.
    """

    name: str
    days: int


def default_uid_map() -> Path:
    """Where the map is kept if no place is given: with the user's own state, away from results."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "differseg-med" / "uid-map.sqlite"


class UidMap:
    """Old and new UIDs, patients and their pseudonyms; one answer for ever.

    Args:
        path: the file; made with mode 0600 where it does not exist.

    Raises:
        UsageError: ``E_UID_MAP`` where others may read the file, or it is no map.
        OutputError: ``E_WRITE`` where it cannot be made or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: dict[str, str] = {}
        _make_private(self.path)
        try:
            self._database = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
            with closing(self._database.cursor()) as cursor:
                cursor.execute("PRAGMA synchronous = NORMAL")
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            raise OutputError("E_WRITE", f"the UID map cannot be written: {error}") from error
        except sqlite3.DatabaseError as error:
            raise UsageError("E_UID_MAP", f"{self.path.name} is no UID map") from error

    def __enter__(self) -> UidMap:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def uid(self, old: str) -> str:
        """The UID that takes the place of another."""
        if old not in self._known:
            row = self._row("uid", "new", old, (generate_uid(prefix=None),))
            self._known[old] = str(row[0])
        return self._known[old]

    def patient(self, old: str) -> Pseudonym:
        """What stands for a patient.

        Args:
            old: whatever tells the patient from others, such as the PatientID with its issuer.
        """
        days = -(_LEAST_DAYS + secrets.randbelow(_MOST_DAYS - _LEAST_DAYS))
        fresh = (f"DEID-{secrets.token_hex(8).upper()}", days)
        row = self._row("patient", "new, days", old, fresh)
        return Pseudonym(str(row[0]), int(row[1]))

    def originals(self) -> dict[str, str]:
        """What stands behind each pseudonym: a PatientID with its issuer, or a case's path."""
        return dict(self._database.execute("SELECT new, old FROM patient"))

    def _row(self, table: str, columns: str, old: str, fresh: tuple[str | int, ...]) -> _Row:
        """The row of an old value; where there is none, the database decides whose is kept."""
        query = f"SELECT {columns} FROM {table} WHERE old = ?"
        marks = ", ".join("?" * (1 + len(fresh)))
        insert = f"INSERT OR IGNORE INTO {table} (old, {columns}) VALUES ({marks})"
        try:
            found: _Row | None = self._database.execute(query, (old,)).fetchone()
            if found is None:
                self._database.execute(insert, (old, *fresh))
                found = self._database.execute(query, (old,)).fetchone()
        except sqlite3.Error as error:
            raise OutputError("E_WRITE", f"the UID map cannot be written: {error}") from error
        return found or fresh


def _make_private(path: Path) -> None:
    """Make the file for its owner alone, or check that it is so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
            raise UsageError(
                "E_UID_MAP", f"{path.name} is no file that only its owner may read (mode 0600)"
            ) from None
    except OSError as error:
        raise OutputError("E_WRITE", f"the UID map cannot be made: {error.strerror}") from error
