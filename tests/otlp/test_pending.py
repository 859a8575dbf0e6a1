"""Spans that are announced when they start: shown as running under their own id, replaced when they end."""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from hermes_tui.journal.reader import Reader
from hermes_tui.otlp.codec import JSON, Request
from hermes_tui.otlp.portions import pick
from tests.journal.folders import journal
from tests.support import (
    body_of,
    caught_up,
    picture,
    span_id,
    spans_in,
    store,
    tail_all,
    trace_id,
    wait_for,
    wire_span,
)

ANNOUNCEMENT = 900


def announced(number: int, *, parent: int | None = None, zeros: bool = True) -> trace_pb2.Span:
    """What Logfire's PendingSpanProcessor sends when `wire_span(number, parent=parent)` starts."""
    span = wire_span(ANNOUNCEMENT + number, parent=number, session__id="s")
    span.start_time_unix_nano = wire_span(number).start_time_unix_nano
    span.end_time_unix_nano = span.start_time_unix_nano
    span.attributes.add(key="logfire.span_type").value.string_value = "pending_span"
    real_parent = bytes(8) if parent is None else span_id(parent)
    if parent is not None or zeros:
        span.attributes.add(key="logfire.pending_parent_id").value.string_value = real_parent.hex()
    return span


def real(number: int, *, parent: int | None = None) -> trace_pb2.Span:
    return wire_span(number, parent=parent, session__id="s", logfire__span_type="span")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("span", "parent"),
    [
        (announced(1, parent=7), span_id(7)),
        (announced(1), b""),
        (announced(1, zeros=False), b""),
    ],
)
def test_an_announcement_stands_for_the_span_itself(
    span: trace_pb2.Span, parent: bytes, as_json: bool
) -> None:
    request = Request(body_of(wire_span(3), span))
    if as_json:
        request = Request(request.to_json().encode(), JSON)
    ended = (trace_id(0), span_id(3), wire_span(3).end_time_unix_nano)
    assert request.ids() == [ended, (trace_id(0), span_id(1), 0)]
    other, entry = request.entries()
    assert (other.span_id, other.end_ns) == ended[1:]
    assert (entry.trace_id, entry.span_id, entry.parent_id, entry.end_ns) == (
        *request.ids()[1][:2],
        parent,
        0,
    )
    assert entry.start_ns == wire_span(1).start_time_unix_nano
    assert entry.facts == {"session": "s"}


def test_the_name_loses_what_older_versions_put_behind_it() -> None:
    span = announced(1)
    span.name = "chat (pending)"
    own = wire_span(2, name="chat (pending)")
    assert [entry.name for entry in Request(body_of(span, own)).entries()] == ["chat", "chat (pending)"]


@pytest.mark.parametrize("parent", [b"", bytes(8), b"short"])
def test_an_announcement_of_nothing_is_a_span_like_any_other(parent: bytes) -> None:
    span = announced(1)
    span.parent_span_id = parent
    request = Request(body_of(span))
    (entry,) = request.entries()
    assert request.ids() == [(span.trace_id, span.span_id, span.end_time_unix_nano)]
    assert (entry.span_id, entry.parent_id, entry.end_ns) == (span.span_id, b"", span.end_time_unix_nano)


@pytest.mark.parametrize("said", ["nonsense", "", "00", 5, None])
def test_a_parent_that_is_no_id_makes_a_root(said: str | int | None) -> None:
    span = announced(1, zeros=False)
    if said is not None:
        value = span.attributes.add(key="logfire.pending_parent_id").value
        setattr(value, "int_value" if isinstance(said, int) else "string_value", said)
    (entry,) = Request(body_of(span)).entries()
    assert (entry.span_id, entry.parent_id, entry.end_ns) == (span_id(1), b"", 0)


def test_a_text_that_only_mentions_it_changes_nothing() -> None:
    span = wire_span(1, parent=2, text="logfire.span_type=pending_span", logfire__span_type="span")
    assert Request(body_of(span)).ids() == [(span.trace_id, span.span_id, span.end_time_unix_nano)]


def test_it_is_picked_by_the_identity_it_stands_for() -> None:
    body = body_of(announced(1), real(1))
    request = Request(body)
    for key in request.ids():
        assert Request(pick(body, "application/x-protobuf", {key})).ids() == [key]


def test_the_span_itself_replaces_it_whatever_comes_first() -> None:
    early = [announced(1), announced(2, parent=1)]
    late = [real(2, parent=1), real(1)]
    alone = picture(spans_in(body_of(*late)))
    for bodies in (
        [body_of(*early), body_of(*late)],
        [body_of(*late), body_of(*early)],
        [body_of(*late, *early)],
    ):
        with journal() as (writer, open_reader):
            for body in bodies:
                store(writer, body)
            reader: Reader = open_reader()
            wait_for(lambda reader=reader: caught_up(reader))
            rows = tail_all(reader)
            assert {row.span_id for row in rows} == {span_id(1), span_id(2)}
            assert not any(row.running for row in rows)
            assert picture(rows) == alone
    folded = picture(span for body in (body_of(*early), body_of(*late)) for span in spans_in(body))
    assert folded == alone


def test_until_then_it_runs_below_its_true_parent() -> None:
    (session,) = picture(spans_in(body_of(announced(1), announced(2, parent=1)))).values()
    assert session["totals"]["running"] == 2
    assert session["totals"]["spans"] == 0
    assert session["spans"] == [span_id(1), span_id(2)]
