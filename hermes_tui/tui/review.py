"""Going through commands: which were looked at, which deserve it, which of them are listed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hermes_tui.model.flags import Flags
from hermes_tui.model.joined import Item
from hermes_tui.model.span import FAILURES, NANOSECONDS
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.rows import Row, RowKey, call_key

LONG_NS = 10 * NANOSECONDS
"""A command that took more is a long one."""

FAILED, LONG, FLAGGED, UNREVIEWED = 1, 2, 4, 8


class Filter(NamedTuple):
    """`bit` is what a command must have to be listed; 0: nothing."""

    name: str
    bit: int


FILTERS = (
    Filter("all", 0),
    Filter("failed", FAILED),
    Filter("long", LONG),
    Filter("flagged", FLAGGED),
    Filter("unreviewed", UNREVIEWED),
)


class Entry(NamedTuple):
    """A command's row, and what it is (`FAILED` and so on)."""

    row: Row
    bits: int


class Review:
    """What all lists of commands share: the table of flags, the filter, and the names of reviewed calls.

    `learned` are names of reviewed calls that came to be known since they were marked.
    """

    def __init__(self, flags: Flags | None = None) -> None:
        self.flags = flags or Flags()
        self.marks: set[RowKey] = set()
        self.learned: set[RowKey] = set()
        self._filter = 0

    @property
    def filter(self) -> Filter:
        return FILTERS[self._filter]

    def cycle(self) -> Filter:
        """Turn to the next filter."""
        self._filter = (self._filter + 1) % len(FILTERS)
        return self.filter

    def reset(self) -> None:
        """Turn to the filter that lets all through."""
        self._filter = 0

    def has(self, names: Iterable[RowKey]) -> bool:
        """Whether a call was reviewed, by any of its names."""
        return not self.marks.isdisjoint(names)

    def mark(self, names: Iterable[RowKey], *, reviewed: bool) -> None:
        (self.marks.update if reviewed else self.marks.difference_update)(names)

    def bits(self, names: Sequence[RowKey], whys: Sequence[str], *, failed: bool, long: bool) -> int:
        """What a command is: `FAILED` and so on. A mark holds for every name that it has by now."""
        reviewed = self.has(names)
        if reviewed and (fresh := set(names) - self.marks):
            self.marks |= fresh
            self.learned |= fresh
        return FAILED * failed | LONG * long | FLAGGED * bool(whys) | UNREVIEWED * (not reviewed)

    def dress(self, row: Row, names: Iterable[RowKey], whys: Sequence[str], glyphs: Glyphs) -> Row:
        """A command's row with its mark and its flag."""
        row = flagged(row, whys, glyphs)
        return row._replace(mark=glyphs.reviewed) if self.has(names) else row

    def entry(
        self, row: Row, names: Sequence[RowKey], whys: Sequence[str], glyphs: Glyphs, *, failed: bool,
        long: bool,
    ) -> Entry:  # fmt: skip
        """A command's row with its mark and its flag, and what it is."""
        bits = self.bits(names, whys, failed=failed, long=long)
        return Entry(self.dress(row, names, whys, glyphs), bits)


def names_of(item: Item) -> tuple[RowKey, ...]:
    """All that a call is called while its records and its span come."""
    own = call_key(item.key)
    return (own,) if item.also is None else ((*item.also, "span"), own)


def failed(item: Item) -> bool:
    """Whether a command failed, was blocked, or ran out of time."""
    return item.outcome in FAILURES


def folders(moment: Moment) -> tuple[tuple[str, str | None], ...]:
    """Where the sessions of a moment work: what flags depend on beside their commands."""
    parts = (moment.live.session(name) for name in moment.doings)
    return tuple((part.id, part.row.cwd) for part in parts if part is not None and part.row is not None)


def flagged(row: Row, whys: Sequence[str], glyphs: Glyphs) -> Row:
    """The row with a sign that its command deserves a look, when there is a reason."""
    if not whys:
        return row
    style = row.note_style if row.note_style == "asking" else "warning"
    return row._replace(note=f"{glyphs.flag} {row.note}".rstrip(), note_style=style)
