"""Hermes' records and the spans of a session as one list: every call once, whoever told of it.

A call is known from Hermes' own records, from the span of the model call that asked for it, and from its
own span, in any combination and any order of arrival. It keeps its key as they come. Work follows what
changed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from hermes_tui.model.doing import Doing, State
from hermes_tui.model.live import Live, LiveSession
from hermes_tui.model.live_turns import CallKey, LiveTurn, TurnKey
from hermes_tui.model.pairing import EARLY_NS, SpanKey
from hermes_tui.model.places import Places, at_work
from hermes_tui.model.sessions import Forest
from hermes_tui.model.shares import Placed, Shares, Stretch
from hermes_tui.model.steps import Step
from hermes_tui.model.turns import Turn
from hermes_tui.model.works import Agent, Item, Source, Work, join

__all__ = ["Agent", "Item", "Joined", "JoinedTurn", "Source", "Step"]

DELEGATE = "delegate_task"
_FOREVER = 2**63

AnyTurnKey = TurnKey | SpanKey
_Part = Item | Step | Agent


class JoinedTurn(msgspec.Struct, frozen=True):
    """A turn: its span (`turn`), Hermes' record of it (`live`), or both, and its calls in order.

    `key` stays the same when the span comes; `also` is then the span turn's. A span turn that goes on with
    another's work (a trace that begins in the middle, a background review) has no record of its own.
    `steps` are the model calls and `agents` the subagents in Hermes' records.
    `version` is that of the record when this was made: a record is changed in place.
    """

    key: AnyTurnKey
    also: SpanKey | None
    turn: Turn | None
    live: LiveTurn | None
    prompt: str | None
    start_ns: int
    items: tuple[Item, ...]
    steps: tuple[Step, ...] = ()
    agents: tuple[Agent, ...] = ()
    version: int = 0

    def status(self, now_ns: int, doing: Doing, *, newest: bool) -> str:
        """running, completed, interrupted, failed or unknown. `doing` is what the session does."""
        said = self.turn.status(now_ns) if self.turn is not None else "unknown"
        if self.live is None or said not in ("running", "unknown"):
            return said
        if self.live.end:
            return self.live.end
        return "running" if newest and doing.state is not State.IDLE else "unknown"


class Joined:
    """One session with its subagents: `update`, then read `turns`, the oldest first."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.turns: list[JoinedTurn] = []
        self._shares = Shares()
        self._places = Places(session)
        self._works: dict[str, dict[AnyTurnKey, Work]] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._oldest: dict[str, int] = {}
        self._family: dict[str, tuple[str | None, int]] = {}
        self._aboves: dict[tuple[str, AnyTurnKey], TurnKey | None] = {}
        self._placed: dict[tuple[str, AnyTurnKey], tuple[AnyTurnKey, ...]] = {}
        self._held: dict[AnyTurnKey, dict[tuple[str, AnyTurnKey], list[_Part]]] = {}
        self._drawn: dict[AnyTurnKey, JoinedTurn] = {}

    def update(self, live: Live, forest: Forest, dirty: Collection[bytes]) -> set[AnyTurnKey]:
        """Take in what changed in the records, and in the traces `dirty`; keys of the turns that changed."""
        moved: dict[str, list[Stretch]] = {}
        turns: dict[bytes, Sequence[Turn]] = {}
        for trace_id in dirty:
            view = forest.views.get(trace_id)
            for owner, stretches in self._shares.replace(trace_id, view).items():
                moved.setdefault(owner, []).extend(stretches)
            turns[trace_id] = forest.own(trace_id)
        own = live.session(self.session)
        parts = {part.id: part for part in (*([own] if own else []), *live.below(self.session))}
        again: set[tuple[str, AnyTurnKey]] = set()
        since = None
        for owner in {self.session, *parts, *self._works, *moved}:
            keys, first = self._rework(owner, parts.get(owner), moved.get(owner, []), dirty)
            again.update((owner, key) for key in keys)
            since = first if owner == self.session else since
        works = self._works.setdefault(self.session, {})
        spans, records = self._places.update(
            turns,
            own.in_time() if own is not None else [],
            since,
            [key for owner, key in again if owner == self.session and not isinstance(key[0], bytes)],
            lambda key: works[key].homes if key in works else (),
        )
        again.update((self.session, key) for key in records)
        again |= self._children(parts, records, bool(spans))
        touched: set[AnyTurnKey] = {*spans, *records}
        for owner, key in again:
            touched |= self._place(owner, key, parts)
        return self._draw(touched)

    def items(self) -> list[Item]:
        """All calls, in the order of the turns."""
        return [item for turn in self.turns for item in turn.items]

    # ---- what each session did

    def _rework(
        self, owner: str, part: LiveSession | None, moved: list[Stretch], dirty: Collection[bytes]
    ) -> tuple[set[AnyTurnKey], int | None]:
        """Join anew what can have changed of one session: the keys of its works, and from which record on."""
        turns = part.in_time() if part is not None else []
        works = self._works.setdefault(owner, {})
        keys, since = self._changed_records(owner, part, turns, works)
        again = {at for at, turn in enumerate(turns[since:], since) if turn.key in keys} if keys else set()
        for first, last in moved if turns else ():
            # The first of them also has what began a little before it.
            low = max(0, bisect_right(turns, first, key=_asked) - 1)
            again.update(range(low, max(1, bisect_right(turns, last, key=_asked))))
        for at in again:
            turn = turns[at]
            until = turns[at + 1].asked_ns if at + 1 < len(turns) else _FOREVER
            begin = turn.asked_ns if at else turn.asked_ns - EARLY_NS
            if (work := works.get(turn.key)) is None or work.live is not turn:
                work = works[turn.key] = Work(owner, turn)
            join(work, *self._shares.between(owner, begin, until))
            keys.add(turn.key)
        until = turns[0].asked_ns - EARLY_NS if turns else _FOREVER
        if moved or until != self._oldest.get(owner):
            keys |= self._leftovers(owner, works, until, dirty)
        return keys, since if since < _FOREVER else None

    def _changed_records(
        self, owner: str, part: LiveSession | None, turns: list[LiveTurn], works: dict[AnyTurnKey, Work]
    ) -> tuple[set[AnyTurnKey], int]:
        """Keys of the records that changed, came or went, or whose next one did; the first one's place."""
        version = (part.home, part.version) if part is not None else ("", 0)
        before = self._seen.get(owner, ("", 0))
        if before == version:
            return set(), _FOREVER
        self._seen[owner] = version
        since = before[1] if before[0] == version[0] else 0
        changed = part.changed(since) if part is not None else []
        at = bisect_left(turns, min((turn.asked_ns for turn in changed), default=_FOREVER), key=_asked)
        at = max(0, at - 1)  # the one before ends where this one begins
        keys: set[AnyTurnKey] = {turn.key for turn in turns[at:]}
        if at == 0:
            gone = {key for key, work in works.items() if work.live is not None and key not in keys}
            for key in gone:
                del works[key]
            keys |= gone
        return keys, at

    def _leftovers(
        self, owner: str, works: dict[AnyTurnKey, Work], until: int, dirty: Collection[bytes]
    ) -> set[AnyTurnKey]:
        """What a session did before its oldest record, by the span turns that it is in: of the traces
        `dirty`, or of all when another record is the oldest.
        """
        some = dirty if self._oldest.get(owner) == until else None
        self._oldest[owner] = until
        keys = {key for key, work in works.items() if work.live is None and (some is None or key[0] in some)}
        before = {key: works.pop(key) for key in keys}
        by_home: dict[SpanKey, tuple[list[Placed], list[Placed]]] = {}
        for number, each in enumerate(self._shares.before(owner, until, some)):
            for placed in each:
                by_home.setdefault(placed[1], ([], []))[number].append(placed)
        for home, (tools, models) in by_home.items():
            work = works[home] = before.get(home) or Work(owner, None)
            join(work, tools, models)
        return {*keys, *by_home}

    # ---- where it is to be seen

    def _children(
        self, parts: Mapping[str, LiveSession], records: Collection[TurnKey], turns_moved: bool
    ) -> set[tuple[str, AnyTurnKey]]:
        """Subagents' works that may belong elsewhere now."""
        family = {
            part.id: (part.parent, part.row.started_ns if part.row is not None else 0)
            for part in parts.values()
        }
        moved, self._family = family != self._family, family
        return {
            name
            for name, above in self._aboves.items()
            if moved or above in records or (above is None and (records or turns_moved))
        }

    def _place(self, owner: str, key: AnyTurnKey, parts: Mapping[str, LiveSession]) -> set[AnyTurnKey]:
        """Put the calls of one work into their turns; the turns that this concerns."""
        name = (owner, key)
        before = self._placed.pop(name, ())
        for place in before:
            del self._held[place][name]
        work = self._works.get(owner, {}).get(key)
        if work is None:
            self._aboves.pop(name, None)
            return set(before)
        above = self._above(owner, parts)
        if owner != self.session:
            self._aboves[name] = above[1].key if above is not None else None
        work.hang(above[0] if above is not None else None)
        now: set[AnyTurnKey] = set()
        for part, at_ns, home in _parts(work, agent=owner != self.session):
            found = self._find(work, at_ns, home, above)
            if found is not None:
                self._held.setdefault(found, {}).setdefault(name, []).append(part)
                now.add(found)
        self._placed[name] = tuple(now)
        return now.union(before)

    def _find(
        self, work: Work, asked_ns: int, home: SpanKey | None, above: tuple[CallKey | None, LiveTurn] | None
    ) -> AnyTurnKey | None:
        """The turn in which a call is to be seen: its span's, else the one at work when it was asked for."""
        places = self._places
        if home in places.turns:
            return home
        if work.live is None:
            return None
        record = work.live
        if work.session != self.session:
            homes = [places.turns[key] for key in work.homes if key in places.turns]
            if homes:
                return at_work(sorted(homes, key=lambda turn: (turn.start_ns, turn.key)), asked_ns).key
            if above is None:  # its parent left no record
                turn = places.near(asked_ns)
                return turn.key if turn is not None else None
            record = above[1]
        if (own := places.homes.get(record.key)) is None:
            return None
        return at_work(own, asked_ns).key if own else record.key

    def _above(
        self, session: str, parts: Mapping[str, LiveSession]
    ) -> tuple[CallKey | None, LiveTurn] | None:
        """The call that a subagent works for, and the turn of the shown session in which that was."""
        found: CallKey | None = None
        part = parts.get(session)
        seen: set[str] = set()
        while part is not None and part.id != self.session and part.parent and part.id not in seen:
            seen.add(part.id)
            above = parts.get(part.parent)
            if above is None or not above.turns:
                return None
            started = part.row.started_ns if part.row is not None else 0
            turns = above.in_time()
            turn = turns[max(0, bisect_right(turns, started, key=_asked) - 1)]
            if found is None:
                calls = [call for call in turn.calls if call.tool == DELEGATE and call.asked_ns <= started]
                found = calls[-1].key if calls else None
            if above.id == self.session:
                return found, turn
            part = above
        return None

    # ---- the list

    def _draw(self, touched: Collection[AnyTurnKey]) -> set[AnyTurnKey]:
        """Make the turns anew that something changed in; their keys."""
        before = {place: drawn for place in touched if (drawn := self._drawn.pop(place, None)) is not None}
        for drawn in before.values():  # all of them first: turns of a trace can change their names
            del self.turns[bisect_left(self.turns, _order(drawn), key=_order)]
        changed: set[AnyTurnKey] = set()
        for place in touched:
            known, found = before.get(place), self._turn(place)
            if known is not None and found is not None and _same(known, found):
                found = known
            else:
                changed.update(turn.key for turn in (known, found) if turn is not None)
            if found is not None:
                self._drawn[place] = found
                self.turns.insert(bisect_left(self.turns, _order(found), key=_order), found)
        return changed

    def _turn(self, place: AnyTurnKey) -> JoinedTurn | None:
        places = self._places
        turn = places.turns.get(place)
        live = places.heads.get(place) if turn is not None else places.lives.get(place)
        if turn is None and (live is None or places.homes.get(live.key)):
            return None
        parts = [part for some in self._held.get(place, {}).values() for part in some]
        items = [part for part in parts if isinstance(part, Item)]
        items.sort(
            key=lambda item: (item.asked_ns or item.start_ns, item.session != self.session, item.session)
        )
        prompt = (turn.prompt if turn is not None else None) or (live.prompt if live is not None else None)
        return JoinedTurn(
            key=live.key if live is not None else place,
            also=turn.key if turn is not None and live is not None else None,
            turn=turn,
            live=live,
            prompt=prompt,
            start_ns=turn.start_ns if turn is not None else live.asked_ns if live is not None else 0,
            items=tuple(items),
            steps=tuple(part for part in parts if isinstance(part, Step)),
            agents=tuple(part for part in parts if isinstance(part, Agent)),
            version=live.version if live is not None else 0,
        )


def _parts(work: Work, *, agent: bool) -> Iterator[tuple[_Part, int, SpanKey | None]]:
    """Everything of a work that is to be seen, when that was, and the turn that its span is in."""
    if agent and work.live is not None:
        yield Agent(work.live.key, work.live.prompt, work.live.asked_ns, work.under), work.live.asked_ns, None
    for step, home in work.steps:
        yield step, step.live.at_ns, home
    for item, home in zip(work.items, work.places, strict=True):
        yield item, item.asked_ns or item.start_ns, home


def _asked(turn: LiveTurn) -> int:
    return turn.asked_ns


def _order(turn: JoinedTurn) -> tuple[int, str]:
    return turn.start_ns, str(turn.key)


def _same(before: JoinedTurn, found: JoinedTurn) -> bool:
    same_records = before.turn is found.turn and before.live is found.live and before.key == found.key
    same_parts = (before.items, before.steps, before.agents) == (found.items, found.steps, found.agents)
    return same_records and before.version == found.version and same_parts
