"""Pure: the commands of all sessions as rows, the newest first, below a heading for each session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from hermes_tui.figures import short_time
from hermes_tui.hermes.completed import Command
from hermes_tui.model.span import FAILURES
from hermes_tui.tui.commands_outline import clock_time, local_date
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.review import LONG_NS, Entry, Review, names_of
from hermes_tui.tui.rows import Row, RowKey, call_key, folder_name, outcome_mark, shown
from hermes_tui.tui.shown import Subject

MOST = 2_000
"""Commands that are listed."""

SESSIONS = 200
"""Sessions that are looked at."""


class Group(msgspec.Struct, frozen=True):
    """A session and some of its commands, newest first; `title` is what Hermes calls it."""

    session: str
    title: str
    commands: Sequence[Command]


class EveryCommand:
    """A list that grows session by session; numbers and `len` are of what the filter lets through.

    `complete`: all sessions that are to be looked at were. `cut`: there are more. `as_of` is the time of day
    at which it was begun: what happens since is not in it.
    """

    alive = False

    def __init__(self, glyphs: Glyphs, review: Review, as_of: str = "") -> None:
        self.glyphs = glyphs
        self.as_of = as_of
        self.review = review
        self.complete = False
        self.cut = False
        self.total = 0
        self._groups: list[tuple[Group, list[Entry]]] = []
        self._known: dict[RowKey, tuple[str, Command]] = {}
        self._rows: list[Entry] = []
        self._numbers: dict[RowKey, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def listed(self) -> int:
        """How many commands the filter lets through."""
        return sum(entry.bits >= 0 for entry in self._rows)

    @property
    def full(self) -> bool:
        return self.total >= MOST

    def row(self, number: int) -> Row:
        """Raises IndexError."""
        if number < 0:
            raise IndexError(number)
        return self._rows[number].row

    def find(self, key: RowKey | None) -> int | None:
        return None if key is None else self._numbers.get(key)

    def keys(self) -> Iterator[RowKey]:
        """Of all rows that the filter lets through."""
        return (entry.row.key for entry in self._rows)

    def newest(self) -> RowKey | None:
        """The first command."""
        return next((entry.row.key for entry in self._rows if entry.bits >= 0), None)

    def add(self, group: Group) -> None:
        """Take in the next older commands, up to `MOST` in all."""
        some: list[Entry] = []
        for command in group.commands:
            key = names(command)[0]
            if self.full:
                self.cut = True
                break
            if key not in self._known:
                self._known[key] = group.session, command
                some.append(self._entry(command))
                self.total += 1
        if self._groups and self._groups[-1][0].session == group.session:
            self._groups[-1][1].extend(some)
        elif some:
            self._groups.append((group, some))
        self.sift()

    def sift(self) -> None:
        """Pick the rows that the filter lets through."""
        self._rows = [entry for group, some in self._groups for entry in self._listed(group, some)]
        self._numbers = {entry.row.key: at for at, entry in enumerate(self._rows)}

    def remark(self, changed: AbstractSet[RowKey]) -> None:
        """Calls of these names were reviewed, or no longer are."""
        for _, some in self._groups:
            for at, entry in enumerate(some):
                command = self._known[entry.row.key][1]
                if not changed.isdisjoint(names(command)):
                    some[at] = self._entry(command)
        self.sift()

    def next_with(self, bit: int, after: int) -> int | None:
        """The number of the next row below number `after` that is such a one; else of the first there is."""
        found = [at for at, entry in enumerate(self._rows) if entry.bits > 0 and entry.bits & bit]
        return next((at for at in found if at > after), found[0] if found else None)

    def session_of(self, key: RowKey) -> str | None:
        """The session below whose heading a row stands."""
        if key[2] == "session":
            return next((group.session for group, _ in self._groups if _heading_key(group) == key), None)
        known = self._known.get(key)
        return known[0] if known is not None else None

    def subject(self, key: RowKey) -> Subject:
        """What a row is about."""
        known = self._known.get(key)
        return Subject() if known is None else Subject(known[1].span, item=known[1].item)

    def names(self, key: RowKey) -> tuple[RowKey, ...]:
        """All that the call of a row is called; none when it is no call's."""
        known = self._known.get(key)
        return () if known is None else names(known[1])

    def sessions(self) -> list[str]:
        """Those with commands that are listed."""
        return [group.session for group, some in self._groups if self._listed(group, some)]

    def _listed(self, group: Group, some: Sequence[Entry]) -> list[Entry]:
        bit = self.review.filter.bit
        kept = [entry for entry in some if not bit or entry.bits & bit]
        return [Entry(self._heading(group, kept), -1), *kept] if kept else []

    def _heading(self, group: Group, kept: Sequence[Entry]) -> Row:
        count, folder = len(kept), group.commands[0].folder
        return Row(
            key=_heading_key(group),
            depth=0,
            marker="",
            glyph=self.glyphs.rule,
            text=shown(group.title) or shown(group.session),
            style="turn",
            note=f"{count} command{'s' if count != 1 else ''}",
            note_style="dim",
            value=local_date(group.commands[0].begun_ns),
            value_style="dim",
            place=f"in {folder_name(folder, self.glyphs)}" if folder else "",
        )

    def _entry(self, command: Command) -> Entry:
        value, style = outcome_mark(command.outcome, command.exit_code, self.glyphs)
        lasted = command.duration_s()
        elsewhere = command.cwd if command.cwd != command.folder else None
        row = Row(
            key=names(command)[0],
            depth=0,
            marker=clock_time(command.begun_ns),
            glyph=self.glyphs.command if command.tool == "terminal" else self.glyphs.tool,
            text=shown(command.text) or f"({shown(command.tool)})",
            style="command",
            time=short_time(lasted),
            value=value,
            value_style=style,
            place=f"in {folder_name(elsewhere, self.glyphs)}" if elsewhere else "",
        )
        return self.review.entry(
            row,
            names(command),
            self.review.flags.whys(command.text, command.cwd),
            self.glyphs,
            failed=command.outcome in FAILURES,
            long=lasted is not None and lasted * 1e9 > LONG_NS,
        )


def names(command: Command) -> tuple[RowKey, ...]:
    """All that a command is called; first what its row is called in the pane."""
    if command.item is not None:
        return names_of(command.item)
    assert command.span is not None
    key = command.span.trace_id, command.span.span_id
    return (*key, "span"), call_key(key)


def _heading_key(group: Group) -> RowKey:
    return group.session.encode(errors="surrogatepass"), b"", "session"
