"""What was used on each day: local days, also those that are not 24 hours long; every call once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from hermes_tui.model.days import DAYS, Share, Shares, midnights, shares, told
from hermes_tui.model.span import Span
from hermes_tui.model.turns import read_trace
from tests.model.test_spending import call
from tests.support import SECOND, agent_span, fold, plant, recorded_spans, recording_names

Zone = Callable[[str], None]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zone]:
    with monkeypatch.context() as patch:

        def change(name: str) -> None:
            patch.setenv("TZ", name)
            time.tzset()

        yield change
    time.tzset()


def ns(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "now", "hours"),
    [
        ("UTC", ns(2026, 11, 23, 12), [24] * 6),
        ("Europe/Berlin", ns(2026, 10, 26, 12), [24, 24, 24, 24, 24, 25]),
        ("America/New_York", ns(2026, 3, 10, 12), [24, 24, 24, 24, 23, 24]),
        ("Asia/Kathmandu", ns(2026, 11, 22, 18, 30), [24] * 6),
    ],
)
def test_days_begin_at_local_midnight(zone: Zone, name: str, now: int, hours: list[int]) -> None:
    zone(name)
    begins = midnights(now)
    assert len(begins) == DAYS
    assert [(b - a) // (3_600 * SECOND) for a, b in pairwise(begins)] == hours
    for begin in begins:
        local = datetime.fromtimestamp(begin / 1e9)  # noqa: DTZ006
        assert (local.hour, local.minute, local.second) == (0, 0, 0)
    assert begins[-1] <= now < begins[-1] + 25 * 3_600 * SECOND


def _shares(spans: list[Span], begins: list[int]) -> Shares:
    total: Shares = {}
    for tree in plant(spans).values():
        for begin, share in shares(read_trace(tree), begins).items():
            total.setdefault(begin, Share()).add(share)
    return total


@pytest.mark.parametrize("name", recording_names())
def test_a_day_is_the_sum_of_its_sessions(name: str) -> None:
    spans = list(recorded_spans(name))
    begins = midnights(max(span.start_ns for span in spans))
    usages = [share.spent.usage for share in _shares(spans, begins).values()]
    sessions = fold(spans).values()
    for count in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"):
        assert sum(getattr(usage, count) for usage in usages) == sum(
            getattr(session.totals.usage, count) for session in sessions
        )


def test_calls_belong_to_the_day_they_began_on(zone: Zone) -> None:
    zone("Asia/Tokyo")
    begins = midnights(ns(2026, 11, 23, 3))
    today = begins[-1]
    starts = {1: today - 1, 2: today, 3: today + 1, 4: begins[0], 5: begins[0] - 1}
    spans = [agent_span(0, start_ns=begins[0] - 1, end_ns=today + 2)]
    spans += [
        call(number, start_ns=start, end_ns=start + 1, input_tokens=10**number)
        for number, start in starts.items()
    ]
    days = told(_shares(spans, begins), begins, 0)
    assert [(day.date, day.usage.input_tokens, day.calls, day.sessions) for day in days] == [
        (date(2026, 11, 23), 1_100, 2, 1),
        (date(2026, 11, 22), 10, 1, 1),
        (date(2026, 11, 17), 10_000, 1, 1),
    ]
    assert all(day.whole for day in days)


def test_days_of_which_something_is_unread_are_not_whole(zone: Zone) -> None:
    zone("UTC")
    begins = midnights(ns(2026, 11, 23, 3))
    spans = [agent_span(0)] + [call(n, start_ns=begin, end_ns=begin + 1) for n, begin in enumerate(begins, 1)]
    days = told(_shares(spans, begins), begins, begins[4])
    assert [day.whole for day in days] == [True, True, False, False, False, False, False]
    assert days[0].date - days[-1].date == timedelta(days=DAYS - 1)
