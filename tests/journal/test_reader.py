"""What panes and commands read: bounded, fresh, and never a change missed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.reader import PROBE, NoJournal, Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery, Span
from tests.journal.folders import journal
from tests.support import (
    SECOND,
    body_of,
    caught_up,
    envelope,
    span_id,
    store,
    tail_all,
    trace_id,
    wait_for,
    wire_span,
)

OpenWriter = Callable[..., Writer]
OpenReader = Callable[[], Reader]


def test_no_journal_yet_is_said_so(state: StateDir) -> None:
    with pytest.raises(StateError, match="nothing has been received"):
        Reader(state.journal)


def test_a_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    file.write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(StateError, match="cannot read the journal"):
        Reader(file)


def test_a_reader_cannot_write(open_writer: OpenWriter, open_reader: OpenReader, state: StateDir) -> None:
    store(open_writer(), body_of(wire_span(1)))
    reader = open_reader()
    wait_for(lambda: caught_up(reader))
    before = state.journal.stat().st_mtime_ns
    for read in (reader.counts, reader.recent_sessions, reader.newest_session, reader.traces, reader.reasons):
        read()
    assert state.journal.stat().st_mtime_ns == before


def test_every_reader_notices_a_change_once(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    writer = open_writer()
    store(writer, body_of(wire_span(1)))
    one, two = open_reader(), open_reader()
    wait_for(lambda: caught_up(one))
    for reader in (one, two):
        reader.changed()
        assert not reader.changed()
    writer.set_meta("exporter", {"state": "retrying"}).result(timeout=20)
    for reader in (one, two):
        assert reader.changed()
        assert not reader.changed()
        assert reader.document("exporter") == {"state": "retrying"}


def test_a_document_that_nobody_kept_is_empty(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    writer = open_writer()
    writer.set_meta("odd", [1, 2]).result(timeout=20)
    assert open_reader().document("none") == {}
    assert open_reader().document("odd") == {}


def test_a_journal_in_another_file_is_stale(
    open_writer: OpenWriter, open_reader: OpenReader, state: StateDir
) -> None:
    open_writer().close()
    reader = open_reader()
    assert not reader.stale()
    for path in list(state.path.iterdir()):
        path.rename(path.with_suffix(".old"))
    assert reader.stale()
    open_writer().close()
    assert reader.stale()


def test_a_tail_over_more_than_one_page_is_whole(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    writer = open_writer()
    store(writer, *(body_of(*(wire_span(n * 100 + i) for i in range(100))) for n in range(45)))
    writer.close()
    reader = open_reader()
    assert len(reader.tail(0)) < 4_500
    spans = tail_all(reader)
    assert [span.span_id for span in spans] == [span_id(number) for number in range(4_500)]
    assert reader.tail(reader.revision()) == []


def test_the_newest_session_is_that_of_the_newest_request(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    """Also when requests of two sessions take turns within one step of the index."""
    writer = open_writer()
    bodies = {name: body_of(wire_span(n, trace=n, session__id=name)) for n, name in enumerate("AB")}
    later = body_of(wire_span(9, trace=0, session__id="A"))
    for at, body in enumerate([bodies["A"], bodies["B"], later], start=1):
        writer.append(envelope(body, received_ns=at * SECOND))
    writer.close()
    reader = open_reader()
    assert reader.newest_session() == "A"
    assert [(row.session, row.received_ns) for row in reader.recent_sessions()] == [
        ("A", 3 * SECOND),
        ("B", 2 * SECOND),
    ]


def test_a_subagents_trace_counts_for_the_session_above(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    """The child's spans come first, but started later; the trace belongs to who started it."""
    writer = open_writer()
    child = wire_span(2, parent=1, session__id="child")
    parent = wire_span(1, session__id="parent")
    for batch in ([child], [parent]):
        store(writer, body_of(*batch))
        wait_for(lambda: caught_up(open_reader()))
    writer.close()
    reader = open_reader()
    assert reader.newest_session() == "parent"
    assert [row.session for row in reader.recent_sessions()] == ["parent"]
    assert reader.traces_of("child") == reader.traces_of("parent") == [trace_id(0)]


def test_a_probe_is_no_session(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    writer = open_writer()
    store(writer, body_of(wire_span(1, session__id="Hermes")), received_ns=1)
    store(writer, body_of(wire_span(2, trace=2, session__id=f"{PROBE}7")), received_ns=2)
    writer.close()
    reader = open_reader()
    assert reader.newest_session() == "Hermes"
    assert [row.session for row in reader.recent_sessions()] == ["Hermes"]
    assert reader.traces_of(f"{PROBE}7") == [trace_id(2)]


def test_a_trace_without_a_session_stands_for_itself(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    writer = open_writer()
    store(writer, body_of(wire_span(1, trace=7)))
    writer.close()
    reader = open_reader()
    name = f"trace-{trace_id(7).hex()}"
    assert reader.newest_session() == name
    assert [row.session for row in reader.recent_sessions()] == [name]
    assert reader.traces_of(name) == [trace_id(7)]


@pytest.mark.parametrize(
    "name", ["", "unknown", "trace-", "trace-" + "x" * 32, "'; DROP TABLE spans; --", "\ud800"[:0]]
)
def test_an_unknown_session_has_no_traces(
    open_writer: OpenWriter, open_reader: OpenReader, name: str
) -> None:
    open_writer().close()
    assert open_reader().traces_of(name) == []


def test_an_empty_journal_has_nothing(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    open_writer().close()
    reader = open_reader()
    assert reader.newest_session() is None
    assert reader.recent_sessions() == []
    assert reader.tail(0) == []
    assert reader.revision() == 0
    assert not reader.counts()
    assert reader.indexed() == (0, 0)


def test_counts_leave_out_what_still_runs(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    writer = open_writer()
    store(writer, body_of(wire_span(1), wire_span(2), wire_span(3, end_ns=0)))
    writer.close()
    assert open_reader().counts() == {Delivery.LOCAL: 2}


def test_details_are_read_from_the_request(open_writer: OpenWriter, open_reader: OpenReader) -> None:
    writer = open_writer()
    spans = [wire_span(number, secret=f"value {number}") for number in range(6)]
    store(writer, body_of(*spans[:3]), body_of(*spans[3:]))
    writer.close()
    reader = open_reader()
    found = [detail.attributes["secret"] for _, detail in reader.details(reversed(reader.tail(0)))]
    assert found == [f"value {number}" for number in reversed(range(6))]
    (gone,) = reader.tail(reader.revision() - 1)
    gone.request = 99
    assert list(reader.details([gone])) == []


def test_spans_of_many_traces_come_some_traces_at_a_time(
    open_writer: OpenWriter, open_reader: OpenReader
) -> None:
    writer = open_writer()
    store(writer, body_of(*(wire_span(number, trace=number // 2) for number in range(2_400))))
    writer.close()
    reader = open_reader()
    pages = list(reader.spans_of(reader.traces()))
    assert len(pages) > 1
    assert sum(map(len, pages)) == 2_400
    traces = [{span.trace_id for span in page} for page in pages]
    assert len(set.union(*traces)) == sum(map(len, traces)) == 1_200


# What can happen to one of five spans: it arrives in some version, or its delivery changes.
steps = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.one_of(
            st.tuples(st.just("arrives"), st.integers(0, 3)),
            st.tuples(st.just("marked"), st.sampled_from(list(Delivery)[1:])),
        ),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(steps, st.lists(st.booleans(), min_size=12, max_size=12))
def test_a_tail_from_any_cursor_sees_every_later_change(steps: list, looks: list[bool]) -> None:
    """A pane that looks now and then ends with the same rows as one that starts now."""
    with journal(forward=True) as (writer, open_reader):
        pane: dict[bytes, Span] = {}
        cursor, revisions = 0, []
        reader = open_reader()
        for (number, (what, value)), look in zip(steps, looks, strict=False):
            if what == "arrives":
                store(writer, body_of(wire_span(number, end_ns=value and SECOND * (5_000 + value))))
                wait_for(lambda: caught_up(reader))
            else:
                ends = SECOND * 5_001
                writer.mark([(trace_id(0), span_id(number), ends)], value, destination="d").result(timeout=20)
            revisions.append(reader.revision())
            if look:
                changes = reader.tail(cursor)
                assert all(change.revision > cursor for change in changes)
                pane.update({change.span_id: change for change in changes})
                cursor = changes[-1].revision if changes else cursor
        assert revisions == sorted(revisions)
        pane.update({change.span_id: change for change in reader.tail(cursor)})
        rows = reader.tail(0)
        assert sorted(pane.values(), key=lambda span: span.revision) == rows
        assert len({span.revision for span in rows}) == len(rows)
        assert all(span.revision <= reader.revision() for span in rows)


def test_a_journal_that_is_just_being_made_counts_as_none(state: StateDir) -> None:
    """Its relay starts: a reader comes again instead of reporting a broken file."""
    state.create()
    with closing(sqlite3.connect(state.journal)) as half_made:
        half_made.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value)")
    with pytest.raises(NoJournal):
        Reader(state.journal)
