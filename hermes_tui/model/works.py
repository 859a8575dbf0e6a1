"""What one session did about one prompt: every call once, whoever told of it. The inside of `joined`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from hermes_tui.model.live_turns import CallKey, LiveTurn
from hermes_tui.model.live_turns import TurnKey as RecordKey
from hermes_tui.model.pairing import Ask, SpanKey, gather, pair
from hermes_tui.model.results import COMMAND_TOOLS, read_call
from hermes_tui.model.shares import Placed
from hermes_tui.model.span import NANOSECONDS, Outcome, Span
from hermes_tui.model.steps import Step, pair_steps
from hermes_tui.model.turns import Turn

AWAITED_NS = 30 * NANOSECONDS
"""A call whose span has not come so long after it ended is known from records alone."""


class Source(StrEnum):
    """Who told of a call."""

    STATE = "state"  # Hermes' own records
    MODEL = "model"  # the span of the model call that asked for it
    SPAN = "span"  # its own


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One tool call. `key` stays the same when its span comes; `also` is then the span's.

    `outcome` and `exit_code` are the best that is known, `completed` says from where when its own span
    lacks or contradicts them; `full` where its whole result is: in Hermes' records (by session and `id`)
    or in the model call's span `answered_by`. `end_ns` 0: nobody knows of an end; `dropped`: there will
    be no result. `under` is the call whose subagent made this one.
    """

    key: CallKey | SpanKey
    session: str
    tool: str
    sources: frozenset[Source]
    asked_ns: int
    start_ns: int
    end_ns: int
    id: str = ""
    also: SpanKey | None = None
    span: Span | None = None
    arguments: str = ""
    command: str | None = None
    target: str | None = None
    cwd: str | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    completed: Source | None = None
    truncated: bool = False
    full: Source | None = None
    result: str | None = None
    asked_by: SpanKey | None = None
    answered_by: SpanKey | None = None
    dropped: bool = False
    under: CallKey | SpanKey | None = None

    @property
    def open(self) -> bool:
        """Asked for or begun, and nobody knows of its end."""
        return not self.end_ns and not self.dropped

    def lost(self, turn: Turn | None, now_ns: int) -> bool:
        """Whether its span should have come by now: it was lost, or made one with another's."""
        if self.span is not None or self.open:
            return False
        end = self.end_ns or self.asked_ns
        root = turn.span if turn is not None else None
        if root is not None and not root.running and root.end_ns >= end:
            return True
        return now_ns - end > AWAITED_NS


class Agent(msgspec.Struct, frozen=True):
    """A subagent's session in Hermes' records, and the call that it works for (`under`)."""

    key: RecordKey
    prompt: str | None
    start_ns: int
    under: CallKey | SpanKey | None = None

    @property
    def session(self) -> str:
        return self.key[0]


class Work(msgspec.Struct):
    """The calls of a session about one prompt, with the keys of the turns that their spans are in (`places`);
    the model calls that Hermes noted, each with that key; and all turns there are spans of its time in.
    """

    session: str
    live: LiveTurn | None
    items: Sequence[Item] = ()
    places: Sequence[SpanKey | None] = ()
    steps: list[tuple[Step, SpanKey | None]] = msgspec.field(default_factory=list)
    homes: Collection[SpanKey] = ()
    under: CallKey | SpanKey | None = None
    made: Mapping[CallKey | SpanKey, tuple[tuple[object, ...], Item]] = msgspec.field(default_factory=dict)

    def hang(self, under: CallKey | SpanKey | None) -> None:
        """Say whose subagent made these calls."""
        if self.under != under:
            self.items = [replace(item, under=under) for item in self.items]
            self.under = under


def join(work: Work, tools: list[Placed], models: list[Placed]) -> None:
    """Everything that is known of a session's calls in a stretch of time, each call once.

    What has not changed since the last time stays the same object.
    """
    live, session = work.live, work.session
    asks = gather(session, live.calls if live is not None else (), [span for span, _ in models])
    pairs = pair(asks, [span for span, _ in tools])
    homes = {span_key(span): home for span, home in models}
    steps = pair_steps(live, [span for span, _ in models]) if live is not None else []
    work.steps = [(step, homes.get(step.also) if step.also is not None else None) for step in steps]
    known = work.made
    made: dict[CallKey | SpanKey, tuple[tuple[object, ...], Item]] = {}
    items: list[Item] = []
    places: list[SpanKey | None] = []
    for number, ask in enumerate(asks):
        span, home = tools[pairs[number]] if number in pairs else (None, None)
        if home is None and ask.asked_by is not None:
            home = homes[ask.asked_by]
        parts = (ask.live, span, ask.asked_by, ask.answered_by, ask.result, ask.dropped)
        before = known.get(ask.key)
        item = before[1] if before is not None and _same(before[0], parts) else _asked(session, ask, span)
        made[ask.key] = parts, item
        items.append(item)
        places.append(home)
    taken = set(pairs.values())
    rest = [each for at, each in enumerate(tools) if at not in taken] if taken else tools
    items += _alone(work, [span for span, _ in rest])
    places += [home for _, home in rest]
    if asks and rest:
        order = sorted(range(len(items)), key=lambda at: items[at].asked_ns or items[at].start_ns)
        items, places = [items[at] for at in order], [places[at] for at in order]
    work.items, work.places = items, places
    work.homes = tuple(dict.fromkeys(home for _, home in (*tools, *models)))
    work.made = made or _NOTHING
    under, work.under = work.under, None
    work.hang(under)


_NOTHING: Mapping[CallKey | SpanKey, tuple[tuple[object, ...], Item]] = {}


def _same(before: tuple[object, ...], parts: tuple[object, ...]) -> bool:
    return all(one is other or one == other for one, other in zip(before, parts, strict=True))


def span_key(span: Span) -> SpanKey:
    return span.trace_id, span.span_id


_TOGETHER = {
    (state, model, span): frozenset(
        source for source, told in ((Source.STATE, state), (Source.MODEL, model), (Source.SPAN, span)) if told
    )
    for state in (False, True)
    for model in (False, True)
    for span in (False, True)
}
"""Who tells of a call: its records, the model call that asked, its span. A set of its own has 216 bytes."""

_ALONE = _TOGETHER[False, False, True]


def _asked(session: str, ask: Ask, span: Span | None) -> Item:
    """A call that somebody asked for, with its span when that has come."""
    live = ask.live
    outcome, exit_code, source = _judge(ask, span)
    said = (None, None) if span is None else (_outcome(span), span.exit_code)
    result = live.result if live is not None and live.ended_ns else ask.result
    return Item(
        key=ask.key,
        also=span_key(span) if span is not None else None,
        session=session,
        id=ask.id,
        tool=ask.tool,
        arguments=ask.arguments,
        command=ask.command or (span.command if span is not None else None),
        target=ask.target or (span.target if span is not None else None),
        cwd=ask.cwd or (span.cwd if span is not None else None),
        sources=_TOGETHER[live is not None, ask.asked_by is not None, span is not None],
        asked_ns=ask.asked_ns,
        start_ns=span.start_ns if span is not None else ask.asked_ns,
        end_ns=(span.end_ns if span is not None else 0) or ask.ended_ns,
        span=span,
        outcome=outcome,
        exit_code=exit_code,
        completed=source if source is not Source.SPAN and (outcome, exit_code) != said else None,
        truncated=span is not None and span.truncated,
        full=_full(ask),
        result=result,
        asked_by=ask.asked_by,
        answered_by=ask.answered_by,
        dropped=ask.dropped and span is None,
    )


def _alone(work: Work, spans: Iterable[Span]) -> Iterator[Item]:
    """Tool spans that nobody is known to have asked for, as calls: those of before, where there are."""
    before = {} if work.under else {id(each.span): each for each in work.items if each.sources is _ALONE}
    return (before.get(id(span)) or _unasked(work.session, span) for span in spans)


def _unasked(session: str, span: Span) -> Item:
    """A tool span that nobody is known to have asked for."""
    key = span_key(span)
    return Item(
        key=key,
        also=key,
        session=session,
        id=span.call_id or "",
        tool=span.tool or span.name,
        command=span.command,
        target=span.target,
        cwd=span.cwd,
        sources=_ALONE,
        asked_ns=0,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        span=span,
        outcome=_outcome(span),
        exit_code=span.exit_code,
        truncated=span.truncated,
    )


def _judge(ask: Ask, span: Span | None) -> tuple[Outcome | None, int | None, Source | None]:
    """How a call ended by the best source: Hermes' record of the whole result, what the model was told of
    it, its own span.
    """
    if ask.live is not None and ask.live.ended_ns:
        if ask.live.outcome not in (None, Outcome.UNKNOWN):
            return ask.live.outcome, ask.live.exit_code, Source.STATE
    elif ask.result is not None and ask.tool in COMMAND_TOOLS:
        read = read_call(ask.tool, ask.arguments, ask.result)
        if read.outcome is not Outcome.UNKNOWN:
            return read.outcome, read.exit_code, Source.MODEL
    if span is None:
        return None, None, None
    return _outcome(span), span.exit_code, Source.SPAN


def _full(ask: Ask) -> Source | None:
    if ask.live is not None and ask.live.ended_ns and ask.id:
        return Source.STATE
    return Source.MODEL if ask.answered_by is not None else None


def _outcome(span: Span) -> Outcome | None:
    return Outcome(span.outcome) if span.outcome else None
