"""Pure: what hangs below a turn, place by place, in the order of time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from hermes_tui.model.delegated import spent_below
from hermes_tui.model.joined import JoinedTurn, Step
from hermes_tui.model.span import Role, Status
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Turn, is_turn
from hermes_tui.tui.rows import RowKey, span_key
from hermes_tui.tui.standins import Delegate, Place, StandIn, Standing

Folds = Callable[[RowKey, int], bool]
"""(key, depth) → whether what is below is hidden."""


class Spot(NamedTuple):
    """A place on its way to a row. `retried`: a model call that failed and was made again."""

    place: Place
    key: RowKey
    depth: int
    parent: bool
    folded: bool
    retried: bool


def hidden(node: Node, turn: Turn, hosted: Collection[bytes], *, raw: bool) -> bool:
    """Wrappers repeat their parent; a missing parent stands for one when it is known whose it is."""
    if raw:
        return False
    known = node.home is not None or node.span_id in hosted
    if node.span is None:
        own = (child.span is None or child.span.session == turn.session for child in node.children)
        return known or all(own)
    above = node.parent.span if node.parent is not None else None
    below_agent = node.span_id in hosted or (above is not None and above.role is Role.SUBAGENT)
    repeats = node.span.role is Role.TURN and below_agent
    return repeats or node.span.role is Role.WRAPPER


class Below:
    """What hangs below a turn and below each of its rows, without what is hidden."""

    def __init__(self, turn: JoinedTurn, stand: Standing, *, raw: bool) -> None:
        self._turn = turn.turn
        self._stand = stand
        self._raw = raw
        self._guests: dict[bytes, list[Node]] = {}
        for top in turn.turn.tops if turn.turn is not None else ():
            if top.home is not None:
                self._guests.setdefault(top.home.span_id, []).append(top)

    def walk(self, folded: Folds) -> Iterator[Spot]:
        """Parents first; iterative, so depth is no limit."""
        tops = self.tops()
        levels = [zip(tops, _retried(tops), strict=True)]
        while levels:
            for place, retried in levels[-1]:
                depth, children, key = len(levels), self.children(place), self.key(place)
                closed = bool(children) and folded(key, depth)
                yield Spot(self._told(place, key), key, depth, bool(children), closed, retried)
                if children and not closed:
                    levels.append(zip(children, _retried(children), strict=True))
                    break
            else:
                levels.pop()

    def tops(self) -> list[Place]:
        """The turn's own span is the turn's row and not drawn again."""
        turn = self._turn
        if turn is None:
            return sorted(self._stand.tops, key=_start)
        tops = [top for top in turn.tops if top.home is None and top.span_id not in self._stand.hosted]
        if turn.node is not None:
            tops = [*(child for child in turn.node.children if not is_turn(child)), *tops[1:]]
        return self._seen([*tops, *self._stand.tops])

    def children(self, place: Place) -> list[Place]:
        if isinstance(place, StandIn):
            return self._seen(place.children)
        if (
            not place.children
            and place.span_id not in self._guests
            and place.span_id not in self._stand.below
        ):
            return []
        return self._seen([*self._of(place), *self._stand.below.get(place.span_id, ())])

    def key(self, place: Place) -> RowKey:
        if isinstance(place, StandIn):
            return place.key
        assert self._turn is not None
        return span_key(self._turn.trace_id, place)

    def _told(self, place: Place, key: RowKey) -> Place:
        """A subagent's row tells of all that is below it, and so is no row of its span alone."""
        if not isinstance(place, Node) or place.role is not Role.SUBAGENT:
            return place
        tokens = self._tokens.get(place.span_id, 0)
        agent = self._stand.agents.get(place.span_id)
        return StandIn(key, place.start_ns, Delegate(place, key[0], agent, tokens, self._stand.running))

    @cached_property
    def _tokens(self) -> Mapping[bytes, int]:
        """By subagent's span, the tokens of all that is below it."""
        return spent_below(self._turn) if self._turn is not None else {}

    def _of(self, node: Node) -> list[Node]:
        own = [child for child in node.children if not is_turn(child)]
        return [*own, *self._guests.get(node.span_id, ())]

    def _seen(self, places: Sequence[Place]) -> list[Place]:
        """These, and in place of the hidden ones what is below them, by start."""
        if not places:
            return []
        found: list[Place] = []
        stack = list(reversed(places))
        while stack:
            place = stack.pop()
            if not isinstance(place, Node) or self._turn is None:
                found.append(place)
            elif hidden(place, self._turn, self._stand.hosted, raw=self._raw):
                stack += reversed([*self._of(place), *self._stand.below.get(place.span_id, ())])
            else:
                found.append(place)
        found.sort(key=_start)
        return found


def _retried(places: Sequence[Place]) -> list[bool]:
    """Whether each is a model call that failed and was made again later."""
    again = False
    marks = []
    for place in reversed(places):
        span = place.span if isinstance(place, Node) else None
        call = span is not None and span.role is Role.MODEL_CALL
        marks.append(again and call and span is not None and span.status is Status.ERROR)
        # What is only awaited was not made yet: Hermes may be giving up.
        again = again or call or (isinstance(place, StandIn) and isinstance(place.part, Step))
    marks.reverse()
    return marks


def _start(place: Place) -> tuple[int, bytes]:
    return place.start_ns, place.span_id if isinstance(place, Node) else b"\xff" * 9
