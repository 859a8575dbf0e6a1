"""Pure: the commands of a session as rows, those that the filter lets through."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, islice
from types import MappingProxyType

from hermes_tui.model.joined import Item, JoinedTurn
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import Outcome
from hermes_tui.tui.blocks import Before, Block, Blocks
from hermes_tui.tui.glyphs import UNICODE, Glyphs
from hermes_tui.tui.moment import Moment, lead_of
from hermes_tui.tui.review import (
    FAILED,
    FLAGGED,
    LONG,
    LONG_NS,
    UNREVIEWED,
    Review,
    failed,
    folders,
    names_of,
)
from hermes_tui.tui.rows import Row, RowKey, call_key, folder_name, item_key, turn_keys
from hermes_tui.tui.standin_rows import call_row, command_row

_FEW = 64  # keys that are looked for one by one
_NO_NAMES: Mapping[RowKey, RowKey] = MappingProxyType({})
_NO_ROWS: Mapping[int, Row] = MappingProxyType({})
_EMPTY = Block([], _NO_NAMES)
_REMARKED: tuple[object, ...] = ()
"""The mark of turns in which other calls are reviewed now."""

Known = Before[tuple[object, ...]]


class CommandsOutline(Blocks[tuple[object, ...]]):
    """The terminal commands of a session, newest last, with those of its subagents.

    Numbers and `len` are of the rows that the filter lets through, `total` counts all. What each command is
    (`FAILED` and so on) is known at once, and so what a filter lets through; rows are made when somebody
    looks, but for turns that move.
    """

    def __init__(self, glyphs: Glyphs = UNICODE, review: Review | None = None) -> None:
        super().__init__(glyphs)
        self.review = review or Review()
        self.failed = 0
        """How many of the commands failed."""
        self._moment = Moment(0)
        self._folders: object = ()
        self._bit = 0
        self._passed: dict[RowKey, int] = {}  # how many of a turn's commands the filter lets through
        self._seen_ends: list[int] = []
        self._met: dict[RowKey, tuple[RowKey, int]] = {}  # where keys were found: most are asked for again

    @property
    def sifted(self) -> bool:
        """Whether a filter lets only some through."""
        return bool(self._bit)

    @property
    def total(self) -> int:
        """How many commands there are."""
        return super().__len__()

    def __len__(self) -> int:
        return self._seen_ends[-1] if self._seen_ends else 0

    def row(self, number: int) -> Row:
        if not 0 <= number < len(self):
            raise IndexError(number)
        block = bisect_right(self._seen_ends, number)
        home, at = self._order[block], number - (self._seen_ends[block - 1] if block else 0)
        if self._bit:
            at = next(islice(self._passing(home), at, None))
        return self._whole(home).rows[at]

    def find(self, key: RowKey | None) -> int | None:
        found = None if key is None else self._place(key)
        if found is None:
            return None
        home, at = found
        bits = self._blocks[home].bits
        if self._bit:
            if not bits[at] & self._bit:
                return None
            at = _count(bits[:at], self._bit)
        block = self._order.index(home)
        return at + (self._seen_ends[block - 1] if block else 0)

    def update(self, turns: Sequence[JoinedTurn], moment: Moment) -> None:
        """`turns` in order of time."""
        lead, there = lead_of(turns), folders(moment)
        moved, self._folders, self._moment = self._folders != there, there, moment

        def mark(_: int, turn: JoinedTurn) -> tuple[object, ...]:
            status = moment.status(turn, lead)
            running = status == "running"
            self._watch(turn, moves=running or not moment.settled(turn))
            # One that still runs becomes a long one by the clock.
            late = sum(_long(item, moment) for item in turn.items if not item.end_ns) if running else 0
            return status, moment.pulse(turn, running=running), late

        def build(_: int, turn: JoinedTurn, before: Known | None) -> Block:
            block = self._build(turn, None if moved else before)
            self.failed += _count(block.bits, FAILED)
            return block

        self._arrange(turns, mark, build)
        self._sift()

    def sift(self) -> None:
        """The filter changed."""
        if self._bit != self.review.filter.bit:
            self._sift()

    def remark(self, names: Sequence[RowKey]) -> None:
        """Calls of these names were reviewed, or no longer are; seen at the next `update`."""
        if len(names) > _FEW:
            wanted = set(names)
            homes = {
                home for home in self._order
                if any(not wanted.isdisjoint(names_of(item)) for item in _commands(self._made[home][0]))
            }  # fmt: skip
        else:
            homes = {found[0] for name in names if (found := self._place(name)) is not None}
        for home in homes:
            self._touched.add(home)
            self._made[home] = self._made[home][0], _REMARKED

    def next_with(self, bit: int, after: int) -> int | None:
        """The number of the next row below number `after` that is such a one; else of the first there is."""
        first = None
        number = 0
        for home, end in zip(self._order, self._seen_ends, strict=True):
            if first is not None and end <= after + 1:
                number = end
                continue
            bits = self._blocks[home].bits
            for at in self._passing(home):
                if bits[at] & bit:
                    if number > after:
                        return number
                    first = number if first is None else first
                number += 1
        return first

    def keys(self) -> Iterator[RowKey]:
        """Of all rows that the filter lets through."""
        for home in self._order:
            some = _commands(self._made[home][0])
            yield from (item_key(some[at]) for at in self._passing(home))

    def newest(self) -> RowKey | None:
        return self.row(len(self) - 1).key if len(self) else None

    # ---

    def _passing(self, home: RowKey) -> Iterable[int]:
        """The places of a turn's commands that the filter lets through."""
        bits, wanted = self._blocks[home].bits, self._bit
        return (at for at, each in enumerate(bits) if each & wanted) if wanted else range(len(bits))

    def _place(self, key: RowKey) -> tuple[RowKey, int] | None:
        """The turn that a command is in, and its place there."""
        home, at = self._met.get(key, (None, 0))
        if home in self._blocks:
            block = self._whole(home)
            if at < len(block.rows) and block.rows[at].key == block.names.get(key, key):
                return home, at
        # It is most often one of the newest, and in a turn of its own trace.
        for own in (True, False):
            for home in reversed(self._order):
                if (home[0] == key[0]) is own and (found := _at(self._made[home][0], key)) is not None:
                    if len(self._met) >= _FEW:
                        self._met.clear()
                    self._met[key] = home, found
                    return home, found
        return None

    def _what(self, item: Item) -> int:
        job = self._moment.job(item)
        return self.review.bits(
            names_of(item),
            self._moment.whys(item),
            failed=failed(item) or bool(job is not None and job.exit_code),
            long=_long(item, self._moment),
        )

    def _build(self, turn: JoinedTurn, before: Known | None) -> Block:
        """What each command is; of a turn that moves the rows, too. What rests is as it was `before`."""
        was, mark, block = before or (turn, _REMARKED, _EMPTY)
        commands, old = _commands(turn), _commands(was) if mark != _REMARKED else []
        pairs = enumerate(zip(commands, old, strict=False))
        same = {at for at, (item, known) in pairs if item is known and _rests(item)}
        bits = bytes(block.bits[at] if at in same else self._what(each) for at, each in enumerate(commands))
        if turn_keys(turn)[0] not in self._watched:
            return Block([], _NO_NAMES, len(bits), bits)
        rows = {at: block.rows[at] for at in same} if block.rows else _NO_ROWS
        return self._finish(turn, rows)._replace(bits=bits)

    def _finish(self, turn: JoinedTurn, known: Mapping[int, Row] = _NO_ROWS) -> Block:
        """`known` are rows by their places."""
        rows: list[Row] = []
        names: dict[RowKey, RowKey] = {}
        alive = self._made[turn_keys(turn)[0]][1][:1] == ("running",)
        for at, item in enumerate(_commands(turn)):
            row = known.get(at) or self._row(item, turn, alive=alive)
            rows.append(row)
            if item.also is not None and item.key != item.also:
                names[call_key(item.key)] = row.key
        return Block(rows, names or _NO_NAMES)

    def _row(self, item: Item, turn: JoinedTurn, *, alive: bool) -> Row:
        began, moment, glyphs = clock_time(item.start_ns), self._moment, self.glyphs
        if item.span is not None:
            row = command_row(item, item.span, began, alive, moment, glyphs)
        else:
            row = call_row(item, turn, moment, glyphs)._replace(marker=began)
        usual = moment.folder_of(item.session)
        if item.cwd and item.cwd != usual:
            row = row._replace(place=f"in {folder_name(item.cwd, glyphs)}")
        return self.review.dress(row, names_of(item), moment.whys(item), glyphs)

    def _name(self, key: RowKey, block: Block) -> None:
        """Rows are found by the calls that they are of: there are many, and few are asked for."""

    def _sift(self) -> None:
        """Number what the filter lets through."""
        bit, passed = self.review.filter.bit, self._passed
        if bit != self._bit:
            self._bit = bit
            passed.clear()
        if not bit:
            self._seen_ends = self._ends
            return
        for home in self._order:
            if home not in passed:
                passed[home] = _count(self._blocks[home].bits, bit)
        self._seen_ends = list(accumulate(passed[home] for home in self._order))

    def _drop(self, key: RowKey) -> None:
        if key in self._blocks:
            self.failed -= _count(self._blocks[key].bits, FAILED)
        super()._drop(key)
        self._passed.pop(key, None)


def _commands(turn: JoinedTurn) -> list[Item]:
    return [item for item in turn.items if item.tool in COMMAND_TOOLS]


def _rests(item: Item) -> bool:
    """Whether nothing of a command's row can change as long as it is this item."""
    span = item.span
    return span is not None and not span.running and item.outcome is not Outcome.BACKGROUND


def _count(bits: bytes, wanted: int) -> int:
    """How many are such ones."""
    return len(bits.translate(None, _WITHOUT[wanted]))


_WITHOUT = {
    wanted: bytes(each for each in range(256) if not each & wanted)
    for wanted in (FAILED, LONG, FLAGGED, UNREVIEWED)
}


def _at(turn: JoinedTurn, key: RowKey) -> int | None:
    """The place of a call among a turn's commands, by any of its names."""
    wanted, spans = key[:2], key[2] == "span"
    return next(
        (
            at for at, item in enumerate(_commands(turn))
            if (item.also == wanted if spans else call_key(item.key) == key)
        ),
        None,
    )  # fmt: skip


def _long(item: Item, moment: Moment) -> bool:
    """Whether a command took, or takes, more than `LONG_NS`."""
    if item.end_ns:
        return item.end_ns - item.start_ns > LONG_NS
    since = moment.since(item) or (item.start_ns if item.span is not None else 0)
    return bool(since) and not item.dropped and moment.now_ns - since > LONG_NS


def clock_time(ns: int) -> str:
    """Local time of day."""
    return _local(ns, "%H:%M:%S") or "--:--:--"


def local_date(ns: int) -> str:
    """Local date; "" for a time outside of the calendar."""
    return _local(ns, "%Y-%m-%d")


def _local(ns: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(ns / 1e9).astimezone().strftime(form)
    except (OverflowError, ValueError, OSError):
        return ""
