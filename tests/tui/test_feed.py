"""The thread that follows a journal, on a real one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.message import Message

from hermes_tui.journal import delivery as delivery_module
from hermes_tui.journal.delivery import Snapshot
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery, Span
from hermes_tui.tui import feed as feed_module
from hermes_tui.tui.feed import Feed
from hermes_tui.tui.messages import DeliveryMoved, JournalMoved, SpansArrived
from tests.support import (
    SECOND,
    body_of,
    recorded_requests,
    recorded_spans,
    store,
    trace_id,
    wait_for,
    wire_span,
)

Open = Callable[..., Writer]


class Inbox:
    """A feed's messages, as the pane would get them."""

    def __init__(self, state: StateDir) -> None:
        self.messages: list[Message] = []
        self.feed = Feed(state.journal, self.messages.append)

    @property
    def arrived(self) -> list[SpansArrived]:
        return [message for message in self.messages if isinstance(message, SpansArrived)]

    @property
    def moved(self) -> list[JournalMoved]:
        return [message for message in self.messages if isinstance(message, JournalMoved)]

    @property
    def deliveries(self) -> list[DeliveryMoved]:
        return [message for message in self.messages if isinstance(message, DeliveryMoved)]

    def known(self) -> tuple[str | None, dict[tuple[bytes, bytes], Span]]:
        """What a pane would have folded by now: session, and the newest version of each span."""
        session, spans = None, {}
        for message in self.arrived:
            if message.fresh:
                session, spans = message.session, {}
            assert message.session == session
            spans.update({(span.trace_id, span.span_id): span for span in message.spans})
        return session, spans

    def names(self) -> list[str]:
        return sorted(span.name for span in self.known()[1].values())

    def shows(self, session: str, *names: str) -> bool:
        return self.known()[0] == session and self.names() == sorted(names)


@pytest.fixture
def inbox(state: StateDir) -> Iterator[Inbox]:
    box = Inbox(state)
    box.feed.start()
    yield box
    box.feed.stop()


def span_body(number: int, name: str, *, session: str = "s", trace: int = 0, **said: object) -> bytes:
    return body_of(wire_span(number, name=name, trace=trace, session__id=session, **said))  # type: ignore[arg-type]


def test_spans_arrive_as_they_are_written(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, span_body(1, "one"))
    wait_for(lambda: inbox.shows("s", "one"))
    first = inbox.arrived[0]
    assert (first.fresh, first.complete) == (True, True)
    store(writer, span_body(2, "two"))
    wait_for(lambda: inbox.shows("s", "one", "two"))
    assert [message.fresh for message in inbox.arrived].count(True) == 1
    wait_for(lambda: inbox.moved and inbox.moved[-1].newest == "s")


def test_a_recording_arrives_whole_and_each_span_is_sent_once(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    bodies = recorded_requests("approval")
    store(writer, bodies[0])
    wait_for(lambda: inbox.known()[1])
    for body in bodies[1:]:
        store(writer, body)
    wanted = {(span.trace_id, span.span_id) for span in recorded_spans("approval")}
    wait_for(lambda: inbox.known()[1].keys() == wanted)
    sent = [(span.trace_id, span.span_id) for message in inbox.arrived for span in message.spans]
    assert len(sent) <= len(wanted) + 2  # a commit between "which traces" and "their spans" is seen twice


def test_an_idle_journal_sends_nothing(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, span_body(1, "one"))
    wait_for(lambda: inbox.shows("s", "one"))
    looks = feed_module.Reader.changed
    counted: list[int] = []

    def changed(reader: feed_module.Reader) -> bool:
        counted.append(1)
        return looks(reader)

    feed_module.Reader.changed = changed  # type: ignore[method-assign]
    try:
        wait_for(lambda: len(counted) > 5)
        quiet = len(inbox.messages)
        seen = len(counted)
        wait_for(lambda: len(counted) > seen + 20)
        assert len(inbox.messages) == quiet
    finally:
        feed_module.Reader.changed = looks  # type: ignore[method-assign]


def test_a_delivery_mark_is_a_change(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer(forward=True)
    store(writer, span_body(1, "one"))
    wait_for(lambda: inbox.shows("s", "one"))
    (span,) = inbox.known()[1].values()
    assert span.delivery is Delivery.QUEUED
    mark = (span.trace_id, span.span_id, span.end_ns)
    writer.mark([mark], Delivery.CONFIRMED, destination="d").result(20)
    wait_for(lambda: [s.delivery for s in inbox.known()[1].values()] == [Delivery.CONFIRMED])


def test_what_the_relay_says_arrives(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, span_body(1, "one"))
    writer.set_meta("exporter", {"state": "held", "reason": "why"}).result(20)
    wait_for(lambda: inbox.moved and inbox.moved[-1].says.exporter == {"state": "held", "reason": "why"})
    writer.set_meta("proof", {"readable": False}).result(20)
    writer.set_meta("keeping", {"full": True}).result(20)
    wait_for(lambda: inbox.moved[-1].says.unreadable and inbox.moved[-1].says.full)


# ---- how delivery stands


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the feed looked at how delivery stands."""
    found: list[float] = []
    real = delivery_module.look

    def look(*arguments: Any) -> Snapshot:
        found.append(time.monotonic())
        return real(*arguments)

    monkeypatch.setattr(delivery_module, "look", look)
    return found


def test_nobody_looks_at_delivery_unless_asked(inbox: Inbox, open_writer: Open, looks: list[float]) -> None:
    writer = open_writer()
    for number in range(5):
        store(writer, span_body(number, f"n{number}"))
        wait_for(lambda number=number: len(inbox.known()[1]) == number + 1)  # type: ignore[misc]
    assert looks == []
    inbox.feed.look_at_delivery(())
    wait_for(lambda: inbox.deliveries)
    assert inbox.deliveries[-1].session == "s"
    assert inbox.deliveries[-1].snapshot.counts == {Delivery.LOCAL: 5}
    inbox.feed.look_at_delivery(None)
    seen = len(looks)
    store(writer, span_body(9, "last"))
    wait_for(lambda: len(inbox.known()[1]) == 6)
    assert len(looks) == seen


def test_delivery_is_looked_at_again_only_after_a_change(
    inbox: Inbox, open_writer: Open, looks: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_DELIVERY_S", 0.05)
    writer = open_writer()
    store(writer, span_body(1, "one"))
    wait_for(lambda: inbox.shows("s", "one"))
    inbox.feed.look_at_delivery(())
    wait_for(lambda: inbox.deliveries)
    wait_for(lambda: inbox.feed._delivery_at < time.monotonic() and not inbox.feed._delivery_moved)
    seen = len(looks)
    polled: list[int] = []
    changed = feed_module.Reader.changed
    monkeypatch.setattr(feed_module.Reader, "changed", lambda reader: polled.append(1) or changed(reader))
    wait_for(lambda: len(polled) > 10)
    assert len(looks) == seen
    store(writer, span_body(2, "two"))
    wait_for(lambda: inbox.deliveries[-1].snapshot.counts == {Delivery.LOCAL: 2})


def test_a_journal_that_never_rests_is_not_looked_at_for_every_change(
    inbox: Inbox, open_writer: Open, looks: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert feed_module._DELIVERY_S == 0.5
    monkeypatch.setattr(feed_module, "_DELIVERY_S", 3_600.0)
    writer = open_writer()
    store(writer, span_body(0, "n"))
    wait_for(lambda: inbox.known()[1])
    inbox.feed.look_at_delivery(())
    wait_for(lambda: inbox.feed._delivery_at)
    for number in range(1, 6):
        store(writer, span_body(number, "n"))
        wait_for(lambda number=number: len(inbox.known()[1]) == number + 1)  # type: ignore[misc]
    assert len(looks) == 1
    inbox.feed.look_at_delivery(())  # who asks need not wait
    wait_for(lambda: inbox.deliveries[-1].snapshot.counts == {Delivery.LOCAL: 6})


def test_a_look_that_takes_long_is_taken_seldom(
    inbox: Inbox, open_writer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = delivery_module.look
    begun: list[float] = []

    def slow(*arguments: Any) -> Snapshot:
        begun.append(time.monotonic())
        time.sleep(0.1)
        return real(*arguments)

    monkeypatch.setattr(delivery_module, "look", slow)
    store(open_writer(), span_body(1, "one"))
    wait_for(lambda: inbox.known()[1])
    inbox.feed.look_at_delivery(())
    wait_for(lambda: inbox.deliveries and inbox.feed._delivery_at)
    assert inbox.feed._delivery_at >= begun[0] + 2.0  # 20 times as long


def test_answers_to_wishes_arrive(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, span_body(1, "one"))
    wait_for(lambda: inbox.known()[1])
    inbox.feed.look_at_delivery(("w",))
    wait_for(lambda: inbox.deliveries)
    assert inbox.deliveries[-1].snapshot.answers == {}
    row = ("w", 1, "done", '{"spans": 3}')
    statement = "INSERT INTO answers (wish, at_ns, state, document) VALUES (?, ?, ?, ?)"
    writer.do(lambda pen: pen.connection.execute(statement, row) and None).result(20)
    wait_for(lambda: inbox.deliveries[-1].snapshot.answers == {"w": ("done", {"spans": 3})})


def test_another_session_brings_its_own_delivery(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, span_body(1, "one"), received_ns=1)
    store(writer, span_body(2, "two", session="t", trace=1), received_ns=2)
    wait_for(lambda: inbox.known()[0] is not None)
    inbox.feed.show("t")
    inbox.feed.look_at_delivery(())
    wait_for(lambda: inbox.deliveries and inbox.deliveries[-1].session == "t")
    inbox.feed.show("s")
    wait_for(lambda: inbox.deliveries[-1].session == "s")


# ---- sessions


def test_a_second_session_is_announced_and_not_mixed_in(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, span_body(1, "one"))
    wait_for(lambda: inbox.shows("s", "one"))
    store(writer, span_body(2, "other", session="t", trace=1))
    wait_for(lambda: inbox.moved and inbox.moved[-1].newest == "t")
    assert [row.session for row in inbox.moved[-1].sessions] == ["t", "s"]
    store(writer, span_body(3, "two"))
    wait_for(lambda: inbox.shows("s", "one", "two"))


def test_another_session_is_sent_whole_when_asked_for(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, span_body(1, "a"), span_body(2, "b", session="t", trace=1), span_body(3, "c", trace=2))
    wait_for(lambda: inbox.known()[1])
    inbox.feed.show("t")
    wait_for(lambda: inbox.shows("t", "b"))
    inbox.feed.show("s")
    wait_for(lambda: inbox.shows("s", "a", "c"))
    store(writer, span_body(4, "d", session="t", trace=1), span_body(5, "e"))
    wait_for(lambda: inbox.shows("s", "a", "c", "e"))


def test_a_session_asked_for_before_there_is_a_journal_is_the_one_that_is_sent(
    state: StateDir, open_writer: Open
) -> None:
    box = Inbox(state)
    box.feed.show("old")
    box.feed.start()
    try:
        writer = open_writer()
        store(writer, span_body(1, "a", session="old"), span_body(2, "b", session="new", trace=1))
        wait_for(lambda: box.shows("old", "a"))
    finally:
        box.feed.stop()


def test_a_trace_that_joins_the_session_late_is_sent_whole(inbox: Inbox, open_writer: Open) -> None:
    """The first spans of a trace may not name their session."""
    writer = open_writer()
    store(writer, span_body(1, "one"))
    wait_for(lambda: inbox.shows("s", "one"))
    store(writer, body_of(wire_span(10, name="nameless", trace=1, parent=11)))
    store(writer, span_body(11, "named", trace=1))
    wait_for(lambda: inbox.shows("s", "one", "nameless", "named"))


def test_a_subagents_spans_come_with_the_trace_they_are_in(inbox: Inbox, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, span_body(1, "one"), span_body(2, "child", session="sub"))
    wait_for(lambda: inbox.shows("s", "one", "child"))


def test_the_newest_traces_of_a_long_session_come_first(state: StateDir, open_writer: Open) -> None:
    writer = open_writer()
    count = 60
    numbers = [(7 * number) % count for number in range(count)]  # trace ids say nothing about age
    for at, number in enumerate(numbers):
        store(
            writer,
            span_body(number, f"n{number}", trace=number, start_ns=SECOND * (1_000 + at)),
            received_ns=at + 1,
        )
    wait_for(lambda: writer._index.behind is False)
    box = Inbox(state)
    box.feed.start()
    try:
        wait_for(lambda: len(box.known()[1]) == count)
    finally:
        box.feed.stop()
    first, *rest = box.arrived
    assert (first.fresh, first.complete) == (True, False)
    assert {span.trace_id for span in first.spans} == {trace_id(number) for number in numbers[-20:]}
    assert [message.complete for message in rest] == [False] * (len(rest) - 1) + [True]


def test_switching_away_stops_a_long_session(
    state: StateDir, open_writer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_FIRST_TRACES", 2)
    monkeypatch.setattr(feed_module, "_MORE_TRACES", 1)
    writer = open_writer()
    store(writer, span_body(99, "b", session="t", trace=99))
    for number in range(30):
        store(writer, span_body(number, f"n{number}", trace=number))
    messages: list[Message] = []

    def post(message: Message) -> None:
        messages.append(message)
        if isinstance(message, SpansArrived) and message.fresh and message.session == "s":
            feed.show("t")

    feed = Feed(state.journal, post)
    feed.show("s")
    feed.start()
    try:
        wait_for(lambda: any(isinstance(m, SpansArrived) and m.session == "t" for m in messages))
    finally:
        feed.stop()
    of_first = [m for m in messages if isinstance(m, SpansArrived) and m.session == "s"]
    assert len(of_first) == 1


def test_news_wait_until_those_of_before_are_taken_and_a_rest_in_proportion(
    state: StateDir, open_writer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that keys are heard and the screen is painted, however long it takes to take news in."""
    monkeypatch.setattr(feed_module, "_PATIENCE_S", 3600.0)
    took, arrived = 0.2, list[tuple[float, SpansArrived]]()

    def post(message: Message) -> None:
        if isinstance(message, SpansArrived):
            arrived.append((time.monotonic(), message))

    writer = open_writer()
    store(writer, span_body(0, "n0"))
    feed = Feed(state.journal, post, paced=True)
    feed.start()
    try:
        wait_for(lambda: arrived)
        for number in range(1, 20):
            store(writer, span_body(number, f"n{number}"))
        assert len(arrived) == 1  # nobody said that the first are on the screen
        taken, rested = 0, 0.0
        while sum(len(message.spans) for _, message in arrived) < 20:
            before = taken
            wait_for(lambda before=before: len(arrived) > before)
            taken, at = len(arrived), time.monotonic()
            assert taken == before + 1
            assert arrived[-1][0] >= rested
            rested = at + 2 * took
            feed.go_on(took)
    finally:
        feed.stop()
    names = {span.name for _, message in arrived for span in message.spans}
    assert names == {f"n{number}" for number in range(20)}


def test_a_replaced_journal_is_read_from_its_beginning(inbox: Inbox, state: StateDir) -> None:
    old = Writer(state, synchronous="OFF")
    store(old, span_body(1, "one"), span_body(2, "two"))
    wait_for(lambda: inbox.shows("s", "one", "two"))
    old.close()
    for path in state.path.glob("journal.db*"):
        os.replace(path, path.with_name(f"gone-{path.name}"))
    fresh = Writer(state, synchronous="OFF")
    try:
        store(fresh, span_body(3, "three"))
        wait_for(lambda: inbox.shows("s", "three"))
        assert sum(message.fresh for message in inbox.arrived) >= 2
    finally:
        fresh.close()


def test_a_rebuilt_index_is_read_from_its_beginning(
    inbox: Inbox, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer relay may drop the index and make it anew: same file, another epoch, other revisions."""
    first = Writer(state, synchronous="OFF")
    store(first, span_body(1, "one"), span_body(2, "two"))
    wait_for(lambda: inbox.shows("s", "one", "two"))
    first.close()
    before = len(inbox.arrived)
    monkeypatch.setattr("hermes_tui.journal.opening.INDEX_VERSION", 99)
    second = Writer(state, synchronous="OFF")
    try:
        store(second, span_body(3, "three"))
        wait_for(lambda: inbox.shows("s", "one", "two", "three"))
        assert any(message.fresh for message in inbox.arrived[before:])
    finally:
        second.close()


def test_stop_does_not_wait_for_a_journal(state: StateDir) -> None:
    box = Inbox(state)
    box.feed.start()
    begin = time.monotonic()
    box.feed.stop()
    assert time.monotonic() - begin < 5
    assert not box.feed._thread.is_alive()
    assert box.messages == []


def test_more_than_500_sessions_are_told(inbox: Inbox, state: StateDir, open_writer: Open) -> None:
    """Older ones once vanished from the switcher without a word."""
    spans = [wire_span(at, name="n", trace=at, session__id=f"s{at}") for at in range(520)]
    store(open_writer(), body_of(*spans))
    wait_for(lambda: inbox.moved and len(inbox.moved[-1].sessions) == 520)
