"""Pure: what a row is by nature, counted by turn: what filters and jumps go by without looking at rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hermes_tui.model.joined import Agent, Item, JoinedTurn
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import FAILURES, NANOSECONDS, Outcome, Role, Span, Status
from hermes_tui.model.turns import is_command, members
from hermes_tui.model.verdicts import agent_end
from hermes_tui.tui.below import hidden
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.rows import Row, refused
from hermes_tui.tui.standin_rows import WAITING
from hermes_tui.tui.standins import Delegate, Place, StandIn

ERROR, COMMAND, MODEL, SLOW, RUNNING, TOOL, APPROVAL, SUBAGENT = (1 << bit for bit in range(8))
"""A row's nature is any sum of these."""

SLOW_S = 10
_SLOW_NS = SLOW_S * NANOSECONDS


class Filter(NamedTuple):
    """`wants` a nature; 0: everything."""

    wants: int
    name: str


FILTERS = (
    Filter(0, "all"),
    Filter(ERROR, "errors"),
    Filter(COMMAND, "commands"),
    Filter(TOOL, "other tools"),
    Filter(MODEL, "model calls"),
    Filter(APPROVAL, "approvals"),
    Filter(SUBAGENT, "subagents"),
    Filter(SLOW, f"over {SLOW_S} s"),
)
"""In the order in which the key goes through them."""

_KINDS = {
    Role.MODEL_CALL: MODEL, Role.TOOL: TOOL, Role.APPROVAL: APPROVAL,
    Role.SUBAGENT: SUBAGENT, Role.TURN: SUBAGENT, Role.AGENT: SUBAGENT,
}  # fmt: skip
"""Of spans that are rows; a command is told from other tools by its name."""


class Contents(NamedTuple):
    """What a turn's rows are, the head aside. `deep` is how many levels they have. `simple`: nothing without
    a span is among them, so that `count` says how many they are.
    """

    rows: int = 0
    errors: int = 0
    commands: int = 0
    models: int = 0
    slow: int = 0
    retries: int = 0
    deep: int = 0
    simple: bool = False
    tools: int = 0
    approvals: int = 0
    subagents: int = 0

    def count(self, wants: int) -> int:
        """How many rows are of this nature, one of `FILTERS`."""
        counts = {
            0: self.rows, ERROR: self.errors, COMMAND: self.commands, MODEL: self.models, SLOW: self.slow,
            TOOL: self.tools, APPROVAL: self.approvals, SUBAGENT: self.subagents,
        }  # fmt: skip
        return counts[wants]


def contents(turn: JoinedTurn) -> Contents:
    """By the turn's spans alone, in one pass; of what has no span only the calls that failed."""
    if turn.turn is None:
        return _recorded(turn)
    items = {item.also: item for item in turn.items if item.also is not None}
    rows, natures, retries = 0, [0] * 256, 0
    failed: dict[bytes | None, int] = {}
    seen: dict[bytes, int] = {}  # how deep rows are, and what is hidden below them
    for node in members(turn.turn):
        if node is turn.turn.node:
            continue
        role, above = node.role, node.parent or node.home
        depth = seen.get(above.span_id, 0) if above is not None else 0
        if role is Role.WRAPPER or (role in (None, Role.TURN) and hidden(node, turn.turn, (), raw=False)):
            if depth:
                seen[node.span_id] = depth
            continue
        rows += 1
        seen[node.span_id] = depth + 1
        if (span := node.span) is None:
            continue
        nature = _of_span(span, items.get((span.trace_id, span.span_id)))
        natures[nature] += 1
        if span.role is Role.MODEL_CALL:
            place = above.span_id if above is not None else None
            retries += failed.pop(place, 0)
            failed[place] = nature & ERROR
    deep = max(seen.values(), default=0)
    return _summed(_recorded(turn), rows, natures, retries, deep=deep, simple=_simple(turn))


def _summed(
    known: Contents, rows: int, natures: Sequence[int], retries: int, *, deep: int, simple: bool
) -> Contents:
    def total(wanted: int) -> int:
        return sum(number for nature, number in enumerate(natures) if nature & wanted)

    return Contents(
        rows,
        known.errors + total(ERROR),
        known.commands + total(COMMAND),
        known.models + total(MODEL),
        known.slow + total(SLOW),
        retries,
        max(known.deep, deep),
        simple,
        known.tools + total(TOOL),
        total(APPROVAL),
        max(known.subagents, total(SUBAGENT)),
    )


def _recorded(turn: JoinedTurn) -> Contents:
    """Of what has no span."""
    items = [item for item in turn.items if item.span is None]
    return Contents(
        errors=sum(_fell(item) for item in items),
        commands=sum(item.tool in COMMAND_TOOLS for item in items),
        models=sum(step.span is None for step in turn.steps),
        slow=sum(item.end_ns - item.start_ns > _SLOW_NS for item in items),
        deep=2 if turn.agents else 1,
        tools=sum(item.tool not in COMMAND_TOOLS for item in items),
        subagents=len(turn.agents),
    )


def _fell(item: Item) -> bool:
    """Whether a call without a span failed, or was stopped, whatever the moment."""
    if not item.end_ns:
        return item.dropped
    return item.outcome in FAILURES if item.tool in COMMAND_TOOLS else item.outcome is Outcome.FAILED


def errors_now(turn: JoinedTurn, known: Contents, moment: Moment) -> int:
    """How many of a turn's rows say that something failed: what `known` counts, and what the moment tells of
    calls that nobody ended and of background jobs.
    """
    return known.errors + (0 if known.simple else sum(_fails_now(item, moment) for item in turn.items))


def _fails_now(item: Item, moment: Moment) -> bool:
    if (job := moment.job(item)) is not None and job.ended:
        return bool(job.exit_code)
    if item.span is not None or item.end_ns or item.dropped:
        return False
    if job is not None and job.running(moment.now_ns):
        return False
    return not (moment.since(item) or moment.asks(item) or moment.waits(item))


def _simple(turn: JoinedTurn) -> bool:
    """Whether every row is that of a span, and says nothing but what the span says."""
    return (
        not turn.agents
        and all(step.span is not None for step in turn.steps)
        and all(item.span is not None and item.outcome is not Outcome.BACKGROUND for item in turn.items)
    )


def _of_span(span: Span, item: Item | None) -> int:
    nature = SLOW if span.end_ns - span.start_ns > _SLOW_NS else 0
    if is_command(span):
        bad = (item.outcome if item is not None else span.outcome) in FAILURES
        return nature | COMMAND | (ERROR if bad and not span.running else 0)
    nature |= _KINDS.get(span.role, 0)
    fell = span.role is Role.SUBAGENT and agent_end(span) == "failed"
    return nature | (ERROR if fell or span.status is Status.ERROR or refused(span) else 0)


def nature_of(row: Row, place: Place, now_ns: int, glyphs: Glyphs) -> int:
    """What a row is: the same of a span as `contents` counts."""
    nature = ERROR if row.value.removeprefix(f"{glyphs.background} ").startswith(glyphs.bad) else 0
    if row.since_ns or row.style == WAITING:
        nature |= RUNNING
    if ((row.end_ns or (now_ns if row.since_ns else 0)) - row.start_ns) > _SLOW_NS:
        nature |= SLOW
    if isinstance(place, StandIn):
        if isinstance(place.part, Item):
            return nature | (COMMAND if place.part.tool in COMMAND_TOOLS else TOOL)
        if isinstance(place.part, Agent | Delegate):
            return nature | SUBAGENT
        return nature | (MODEL if row.glyph == glyphs.llm else 0)
    if place.span is None:
        return nature
    return nature | (COMMAND if is_command(place.span) else _KINDS.get(place.span.role, 0))


def sift(rows: Iterable[Row], wants: int) -> list[Row]:
    """The rows of this nature and those that run, each with the rows that it hangs below."""
    found: list[Row] = []
    wanted = wants | RUNNING
    above: list[Row] = []  # rows that the next may hang below, not shown yet
    for row in rows:
        while above and above[-1].depth >= row.depth:
            above.pop()
        if row.nature & wanted:
            found += [*above, row]
            above.clear()
        else:
            above.append(row)
    return found
