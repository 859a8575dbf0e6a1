"""What Hermes is doing, read from its own `state.db` in every home and profile. Never writes, never waits.

watch = Watch()              # the user's homes
while True:
    live.take(watch.poll())  # a few microseconds when nothing happened
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from hermes_tui.hermes import state_query
from hermes_tui.hermes.home import Home, homes
from hermes_tui.hermes.registers import Openers, Processes, Registers
from hermes_tui.hermes.state_file import StateFile
from hermes_tui.hermes.state_query import Schema
from hermes_tui.hermes.state_reading import Reading, Seen, whole_message
from hermes_tui.model.state_rows import Forgotten, HolderRow, HomeRow, StateRow

WINDOW = 2_000
"""Messages that the first look takes in, over all sessions of a database."""

_LOOK_S = 0.05  # between two looks at a file that is at rest
_REGISTERS_S = 0.5
_HOMES_S = 5.0  # between two looks for homes and profiles that came or went …
_NONE_S = 0.25  # … and while there is none: the first prompt of a new Hermes is not to be missed


class Watched(msgspec.Struct, frozen=True):
    """A home that is watched: is a database there, and what is wrong with it ("" when nothing is)."""

    home: Home
    present: bool
    trouble: str


class StateDB:
    """The database of one home. `poll` from one thread; `pin`, `result` and `arguments` from any."""

    def __init__(
        self,
        home: Home,
        *,
        window: int = WINDOW,
        revisions: Callable[[], int] | None = None,
        processes: Processes | None = None,
        openers: Openers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.home = home
        self._file = StateFile(home.state_db, clock)
        self._window = window
        self._revisions = revisions or itertools.count(1).__next__
        self._processes = processes or Processes()
        self._openers = openers or Openers()
        self._registers = Registers(home, self._processes)
        self._clock = clock
        self._look_s = self._next_s = float("-inf")
        self._wanted: set[str] = set()
        self._pins: dict[str, None] = {}
        self._closed = False
        self._seen = Seen()
        self._fresh = 0

    @property
    def present(self) -> bool:
        return self._file.present

    @property
    def trouble(self) -> str:
        """Why the database cannot be read, in a sentence; "" when it can, or is not there."""
        return f"{self.home.state_db} {self._file.trouble}" if self._file.trouble else ""

    def poll(self) -> list[StateRow]:
        """What changed since the last call."""
        rows: list[StateRow] = []
        if self._wanted and self._seen.schema is not None:
            rows += self._read_pinned()
        now = self._clock()
        if self._file.connected or now >= self._look_s:
            self._look_s = now + _LOOK_S
            # Before it is read: a Hermes that has just written has it open at this moment.
            self._file.apart(lambda: self._openers.look(self.home.state_db, now))
            rows += self._look()
        if now >= self._next_s:
            self._next_s = now + _REGISTERS_S
            rows += self._registers.poll(self._revisions())
            rows += self._look_around()
        return rows

    def _look(self) -> list[StateRow]:
        if (found := self._file.poll(self._read)) is not None:
            seen, changes = found
            self._seen, self._fresh = seen, self._file.fresh
            return changes
        if not self._file.present and self._fresh != self._file.fresh:
            self._seen, self._fresh = Seen(), self._file.fresh
            return [Forgotten(self.home.name, self._revisions())]
        return []

    def pin(self, session: str) -> None:
        """Read all messages of a session, however old; seen at the next `poll`."""
        if session not in self._pins:
            self._pins[session] = None
            self._wanted = self._wanted | {session}

    def result(self, session: str, call: str, asked_ns: int = 0) -> str | None:
        """The whole result of a call, by the model's id of it; where it used one again, by its time too."""
        return self._file.once(
            lambda connection: state_query.whole_result(connection, session, call, asked_ns)
        )

    def arguments(self, session: str, call: str, asked_ns: int = 0) -> str | None:
        """The whole arguments of a call, as JSON text."""
        return self._file.once(
            lambda connection: state_query.whole_arguments(connection, session, call, asked_ns)
        )

    def message(self, session: str, message: int) -> str | None:
        """All that was said in a message, by its id."""
        return self._file.once(lambda connection: whole_message(connection, session, message))

    def close(self) -> None:
        self._file.close()

    def _read(self, connection: sqlite3.Connection) -> tuple[Seen, list[StateRow]]:
        """All that is new to `self._seen`; changes nothing here, so that it may fail anywhere."""
        revision = self._revisions()
        seen, rows = self._seen.copy(), list[StateRow]()
        if self._file.fresh != self._fresh or not seen.still_there(connection):
            seen = Seen()
            if self._fresh:
                rows.append(Forgotten(self.home.name, revision))
        if seen.schema is None or seen.schema.version != state_query.schema_version(connection):
            seen.schema = Schema(connection)
        reading = Reading(self.home.name, revision, connection, seen, seen.schema)
        if seen.newest is None:
            reading.begin(self._window)
        reading.follow()
        reading.describe(self._clock())
        for session, pid, until_ns in seen.schema.holders(connection):
            reading.hold(
                HolderRow(self.home.name, revision, session, pid, self._processes.alive(pid), until_ns)
            )
        return seen, [*rows, *reading.rows]

    def _read_pinned(self) -> list[StateRow]:
        wanted, self._wanted = self._wanted, set()
        revision, schema = self._revisions(), self._seen.schema
        assert schema is not None
        name = self.home.name

        def read(connection: sqlite3.Connection) -> list[StateRow]:
            reading = Reading(name, revision, connection, self._seen.copy(), schema)
            for session in wanted:
                reading.whole(session)
            return reading.rows

        found = self._file.once(read)
        if found is None:
            self._wanted = self._wanted | wanted
        return found or []

    def _look_around(self) -> list[StateRow]:
        """Whether anybody has the database open at all."""
        closed = self._file.closed is True or (
            self._file.present and not self._file.connected and self._openers.closed is True
        )
        if closed == self._closed:
            return []
        self._closed = closed
        return [HomeRow(self.home.name, self._revisions(), closed)]


class Watch:
    """The databases of several homes; profiles that are made later are found."""

    def __init__(
        self,
        more: Iterable[str | Path] = (),
        *,
        find: Callable[[], Sequence[Home]] | None = None,
        window: int = WINDOW,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        named = tuple(more)
        self._find = find or (lambda: homes(named))
        self._window = window
        self._clock = clock
        self._revisions = itertools.count(1)
        self._processes = Processes()
        self._databases: dict[Path, StateDB] = {}
        self._found_s = float("-inf")

    def poll(self) -> list[StateRow]:
        """What changed in any of them since the last call; from one thread."""
        now = self._clock()
        rows: list[StateRow] = []
        if now - self._found_s >= (_HOMES_S if self._databases else _NONE_S):
            self._found_s = now
            rows += self._refind()
        for database in self._databases.values():
            rows += database.poll()
        return rows

    def watched(self) -> list[Watched]:
        """Every home that is watched, and how it is."""
        found = list(self._databases.values())
        return [Watched(each.home, each.present, each.trouble) for each in found]

    def pin(self, session: str) -> None:
        """Read all messages of a session, in whichever home it is."""
        for database in list(self._databases.values()):
            database.pin(session)

    def result(self, session: str, call: str, asked_ns: int = 0) -> str | None:
        """The whole result of a call, of several of that id the one at `asked_ns`; from any thread."""
        found = (database.result(session, call, asked_ns) for database in list(self._databases.values()))
        return next((text for text in found if text is not None), None)

    def arguments(self, session: str, call: str, asked_ns: int = 0) -> str | None:
        """The whole arguments of a call, as JSON text; from any thread."""
        found = (database.arguments(session, call, asked_ns) for database in list(self._databases.values()))
        return next((text for text in found if text is not None), None)

    def message(self, session: str, message: int) -> str | None:
        """All that a user or a model said in a message, by its id; from any thread."""
        found = (database.message(session, message) for database in list(self._databases.values()))
        return next((text for text in found if text is not None), None)

    def close(self) -> None:
        for database in self._databases.values():
            database.close()

    def _refind(self) -> list[StateRow]:
        rows: list[StateRow] = []
        there = {home.path: home for home in self._find() if os.path.isdir(home.path)}
        for path in list(self._databases):
            if path not in there:
                gone = self._databases.pop(path)
                gone.close()
                rows.append(Forgotten(gone.home.name, next(self._revisions)))
        for path, home in there.items():
            if path not in self._databases:
                self._databases[path] = StateDB(
                    home,
                    window=self._window,
                    revisions=self._revisions.__next__,
                    processes=self._processes,
                    clock=self._clock,
                )
        return rows
