"""A Hermes that writes to its `state.db` as fast as it can, and a reader beside it, each in a process.

Written as Hermes does (0.19 `hermes_state.py`, and `hermes_state_wal.py` of later ones): a transaction a
row that begins with BEGIN IMMEDIATE, a busy timeout of one second, PASSIVE checkpoints every 50 writes,
TRUNCATE before VACUUM and at the end, an index for searching that triggers keep; in WAL mode, and without,
as newer ones do where SQLite is older than 3.51.3.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch
from hermes_tui.model.state_rows import MessageRow
from tests.processes import DEADLINE_S
from tests.state_player import StatePlayer

POLL_S = 0.025  # between two looks, as the pane's
ASK_S = 0.2  # between two whole results
CHECKPOINT = 50  # writes between two checkpoints
_KEPT = 5_000  # messages that are not pruned
_CALLS = 4  # in a turn
_RESULT = "one line of what a command printed\n" * 40

_SPAWN = multiprocessing.get_context("spawn")
_SEARCH = """
CREATE INDEX IF NOT EXISTS by_session ON messages (session_id, timestamp);
CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(content);
CREATE TRIGGER IF NOT EXISTS search_new AFTER INSERT ON messages BEGIN
    INSERT INTO search (rowid, content)
    VALUES (new.id, coalesce(new.content, '') || coalesce(new.tool_calls, ''));
END;
CREATE TRIGGER IF NOT EXISTS search_gone AFTER DELETE ON messages BEGIN
    DELETE FROM search WHERE rowid = old.id;
END;
"""


@dataclass
class Written:
    """What the writer went through: `commits` are (`time.monotonic` at the beginning, seconds)."""

    commits: list[tuple[float, float]] = field(default_factory=list)
    busy: int = 0
    """Errors that SQLite gave because of others' locks, after it had waited."""
    held_up: int = 0
    """Checkpoints with TRUNCATE that could not do their work."""
    log_bytes: int = 0
    """The largest WAL."""
    rows: int = 0


class Hammer:
    """The writing process: from its beginning until `stop`."""

    def __init__(self, home: Path, journal_mode: str, tend_s: float) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_hammer, args=(theirs, home, journal_mode, tend_s), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it has begun

    def stop(self) -> Written:
        self._pipe.send(None)
        found: Written = self._pipe.recv()
        self._process.join(DEADLINE_S)
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.join(DEADLINE_S)


@contextmanager
def hammering(home: Path, journal_mode: str = "wal", tend_s: float = 0.5) -> Iterator[Hammer]:
    """A writer that prunes, VACUUMs, and closes and opens its database, every `tend_s` seconds."""
    hammer = Hammer(home, journal_mode, tend_s)
    try:
        yield hammer
    finally:
        hammer.close()


def _hammer(pipe: Connection, home: Path, journal_mode: str, tend_s: float) -> None:
    writer = _Writer(home, journal_mode)
    pipe.send(None)
    tended, tending = time.monotonic(), itertools.cycle((writer.vacuum, writer.reopen))
    while not pipe.poll():
        writer.turn()
        if time.monotonic() - tended > tend_s:
            next(tending)()
            tended = time.monotonic()
    writer.close()
    pipe.send(writer.written)


class _Writer:
    """One Hermes, and what befell it."""

    def __init__(self, home: Path, journal_mode: str) -> None:
        self._home, self._journal_mode = home, journal_mode
        self.written = Written()
        self._log = f"{home / 'state.db'}-wal"
        self._count = 0
        self._open()

    def _open(self) -> None:
        self._player = StatePlayer(self._home, journal_mode=self._journal_mode)
        self._connection = self._player.connection
        self._connection.execute("PRAGMA busy_timeout = 1000")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SEARCH)

    def turn(self) -> None:
        """A prompt, some calls with their results, and the answer, each row in its transaction."""
        session = f"s{self.written.rows // 500}"
        self._row(session, role="user", content="Go on")
        for number in range(_CALLS):
            call = f"call_{self.written.rows}"
            asked = {
                "id": call,
                "function": {"name": "terminal", "arguments": f'{{"command": "make {number}"}}'},
            }
            self._row(session, role="assistant", content="", tool_calls=json.dumps([asked]))
            result = json.dumps({"output": _RESULT, "exit_code": 0})
            self._row(session, role="tool", content=result, tool_call_id=call, tool_name="terminal")
        self._row(session, role="assistant", content="Done", finish_reason="stop")

    def _row(self, session: str, **row: Any) -> None:
        begin = time.monotonic()
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._insert(session, row)
                self._connection.execute("COMMIT")
                break
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode & 0xFF) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                self.written.busy += 1
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        self.written.commits.append((begin, time.monotonic() - begin))
        self.written.rows += 1
        self._wrote()

    def _insert(self, session: str, row: dict[str, Any]) -> None:
        now, count = time.time(), self.written.rows + 1
        self._player.put("messages", id=count, session_id=session, timestamp=now, active=1, **row)
        self._player.put("sessions", id=session, source="cli", started_at=now, message_count=count)

    def _wrote(self) -> None:
        self._count += 1
        if self._count % CHECKPOINT == 0 and self._journal_mode == "wal":
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.written.log_bytes = max(self.written.log_bytes, os.stat(self._log).st_size)

    def vacuum(self) -> None:
        self._retried("DELETE FROM messages WHERE id <= ?", self.written.rows - _KEPT)
        self._truncate()
        self._retried("VACUUM")

    def reopen(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self._truncate()
        self._player.close()

    def _truncate(self) -> None:
        busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.written.held_up += busy

    def _retried(self, statement: str, *values: Any) -> None:
        while True:
            try:
                self._connection.execute(statement, values)
                return
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_BUSY:
                    raise
                self.written.busy += 1


# ---- the reader


@dataclass
class Read:
    """What the reader saw: ids of messages, what troubled it, and its share of a core."""

    ids: set[int] = field(default_factory=set)
    trouble: set[str] = field(default_factory=set)
    polls: int = 0
    cpu: float = 0.0
    asked: int = 0
    """Whole results that it asked for, …"""
    told: int = 0
    """… and got."""


class Looker:
    """A process that polls a home's `Watch` as the pane does, and asks for results as its details do."""

    def __init__(self, home: Path) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_look, args=(theirs, home), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it has looked once

    def stop(self, last: int = 0) -> Read:
        """End, once it has seen the message `last`, or could have for long."""
        self._pipe.send(last)
        found: Read = self._pipe.recv()
        self._process.join(DEADLINE_S)
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.join(DEADLINE_S)


@contextmanager
def looking(home: Path) -> Iterator[Looker]:
    """A reader from here on."""
    looker = Looker(home)
    try:
        yield looker
    finally:
        looker.close()


def _look(pipe: Connection, home: Path) -> None:
    with closing(_Reader(home)) as reader:
        reader.poll()
        pipe.send(None)
        began, used = time.monotonic(), time.process_time()
        while not pipe.poll(POLL_S):
            reader.poll()
        reader.found.cpu = (time.process_time() - used) / (time.monotonic() - began)
        last, deadline = pipe.recv(), time.monotonic() + DEADLINE_S
        while last and last not in reader.found.ids and time.monotonic() < deadline:
            time.sleep(POLL_S)
            reader.poll()
    pipe.send(reader.found)


class _Reader:
    """Polls in one thread, asks for whole results in another."""

    def __init__(self, home: Path) -> None:
        self.found = Read()
        self._watch = Watch(find=lambda: [Home("default", home)])
        self._newest: MessageRow | None = None
        self._done = threading.Event()
        self._asking = threading.Thread(target=self._ask)
        self._asking.start()

    def poll(self) -> None:
        for row in self._watch.poll():
            if isinstance(row, MessageRow):
                self.found.ids.add(row.id)
                if row.tool_call_id:
                    self._newest = row
        self.found.trouble |= {each.trouble for each in self._watch.watched() if each.trouble}
        self.found.polls += 1

    def close(self) -> None:
        self._done.set()
        self._asking.join(DEADLINE_S)
        self._watch.close()

    def _ask(self) -> None:
        while not self._done.wait(ASK_S):
            if (row := self._newest) is not None:
                self.found.asked += 1
                self.found.told += self._watch.result(row.session, row.tool_call_id or "") is not None
