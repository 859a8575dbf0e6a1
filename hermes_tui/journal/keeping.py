"""What may be forgotten. No clock, no thread: those are the keeper's.

A request goes as a whole when every session that it holds spans of is past, and all its spans are where
they can get to. Finding that out reads and decodes on connections of its own.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermes_tui.journal.forgetting import Cut, Span
from hermes_tui.journal.marks import RequestState, SpanKey, finished, standings
from hermes_tui.journal.reader import Reader
from hermes_tui.model.span import Delivery
from hermes_tui.model.tree import TraceTree
from hermes_tui.model.turns import read_trace
from hermes_tui.otlp.codec import BadRequest, Request, decompress, read
from hermes_tui.otlp.portions import pick

Times = Sequence[tuple[int, int]]
"""From when to when, in ns since the epoch."""

_DONE = (RequestState.LOCAL, RequestState.SENT, RequestState.PROVEN)
_ROWS = 100  # requests looked at in one read …
_BYTES = 4 * 1024 * 1024  # … and what is kept of them in memory, about
_YOUNG = 500  # requests in a row that are too young: what follows them came later still
_FOLDED = 256  # traces whose owners are remembered


@dataclass(frozen=True, slots=True)
class Rule:
    """A session with an arrival in `active` keeps its requests. So do spans that `destination` has accepted
    while it is `readable`: they are to be confirmed.
    """

    active: Times
    destination: str
    readable: bool


class Finder:
    """Looks through the requests, the oldest first, for what can go. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as stack:
            self._reader = stack.enter_context(Reader(path))
            uri = f"{path.absolute().as_uri()}?mode=ro"
            self._connection = stack.enter_context(
                closing(
                    sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10, check_same_thread=False)
                )
            )
            self._closing = stack.pop_all()
        (self._last,) = self._rows("SELECT value FROM meta WHERE key = 'indexed'")[0]  # later ones are new
        self._owners = Owners(self._reader, self._rows("SELECT session, trace_id FROM trace_sessions"))

    def close(self) -> None:
        self._closing.close()

    def used(self) -> int:
        """Bytes of the journal that hold something."""
        pages, free, size = (
            self._rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def past(self, rule: Rule) -> Iterator[list[Cut]]:
        """Requests that may go by a rule, some at a time."""
        active = self._active(rule.active)
        young = 0
        for rows in self._pages():
            found, size = [], 0
            for number, state, received_ns, length in rows:
                if any(begin <= received_ns < end for begin, end in rule.active):
                    young += 1
                    continue
                young = 0
                if state not in _DONE:
                    continue
                keys = self._keys(number)
                if not self._any_active(keys, active) and self._settled(number, state, keys, rule):
                    found.append(Cut(number, length, _spans(keys), state))
                    size += length
                if size > _BYTES:
                    yield found
                    found, size = [], 0
            yield found
            if young >= _YOUNG:
                return

    def before(self, time_ns: int) -> Iterator[list[Cut]]:
        """All requests that arrived before a time, whatever became of them."""
        for rows in self._pages():
            yield [
                Cut(number, length, _spans(self._keys(number)))
                for number, _, received_ns, length in rows
                if received_ns < time_ns
            ]

    def of_session(self, session: str) -> Iterator[list[Cut]]:
        """All spans of a session, whatever became of them, and what stays of the requests that hold them."""
        owned = {
            trace_id: {
                span_id for span_id, owner in self._owners.folded(trace_id).items() if owner == session
            }
            for trace_id in self._reader.traces_of(session)
        }
        for rows in self._pages():
            found, size = [], 0
            for number, _, _, length in rows:
                if (cut := self._cut(number, length, owned)) is not None:
                    found.append(cut)
                    size += len(cut.body)
                if size > _BYTES:
                    yield found
                    found, size = [], 0
            yield found

    def _pages(self) -> Iterator[list[Any]]:
        after = 0
        while rows := self._rows(
            "SELECT id, state, received_ns, length(body) FROM requests WHERE id > ? "
            "AND id <= ? ORDER BY id LIMIT ?",
            after,
            self._last,
            _ROWS,
        ):
            after = rows[-1][0]
            yield rows

    def _active(self, times: Times) -> set[str]:
        """Sessions with an arrival in `times`."""
        found: set[str] = set()
        for begin, end in times:
            for (trace_id,) in self._rows(
                "SELECT trace_id FROM traces WHERE received_ns >= ? AND received_ns < ?", begin, end
            ):
                names = self._owners.sessions(trace_id)
                found.update(names if len(names) == 1 else self._arrived(trace_id, begin, end))
        return found

    def _arrived(self, trace_id: bytes, begin: int, end: int) -> set[str]:
        """Of the sessions that share a trace, those with an arrival from `begin` to `end`."""
        rows = self._rows(
            "SELECT span_id FROM spans JOIN requests ON requests.id = request "
            "WHERE trace_id = ? AND received_ns >= ? AND received_ns < ?",
            trace_id,
            begin,
            end,
        )
        return {name for (span_id,) in rows for name in self._owners.of((trace_id, span_id))}

    def _any_active(self, keys: Sequence[SpanKey], active: Collection[str]) -> bool:
        return any(name in active for key in keys for name in self._owners.of(key[:2]))

    def _settled(self, number: int, state: int, keys: Sequence[SpanKey], rule: Rule) -> bool:
        """Whether all finished spans are where they can get to."""
        if state == RequestState.PROVEN:
            return True
        (row,) = self._rows("SELECT destination FROM requests WHERE id = ?", number) or [("",)]
        for key, standing in standings(self._connection, finished(keys)).items():
            delivery, destination = standing.state, standing.destination
            if standing.superseded:
                continue
            if not standing.at_ns:  # without a mark
                delivery, destination = self._shown(key, state), row[0]
            provable = rule.readable and destination == rule.destination
            if not (
                delivery in (Delivery.LOCAL, Delivery.CONFIRMED)
                or (delivery is Delivery.ACCEPTED and not provable)
            ):
                return False
        return True

    def _shown(self, key: SpanKey, state: int) -> Delivery:
        """The delivery of a span without a mark: another request may have brought it a destination."""
        rows = self._rows(
            "SELECT delivery FROM spans WHERE trace_id = ? AND span_id = ? AND end_ns = ?", *key
        )
        default = Delivery.LOCAL if state == RequestState.LOCAL else Delivery.ACCEPTED
        return Delivery(rows[0][0]) if rows else default

    def _cut(self, number: int, length: int, owned: Mapping[bytes, Collection[bytes]]) -> Cut | None:
        rows = self._rows("SELECT body, content_type, content_encoding FROM requests WHERE id = ?", number)
        try:
            body, content_type = decompress(rows[0][0], rows[0][2]), rows[0][1]
            keys = Request(body, content_type).ids()
        except (BadRequest, IndexError):
            return None
        rest = {key for key in keys if key[1] not in owned.get(key[0], ())}
        if len(rest) == len(set(keys)):
            return None
        gone = _spans([key for key in keys if key not in rest])
        if not rest:
            return Cut(number, length, gone)
        body = pick(body, content_type, rest)
        return Cut(number, length, gone, rest=Request(body, content_type), body=body)

    def _keys(self, number: int) -> list[SpanKey]:
        rows = self._rows("SELECT body, content_type, content_encoding FROM requests WHERE id = ?", number)
        try:
            return read(*rows[0]).ids()
        except (BadRequest, IndexError):  # what cannot be read has no spans; or it is gone already
            return []

    def _rows(self, statement: str, *parameters: object) -> list[Any]:
        return self._connection.execute(statement, parameters).fetchall()


class Owners:
    """Which session each span belongs to; a trace without any stands for itself."""

    def __init__(self, reader: Reader, trace_sessions: Sequence[tuple[str, bytes]]) -> None:
        self._reader = reader
        self._names: dict[bytes, list[str]] = defaultdict(list)
        for session, trace_id in trace_sessions:
            self._names[trace_id].append(session)
        self._folded: dict[bytes, dict[bytes, str]] = {}

    def sessions(self, trace_id: bytes) -> Sequence[str]:
        return self._names.get(trace_id) or (f"trace-{trace_id.hex()}",)

    def of(self, span: Span) -> Sequence[str]:
        """A span's session; all that it may be where the index does not know it."""
        names = self.sessions(span[0])
        if len(names) == 1:
            return names
        name = self.folded(span[0]).get(span[1])
        return names if name is None else (name,)

    def folded(self, trace_id: bytes) -> Mapping[bytes, str]:
        """The session of each span of a trace."""
        if (known := self._folded.get(trace_id)) is None:
            tree = TraceTree(trace_id)
            for spans in self._reader.spans_of([trace_id]):
                for span in spans:
                    tree.add(span)
            known = dict(read_trace(tree).owners)  # without the spans
            while len(self._folded) >= _FOLDED:
                del self._folded[next(iter(self._folded))]
            self._folded[trace_id] = known
        return known


def _spans(keys: Sequence[SpanKey]) -> tuple[Span, ...]:
    return tuple(dict.fromkeys(key[:2] for key in keys))
