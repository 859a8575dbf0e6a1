"""Pure: turns + folds → visible rows. Work follows the turns that changed, not what is stored.

Rows are kept in blocks, one a turn; an unchanged turn's block is reused as it is. The newest turn
comes first, its rows below it in the order of time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple

from hermes_tui.model.joined import JoinedTurn
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import FAILURES, Role
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Turn, is_turn
from hermes_tui.tui.glyphs import UNICODE, Glyphs
from hermes_tui.tui.moment import Moment, lead_of
from hermes_tui.tui.rows import Row, RowKey, call_key, node_row, span_key, turn_keys, turn_row
from hermes_tui.tui.standin_rows import WAITING, call_row, command_row, stand_in_row
from hermes_tui.tui.standins import Place, StandIn, Standing, standing


class Block(NamedTuple):
    """The rows of a turn, and what they were called before: old key → key."""

    rows: list[Row]
    names: Mapping[RowKey, RowKey]


class Blocks:
    """Rows in blocks by turn, found by number or by key. `built` counts rows made, for tests."""

    def __init__(self, glyphs: Glyphs = UNICODE) -> None:
        self.glyphs = glyphs
        self.built = 0
        self._turns: list[JoinedTurn] = []
        self._order: list[RowKey] = []
        self._blocks: dict[RowKey, Block] = {}
        self._made: dict[RowKey, tuple[JoinedTurn, object]] = {}
        self._lengths: list[int] = []
        self._ends: list[int] = []
        self._places: dict[RowKey, RowKey] = {}
        self._alive: set[RowKey] = set()
        self._watched: set[RowKey] = set()
        self._touched: set[RowKey] = set()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def alive(self) -> bool:
        """Whether any row shows a running clock."""
        return bool(self._alive)

    @property
    def moves(self) -> bool:
        """Whether any row may change by the clock alone."""
        return bool(self._watched)

    def row(self, number: int) -> Row:
        """The row with this number; raises IndexError."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        block = bisect_right(self._ends, number)
        before = self._ends[block - 1] if block else 0
        return self._blocks[self._order[block]].rows[number - before]

    def find(self, key: RowKey | None) -> int | None:
        """The number of the row with this key, now or before its span came, when it is visible."""
        home = None if key is None else self._places.get(key)
        if key is None or home is None:
            return None
        block = self._order.index(home)
        before = self._ends[block - 1] if block else 0
        rows, names = self._blocks[home]
        wanted = names.get(key, key)
        return next(before + at for at, row in enumerate(rows) if row.key == wanted)

    def _arrange(
        self,
        turns: Sequence[JoinedTurn],
        mark: Callable[[int, JoinedTurn], object],
        build: Callable[[int, JoinedTurn], Block],
    ) -> None:
        """Take the blocks of `turns` in this order; build those that are new or whose mark changed.

        While the order stays, only turns that can have changed are looked at: a session may have
        thousands, and this runs for every span that arrives.
        """
        order = [turn_keys(turn)[0] for turn in turns]
        if order == self._order:
            watched = self._watched | self._touched
            known = self._turns
            places = [at for at, turn in enumerate(turns) if turn is not known[at] or order[at] in watched]
        else:
            places = list(range(len(turns)))
            for gone in self._blocks.keys() - set(order):
                self._drop(gone)
                self._watched.discard(gone)
            self._lengths, self._ends = [0] * len(turns), []
        self._touched.clear()
        for at in places:
            self._refresh(at, order[at], turns[at], mark(at, turns[at]), build)
        self._order, self._turns = order, list(turns)
        if places:
            self._ends = list(accumulate(self._lengths))

    def _refresh(
        self, at: int, key: RowKey, turn: JoinedTurn, mark: object,
        build: Callable[[int, JoinedTurn], Block],
    ) -> None:  # fmt: skip
        known = self._made.get(key)
        if known is None or known[0] is not turn or known[1] != mark:
            self._drop(key)
            block = self._blocks[key] = build(at, turn)
            self._made[key] = turn, mark
            self._places.update((row.key, key) for row in block.rows)
            self._places.update((name, key) for name, now in block.names.items() if now in self._places)
            if any(row.since_ns for row in block.rows):
                self._alive.add(key)
            self.built += len(block.rows)
        self._lengths[at] = len(self._blocks[key].rows)

    def _watch(self, turn: JoinedTurn, *, moves: bool) -> None:
        """A turn that `moves` may change by the clock alone."""
        (self._watched.add if moves else self._watched.discard)(turn_keys(turn)[0])

    def _drop(self, key: RowKey) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            for name in (*(row.key for row in block.rows), *block.names):
                if self._places.get(name) == key:
                    del self._places[name]
        self._made.pop(key, None)
        self._alive.discard(key)


class TreeOutline(Blocks):
    """The tree: turns, newest first, and below the open ones their spans.

    Without a word from the user only the newest turn is open. `raw` also shows wrappers and
    the places of spans that have not come.
    """

    def __init__(self, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(glyphs)
        self.raw = False
        self._folds: dict[RowKey, bool] = {}
        self._held: set[RowKey] = set()
        self._generation = 0

    def update(self, turns: Sequence[JoinedTurn], moment: Moment) -> None:
        """`turns` in order of time."""
        count, lead = len(turns), lead_of(turns)

        def mark(at: int, turn: JoinedTurn) -> tuple[object, ...]:
            status = moment.status(turn, lead)
            running = status == "running"
            self._watch(turn, moves=running or not moment.settled(turn))
            pulse = moment.pulse(turn, running=running)
            return self.folded(turn, newest=at == 0), count - at, status, self._generation, pulse

        def build(at: int, turn: JoinedTurn) -> Block:
            status = moment.status(turn, lead)
            running, folded = status == "running", self.folded(turn, newest=at == 0)
            first, *before = turn_keys(turn)
            names = dict.fromkeys(before, first)
            head = turn_row(turn, count - at, folded, status, _tokens(turn, moment), self.glyphs)
            if folded:
                return Block([head], names)
            stand = standing(turn, moment, running=running)
            names.update((old, new) for new, old in stand.names.items())
            below = self._below(turn, stand, moment, alive=running)
            return Block([head, *below], names)

        self._arrange(turns[::-1], mark, build)

    def folded(self, turn: JoinedTurn, *, newest: bool) -> bool:
        keys = turn_keys(turn)
        said = next((self._folds[key] for key in keys if key in self._folds), None)
        return (not newest and self._held.isdisjoint(keys)) if said is None else said

    def hold(self, key: RowKey | None) -> None:
        """A user reads at this row: its turn stays open when a newer one comes. None: nobody reads."""
        if key is None:
            self._touched |= self._held
            self._held.clear()
            return
        home = self._places.get(key)
        if home is not None and self._blocks[home].rows[0].marker == self.glyphs.open:
            self._held.add(home)

    def set_fold(self, key: RowKey, folded: bool) -> None:
        """Remember what the user wants of a row; seen at the next `update`."""
        home = self._places.get(key)
        if home is not None:
            key = self._blocks[home].names.get(key, key)
        if self._folds.get(key) == folded:
            return
        self._folds[key] = folded
        if home is not None:
            self._touched.add(home)
            self._made.pop(home, None)

    def unfold(self, key: RowKey) -> None:
        """Undo a fold, if there is one."""
        if self._folds.get(key):
            self.set_fold(key, False)

    def set_raw(self, raw: bool) -> None:
        if self.raw != raw:
            self.raw = raw
            self._generation += 1
            self._touched.update(self._order)

    def newest(self) -> RowKey | None:
        """The last row of the newest turn that has something to tell: what a follower looks at."""
        if not self._order:
            return None
        head, *below = self._blocks[self._order[0]].rows
        return next((row.key for row in reversed(below) if row.style != WAITING), head.key)

    def parent(self, number: int) -> int | None:
        """The row that the row with this number hangs below."""
        depth = self.row(number).depth
        return next((at for at in range(number - 1, -1, -1) if self.row(at).depth < depth), None)

    def _below(self, turn: JoinedTurn, stand: Standing, moment: Moment, *, alive: bool) -> list[Row]:
        rows: list[Row] = []
        below = _Below(turn, stand, self._hidden)
        stack = [(place, 1) for place in reversed(below.tops())]
        while stack:
            place, depth = stack.pop()
            children = below.children(place)
            key = below.key(place)
            folded = bool(children) and self._fold_of(key, stand)
            marker = "" if not children else self.glyphs.folded if folded else self.glyphs.open
            if isinstance(place, StandIn):
                rows.append(stand_in_row(place, turn, depth, marker, moment, self.glyphs))
            else:
                item = stand.items.get(key[:2])
                row = node_row(
                    place, key[0], depth, marker, alive, self.glyphs,
                    item=item, job=moment.job(item), now_ns=moment.now_ns,
                )  # fmt: skip
                rows.append(row)
            if not folded:
                stack += [(child, depth + 1) for child in reversed(children)]
        return rows

    def _fold_of(self, key: RowKey, stand: Standing) -> bool:
        """What the user said of a row, perhaps before its span came."""
        if key not in self._folds and key in stand.names:
            key = stand.names[key]
        return self._folds.get(key, False)

    def _hidden(self, node: Node, turn: Turn, hosted: Collection[bytes]) -> bool:
        """Wrappers repeat their parent; a missing parent stands for one when it is known whose it is."""
        if self.raw:
            return False
        known = node.home is not None or node.span_id in hosted
        if node.span is None:
            own = (child.span is None or child.span.session == turn.session for child in node.children)
            return known or all(own)
        above = node.parent.span if node.parent is not None else None
        below_agent = node.span_id in hosted or (above is not None and above.role is Role.SUBAGENT)
        repeats = node.span.role is Role.TURN and below_agent
        return repeats or node.span.role is Role.WRAPPER


class _Below:
    """What hangs below a turn and below each of its rows, in the order of time, without what is hidden."""

    def __init__(
        self, turn: JoinedTurn, stand: Standing, hidden: Callable[[Node, Turn, Collection[bytes]], bool]
    ) -> None:
        self._turn = turn.turn
        self._stand = stand
        self._hidden = hidden
        self._guests: dict[bytes, list[Node]] = {}
        for top in turn.turn.tops if turn.turn is not None else ():
            if top.home is not None:
                self._guests.setdefault(top.home.span_id, []).append(top)

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
        return self._seen([*self._of(place), *self._stand.below.get(place.span_id, ())])

    def key(self, place: Place) -> RowKey:
        if isinstance(place, StandIn):
            return place.key
        assert self._turn is not None
        return span_key(self._turn.trace_id, place)

    def _of(self, node: Node) -> list[Node]:
        own = [child for child in node.children if not is_turn(child)]
        return [*own, *self._guests.get(node.span_id, ())]

    def _seen(self, places: Sequence[Place]) -> list[Place]:
        """These, and in place of the hidden ones what is below them, by start."""
        found: list[Place] = []
        stack = list(reversed(places))
        while stack:
            place = stack.pop()
            if not isinstance(place, Node) or self._turn is None:
                found.append(place)
            elif self._hidden(place, self._turn, self._stand.hosted):
                stack += reversed([*self._of(place), *self._stand.below.get(place.span_id, ())])
            else:
                found.append(place)
        found.sort(key=_start)
        return found


def _start(place: Place) -> tuple[int, bytes]:
    return place.start_ns, place.span_id if isinstance(place, Node) else b"\xff" * 9


def _tokens(turn: JoinedTurn, moment: Moment) -> int:
    """Of a turn's model calls: of those without a span what Hermes noted."""
    total = turn.turn.totals.usage.tokens if turn.turn is not None else 0
    for step in turn.steps:
        part = moment.live.session(step.session) if step.span is None else None
        if part is not None and (spent := part.spent(step.live)) is not None:
            total += spent.input_tokens + spent.output_tokens
    return total


class CommandsOutline(Blocks):
    """The terminal commands of a session, newest last, with those of its subagents."""

    def __init__(self, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(glyphs)
        self._failed: dict[RowKey, int] = {}

    @property
    def failed(self) -> int:
        """How many of the commands failed."""
        return sum(self._failed.values())

    def update(self, turns: Sequence[JoinedTurn], moment: Moment) -> None:
        lead = lead_of(turns)

        def mark(_: int, turn: JoinedTurn) -> tuple[object, ...]:
            status = moment.status(turn, lead)
            running = status == "running"
            self._watch(turn, moves=running or not moment.settled(turn))
            return status, moment.pulse(turn, running=running)

        def build(_: int, turn: JoinedTurn) -> Block:
            alive = moment.status(turn, lead) == "running"
            items = [item for item in turn.items if item.tool in COMMAND_TOOLS]
            self._failed[turn_keys(turn)[0]] = sum(item.outcome in FAILURES for item in items)
            rows = []
            names = {}
            for item in items:
                began = clock_time(item.start_ns)
                if item.span is not None:
                    rows.append(command_row(item, item.span, began, alive, moment, self.glyphs))
                else:
                    rows.append(call_row(item, turn, moment, self.glyphs)._replace(marker=began))
                if item.also is not None and item.key != item.also:
                    names[call_key(item.key)] = rows[-1].key
            return Block(rows, names)

        self._arrange(turns, mark, build)

    def _drop(self, key: RowKey) -> None:
        super()._drop(key)
        self._failed.pop(key, None)

    def newest(self) -> RowKey | None:
        return self.row(len(self) - 1).key if len(self) else None


def clock_time(ns: int) -> str:
    """Local time of day."""
    try:
        return datetime.fromtimestamp(ns / 1e9).astimezone().strftime("%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "--:--:--"
