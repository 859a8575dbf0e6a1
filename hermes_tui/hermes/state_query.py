"""Rows of a `state.db`, whatever its version: named columns where they are there, nothing else.

Read in Hermes' `hermes_state_common.py` and `hermes_state_messages.py`; the schema is Hermes' own and
changes. `sessions.system_prompt` is private and never selected.
"""

from __future__ import annotations

import json
import re
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from hermes_tui.hermes.state_file import Unusable
from hermes_tui.model.copies import told, unwrapped
from hermes_tui.model.live import SUBAGENT
from hermes_tui.model.shorten import as_json, shorten
from hermes_tui.model.span import NANOSECONDS
from hermes_tui.model.state_rows import BeforeRow, CallRow, MessageRow, SessionRow

RESULT_CHARS = 2_000  # of a tool's result or arguments that are kept
PAGE = 200  # messages a statement returns at most
_BEFORE = 5_000  # messages of a session that are looked at for what another took over
_TEXT_CHARS = 4_000  # of a prompt or an answer
_READ_BYTES = 256 * 1024  # of a single value that are read
_NAMES = 500  # placeholders in one statement; SQLite allows at least 999
_PARTS = "\0json:"  # before content that is not plain text
_ASIDES = frozenset({"steer", "model_switch", "personality_switch"})  # kinds of messages that begin no turn
_PID = re.compile(r"(?:^|:)pid=(\d{1,9})(?::|$)")

MESSAGE_COLUMNS = (
    "id", "session_id", "role", "tool_call_id", "tool_name", "timestamp", "finish_reason", "active",
    "compacted", "_compressed_summary", "observed", "display_kind",
)  # fmt: skip
SESSION_COLUMNS = (
    "id", "source", "model", "parent_session_id", "title", "cwd", "profile_name", "started_at", "ended_at",
    "end_reason", "last_activity_at", "message_count", "api_call_count", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "estimated_cost_usd",
    "actual_cost_usd", "cost_status", "rewind_count",
)  # fmt: skip
_NEEDED = {"messages": {"id", "session_id", "role"}, "sessions": {"id"}}

RawSession = tuple[Any, ...]


class Schema:
    """Which of the wanted columns a database has. Raises Unusable when it is no Hermes database.

    `read_bytes` are read of a single value, at most.
    """

    def __init__(self, connection: sqlite3.Connection, read_bytes: int = _READ_BYTES) -> None:
        self.version = schema_version(connection)
        self.messages = _columns(connection, "messages")
        self.sessions = _columns(connection, "sessions")
        self.leases = {"conversation_id", "holder", "expires_at"} <= _columns(
            connection, "session_turn_leases"
        )
        for table, needed in _NEEDED.items():
            if missing := needed - getattr(self, table):
                if not getattr(self, table) and table == "sessions":
                    continue  # its messages alone say what runs
                raise Unusable(f"has no {table}.{min(missing)}; is it Hermes' own?")
        self._message = ", ".join(
            [
                *(_named(name, self.messages) for name in MESSAGE_COLUMNS),
                _start("content", self.messages, read_bytes),
                _length("content", self.messages),
                _start("tool_calls", self.messages, read_bytes),
            ]
        )
        self._session = ", ".join(_named(name, self.sessions) for name in SESSION_COLUMNS)

    def after(self, connection: sqlite3.Connection, message: int) -> list[Any]:
        """Raw messages with a higher id, the oldest first; a page at most."""
        return connection.execute(
            f"SELECT {self._message} FROM messages WHERE id > ? ORDER BY id LIMIT ?", (message, PAGE)
        ).fetchall()

    def numbers(self, connection: sqlite3.Connection, sessions: Collection[str]) -> dict[str, list[int]]:
        """Ids of all messages of each session that has any, in order."""
        found: dict[str, list[int]] = {}
        for some in _portions(list(sessions)):
            rows = connection.execute(
                f"SELECT session_id, id FROM messages WHERE session_id IN ({_places(some)})", some
            ).fetchall()
            for session, number in rows:
                found.setdefault(_str(session), []).append(_int(number))
        return {session: sorted(ids) for session, ids in found.items()}

    def first(self, connection: sqlite3.Connection, session: str) -> int | None:
        """The id of a session's first message."""
        (name,) = connection.execute(
            "SELECT min(id) FROM messages WHERE session_id = ?", (session,)
        ).fetchone()
        return None if name is None else _int(name)

    def newest(self, connection: sqlite3.Connection, session: str, message: int) -> int | None:
        """The id of the newest message of a session up to an id."""
        (name,) = connection.execute(
            "SELECT max(id) FROM messages WHERE session_id = ? AND id <= ?", (session, message)
        ).fetchone()
        return None if name is None else _int(name)

    def counts(self, connection: sqlite3.Connection, message: int) -> bool | None:
        """Whether a message was neither archived nor taken back; None: it is gone."""
        row = connection.execute(
            f"SELECT {_named('active', self.messages)} FROM messages WHERE id = ?", (message,)
        ).fetchone()
        return None if row is None else row[0] is None or bool(row[0])

    def numbered(self, connection: sqlite3.Connection, ids: Sequence[int]) -> Iterator[Any]:
        """Raw messages by their ids, in that order as far as they are there; a page at a time."""
        for at in range(0, len(ids), PAGE):
            some = ids[at : at + PAGE]
            rows = connection.execute(
                f"SELECT {self._message} FROM messages WHERE id IN ({_places(some)}) ORDER BY id", some
            )
            yield from rows.fetchall()

    def subagents(self, connection: sqlite3.Connection, sessions: Collection[str]) -> list[str]:
        """Ids of the sessions that are subagents of these, of any depth."""
        found: dict[str, None] = {}
        if not {"parent_session_id", "source"} <= self.sessions:
            return []
        above = list(sessions)
        while above:
            below = [
                _str(row[0])
                for some in _portions(above)
                for row in connection.execute(
                    f"SELECT id FROM sessions WHERE parent_session_id IN ({_places(some)}) AND source = ?",
                    [*some, SUBAGENT],
                ).fetchall()
            ]
            above = [name for name in dict.fromkeys(below) if name not in found]
            found.update(dict.fromkeys(above))
        return list(found)

    def described(self, connection: sqlite3.Connection, sessions: Iterable[str]) -> dict[str, RawSession]:
        """Raw rows of the sessions table by id."""
        if not self.sessions:
            return {}
        found: dict[str, RawSession] = {}
        for some in _portions(list(sessions)):
            rows = connection.execute(
                f"SELECT {self._session} FROM sessions WHERE id IN ({_places(some)})", some
            ).fetchall()
            found.update((_str(row[0]), row) for row in rows)
        return found

    def newest_sessions(self, connection: sqlite3.Connection, limit: int) -> list[str]:
        """Ids of the sessions that were made last, also those without a message."""
        if "started_at" not in self.sessions:
            return []
        rows = connection.execute(
            "SELECT id FROM sessions ORDER BY started_at DESC LIMIT ?", (limit,)
        ).fetchall()
        return [_str(row[0]) for row in rows]

    def holders(self, connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
        """(session, pid, until ns) of the turns that a process says it is in."""
        if not self.leases:
            return []
        rows = connection.execute(
            "SELECT conversation_id, holder, expires_at FROM session_turn_leases LIMIT ?", (_NAMES,)
        ).fetchall()
        found = [(_str(name), _PID.search(_str(holder)), moment(until)) for name, holder, until in rows]
        return [(name, int(pid[1]), until) for name, pid, until in found if pid is not None]


def schema_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA schema_version").fetchone()
    return int(version)


def newest_messages(connection: sqlite3.Connection, limit: int) -> list[tuple[int, str]]:
    """(id, session) of the newest messages, the newest first."""
    rows = connection.execute(
        "SELECT id, session_id FROM messages ORDER BY id DESC LIMIT ?", (limit,)
    ).fetchall()
    return [(_int(name), _str(session)) for name, session in rows]


def whole_result(connection: sqlite3.Connection, session: str, call: str, asked_ns: int = 0) -> str | None:
    """The whole result of a call that was asked for at `asked_ns`, as far as that is known."""
    asked, _ = _asking(connection, session, call, asked_ns)
    # What is written later under the same id answers another call, or is a shortened copy.
    row = connection.execute(
        "SELECT content FROM messages WHERE session_id = ? AND tool_call_id = ? AND role = 'tool' "
        "ORDER BY id < ?, id LIMIT 1",
        (session, call, asked),
    ).fetchone()
    return None if row is None else content(row[0])


def whole_arguments(connection: sqlite3.Connection, session: str, call: str, asked_ns: int = 0) -> str | None:
    """The whole arguments of a call that was asked for at `asked_ns`, as JSON text."""
    return _asking(connection, session, call, asked_ns)[1]


def _asking(connection: sqlite3.Connection, session: str, call: str, asked_ns: int) -> tuple[int, str | None]:
    """The message that asked for a call, and the arguments in it: of several the nearest in time, and of
    those the first, of which the others are copies.
    """
    rows = connection.execute(
        "SELECT id, timestamp, tool_calls FROM messages WHERE session_id = ? AND instr(tool_calls, ?) > 0",
        (session, call),
    ).fetchall()
    found = [
        (abs(moment(at) - asked_ns) if asked_ns else 0, _int(name), each.arguments)
        for name, at, calls in rows
        for each in _calls(calls, lambda _, arguments: arguments)
        if each.id == call
    ]
    _, name, arguments = min(found, key=lambda each: each[:2], default=(0, 0, None))
    return name, arguments


def message_row(
    home: str, revision: int, raw: Sequence[Any], whole: Collection[str | None] = ()
) -> MessageRow:
    """A message from what `Schema.after` selects. `whole` names tools of whose calls nothing is shortened;
    with None in it also where the name is not known.
    """
    (name, session, role, call, tool, at, finish, active, compacted, summary, observed, kind,
     text, size, calls) = raw  # fmt: skip
    text = content(text)
    role = _str(role)
    aside = bool(summary) or bool(observed) or _str(kind) in _ASIDES
    if role != "tool":
        said, own = unwrapped(text)
        aside = own or (aside and said == text)  # a summary may have been put around what was asked
        text = said[:_TEXT_CHARS]
    elif (_str(tool) or None) not in whole:
        text = shorten(text, RESULT_CHARS)

    def given(name: str, arguments: str) -> str:
        return arguments if name in whole else shorten(arguments, _TEXT_CHARS)

    return MessageRow(
        home=home,
        revision=revision,
        id=_int(name),
        session=_str(session),
        role=role,
        text=text,
        size=_int(size),
        tool_call_id=_str(call) or None,
        tool_name=_str(tool) or None,
        calls=tuple(_calls(calls, given)),
        at_ns=moment(at),
        finish_reason=_str(finish) or None,
        active=active is None or bool(active) or bool(compacted),
        archived=bool(compacted),
        summary=aside,
    )


def before_row(
    connection: sqlite3.Connection, schema: Schema, session: SessionRow, after: int = 0
) -> BeforeRow | None:
    """What was there of the session that another one goes on from; None when it goes on from none, or has
    no message itself, or its first not `after` this one.
    """
    if session.parent is None or session.source == SUBAGENT:
        return None
    first = schema.first(connection, session.id)
    if first is None or first <= after:
        return None
    there = schema.numbers(connection, [session.parent]).get(session.parent, [])
    ids = there[: bisect_left(there, first)][-_BEFORE:]
    rows = (message_row(session.home, session.revision, raw) for raw in schema.numbered(connection, ids))
    parts = tuple((row.at_ns, each) for row in rows if row.active for each in told(row))
    return BeforeRow(session.home, session.revision, session.id, parts)


def session_row(home: str, revision: int, raw: RawSession) -> SessionRow:
    """A session from what `Schema.described` selects."""
    (name, source, model, parent, title, cwd, profile, started, ended, reason, heard, messages, api_calls,
     given, got, cache_read, cache_write, reasoning, estimated, actual, status, _) = raw  # fmt: skip
    asked = _int(given) + _int(cache_read) + _int(cache_write)  # Hermes counts apart what spans have as one
    cost = _float(actual)
    if cost is None and status != "unknown":
        cost = _float(estimated)
    return SessionRow(
        home=home,
        revision=revision,
        id=_str(name),
        source=_str(source) or None,
        model=_str(model) or None,
        parent=_str(parent) or None,
        title=_str(title) or None,
        cwd=_str(cwd) or None,
        profile=_str(profile) or None,
        started_ns=moment(started),
        ended_ns=moment(ended),
        end_reason=_str(reason) or None,
        heard_ns=moment(heard),
        messages=_int(messages),
        api_calls=_int(api_calls),
        input_tokens=asked,
        output_tokens=_int(got),
        cache_read_tokens=_int(cache_read),
        cache_write_tokens=_int(cache_write),
        reasoning_tokens=_int(reasoning),
        cost=cost,
    )


def rewound(raw: RawSession) -> tuple[int, int]:
    """(how often messages were taken back, how many there are): what tells that some are gone."""
    return _int(raw[-1]), _int(raw[SESSION_COLUMNS.index("message_count")])


def content(value: Any) -> str:
    """A message's content as text; of several parts those that are text."""
    text = _str(value)
    if not text.startswith(_PARTS):
        return text
    try:
        parts = json.loads(text[len(_PARTS) :], strict=False)
    except (ValueError, RecursionError):
        return text[len(_PARTS) :]
    if not isinstance(parts, list):
        return as_json(parts)
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "\n".join(each for each in texts if isinstance(each, str))


def moment(value: Any) -> int:
    """Nanoseconds since the epoch from seconds; 0 for what is no time."""
    seconds = _float(value)
    return 0 if seconds is None or not 0 < seconds < 2**33 else round(seconds * NANOSECONDS)


def _calls(text: Any, arguments: Callable[[str, str], str]) -> list[CallRow]:
    """Calls in a message; `arguments` makes of a tool's name and arguments what is kept of these."""
    try:
        listed = json.loads(_str(text), strict=False) if text else []
    except (ValueError, TypeError, RecursionError):
        return []
    found = []
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, dict):
            continue
        function = each.get("function")
        function = function if isinstance(function, dict) else each
        given = function.get("arguments")
        given = given if isinstance(given, str) else as_json(given or {})
        call, name = _str(each.get("id") or each.get("call_id")), _str(function.get("name"))
        found.append(CallRow(call, name, arguments(name, given)))
    return found


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall()}


def _portions(names: list[str]) -> Iterator[list[str]]:
    return (names[at : at + _NAMES] for at in range(0, len(names), _NAMES))


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _named(name: str, there: set[str]) -> str:
    return f'"{name}"' if name in there else "NULL"


def _start(name: str, there: set[str], limit: int) -> str:
    # As bytes, because SQLite's texts end at a NUL, with which Hermes marks content of several parts.
    return f'substr(CAST("{name}" AS BLOB), 1, {limit})' if name in there else "NULL"


def _length(name: str, there: set[str]) -> str:
    return f'length(CAST("{name}" AS BLOB))' if name in there else "0"


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _int(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 2**60 else None
