"""Hermes' own records of whole sessions, read once and put down again: for commands, not for watching.

history = History(homes())
history.find(sessions)
for session in history.read():
    session.turns
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple, TypeVar

from hermes_tui.hermes import state_query
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_file import StateFile
from hermes_tui.hermes.state_query import Schema
from hermes_tui.hermes.state_reading import whole_message
from hermes_tui.model.live import Live, LiveSession
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.state_rows import StateRow

T = TypeVar("T")

_VALUE_BYTES = 16 * 1024 * 1024  # of a single value that are read
_MESSAGES = 5_000  # in memory at a time, and more only for a session that has more
_TRIES = 5  # a database can be locked for a moment, or opened by Hermes while it is read
_WHOLE = frozenset({*COMMAND_TOOLS, None})


class _Every(Collection[str | None]):
    """Has any name in it."""

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str | None]:
        return iter(())

    def __len__(self) -> int:
        return 0


_ALL = _Every()


class _Place(NamedTuple):
    """A session in a home, and the ids of its messages."""

    home: Home
    ids: list[int]


class History:
    """The databases of some homes. `find` sessions, then `read` them or their `titles`.

    `troubles` says in a sentence each why a database that is there could not be read.
    """

    def __init__(self, homes: Iterable[Home]) -> None:
        self.troubles: list[str] = []
        self._homes = list(homes)
        self._found: dict[str, list[_Place]] = {}

    def find(self, sessions: Collection[str], *, subagents: bool = False) -> set[str]:
        """Look for sessions, and for all subagents of theirs; those that have any messages."""

        def look(connection: sqlite3.Connection) -> dict[str, list[int]]:
            schema = Schema(connection)
            below = schema.subagents(connection, sessions) if subagents else []
            return schema.numbers(connection, {*sessions, *below})

        self._found = {}
        for home in self._homes:
            for session, ids in (self._ask(home, look) or {}).items():
                self._found.setdefault(session, []).append(_Place(home, ids))
        return set(self._found)

    def read(self) -> Iterator[LiveSession]:
        """The sessions that were found, each with all its messages, and commands with their whole texts."""
        some: list[str] = []
        count = 0
        for session, places in self._found.items():
            size = sum(len(place.ids) for place in places)
            if some and count + size > _MESSAGES:
                yield from self._read(some)
                some, count = [], 0
            some.append(session)
            count += size
        yield from self._read(some)

    def live(self) -> Live:
        """All sessions that were found, together and with the whole texts of all their calls."""
        live = Live()
        for home, places in self._by_home(list(self._found)).items():
            live.take(self._ask(home, _rows_of(home, places, _ALL)) or ())
        return live

    def messages(self, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """All that was said in some messages, by session and id, of the sessions that were found."""
        wanted = list(wanted)

        def look(connection: sqlite3.Connection) -> dict[tuple[str, int], str]:
            found = {each: whole_message(connection, *each) for each in wanted}
            return {each: text for each, text in found.items() if text is not None}

        said: dict[tuple[str, int], str] = {}
        for home in self._by_home(list(self._found)) if wanted else ():
            said = (self._ask(home, look) or {}) | said
        return said

    def titles(self, sessions: Collection[str]) -> dict[str, str]:
        """What Hermes calls some sessions, where it has a title for them."""

        def look(connection: sqlite3.Connection) -> dict[str, str]:
            rows = Schema(connection).described(connection, sessions)
            named = ((name, state_query.session_row("", 0, raw).title) for name, raw in rows.items())
            return {name: title for name, title in named if title}

        found: dict[str, str] = {}
        for home in reversed(self._homes):
            found |= self._ask(home, look) or {}
        return found

    def _read(self, sessions: list[str]) -> Iterator[LiveSession]:
        live = Live()
        for home, places in self._by_home(sessions).items():
            live.take(self._ask(home, _rows_of(home, places)) or ())
        for session in sessions:
            if (part := live.session(session)) is not None:
                yield part

    def _by_home(self, sessions: Iterable[str]) -> dict[Home, dict[str, _Place]]:
        wanted: dict[Home, dict[str, _Place]] = {}
        for session in sessions:
            for place in self._found[session]:
                wanted.setdefault(place.home, {})[session] = place
        return wanted

    def _ask(self, home: Home, read: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `read` gives on a home's database; None when there is none, or it cannot be read."""
        trouble = ""
        for _ in range(_TRIES):
            file = StateFile(home.state_db)
            try:
                if (found := file.poll(read)) is not None or not file.present:
                    return found
            finally:
                file.close()
            trouble = file.trouble or "is locked by another program"
        sentence = f"{home.state_db} {trouble}"
        if sentence not in self.troubles:
            self.troubles.append(sentence)
        return None


def _rows_of(
    home: Home, places: dict[str, _Place], whole: Collection[str | None] = _WHOLE
) -> Callable[[sqlite3.Connection], list[StateRow]]:
    """Reads some sessions, their messages, and what was in those that they go on from. `whole` names tools
    of whose calls nothing is shortened.
    """
    ids = sorted(number for place in places.values() for number in place.ids)

    def read(connection: sqlite3.Connection) -> list[StateRow]:
        schema = Schema(connection, _VALUE_BYTES)
        rows: list[StateRow] = []
        for raw in schema.described(connection, places).values():
            described = state_query.session_row(home.name, 1, raw)
            rows.append(described)
            if (before := state_query.before_row(connection, schema, described)) is not None:
                rows.append(before)
        messages = schema.numbered(connection, ids)
        return [*rows, *(state_query.message_row(home.name, 1, raw, whole) for raw in messages)]

    return read
