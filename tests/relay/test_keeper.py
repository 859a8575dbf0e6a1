"""The keeper: what goes by age and size and what never does, and what is purged is gone from the files."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from hermes_tui.journal import forgetting, marks
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import RequestState
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Envelope, Writer
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import JSON, read
from hermes_tui.relay import keeper as keeper_module
from hermes_tui.relay.clock import Clock
from hermes_tui.relay.keeper import Keeper
from hermes_tui.settings import Retention
from hermes_tui.tui.feed import Feed
from hermes_tui.tui.messages import SpansArrived
from tests.processes import until
from tests.support import SECOND, body_of, caught_up, envelope, span_id, tail_all, trace_id, wire_span

HOUR = 3600 * SECOND
DAY = 24 * HOUR
NOW = 1_700_000_000 * SECOND
HERE, ELSEWHERE = "http://here", "http://elsewhere"
LOCAL, QUEUED, ACCEPTED, CONFIRMED, HELD, QUARANTINED = Delivery


@dataclass
class Times:
    """Both clocks, set by hand."""

    wall_ns: int = NOW
    steady_s: float = 1_000.0

    def clock(self, known: dict[str, Any], absence_s: float) -> Clock:
        return Clock(known, absence_s, wall_ns=lambda: self.wall_ns, steady=lambda: self.steady_s)

    def advance(self, seconds: float) -> None:
        self.wall_ns += int(seconds * SECOND)
        self.steady_s += seconds


class House:
    """A journal with its keeper, whose rounds the tests start themselves."""

    def __init__(self, state: StateDir, retention: Retention, destination: str | None) -> None:
        self.state, self.times = state, Times()
        self._retention, self._destination = retention, destination
        self._count = 0
        self.open()

    def open(self) -> None:
        self.writer = Writer(self.state, forward=self._destination is not None, synchronous="OFF")
        self.keeper = Keeper(
            self.state,
            self.writer,
            self._retention,
            destination=self._destination,
            clock=self.times.clock,
        )

    def close(self) -> None:
        self.keeper.close()
        self.writer.close()

    async def receive(self, *spans: Any, ago_ns: int = 0, **said: Any) -> int:
        """A request that arrived so long ago; its id. Indexed when this returns."""
        stored = envelope(body_of(*spans), received_ns=self.times.wall_ns - ago_ns, **said)
        number = await asyncio.wrap_future(self.writer.append(stored))
        with Reader(self.state.journal) as reader:
            await until(lambda: caught_up(reader))
        return number

    async def mark(
        self, number: int, *keys: tuple[bytes, bytes, int], delivery: Delivery, where: str = HERE
    ) -> None:
        """As the exporter and the prover do, down to the request's state."""
        marking = self.writer.mark(keys, delivery, destination=where, reason="why", parted=[number])
        await asyncio.wrap_future(marking)
        await asyncio.wrap_future(self.writer.do(lambda pen: marks.restate(pen, [number])))

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        with closing(sqlite3.connect(self.state.journal)) as connection:
            return connection.execute(statement, parameters).fetchall()

    def requests(self) -> list[int]:
        return [row[0] for row in self.rows("SELECT id FROM requests ORDER BY id")]

    def spans(self) -> set[bytes]:
        with Reader(self.state.journal) as reader:
            return {span.span_id for span in tail_all(reader)}

    def epoch(self) -> str:
        return str(self.rows("SELECT value FROM meta WHERE key = 'epoch'")[0][0])


@pytest.fixture
async def house(state: StateDir) -> AsyncIterator[Callable[..., House]]:
    """Open houses; closed at the end."""
    opened: list[House] = []

    def made(destination: str | None = HERE, **limits: Any) -> House:
        opened.append(House(state, Retention(**{"days": 14, "max_bytes": 0, **limits}), destination))
        return opened[-1]

    yield made
    for each in opened:
        each.close()


def key(number: int, trace: int = 0) -> tuple[bytes, bytes, int]:
    """How a mark names what `wire_span(number, trace=trace)` makes."""
    return trace_id(trace), span_id(number), SECOND * (1_001 + number)


# ---- by age


def a_span(number: int, session: str = "s", **said: Any) -> Any:
    return wire_span(number, session__id=session, **said)


FATES: list[tuple[str, list[tuple[Delivery, str]], bool]] = [
    # the deliveries of a past request's spans and where they are, and whether it goes
    ("confirmed", [(CONFIRMED, HERE), (CONFIRMED, HERE)], True),
    ("queued", [(QUEUED, "")], False),
    ("held", [(HELD, HERE)], False),
    ("quarantined", [(QUARANTINED, HERE)], False),
    ("confirmed, but one quarantined", [(CONFIRMED, HERE), (QUARANTINED, HERE)], False),
    ("confirmed, but one queued", [(CONFIRMED, HERE), (QUEUED, "")], False),
    ("accepted, not read back yet", [(ACCEPTED, HERE)], False),
    ("accepted by a destination of before", [(ACCEPTED, ELSEWHERE)], True),
    ("some confirmed here, some accepted elsewhere", [(CONFIRMED, HERE), (ACCEPTED, ELSEWHERE)], True),
    ("some accepted here, some elsewhere", [(ACCEPTED, HERE), (ACCEPTED, ELSEWHERE)], False),
    ("accepted elsewhere, but one quarantined", [(ACCEPTED, ELSEWHERE), (QUARANTINED, HERE)], False),
]


@pytest.mark.parametrize(("what", "deliveries", "goes"), FATES, ids=[fate[0] for fate in FATES])
async def test_only_what_is_where_it_can_get_to_goes(
    house: Callable[..., House], what: str, deliveries: list[tuple[Delivery, str]], goes: bool
) -> None:
    here = house()
    number = await here.receive(*(a_span(each) for each in range(len(deliveries))), ago_ns=15 * DAY)
    for each, (delivery, where) in enumerate(deliveries):
        if delivery is not QUEUED:
            await here.mark(number, key(each), delivery=delivery, where=where)
    forgotten = await here.keeper.forget()
    assert here.requests() == ([] if goes else [number]), what
    assert len(here.spans()) == (0 if goes else len(deliveries))
    assert (forgotten.requests, forgotten.spans) == ((1, len(deliveries)) if goes else (0, 0))
    for table in ("marks", "traces", "trace_sessions"):
        assert bool(here.rows(f"SELECT 1 FROM {table}")) is (
            not goes and (table != "marks" or what != "queued")
        )


@pytest.mark.parametrize(("readable", "goes"), [(False, True), (True, False), (None, False)])
async def test_what_a_destination_accepted_that_cannot_be_read_goes(
    house: Callable[..., House], readable: bool | None, goes: bool
) -> None:
    here = house()
    number = await here.receive(a_span(1), ago_ns=15 * DAY)
    await here.mark(number, key(1), delivery=ACCEPTED)
    await asyncio.wrap_future(here.writer.set_meta("proof", {"readable": readable}))
    await here.keeper.forget()
    assert here.requests() == ([] if goes else [number])


async def test_without_a_destination_everything_past_goes(house: Callable[..., House]) -> None:
    here = house(destination=None)
    await here.receive(a_span(1), a_span(2, end_ns=0), ago_ns=15 * DAY)  # one of them still runs
    kept = await here.receive(a_span(3, "t", trace=1), ago_ns=13 * DAY)
    await here.keeper.forget()
    assert here.requests() == [kept]


async def test_a_span_that_still_runs_does_not_keep_its_request(house: Callable[..., House]) -> None:
    here = house()
    number = await here.receive(a_span(1), a_span(2, end_ns=0), ago_ns=15 * DAY)
    await here.mark(number, key(1), delivery=CONFIRMED)
    await here.keeper.forget()
    assert here.requests() == []


@dataclass(frozen=True)
class Arrival:
    """A request: its spans as (session, trace), and how many days ago it came."""

    spans: Sequence[tuple[str | None, int]]
    days: float


SESSIONS: list[tuple[str, list[Arrival], list[bool]]] = [
    ("all young", [Arrival([("a", 0)], 1), Arrival([("b", 1)], 13.9)], [False, False]),
    ("one past", [Arrival([("a", 0)], 14.1), Arrival([("b", 1)], 1)], [True, False]),
    ("an old request of a young session", [Arrival([("a", 0)], 90), Arrival([("a", 1)], 1)], [False, False]),
    ("two sessions in one request, one young", [Arrival([("a", 0), ("b", 1)], 90), Arrival([("b", 2)], 1)],
     [False, False]),
    ("two sessions in one request, both past", [Arrival([("a", 0), ("b", 1)], 90), Arrival([("c", 2)], 1)],
     [True, False]),
    ("two sessions in one trace, in requests of their own", [Arrival([("a", 0)], 90), Arrival([("b", 0)], 1)],
     [True, False]),
    ("the same, and one of both", [Arrival([("a", 0)], 90), Arrival([("a", 0), ("b", 0)], 20),
                                   Arrival([("b", 0)], 1)], [True, False, False]),
    ("no session: each trace by itself", [Arrival([(None, 0)], 15), Arrival([(None, 1)], 1)], [True, False]),
    ("a span without a session in a trace of a young one", [Arrival([(None, 0)], 90), Arrival([("a", 0)], 1)],
     [False, False]),
    ("as long ago as can be", [Arrival([("a", 0)], 10_000)], [True]),
    ("from the future, by a clock that was wrong", [Arrival([("a", 0)], -400)], [False]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "arrivals", "gone"), SESSIONS, ids=[case[0] for case in SESSIONS])
async def test_a_request_goes_when_all_its_sessions_are_past(
    house: Callable[..., House], what: str, arrivals: list[Arrival], gone: list[bool]
) -> None:
    here = house(destination=None)
    numbers = []
    for at, arrival in enumerate(arrivals):
        spans = [
            wire_span(10 * at + place, trace=trace, **({"session__id": session} if session else {}))
            for place, (session, trace) in enumerate(arrival.spans)
        ]
        numbers.append(await here.receive(*spans, ago_ns=int(arrival.days * DAY)))
    await here.keeper.forget()
    assert here.requests() == [number for number, past in zip(numbers, gone, strict=True) if not past]
    kept = {
        span_id(10 * at + place)
        for at, arrival in enumerate(arrivals)
        if not gone[at]
        for place in range(len(arrival.spans))
    }
    assert here.spans() == kept
    sessions = {
        name for at, arrival in enumerate(arrivals) if not gone[at] for name, _ in arrival.spans if name
    }
    assert {row[0] for row in here.rows("SELECT session FROM trace_sessions")} == sessions


async def test_a_repeat_with_a_destination_keeps_what_came_without_one(house: Callable[..., House]) -> None:
    """The span is queued, whichever request brought it first."""
    here = house()
    here.writer.forward = False
    await here.receive(a_span(1), ago_ns=20 * DAY)
    here.writer.forward = True
    await here.receive(a_span(1), ago_ns=20 * DAY)
    await here.keeper.forget()
    assert here.requests() == [1, 2]
    await here.mark(2, key(1), delivery=CONFIRMED)
    await here.keeper.forget()
    assert here.requests() == []


async def test_age_0_keeps_everything(house: Callable[..., House]) -> None:
    here = house(destination=None, days=0)
    number = await here.receive(a_span(1), ago_ns=10_000 * DAY)
    await here.keeper.forget()
    assert here.requests() == [number]


async def test_what_cannot_be_read_any_more_and_was_not_delivered_stays(house: Callable[..., House]) -> None:
    here = house()
    for forward in (True, False):
        here.writer.forward = forward
        broken = envelope(body_of(a_span(1)), received_ns=NOW - 20 * DAY)
        broken.body, broken.content_encoding = b"no gzip", "gzip"
        await asyncio.wrap_future(here.writer.append(broken))
    await here.receive(a_span(2))
    await here.keeper.forget()
    assert here.requests() == [1, 3]


async def test_a_newer_version_of_a_span_stays_when_the_older_goes(house: Callable[..., House]) -> None:
    """It came with another session."""
    here = house(destination=None)
    await here.receive(a_span(1, "old", end_ns=0), ago_ns=20 * DAY)
    young = await here.receive(a_span(1, "new"))
    await here.keeper.purge(before_ns=NOW - DAY)
    assert here.requests() == [young]
    assert here.spans() == {span_id(1)}
    await here.keeper.purge(session="new")
    assert here.spans() == set()


# ---- the clock


Story = Callable[["House", Times], None]


def sleeping(days: float) -> Story:
    """The machine sleeps: both clocks go on."""
    return lambda house, times: times.advance(days * 86_400)


def leaping(days: float) -> Story:
    """Only the wall clock moves."""

    def leap(house: House, times: Times) -> None:
        times.wall_ns += int(days * DAY)
        house.keeper._clock.look()

    return leap


def waiting(hours: float) -> Story:
    """The relay runs and looks at the clock all the time."""

    def wait(house: House, times: Times) -> None:
        for _ in range(int(hours * 12)):
            times.advance(300)
            house.keeper._clock.look()

    return wait


def away(days: float) -> Story:
    """The relay ends, and starts again so much later; the machine was off, its steady clock began anew."""

    def end(house: House, times: Times) -> None:
        house.close()
        times.wall_ns += int(days * DAY)
        times.steady_s = 5.0
        house.open()

    return end


STORIES: list[tuple[str, list[Story], bool]] = [
    ("time passes", [waiting(24 * 15)], True),
    ("the machine sleeps for two weeks", [sleeping(15)], True),
    ("the clock leaps ahead", [leaping(30)], False),
    ("the clock leaps ahead, and 23 hours pass", [leaping(30), waiting(23)], False),
    ("the clock leaps ahead, and a day passes", [leaping(30), waiting(24.1)], True),
    ("it leaps ahead and back", [leaping(30), waiting(1), leaping(-30), waiting(24.1)], False),
    ("it leaps again before the day is over", [leaping(30), waiting(20), leaping(1), waiting(20)], False),
    ("it is set by a few minutes", [waiting(24 * 15), leaping(0.02)], True),
    ("it leaps ahead, then a restart", [leaping(30), away(0.01)], False),
    (
        "it leaps, restarts, and a day passes in all",
        [leaping(30), waiting(20), away(0.01), waiting(4.1)],
        True,
    ),
    ("a weekend away", [waiting(24 * 13), away(2)], True),
    ("a month away", [away(30)], False),
    ("a month away, and a day", [away(30), waiting(24.1)], True),
    ("a start in the past", [waiting(24 * 15), away(-3)], False),
]


@pytest.mark.parametrize(("what", "story", "goes"), STORIES, ids=[story[0] for story in STORIES])
async def test_nothing_goes_by_age_after_a_leap_of_the_clock(
    house: Callable[..., House], what: str, story: list[Story], goes: bool
) -> None:
    here = house(destination=None)
    number = await here.receive(a_span(1))
    for chapter in story:
        chapter(here, here.times)
    await here.keeper.forget()
    assert here.requests() == ([] if goes else [number])


# ---- by size

SIZE = 400_000


async def fill(here: House, count: int, *, ago_ns: int, session: str, first: int = 0) -> list[int]:
    """Requests of 20 kB each, confirmed."""
    numbers = []
    for each in range(first, first + count):
        numbers.append(
            await here.receive(a_span(each, session, trace=each, text="x" * 20_000), ago_ns=ago_ns)
        )
        await here.mark(numbers[-1], key(each, each), delivery=CONFIRMED)
    return numbers


def used(here: House) -> int:
    pages, free, size = (
        here.rows(f"PRAGMA {n}")[0][0] for n in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


async def test_the_oldest_go_when_there_is_too_much(house: Callable[..., House]) -> None:
    here = house(max_bytes=SIZE)
    numbers = await fill(here, 40, ago_ns=2 * HOUR, session="s")
    assert used(here) > 2 * SIZE
    await asyncio.wrap_future(here.writer.empty_log())
    before = here.state.journal.stat().st_size
    await here.keeper.forget()
    left = here.requests()
    assert left == numbers[-len(left) :]
    assert 0.7 * SIZE < used(here) <= 0.9 * SIZE
    await asyncio.wrap_future(here.writer.empty_log())
    assert here.state.journal.stat().st_size < before / 2
    await here.keeper.forget()
    assert here.requests() == left


async def test_what_is_in_use_or_not_delivered_stays_however_large(house: Callable[..., House]) -> None:
    here = house(max_bytes=SIZE)
    queued = [
        await here.receive(a_span(1_000 + n, "q", trace=900 + n, text="x" * 20_000), ago_ns=9 * DAY)
        for n in range(10)
    ]
    young = await fill(here, 10, ago_ns=HOUR // 2, session="young")
    old_of_the_same = await fill(here, 10, ago_ns=9 * DAY, session="young", first=100)
    done = await fill(here, 10, ago_ns=9 * DAY, session="done", first=200)
    assert used(here) > SIZE
    await here.keeper.forget()
    assert used(here) > SIZE
    assert here.requests() == [*queued, *young, *old_of_the_same]
    assert not set(done) & set(here.requests())


@pytest.mark.parametrize("days", [30, -30])
async def test_a_leap_does_not_make_a_session_in_use_look_old(
    house: Callable[..., House], days: float
) -> None:
    here = house(max_bytes=SIZE)
    done = await fill(here, 10, ago_ns=2 * HOUR, session="done")
    here.times.advance(60)
    here.keeper._clock.look()
    in_use = await fill(here, 30, ago_ns=0, session="in use", first=100)
    leaping(days)(here, here.times)
    await here.keeper.forget()
    assert used(here) > SIZE
    assert here.requests() == in_use
    assert done
    waiting(1.1)(here, here.times)
    await here.keeper.forget()
    assert used(here) <= SIZE


async def test_size_0_keeps_everything(house: Callable[..., House]) -> None:
    here = house(max_bytes=0)
    numbers = await fill(here, 20, ago_ns=2 * HOUR, session="s")
    await here.keeper.forget()
    assert here.requests() == numbers


# ---- beside everything else


async def test_readers_start_over_once_a_round(house: Callable[..., House]) -> None:
    here = house(destination=None)
    for number in range(300):
        await here.receive(a_span(number, f"s{number}", trace=number), ago_ns=20 * DAY)
    young = await here.receive(a_span(1_000, "young", trace=1_000))
    epochs = {here.epoch()}
    with Reader(here.state.journal) as reader:
        task = asyncio.create_task(here.keeper.forget())
        while not task.done():
            epochs.add(here.epoch())
            await asyncio.sleep(0.001)
        assert reader.stale()
    assert here.requests() == [young]
    assert len(epochs | {here.epoch()}) == 2
    before = here.epoch()
    await here.keeper.forget()  # nothing to forget: nothing to tell
    assert here.epoch() == before


async def test_a_round_that_was_killed_is_told_at_the_next_start(house: Callable[..., House]) -> None:
    here = house(destination=None)
    await here.receive(a_span(1), ago_ns=20 * DAY)
    await here.receive(a_span(2))
    before = here.epoch()
    cut = forgetting.Cut(1, 10, (key(1)[:2],))
    await asyncio.wrap_future(here.writer.do(lambda pen: forgetting.forget(pen, [cut])))
    assert here.epoch() == before
    here.close()
    here.open()
    assert here.epoch() != before
    after = here.epoch()
    here.close()
    here.open()
    assert here.epoch() == after


async def test_a_pane_that_is_open_starts_over(house: Callable[..., House]) -> None:
    """Whatever goes from under it: past requests, its own session, the journal itself."""
    here = house(destination=None)
    for number in range(5):
        await here.receive(a_span(number), ago_ns=20 * DAY)
    await here.receive(a_span(9, "shown", trace=9))
    messages: list[Any] = []
    feed = Feed(here.state.journal, messages.append)
    feed.start()
    try:
        for change in (
            here.keeper.forget,
            lambda: here.keeper.purge(session="shown"),
            lambda: asyncio.to_thread(damage, here),
        ):
            await until(lambda: any(isinstance(each, SpansArrived) for each in messages))
            messages.clear()
            await change()
            await until(lambda: [each for each in messages if isinstance(each, SpansArrived) and each.fresh])
            assert {each.session for each in messages if isinstance(each, SpansArrived)} == {"shown"}
    finally:
        feed.stop()


def damage(here: House) -> None:
    here.close()
    here.state.journal.write_bytes(b"noise" * 5_000)
    here.open()


async def test_requests_are_taken_between_the_pieces(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PIECE_SPANS", 1)
    here = house(destination=None)
    for number in range(50):
        await here.receive(a_span(number, f"s{number}", trace=number), ago_ns=20 * DAY)
    task = asyncio.create_task(here.keeper.forget())
    await until(lambda: len(here.requests()) < 50)
    stored = await asyncio.wrap_future(here.writer.append(envelope(body_of(a_span(99, "new", trace=99)))))
    assert len(here.requests()) > 1
    await task
    assert here.requests() == [stored]


async def test_the_journal_of_an_old_relay_forgets_too(house: Callable[..., House], state: StateDir) -> None:
    """One without auto_vacuum that is too large to be rewritten: it works, it only does not shrink."""
    state.create()
    with closing(sqlite3.connect(state.journal)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("CREATE TABLE padding (x)")
    here = house(destination=None)
    await here.receive(a_span(1), ago_ns=20 * DAY)
    await here.keeper.forget()
    assert here.requests() == []


# ---- purging


SECRET = "the text that must be gone "


def wordy(number: int, session: str, **said: Any) -> Any:
    """A span with much text of its session, in the row's facts and in the request."""
    words = f"{SECRET}{session} " * 40
    return wire_span(
        number, name="agent", session__id=session, input__value=words, output__value=words, **said
    )


def bytes_on_disk(state: StateDir) -> bytes:
    """Of all files that the journal ever had."""
    return b"".join(path.read_bytes() for path in state.path.glob("journal.db*"))


async def test_a_purged_session_is_gone_from_the_files(house: Callable[..., House]) -> None:
    """Of many sessions in mixed requests, so that rows moved from page to page before."""
    here = house(destination=None)
    for number in range(600):
        spans = [
            wordy(2 * number + at, f"session-{(number * 7 + at) % 50:03}", trace=number) for at in (0, 1)
        ]
        await asyncio.wrap_future(here.writer.append(envelope(body_of(*spans))))
    for name in range(0, 50, 2):
        await here.keeper.purge(session=f"session-{name:03}")
        await here.receive(wordy(5_000 + name, "session-001", trace=5_000))
    left = bytes_on_disk(here.state)
    for name in range(50):
        assert (f"session-{name:03}".encode() in left) is bool(name % 2), name


async def test_a_purge_that_need_not_erase_lets_nobody_wait_for_it(house: Callable[..., House]) -> None:
    here = house(destination=None)
    await here.receive(wordy(1, "gone"), wordy(2, "stays", trace=2))
    here.writer.compact = lambda: pytest.fail("the journal was rewritten")  # type: ignore[method-assign]
    found = await here.keeper.purge(session="gone", erase=False)
    assert (found["requests"], found["spans"]) == (1, 1)
    with Reader(here.state.journal) as reader:
        assert [row.session for row in reader.recent_sessions()] == ["stays"]


async def test_a_purge_leaves_the_other_spans_of_a_request_as_they_are(house: Callable[..., House]) -> None:
    here = house()
    number = await here.receive(
        wordy(1, "gone"),
        wordy(2, "kept"),
        wordy(3, "gone", parent=2),
        wire_span(4, parent=1, text="no session"),
    )
    packed = envelope(body_of(wordy(11, "gone", trace=1), wordy(12, "kept", trace=1)))
    packed.body, packed.content_encoding = gzip.compress(packed.body), "gzip"
    await asyncio.wrap_future(here.writer.append(packed))
    only = await here.receive(wordy(21, "gone", trace=2))
    found = await here.keeper.purge(session="gone")
    assert found["spans"] == found["undelivered"] == 5
    assert found["requests"] == 3
    assert here.requests() == [number, number + 1]
    assert only not in here.requests()
    assert here.spans() == {span_id(2), span_id(12)}
    with Reader(here.state.journal) as reader:
        for span, detail in reader.details(tail_all(reader)):
            assert detail.attributes["session.id"] == span.session == "kept"
        assert [row.session for row in reader.recent_sessions()] == ["kept"]
    counts = here.rows("SELECT span_count, content_encoding, state FROM requests")
    assert counts == [(1, "", RequestState.PARTED)] * 2
    assert SECRET.encode() + b"gone" not in bytes_on_disk(here.state)


async def test_a_purge_takes_what_is_not_delivered_and_nothing_else(house: Callable[..., House]) -> None:
    here = house()
    sizes = 0
    for at, delivery in enumerate((CONFIRMED, ACCEPTED, HELD, QUARANTINED, QUEUED)):
        number = await here.receive(a_span(at, "gone", trace=at))
        sizes += len(here.rows("SELECT body FROM requests WHERE id = ?", number)[0][0])
        if delivery is not QUEUED:
            await here.mark(number, key(at, at), delivery=delivery)
    kept = await here.receive(a_span(50, "kept", trace=50))
    found = await here.keeper.purge(session="gone")
    assert found == {"requests": 5, "spans": 5, "undelivered": 3, "bytes": sizes}
    assert here.requests() == [kept]
    assert here.rows("SELECT * FROM marks") == []
    assert here.writer.undelivered_bytes == sum(
        length for (length,) in here.rows("SELECT length(body) FROM requests")
    )


async def test_a_purge_by_time_takes_whatever_arrived_before(house: Callable[..., House]) -> None:
    here = house()
    await here.receive(a_span(1, "a"), ago_ns=3 * DAY)
    await here.receive(a_span(2, "b", trace=1), ago_ns=2 * DAY)
    young = await here.receive(a_span(3, "a", trace=2), ago_ns=DAY)
    before = here.epoch()
    found = await here.keeper.purge(before_ns=here.times.wall_ns - 2 * DAY + 1)
    assert (found["requests"], found["spans"]) == (2, 2)
    assert here.requests() == [young]
    assert here.epoch() != before
    assert (await here.keeper.purge(before_ns=here.times.wall_ns - 2 * DAY))["requests"] == 0


async def test_a_late_span_of_a_purged_session_is_a_new_one(house: Callable[..., House]) -> None:
    here = house()
    number = await here.receive(a_span(1, "gone"))
    await here.mark(number, key(1), delivery=CONFIRMED)
    await here.keeper.purge(session="gone")
    assert here.spans() == set()
    again = await here.receive(a_span(1, "gone"), a_span(2, "gone"))
    assert again > number
    with Reader(here.state.journal) as reader:
        assert {(span.span_id, span.delivery) for span in tail_all(reader)} == {
            (span_id(1), QUEUED),
            (span_id(2), QUEUED),
        }


async def test_a_purge_of_what_is_on_its_way(house: Callable[..., House]) -> None:
    """The exporter has read the request before, and marks it after."""
    here = house()
    number = await here.receive(a_span(1, "gone"), a_span(2, "kept", trace=1))
    whole = await here.receive(a_span(3, "gone", trace=2))
    await here.keeper.purge(session="gone")
    keys = [key(1), key(2, 1), key(3, 2)]
    await asyncio.wrap_future(here.writer.mark(keys, ACCEPTED, destination=HERE, sent=[number, whole]))
    with Reader(here.state.journal) as reader:
        assert [(span.span_id, span.delivery) for span in tail_all(reader)] == [(span_id(2), ACCEPTED)]
    assert here.requests() == [number]
    assert here.writer.undelivered_bytes == 0
    here.keeper._late = [(0.0, spans) for _, spans in here.keeper._late]
    await here.keeper._pulse()
    assert here.rows("SELECT span_id FROM marks") == [(span_id(2),)]


async def test_json_is_purged_from_json(house: Callable[..., House]) -> None:
    here = house(destination=None)
    spans = [
        {
            "traceId": f"{trace:032x}",
            "spanId": f"{trace:016x}",
            "name": "x",
            "startTimeUnixNano": "1000",
            "endTimeUnixNano": "2000",
            "attributes": [{"key": "session.id", "value": {"stringValue": name}}],
            "field of tomorrow": name,
        }
        for trace, name in ((1, "gone"), (2, "kept"))
    ]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    stored = Envelope(body, JSON, "", read(body, JSON), 2)
    await asyncio.wrap_future(here.writer.append(stored))
    await here.keeper.purge(session="gone")
    ((left, kind),) = here.rows("SELECT body, content_type FROM requests")
    assert kind == JSON
    assert json.loads(left) == {"resourceSpans": [{"scopeSpans": [{"spans": spans[1:]}]}]}
    assert b"gone" not in bytes_on_disk(here.state)


async def test_purged_text_goes_from_damaged_copies_too(house: Callable[..., House]) -> None:
    here = house(destination=None)
    await here.receive(wordy(1, "gone"))
    here.close()
    noisy = bytearray(here.state.journal.read_bytes())
    noisy[:100] = b"noise" * 20
    here.state.journal.write_bytes(noisy)
    here.open()
    assert SECRET.encode() + b"gone" in bytes_on_disk(here.state)
    found = await here.keeper.purge(session="gone")  # also what is not put back yet
    assert found["spans"] == 1
    assert b"gone" not in bytes_on_disk(here.state)


async def test_a_reader_that_stays_delays_the_end_of_a_purge_only(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "_EMPTY_S", 0.2)
    here = house(destination=None)
    await here.receive(wordy(1, "gone"))
    with closing(sqlite3.connect(here.state.journal, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM requests").fetchone()
        assert (await here.keeper.purge(session="gone"))["spans"] == 1
    assert here.spans() == set()
    assert await asyncio.wrap_future(here.writer.empty_log())
    assert b"gone" not in bytes_on_disk(here.state)


async def test_damaged_copies_are_few_and_go_with_age(house: Callable[..., House]) -> None:
    here = house(destination=None)
    days = {0: "20231114-221320", 1: "20231113-221320", 13: "20231101-221320", 15: "20231030-221320"}
    for name in days.values():
        for part in ("", "-wal"):
            here.state.path.joinpath(f"journal.db.damaged-{name}{part}").write_text("x")
    here.state.path.joinpath("journal.db.damaged-by hand").write_text("x")

    def left() -> list[str]:
        names = sorted(path.name for path in here.state.path.glob("journal.db.damaged-*"))
        return [name.removeprefix("journal.db.damaged-") for name in names]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper_module, "_COPIES", 9)
        here.keeper._remove_copies()
    assert left() == sorted(f"{days[day]}{part}" for day in (0, 1, 13) for part in ("", "-wal"))
    here.keeper._remove_copies()
    assert left() == sorted(f"{days[day]}{part}" for day in (0, 1) for part in ("", "-wal"))
