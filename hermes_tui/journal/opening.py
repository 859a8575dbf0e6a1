"""Open a journal for writing: make it, bring an older one up to date, or begin anew where it is damaged."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from importlib import resources

from hermes_tui.journal import aside
from hermes_tui.journal.files import StateDir, StateError, open_private
from hermes_tui.journal.pages import Log

log = logging.getLogger(__name__)

INDEX_VERSION = 4
"""Raise this when what the index holds changes: an older one is then rebuilt from the requests."""

SCHEMA_VERSION = 3
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    2: (
        "ALTER TABLE requests ADD COLUMN destination TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE marks ADD COLUMN lost INTEGER NOT NULL DEFAULT 0",
        "DROP INDEX IF EXISTS requests_to_send",
        # What was sent says from now on where to: else nobody would read it back.
        "CREATE TABLE IF NOT EXISTS spans (trace_id, span_id, request)",
        "CREATE INDEX spans_by_request ON spans (request)",
        "UPDATE requests SET destination = coalesce((SELECT marks.destination FROM spans JOIN marks "
        "USING (trace_id, span_id) WHERE spans.request = requests.id AND marks.state = 2 LIMIT 1), '') "
        "WHERE state = 2",
        "DROP INDEX spans_by_request",
    ),
    3: ("ALTER TABLE requests ADD COLUMN checksum INTEGER",),
}
"""Statements that lead from the version before to this one."""

FORGETTING = "forgetting"
"""In `meta` while rows are being forgotten that readers may still show."""

_REVISION_GAP = 2**20  # more than an index commit that never reached the disk can have used
_VACUUM_BYTES = 256 * 1024 * 1024  # larger ones would keep senders waiting for too long
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Damaged(sqlite3.DatabaseError):
    """The journal is not what was written."""


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file is damaged; busy, full and read-only are not its fault."""
    return isinstance(error, Damaged) or (
        isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT
    )


def open_or_replace(state: StateDir, synchronous: str, damage: str = "") -> sqlite3.Connection:
    """The journal of a state folder; one that is damaged is moved aside and a fresh one begun.

    `damage` is what was found out about it before. What can be read of it is to be put back
    (`aside.pending`). Raises StateError when the folder cannot be used.
    """
    state.create()
    try:
        aside.finish_moving(state)
        if (damage := damage or _empty_before_its_log(state)) and state.journal.exists():
            aside.set_aside(state, damage, time.time_ns())
        with suppress(Damaged):
            return open_journal(state, synchronous)
        return open_journal(state, synchronous)
    except OSError as error:
        raise StateError(f"cannot use the state folder {state.path}: {error}") from error
    except sqlite3.Error as error:
        raise StateError(f"cannot open the journal {state.journal}: {error}") from error


def open_journal(state: StateDir, synchronous: str) -> sqlite3.Connection:
    """The journal of a state folder, with schema and index as this version wants them.

    Raises Damaged when it had to be moved aside, StateError or `sqlite3.Error` when it cannot be used.
    """
    committed, strange = _survey_log(state)
    os.close(open_private(state.journal, os.O_RDWR | os.O_CREAT))
    connection = sqlite3.connect(state.journal, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        _check_log(connection, committed, strange)
        _configure(connection, synchronous)
        _prepare(connection, state)
        if not _has_our_tables(connection):
            raise Damaged("its tables are not those that were made")
        _make_shrinkable(connection)
    except BaseException as error:
        damage = is_damage(error) or (isinstance(error, sqlite3.Error) and not _sound(connection, error))
        if damage:  # moved before it is closed: closing it would throw its log away
            aside.set_aside(state, str(error), time.time_ns())
        connection.close()
        if damage:
            raise Damaged(str(error)) from error
        raise
    return connection


# ---- damage that SQLite does not see


def _empty_before_its_log(state: StateDir) -> str:
    """SQLite throws the log of an empty file away; a journal that has one was never empty."""
    with suppress(FileNotFoundError):
        log_size = state.journal.with_name(f"{state.journal.name}-wal").stat().st_size
        if state.journal.stat().st_size == 0 and log_size > 0:
            return "the file is empty"
    return ""


def _survey_log(state: StateDir) -> tuple[int, int]:
    """How many committed pages the write-ahead log should hold, and how many that SQLite never wrote.

    (0, 0) after the machine itself went down: then SQLite's recovery stops at what was not synced.
    """
    path = state.journal.with_name(f"{state.journal.name}-wal")
    try:
        written = path.stat().st_mtime
    except OSError:
        return 0, 0
    if written < time.time() - _uptime_s():
        return 0, 0
    frames = Log(path)
    try:
        return frames.survey()
    finally:
        frames.close()


def _uptime_s() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _check_log(connection: sqlite3.Connection, committed: int, strange: int) -> None:
    """SQLite reads a log up to its first broken page and forgets the rest without a word."""
    if committed or strange:
        _, known, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        # A single one may have been half written when the relay was killed.
        if 0 <= known < committed or strange > 1:
            count = max(committed, known + strange)
            raise Damaged(f"its write-ahead log is damaged: {known} of {count} pages in it can be read")


def _sound(connection: sqlite3.Connection, error: sqlite3.Error) -> bool:
    """Whether a statement that is right failed for another reason than what the file says of itself."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_ERROR:
        return True  # busy, full, read-only
    try:
        return _meta(connection, "schema_version") != SCHEMA_VERSION or _has_our_tables(connection)
    except sqlite3.Error:
        return False


def _has_our_tables(connection: sqlite3.Connection) -> bool:
    with closing(sqlite3.connect(":memory:")) as model:
        for statement in _statements("schema.sql"):
            model.execute(statement)
        names = [row[0] for row in model.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return all(_columns(connection, name) == _columns(model, name) for name in names)


def _columns(connection: sqlite3.Connection, table: str) -> list[object]:
    return connection.execute("SELECT * FROM pragma_table_info(?)", (table,)).fetchall()


# ---- making it ready


def _configure(connection: sqlite3.Connection, synchronous: str) -> None:
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # so that forgetting gives the space back
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA fullfsync = ON")  # only macOS has one: a plain fsync stops at the drive
    connection.execute("PRAGMA wal_autocheckpoint = 1000")  # 8 MB; requests wait for it
    connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is not found again, by nobody


def _prepare(connection: sqlite3.Connection, state: StateDir) -> None:
    _migrate(connection, state)
    for statement in _statements("schema.sql"):
        connection.execute(statement)
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)",
        [("revision", 0), ("indexed", 0), ("schema_version", SCHEMA_VERSION)],
    )
    for key in ("revision", "indexed"):
        _meta(connection, key)
    if aside.pending(state):
        aside.make_room(connection)
    if _meta(connection, "index_version") != INDEX_VERSION:
        for table in ("spans", "traces", "trace_sessions"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.executemany(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            [("index_version", INDEX_VERSION), ("indexed", 0)],
        )
        renew_epoch(connection)
    elif _meta(connection, FORGETTING) is not None:  # the relay was killed before it told readers
        renew_epoch(connection)
    for statement in _statements("index.sql"):
        connection.execute(statement)
    # Index commits do not wait for the disk: after a power failure the newest revisions may be lost,
    # and must not be given out again.
    connection.execute(
        "UPDATE meta SET value = value + ? WHERE key = 'revision' AND value > 0", (_REVISION_GAP,)
    )
    connection.execute("COMMIT")


def renew_epoch(connection: sqlite3.Connection) -> None:
    """Make readers start over."""
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('epoch', ?)", (secrets.token_hex(8),)
    )
    connection.execute("DELETE FROM meta WHERE key = ?", (FORGETTING,))


def _make_shrinkable(connection: sqlite3.Connection) -> None:
    """Journals of the first version cannot give space back one page at a time."""
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    if mode == 0 and pages * size <= _VACUUM_BYTES:
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:  # no room: it works as it is, and is tried again next time
            log.warning("the journal cannot be made to shrink: %s", error)


def _migrate(connection: sqlite3.Connection, state: StateDir) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'marks'").fetchone() is None:
        return  # new, or cut off while it was made
    version = _meta(connection, "schema_version") or 1
    if version > SCHEMA_VERSION:
        raise StateError(
            f"the journal {state.journal} was written by a newer hermes-trace-tui. Upgrade this one, "
            "or choose another folder with --state-dir."
        )
    if version == SCHEMA_VERSION:
        return
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
    if row is not None and not isinstance(row[0], int):
        raise Damaged(f"its table of values is damaged: {key} is no number")
    return None if row is None else int(row[0])


def _statements(name: str) -> Iterable[str]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    lines = (line.split("--")[0].rstrip() for line in text.splitlines())
    return (each for each in "\n".join(lines).split(";") if each.strip())
