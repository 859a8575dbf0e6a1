"""The commands view: a list to go through, and the line above it that says which are listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Protocol

import msgspec
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.widget import Widget

from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.highlight import highlighted
from hermes_tui.tui.messages import ReviewAsked, RowPicked
from hermes_tui.tui.rows import Row, RowKey
from hermes_tui.tui.widgets.row_list import ROOMY, RowList, Source


class CommandSource(Source, Protocol):
    """Commands of which a filter lets some through."""

    def next_with(self, bit: int, after: int) -> int | None: ...
    def keys(self) -> Iterator[RowKey]: ...


class CommandRows(RowList):
    """Every terminal command of the session, newest last; or of all sessions, newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "review('mark')", "Command reviewed, or not"),
        Binding("u", "review('next')", "Next command not reviewed"),
        Binding("F", "review('filter')", "Commands: all, failed, long, flagged, unreviewed"),
        Binding("a", "review('scope')", "Commands of this session, or of all"),
        Binding("X", "review('export')", "Export the commands listed"),
        Binding("t", "place", "The command in its turn"),
    ]

    source: CommandSource

    def _head(self, row: Row) -> str:
        """Where there is little room the command matters more than the second."""
        roomy = self.scrollable_content_region.width >= ROOMY
        return f"{row.mark or ' '}{row.marker if roomy else row.marker[:5]} "

    def _body(self, row: Row, text: str, current: bool) -> list[Segment]:
        if self._needle or row.style != "command":
            return super()._body(row, text, current)
        base = self._style(row.style, current)
        language = "bash" if row.glyph == self.source.glyphs.command else "python"
        pieces, at = [], 0
        for span in highlighted(text, language).spans:
            pieces.append(Segment(text[at : span.start], base))
            pieces.append(Segment(text[span.start : span.end], base + Style.parse(str(span.style))))
            at = span.end
        return [*pieces, Segment(text[at:], base)]

    def toggle(self, row: Row) -> None:
        """A click in front of a row."""
        self.go_to(row.key)
        self.action_review("mark")

    def action_place(self) -> None:
        """Show the command in the tree."""
        if self.cursor is not None:
            self.post_message(RowPicked(self.cursor, place=True))

    def action_review(self, what: str) -> None:
        self.post_message(ReviewAsked(what))

    def next_with(self, bit: int) -> bool:
        """Put the cursor on the next command that is such a one; False when there is none."""
        at = self.source.find(self.cursor)
        found = self.source.next_with(bit, -1 if at is None else at)
        return found is not None and self.go_to(self.source.row(found).key)


THIS = "this session"


class ReviewData(msgspec.Struct, frozen=True):
    """What the line above the commands says: the filter, how many of how many, and whose they are.

    `more` follows the total: not all were counted.
    """

    filter: str = "all"
    listed: int = 0
    total: int = 0
    more: str = ""
    scope: str = THIS
    hints: tuple[str, ...] = ()


class ReviewBar(Widget):
    """One line; its parts can be clicked, as if their key was pressed."""

    data: reactive[ReviewData] = reactive(ReviewData())

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__(id="review")
        self._glyphs = glyphs
        self._targets: list[tuple[int, int, str]] = []

    def render(self) -> RenderResult:
        data, width = self.data, self.content_size.width
        counts = f"{data.listed:,} of {data.total:,}{data.more}"
        left = ("filter", f" {data.filter}: {counts}  ", "F filter")
        other = "all" if data.scope == THIS else "this"
        right = ("scope", f"{data.scope}  ", f"a {other} ")
        room = width - sum(cell_len(part) for part in (*left[1:], *right[1:]))
        if room < 1:
            whose = data.scope.partition(" at ")[0]
            left, right = (left[0], left[1].rstrip(), ""), (right[0], f"{whose}  ", f"a {other} ")
            room = width - sum(cell_len(part) for part in (*left[1:], *right[1:]))
        if room < 1:
            right = (right[0], right[2], "")
            room = width - sum(cell_len(part) for part in (*left[1:], *right[1:]))
        line, self._targets = Text(), []
        self._add(line, left, "bold" if data.filter != "all" else "")
        between = ""
        for hint in data.hints:
            if cell_len(between) + cell_len(hint) + 3 > room:
                continue
            between += f"  {hint}"
        line.append(between, "dim").append(" " * max(1, room - cell_len(between)))
        self._add(line, right, "bold" if data.scope != THIS else "")
        return line

    def _add(self, line: Text, part: tuple[str, str, str], style: str) -> None:
        begin = line.cell_len
        line.append(part[1], style).append(part[2], "dim")
        self._targets.append((begin, line.cell_len, part[0]))

    def on_click(self, event: events.Click) -> None:
        for begin, end, what in self._targets:
            if begin <= event.x < end:
                self.post_message(ReviewAsked(what))
