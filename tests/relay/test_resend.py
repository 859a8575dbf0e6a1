"""What `retry` puts back in the queue, and what it says became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import RequestState
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.relay import resend as module
from hermes_tui.relay.resend import Resender, kept_local, refused
from tests.processes import SpanKey, counts, span_keys, until
from tests.support import body_of, caught_up, store, wait_for, wire_span

Sql = Callable[..., list[Any]]
THERE = "http://there"


def body(number: int, *, session: str = "s", trace: int | None = None, count: int = 1) -> bytes:
    """Spans of one trace and session."""
    trace = number if trace is None else trace
    return body_of(
        *(wire_span(number * 100 + each, trace=trace, session__id=session) for each in range(count))
    )


def keys_of(*bodies: bytes) -> list[SpanKey]:
    return [key for each in bodies for key in span_keys(each)]


class Scene:
    """A journal with requests, and a destination that decides at once when it is tried again."""

    def __init__(self, state: StateDir, writer: Writer) -> None:
        self.state, self.writer = state, writer
        self.verdict: Delivery | None = Delivery.ACCEPTED
        self.tried = 0
        self.meanwhile: Callable[[], object] = lambda: None
        self.progress: list[tuple[int, int]] = []
        self.trouble = ""
        self.resender = Resender(state.journal, writer, self)

    def fill(self, *bodies: bytes) -> list[int]:
        numbers = store(self.writer, *bodies)
        wait_for(lambda: self._caught_up())
        return numbers

    def _caught_up(self) -> bool:
        with Reader(self.state.journal) as reader:
            return caught_up(reader)

    def mark(self, bodies: Sequence[bytes], delivery: Delivery, reason: str | None = None) -> None:
        self.writer.mark(keys_of(*bodies), delivery, destination=THERE, reason=reason).result(20)

    def try_again(self) -> None:
        self.tried += 1
        self.meanwhile()
        with Reader(self.state.journal) as reader:
            spans = [span for some in reader.spans_of(reader.traces()) for span in some]
        queued = [
            (each.trace_id, each.span_id, each.end_ns) for each in spans if each.delivery is Delivery.QUEUED
        ]
        if self.verdict is not None:
            self.writer.mark(queued, self.verdict, destination=THERE, reason="still bad").result(20)

    async def resend(self, session: str | None = None, *, local: bool = False) -> dict[str, Any]:
        async def progress(done: int, of: int) -> None:
            self.progress.append((done, of))

        return await self.resender.resend(session, local, progress)


@pytest.fixture
def scene(
    state: StateDir, open_writer: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Scene]:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(module, "_NO_ANSWER_S", 0.01)
    monkeypatch.setattr(module, "_LOOK_S", 0.005)
    monkeypatch.setattr(module, "_WINDOW", 3)  # so that a few rows are several windows
    monkeypatch.setattr(module, "_SPANS", 2)
    monkeypatch.setattr(module, "_NAMES", 2)
    return lambda **said: Scene(state, open_writer(**said))


def everywhere(**said: int) -> dict[str, int]:
    return {**{each.name.lower(): 0 for each in Delivery}, **said}


REPORT = {"sent_again": 0, "accepted": 0, "held": 0, "quarantined": 0, "queued": 0, "reasons": []}


@pytest.mark.parametrize(
    ("verdict", "report"),
    [
        pytest.param(Delivery.ACCEPTED, {"accepted": 5}, id="mended"),
        pytest.param(Delivery.CONFIRMED, {"accepted": 5}, id="mended and proven"),
        pytest.param(Delivery.HELD, {"held": 5, "reasons": ["still bad"]}, id="held again"),
        pytest.param(Delivery.QUARANTINED, {"quarantined": 5, "reasons": ["still bad"]}, id="refused again"),
        pytest.param(None, {"queued": 5}, id="nobody answers"),
    ],
)
async def test_refused_spans_are_sent_again(
    scene: Callable[..., Scene], sql: Sql, verdict: Delivery | None, report: dict[str, Any]
) -> None:
    run = scene(forward=True)
    held, bad, fine = [body(1), body(2)], [body(3, count=3)], [body(4), body(5), body(6)]
    run.fill(*held, *bad, *fine)
    run.mark(held, Delivery.HELD, "no rights")
    run.mark(bad, Delivery.QUARANTINED, "bad span")
    run.mark(fine, Delivery.ACCEPTED)
    run.verdict = verdict
    assert await run.resend() == {**REPORT, "sent_again": 5, **report}
    assert run.tried == 1
    assert run.progress[-1] == (0 if verdict is None else 5, 5)
    name = (verdict or Delivery.QUEUED).name.lower()
    expected = everywhere(accepted=3)
    expected[name] += 5
    assert counts(run.state) == expected
    assert run.progress[0] == (0 if verdict is None else 5, 5)
    if verdict is None:  # it is in the exporter's hands: the queue knows
        waiting = sql("SELECT count(*) FROM requests WHERE state = ?", RequestState.PARTED)
        assert waiting == [(3,)]


async def test_only_the_session_is_sent_again(scene: Callable[..., Scene]) -> None:
    run = scene(forward=True)
    ours, theirs = [body(1, session="a"), body(2, session="a")], [body(3, session="b")]
    # One trace, two sessions: each span counts in its own.
    mixed = body_of(wire_span(1, trace=9, session__id="a"), wire_span(2, trace=9, parent=1, session__id="b"))
    run.fill(*ours, *theirs, mixed)
    run.mark([*ours, *theirs, mixed], Delivery.QUARANTINED, "bad span")
    assert await run.resend("a") == {**REPORT, "sent_again": 3, "accepted": 3}
    assert counts(run.state) == everywhere(accepted=3, quarantined=2)
    assert await run.resend("nobody") == REPORT
    assert await run.resend() == {**REPORT, "sent_again": 2, "accepted": 2}
    assert counts(run.state) == everywhere(accepted=5)
    assert await run.resend() == REPORT


async def test_local_spans_go_when_asked_for(scene: Callable[..., Scene], sql: Sql) -> None:
    run = scene(forward=False)
    bodies = [body(number, session="ab"[number % 2], count=2) for number in range(10)]
    running = body_of(wire_span(5000, trace=1, session__id="a", end_ns=0))
    run.fill(*bodies, running)
    assert counts(run.state) == everywhere(local=20)
    assert await run.resend() == REPORT
    assert counts(run.state) == everywhere(local=20)
    assert await run.resend("a", local=True) == {**REPORT, "sent_again": 10, "accepted": 10}
    assert counts(run.state) == everywhere(local=10, accepted=10)
    assert await run.resend(local=True) == {**REPORT, "sent_again": 10, "accepted": 10}
    assert counts(run.state) == everywhere(accepted=20)
    assert sql("SELECT count(*) FROM requests WHERE state = ?", RequestState.LOCAL) == [(0,)]
    assert await run.resend(local=True) == REPORT


async def test_a_local_copy_of_what_was_delivered_is_not_sent(scene: Callable[..., Scene], sql: Sql) -> None:
    run = scene(forward=False)
    (number,) = run.fill(body(1))
    run.mark([body(1)], Delivery.CONFIRMED)
    sql("UPDATE requests SET state = ? WHERE id = ?", RequestState.LOCAL, number)
    await run.resend(local=True)
    assert counts(run.state) == everywhere(confirmed=1)
    assert sql("SELECT state FROM requests") == [(RequestState.PROVEN,)]


async def test_it_goes_on_waiting_while_something_moves(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scene(forward=True)
    bodies = [body(number) for number in range(6)]
    run.fill(*bodies)
    run.mark(bodies, Delivery.HELD, "no rights")
    run.verdict = None
    monkeypatch.setattr(module, "_PATIENCE_S", 60.0)
    task = asyncio.create_task(run.resend())
    for number, each in enumerate(bodies):
        await until(lambda number=number: (number, 6) in run.progress)
        run.mark([each], Delivery.ACCEPTED)
    assert (await task)["accepted"] == 6


async def test_what_was_purged_meanwhile_is_left_out(scene: Callable[..., Scene], sql: Sql) -> None:
    run = scene(forward=True)
    bodies = [body(number) for number in range(3)]
    run.fill(*bodies)
    run.mark(bodies, Delivery.HELD, "no rights")
    run.verdict = None
    run.meanwhile = lambda: sql("DELETE FROM spans WHERE rowid = 1")
    assert await run.resend() == {**REPORT, "sent_again": 3, "queued": 2}


def test_what_is_looked_for(scene: Callable[..., Scene]) -> None:
    run = scene(forward=False)
    numbers = run.fill(body(1), body(2), body(3))
    assert kept_local(run.state.journal, None) == numbers
    assert kept_local(run.state.journal, "nobody") == []
    assert refused(run.state.journal, None) == []
    run.mark([body(2)], Delivery.QUARANTINED, "x")
    assert refused(run.state.journal, None) == refused(run.state.journal, "s") == keys_of(body(2))


async def test_the_exporters_trouble_is_a_reason(scene: Callable[..., Scene]) -> None:
    run = scene(forward=True)
    run.fill(body(1))
    run.mark([body(1)], Delivery.HELD, "no rights")
    run.verdict, run.trouble = None, "nobody answers"
    assert await run.resend() == {**REPORT, "sent_again": 1, "queued": 1, "reasons": ["nobody answers"]}
