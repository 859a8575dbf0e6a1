"""Pure: what a row is by nature, counted by turn: what filters and jumps go by without looking at rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hermes_tui.model.joined import Item, JoinedTurn
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import FAILURES, NANOSECONDS, Outcome, Role, Span, Status
from hermes_tui.model.turns import is_command, members
from hermes_tui.tui.below import hidden
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.rows import Row, refused
from hermes_tui.tui.standin_rows import WAITING
from hermes_tui.tui.standins import Place, StandIn

ERROR, COMMAND, MODEL, SLOW, RUNNING = 1, 2, 4, 8, 16
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
    Filter(MODEL, "model calls"),
    Filter(SLOW, f"over {SLOW_S} s"),
)
"""In the order in which the key goes through them."""


class Contents(NamedTuple):
    """What a turn's rows are, the head aside. `flat`: none hangs below another. `simple`: nothing without a
    span is among them, so that `count` says how many they are.
    """

    rows: int = 0
    errors: int = 0
    commands: int = 0
    models: int = 0
    slow: int = 0
    retries: int = 0
    flat: bool = True
    simple: bool = False

    def count(self, wants: int) -> int:
        """How many rows are of this nature, one of `FILTERS`."""
        counts = {0: self.rows, ERROR: self.errors, COMMAND: self.commands, MODEL: self.models}
        return counts.get(wants, self.slow)


def contents(turn: JoinedTurn) -> Contents:
    """By the turn's spans alone, in one pass; of what has no span only the calls that failed."""
    if turn.turn is None:
        return _recorded(turn)
    items = {item.also: item for item in turn.items if item.also is not None}
    rows, natures, retries, flat = 0, [0] * 32, 0, True
    failed: dict[bytes | None, int] = {}
    seen: set[bytes] = set()  # rows, and what is hidden below them
    for node in members(turn.turn):
        if node is turn.turn.node:
            continue
        role, above = node.role, node.parent or node.home
        below = above is not None and above.span_id in seen
        if role is Role.WRAPPER or (role in (None, Role.TURN) and hidden(node, turn.turn, (), raw=False)):
            if below:
                seen.add(node.span_id)
            continue
        rows += 1
        flat = flat and not below
        seen.add(node.span_id)
        if (span := node.span) is None:
            continue
        nature = _of_span(span, items.get((span.trace_id, span.span_id)))
        natures[nature] += 1
        if span.role is Role.MODEL_CALL:
            place = above.span_id if above is not None else None
            retries += failed.pop(place, 0)
            failed[place] = nature & ERROR
    return _summed(_recorded(turn), rows, natures, retries, flat=flat, simple=_simple(turn))


def _summed(
    known: Contents, rows: int, natures: Sequence[int], retries: int, *, flat: bool, simple: bool
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
        flat,
        simple,
    )


def _recorded(turn: JoinedTurn) -> Contents:
    """Of what has no span."""
    items = [item for item in turn.items if item.span is None]
    return Contents(
        errors=sum(item.outcome in FAILURES or (item.dropped and not item.end_ns) for item in items),
        commands=sum(item.tool in COMMAND_TOOLS for item in items),
        models=sum(step.span is None for step in turn.steps),
        slow=sum(item.end_ns - item.start_ns > _SLOW_NS for item in items),
    )


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
    if span.role is Role.MODEL_CALL:
        nature |= MODEL
    return nature | (ERROR if span.status is Status.ERROR or refused(span) else 0)


def nature_of(row: Row, place: Place, now_ns: int, glyphs: Glyphs) -> int:
    """What a row is: the same of a span as `contents` counts."""
    nature = ERROR if row.value.removeprefix(f"{glyphs.background} ").startswith(glyphs.bad) else 0
    if row.since_ns or row.style == WAITING:
        nature |= RUNNING
    if ((row.end_ns or (now_ns if row.since_ns else 0)) - row.start_ns) > _SLOW_NS:
        nature |= SLOW
    if isinstance(place, StandIn):
        if isinstance(place.part, Item):
            return nature | (COMMAND if place.part.tool in COMMAND_TOOLS else 0)
        return nature | (MODEL if row.glyph == glyphs.llm else 0)
    if place.span is None:
        return nature
    role = place.span.role
    return nature | (COMMAND if is_command(place.span) else MODEL if role is Role.MODEL_CALL else 0)


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
