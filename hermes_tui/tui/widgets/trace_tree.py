"""The tree of a session's turns and spans."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from hermes_tui.tui.messages import FoldToggled
from hermes_tui.tui.outline import TreeOutline
from hermes_tui.tui.rows import Row
from hermes_tui.tui.widgets.row_list import RowList


class TraceTree(RowList):
    """Rows that fold."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "fold", "Fold", show=False),
        Binding("right,l", "unfold", "Unfold", show=False),
        Binding("space", "toggle_fold", "Fold or unfold", show=False),
    ]

    source: TreeOutline

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
