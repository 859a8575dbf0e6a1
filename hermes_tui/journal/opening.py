"""Open a journal for writing: make it, or bring an older one up to date."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable
from importlib import resources

from hermes_tui.journal.files import StateDir, StateError, open_private

INDEX_VERSION = 2
"""Raise this when what the index holds changes: an older one is then rebuilt from the requests."""

SCHEMA_VERSION = 2
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    2: (
        "ALTER TABLE requests ADD COLUMN destination TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE marks ADD COLUMN lost INTEGER NOT NULL DEFAULT 0",
        "DROP INDEX IF EXISTS requests_to_send",
    ),
}
"""Statements that lead from the version before to this one."""

_REVISION_GAP = 2**20  # more than an index commit that never reached the disk can have used


def open_journal(state: StateDir, synchronous: str) -> sqlite3.Connection:
    """The journal of a state folder, with schema and index as this version wants them.

    Raises StateError when it cannot be used, `sqlite3.DatabaseError` when it is damaged.
    """
    state.create()
    try:
        os.close(open_private(state.journal, os.O_RDWR | os.O_CREAT))
        connection = sqlite3.connect(state.journal, isolation_level=None, check_same_thread=False, timeout=10)
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"cannot open the journal {state.journal}: {error}") from error
    try:
        _configure(connection, synchronous)
        _prepare(connection, state)
    except sqlite3.OperationalError as error:  # busy, full, read-only: not the file's fault
        connection.close()
        raise StateError(f"cannot open the journal {state.journal}: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, synchronous: str) -> None:
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # so that forgetting gives the space back
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA fullfsync = ON")  # only macOS has one: a plain fsync stops at the drive
    connection.execute("PRAGMA wal_autocheckpoint = 1000")  # 8 MB; requests wait for it
    connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    connection.execute("PRAGMA cache_size = -65536")


def _prepare(connection: sqlite3.Connection, state: StateDir) -> None:
    _migrate(connection, state)
    for statement in _statements("schema.sql"):
        connection.execute(statement)
    connection.execute(
        "INSERT OR IGNORE INTO meta (key, value) "
        "VALUES ('revision', 0), ('indexed', 0), ('schema_version', ?)",
        (SCHEMA_VERSION,),
    )
    connection.execute("BEGIN IMMEDIATE")
    if _meta(connection, "index_version") != INDEX_VERSION:
        for table in ("spans", "traces", "trace_sessions"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.executemany(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            [("index_version", INDEX_VERSION), ("indexed", 0), ("epoch", secrets.token_hex(8))],
        )
    for statement in _statements("index.sql"):
        connection.execute(statement)
    # Index commits do not wait for the disk: after a power failure the newest revisions may be lost,
    # and must not be given out again.
    connection.execute(
        "UPDATE meta SET value = value + ? WHERE key = 'revision' AND value > 0", (_REVISION_GAP,)
    )
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection, state: StateDir) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'marks'").fetchone() is None:
        return  # new, or cut off while it was made
    version = _meta(connection, "schema_version") or 1
    if version > SCHEMA_VERSION:
        raise StateError(
            f"the journal {state.journal} was written by a newer hermes-trace-tui. Upgrade this one, "
            "or choose another folder with --state-dir."
        )
    connection.execute("BEGIN IMMEDIATE")
    for number in range(version + 1, SCHEMA_VERSION + 1):
        for statement in _MIGRATIONS[number]:
            connection.execute(statement)
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('schema_version', ?)", (SCHEMA_VERSION,)
    )
    connection.execute("COMMIT")


def _meta(connection: sqlite3.Connection, key: str) -> int | None:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else int(row[0])


def _statements(name: str) -> Iterable[str]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    lines = (line.split("--")[0].rstrip() for line in text.splitlines())
    return (each for each in "\n".join(lines).split(";") if each.strip())
