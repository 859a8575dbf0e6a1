"""A page of text in which the lines that stand for rows of the tree can be picked."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.lines import Line
from hermes_tui.tui.messages import CursorMoved, RowPicked
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.widgets.moves import MOVES
from hermes_tui.tui.widgets.styles import row_style

Data = TypeVar("Data")


class Page(ScrollView, Generic[Data], can_focus=True):
    """Draws data as lines; the cursor goes from pick to pick, and scrolls where there is none."""

    BINDINGS: ClassVar[list[BindingType]] = [*MOVES]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"row--{name}" for name in ("cursor", "turn", "command", "good", "bad", "warning", "live", "dim")
    }

    following = True
    """Nothing here runs away from the user."""

    def __init__(self, glyphs: Glyphs, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor: RowKey | None = None
        self.laid_out = 0
        self._glyphs = glyphs
        self._data: Data | None = None
        self._lines: list[Line] = []
        self._picks: list[tuple[RowKey, int, int]] = []

    def show(self, data: Data) -> None:
        """Show this from now on; the cursor stays on its item."""
        if data != self._data:
            self._data = data
            self._lay_out()

    def lines(self, data: Data, width: int) -> list[Line]:
        """The page for a width in cells."""
        raise NotImplementedError

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width
        if self._data is None or width <= 0:
            return
        self.laid_out += 1
        self._lines = self.lines(self._data, width - 2)
        before, self._picks = self._place(), _picks(self._lines)
        if self.cursor is not None and self._place() is None:  # it was sent: what took its place is next
            kept = min(before or 0, len(self._picks) - 1)
            self._choose(kept if self._picks else None)
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()

    # --- moving

    def _place(self) -> int | None:
        """The number of the pick under the cursor."""
        return next((at for at, (key, _, _) in enumerate(self._picks) if key == self.cursor), None)

    def _choose(self, number: int | None) -> None:
        key = None if number is None else self._picks[number][0]
        if key != self.cursor:
            self.cursor = key
            self.refresh()
            self.post_message(CursorMoved(key, by_user=True))

    @property
    def _window(self) -> tuple[int, int]:
        """First line on the screen, and the one after the last."""
        return self.scroll_offset.y, self.scroll_offset.y + self.scrollable_content_region.height

    def action_move(self, by: int) -> None:
        """To the next pick when it is in sight, else a line on."""
        at = self._place()
        target = (0 if by > 0 else None) if at is None else at + by
        if target is None or not 0 <= target < len(self._picks) or not self._near(target):
            self.scroll_relative(y=by, animate=False)
            return
        self._choose(target)
        _, first, last = self._picks[target]
        top, end = self._window
        if first < top:
            self.scroll_to(y=first, animate=False)
        elif last >= end:
            self.scroll_relative(y=min(last - end + 1, first - top), animate=False)

    def _near(self, number: int) -> bool:
        """On the screen, or next to it."""
        _, first, last = self._picks[number]
        top, end = self._window
        return last >= top - 1 and first <= end

    def action_page(self, by: int) -> None:
        height = max(1, self.scrollable_content_region.height - 1)
        self._go(self.scroll_offset.y + by * height, by)

    def action_edge(self, side: int) -> None:
        self._go(0 if side < 0 else len(self._lines), side)

    def _go(self, line: int, side: int) -> None:
        """Scroll to a line, and take the first (or last) pick that is then on the screen."""
        height = self.scrollable_content_region.height
        top = max(0, min(line, len(self._lines) - height))
        self.scroll_to(y=top, animate=False)
        seen = [at for at, (_, first, last) in enumerate(self._picks) if top <= first and last < top + height]
        if seen:
            self._choose(seen[0] if side < 0 else seen[-1])

    def action_pick(self) -> None:
        at = self._place()
        if at is not None and self._near(at):  # else nobody sees what would be opened
            self.post_message(RowPicked(self._picks[at][0]))

    def on_click(self, event: events.Click) -> None:
        line = self.scroll_offset.y + event.y
        key = self._lines[line].key if 0 <= line < len(self._lines) else None
        if key is None:
            return
        if key == self.cursor:
            self.action_pick()
        self._choose(next(at for at, pick in enumerate(self._picks) if pick[0] == key))

    # --- drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        number = self.scroll_offset.y + y
        if number >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[number]
        current = line.key is not None and line.key == self.cursor and self._heads(number)
        base = self._style("command", current)
        parts = [Segment(text, self._style(style, current)) for text, style in line.parts]
        return Strip([Segment(" ", base), *parts]).adjust_cell_length(width, base)

    def _heads(self, number: int) -> bool:
        """Whether a line is the first of its pick."""
        return number == 0 or self._lines[number - 1].key != self._lines[number].key

    def _style(self, name: str, current: bool) -> Style:
        return row_style(self, name, current=current)


def _picks(lines: list[Line]) -> list[tuple[RowKey, int, int]]:
    """What can be picked, with its first and last line."""
    picks: list[tuple[RowKey, int, int]] = []
    for number, line in enumerate(lines):
        if line.key is None:
            continue
        if picks and picks[-1][0] == line.key:
            picks[-1] = (line.key, picks[-1][1], number)
        else:
            picks.append((line.key, number, number))
    return picks
