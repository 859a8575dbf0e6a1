"""The desk: a small file beside the journal that holds what users do. Panes and commands write it.

The relay only reads it, and answers wishes in the journal. Nothing important depends on it: it may
be deleted, replaced or damaged at any time, and a writer that is killed blocks nobody.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hermes_tui.journal.files import StateDir, StateError, open_private

_STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE wishes (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
        "kind TEXT NOT NULL, argument TEXT NOT NULL, made_ns INTEGER NOT NULL)",
    ),
    ("CREATE TABLE notes (name TEXT PRIMARY KEY, at_ns INTEGER NOT NULL, document TEXT NOT NULL)",),
    (
        "CREATE TABLE reviewed (first BLOB NOT NULL, second BLOB NOT NULL, kind TEXT NOT NULL, "
        "at_ns INTEGER NOT NULL, PRIMARY KEY (first, second, kind)) WITHOUT ROWID",
        "CREATE INDEX reviewed_by_time ON reviewed (at_ns)",
    ),
)
"""What each version of the schema adds; the file's `user_version` counts the steps that it has seen."""

WISH_AGE_NS = 24 * 3600 * 10**9
"""An older wish is not fulfilled any more: nobody waits for it."""

CallName = tuple[bytes, bytes, str]
"""One name of a call: (session, the model's id of it, "call") or (trace id, span id, "span")."""

_REVIEWED = 100_000  # names of reviewed calls that are kept, the newest
_PATIENCE_S = 5.0  # for another writer
_MOST = 100  # wishes looked at: those of commands that were killed stay for a day


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that a user wants the relay to do. `argument` is a JSON object."""

    id: str
    kind: str
    argument: dict[str, Any] = field(default_factory=dict)
    made_ns: int = 0


class Desk:
    """Opens (or creates) the desk of a state folder. Raises StateError, here and in every method."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        state.create()
        try:
            os.close(open_private(state.desk, os.O_RDWR | os.O_CREAT))
            self._inode = state.desk.stat().st_ino
            self._connection = sqlite3.connect(state.desk, isolation_level=None, timeout=_PATIENCE_S)
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"cannot open the desk {state.desk}: {error}") from error
        try:
            with self._clear_errors():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with _transaction(self._connection) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(_STEPS):
                raise StateError(
                    f"the desk {self._state.desk} was written by a newer hermes-trace-tui; upgrade this one"
                )
            for statements in _STEPS[version:]:
                for statement in statements:
                    connection.execute(statement)
            if version < len(_STEPS):
                connection.execute(f"PRAGMA user_version = {len(_STEPS)}")

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wish(self, kind: str, argument: dict[str, Any]) -> str:
        """Ask the relay for something; the id under which it answers. Old wishes go meanwhile."""
        name, now = secrets.token_hex(8), time.time_ns()
        with self._clear_errors(), _transaction(self._connection) as connection:
            connection.execute("DELETE FROM wishes WHERE made_ns < ?", (now - WISH_AGE_NS,))
            connection.execute(
                "INSERT INTO wishes (id, kind, argument, made_ns) VALUES (?, ?, ?, ?)",
                (name, kind, json.dumps(argument), now),
            )
        return name

    def withdraw(self, wish: str) -> None:
        """Take a wish back, fulfilled or not."""
        with self._clear_errors(), _transaction(self._connection) as connection:
            connection.execute("DELETE FROM wishes WHERE id = ?", (wish,))

    def wishes(self) -> list[Wish]:
        """The newest wishes, the oldest of them first."""
        with self._clear_errors():
            return _wishes(self._connection)

    def review(self, names: Collection[CallName], *, reviewed: bool) -> None:
        """Note that somebody has looked at calls, or take it back. A call may have several names."""
        now = time.time_ns()
        with self._clear_errors(), _transaction(self._connection) as connection:
            if not reviewed:
                statement = "DELETE FROM reviewed WHERE first = ? AND second = ? AND kind = ?"
                connection.executemany(statement, names)
                return
            statement = "INSERT OR REPLACE INTO reviewed (first, second, kind, at_ns) VALUES (?, ?, ?, ?)"
            connection.executemany(statement, [(*name, now) for name in names])
            connection.execute(
                "DELETE FROM reviewed WHERE at_ns < "
                "(SELECT at_ns FROM reviewed ORDER BY at_ns DESC LIMIT 1 OFFSET ?)",
                (_REVIEWED - 1,),
            )

    def reviewed(self) -> set[CallName]:
        """The names of all calls that somebody has looked at."""
        with self._clear_errors():
            rows = self._connection.execute("SELECT first, second, kind FROM reviewed").fetchall()
        return {(bytes(first), bytes(second), str(kind)) for first, second, kind in rows}

    def keep(self, name: str, document: dict[str, Any]) -> None:
        """Keep a small document under a name, in place of the one before."""
        row = (name, time.time_ns(), json.dumps(document))
        with self._clear_errors(), _transaction(self._connection) as connection:
            connection.execute("INSERT OR REPLACE INTO notes (name, at_ns, document) VALUES (?, ?, ?)", row)

    def kept(self, name: str) -> tuple[int, dict[str, Any]] | None:
        """A document and when it was kept (ns since the epoch); None when there is none."""
        with self._clear_errors():
            row = self._connection.execute(
                "SELECT at_ns, document FROM notes WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else (row[0], _object(row[1]))

    def replaced(self) -> bool:
        """Whether the file that was opened is no longer the desk: nobody reads what is written here."""
        try:
            return self._state.desk.stat().st_ino != self._inode
        except OSError:
            return True

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # busy, full, read-only: not the file's fault
            raise StateError(f"cannot use the desk {self._state.desk}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StateError(
                f"the desk {self._state.desk} is damaged ({error}); nothing important is in it: delete it"
            ) from error


class DeskWatch:
    """The relay's look at the desk: cheap while nothing changes, and never writing."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.desk
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._seen = -1

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def news(self) -> list[Wish] | None:
        """The newest wishes, the oldest of them first, if anything changed since the last call; else None.

        Raises StateError while the desk cannot be read; the next call tries again.
        """
        try:
            return self._look()
        except (OSError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                return None  # somebody writes just now
            self.close()
            raise StateError(f"cannot read the desk {self._path}: {error}") from error

    def _look(self) -> list[Wish] | None:
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            self.close()
            return None
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is not a regular file")
        if self._connection is None or found.st_ino != self._inode:
            self.close()
            self._connection = self._open()
            self._inode, self._seen = found.st_ino, -1
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._seen:
            return None
        wishes = _wishes(self._connection)
        self._seen = version
        return wishes

    def _open(self) -> sqlite3.Connection:
        """Not read-only for the system: what a killed writer left half done must be rolled back."""
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0
        )
        connection.execute("PRAGMA query_only = ON")
        return connection


def _wishes(connection: sqlite3.Connection) -> list[Wish]:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'wishes'").fetchone() is None:
        return []  # just being made
    rows = connection.execute(
        "SELECT id, kind, argument, made_ns FROM wishes ORDER BY number DESC LIMIT ?", (_MOST,)
    ).fetchall()
    return [Wish(name, kind, _object(argument), made_ns) for name, kind, argument, made_ns in reversed(rows)]


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
