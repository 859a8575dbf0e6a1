"""What a session used, and how long it took: tokens and cost, the calls in their order, durations.

Every token counts once, as in `turns.counted`. Durations are of what has ended; a wrapper repeats its
parent and a subagent's own agent span its subagent, so these are left out.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from hermes_tui.model.samples import Sample
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Role, Span
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import TraceView, Turn, innermost, members
from hermes_tui.model.usage import Usage

SLOWEST = 10
SLICE = 5_000
"""Spans that one `Book.update` reads: some 20 ms of work."""

_OPEN = 64  # traces that change: their sums are kept apart
_FEW = 16


class Tally:
    """A sum of model calls. `priced` of the `calls` named a cost (US dollars)."""

    __slots__ = ("_cached", "_cost", "_input", "_output", "_reasoning", "_written", "calls", "priced")

    def __init__(self) -> None:
        self.calls = self.priced = 0
        self._input = self._output = self._cached = self._written = self._reasoning = 0
        self._cost = 0.0

    def take(self, span: Span) -> None:
        """One more call."""
        self._input += span.input_tokens or 0
        self._output += span.output_tokens or 0
        self._cached += span.cache_read_tokens or 0
        self._written += span.cache_write_tokens or 0
        self._reasoning += span.reasoning_tokens or 0
        self.calls += 1
        if span.cost is not None:
            self.priced += 1
            self._cost += span.cost

    def add(self, other: Tally) -> None:
        self._input += other._input
        self._output += other._output
        self._cached += other._cached
        self._written += other._written
        self._reasoning += other._reasoning
        self.calls += other.calls
        self.priced += other.priced
        self._cost += other._cost

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tally):
            return NotImplemented
        return (self.calls, self.priced, self.usage) == (other.calls, other.priced, other.usage)

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def usage(self) -> Usage:
        return Usage(
            input_tokens=self._input,
            output_tokens=self._output,
            cache_read_tokens=self._cached,
            cache_write_tokens=self._written,
            reasoning_tokens=self._reasoning,
            cost=self._cost if self.priced else None,
        )


class Call(NamedTuple):
    """A model call of the session's own conversation: its input is the context at that time."""

    start_ns: int
    trace_id: bytes
    span_id: bytes
    input_tokens: int
    output_tokens: int
    model: str


class Slow(NamedTuple):
    """Something that ended, with its place in the tree."""

    duration_ns: int
    start_ns: int
    span_id: bytes
    trace_id: bytes


MODEL_CALL, TOOL, APPROVAL, SUBAGENT, SKILL, TURN, OTHER = (
    "model call", "tool", "approval", "subagent", "skill", "turn", "other",
)  # fmt: skip
_TOOL, _MODEL_CALL = Role.TOOL, Role.MODEL_CALL
_KINDS = {Role.APPROVAL: APPROVAL, Role.SKILL: SKILL, Role.SUBAGENT: SUBAGENT, Role.OTHER: OTHER}
_IDLE = (SUBAGENT, SKILL, TURN)
"""These last as long as what they hold; the slowest are sought among those that do something themselves."""


Named = tuple[tuple[str, tuple[int, ...]], ...]
"""Nanoseconds by name. There is one for every trace, and this takes less memory than a mapping."""


class Durations(NamedTuple):
    """Nanoseconds of what ended: by kind, and by name of tool calls and model calls."""

    kinds: Named
    tools: Named
    models: Named


class Part(msgspec.Struct):
    """One trace's share. `own` is the session's, `below` that of subagents in its turns."""

    view: TraceView
    own: Tally
    below: Tally
    models: tuple[tuple[str, Tally], ...]
    turns: tuple[tuple[tuple[bytes, bytes], Tally], ...]
    calls: tuple[Call, ...]
    durations: Durations
    slowest: tuple[Slow, ...]

    def says_the_same(self, other: Part) -> bool:
        """Whether nothing that is counted differs, as when a span was only delivered."""
        return all(getattr(self, name) == getattr(other, name) for name in _COUNTED)


_COUNTED = tuple(name for name in Part.__struct_fields__ if name != "view")


def read_part(view: TraceView, session: str, own: Iterable[Turn] = ()) -> Part:
    """What a session used in one trace; work is linear in the trace's spans.

    Of its own turns everything counts, subagents too; of another session's turns what is the session's.
    `own` are the session's turns if the trace's are another's (`delegated.part_of`).
    """
    reading = _Reading(session)
    turns = []
    for turn in view.turns:
        nodes = list(members(turn))
        calls = list(innermost(nodes))
        if turn.session != session:
            calls = [node for node in calls if node.owner == session]
            nodes = [node for node in nodes if node.owner == session]
        turns.append((turn.key, reading.spend(calls)))
        reading.time(nodes, turn.trace_id)
    known = {key for key, _ in turns}
    turns += [
        (turn.key, _Reading(session).spend(innermost(list(members(turn)))))
        for turn in own
        if turn.key not in known
    ]
    return Part(
        view,
        reading.own,
        reading.below,
        tuple(reading.models.items()),
        tuple(turns),
        tuple(sorted(reading.calls)),
        Durations(*(tuple((name, tuple(some)) for name, some in each.items()) for each in reading.durations)),
        tuple(Slow(*each) for each in sorted(reading.work, reverse=True)[:SLOWEST]),
    )


class _Reading:
    """What is found in one trace while it is read."""

    def __init__(self, session: str) -> None:
        self.own = Tally()
        self.below = Tally()
        self.models: dict[str, Tally] = {}
        self.calls: list[Call] = []
        self.work: list[tuple[int, int, bytes, bytes]] = []
        self.durations: tuple[defaultdict[str, list[int]], ...] = (
            defaultdict(list), defaultdict(list), defaultdict(list),
        )  # fmt: skip
        self._session = session

    def spend(self, nodes: Iterable[Node]) -> Tally:
        """Count the model calls of a turn; their sum."""
        total = Tally()
        for node in nodes:
            span = node.span
            assert span is not None
            own = node.owner == self._session
            (self.own if own else self.below).take(span)
            total.take(span)
            model = span.model or ""
            if (tally := self.models.get(model)) is None:
                tally = self.models[model] = Tally()
            tally.take(span)
            if own and span.input_tokens:
                place = (span.start_ns, span.trace_id, span.span_id)
                self.calls.append(Call(*place, span.input_tokens, span.output_tokens or 0, model))
        return total

    def time(self, nodes: Iterable[Node], trace_id: bytes) -> None:
        """Note how long the spans of a turn took, and which may be the slowest."""
        kinds, tools, models = self.durations
        work: list[tuple[int, int, bytes]] = []
        for node in nodes:  # of every span of a session: what is looked up here counts
            span = node.span
            if span is None or not span.end_ns:
                continue
            start, role = span.start_ns, span.role
            duration = max(0, span.end_ns - start)
            if role is _TOOL:
                kinds[TOOL].append(duration)
                tools[span.tool or span.name].append(duration)
            elif role is _MODEL_CALL:
                kinds[MODEL_CALL].append(duration)
                models[span.model or ""].append(duration)
            elif kind := _kind(node):
                kinds[kind].append(duration)
                if kind in _IDLE:
                    continue
            else:
                continue
            work.append((duration, start, node.span_id))
        self.work += ((*each, trace_id) for each in sorted(work, reverse=True)[:SLOWEST])


def _kind(node: Node) -> str:
    """Of what is no model or tool call; "" for what repeats its parent. An agent is a turn, or else a
    subagent.
    """
    if node.turn:
        return TURN
    role = node.role
    if role is Role.AGENT or role is Role.TURN:
        return "" if node.parent is not None and node.parent.role is Role.SUBAGENT else SUBAGENT
    return _KINDS.get(role, "") if role is not None else ""


class Sum:
    """Parts added up, in any order."""

    def __init__(self) -> None:
        self.own = Tally()
        self.below = Tally()
        self.models: dict[str, Tally] = {}
        self.slowest: list[Slow] = []

    def add(self, other: Part | Sum) -> None:
        self.own.add(other.own)
        self.below.add(other.below)
        for model, tally in other.models.items() if isinstance(other, Sum) else other.models:
            self.models.setdefault(model, Tally()).add(tally)
        if len(self.slowest) < SLOWEST or (other.slowest and other.slowest[0] > self.slowest[-1]):
            self.slowest = sorted([*self.slowest, *other.slowest], reverse=True)[:SLOWEST]


class Samples(NamedTuple):
    """`Durations` of which percentiles can be asked."""

    kinds: dict[str, Sample]
    tools: dict[str, Sample]
    models: dict[str, Sample]


class Book:
    """What a session used, kept up with its `Forest`: work follows the traces that changed."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.calls: list[Call] = []
        self.samples = Samples({}, {}, {})
        self.behind = 0
        """Traces of which nothing is counted yet."""
        self._parts: dict[bytes, Part] = {}
        self._closed = Sum()
        self._open: set[bytes] = set()

    def update(self, forest: Forest, most: int = SLICE) -> bool:
        """Read traces that changed since the last time, some `most` spans; whether all is read now."""
        parts = self._parts
        stale = [
            trace_id
            for trace_id, view in forest.views.items()
            if (part := parts.get(trace_id)) is None or part.view is not view
        ]
        changes: list[tuple[bytes, Part | None, Part]] = []
        done = 0
        for trace_id in stale:
            if most <= 0:
                break
            most -= len(forest.trees[trace_id].nodes)
            done += 1
            old, new = parts.get(trace_id), self._read(forest, trace_id)
            parts[trace_id] = new
            if old is None or not new.says_the_same(old):
                changes.append((trace_id, old, new))
        self._settle(changes)
        self._replace([(old, new) for _, old, new in changes])
        self.behind = sum(trace_id not in parts for trace_id in stale[done:])
        return done == len(stale)

    def _read(self, forest: Forest, trace_id: bytes) -> Part:
        return read_part(forest.views[trace_id], self.session, forest.own(trace_id))

    def sum(self) -> Sum:
        """All that is counted."""
        total = Sum()
        total.add(self._closed)
        for trace_id in self._open:
            total.add(self._parts[trace_id])
        return total

    def turn(self, turn: Turn) -> Tally | None:
        """What one turn used, with its subagents; None when it is not counted yet."""
        part = self._parts.get(turn.trace_id)
        return None if part is None else next((tally for key, tally in part.turns if key == turn.key), None)

    def _settle(self, changes: Iterable[tuple[bytes, Part | None, Part]]) -> None:
        """Keep one sum for the traces at rest, so that a sum costs what is open, not what is stored."""
        moved = set()
        for trace_id, old, new in changes:
            if old is None:
                self._closed.add(new)
            elif trace_id not in self._open:
                moved.add(trace_id)
        if not moved:
            return
        if len(self._open) + len(moved) > _OPEN:
            self._open = set()
        if len(moved) <= _OPEN:
            self._open |= moved
        self._closed = Sum()
        for other, settled in self._parts.items():
            if other not in self._open:
                self._closed.add(settled)

    def _replace(self, changes: Sequence[tuple[Part | None, Part]]) -> None:
        """Put calls and durations in their places, those of one `update` together."""
        come: list[Call] = []
        for old, new in changes:
            gone, more = _changed(() if old is None else old.calls, new.calls)
            for call in gone:
                del self.calls[bisect_left(self.calls, call)]
            come += more
        if len(come) <= _FEW:
            for call in come:
                insort(self.calls, call)
        else:
            self.calls.extend(come)
            self.calls.sort()
        for number, samples in enumerate(self.samples):
            both = (
                (None if old is None else old.durations[number], new.durations[number])
                for old, new in changes
            )
            _resample(samples, both)


def _resample(samples: dict[str, Sample], changes: Iterable[tuple[Named | None, Named]]) -> None:
    come: defaultdict[str, list[int]] = defaultdict(list)
    for old, new in changes:
        if old is None:
            for name, values in new:
                come[name] += values
            continue
        before, after = dict(old), dict(new)
        for name in before.keys() | after.keys():
            gone, more = _changed(before.get(name, ()), after.get(name, ()))
            if gone:
                samples[name].remove(gone)
            come[name] += more
    for name, fresh in come.items():
        if name not in samples:
            samples[name] = Sample()
        samples[name].add(fresh)


_Value = TypeVar("_Value", int, Call)


def _changed(old: Sequence[_Value], new: Sequence[_Value]) -> tuple[Sequence[_Value], Sequence[_Value]]:
    """What went and what came between two lists that mostly agree: a trace grows by a few spans."""
    if not old:
        return (), new
    first, last = 0, 0
    least = min(len(old), len(new))
    while first < least and old[first] == new[first]:
        first += 1
    while last < least - first and old[-1 - last] == new[-1 - last]:
        last += 1
    return old[first : len(old) - last], new[first : len(new) - last]
