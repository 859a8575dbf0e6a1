"""Pure: rows in blocks, one a turn. An unchanged turn's block is reused as it is.

Where many turns change at once, their rows are made when somebody looks, and forgotten when many others were
looked at since: only how many they are has to be known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar

from hermes_tui.model.joined import JoinedTurn
from hermes_tui.tui.glyphs import UNICODE, Glyphs
from hermes_tui.tui.rows import Row, RowKey, turn_keys

M = TypeVar("M")
"""What tells whether a block is still right."""

_KEPT = 4_000  # rows made for a look that are kept
MANY = 32  # blocks that are made whole in one go


class Block(NamedTuple):
    """The rows of a turn, and what they were called before: old key → key. `later` is how many rows
    there will be once `Blocks._finish` makes them; then there are none yet. `bits` say of each row what has
    to be known without it.
    """

    rows: list[Row]
    names: Mapping[RowKey, RowKey]
    later: int = 0
    bits: bytes = b""


Before = tuple[JoinedTurn, M, Block]
"""A turn as it was, its mark and its block."""

Build = Callable[[int, JoinedTurn, Before[M] | None], Block]
"""(place, turn, what there was of it) → its block."""


class Blocks(Generic[M]):
    """Rows in blocks by turn, found by number or by key. `built` counts rows made, for tests."""

    def __init__(self, glyphs: Glyphs = UNICODE) -> None:
        self.glyphs = glyphs
        self.built = 0
        self._turns: list[JoinedTurn] = []
        self._order: list[RowKey] = []
        self._blocks: dict[RowKey, Block] = {}
        self._made: dict[RowKey, tuple[JoinedTurn, M]] = {}
        self._ends: list[int] = []
        self._places: dict[RowKey, RowKey] = {}
        self._alive: set[RowKey] = set()
        self._watched: set[RowKey] = set()
        self._touched: set[RowKey] = set()
        self._looked: dict[RowKey, int] = {}  # blocks that were finished, newest last, and their `later`
        self._making = 0  # blocks made since the last `_arrange` began

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
        rows = self._blocks[self._order[block]].rows
        if number - before >= len(rows):
            rows = self._whole(self._order[block]).rows
        row = rows[number - before]
        return row if number > before else self._first(block, row)

    def _first(self, block: int, row: Row) -> Row:
        """The first row of a block with what depends on its place: that alone makes no row anew."""
        return row

    def head(self, number: int) -> int:
        """The number of the first row of the block that this row is in."""
        block = bisect_right(self._ends, number)
        return self._ends[block - 1] if block else 0

    def find(self, key: RowKey | None) -> int | None:
        """The number of the row with this key, now or before its span came, when it is visible."""
        home = None if key is None else self._places.get(key)
        if key is None or home is None:
            return None
        block = self._order.index(home)
        before = self._ends[block - 1] if block else 0
        if self._blocks[home].names.get(key, key) == home:
            return before
        known = self._whole(home)
        wanted = known.names.get(key, key)
        return next((before + at for at, row in enumerate(known.rows) if row.key == wanted), None)

    def _arrange(
        self,
        turns: Sequence[JoinedTurn],
        mark: Callable[[int, JoinedTurn], M],
        build: Build[M],
    ) -> None:
        """Take the blocks of `turns` in this order; build those that are new or whose mark changed.

        Only turns that can have changed are looked at, and the first ones, now and before: a session may have
        thousands, and this runs for every span that arrives. Of the order a mark depends on nothing else.
        """
        known = dict(zip(map(id, self._turns), self._order, strict=True))
        order = [known.get(id(turn)) or turn_keys(turn)[0] for turn in turns]
        again = self._watched | self._touched | {*order[:1], *self._order[:1]}
        places = [
            at for at, (key, turn) in enumerate(zip(order, turns, strict=True))
            if id(turn) not in known or key in again
        ]  # fmt: skip
        moved = order != self._order
        if moved:
            for gone in self._blocks.keys() - set(order):
                self._drop(gone)
                self._watched.discard(gone)
        self._making = 0
        self._touched.clear()
        made = [self._refresh(at, order[at], turns[at], mark(at, turns[at]), build) for at in places]
        self._order, self._turns = order, list(turns)
        if moved or any(made):
            blocks = (self._blocks[key] for key in order)
            self._ends = list(accumulate(len(block.rows) + block.later for block in blocks))

    def _refresh(self, at: int, key: RowKey, turn: JoinedTurn, mark: M, build: Build[M]) -> bool:
        """Make a turn's block anew if it has to be; whether it had to."""
        known = self._made.get(key)
        stale = known is None or known[0] is not turn or known[1] != mark
        if stale:
            before = (*known, self._blocks[key]) if known is not None else None
            self._drop(key)
            self._making += 1
            self._made[key] = turn, mark
            block = build(at, turn, before)
            self._keep(key, block)
            if any(row.since_ns for row in block.rows):
                self._alive.add(key)
        return stale

    def _keep(self, key: RowKey, block: Block) -> None:
        self._blocks[key] = block
        self._name(key, block)
        self.built += len(block.rows)

    def _name(self, key: RowKey, block: Block) -> None:
        """Note what `find` finds in a block."""
        if block.later:
            self._places[key] = key
        self._places.update((row.key, key) for row in block.rows)
        self._places.update((name, key) for name, now in block.names.items() if now in self._places)

    def _finish(self, turn: JoinedTurn) -> Block:
        """The rows that were left for `later`."""
        raise NotImplementedError

    def _whole(self, key: RowKey) -> Block:
        """The block with its rows; those of blocks that were finished long ago are forgotten."""
        block = self._blocks[key]
        if block.later:
            self._looked[key] = block.later
            block = self._finish(self._made[key][0])._replace(bits=block.bits)
            self._keep(key, block)
            while len(self._looked) > 1 and sum(self._looked.values()) > _KEPT:
                oldest = next(iter(self._looked))
                self._blocks[oldest] = self._blocks[oldest]._replace(rows=[], later=self._looked.pop(oldest))
        elif key in self._looked:
            self._looked[key] = self._looked.pop(key)
        return block

    def _watch(self, turn: JoinedTurn, *, moves: bool) -> None:
        """A turn that `moves` may change by the clock alone."""
        (self._watched.add if moves else self._watched.discard)(turn_keys(turn)[0])

    def _drop(self, key: RowKey) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            for name in (*(row.key for row in block.rows), *block.names):
                if self._places.get(name) == key:
                    del self._places[name]
        self._looked.pop(key, None)
        self._made.pop(key, None)
        self._alive.discard(key)
