"""The lines of a long transcript, most of which nobody has laid out. Pure.

A turn is a block of entries, an entry so many lines: as many as were drawn once it was looked at, before that
a guess. The entries of a turn are made when somebody looks there; those looked at longest ago are let go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from hermes_tui.model.joined import AnyTurnKey, JoinedTurn
from hermes_tui.model.transcript import Entry, EntryKey, entries_of

Place = tuple[AnyTurnKey, EntryKey]
"""A turn and an entry in it: the same before and after a span comes."""

_KEPT = 5_000  # entries in memory, but those of the turns in sight at least
_LEAST = 4  # turns that stay, however long
_AROUND, _EACH = 5, 3  # lines of a turn nobody has looked at: without its calls, and for each of these


class Spot(NamedTuple):
    """A line of an entry."""

    place: Place
    line: int


class Block:
    """A turn. `entries` None: nobody has looked at it yet, and `total` is a guess."""

    __slots__ = ("_index", "_sums", "entries", "heights", "stale", "total", "turn")

    def __init__(self, turn: JoinedTurn) -> None:
        self.turn = turn
        self.entries: list[Entry] | None = None
        self.heights: list[int] = []
        self.total = _AROUND + _EACH * len(turn.items)
        self.stale = True
        self._sums: list[int] | None = None
        self._index: dict[EntryKey, int] | None = None

    def change(self, turn: JoinedTurn) -> None:
        """It is this by now; its entries are made anew when somebody looks."""
        self.total = max(1, self.total + _EACH * (len(turn.items) - len(self.turn.items)))
        self.turn, self.stale = turn, True

    def fill(self, entries: list[Entry], guess: Callable[[Entry], int]) -> None:
        """Take the turn's entries; those that were there before stay as long as they were."""
        known = {entry.key: height for entry, height in zip(self.entries or (), self.heights, strict=True)}
        self.heights = [known.get(entry.key, -1) for entry in entries]
        self.heights = [
            height if height >= 0 else guess(entry)
            for entry, height in zip(entries, self.heights, strict=True)
        ]
        self.entries, self.stale, self._index = entries, False, None
        self.resized()

    def empty(self) -> None:
        """Let its entries go; it stays as long as it is."""
        self.entries, self.heights, self.stale = None, [], True
        self._sums = self._index = None

    def resized(self) -> None:
        self._sums = None
        self.total = self.sums[-1] if self.heights else 0

    @property
    def sums(self) -> list[int]:
        """Lines up to the end of each entry."""
        if self._sums is None:
            self._sums = list(accumulate(self.heights))
        return self._sums

    def at(self, key: EntryKey) -> int | None:
        """The number of an entry."""
        if self._index is None:
            self._index = {entry.key: at for at, entry in enumerate(self.entries or ())}
        return self._index.get(key)


class Script:
    """`update` with the turns, then read by line or by place. Reading near a line that nobody has looked at
    changes how many there are. `built` counts entries made, for tests.
    """

    def __init__(self, session: str, guess: Callable[[Entry], int]) -> None:
        self.session = session
        self.built = 0
        self._guess = guess
        self._blocks: list[Block] = []
        self._places: dict[AnyTurnKey, int] = {}
        self._filled: OrderedDict[AnyTurnKey, Block] = OrderedDict()
        self._count = 0
        self._sums: list[int] | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._blocks else 0

    # --- what there is

    def update(self, turns: Sequence[JoinedTurn]) -> bool:
        """`turns` in order of time; whether any is another than before."""
        if len(turns) == len(self._blocks) and all(
            block.turn is turn for block, turn in zip(self._blocks, turns, strict=True)
        ):
            return False
        known = {block.turn.key: block for block in self._blocks}
        blocks: list[Block] = []
        for turn in turns:
            block = known.pop(turn.key, None)
            if block is None and turn.also is not None:  # it had another name
                block = known.pop(turn.also, None)
            if block is None:
                block = Block(turn)
            elif block.turn is not turn:
                self._forget(block)
                block.change(turn)
            blocks.append(block)
        for gone in known.values():
            self._forget(gone)
        self._blocks = blocks
        self._places = {turn.also: at for at, turn in enumerate(turns) if turn.also is not None}
        self._places.update((turn.key, at) for at, turn in enumerate(turns))
        self._sums = None
        return True

    def _forget(self, block: Block) -> None:
        if self._filled.pop(block.turn.key, None) is not None:
            self._count -= len(block.entries or ())

    def _block(self, at: int) -> Block:
        """A turn with its entries."""
        block = self._blocks[at]
        key = block.turn.key
        if not block.stale:
            self._filled.move_to_end(key)
            return block
        block.fill(entries_of(block.turn, self.session), self._guess)
        entries = block.entries or ()
        self.built += len(entries)
        self._filled[key] = block
        self._count += len(entries)
        self._sums = None
        while self._count > _KEPT and len(self._filled) > _LEAST:
            _, gone = self._filled.popitem(last=False)
            self._count -= len(gone.entries or ())
            gone.empty()
        return block

    @property
    def _ends(self) -> list[int]:
        """Lines up to the end of each turn."""
        if self._sums is None:
            self._sums = list(accumulate(block.total for block in self._blocks))
        return self._sums

    # --- by line

    def spot(self, line: int) -> Spot | None:
        """What is on a line."""
        if not 0 <= line < len(self):
            return None
        at = bisect_right(self._ends, line)
        line -= self._ends[at - 1] if at else 0
        block = self._block(at)
        if not block.entries:
            return None
        number = min(bisect_right(block.sums, line), len(block.entries) - 1)
        before = block.sums[number - 1] if number else 0
        return Spot((block.turn.key, block.entries[number].key), line - before)

    def line(self, place: Place) -> int | None:
        """The first line of an entry; of one that is gone, of its turn."""
        found = self._find(place)
        if found is None:
            return None
        at, number = found
        sums = self._block(at).sums
        return (self._ends[at - 1] if at else 0) + (sums[number - 1] if number else 0)

    # --- by place

    def entry(self, place: Place) -> Entry | None:
        found = self._find(place)
        if found is None:
            return None
        entry = (self._block(found[0]).entries or [])[found[1]]
        return entry if entry.key == place[1] else None

    def height(self, place: Place) -> int:
        found = self._find(place)
        return self._block(found[0]).heights[found[1]] if found is not None else 0

    def number(self, place: Place) -> int:
        """The number of an entry's turn, from 1."""
        return self._places.get(place[0], -1) + 1

    def newest(self, place: Place) -> bool:
        """Whether an entry is in the newest turn."""
        return self.number(place) == len(self._blocks)

    def last(self) -> Place | None:
        """The last entry that has any lines."""
        if not self._blocks:
            return None
        block = self._block(len(self._blocks) - 1)
        entries = block.entries or ()
        if not entries:
            return None
        place = block.turn.key, entries[-1].key
        return place if block.heights[-1] else self.next(place, -1)

    def next(self, place: Place, by: int) -> Place | None:
        """The entry before (-1) or behind (1) another that has any lines."""
        found = self._find(place)
        while found is not None:
            at, number = found[0], found[1] + by
            block = self._block(at)
            while not 0 <= number < len(block.entries or ()):
                at += by
                if not 0 <= at < len(self._blocks):
                    return None
                block = self._block(at)
                number = 0 if by > 0 else len(block.entries or ()) - 1
            found = at, number
            if block.heights[number] and block.entries:
                return block.turn.key, block.entries[number].key
        return None

    def resize(self, place: Place, height: int) -> bool:
        """Say how many lines an entry really has; whether that is news."""
        found = self._find(place)
        if found is None:
            return False
        block = self._block(found[0])
        if block.heights[found[1]] == height:
            return False
        block.heights[found[1]] = height
        block.resized()
        self._sums = None
        return True

    def places(self, first: int, last: int) -> list[Place]:
        """The entries that have any of these lines, and those between them that have none."""
        spot = self.spot(max(0, first))
        if spot is None:
            return []
        line, at = self.line(spot.place) or 0, self._places[spot.place[0]]
        number = self._block(at).at(spot.place[1]) or 0
        found: list[Place] = []
        while at < len(self._blocks) and line < last:
            block = self._block(at)
            for entry, height in zip((block.entries or [])[number:], block.heights[number:], strict=True):
                if line >= last and height:
                    break
                found.append((block.turn.key, entry.key))
                line += height
            at, number = at + 1, 0
        return found

    def _find(self, place: Place) -> tuple[int, int] | None:
        """Turn and number of an entry; the first of its turn when it is gone."""
        at = self._places.get(place[0])
        if at is None:
            return None
        block = self._block(at)
        if not block.entries:
            return None
        number = block.at(place[1])
        return at, number if number is not None else 0
