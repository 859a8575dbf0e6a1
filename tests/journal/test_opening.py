"""Journals of other versions: an older one is brought up to date, a newer one is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hermes_tui.journal import aside, forgetting, opening
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.marks import RequestState
from hermes_tui.journal.opening import INDEX_VERSION, SCHEMA_VERSION
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from tests.support import (
    SECOND,
    body_of,
    caught_up,
    recorded_requests,
    recorded_spans,
    span_id,
    store,
    tail_all,
    trace_id,
    wait_for,
    wire_span,
)

OpenWriter = Callable[..., Writer]
OpenReader = Callable[[], Reader]

FIRST = (Path(__file__).parent / "schema_1.sql").read_text(encoding="utf-8")
"""Schema and index of the first version, as its relay made them."""

QUEUED, ACCEPTED, CONFIRMED, QUARANTINED = (
    Delivery.QUEUED,
    Delivery.ACCEPTED,
    Delivery.CONFIRMED,
    Delivery.QUARANTINED,
)
MARKS = {0: ACCEPTED, 1: ACCEPTED, 2: CONFIRMED, 3: QUARANTINED}


def old_journal(state: StateDir, *bodies: bytes) -> None:
    """What a relay of the first version leaves: requests sent, waiting, and without a destination."""
    state.create()
    with closing(sqlite3.connect(state.journal, isolation_level=None)) as journal:
        journal.execute("PRAGMA page_size = 8192")
        journal.execute("PRAGMA journal_mode = WAL")
        journal.executescript(FIRST)
        journal.executemany(
            "INSERT INTO meta (key, value) VALUES (?, ?)",
            [("revision", 7), ("indexed", 0), ("index_version", 1), ("epoch", "old")],
        )
        journal.execute("INSERT INTO routes (headers, credential) VALUES (?, '')", ('{"x-mlflow-a": "1"}',))
        for number, body in enumerate(bodies):
            state_of = 2 if number in MARKS else 0 if number == 4 else 1
            journal.execute(
                "INSERT INTO requests (received_ns, state, route, span_count, content_type, "
                "content_encoding, body) VALUES (?, ?, 1, 1, 'application/x-protobuf', '', ?)",
                (SECOND * (100 + number), state_of, body),
            )
        for number, delivery in MARKS.items():
            journal.execute(
                "INSERT INTO marks VALUES ('http://d', ?, ?, ?, ?, 5, ?)",
                (trace_id(0), span_id(number), SECOND * (1_001 + number), delivery.value, "why"),
            )
            journal.execute(
                "INSERT INTO spans VALUES (?, ?, ?, x'', 'a', 'unknown', 'other', 0, 1, 2, ?, ?, 0, x'80')",
                (number, trace_id(0), span_id(number), delivery.value, number + 1),
            )


def spans(count: int = 8) -> list[bytes]:
    return [body_of(wire_span(number, session__id="S")) for number in range(count)]


def test_a_journal_of_the_first_version_keeps_everything(
    state: StateDir, open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    bodies = spans()
    old_journal(state, *bodies)
    writer = open_writer(forward=True)
    new = body_of(wire_span(100, session__id="S"))
    assert store(writer, new) == [9]  # while the index is made again
    reader = open_reader()
    wait_for(lambda: caught_up(reader))
    assert reader.epoch != "old"
    found = {span.span_id: span.delivery for span in tail_all(reader)}
    waiting = {span_id(number): QUEUED for number in (5, 6, 7, 100)}
    assert found == {span_id(n): d for n, d in MARKS.items()} | {span_id(4): Delivery.LOCAL} | waiting
    assert [row.session for row in reader.recent_sessions()] == ["S"]
    assert [reason for *_, reason in reader.reasons()] == ["why"]
    assert writer.undelivered_bytes == sum(map(len, bodies[5:])) + len(
        body_of(wire_span(100, session__id="S"))
    )
    with closing(sqlite3.connect(state.journal)) as journal:
        rows = journal.execute("SELECT body, state, destination FROM requests ORDER BY id").fetchall()
        versions = dict(journal.execute("SELECT key, value FROM meta WHERE key LIKE '%_version'").fetchall())
    assert [row[0] for row in rows[:8]] == bodies
    assert [row[1:] for row in rows[:4]] == [
        (RequestState.SENT, "http://d"),  # to be read back from there
        (RequestState.SENT, "http://d"),
        (RequestState.SENT, ""),
        (RequestState.SENT, ""),
    ]
    assert versions == {"schema_version": SCHEMA_VERSION, "index_version": INDEX_VERSION}


def test_an_old_recording_shows_the_same(
    state: StateDir, open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    old_journal(state, *recorded_requests("thirty_steps"))
    open_writer()
    reader = open_reader()
    wait_for(lambda: caught_up(reader))
    found = {(span.trace_id, span.span_id, span.end_ns, span.session) for span in tail_all(reader)}
    assert found == {(s.trace_id, s.span_id, s.end_ns, s.session) for s in recorded_spans("thirty_steps")}


@pytest.mark.parametrize("kill_at", range(1, 12))
def test_a_migration_that_was_broken_off_is_begun_again(
    state: StateDir, open_writer: OpenWriter, open_reader: OpenReader, kill_at: int
) -> None:
    old_journal(state, *spans())
    statements = opening._MIGRATIONS[2]
    broken = (*statements[: kill_at % (len(statements) + 1)], "SELECT no_such_function()")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(opening._MIGRATIONS, 2, broken)
        with pytest.raises(StateError, match="no_such_function"):
            open_writer()
    open_writer()
    reader = open_reader()
    wait_for(lambda: caught_up(reader))
    assert len(tail_all(reader)) == 8


def test_a_newer_journal_is_refused_and_left_alone(state: StateDir, open_writer: OpenWriter) -> None:
    writer = open_writer()
    store(writer, *spans(2))
    writer.close()
    with closing(sqlite3.connect(state.journal, isolation_level=None)) as journal:
        journal.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (SCHEMA_VERSION + 1,))
        before = list(journal.iterdump())
    with pytest.raises(StateError, match=r"written by a newer hermes-trace-tui.*--state-dir"):
        open_writer()
    with closing(sqlite3.connect(state.journal)) as journal:
        assert list(journal.iterdump()) == before
    assert aside.copies(state) == []


def test_an_old_journal_can_give_space_back(state: StateDir, open_writer: OpenWriter) -> None:
    old_journal(state, *(body_of(wire_span(number, text="x" * 100_000)) for number in range(20)))
    writer = open_writer()
    writer.do(lambda pen: pen.connection.execute("DELETE FROM requests")).result(timeout=20)
    while writer.do(forgetting.shrink).result(timeout=20):
        pass
    writer.close()
    assert state.journal.stat().st_size < 500_000


def test_one_that_is_too_large_to_be_rewritten_is_left_as_it_is(
    state: StateDir, open_writer: OpenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_VACUUM_BYTES", 100_000)
    old_journal(state, *(body_of(wire_span(number, text="x" * 100_000)) for number in range(5)))
    writer = open_writer()
    assert writer.do(lambda pen: pen.connection.execute("PRAGMA auto_vacuum").fetchone()).result() == (0,)
    assert store(writer, body_of(wire_span(99))) == [6]


def test_what_was_never_written_as_a_number_is_damage(state: StateDir, open_writer: OpenWriter) -> None:
    writer = open_writer()
    store(writer, *spans(3))
    writer.close()
    with closing(sqlite3.connect(state.journal, isolation_level=None)) as journal:
        journal.execute("UPDATE meta SET value = 'noise' WHERE key = 'revision'")
    store(open_writer(), *spans(1))
    assert len(aside.copies(state)) == 1
