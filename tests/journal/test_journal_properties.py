"""Through the real journal: whatever the order, the repeats and the batches, the same sessions come out."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1 import trace_pb2

from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Span
from tests.journal.folders import journal
from tests.support import (
    SECOND,
    body_of,
    caught_up,
    fold,
    picture,
    recorded_requests,
    recorded_spans,
    recording_names,
    store,
    tail_all,
    totals_of,
    wait_for,
    wire_span,
    wire_spans_in,
)
from tests.truths import check_against_truth

NAMES = recording_names()
SMALL = [
    "api_error",
    "subagent_children",
    "interrupted",
    "v123_subagent",
    "three_turns",
    "timeout_background",
]


@cache
def expected(name: str) -> dict[str, Any]:
    return picture(recorded_spans(name))


@cache
def wire(name: str) -> list[trace_pb2.Span]:
    return [span for body in recorded_requests(name) for span in wire_spans_in(body)]


def read_all(reader: Reader) -> list[Span]:
    wait_for(lambda: caught_up(reader))
    return [span for page in reader.spans_of(reader.traces()) for span in page]


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_through_the_journal_agrees_with_the_bytes(name: str) -> None:
    with journal() as (writer, open_reader):
        store(writer, *recorded_requests(name))
        reader = open_reader()
        spans = read_all(reader)
        check_against_truth(name, spans)
        assert picture(spans) == expected(name)
        for span, detail in reader.details(spans):
            assert detail.status is span.status
        for session in fold(spans):
            found = [span for page in reader.spans_of(reader.traces_of(session)) for span in page]
            assert totals_of(fold(found)[session].totals) == totals_of(fold(spans)[session].totals)


@settings(max_examples=12)
@given(st.sampled_from(SMALL), st.randoms(use_true_random=False))
def test_any_order_repeats_and_batches(name: str, random: Random) -> None:
    """Two looks at the tail on the way see the same as one at the end."""
    spans = [*wire(name), *random.sample(wire(name), 4)]
    random.shuffle(spans)
    with journal() as (writer, open_reader):
        reader = open_reader()
        forests = {session: Forest(session) for session in fold(recorded_spans(name))}
        cursor = 0
        while spans:
            size = random.randint(1, 8)
            batch, spans = spans[:size], spans[size:]
            store(writer, body_of(*batch))
            if random.random() < 0.3:
                cursor = follow(reader, forests, cursor)
        wait_for(lambda: caught_up(reader))
        follow(reader, forests, cursor)
        assert picture(read_all(reader)) == expected(name)
        for session, forest in forests.items():
            assert totals_of(forest.totals()) == expected(name)[session]["totals"]


def follow(reader: Reader, forests: dict[str, Forest], cursor: int) -> int:
    changes = tail_all(reader, cursor)
    for forest in forests.values():
        forest.add(changes)
        forest.refresh()
    return changes[-1].revision if changes else cursor


@st.composite
def versions(draw: st.DrawFn) -> list[trace_pb2.Span]:
    """Versions of three spans that differ in anything: end, start, parent, name, status or content."""
    return [
        wire_span(
            draw(st.integers(0, 2)),
            parent=draw(st.sampled_from([None, 0, 1, 2])),
            name=draw(st.sampled_from(["agent", "api.m", "step"])),
            end_ns=draw(st.sampled_from([0, SECOND * 2_000, SECOND * 3_000])),
            status=draw(st.sampled_from([0, 1])),
            session__id=draw(st.sampled_from(["a", "b"])),
        )
        for _ in range(draw(st.integers(2, 6)))
    ]


@settings(max_examples=25)
@given(versions(), st.randoms(use_true_random=False))
def test_conflicting_versions_resolve_the_same_in_any_order(
    spans: list[trace_pb2.Span], random: Random
) -> None:
    shuffled = random.sample(spans, len(spans))
    assert stored(spans, random) == stored(shuffled, random)


def stored(spans: list[trace_pb2.Span], random: Random) -> list[tuple[Any, ...]]:
    """The rows that a journal keeps of spans which arrive in this order, in some batches."""
    with journal() as (writer, open_reader):
        send(writer, spans, random)
        return sorted(
            (s.span_id, s.parent_id, s.name, s.kind, s.role, s.status, s.start_ns, s.end_ns, s.session)
            for s in read_all(open_reader())
        )


def send(writer: Writer, spans: list[trace_pb2.Span], random: Random) -> None:
    while spans:
        size = random.randint(1, len(spans))
        store(writer, body_of(*spans[:size]))
        spans = spans[size:]
