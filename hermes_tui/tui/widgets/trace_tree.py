"""The tree of a session's turns and spans, and the list of its commands."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.strip import Strip

from hermes_tui.tui import waterfall
from hermes_tui.tui.messages import FoldToggled, TreeKey
from hermes_tui.tui.outline import TreeOutline
from hermes_tui.tui.rows import Row
from hermes_tui.tui.waterfall import Frame
from hermes_tui.tui.widgets.row_list import RowList


class TraceTree(RowList):
    """Rows that fold. The head of the turn at the top stays in sight when it is scrolled away; on a wide
    screen each row has a bar that says when it was.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "fold", "Fold", show=False),
        Binding("right,l", "unfold", "Unfold", show=False),
        Binding("space", "toggle_fold", "Fold or unfold", show=False),
        Binding("e", "tree('error', 1)", "Next error"),
        Binding("E", "tree('error', -1)", "Previous error"),
        Binding("t", "tree('turn', 1)", "Next turn"),
        Binding("T", "tree('turn', -1)", "Previous turn"),
        Binding("c", "tree('command', 1)", "Next command"),
        Binding("C", "tree('command', -1)", "Previous command"),
        Binding("z", "tree('all', -1)", "Fold all turns"),
        Binding("Z", "tree('all', 1)", "Unfold all turns"),
        Binding("plus,equals_sign", "tree('level', 1)", "One level more of the turn"),
        Binding("minus", "tree('level', -1)", "One level less of the turn"),
        Binding("right_parenthesis", "tree('levels', 1)", "One level more of all turns"),
        Binding("left_parenthesis", "tree('levels', -1)", "One level less of all turns"),
        Binding("F", "tree('filter', 1)", "Filter by kind, errors, slow"),
        Binding("S", "tree('order', 1)", "Sort: newest, slowest, most errors, most tokens"),
    ]

    source: TreeOutline
    _frames: tuple[Frame | None, ...] = ()

    def action_tree(self, what: str, by: int) -> None:
        """The tree is not this widget's to change."""
        self.post_message(TreeKey(what, by))

    def toggle(self, row: Row) -> None:
        if row.marker:
            self.post_message(FoldToggled(row.key, row.marker == self.source.glyphs.open))

    def action_toggle_fold(self) -> None:
        if (row := self._current()) is not None:
            self.toggle(row)

    def action_fold(self) -> None:
        """Fold the row; on one that cannot fold, go to the row it hangs below."""
        row = self._current()
        if row is None:
            return
        if row.marker == self.source.glyphs.open:
            self.toggle(row)
        elif (parent := self.source.parent(self._cursor_line)) is not None:
            self._move_to(parent)

    def action_unfold(self) -> None:
        row = self._current()
        if row is not None and row.marker == self.source.glyphs.folded:
            self.toggle(row)
        elif row is not None:
            self.action_move(1)

    def _current(self) -> Row | None:
        line = self.source.find(self.cursor)
        return None if line is None else self.source.row(line)

    # --- the head that stays

    def _pinned(self) -> int | None:
        """The number of the turn's head that the first line shows in place of a row below it."""
        top = self.scroll_offset.y
        if not 0 < top < len(self.source) or self.scrollable_content_region.height < 3:
            return None
        head = self.source.head(top)
        return head if head < top else None

    def _covered(self, line: int) -> int:
        return int(self.source.head(line) < line)

    def on_click(self, event: events.Click) -> None:
        head = self._pinned() if event.y == 0 else None
        if head is None:
            super().on_click(event)
        else:
            self._move_to(head)
        event.prevent_default()

    def render_line(self, y: int) -> Strip:
        head = self._pinned() if y == 0 else None
        if head is None:
            return super().render_line(y)
        row = self.source.row(head)
        current = row.key == self.cursor
        strip = self._draw(row, self.scrollable_content_region.width, current)
        return strip if current else strip.apply_style(self._style("pinned", False))

    def _run_clocks(self) -> None:
        super()._run_clocks()
        if self._frozen_ns:
            return
        head = self._pinned()
        if head is not None and self.source.row(head).since_ns:
            self._refresh_lines(self.scroll_offset.y)
        if frames := self._running_frames():
            if frames != self._frames:
                self.refresh()  # the bars of the rows that are over moved too
            self._frames = frames

    # --- the bars

    def _running_frames(self) -> tuple[Frame | None, ...]:
        """Of the turns at the top and at the end of the screen, while they run."""
        if not waterfall.cells(self.scrollable_content_region.width) or not len(self.source):
            return ()
        top = min(self.scroll_offset.y, len(self.source) - 1)
        last = min(len(self.source) - 1, top + self.scrollable_content_region.height)
        heads = {self.source.head(top), self.source.head(last)}
        return tuple(self._frame(number) for number in sorted(heads) if self.source.row(number).since_ns)

    def _frame(self, number: int) -> Frame | None:
        """The time that the bars show in the turn of the row with this number."""
        head = self.source.row(self.source.head(number))
        return waterfall.frame(head.start_ns, head.end_ns, self.now_ns) if head.start_ns else None

    def _look(self, number: int, width: int) -> Hashable:
        return self._frame(number) if waterfall.cells(width) else None

    def _bar(self, row: Row, look: Hashable, width: int, current: bool) -> list[Segment]:
        room = waterfall.cells(width)
        if not room:
            return []
        dim = self._style("dim", current)
        if not isinstance(look, Frame) or not row.start_ns or row.depth == 0:
            return [Segment(" " * (room + 1), dim)]
        end_ns = row.end_ns or (self.now_ns if row.since_ns else row.start_ns)
        before, bar, after = waterfall.bar(row.start_ns, end_ns, look, room, self.source.glyphs)
        ends = row.value_style if row.value_style in ("bad", "warning") else row.style
        style = self._style("live" if row.since_ns else ends, current)
        return [Segment(f" {before}", dim), Segment(bar, style), Segment(after, dim)]
