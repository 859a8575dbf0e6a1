"""Delivery marks: how far each span got at each destination, and what that makes of its request.

    LOCAL ──retry --local──▶ TO_SEND ──all accepted──▶ SENT ──all read back──▶ PROVEN
                                │  ▲                     │
                      some marked  retry, lost           └─some quarantined──▶ STUCK
                                ▼  │                                             │
                              PARTED ◀──────────────────retry────────────────────┘

A mark is about one version of a span, told apart by its end; an older version never undoes a newer.
Whatever changes marks runs in the writer's thread, inside its transaction, with a `Pen`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import BadRequest, read

if TYPE_CHECKING:
    from hermes_tui.journal.indexing import Index

log = logging.getLogger(__name__)

SpanKey = tuple[bytes, bytes, int]
"""(trace id, span id, end in ns since the epoch): one version of a span. End 0: it still runs."""

LOST = "the destination answered 200 twice, but does not have it when it is read back"
GONE = "it was read back from MLflow before, but is no longer there"
FINAL = (Delivery.ACCEPTED, Delivery.CONFIRMED)


class RequestState:
    """`requests.state`; see the drawing above."""

    LOCAL = 0  # arrived without a destination
    TO_SEND = 1
    SENT = 2  # every span is accepted or quarantined
    PARTED = 3  # to be sent, except for the spans that are marked already
    PROVEN = 4  # every span is confirmed
    STUCK = 5  # some are quarantined, the others confirmed


WAITING = (RequestState.TO_SEND, RequestState.PARTED)


@dataclass(frozen=True, slots=True)
class Pen:
    """What a job in the writer's thread writes with."""

    connection: sqlite3.Connection
    index: Index


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one version of a span got. `superseded`: a later version has a mark, this one is history."""

    state: Delivery = Delivery.QUEUED
    destination: str = ""
    lost: int = 0
    at_ns: int = 0
    superseded: bool = False

    @property
    def waiting(self) -> bool:
        return not self.superseded and self.state in (Delivery.LOCAL, Delivery.QUEUED, Delivery.HELD)


def standings(connection: sqlite3.Connection, keys: Iterable[SpanKey]) -> dict[SpanKey, Standing]:
    """How far each of some spans got, over all destinations: what one has, no other needs."""
    found: dict[SpanKey, Standing] = {}
    for key in keys:
        if key not in found:
            rows = connection.execute(
                "SELECT end_ns, state, destination, lost, at_ns FROM marks "
                "WHERE trace_id = ? AND span_id = ?",
                key[:2],
            ).fetchall()
            found[key] = _standing(signed(key[2]), rows)
    return found


def _standing(end_ns: int, rows: Sequence[tuple[int, int, str, int, int]]) -> Standing:
    if not rows:
        return _UNKNOWN
    if any(end > end_ns for end, *_ in rows):
        return Standing(superseded=True)
    ours = [row[1:] for row in rows if row[0] == end_ns]
    if not ours:
        return _UNKNOWN
    state, destination, lost, at_ns = max(ours, key=lambda row: (row[0] in FINAL, row[3]))
    return Standing(Delivery(state), destination, lost, at_ns)


_UNKNOWN = Standing()


def mark(
    pen: Pen, spans: Sequence[SpanKey], state: Delivery, destination: str, reason: str | None = None
) -> None:
    """Note how far spans got. What was accepted once is never called held or quarantined by this."""
    kept = () if state is Delivery.CONFIRMED else FINAL
    _write(pen, spans, state, destination, reason, f"marks.state NOT IN {_list(kept)}")
    pen.index.redeliver(spans, state, kept=kept)


def lose(pen: Pen, spans: Sequence[SpanKey], destination: str) -> None:
    """Spans that were accepted are not there: send them once more, then quarantine them."""
    known = standings(pen.connection, spans)
    again = [key for key in spans if known[key].state is Delivery.ACCEPTED and known[key].lost == 0]
    twice = [key for key in spans if known[key].state is Delivery.ACCEPTED and known[key].lost > 0]
    gone = [key for key in spans if known[key].state is Delivery.CONFIRMED]
    for keys, state, reason in (
        (again, Delivery.QUEUED, None),
        (twice, Delivery.QUARANTINED, LOST),
        (gone, Delivery.QUARANTINED, GONE),
    ):
        _write(pen, keys, state, destination, reason, "true", lost=1)
        pen.index.redeliver(keys, state)
    restate(pen, requests_of(pen, (*again, *twice, *gone)))


def release(pen: Pen, spans: Sequence[SpanKey]) -> None:
    """Forget that spans were held or quarantined: they are sent again."""
    pen.connection.executemany(
        "UPDATE marks SET state = ?, reason = NULL, lost = 0 WHERE trace_id = ? AND span_id = ? "
        f"AND end_ns = ? AND state IN {_list((Delivery.HELD, Delivery.QUARANTINED))}",
        [(Delivery.QUEUED.value, *_stored(key)) for key in spans],
    )
    pen.index.redeliver(spans, Delivery.QUEUED, kept=FINAL)
    restate(pen, requests_of(pen, spans))


def requests_of(pen: Pen, spans: Iterable[SpanKey]) -> set[int]:
    """The requests that brought these spans' newest versions."""
    found: set[int] = set()
    for trace_id, span_id, _ in spans:
        row = pen.connection.execute(
            "SELECT request FROM spans WHERE trace_id = ? AND span_id = ?", (trace_id, span_id)
        ).fetchone()
        if row is not None:
            found.add(row[0])
    return found


def restate(pen: Pen, requests: Iterable[int]) -> None:
    """Bring the state of requests in line with their spans' marks."""
    for number in requests:
        row = pen.connection.execute(
            "SELECT state, body, content_type, content_encoding FROM requests WHERE id = ?", (number,)
        ).fetchone()
        if row is None or row[0] == RequestState.LOCAL:
            continue
        try:
            keys = read(*row[1:]).ids()
        except BadRequest:  # what cannot be read any more has no spans either
            log.exception("request %d cannot be decoded; its bytes are kept", number)
            continue
        settle(pen, {number: finished(keys)})


def settle(pen: Pen, requests: Mapping[int, Collection[SpanKey]]) -> None:
    """`restate` for requests whose finished spans are known."""
    for number, keys in requests.items():
        state, destination = request_state(standings(pen.connection, keys).values())
        pen.connection.execute(
            "UPDATE requests SET state = ?, destination = ? WHERE id = ?", (state, destination, number)
        )


def request_state(standing: Iterable[Standing]) -> tuple[int, str]:
    """The state of a request with such spans, and the destination that still has to prove it."""
    current = [each for each in standing if not each.superseded]
    if any(each.waiting for each in current):
        return RequestState.PARTED, ""
    for each in current:
        if each.state is Delivery.ACCEPTED:
            return RequestState.SENT, each.destination
    stuck = any(each.state is Delivery.QUARANTINED for each in current)
    return (RequestState.STUCK if stuck else RequestState.PROVEN), ""


def finished(keys: Iterable[SpanKey]) -> list[SpanKey]:
    """Without the spans that still run: those are shown, never sent."""
    return [key for key in keys if key[2]]


def signed(number: int) -> int:
    """OTLP's fixed64 in SQLite's signed 64 bits; a time beyond the year 2262 is nonsense anyway."""
    return number if number < 2**63 else 2**63 - 1


def _stored(key: SpanKey) -> SpanKey:
    return key[0], key[1], signed(key[2])


def _write(
    pen: Pen,
    spans: Sequence[SpanKey],
    state: Delivery,
    destination: str,
    reason: str | None,
    same_version: str,
    *,
    lost: int = 0,
) -> None:
    now = time.time_ns()
    pen.connection.executemany(
        "INSERT INTO marks (trace_id, span_id, end_ns, destination, state, at_ns, reason, lost) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (trace_id, span_id, destination) DO UPDATE SET "
        "end_ns = excluded.end_ns, state = excluded.state, at_ns = excluded.at_ns, "
        "reason = excluded.reason, "
        "lost = iif(excluded.end_ns > marks.end_ns, 0, marks.lost) + excluded.lost "
        "WHERE excluded.end_ns > marks.end_ns "
        f"OR (excluded.end_ns = marks.end_ns AND {same_version})",
        [(*_stored(key), destination, state.value, now, reason, lost) for key in spans],
    )


def _list(states: Sequence[Delivery]) -> str:
    return f"({', '.join(str(state.value) for state in states)})"
