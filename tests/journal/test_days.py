"""The last days of a whole journal: read in portions, read again where something arrived, and forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hermes_tui.journal import days as days_module
from hermes_tui.journal.days import Days
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.days import Day, midnights
from tests.support import (
    SECOND,
    body_of,
    caught_up,
    fold,
    recorded_requests,
    recorded_spans,
    store,
    trace_id,
    wait_for,
    wire_span,
)

Open = Callable[..., Writer]
DAY = 24 * 3_600 * SECOND
NOW = 1_800_000_000 * SECOND
TODAY = midnights(NOW)[-1]


def fill(writer: Writer, reader: Reader, *bodies: bytes, at_ns: int) -> None:
    store(writer, *bodies, received_ns=at_ns)
    wait_for(lambda: caught_up(reader))


def turn(trace: int, *, start_ns: int = NOW, tokens: int = 100, first: int = 0, calls: int = 1) -> bytes:
    """A turn's root, in the first of its bodies, and some model calls of `tokens` each."""
    root = wire_span(
        trace * 100, trace=trace, name="agent", start_ns=start_ns, end_ns=start_ns + SECOND,
        session__id=f"s{trace}",
    )  # fmt: skip
    spans = [
        wire_span(
            trace * 100 + number + 1, parent=trace * 100, trace=trace, name="api.gpt",
            start_ns=start_ns, end_ns=start_ns + SECOND, session__id=f"s{trace}",
            llm__token_count__prompt=tokens, llm__token_count__completion=1,
            openinference__span__kind="LLM",
        )
        for number in range(first, first + calls)
    ]  # fmt: skip
    return body_of(*([] if first else [root]), *spans)


def all_of(days: Days, reader: Reader, now_ns: int = NOW) -> list[tuple[int, int, int]]:
    """(days ago, input tokens, sessions), once all is read."""
    days.look(reader, now_ns)
    while not days.step(reader):
        pass
    found = days.days()
    assert all(day.whole for day in found)
    newest = max((day.date for day in found), default=None)
    assert newest is not None
    return [((newest - day.date).days, day.usage.input_tokens, day.sessions) for day in found]


def test_all_sessions_of_the_last_days(open_writer: Open, open_reader: Callable[[], Reader]) -> None:
    writer, reader = open_writer(), open_reader()
    for trace, ago in enumerate((0, 0, 1, 6, 7, 30)):
        start = TODAY - ago * DAY + 60 * SECOND
        fill(writer, reader, turn(trace, start_ns=start, tokens=10**trace), at_ns=start + SECOND)
    assert all_of(Days(), reader) == [(0, 11, 2), (1, 100, 1), (6, 1_000, 1)]


@pytest.mark.parametrize("name", ["subagents", "v123_preview", "interrupted", "approval"])
def test_it_agrees_with_the_sessions(open_writer: Open, open_reader: Callable[[], Reader], name: str) -> None:
    spans = recorded_spans(name)
    now = max(span.end_ns for span in spans) + SECOND
    writer, reader = open_writer(), open_reader()
    fill(writer, reader, *recorded_requests(name), at_ns=now)
    days = Days()
    all_of(days, reader, now)
    wanted = sum(session.totals.usage.input_tokens for session in fold(spans).values())
    assert sum(day.usage.input_tokens for day in days.days()) == wanted


def test_only_what_changed_is_read_again(
    open_writer: Open, open_reader: Callable[[], Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    original = days_module.views

    def noted(reader: Reader, traces: list[bytes]) -> object:
        read.extend(traces)
        return original(reader, traces)

    monkeypatch.setattr(days_module, "views", noted)
    writer, reader, days = open_writer(), open_reader(), Days()
    for trace in range(25):
        fill(writer, reader, turn(trace), at_ns=NOW + trace)
    assert all_of(days, reader) == [(0, 2_500, 25)]
    assert sorted(read) == [trace_id(trace) for trace in range(25)]
    read.clear()
    assert all_of(days, reader) == [(0, 2_500, 25)]
    assert read == []
    fill(writer, reader, turn(4, first=1, calls=2), at_ns=NOW + SECOND)
    assert all_of(days, reader) == [(0, 2_700, 25)]
    assert read == [trace_id(4)]


def test_a_step_is_bounded_and_the_newest_come_first(
    open_writer: Open, open_reader: Callable[[], Reader]
) -> None:
    writer, reader, days = open_writer(), open_reader(), Days()
    for trace in range(30):
        start = TODAY - (29 - trace) // 10 * DAY
        fill(writer, reader, turn(trace, start_ns=start, calls=9), at_ns=start + trace + 1)
    days.look(reader, NOW)
    steps: list[list[tuple[int, bool]]] = []
    done = False
    while not done:
        done = days.step(reader, spans=100)
        steps.append([(day.calls, day.whole) for day in days.days()])
    assert steps == [
        [(90, True)],
        [(90, True), (90, True)],
        [(90, True), (90, True), (90, True)],
    ]


def test_what_the_newest_unread_trace_may_add_to_is_not_whole(
    open_writer: Open, open_reader: Callable[[], Reader]
) -> None:
    writer, reader, days = open_writer(), open_reader(), Days()
    for trace in range(15):
        fill(writer, reader, turn(trace, start_ns=TODAY), at_ns=TODAY + trace + 1)
    days.look(reader, NOW)
    assert not days.step(reader, spans=1)
    (today,) = days.days()
    assert (today.calls, today.whole) == (10, False)
    assert days.step(reader, spans=1)
    (today,) = days.days()
    assert (today.calls, today.whole) == (15, True)


def test_too_many_traces_make_older_days_incomplete(
    open_writer: Open, open_reader: Callable[[], Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days_module, "TRACES", 3)
    writer, reader, days = open_writer(), open_reader(), Days()
    for trace, ago in enumerate((0, 0, 1, 1, 2)):
        start = TODAY - ago * DAY
        fill(writer, reader, turn(trace, start_ns=start), at_ns=start + trace + 1)
    days.look(reader, NOW)
    assert days.step(reader)
    assert [(day.calls, day.whole) for day in days.days()] == [(2, True), (1, False)]


def test_a_day_passes(open_writer: Open, open_reader: Callable[[], Reader]) -> None:
    writer, reader, days = open_writer(), open_reader(), Days()
    for trace, ago in enumerate((0, 6)):
        start = TODAY - ago * DAY + 60 * SECOND
        fill(writer, reader, turn(trace, start_ns=start), at_ns=start)
    assert all_of(days, reader) == [(0, 100, 1), (6, 100, 1)]
    assert all_of(days, reader, NOW + DAY) == [(0, 100, 1)]


def test_nothing_lately_is_no_day(open_writer: Open, open_reader: Callable[[], Reader]) -> None:
    writer, reader, days = open_writer(), open_reader(), Days()
    fill(writer, reader, turn(1, start_ns=SECOND), at_ns=2 * SECOND)
    days.look(reader, NOW)
    assert days.step(reader)
    nothing: tuple[Day, ...] = ()
    assert days.days() == nothing
