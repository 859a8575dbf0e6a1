"""Pure: the commands of a session as rows, those that the filter lets through."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate

from hermes_tui.model.joined import Item, JoinedTurn
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.tui.blocks import Block, Blocks
from hermes_tui.tui.glyphs import UNICODE, Glyphs
from hermes_tui.tui.moment import Moment, lead_of
from hermes_tui.tui.review import FAILED, LONG_NS, Entry, Review, failed, names_of
from hermes_tui.tui.rows import Row, RowKey, call_key, turn_keys
from hermes_tui.tui.standin_rows import call_row, command_row


class CommandsOutline(Blocks[tuple[object, ...]]):
    """The terminal commands of a session, newest last, with those of its subagents.

    Numbers and `len` are of the rows that the filter lets through, `total` counts all. A turn's rows are
    made when it changed; another filter only picks among them.
    """

    def __init__(self, glyphs: Glyphs = UNICODE, review: Review | None = None) -> None:
        super().__init__(glyphs)
        self.review = review or Review()
        self._entries: dict[RowKey, list[Entry]] = {}
        self._failed: dict[RowKey, int] = {}
        self._sifted: dict[RowKey, list[Entry]] = {}
        self._bit = 0
        self._seen_ends: list[int] = []

    @property
    def failed(self) -> int:
        """How many of the commands failed."""
        return sum(self._failed.values())

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
        before = self._seen_ends[block - 1] if block else 0
        return self._sifted[self._order[block]][number - before].row

    def find(self, key: RowKey | None) -> int | None:
        home = None if key is None else self._places.get(key)
        if key is None or home is None:
            return None
        wanted = self._blocks[home].names.get(key, key)
        at = next((at for at, entry in enumerate(self._sifted[home]) if entry.row.key == wanted), None)
        if at is None:
            return None
        block = self._order.index(home)
        return at + (self._seen_ends[block - 1] if block else 0)

    def update(self, turns: Sequence[JoinedTurn], moment: Moment) -> None:
        """`turns` in order of time."""
        lead = lead_of(turns)

        def mark(_: int, turn: JoinedTurn) -> tuple[object, ...]:
            status = moment.status(turn, lead)
            running = status == "running"
            self._watch(turn, moves=running or not moment.settled(turn))
            # One that still runs becomes a long one by the clock.
            late = sum(_long(item, moment) for item in turn.items if not item.end_ns) if running else 0
            return status, moment.pulse(turn, running=running), late

        def build(_: int, turn: JoinedTurn) -> Block:
            return self._build(turn, moment, alive=moment.status(turn, lead) == "running")

        self._arrange(turns, mark, build)
        self._sift()

    def sift(self) -> None:
        """The filter changed."""
        if self._bit != self.review.filter.bit:
            self._bit = self.review.filter.bit
            self._sifted.clear()
            self._sift()

    def remark(self, names: Sequence[RowKey]) -> None:
        """Calls of these names were reviewed, or no longer are; seen at the next `update`."""
        for home in {self._places[name] for name in names if name in self._places}:
            self._touched.add(home)
            self._made.pop(home, None)

    def next_with(self, bit: int, after: int) -> int | None:
        """The number of the next row below number `after` that is such a one; else of the first there is."""
        first = None
        number = 0
        for home in self._order:
            for entry in self._sifted[home]:
                if entry.bits & bit:
                    if number > after:
                        return number
                    first = number if first is None else first
                number += 1
        return first

    def keys(self) -> Iterator[RowKey]:
        """Of all rows that the filter lets through."""
        return (entry.row.key for home in self._order for entry in self._sifted[home])

    def newest(self) -> RowKey | None:
        return self.row(len(self) - 1).key if len(self) else None

    def _build(self, turn: JoinedTurn, moment: Moment, *, alive: bool) -> Block:
        entries, old = [], {}
        for item in turn.items:
            if item.tool not in COMMAND_TOOLS:
                continue
            began = clock_time(item.start_ns)
            if item.span is not None:
                row = command_row(item, item.span, began, alive, moment, self.glyphs)
            else:
                row = call_row(item, turn, moment, self.glyphs)._replace(marker=began)
            job = moment.job(item)
            entries.append(
                self.review.entry(
                    row,
                    names_of(item),
                    moment.whys(item),
                    self.glyphs,
                    failed=failed(item) or bool(job is not None and job.exit_code),
                    long=_long(item, moment),
                )
            )
            if item.also is not None and item.key != item.also:
                old[call_key(item.key)] = row.key
        home = turn_keys(turn)[0]
        self._entries[home] = entries
        self._failed[home] = sum(entry.bits & FAILED for entry in entries)
        return Block([entry.row for entry in entries], old)

    def _sift(self) -> None:
        """Pick the rows of turns that changed, and number all."""
        bit = self._bit = self.review.filter.bit
        for home in self._order:
            if home not in self._sifted:
                entries = self._entries[home]
                self._sifted[home] = [each for each in entries if each.bits & bit] if bit else entries
        self._seen_ends = list(accumulate(len(self._sifted[home]) for home in self._order))

    def _drop(self, key: RowKey) -> None:
        super()._drop(key)
        self._failed.pop(key, None)
        self._entries.pop(key, None)
        self._sifted.pop(key, None)


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
