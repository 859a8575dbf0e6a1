"""Pure: turns + folds → visible rows. Work follows the turns that changed, not what is stored.

Rows are kept in blocks, one a turn; an unchanged turn's block is reused as it is. The newest turn
comes first, its rows below it in the order of time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from itertools import accumulate

from hermes_tui.model.span import FAILURES, Role
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Turn, is_command, is_turn, members
from hermes_tui.tui.glyphs import UNICODE, Glyphs
from hermes_tui.tui.rows import Row, RowKey, command_row, node_row, span_key, turn_key, turn_row

TurnKey = tuple[bytes, bytes]


class Blocks:
    """Rows in blocks by turn, found by number or by key. `built` counts rows made, for tests."""

    def __init__(self, glyphs: Glyphs = UNICODE) -> None:
        self.glyphs = glyphs
        self.built = 0
        self._order: list[TurnKey] = []
        self._blocks: dict[TurnKey, list[Row]] = {}
        self._marks: dict[TurnKey, object] = {}
        self._lengths: list[int] = []
        self._ends: list[int] = []
        self._places: dict[RowKey, TurnKey] = {}
        self._alive: set[TurnKey] = set()
        self._touched: set[TurnKey] = set()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def alive(self) -> bool:
        """Whether any row can show a running clock."""
        return bool(self._alive)

    def row(self, number: int) -> Row:
        """The row with this number; raises IndexError."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        block = bisect_right(self._ends, number)
        before = self._ends[block - 1] if block else 0
        return self._blocks[self._order[block]][number - before]

    def find(self, key: RowKey | None) -> int | None:
        """The number of the row with this key, when it is visible."""
        home = None if key is None else self._places.get(key)
        if home is None:
            return None
        block = self._order.index(home)
        before = self._ends[block - 1] if block else 0
        return next(before + at for at, row in enumerate(self._blocks[home]) if row.key == key)

    def _arrange(
        self,
        turns: Sequence[Turn],
        dirty: Collection[bytes],
        mark: Callable[[int, Turn], object],
        build: Callable[[int, Turn], list[Row]],
    ) -> None:
        """Take the blocks of `turns` in this order; build those whose trace is dirty or mark changed.

        While the order stays, only turns that can have changed are looked at: a session may have
        thousands, and this runs for every span that arrives.
        """
        order = [turn.key for turn in turns]
        if order == self._order:
            watched = self._alive | self._touched
            places = [at for at, turn in enumerate(turns) if turn.trace_id in dirty or order[at] in watched]
        else:
            places = list(range(len(turns)))
            for gone in self._blocks.keys() - set(order):
                self._drop(gone)
            self._lengths = [0] * len(turns)
        self._touched.clear()
        for at in places:
            self._refresh(at, turns[at], dirty, mark(at, turns[at]), build)
        self._order = order
        if places:
            self._ends = list(accumulate(self._lengths))

    def _refresh(
        self, at: int, turn: Turn, dirty: Collection[bytes], mark: object,
        build: Callable[[int, Turn], list[Row]],
    ) -> None:  # fmt: skip
        key = turn.key
        if turn.trace_id in dirty or key not in self._blocks or self._marks[key] != mark:
            self._drop(key)
            rows = self._blocks[key] = build(at, turn)
            self._marks[key] = mark
            self._places.update((row.key, key) for row in rows)
            self.built += len(rows)
        self._lengths[at] = len(self._blocks[key])

    def _watch(self, turn: Turn, status: str) -> None:
        """A turn that runs may end by the clock alone."""
        if status == "running":
            self._alive.add(turn.key)
        else:
            self._alive.discard(turn.key)

    def _drop(self, key: TurnKey) -> None:
        for row in self._blocks.pop(key, ()):
            if self._places.get(row.key) == key:
                del self._places[row.key]
        self._marks.pop(key, None)
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
        self._held: set[TurnKey] = set()
        self._generation = 0

    def update(self, turns: Sequence[Turn], dirty: Collection[bytes], now_ns: int) -> None:
        """`turns` in order of time; `dirty` are the ids of the traces that changed."""
        count = len(turns)

        def mark(at: int, turn: Turn) -> tuple[bool, int, str, int]:
            status = turn.status(now_ns)
            self._watch(turn, status)
            return self.folded(turn, newest=at == 0), count - at, status, self._generation

        def build(at: int, turn: Turn) -> list[Row]:
            folded, number, status, _ = mark(at, turn)
            head = turn_row(turn, number, folded, now_ns, self.glyphs)
            return [head] if folded else [head, *self._below(turn, alive=status == "running")]

        self._arrange(turns[::-1], dirty, mark, build)

    def folded(self, turn: Turn, *, newest: bool) -> bool:
        return self._folds.get(turn_key(turn), not newest and turn.key not in self._held)

    def hold(self, key: RowKey | None) -> None:
        """A user reads at this row: its turn stays open when a newer one comes. None: nobody reads."""
        if key is None:
            self._touched |= self._held
            self._held.clear()
            return
        home = self._places.get(key)
        if home is not None and self._blocks[home][0].marker == self.glyphs.open:
            self._held.add(home)

    def set_fold(self, key: RowKey, folded: bool) -> None:
        """Remember what the user wants of a row; seen at the next `update`."""
        if self._folds.get(key) == folded:
            return
        self._folds[key] = folded
        if key[2] == "turn":
            self._touched.add(key[:2])
        elif (home := self._places.get(key)) is not None:
            self._touched.add(home)
            self._marks[home] = None

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
        """The last row of the newest turn: what a follower looks at."""
        return self._blocks[self._order[0]][-1].key if self._order else None

    def parent(self, number: int) -> int | None:
        """The row that the row with this number hangs below."""
        depth = self.row(number).depth
        return next((at for at in range(number - 1, -1, -1) if self.row(at).depth < depth), None)

    def _below(self, turn: Turn, *, alive: bool) -> list[Row]:
        rows: list[Row] = []
        guests = _guests(turn)
        stack = [(node, 1) for node in reversed(self._tops(turn))]
        while stack:
            node, depth = stack.pop()
            children = _children(node, guests)
            if self._hidden(node, turn):
                stack += [(child, depth) for child in reversed(children)]
                continue
            key = span_key(turn.trace_id, node)
            foldable = self._shows_any(children, turn, guests)
            folded = foldable and self._folds.get(key, False)
            marker = "" if not foldable else self.glyphs.folded if folded else self.glyphs.open
            rows.append(node_row(node, turn.trace_id, depth, marker, alive, self.glyphs))
            if not folded:
                stack += [(child, depth + 1) for child in reversed(children)]
        return rows

    def _shows_any(self, nodes: list[Node], turn: Turn, guests: Guests) -> bool:
        """Whether any of these, or what is below the hidden ones among them, is drawn."""
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if not self._hidden(node, turn):
                return True
            stack += _children(node, guests)
        return False

    def _tops(self, turn: Turn) -> list[Node]:
        """The turn's subtrees; its own span is the turn's row and not drawn again."""
        tops = [top for top in turn.tops if top.home is None]
        if turn.node is None:
            return tops
        below = [child for child in turn.node.children if not is_turn(child)]
        return sorted([*below, *tops[1:]], key=_by_start)

    def _hidden(self, node: Node, turn: Turn) -> bool:
        """Wrappers repeat their parent; a missing parent stands for one when it is known whose it is."""
        if self.raw:
            return False
        if node.span is None:
            own = (child.span is None or child.span.session == turn.session for child in node.children)
            return node.home is not None or all(own)
        above = node.parent.span if node.parent is not None else None
        repeats = node.span.role is Role.TURN and above is not None and above.role is Role.SUBAGENT
        return repeats or node.span.role is Role.WRAPPER


Guests = dict[bytes, list[Node]]
"""Subtrees without a known parent, by the span id of the subagent whose work they are."""


def _guests(turn: Turn) -> Guests:
    guests: Guests = {}
    for top in turn.tops:
        if top.home is not None:
            guests.setdefault(top.home.span_id, []).append(top)
    return guests


def _children(node: Node, guests: Guests) -> list[Node]:
    own = [child for child in node.children if not is_turn(child)]
    more = guests.get(node.span_id)
    return sorted([*own, *more], key=_by_start) if more else own


def _by_start(node: Node) -> tuple[int, bytes]:
    return node.start_ns, node.span_id


class CommandsOutline(Blocks):
    """The terminal commands of a session, newest last, with those of its subagents."""

    def __init__(self, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(glyphs)
        self._failed: dict[TurnKey, int] = {}

    @property
    def failed(self) -> int:
        """How many of the commands failed."""
        return sum(self._failed.values())

    def update(self, turns: Sequence[Turn], dirty: Collection[bytes], now_ns: int) -> None:
        def mark(_: int, turn: Turn) -> str:
            status = turn.status(now_ns)
            self._watch(turn, status)
            return status

        def build(_: int, turn: Turn) -> list[Row]:
            alive = turn.status(now_ns) == "running"
            found = [
                (node.span.start_ns, node.span, node)
                for node in members(turn)
                if node.span is not None and is_command(node.span)
            ]
            found.sort(key=lambda item: (item[0], item[2].span_id))
            self._failed[turn.key] = sum(span.outcome in FAILURES for _, span, _ in found)
            return [
                command_row(span, turn.trace_id, node, clock_time(start), alive, self.glyphs)
                for start, span, node in found
            ]

        self._arrange(turns, dirty, mark, build)

    def _drop(self, key: TurnKey) -> None:
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
