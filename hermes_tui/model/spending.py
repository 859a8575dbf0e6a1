"""What a session used, and how long it took: tokens and cost, the calls in their order, durations.

Every token counts once, as in `turns.counted`. Durations are of what has ended; a wrapper repeats its
parent and a subagent's own agent span its subagent, so these are left out.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

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

    __slots__ = ("_cost", "_counts", "calls", "priced")

    def __init__(self) -> None:
        self.calls = self.priced = 0
        self._counts = [0, 0, 0, 0, 0]
        self._cost = 0.0

    def take(self, span: Span) -> None:
        """One more call."""
        counts = self._counts
        counts[0] += span.input_tokens or 0
        counts[1] += span.output_tokens or 0
        counts[2] += span.cache_read_tokens or 0
        counts[3] += span.cache_write_tokens or 0
        counts[4] += span.reasoning_tokens or 0
        self.calls += 1
        if span.cost is not None:
            self.priced += 1
            self._cost += span.cost

    def add(self, other: Tally) -> None:
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self.calls += other.calls
        self.priced += other.priced
        self._cost += other._cost

    @property
    def usage(self) -> Usage:
        counts = self._counts
        return Usage(
            input_tokens=counts[0],
            output_tokens=counts[1],
            cache_read_tokens=counts[2],
            cache_write_tokens=counts[3],
            reasoning_tokens=counts[4],
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


_Named = defaultdict[str, list[int]]


class Durations(NamedTuple):
    """Nanoseconds of what ended: by kind, and by name of tool calls and model calls."""

    kinds: _Named
    tools: _Named
    models: _Named

    @classmethod
    def none(cls) -> Durations:
        return cls(defaultdict(list), defaultdict(list), defaultdict(list))


@dataclass(slots=True)
class Part:
    """One trace's share. `own` is the session's, `below` that of subagents in its turns."""

    view: TraceView
    own: Tally = field(default_factory=Tally)
    below: Tally = field(default_factory=Tally)
    models: dict[str, Tally] = field(default_factory=dict)
    turns: dict[tuple[bytes, bytes], Tally] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    durations: Durations = field(default_factory=Durations.none)
    slowest: list[Slow] = field(default_factory=list)


def read_part(view: TraceView, session: str) -> Part:
    """What a session used in one trace; work is linear in the trace's spans.

    Of its own turns everything counts, subagents too; of another session's turns what is the session's.
    """
    part = Part(view)
    owners = view.owners
    work: list[tuple[int, int, bytes, bytes]] = []
    for turn in view.turns:
        nodes = list(members(turn))
        if turn.session != session:
            mine = {node.span_id for node in nodes if owners[node.span_id] == session}
            calls = [node for node in innermost(nodes) if node.span_id in mine]
            nodes = [node for node in nodes if node.span_id in mine]
        else:
            calls = list(innermost(nodes))
        part.turns[turn.key] = _spend(part, calls, session)
        work += ((*each, turn.trace_id) for each in sorted(_time(part, nodes), reverse=True)[:SLOWEST])
    part.calls.sort()
    part.slowest = [Slow(*each) for each in sorted(work, reverse=True)[:SLOWEST]]
    return part


def _spend(part: Part, nodes: Iterable[Node], session: str) -> Tally:
    """Count the model calls of a turn; their sum."""
    total = Tally()
    owners = part.view.owners
    for node in nodes:
        span = node.span
        assert span is not None
        own = owners[node.span_id] == session
        (part.own if own else part.below).take(span)
        total.take(span)
        model = span.model or ""
        if (tally := part.models.get(model)) is None:
            tally = part.models[model] = Tally()
        tally.take(span)
        if own and span.input_tokens:
            place = (span.start_ns, span.trace_id, span.span_id)
            part.calls.append(Call(*place, span.input_tokens, span.output_tokens or 0, model))
    return total


def _time(part: Part, nodes: Iterable[Node]) -> list[tuple[int, int, bytes]]:
    """Note how long the spans of a turn took; duration, start and id of those that may be the slowest."""
    kinds, tools, models = part.durations
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
    return work


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
        for model, tally in other.models.items():
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
        """Traces that are not counted yet."""
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
        changes: list[tuple[Part | None, Part]] = []
        for trace_id in stale:
            if most <= 0:
                break
            most -= len(forest.trees[trace_id].nodes)
            part = read_part(forest.views[trace_id], self.session)
            changes.append((parts.get(trace_id), part))
            self._settle(trace_id, part)
        self._replace(changes)
        self.behind = len(stale) - len(changes)
        return not self.behind

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
        return None if part is None else part.turns.get(turn.key)

    def _settle(self, trace_id: bytes, part: Part) -> None:
        """Keep one sum for the traces at rest, so that a sum costs what is open, not what is stored."""
        known = trace_id in self._parts
        self._parts[trace_id] = part
        if not known:
            self._closed.add(part)
            return
        if trace_id not in self._open:
            if len(self._open) >= _OPEN:
                self._open.clear()
            self._open.add(trace_id)
            self._closed = Sum()
            for other, settled in self._parts.items():
                if other not in self._open:
                    self._closed.add(settled)

    def _replace(self, changes: Sequence[tuple[Part | None, Part]]) -> None:
        """Put calls and durations in their places, those of one `update` together."""
        come: list[Call] = []
        for old, new in changes:
            gone, more = _changed([] if old is None else old.calls, new.calls)
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


def _resample(samples: dict[str, Sample], changes: Iterable[tuple[_Named | None, _Named]]) -> None:
    come: _Named = defaultdict(list)
    for old, new in changes:
        for name in new if old is None else new.keys() | old.keys():
            gone, more = _changed(old.get(name, []) if old is not None else [], new.get(name, []))
            if gone:
                samples[name].remove(gone)
            come[name] += more
    for name, values in come.items():
        if name not in samples:
            samples[name] = Sample()
        samples[name].add(values)


_Value = TypeVar("_Value", int, Call)


def _changed(old: list[_Value], new: list[_Value]) -> tuple[list[_Value], list[_Value]]:
    """What went and what came between two lists that mostly agree: a trace grows by a few spans."""
    if not old:
        return [], new
    first, last = 0, 0
    least = min(len(old), len(new))
    while first < least and old[first] == new[first]:
        first += 1
    while last < least - first and old[-1 - last] == new[-1 - last]:
        last += 1
    return old[first : len(old) - last], new[first : len(new) - last]
