"""What the pane's delivery view and its details need of the journal, in a few bounded reads."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from hermes_tui.journal.reader import Reader
from hermes_tui.model.compare import Told
from hermes_tui.model.span import Delivery, Span

REFUSED_SHOWN = 100
"""Held and quarantined spans that are listed at most, of each."""

_TRACES = 300  # newest of a session whose record at MLflow is read

Document = dict[str, Any]


class Refused(msgspec.Struct, frozen=True):
    """A span that the destination does not take. `at_ns`: since when, nanoseconds since the epoch."""

    trace_id: bytes
    span_id: bytes
    name: str
    session: str
    delivery: Delivery
    reason: str
    at_ns: int


class Snapshot(msgspec.Struct, frozen=True):
    """How delivery stands. The documents are the relay's; see `schema.sql`.

    `counts` are finished spans of the whole journal; `oldest_ns` is when the oldest request that still
    waits arrived (0: none does); `told` is what MLflow says of the session's traces; `answers` are those
    to the wishes that were asked about, as (state, document).
    """

    counts: Counter[Delivery] = msgspec.field(default_factory=Counter)
    oldest_ns: int = 0
    exporter: Document = msgspec.field(default_factory=dict)
    proof: Document = msgspec.field(default_factory=dict)
    keeping: Document = msgspec.field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    told: dict[bytes, Told] = msgspec.field(default_factory=dict)
    answers: dict[str, tuple[str, Document]] = msgspec.field(default_factory=dict)


class Mark(msgspec.Struct, frozen=True):
    """When a span came to its delivery state (0: not known), and why, where there is a why."""

    at_ns: int = 0
    reason: str = ""


def look(reader: Reader, session: str | None, wishes: Collection[str] = ()) -> Snapshot:
    """How delivery stands, with MLflow's record of a session and the answers to some wishes."""
    answers = {wish: answer for wish in wishes if (answer := reader.answer(wish)) is not None}
    return Snapshot(
        counts=reader.counts(),
        oldest_ns=_oldest(reader),
        exporter=reader.document("exporter"),
        proof=reader.document("proof"),
        keeping=reader.document("keeping"),
        refused=tuple(_refused(reader, Delivery.QUARANTINED) + _refused(reader, Delivery.HELD)),
        told=told(reader, reader.traces_of(session)[:_TRACES]) if session is not None else {},
        answers=answers,
    )


def told(reader: Reader, traces: Iterable[bytes]) -> dict[bytes, Told]:
    """What MLflow said last of some traces; those that were never read back are left out."""
    names = list(traces)
    try:
        rows = reader.rows(
            "SELECT trace_id, document, max(at_ns) FROM read_back "
            f"WHERE trace_id IN ({', '.join('?' * len(names))}) GROUP BY trace_id",
            names,
        )
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        rows = []  # a journal that no relay of this version has opened yet
    return {trace_id: Told.of(_object(document)) for trace_id, document, _ in rows}


def mark_of(reader: Reader, span: Span) -> Mark:
    """Since when and why a span is delivered as far as it is; without a mark, since it arrived."""
    rows = reader.rows(
        "SELECT at_ns, coalesce(reason, '') FROM marks WHERE trace_id = ? AND span_id = ? AND state = ? "
        "ORDER BY at_ns DESC LIMIT 1",
        (span.trace_id, span.span_id, span.delivery.value),
    )
    if not rows and span.delivery in (Delivery.LOCAL, Delivery.QUEUED):
        rows = reader.rows("SELECT received_ns, '' FROM requests WHERE id = ?", (span.request,))
    return Mark(*rows[0]) if rows else Mark()


def _oldest(reader: Reader) -> int:
    """The routes' oldest waiting requests are found by the index, each in one step."""
    rows = reader.rows(
        "SELECT received_ns FROM requests WHERE id = (SELECT min(oldest) FROM (SELECT (SELECT min(id) "
        "FROM requests WHERE state IN (1, 3) AND route = routes.id) AS oldest FROM routes))"
    )
    return int(rows[0][0]) if rows else 0


def _refused(reader: Reader, state: Delivery) -> list[Refused]:
    """The newest spans in one of the two states. `delivery != 3` names the index that holds few."""
    rows = reader.rows(
        "SELECT spans.trace_id, spans.span_id, spans.name, "
        "coalesce(traces.session, 'trace-' || lower(hex(spans.trace_id))), "
        "coalesce(marks.reason, ''), coalesce(max(marks.at_ns), 0) "
        "FROM (SELECT trace_id, span_id, name, delivery, end_ns FROM spans "
        "WHERE delivery != 3 AND delivery = ? AND end_ns > 0 ORDER BY end_ns DESC LIMIT ?) AS spans "
        "LEFT JOIN traces USING (trace_id) "
        "LEFT JOIN marks ON marks.trace_id = spans.trace_id AND marks.span_id = spans.span_id "
        "AND marks.state = spans.delivery "
        "GROUP BY spans.trace_id, spans.span_id ORDER BY spans.end_ns DESC, spans.span_id",
        (state.value, REFUSED_SHOWN),
    )
    return [
        Refused(trace_id, span_id, name, session, state, reason, at_ns)
        for trace_id, span_id, name, session, reason, at_ns in rows
    ]


def _object(text: str) -> Document:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
