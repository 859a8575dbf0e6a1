"""Send again what was held or quarantined, and what arrived without a destination: the `retry` wish."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hermes_tui.journal import marks, records
from hermes_tui.journal.marks import Pen, RequestState, SpanKey
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery, Span
from hermes_tui.otlp.codec import BadRequest, read

T = TypeVar("T")
SpanId = tuple[bytes, bytes]
"""(trace id, span id)"""
Progress = Callable[[int, int], Awaitable[None]]
"""Called with how many are done, and of how many."""

_SPANS = 100  # released in one job of the writer: senders wait meanwhile
_REQUESTS = 8  # turned from local to queued in one job; each is decoded
_WINDOW = 20_000  # rows looked at in one statement
_NAMES = 200  # traces or spans in one statement
_PATIENCE_S = 10.0  # without anything decided; MLflow's first answer takes 7 s …
_NO_ANSWER_S = 3.0  # … and where nobody answers, it is tried a few times
_LOOK_S = 0.1
_REASONS = 10

REFUSED = (Delivery.HELD, Delivery.QUARANTINED)
_NOT_LOCAL = tuple(each for each in Delivery if each is not Delivery.LOCAL)


class Sends(Protocol):
    """What the exporter is to the resender."""

    @property
    def trouble(self) -> str:
        """Why sending is put off just now; "" when it is not."""

    def try_again(self) -> None:
        """Something was mended: send at once."""


@dataclass(frozen=True, slots=True)
class Resender:
    """Puts spans back in the queue."""

    journal: Path
    writer: Writer
    exporter: Sends

    async def resend(self, session: str | None, local: bool, progress: Progress) -> dict[str, Any]:
        """Release spans of a session (None: of all), and say what became of them, within some seconds.

        The answer's numbers are spans; "queued" ones are still on their way.
        """
        released = await asyncio.to_thread(refused, self.journal, session)
        for piece in _pieces(released, _SPANS):
            await self._do(_releasing(piece))
        if local:
            kept_here = await asyncio.to_thread(kept_local, self.journal, session)
            for some in _pieces(kept_here, _REQUESTS):
                released += await self._do(_forwarding(some))
        self.exporter.try_again()
        spans = list(dict.fromkeys(key[:2] for key in released))
        states = await self._outcome(spans, progress)
        still = [span for span, state in states.items() if state in REFUSED]
        found = Counter(states.values())
        why = await asyncio.to_thread(reasons, self.journal, still)
        if found[Delivery.QUEUED] and self.exporter.trouble:
            why.append(self.exporter.trouble)
        return {
            "sent_again": len(spans),
            "accepted": found[Delivery.ACCEPTED] + found[Delivery.CONFIRMED],
            "held": found[Delivery.HELD],
            "quarantined": found[Delivery.QUARANTINED],
            "queued": found[Delivery.QUEUED],
            "reasons": why,
        }

    async def _do(self, work: Callable[[Pen], T]) -> T:
        return await asyncio.wrap_future(self.writer.do(work))

    async def _outcome(self, spans: Sequence[SpanId], progress: Progress) -> dict[SpanId, Delivery]:
        """How far each span got, once all are decided or nothing moves any more."""
        states: dict[SpanId, Delivery] = {}
        waiting, moved = list(spans), time.monotonic()
        while True:
            news = await asyncio.to_thread(deliveries, self.journal, waiting)
            states.update(news)
            still = [span for span in waiting if news.get(span) is Delivery.QUEUED]
            if len(still) < len(waiting):
                waiting, moved = still, time.monotonic()
            await progress(len(spans) - len(waiting), len(spans))
            patience = _NO_ANSWER_S if self.exporter.trouble else _PATIENCE_S
            if not waiting or time.monotonic() - moved > patience:
                return states
            await asyncio.sleep(_LOOK_S)  # the marks are made in another thread, by whoever is first


def _releasing(spans: Sequence[SpanKey]) -> Callable[[Pen], None]:
    return lambda pen: marks.release(pen, spans)


def _forwarding(requests: Sequence[int]) -> Callable[[Pen], list[SpanKey]]:
    return lambda pen: forward(pen, requests)


def forward(pen: Pen, requests: Sequence[int]) -> list[SpanKey]:
    """Requests that were kept here only are to be sent from now on; their finished spans."""
    found: dict[int, list[SpanKey]] = {}
    for number in requests:
        row = pen.connection.execute(
            "SELECT body, content_type, content_encoding FROM requests WHERE id = ? AND state = ?",
            (number, RequestState.LOCAL),
        ).fetchone()
        if row is None:
            continue  # purged meanwhile
        try:
            found[number] = marks.finished(read(*row).ids())
        except BadRequest:  # it was readable when it came
            found[number] = []
    keys = [key for some in found.values() for key in some]
    pen.index.redeliver(keys, Delivery.QUEUED, kept=_NOT_LOCAL)
    marks.settle(pen, found)
    return keys


def refused(journal: Path, session: str | None) -> list[SpanKey]:
    """The held and quarantined spans of a session (None: of all)."""
    if session is not None:
        with Reader(journal) as reader:
            return [
                (span.trace_id, span.span_id, span.end_ns)
                for span in _finished(reader, session)
                if span.delivery in REFUSED
            ]
    states = _list(REFUSED)
    where = f"delivery IN ({states}) AND end_ns > 0"
    return _scan(journal, "spans", "trace_id, span_id, end_ns", where)


def kept_local(journal: Path, session: str | None) -> list[int]:
    """The requests that arrived without a destination and hold finished spans of a session."""
    if session is not None:
        with Reader(journal) as reader:
            spans = _finished(reader, session)
            return sorted({span.request for span in spans if span.delivery is Delivery.LOCAL})
    return [row[0] for row in _scan(journal, "requests", "id", f"state = {RequestState.LOCAL}")]


def deliveries(journal: Path, spans: Collection[SpanId]) -> dict[SpanId, Delivery]:
    """How far spans got; those that are gone are left out."""
    rows = _look_up(journal, "trace_id, span_id, delivery", "spans", spans)
    return {(trace_id, span_id): Delivery(state) for trace_id, span_id, state in rows}


def reasons(journal: Path, spans: Collection[SpanId]) -> list[str]:
    """Why spans were refused, each reason once, the most frequent first."""
    rows = _look_up(journal, "reason", "marks", spans, f"AND state IN ({_list(REFUSED)})")
    found = Counter(reason for (reason,) in rows if reason)
    return [reason for reason, _ in found.most_common(_REASONS)]


def _finished(reader: Reader, session: str) -> Iterator[Span]:
    for some in _pieces(reader.traces_of(session), _NAMES):
        for spans in records.finished_spans(reader, session, some):
            yield from spans


def _scan(journal: Path, table: str, columns: str, where: str) -> list[Any]:
    """Rows of a whole table, a window at a time: no statement may hold the WAL for long."""
    with closing(_open(journal)) as connection:
        (last,) = connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()
        found = []
        for at in range(0, last, _WINDOW):
            found += connection.execute(
                f"SELECT {columns} FROM {table} WHERE rowid > ? AND rowid <= ? AND {where}",
                (at, at + _WINDOW),
            ).fetchall()
        return found


def _look_up(journal: Path, columns: str, table: str, spans: Collection[SpanId], also: str = "") -> list[Any]:
    found = []
    with closing(_open(journal)) as connection:
        for some in _pieces(list(spans), _NAMES):
            ids = ", ".join(["(?, ?)"] * len(some))
            found += connection.execute(
                f"SELECT {columns} FROM {table} WHERE (trace_id, span_id) IN (VALUES {ids}) {also}",
                [part for span in some for part in span],
            ).fetchall()
    return found


def _open(journal: Path) -> sqlite3.Connection:
    uri = f"{journal.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)


def _list(states: Sequence[Delivery]) -> str:
    return ", ".join(str(state.value) for state in states)


def _pieces(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
