"""Requests → span rows: the index side of the journal, driven by the writer's thread."""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Collection, Mapping, Sequence

import msgspec

from hermes_tui.journal.marks import RequestState, SpanKey, signed, standings
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import BadRequest, Entry, Request, read

log = logging.getLogger(__name__)

_CHUNK_SPANS = 100  # about 3 ms of work: what a request that arrives meanwhile waits for at most
_CHUNK_REQUESTS = 16
_CHUNK_BYTES = 2 * 1024 * 1024
_REMEMBERED_BYTES = 16 * 1024 * 1024  # bodies whose decoded form is kept for the index, not read again

_COLUMNS = (
    "revision", "trace_id", "span_id", "parent_id", "name", "kind", "role", "status",
    "start_ns", "end_ns", "delivery", "request", "position", "facts",
)  # fmt: skip
# The later end wins, then any fixed order of the whole content: what came first must not matter.
_RANK = ("end_ns", "start_ns", "facts", "parent_id", "name", "status", "kind", "role")
_NEWER = f"({', '.join(f'excluded.{c}' for c in _RANK)}) > ({', '.join(f'spans.{c}' for c in _RANK)})"
_KEPT = ", ".join(
    f"{column} = iif({_NEWER}, excluded.{column}, spans.{column})"
    for column in _COLUMNS
    if column not in {"revision", "trace_id", "span_id", "delivery"}
)
# A repeat changes a row only when it is a newer version, or brings a destination to a span without one.
_UPSERT = (
    f"INSERT INTO spans ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (trace_id, span_id) DO UPDATE SET {_KEPT}, revision = excluded.revision, "
    f"delivery = iif({_NEWER}, excluded.delivery, {Delivery.QUEUED.value}) "
    f"WHERE {_NEWER} OR (spans.delivery = {Delivery.LOCAL.value} "
    f"AND excluded.delivery = {Delivery.QUEUED.value})"
)
_TRACE = (
    "INSERT INTO traces (trace_id, session, first_ns, received_ns) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (trace_id) DO UPDATE SET "
    "session = iif(excluded.session IS NOT NULL AND (traces.session IS NULL OR "
    "excluded.first_ns < traces.first_ns), excluded.session, traces.session), "
    "first_ns = iif(excluded.session IS NOT NULL AND (traces.session IS NULL OR "
    "excluded.first_ns < traces.first_ns), excluded.first_ns, traces.first_ns), "
    "received_ns = max(traces.received_ns, excluded.received_ns)"
)


# Of a span without a mark in a request that is done: another request with the same span was forgotten.
_UNMARKED = {
    RequestState.SENT: Delivery.ACCEPTED,
    RequestState.PROVEN: Delivery.CONFIRMED,
    RequestState.STUCK: Delivery.CONFIRMED,
}


class Index:
    """Advances span rows behind the requests; every method runs inside the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._encode = msgspec.msgpack.Encoder().encode
        self._expected: deque[tuple[int, Request, int]] = deque()
        self._expected_bytes = 0
        self._revision = 0
        self._indexed = 0
        self._last = 0
        self._rebuild_until = 0

    def reload(self) -> None:
        """Read where the index stands; also after a transaction was rolled back."""
        row = self._connection.execute(
            "SELECT (SELECT value FROM meta WHERE key = 'revision'), "
            "(SELECT value FROM meta WHERE key = 'indexed'), (SELECT coalesce(max(id), 0) FROM requests)"
        ).fetchone()
        self._revision, self._indexed, self._last = row
        if self._indexed == 0:
            self._rebuild_until = self._last

    def restart(self) -> None:
        """Forget what is decoded and go on from what is stored."""
        self._expected.clear()
        self._expected_bytes = 0
        self.reload()

    @property
    def behind(self) -> bool:
        return self._indexed < self._last

    def expect(self, request_id: int, decoded: Request, size: int) -> None:
        """A request was stored; keep its decoded form if memory allows."""
        self._last = request_id
        if self._expected_bytes + size <= _REMEMBERED_BYTES:
            self._expected.append((request_id, decoded, size))
            self._expected_bytes += size

    def advance(self) -> None:
        """Index the next requests, up to a chunk."""
        rows: list[tuple[object, ...]] = []
        traces: dict[bytes, tuple[str | None, int, int]] = {}
        sessions: set[tuple[str, bytes]] = set()
        for request_id, state, received_ns, decoded in self._next():
            marked = request_id <= self._rebuild_until
            for position, entry in enumerate(_entries(request_id, decoded)):
                rows.append(self._row(entry, request_id, position, state, marked))
                _note(entry, received_ns, traces, sessions)
            self._indexed = request_id
        self._store(rows, traces, sessions)

    def admit(self, request_id: int, state: int, received_ns: int, decoded: Request) -> None:
        """Index one request out of turn, that comes back with the marks its spans have."""
        rows: list[tuple[object, ...]] = []
        traces: dict[bytes, tuple[str | None, int, int]] = {}
        sessions: set[tuple[str, bytes]] = set()
        for position, entry in enumerate(_entries(request_id, decoded)):
            rows.append(self._row(entry, request_id, position, state, marked=True))
            _note(entry, received_ns, traces, sessions)
        if not self.behind:  # else the index gets there by itself
            self._indexed = max(self._indexed, request_id)
        self._last = max(self._last, request_id)
        self._store(rows, traces, sessions)

    def replace(self, request_id: int, decoded: Request) -> None:
        """The request has other bytes now: its spans have other places in them."""
        places = []
        for position, (trace_id, span_id, _) in enumerate(decoded.ids()):
            self._revision += 1
            places.append((position, self._revision, trace_id, span_id, request_id))
        self._connection.executemany(
            "UPDATE spans SET position = ?, revision = ? WHERE trace_id = ? AND span_id = ? AND request = ?",
            places,
        )
        self._save_revision()

    def _store(
        self,
        rows: Sequence[tuple[object, ...]],
        traces: Mapping[bytes, tuple[str | None, int, int]],
        sessions: Collection[tuple[str, bytes]],
    ) -> None:
        connection = self._connection
        connection.executemany(_UPSERT, rows)
        connection.executemany(_TRACE, [(trace_id, *rest) for trace_id, rest in traces.items()])
        connection.executemany(
            "INSERT OR IGNORE INTO trace_sessions (session, trace_id) VALUES (?, ?)", sessions
        )
        connection.execute("UPDATE meta SET value = ? WHERE key = 'indexed'", (self._indexed,))
        self._save_revision()

    def redeliver(self, spans: Sequence[SpanKey], state: Delivery, *, kept: Sequence[Delivery] = ()) -> None:
        """Show these spans' delivery as `state`, unless it is one of `kept` by now."""
        changes = []
        for trace_id, span_id, end_ns in spans:
            self._revision += 1
            changes.append((state.value, self._revision, trace_id, span_id, signed(end_ns)))
        but = f"AND delivery NOT IN ({', '.join(str(each.value) for each in kept)})" if kept else ""
        self._connection.executemany(
            "UPDATE spans SET delivery = ?, revision = ? WHERE trace_id = ? AND span_id = ? AND end_ns = ? "
            + but,
            changes,
        )
        self._save_revision()

    def _save_revision(self) -> None:
        self._connection.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (self._revision,))

    def _next(self) -> list[tuple[int, int, int, Request]]:
        found: list[tuple[int, int, int, Request]] = []
        spans = size = 0
        rows = self._connection.execute(
            "SELECT id, state, received_ns, span_count, length(body), content_type, content_encoding "
            "FROM requests WHERE id > ? ORDER BY id LIMIT ?",
            (self._indexed, _CHUNK_REQUESTS),
        ).fetchall()
        for request_id, state, received_ns, span_count, length, content_type, encoding in rows:
            if found and (spans + span_count > _CHUNK_SPANS or size + length > _CHUNK_BYTES):
                break
            decoded = self._remembered(request_id)
            if decoded is None:
                (body,) = self._connection.execute(
                    "SELECT body FROM requests WHERE id = ?", (request_id,)
                ).fetchone()
                try:
                    decoded = read(body, content_type, encoding)
                except BadRequest:
                    log.exception("request %d cannot be decoded; its bytes are kept", request_id)
                    decoded = Request(b"")
            found.append((request_id, state, received_ns, decoded))
            spans, size = spans + span_count, size + length
        if not found:
            self._indexed = self._last  # the rest was deleted meanwhile
        return found

    def _remembered(self, request_id: int) -> Request | None:
        while self._expected and self._expected[0][0] <= request_id:
            known, decoded, size = self._expected.popleft()
            self._expected_bytes -= size
            if known == request_id:
                return decoded
        return None

    def _row(
        self, entry: Entry, request_id: int, position: int, state: int, marked: bool
    ) -> tuple[object, ...]:
        self._revision += 1
        return (
            self._revision,
            entry.trace_id,
            entry.span_id,
            entry.parent_id,
            entry.name,
            entry.kind._value_,  # `.value` is a property in Python: 0.2 µs, three times a span
            entry.role._value_,
            entry.status._value_,
            signed(entry.start_ns),
            signed(entry.end_ns),
            (self._marked(entry, state) if marked else _fresh(state)).value,
            request_id,
            position,
            self._encode(entry.facts),
        )

    def _marked(self, entry: Entry, state: int) -> Delivery:
        """A row that was here before takes its delivery from the marks; a fresh one has none yet."""
        key = (entry.trace_id, entry.span_id, entry.end_ns)
        standing = standings(self._connection, (key,))[key]
        return standing.state if standing.at_ns else _UNMARKED.get(state, _fresh(state))


def _fresh(state: int) -> Delivery:
    return Delivery.LOCAL if state == RequestState.LOCAL else Delivery.QUEUED


def _entries(request_id: int, decoded: Request) -> list[Entry]:
    try:
        return list(decoded.entries())
    except Exception:  # a bug in reading one request must not stop the journal
        log.exception("request %d cannot be read; its bytes are kept", request_id)
        return []


def _note(
    entry: Entry,
    received_ns: int,
    traces: dict[bytes, tuple[str | None, int, int]],
    sessions: set[tuple[str, bytes]],
) -> None:
    session = entry.facts.get("session")
    start = signed(entry.start_ns)
    if session is not None:
        sessions.add((session, entry.trace_id))
    known = traces.get(entry.trace_id)
    if known is None or (session is not None and (known[0] is None or start < known[1])):
        traces[entry.trace_id] = (session, start, max(received_ns, known[2] if known else 0))
    elif received_ns > known[2]:
        traces[entry.trace_id] = (known[0], known[1], received_ns)
