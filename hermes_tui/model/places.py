"""Which record belongs to which span turn: where a session's calls are to be seen.

A record is at home in the span turns that began with it or after it (before the next record), and in
those that hold spans of its time. Of these, the one that began nearest to it has it as its head.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from hermes_tui.model.live_turns import LiveTurn, TurnKey
from hermes_tui.model.pairing import SpanKey
from hermes_tui.model.span import NANOSECONDS
from hermes_tui.model.turns import Turn

NEAR_NS = NANOSECONDS
"""A turn's span and the record of its prompt begin within this time of each other."""


class Places:
    """The span turns and the records of one session, and which belong together. Work follows what changed."""

    def __init__(self, session: str) -> None:
        self.turns: dict[SpanKey | TurnKey, Turn] = {}
        self.lives: dict[SpanKey | TurnKey, LiveTurn] = {}
        self.heads: dict[SpanKey | TurnKey, LiveTurn] = {}
        self.homes: dict[TurnKey, list[Turn]] = {}
        self._session = session
        self._sequence: list[LiveTurn] = []
        self._order: list[tuple[int, SpanKey]] = []
        self._traces: dict[bytes, list[tuple[int, SpanKey]]] = {}
        self._begun: dict[SpanKey, TurnKey] = {}
        self._held: dict[TurnKey, set[SpanKey]] = {}
        self._guests: dict[SpanKey, set[TurnKey]] = {}
        self._mains: dict[TurnKey, SpanKey] = {}

    def update(
        self,
        turns: Mapping[bytes, Iterable[Turn]],
        lives: Sequence[LiveTurn],
        since: int | None,
        changed: Iterable[TurnKey],
        homes: Callable[[TurnKey], Collection[SpanKey]],
    ) -> tuple[set[SpanKey], set[TurnKey]]:
        """Take in the `turns` of changed traces, and the records from place `since` on (None: all stay).

        `changed` are records whose calls changed; `homes` tells in which span turns there are spans of a
        record's time. Returns the span turns and records to be looked at again.
        """
        spans = self._replace(turns)
        records = set(changed)
        if since is not None:
            spans |= self._follow(lives, since, records)
        for key in spans:
            records |= self._begin(key)
        for record in records & self.lives.keys():
            spans |= self._settle(self.lives[record], homes(record))
        for key in spans:
            self._choose(key)
        return spans, records

    def near(self, asked_ns: int) -> Turn | None:
        """The span turn that was at work at a time."""
        at = bisect_right(self._order, (asked_ns, (b"\xff" * 16, b"")))
        return self.turns[self._order[max(0, at - 1)][1]] if self._order else None

    def _replace(self, turns: Mapping[bytes, Iterable[Turn]]) -> set[SpanKey]:
        """The span turns of changed traces, those that were and those that are."""
        spans: set[SpanKey] = set()
        for trace_id, own in turns.items():
            for place in self._traces.pop(trace_id, ()):
                del self._order[bisect_left(self._order, place)]
                del self.turns[place[1]]
                spans.add(place[1])
            for turn in own:
                place = (turn.start_ns, turn.key)
                self._order.insert(bisect_left(self._order, place), place)
                self._traces.setdefault(trace_id, []).append(place)
                self.turns[turn.key] = turn
                spans.add(turn.key)
        return spans

    def _follow(self, lives: Sequence[LiveTurn], since: int, records: set[TurnKey]) -> set[SpanKey]:
        """Take the records from a place on; the span turns that may have begun with another one now."""
        gone, come = self._sequence[since:], lives[since:]
        starts = [live.asked_ns for live in (*gone, *come)]
        same = [live.key for live in gone] == [live.key for live in come]
        for live in gone:
            del self.lives[live.key]
        self._sequence[since:] = come
        self.lives.update((live.key, live) for live in come)
        spans: set[SpanKey] = set()
        for live in gone:
            records.add(live.key)
            if live.key not in self.lives:
                spans |= self._forget(live.key)
        if same or not starts:
            return spans
        late = bisect_left(self._order, (min(starts) - NEAR_NS, (b"", b"")))
        return spans | {key for _, key in self._order[late:]}

    def _forget(self, record: TurnKey) -> set[SpanKey]:
        homes = {turn.key for turn in self.homes.pop(record, ())}
        for key in homes:
            self._guests[key].discard(record)
        self._mains.pop(record, None)
        return homes

    def _begin(self, key: SpanKey) -> set[TurnKey]:
        """Find the record that a span turn began with; the records that this concerns."""
        turn = self.turns.get(key)
        live = None
        if turn is not None and turn.session == self._session and not turn.review:
            live = self._near(turn)
        before = self._begun.pop(key, None)
        if before is not None:
            self._held[before].discard(key)
        if live is not None:
            self._begun[key] = live.key
            self._held.setdefault(live.key, set()).add(key)
        return {*({before} if before else ()), *({live.key} if live else ()), *self._guests.get(key, ())}

    def _near(self, turn: Turn) -> LiveTurn | None:
        """The record that began with a turn, else the last one before it."""
        sequence = self._sequence
        at = bisect_right(sequence, turn.start_ns, key=_asked)
        near = [live for live in sequence[max(0, at - 1) : at + 1] if _away(live, turn) <= NEAR_NS]
        if near:
            return min(near, key=lambda live: (_away(live, turn), live.key))
        return sequence[at - 1] if at else None

    def _settle(self, live: LiveTurn, there: Collection[SpanKey]) -> set[SpanKey]:
        """Find the homes of a record; the span turns that this concerns."""
        before = {turn.key for turn in self.homes.get(live.key, ())}
        more = (key for key in there if key in self.turns and not self.turns[key].review)
        keys = {*(key for key in self._held.get(live.key, ()) if key in self.turns), *more}
        homes = sorted((self.turns[key] for key in keys), key=_by_start)
        for key in before - keys:
            self._guests[key].discard(live.key)
        for key in keys:
            self._guests.setdefault(key, set()).add(live.key)
        self.homes[live.key] = homes
        self._mains.pop(live.key, None)
        if homes:
            self._mains[live.key] = min(homes, key=lambda turn: (_away(live, turn), turn.key)).key
        return before | keys

    def _choose(self, key: SpanKey) -> None:
        """Give a span turn its head: of the records that it is the nearest to, the nearest."""
        turn = self.turns.get(key)
        led = [self.lives[record] for record in self._guests.get(key, ()) if self._mains.get(record) == key]
        if turn is None or not led:
            self.heads.pop(key, None)
        else:
            self.heads[key] = min(led, key=lambda live: (_away(live, turn), live.key))


def at_work(homes: Sequence[Turn], asked_ns: int) -> Turn:
    """The turn that was at work at a time: of turns by start, the last one that began before."""
    at = bisect_right(homes, asked_ns, key=lambda turn: turn.start_ns)
    return homes[max(0, at - 1)]


def _asked(live: LiveTurn) -> int:
    return live.asked_ns


def _away(live: LiveTurn, turn: Turn) -> int:
    return abs(live.asked_ns - turn.start_ns)


def _by_start(turn: Turn) -> tuple[int, SpanKey]:
    return turn.start_ns, turn.key
