"""What waits is counted exactly, and neither it nor the write-ahead log grows without a bound."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_tui.journal import forgetting, marks, wal
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import WAITING, Pen, RequestState
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Limits, Writer
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import Request
from tests.journal.folders import journal
from tests.support import SECOND, body_of, caught_up, span_id, store, trace_id, wait_for, wire_span

OpenWriter = Callable[..., Writer]

READER = """
import sqlite3, sys
journal = sqlite3.connect(sys.argv[1], isolation_level=None)
journal.execute("BEGIN")
journal.execute("SELECT count(*) FROM requests").fetchone()
print("reading", flush=True)
sys.stdin.readline()
"""


@contextmanager
def reading(state: StateDir) -> Iterator[None]:
    """Another program has a reading transaction open meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(state.journal)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "reading\n"
        yield
    finally:
        process.communicate("\n", timeout=60)


def waiting_bytes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute(
            f"SELECT coalesce(sum(length(body)), 0) FROM requests WHERE state IN {WAITING}"
        ).fetchone()
    return int(size)


def key(number: int) -> tuple[bytes, bytes, int]:
    return trace_id(0), span_id(number), SECOND * (1_001 + number)


class Refused(Exception):
    pass


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9), st.booleans()), max_size=30))
def test_what_waits_is_counted_exactly(steps: list[tuple[int, int, bool]]) -> None:
    """After any changes, some of them rolled back; also by whoever opens the journal next."""
    with journal(forward=True) as (writer, open_reader):
        path = open_reader()._path
        for number in range(10):
            store(writer, body_of(wire_span(number, text="x" * 100 * number)))
        for what, number, fails in steps:
            change(writer, what, number, fails)
        assert writer.undelivered_bytes == waiting_bytes(path)
        writer.close()
        again = Writer(StateDir(path.parent), synchronous="OFF")
        assert again.undelivered_bytes == waiting_bytes(path)
        again.close()


def change(writer: Writer, what: int, number: int, fails: bool) -> None:
    span, request = (*key(number),), number + 1
    body = body_of(wire_span(number, text="y" * 37))

    def work(pen: Pen) -> None:
        if what == 0:
            marks.mark(pen, [span], Delivery.ACCEPTED, "d")
            marks.restate(pen, [request])
        elif what == 1:
            marks.lose(pen, [span], "d")
        elif what == 2:
            marks.release(pen, [span])
        elif what == 3:
            forgetting.forget(pen, [forgetting.Cut(request, 1, (span[:2],))])
        elif what == 4:
            cut = forgetting.Cut(request, 1, (), rest=Request(body), body=body)
            forgetting.forget(pen, [cut])
        else:
            state = random.Random(number).choice(
                [RequestState.LOCAL, RequestState.STUCK, RequestState.TO_SEND]
            )
            pen.connection.execute("UPDATE requests SET state = ? WHERE id >= ?", (state, request))
        if fails:
            raise Refused

    future = writer.do(work)
    if fails:
        with pytest.raises(Refused):
            future.result(timeout=20)
    else:
        future.result(timeout=20)


def test_beyond_the_limit_nothing_is_taken_until_some_is_delivered(open_writer: OpenWriter) -> None:
    size = len(body_of(wire_span(1)))
    writer = open_writer(forward=True, limits=Limits(undelivered=3 * size))
    store(writer, body_of(wire_span(1)), body_of(wire_span(2)))
    assert writer.refusal() == ""
    store(writer, body_of(wire_span(3)))
    assert f"{3 * size} B wait to be delivered" in writer.refusal()
    writer.mark([key(1)], Delivery.ACCEPTED, destination="d", sent=[1]).result(timeout=20)
    assert writer.refusal() == ""
    store(writer, body_of(wire_span(4)))
    assert writer.refusal()
    writer.forward = False  # what comes now is not to be delivered
    assert writer.refusal() == ""


def test_no_limit(open_writer: OpenWriter) -> None:
    writer = open_writer(forward=True, limits=Limits(undelivered=0))
    store(writer, body_of(wire_span(1)))
    assert writer.refusal() == ""


SMALL = Limits(log=200_000, longest_log=1_500_000)


def log_size(state: StateDir) -> int:
    return state.journal.with_name("journal.db-wal").stat().st_size


def test_a_reader_that_stays_does_not_fill_the_disk(open_writer: OpenWriter, state: StateDir) -> None:
    writer = open_writer(limits=SMALL)
    store(writer, body_of(wire_span(0)))
    body = body_of(wire_span(1, text="x" * 50_000))
    with reading(state):
        for _ in range(200):
            if writer.refusal():
                break
            store(writer, body)
        assert "keeps reading the journal" in writer.refusal()
        assert str(state.journal) in writer.refusal()
        refused_at = log_size(state)
        assert refused_at < SMALL.longest_log + 1_000_000
        writer.set_meta("x", 1).result(timeout=20)  # what needs little room goes on
    wait_for(lambda: not writer.refusal())  # by itself: nobody sends anything now
    assert log_size(state) < SMALL.log
    assert store(writer, body)


def test_readers_that_come_and_go_do_not_make_the_log_grow(
    open_writer: OpenWriter, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "RETRY_S", 0.0)
    writer = open_writer(limits=SMALL)
    store(writer, body_of(wire_span(0)))
    most = 0
    body = body_of(wire_span(1, text="x" * 50_000))
    with closing(sqlite3.connect(state.journal, isolation_level=None)) as other:
        for _ in range(100):
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM requests").fetchone()
            store(writer, body)
            other.execute("COMMIT")
            store(writer, body)
            most = max(most, log_size(state))
    assert writer.refusal() == ""
    assert most < SMALL.longest_log + 1_000_000


def test_a_small_log_is_left_to_sqlite(open_writer: OpenWriter, state: StateDir) -> None:
    writer = open_writer()
    store(writer, *(body_of(wire_span(number, text="x" * 20_000)) for number in range(20)))
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))
    assert 400_000 < log_size(state) < Limits().log
