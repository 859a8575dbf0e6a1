"""One look into a `state.db`: what is new in it, and what is not any more what it was."""

from __future__ import annotations

import sqlite3

from hermes_tui.hermes import state_query
from hermes_tui.hermes.state_query import RawSession, Schema
from hermes_tui.model.copies import unwrapped
from hermes_tui.model.state_rows import Forgotten, HolderRow, StateRow

_SESSIONS = 40  # of which a first look tells
_HOT = 8  # whose row is read again with every commit
_WATCHED = 80  # whose row is read again with a commit after some seconds
_WATCHED_S = 2.0
_PINNED = 5_000  # messages of a session that was asked for


class Seen:
    """What is known of a database: the newest message, and the sessions' rows as they were."""

    def __init__(self) -> None:
        self.schema: Schema | None = None
        self.newest: int | None = None
        self.owner = ""
        self.tips: dict[str, int] = {}  # sessions' newest messages
        self.begun = 0  # after which message
        self.going_on: frozenset[str] = frozenset()  # sessions of which was told what was before them
        self.sessions: dict[str, RawSession | None] = {}
        self.described_s = float("-inf")
        self.holders: dict[tuple[str, int], HolderRow] = {}

    def copy(self) -> Seen:
        other = Seen()
        other.schema, other.newest, other.owner = self.schema, self.newest, self.owner
        other.tips, other.begun, other.going_on = dict(self.tips), self.begun, self.going_on
        other.sessions, other.holders = dict(self.sessions), dict(self.holders)
        other.described_s = self.described_s
        return other

    def still_there(self, connection: sqlite3.Connection) -> bool:
        """Whether this is the database it was: the newest message is still the same one."""
        if not self.newest:
            return True
        row = connection.execute("SELECT session_id FROM messages WHERE id = ?", (self.newest,)).fetchone()
        return row is not None and row[0] == self.owner

    def watch(self, session: str) -> None:
        """Keep reading this session's row; the one that was quiet for longest makes room."""
        self.sessions[session] = self.sessions.pop(session, None)
        while len(self.sessions) > _WATCHED:
            quiet = next(iter(self.sessions))
            del self.sessions[quiet]
            self.tips.pop(quiet, None)


class Reading:
    """One reading of a database into rows."""

    def __init__(
        self, home: str, revision: int, connection: sqlite3.Connection, seen: Seen, schema: Schema
    ) -> None:
        self.rows: list[StateRow] = []
        self._tips: dict[str, int] = {}  # as they were
        self._read: set[str] = set()  # sessions of which all messages were read again
        self._home, self._revision = home, revision
        self._connection, self._seen, self._schema = connection, seen, schema

    def begin(self, window: int) -> None:
        """The first look: where the newest messages begin, and whose they are."""
        newest = state_query.newest_messages(self._connection, window)
        sessions = list(dict.fromkeys(session for _, session in newest))[:_SESSIONS]
        for session in reversed([*sessions, *self._schema.newest_sessions(self._connection, 10)]):
            self._seen.watch(session)
        told = set(sessions)
        oldest = min((name for name, session in newest if session in told), default=1)
        self._seen.newest = self._seen.begun = oldest - 1

    def follow(self) -> None:
        """Messages that came since, and those before them that were archived or taken back meanwhile."""
        seen, since = self._seen, self._seen.newest or 0
        self._tips = dict(seen.tips)
        came: dict[str, bool] = {}
        while page := self._schema.after(self._connection, seen.newest or 0):
            for raw in page:
                row = state_query.message_row(self._home, self._revision, raw)
                self.rows.append(row)
                seen.newest, seen.owner = row.id, raw[1]
                seen.watch(row.session)
                seen.tips[row.session] = row.id
                came[row.session] = came.get(row.session, False) or row.archived
            if len(page) < state_query.PAGE:
                break
        for session, archived in came.items() if since else ():
            if since == seen.begun and archived:  # what stands before tells its copies from what is new
                self.whole(session)
            elif since != seen.begun:
                self._look_back(session, since)

    def _look_back(self, session: str, since: int) -> None:
        """Read a session again if the newest message that was seen of it does not count any more."""
        newest = self._tips.get(session) or self._schema.newest(self._connection, session, since)
        if newest is None:
            return
        counts = self._schema.counts(self._connection, newest)
        if counts is None:
            self.forget(session)
        elif not counts:
            self.whole(session)

    def forget(self, session: str) -> None:
        """Read a session again of which some messages are gone."""
        self.rows.append(Forgotten(self._home, self._revision, session))
        self.whole(session)

    def describe(self, now_s: float) -> None:
        """Rows of the sessions table that changed, and sessions that are gone or lost messages.

        Older versions of Hermes keep a long private text in each row, which SQLite has to skip page by
        page: so only a few are looked at every time.
        """
        seen, schema = self._seen, self._schema
        for session in schema.newest_sessions(self._connection, 3):
            if session not in seen.sessions:
                seen.watch(session)
        looked_at = list(seen.sessions)
        if now_s - seen.described_s < _WATCHED_S:
            looked_at = looked_at[-_HOT:]
        else:
            seen.described_s = now_s
        found = schema.described(self._connection, looked_at)
        for session in looked_at:
            known, raw = seen.sessions[session], found.get(session)
            if raw is None:
                if known is not None:
                    del seen.sessions[session]
                    self.rows.append(Forgotten(self._home, self._revision, session))
                continue
            if raw == known:
                continue
            seen.sessions[session] = raw
            if known is not None and session not in self._read and _lost_some(known, raw):
                self.forget(session)
            self.rows.append(state_query.session_row(self._home, self._revision, raw))
            if session not in seen.going_on:
                self._go_on(raw, after=seen.begun)

    def whole(self, session: str) -> None:
        """All messages of a session, as far as they are bounded, and its row."""
        self._read.add(session)
        ids = self._schema.numbers(self._connection, [session]).get(session, [])
        for raw in self._schema.numbered(self._connection, ids[-_PINNED:]):
            self.rows.append(state_query.message_row(self._home, self._revision, raw))
        for raw in self._schema.described(self._connection, [session]).values():
            self.rows.append(state_query.session_row(self._home, self._revision, raw))
            self._go_on(raw)

    def _go_on(self, raw: RawSession, *, after: int = 0) -> None:
        """What was in the session that this one goes on from, if there is one and its first message comes
        after this one.
        """
        row = state_query.session_row(self._home, self._revision, raw)
        before = state_query.before_row(self._connection, self._schema, row, after)
        if before is not None:
            self._seen.going_on |= {row.id}
            self.rows.append(before)

    def hold(self, row: HolderRow) -> None:
        """Who is in a turn, if that is news."""
        known = self._seen.holders.get((row.session, row.pid))
        if known is None or (known.alive, known.until_ns) != (row.alive, row.until_ns):
            self._seen.holders[row.session, row.pid] = row
            self.rows.append(row)


def _lost_some(known: RawSession, raw: RawSession) -> bool:
    (rewinds, count), (rewinds_now, count_now) = state_query.rewound(known), state_query.rewound(raw)
    return rewinds_now != rewinds or count_now < count


def whole_message(connection: sqlite3.Connection, session: str, message: int) -> str | None:
    """All that a user or a model said in a message."""
    row = connection.execute(
        "SELECT content FROM messages WHERE session_id = ? AND id = ?", (session, message)
    ).fetchone()
    return None if row is None else unwrapped(state_query.content(row[0]))[0]
