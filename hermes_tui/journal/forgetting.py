"""Forgetting: small jobs for the writer's thread, each a commit of its own."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

import msgspec

from hermes_tui.journal.marks import Pen, restate
from hermes_tui.journal.opening import FORGETTING, renew_epoch
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import Request

Span = tuple[bytes, bytes]
"""(trace id, span id)."""

_UNDELIVERED = (Delivery.QUEUED.value, Delivery.HELD.value, Delivery.QUARANTINED.value)
PIECE_SPANS, PIECE_BYTES = 100, 1024 * 1024  # forgotten in one commit
_SHRINK_PAGES = 64  # given back in one commit
_decode = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True)
class Cut:
    """Spans to be taken out of a stored request; with the last of them it goes.

    `state` it must still have (None: any). `rest` is the request that stays, `body` its bytes.
    """

    id: int
    size: int
    spans: tuple[Span, ...]
    state: int | None = None
    rest: Request | None = None
    body: bytes = b""


@dataclass(slots=True)
class Forgotten:
    """Counts; `bytes` are those of requests, `undelivered` spans that no destination has accepted."""

    requests: int = 0
    spans: int = 0
    undelivered: int = 0
    bytes: int = 0

    def add(self, other: Forgotten) -> None:
        self.requests += other.requests
        self.spans += other.spans
        self.undelivered += other.undelivered
        self.bytes += other.bytes


def piece(cuts: Sequence[Cut], most: int | None = None) -> tuple[Sequence[Cut], Sequence[Cut]]:
    """As much as one commit should hold while senders wait, `most` bytes but for the last; and the rest."""
    limit = PIECE_BYTES if most is None else min(most, PIECE_BYTES)
    spans = size = 0
    for at, cut in enumerate(cuts, 1):
        spans, size = spans + len(cut.spans), size + cut.size
        if spans >= PIECE_SPANS or size >= limit:
            return cuts[:at], cuts[at:]
    return cuts, ()


def forget(pen: Pen, cuts: Sequence[Cut]) -> Forgotten:
    """Take spans out of requests, with their rows and marks. Readers are told by `finish`."""
    connection = pen.connection
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, 1)", (FORGETTING,))
    forgotten = Forgotten()
    loss = _Loss(connection)
    for cut in cuts:
        if not _shorten(pen, cut):
            continue
        forgotten.requests += 1
        forgotten.bytes += cut.size - len(cut.body)
        for span in cut.spans:
            loss.drop(span, cut.id)
        if cut.rest is not None:
            pen.index.replace(cut.id, cut.rest)
            restate(pen, (cut.id,))
    loss.tidy()
    forgotten.spans, forgotten.undelivered = loss.spans, loss.undelivered
    return forgotten


def _shorten(pen: Pen, cut: Cut) -> bool:
    if cut.rest is not None:
        cursor = pen.connection.execute(
            "UPDATE requests SET body = ?, checksum = ?, content_encoding = '', span_count = ? WHERE id = ?",
            (cut.body, crc32(cut.body), len(cut.rest), cut.id),
        )
    elif cut.state is not None:
        cursor = pen.connection.execute(
            "DELETE FROM requests WHERE id = ? AND state = ?", (cut.id, cut.state)
        )
    else:
        cursor = pen.connection.execute("DELETE FROM requests WHERE id = ?", (cut.id,))
    return cursor.rowcount == 1


@dataclass(slots=True)
class _Loss:
    """Rows of the index that go, and what their traces have left."""

    connection: sqlite3.Connection
    spans: int = 0
    undelivered: int = 0
    _sessions: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))

    def drop(self, span: Span, request: int) -> None:
        """The row and marks of a span, if it is this request that brought its newest version."""
        where = "WHERE trace_id = ? AND span_id = ?"
        row = self.connection.execute(
            f"SELECT request, delivery, end_ns, facts FROM spans {where}", span
        ).fetchone()
        if row is None or row[0] != request:
            return
        self.connection.execute(f"DELETE FROM spans {where}", span)
        self.connection.execute(f"DELETE FROM marks {where}", span)
        self.spans += 1
        self.undelivered += row[2] > 0 and row[1] in _UNDELIVERED
        self._sessions[span[0]].update(_session(row[3]))

    def tidy(self) -> None:
        for trace_id, gone in self._sessions.items():
            rows = self.connection.execute(
                "SELECT start_ns, facts FROM spans WHERE trace_id = ?", (trace_id,)
            ).fetchall()
            named = [(start_ns, name) for start_ns, facts in rows for name in _session(facts)]
            left = {name for _, name in named}
            self.connection.executemany(
                "DELETE FROM trace_sessions WHERE session = ? AND trace_id = ?",
                [(name, trace_id) for name in gone - left],
            )
            if not rows:
                for table in ("traces", "read_back", "marks"):
                    self.connection.execute(f"DELETE FROM {table} WHERE trace_id = ?", (trace_id,))
                continue
            first_ns, session = min(named, default=(min(start_ns for start_ns, _ in rows), None))
            self.connection.execute(
                "UPDATE traces SET session = ?, first_ns = ? WHERE trace_id = ?",
                (session, first_ns, trace_id),
            )


def _session(facts: bytes) -> tuple[str, ...]:
    name = _decode(facts).get("session")
    return () if name is None else (name,)


def forget_marks(pen: Pen, spans: Sequence[Span]) -> None:
    """Marks that came when their spans had gone: a request was on its way just then."""
    pen.connection.executemany(
        "DELETE FROM marks WHERE trace_id = ? AND span_id = ? AND NOT EXISTS (SELECT 1 FROM spans "
        "WHERE spans.trace_id = marks.trace_id AND spans.span_id = marks.span_id)",
        spans,
    )


def finish(pen: Pen) -> None:
    """Tell readers to start over: rows are gone."""
    renew_epoch(pen.connection)


def shrink(pen: Pen) -> int:
    """Give some free pages back; how many are left."""
    for _ in range(_SHRINK_PAGES):  # one by one: Python's cursors stop at the first row without columns
        pen.connection.execute("PRAGMA incremental_vacuum(1)").fetchall()
    (left,) = pen.connection.execute("PRAGMA freelist_count").fetchone()
    return int(left)
