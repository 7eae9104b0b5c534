"""What a watch remembers: one row per study and one per step, in SQLite; no UID, no patient."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from differseg_med.errors import OutputError, UsageError

__all__ = ["OPEN_STATES", "STABLE_POLLS", "STATES", "Row", "State", "open_state"]

STATES = ("new", "pulled", "segmented", "pushed", "skipped", "failed")
"""Every state of a study, in the order in which it goes through the first four."""

OPEN_STATES = ("new", "pulled", "segmented")
"""States from which a study still goes on."""

STABLE_POLLS = 2
"""A study that had the same size in so many polls is complete; there is no counting beyond."""

_VERSION = 1
_PRIVATE = 0o600

_TABLES = """
CREATE TABLE IF NOT EXISTS studies (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    code TEXT,
    seen TEXT,
    unchanged INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    since REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    code TEXT,
    seconds REAL
);
"""


@dataclass(frozen=True)
class Row:
    """One study.

    Attributes:
        name: name of its case.
        state: one of `STATES`.
        code: why it failed or was skipped.
        seen: how large it was when the archive was last asked.
        unchanged: in how many polls in a row it had that size.
        failures: attempts of the current step that failed and are worth another.
        not_before: time before which it is not tried again.
        since: when it got into its state.
    """

    name: str
    state: str
    code: str | None
    seen: str | None
    unchanged: int
    failures: int
    not_before: float
    since: float


class State:
    """The record of a watch; every change is on the disk when a method returns.

    Args:
        connection: database with the tables.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> Row | None:
        """One study, None where it is not known.

        Args:
            name: name of its case.
        """
        found = self._connection.execute("SELECT * FROM studies WHERE name = ?", (name,))
        row = found.fetchone()
        return None if row is None else Row(*row)

    def waiting(self) -> list[Row]:
        """Studies that are not at their end, the oldest first."""
        marks = ", ".join("?" * len(OPEN_STATES))
        return [
            Row(*row)
            for row in self._connection.execute(
                f"SELECT * FROM studies WHERE state IN ({marks}) ORDER BY since, name", OPEN_STATES
            )
        ]

    def counts(self) -> dict[str, int]:
        """Number of studies by state; every state is there."""
        found = self._connection.execute("SELECT state, count(*) FROM studies GROUP BY state")
        return {**dict.fromkeys(STATES, 0), **dict(found.fetchall())}

    def notice(self, name: str, seen: str | None) -> Row:
        """Note how large a study is; one that failed or was skipped starts anew when it changed.

        Args:
            name: name of its case.
            seen: its size.

        Returns:
            The study as it is now.
        """
        before = self.get(name)
        if before is None:
            self._insert(Row(name, "new", None, seen, 1, 0, 0.0, time.time()))
        elif before.seen == seen:
            if before.state == "new" and before.unchanged < STABLE_POLLS:
                self._update(name, "unchanged = unchanged + 1")
        elif before.state in ("new", "failed", "skipped"):
            self._update(
                name, "state='new', code=NULL, seen=?, unchanged=1, failures=0, not_before=0", seen
            )
        else:
            self._update(name, "seen=?", seen)
        row = self.get(name)
        assert row is not None
        return row

    def reach(
        self, name: str, state: str, *, code: str | None = None, seconds: float | None = None
    ) -> None:
        """Record that a study got into a state.

        Args:
            name: name of its case.
            state: one of `STATES`.
            code: why, for a study that failed or was skipped.
            seconds: how long the step took.
        """
        now = time.time()
        with self._writing():
            self._connection.execute(
                "UPDATE studies SET state=?, code=?, failures=0, not_before=0, since=? "
                "WHERE name=?",
                (state, code, now, name),
            )
            self._step(now, name, state, code, seconds)

    def postpone(self, name: str, code: str, until: float, *, unsettled: bool) -> None:
        """Record that a step failed and will be tried again.

        Args:
            name: name of its case.
            code: why it failed.
            until: time before which it is not tried.
            unsettled: the study turned out to be growing: wait until it stays the same.
        """
        unchanged = "0" if unsettled else "unchanged"
        with self._writing():
            self._connection.execute(
                f"UPDATE studies SET failures=failures+1, not_before=?, unchanged={unchanged} "
                "WHERE name=?",
                (until, name),
            )
            self._step(time.time(), name, "postponed", code, None)

    def _insert(self, row: Row) -> None:
        with self._writing():
            self._connection.execute(
                "INSERT INTO studies VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*(getattr(row, name) for name in Row.__dataclass_fields__),),
            )
            self._step(row.since, row.name, row.state, None, None)

    def _update(self, name: str, change: str, *values: str | None) -> None:
        with self._writing():
            self._connection.execute(f"UPDATE studies SET {change} WHERE name=?", (*values, name))

    def _step(
        self, at: float, name: str, state: str, code: str | None, seconds: float | None
    ) -> None:
        self._connection.execute(
            "INSERT INTO steps (at, name, state, code, seconds) VALUES (?, ?, ?, ?, ?)",
            (at, name, state, code, seconds),
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._connection:
                yield
        except sqlite3.Error as error:
            raise _unusable(error) from error


@contextlib.contextmanager
def open_state(path: Path) -> Iterator[State]:
    """Open the record of a watch, for this process alone.

    Args:
        path: the database; made where it does not exist, readable for its owner only.

    Raises:
        UsageError: ``E_OPTION`` when another process has it.
        OutputError: ``E_WRITE`` when it cannot be used.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone(path))
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, _PRIVATE))
            connection = sqlite3.connect(path, check_same_thread=False)
            stack.callback(connection.close)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            _check_version(connection)
            connection.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise _unusable(error) from error
        yield State(connection)


def _check_version(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found not in (0, _VERSION):
        raise UsageError("E_OPTION", f"the state file has layout {found}, {_VERSION} is known")
    connection.execute(f"PRAGMA user_version={_VERSION}")


def _unusable(error: Exception) -> OutputError:
    reason = error.strerror if isinstance(error, OSError) else type(error).__name__
    return OutputError("E_WRITE", f"the state file cannot be used: {reason}")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock beside the file; the system lets go of it when a process dies in any way."""
    import fcntl

    lock: IO[bytes]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("ab")
    except OSError as error:
        raise _unusable(error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                "E_OPTION", "another watch uses this state file", "End it, or give another --state."
            ) from None
        yield
