"""The details that are read: of the row at the cursor, made anew when something of it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.text import Text

from hermes_tui.model.needle import Needle
from hermes_tui.tui.marking import marked
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.screens.details import DetailsScreen
from hermes_tui.tui.shown import ShownSession, Subject
from hermes_tui.tui.widgets.details import Details

if TYPE_CHECKING:
    from hermes_tui.tui.pages import Pages


class Reading:
    """`full`: long values are shown whole. `pages` makes what reads them, for the first one."""

    def __init__(self, pages: Callable[[], Pages]) -> None:
        self.full = False
        self._make = pages
        self._pages: Pages | None = None
        self._seen: tuple[object, ...] = ()
        self._page = Text()
        self._needle: Needle | None = None

    def close(self) -> None:
        if self._pages is not None:
            self._pages.close()

    def show(
        self, place: Details | DetailsScreen, key: RowKey, shown: ShownSession,
        subject: Subject | None = None, needle: Needle | None = None,
    ) -> None:  # fmt: skip
        """Bring `place` up to date; most arrivals change another span than the one that is read.

        `subject` is what the row is about when that is of another session, `needle` what is searched for.
        """
        subject = shown.find(key) if subject is None else subject
        turn = subject.turn.turn if subject.turn is not None else None
        proven = turn.totals.deliveries if turn is not None and key[2] == "turn" else None
        span = subject.span
        seen = (
            place, key, self.full, span and span.revision, turn and turn.end_ns, proven, subject.item,
            subject.step, subject.turn and subject.turn.version,
            subject.polls, shown.moment.job(subject.item),
            shown.doing if key[2] in ("call", "step", "asked") else None,
            shown.record and shown.record.row if key[2] in ("turn", "asked") else None,
        )  # fmt: skip
        turned = seen[:2] != self._seen[:2] or needle != self._needle
        if seen != self._seen:
            self._seen = seen
            if self._pages is None:
                self._pages = self._make()
            view = shown.forest.views.get(key[0])
            self._page = self._pages.page(key, subject, view, shown.moment, full=self.full)
        elif not turned:
            return
        self._needle = needle
        page, at = marked(self._page, needle)
        place.show(key, page, at if turned else None)
