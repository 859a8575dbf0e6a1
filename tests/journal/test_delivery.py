"""What the delivery view reads: counts, what waits longest, what is refused, what MLflow says, answers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from hermes_tui.journal import delivery, marks
from hermes_tui.journal.delivery import Mark, Refused, Snapshot, look, mark_of, told
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import Pen
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.compare import Told
from hermes_tui.model.span import Delivery
from tests.support import SECOND, body_of, caught_up, span_id, store, trace_id, wait_for, wire_span

Open = Callable[..., Writer]
URL = "http://mlflow"


def fill(writer: Writer, state: StateDir, count: int = 6, **said: Any) -> list[marks.SpanKey]:
    """Spans 0, 1, 2 … of session "s", each in a trace and a request of its own; their keys."""
    spans = [wire_span(n, trace=n, name=f"n{n}", session__id="s", **said) for n in range(count)]
    for at, span in enumerate(spans):
        store(writer, body_of(span), received_ns=(at + 1) * SECOND)
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))
    return [(span.trace_id, span.span_id, span.end_time_unix_nano) for span in spans]


def run(writer: Writer, statement: str, *parameters: object) -> None:
    def work(pen: Pen) -> None:
        pen.connection.execute(statement, parameters)

    writer.do(work).result(20)


def mark(writer: Writer, keys: list[marks.SpanKey], state: Delivery, at_s: int, reason: str = "") -> None:
    def work(pen: Pen) -> None:
        marks.mark(pen, keys, state, URL, reason or None)
        for trace, span, _ in keys:
            pen.connection.execute(
                "UPDATE marks SET at_ns = ? WHERE trace_id = ? AND span_id = ?", (at_s * SECOND, trace, span)
            )

    writer.do(work).result(20)


def seen(state: StateDir, session: str | None = "s", wishes: tuple[str, ...] = ()) -> Snapshot:
    with Reader(state.journal) as reader:
        return look(reader, session, wishes)


def test_an_empty_journal(state: StateDir, open_writer: Open) -> None:
    open_writer()
    assert seen(state, None) == Snapshot()
    assert seen(state) == Snapshot()


def test_counts_are_of_finished_spans_in_every_state(state: StateDir, open_writer: Open) -> None:
    writer = open_writer(forward=True)
    keys = fill(writer, state, 11)
    store(writer, body_of(wire_span(99, trace=99, end_ns=0)))
    mark(writer, keys[:2], Delivery.ACCEPTED, 1)
    mark(writer, keys[2:5], Delivery.CONFIRMED, 1)
    mark(writer, keys[5:6], Delivery.HELD, 1)
    mark(writer, keys[6:8], Delivery.QUARANTINED, 1)
    writer.forward = False
    store(writer, body_of(wire_span(50, trace=50)))
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))
        counts = reader.counts()
    assert counts == seen(state).counts
    assert {each.name: count for each, count in counts.items()} == {
        "LOCAL": 1,
        "QUEUED": 3,
        "ACCEPTED": 2,
        "CONFIRMED": 3,
        "HELD": 1,
        "QUARANTINED": 2,
    }


def test_the_oldest_that_waits_is_that_of_any_route(state: StateDir, open_writer: Open) -> None:
    writer = open_writer(forward=True)
    assert seen(state).oldest_ns == 0
    for number, (experiment, arrived) in enumerate((("2", 50), ("1", 60), ("2", 70))):
        body = body_of(wire_span(number))
        store(writer, body, received_ns=arrived * SECOND, headers={"x-mlflow-experiment-id": experiment})
    assert seen(state).oldest_ns == 50 * SECOND
    run(writer, "UPDATE requests SET state = 2 WHERE id = 1")
    assert seen(state).oldest_ns == 60 * SECOND
    run(writer, "UPDATE requests SET state = 3 WHERE id != 2")
    assert seen(state).oldest_ns == 50 * SECOND
    run(writer, "UPDATE requests SET state = 2")
    assert seen(state).oldest_ns == 0


def test_refused_spans_have_reason_session_and_age(state: StateDir, open_writer: Open) -> None:
    writer = open_writer(forward=True)
    keys = fill(writer, state)
    store(writer, body_of(wire_span(77, trace=77, name="nobody's")))
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))
    mark(writer, keys[:2], Delivery.HELD, 10, "experiment 7 does not exist")
    mark(writer, keys[2:3], Delivery.QUARANTINED, 20, "bad span")
    mark(writer, [(trace_id(77), span_id(77), 1_078 * SECOND)], Delivery.QUARANTINED, 30)

    def refused(number: int, name: str, session: str, state: Delivery, reason: str, at_s: int) -> Refused:
        return Refused(trace_id(number), span_id(number), name, session, state, reason, at_s * SECOND)

    nobodys = f"trace-{trace_id(77).hex()}"
    assert seen(state).refused == (
        refused(77, "nobody's", nobodys, Delivery.QUARANTINED, "", 30),
        refused(2, "n2", "s", Delivery.QUARANTINED, "bad span", 20),
        refused(1, "n1", "s", Delivery.HELD, "experiment 7 does not exist", 10),
        refused(0, "n0", "s", Delivery.HELD, "experiment 7 does not exist", 10),
    )
    writer.do(lambda pen: marks.release(pen, keys[:3])).result(20)
    assert [each.name for each in seen(state).refused] == ["nobody's"]


def test_of_two_marks_the_newest_is_told_and_once(state: StateDir, open_writer: Open) -> None:
    """The destination was changed, and the new one refuses too."""
    writer = open_writer(forward=True)
    (key,) = fill(writer, state, 1)
    mark(writer, [key], Delivery.QUARANTINED, 10, "old reason")
    for where, number, at_s, reason in (("new", 5, 20, "new reason"), ("newest", 1, 30, "another state")):
        run(
            writer,
            "INSERT INTO marks (destination, trace_id, span_id, end_ns, state, at_ns, reason) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            where,
            *key,
            number,
            at_s * SECOND,
            reason,
        )
    assert [(each.reason, each.at_ns) for each in seen(state).refused] == [("new reason", 20 * SECOND)]


def test_lists_are_bounded(state: StateDir, open_writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "REFUSED_SHOWN", 2)
    monkeypatch.setattr(delivery, "_TRACES", 3)
    writer = open_writer(forward=True)
    keys = fill(writer, state)
    mark(writer, keys[:3], Delivery.HELD, 1)
    mark(writer, keys[3:], Delivery.QUARANTINED, 1)
    for key in keys:
        run(writer, _TOLD, key[0], URL, 1, "{}")
    found = seen(state)
    assert [each.name for each in found.refused] == ["n5", "n4", "n2", "n1"]
    assert set(found.told) == {key[0] for key in keys[3:]}  # the newest


_TOLD = "INSERT INTO read_back (trace_id, destination, at_ns, document) VALUES (?, ?, ?, ?)"


def test_what_mlflow_said_last_of_the_sessions_traces(state: StateDir, open_writer: Open) -> None:
    writer = open_writer(forward=True)
    keys = fill(writer, state)
    run(writer, _TOLD, keys[0][0], URL, 2, json.dumps({"state": "OK", "spans": 3}))
    run(writer, _TOLD, keys[0][0], "http://before", 1, json.dumps({"state": "ERROR"}))
    run(writer, _TOLD, keys[1][0], URL, 1, "no JSON")
    run(writer, _TOLD, trace_id(999), URL, 1, json.dumps({"state": "OK"}))
    assert seen(state).told == {keys[0][0]: Told(state="OK", spans=3), keys[1][0]: Told()}
    assert seen(state, "another").told == {}
    with Reader(state.journal) as reader:
        assert told(reader, []) == {}


def test_documents_and_answers(state: StateDir, open_writer: Open) -> None:
    writer = open_writer()
    for name in ("exporter", "proof", "keeping"):
        writer.set_meta(name, {"of": name}).result(20)
    run(writer, "INSERT INTO answers VALUES ('mine', 1, 'working', '{\"done\": 1}'), ('x', 1, 'done', '{}')")
    found = seen(state, wishes=("mine", "unseen"))
    assert (found.exporter, found.proof, found.keeping) == (
        {"of": "exporter"},
        {"of": "proof"},
        {"of": "keeping"},
    )
    assert found.answers == {"mine": ("working", {"done": 1})}


def test_a_mark_says_when_and_why(state: StateDir, open_writer: Open) -> None:
    writer = open_writer(forward=True)
    keys = fill(writer, state, 4)
    mark(writer, keys[1:2], Delivery.CONFIRMED, 30)
    mark(writer, keys[2:3], Delivery.QUARANTINED, 40, "bad")
    run(writer, "DELETE FROM requests WHERE id = 4")
    with Reader(state.journal) as reader:
        spans = [reader.span(*key[:2]) for key in keys]
        found = [mark_of(reader, span) for span in spans if span is not None]
        assert reader.span(trace_id(99), span_id(0)) is None
    assert found == [
        Mark(1 * SECOND, ""),  # when it arrived
        Mark(30 * SECOND, ""),
        Mark(40 * SECOND, "bad"),
        Mark(),  # its request is gone
    ]


def test_a_journal_that_no_relay_of_this_version_has_opened(state: StateDir, open_writer: Open) -> None:
    """A pane may be newer than the relay that wrote last: tables and the index may be missing."""
    writer = open_writer(forward=True)
    fill(writer, state)
    writer.close()
    with sqlite3.connect(state.journal) as connection:
        connection.execute("DROP TABLE read_back")
        connection.execute("DROP TABLE answers")
        connection.execute("DROP INDEX spans_unproven")
    found = seen(state, wishes=("a",))
    assert found.counts == {Delivery.QUEUED: 6}
    assert (found.told, found.answers) == ({}, {})


def test_nothing_looks_through_all_spans_or_marks(state: StateDir, open_writer: Open) -> None:
    """However long the journal is: every statement goes by an index that fits it."""
    fill(open_writer(forward=True), state)
    asked: list[str] = []
    with Reader(state.journal) as reader:
        reader._connection.set_trace_callback(asked.append)
        look(reader, "s", ("a",))
        reader._connection.set_trace_callback(None)
        steps = [row[3] for each in asked for row in reader.rows(f"EXPLAIN QUERY PLAN {each}")]
    assert sum("SEARCH" in step and "spans_unproven" in step for step in steps) >= 7  # five counts, two lists
    # Counting all spans walks pages, not rows; lists are made from bounded subqueries called "spans".
    scanned = {step.split()[1] for step in steps if step.startswith("SCAN")}
    assert scanned.isdisjoint({"marks", "requests", "read_back", "traces", "trace_sessions"}), steps
