"""The details pages: what the journal says of one span or turn, read when somebody looks at it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from rich.text import Text

from hermes_tui.journal.delivery import Mark, mark_of, told
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.reader import Reader
from hermes_tui.model.compare import Difference, differences
from hermes_tui.model.span import Span
from hermes_tui.model.turns import TraceView, Turn
from hermes_tui.tui.describe import describe, differing
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.rows import RowKey

if TYPE_CHECKING:
    from hermes_tui.otlp.codec import Detail


class Pages:
    """Makes pages with a reader of its own, which follows the journal when that is replaced."""

    def __init__(self, state: StateDir, glyphs: Glyphs) -> None:
        self._state = state
        self._glyphs = glyphs
        self._reader: Reader | None = None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def page(
        self, key: RowKey, span: Span | None, turn: Turn | None, view: TraceView | None, now_ns: int, *,
        full: bool,
    ) -> Text:  # fmt: skip
        """The page of a row; `span` None: it has not come, or belongs to a session that is not shown."""
        try:
            reader = self._open()
            found = differing_turn(reader, key, view, now_ns)
            if span is None and key[2] == "span":
                span = reader.span(*key[:2])
            if span is None:
                what = "This turn's own span" if key[2] == "turn" else "This span"
                text = Text(f"{what} has not arrived yet; its children have.\n", "dim")
                return Text.assemble(text, "\n" if found else "", differing(found, self._glyphs))
            detail, mark = self._read(reader, span)
        except (StateError, sqlite3.Error) as error:
            return Text(f"cannot read the journal: {error}", "red")
        return describe(span, detail, turn, glyphs=self._glyphs, full=full, mark=mark, differences=found)

    def _open(self) -> Reader:
        if self._reader is not None and self._reader.stale():
            self.close()
        if self._reader is None:
            self._reader = Reader(self._state.journal)
        return self._reader

    def _read(self, reader: Reader, span: Span) -> tuple[Detail | None, Mark]:
        found = next(iter(reader.details([span])), None)
        return (None if found is None else found[1]), mark_of(reader, span)


def differing_turn(reader: Reader, key: RowKey, view: TraceView | None, now_ns: int) -> list[Difference]:
    """What MLflow says otherwise of a turn's trace; nothing for rows that are no turns."""
    if key[2] != "turn" or view is None:
        return []
    record = told(reader, [key[0]]).get(key[0])
    return [] if record is None else differences(view, record, now_ns)
