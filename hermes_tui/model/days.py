"""What was used on each of the last days, over all sessions. A day begins at midnight of the local time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import msgspec

from hermes_tui.model.spending import Tally
from hermes_tui.model.turns import TraceView, counted
from hermes_tui.model.usage import Usage

DAYS = 7
"""Days that are told about: today and those before it."""


class Day(msgspec.Struct, frozen=True):
    """Model calls that began on a day. `whole`: all of them are counted."""

    date: date
    usage: Usage
    calls: int
    priced: int
    sessions: int
    whole: bool = True


class Share(msgspec.Struct):
    """What one trace (or several) adds to a day."""

    spent: Tally = msgspec.field(default_factory=Tally)
    sessions: set[str] = msgspec.field(default_factory=set)

    def add(self, other: Share) -> None:
        self.spent.add(other.spent)
        self.sessions |= other.sessions


Shares = dict[int, Share]
"""By the day's first nanosecond since the epoch."""


def midnights(now_ns: int, days: int = DAYS) -> list[int]:
    """The first nanosecond of each of the last days in local time, today's last."""
    today = datetime.fromtimestamp(now_ns / 1e9).date()  # noqa: DTZ006 - local time is meant
    return [_midnight(today - timedelta(days=back)) for back in range(days - 1, -1, -1)]


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day).astimezone().timestamp()) * 10**9


def shares(view: TraceView, begins: Sequence[int]) -> Shares:
    """What a trace adds to the days that begin then, every call once; what is older is left out."""
    found: Shares = {}
    for turn in view.turns:
        for node in counted(turn):
            span = node.span
            assert span is not None
            at = bisect_right(begins, span.start_ns)
            if at:
                share = found.setdefault(begins[at - 1], Share())
                share.spent.take(span)
                share.sessions.add(view.owners[node.span_id])
    return found


def told(total: Shares, begins: Sequence[int], unread_ns: int) -> tuple[Day, ...]:
    """The days with anything on them, today first; what began until `unread_ns` is not all counted."""
    days = []
    for begin in reversed(begins):
        share = total.get(begin)
        if share is None:
            continue
        day = datetime.fromtimestamp(begin / 1e9).date()  # noqa: DTZ006
        spent = share.spent
        days.append(
            Day(day, spent.usage, spent.calls, spent.priced, len(share.sessions), whole=begin > unread_ns)
        )
    return tuple(days)
