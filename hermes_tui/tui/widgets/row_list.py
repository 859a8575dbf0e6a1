"""A list of rows that draws only what is visible: the base of the tree and of the commands list.

A `ScrollView` with `render_line` (as Textual's own DataTable and Log are): the cost of a repaint
follows the lines on the screen. Textual's Tree measures every label at every change instead.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Set
from typing import ClassVar, Protocol

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollTo
from textual.strip import Strip
from textual.timer import Timer

from hermes_tui.figures import short_time
from hermes_tui.model.needle import Needle
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.marking import parts
from hermes_tui.tui.messages import CursorMoved, RowPicked
from hermes_tui.tui.rows import Row, RowKey
from hermes_tui.tui.standin_rows import WAITING
from hermes_tui.tui.widgets.moves import MOVES
from hermes_tui.tui.widgets.styles import row_style

_COLUMNS = (8, 10)  # cells of the time and of the value …
_NARROW_COLUMNS = (6, 8)  # … and where there is little room; what is longer takes it from the text
_SHORT = {
    "stopped": "stop", "blocked": "block", "denied": "deny", "timeout": "time", "failed": "fail",
    "allowed": "allow", "not ended": "open",
}  # fmt: skip
"""Words of the value where they would push the time out of its column."""
ROOMY = 50  # columns from which there is enough
_TICK_S = 0.1
_INDENT_SHARE = 10  # of a line's cells, one level of indent in so many at most
_LEAST_INDENT = 4  # levels
_LEAST_BESIDE = 24  # cells of a text beside which there is room for where it was done
_LEAST_SPLIT = 16  # cells of a text that may be cut in its middle


class Source(Protocol):
    """Rows by number and by key."""

    glyphs: Glyphs

    @property
    def alive(self) -> bool: ...
    def __len__(self) -> int: ...
    def row(self, number: int) -> Row: ...
    def find(self, key: RowKey | None) -> int | None: ...
    def newest(self) -> RowKey | None: ...


class RowList(ScrollView, can_focus=True):
    """Draws a `Source`; the cursor stays on its item, not on its line."""

    BINDINGS: ClassVar[list[BindingType]] = [*MOVES]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"row--{name}"
        for name in (
            "cursor", "turn", "turn-unnamed", "command", "llm", "tool", "approval", "subagent", "skill",
            "other", "missing", "good", "bad", "warning", "live", "dim", "number", "asking", "waiting",
            "pinned", "hit",
        )
    }  # fmt: skip

    def __init__(self, source: Source, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.source = source
        self.cursor: RowKey | None = None
        self.following = True
        self.painted = 0
        self._cursor_line = 0
        self._anchor: tuple[RowKey | None, int] = (None, 0)  # what stays where it is, and its line
        self._scrolled = False  # by hand, and not gone to a row since
        self._strips: LRUCache[tuple[object, ...], Strip] = LRUCache(2048)
        self._tick = 0
        self._frozen_ns = 0
        self._clocks: Timer | None = None
        self._needle: Needle | None = None
        self._marked: Set[RowKey] = frozenset()

    def on_mount(self) -> None:
        self._clocks = self.set_interval(_TICK_S, self._run_clocks, pause=not self.source.alive)

    def rows_changed(self) -> None:
        """The source was updated: keep the cursor on its item and repaint."""
        self._resize()
        if self._clocks is not None:
            (self._clocks.resume if self.source.alive else self._clocks.pause)()
        line = self.source.find(self.cursor)
        if self.following or self.cursor is None:
            self._follow()
        elif line is None:
            self._place(min(self._cursor_line, len(self.source) - 1), by_user=False)
        else:
            self.cursor = self.source.row(line).key  # another name of the same, now that its span has come
            self._keep_in_place()
            self._cursor_line = line
        self._drop_anchor()
        self.refresh()

    def _keep_in_place(self) -> None:
        """Rows came or went above: move the window with what the eye is on, so that it stays there."""
        key, before = self._anchor
        now = self.source.find(key)
        if now is not None and now != before:
            self.scroll_to(y=self.scroll_offset.y + now - before, animate=False, force=True)

    def _drop_anchor(self) -> None:
        """What the eye is on: the cursor's row or, where that was scrolled out of sight, the first line."""
        top = self.scroll_offset.y
        if self._in_sight(self._cursor_line):
            self._anchor = self.cursor, self._cursor_line
        elif top < len(self.source):
            self._anchor = self.source.row(top).key, top

    def _in_sight(self, line: int) -> bool:
        top = self.scroll_offset.y
        return top <= line < top + self.scrollable_content_region.height

    @property
    def now_ns(self) -> int:
        """The time that running clocks show; nanoseconds since the epoch."""
        return self._frozen_ns or time.time_ns()

    def freeze(self, at_ns: int) -> None:
        """Stop the clocks at a time; 0: let them go on."""
        self._frozen_ns = at_ns
        self.refresh()

    def follow(self) -> None:
        """Look at the newest row, now and as rows come."""
        self.following = True
        self._follow()

    def go_to(self, key: RowKey) -> bool:
        """Put the cursor on a row; False when it is not visible."""
        line = self.source.find(key)
        if line is None:
            return False
        self.following = False
        self._place(line, by_user=True)
        return True

    def mark(self, needle: Needle | None, rows: Set[RowKey]) -> None:
        """Show where a text stands, and which rows have to do with it; None: no text is searched."""
        if needle != self._needle or rows != self._marked:
            self._needle, self._marked = needle, rows
            self._strips.clear()
            self.refresh()

    def _follow(self) -> None:
        self._scrolled = False
        line = self.source.find(self.source.newest())
        if line is not None:
            self._place(line, by_user=False)
            if (top := self._top_of(line)) != self.scroll_offset.y:
                self.scroll_to(y=top, animate=False, force=True)

    def _top_of(self, line: int) -> int:
        """The first line on the screen while the newest one is followed."""
        end = self._end_of_waiting(line)
        return max(0, min(line - self._covered(line), end - self.scrollable_content_region.height + 1))

    def _end_of_waiting(self, line: int) -> int:
        """The last of the rows right after this one that say what is awaited: they are seen too."""
        last = len(self.source) - 1
        while line < last and self.source.row(line + 1).style == WAITING:
            line += 1
        return line

    def _place(self, line: int, *, by_user: bool) -> None:
        if not 0 <= line < len(self.source):
            self.cursor = None
            return
        before, self._cursor_line = self._cursor_line, line
        key = self.source.row(line).key
        changed = key != self.cursor
        self.cursor = key
        self._show_line(line)
        self._drop_anchor()
        self._refresh_lines(before, line)
        if changed or by_user:
            self.post_message(CursorMoved(key, by_user))

    def _show_line(self, line: int) -> None:
        height = self.scrollable_content_region.height
        top = self.scroll_offset.y
        if height <= 0:
            return
        if line - (covered := self._covered(line)) < top:
            self.scroll_to(y=line - covered, animate=False, force=True)
        elif line >= top + height:
            self.scroll_to(y=line - height + 1, animate=False, force=True)

    def _covered(self, line: int) -> int:
        """How many lines at the top of the screen show something else when this row is up there."""
        return 0

    def _resize(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.source))

    def on_resize(self, _: events.Resize) -> None:
        self._resize()
        if self.following:
            self._follow()  # rows may have come before there was any height
        elif self.cursor is not None and self._anchor[0] == self.cursor:
            self._show_line(self._cursor_line)

    # --- scrolling by hand

    def on_mouse_scroll_up(self) -> None:
        self._let_go(moves=self.scroll_y > 0)

    def on_mouse_scroll_down(self) -> None:
        self._let_go(moves=self.scroll_y < self.max_scroll_y)

    def on_scroll_up(self) -> None:
        self._let_go(moves=self.scroll_y > 0)

    def on_scroll_down(self) -> None:
        self._let_go(moves=self.scroll_y < self.max_scroll_y)

    def on_scroll_to(self, message: ScrollTo) -> None:
        self._let_go(moves=message.y is not None and round(message.y) != self.scroll_offset.y)

    def _let_go(self, *, moves: bool) -> None:
        """Who scrolls reads there: nothing is followed until he is back where the newest row is."""
        self._scrolled = self._scrolled or moves
        if moves and self.following:
            self.following = False
            self._tell()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._scrolled or round(old_value) == round(new_value):
            return
        newest = self.source.newest()
        line = self.source.find(newest) if newest == self.cursor else None
        if line is not None and round(new_value) == self._top_of(line):
            self.following, self._scrolled = True, False
            self._tell()
        self._drop_anchor()

    def _tell(self) -> None:
        """The footer says whether the newest row is followed."""
        if self.cursor is not None:
            self.post_message(CursorMoved(self.cursor, by_user=True))

    # --- moving

    def action_move(self, by: int) -> None:
        self._move_to(self._cursor_line + by)

    def action_page(self, by: int) -> None:
        self._move_to(self._cursor_line + by * max(1, self.scrollable_content_region.height - 1))

    def action_edge(self, side: int) -> None:
        self._move_to(0 if side < 0 else len(self.source) - 1)

    def action_pick(self) -> None:
        if self.cursor is not None:
            self.post_message(RowPicked(self.cursor))

    def _move_to(self, line: int) -> None:
        if len(self.source):
            self.following = self._scrolled = False
            self._place(max(0, min(line, len(self.source) - 1)), by_user=True)

    def on_click(self, event: events.Click) -> None:
        line = self.scroll_offset.y + event.y
        if not 0 <= line < len(self.source):
            return
        row = self.source.row(line)
        if row.marker and event.x < cell_len(self._head(row)) + 2:
            self.toggle(row)
        elif row.key == self.cursor:
            self.action_pick()
        self._move_to(min(line, len(self.source) - 1))

    def toggle(self, row: Row) -> None:
        """Fold or unfold; lists without folds do nothing."""

    # --- drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        number = self.scroll_offset.y + y
        if number >= len(self.source):
            return Strip.blank(width, self.rich_style)
        row = self.source.row(number)
        current = row.key == self.cursor
        look = self._look(number, width)
        if row.since_ns:
            return self._draw(row, width, current, look)
        key = (row, width, current, look)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._draw(row, width, current, look)
            self._strips[key] = strip
        return strip

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def _look(self, number: int, width: int) -> Hashable:
        """What else a row's line depends on."""
        return None

    def _bar(self, row: Row, look: Hashable, width: int, current: bool) -> list[Segment]:
        """A column of bars, if there is any."""
        return []

    def _draw(self, row: Row, width: int, current: bool, look: Hashable = None) -> Strip:
        self.painted += 1
        left = self._left(row, current)
        right = self._right(row, current, self._bar(row, look, width, current))
        room = width - 1 - sum(cell_len(segment.text) for segment in (*left, *right))
        place = f" {row.place}" if row.place else ""
        if place and room - cell_len(place) >= min(_LEAST_BESIDE, cell_len(row.text)):
            room -= cell_len(place)
            right.insert(0, Segment(place, self._style("dim", current)))
        spare = row.note_style in ("", "dim") and row.style != WAITING  # of what waits nothing else says so
        if row.note and spare and room < min(_LEAST_SPLIT, cell_len(row.text)):
            room += cell_len(right.pop(0).text)
        tells = row.style == "tool" or row.key[2] == "session"
        text = self._fit(row.text, max(0, room), end=tells)
        base = self._style("other", current)
        body = self._body(row, text, current)
        return Strip([*left, *body, *right, Segment(" ", base)]).adjust_cell_length(width, base)

    def _body(self, row: Row, text: str, current: bool) -> list[Segment]:
        """What fits of a row's text, with its hits."""
        found = parts(row.text, text, self._needle, self.source.glyphs.more)
        return [Segment(part, self._style(row.style, current, hit=hit)) for part, hit in found]

    def _left(self, row: Row, current: bool) -> list[Segment]:
        """Indent, fold marker and glyph."""
        head = self._head(row)
        glyph = "number" if row.depth == 0 and row.glyph.isdigit() else row.style
        return [
            Segment(head, self._style("dim", current)),
            Segment(row.glyph, self._style(glyph, current, hit=row.key in self._marked)),
            Segment(" ", self._style(glyph, current)),
        ]

    def _head(self, row: Row) -> str:
        """The marker of a row below a turn stands in its indent. Where that would take too much of the line
        it stays as it is, and says how deep the row is.
        """
        most = max(_LEAST_INDENT, self.scrollable_content_region.width // _INDENT_SHARE)
        if row.depth <= most:
            return f" {'  ' * (row.depth - 1)}{row.marker or ' '} " if row.depth else f" {row.marker} "
        deep = f"{self.source.glyphs.deep}{row.depth}"
        return f" {deep.rjust(2 * (most - 1))}{row.marker or ' '} "

    def _right(self, row: Row, current: bool, bar: list[Segment]) -> list[Segment]:
        glyphs = self.source.glyphs
        elapsed, style = row.time, "dim"
        if row.since_ns:
            seconds = max(0, self.now_ns - row.since_ns) / 1e9
            spinner = glyphs.spinner[self._tick % len(glyphs.spinner)]
            elapsed, style = f"{spinner} {short_time(seconds)}", "live"
        note = [Segment(f" {row.note}", self._style(row.note_style or "dim", current))] if row.note else []
        roomy = self.scrollable_content_region.width >= ROOMY
        time_cells, value_cells = _COLUMNS if roomy else _NARROW_COLUMNS
        glyph, _, word = row.value.partition(" ")
        value = row.value if roomy else f"{glyph} {_SHORT.get(word, word)}".rstrip()
        return [
            *note,
            *bar,
            Segment(f" {elapsed}".rjust(time_cells), self._style(style, current)),
            Segment(f" {value}".rjust(value_cells), self._style(row.value_style or "dim", current)),
        ]

    def _fit(self, text: str, room: int, *, end: bool) -> str:
        """The text in so many cells: of one too long the beginning, and its `end` where that tells."""
        if cell_len(text) <= room:
            return set_cell_size(text, room)
        if end and room >= _LEAST_SPLIT:
            last, tail = room // 2, text[-room:]
            while cell_len(tail) > last:
                tail = tail[1:]
            head = set_cell_size(text, room - 1 - cell_len(tail))
            return f"{head}{self.source.glyphs.more}{tail}"
        return set_cell_size(text, max(0, room - 1)) + self.source.glyphs.more if room > 0 else ""

    def _style(self, name: str, current: bool, *, hit: bool = False) -> Style:
        return row_style(self, name, current=current, hit=hit)

    def _refresh_lines(self, *lines: int) -> None:
        width, top = self.scrollable_content_region.width, self.scroll_offset.y
        for line in set(lines):
            self.refresh(Region(0, line - top, width, 1))

    def _run_clocks(self) -> None:
        """Repaint the visible rows that run, and nothing else."""
        if self._frozen_ns:
            return
        self._tick += 1
        top = self.scroll_offset.y
        last = min(len(self.source), top + self.scrollable_content_region.height)
        self._refresh_lines(*(line for line in range(top, last) if self.source.row(line).since_ns))
