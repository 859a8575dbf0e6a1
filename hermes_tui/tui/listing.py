"""The commands of the board: those of its session or of all sessions, and the line above them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.review import Review
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.shown import ShownSession, Subject
from hermes_tui.tui.views import review_line
from hermes_tui.tui.widgets.command_list import CommandRows, ReviewBar

if TYPE_CHECKING:
    from hermes_tui.tui.every_command import EveryCommand


class Place(Protocol):
    """What the commands need of the board."""

    shown: ShownSession
    view: str

    def show_footer(self) -> None: ...


class Listing:
    """`every` is what is listed instead of the session's own commands, if anything is."""

    def __init__(self, place: Place, review: Review, glyphs: Glyphs) -> None:
        self.review = review
        self.every: EveryCommand | None = None
        self.bar = ReviewBar(glyphs)
        self.rows = CommandRows(place.shown.commands, id="commands")
        self._place = place

    @property
    def seen(self) -> bool:
        """Whether the commands are what the user looks at."""
        return self._place.view == "commands"

    def begin(self) -> None:
        """Another session is shown."""
        if self.every is None:
            self._list()

    def rows_changed(self) -> None:
        """The commands that are listed, or how many there are."""
        self.bar.display = self.seen
        if self.seen:
            self.rows.rows_changed()
            self.bar.data = review_line(self._place.shown, self.every)

    def follow(self) -> None:
        """Look at the newest one, now or when they are looked at."""
        self.rows.following = True

    def remark(self, names: Sequence[RowKey]) -> None:
        """Calls of these names were marked as reviewed, or no longer are."""
        shown = self._place.shown
        shown.commands.remark(names)
        shown.commands.update(shown.turns, shown.moment)
        if self.every is not None:
            self.every.remark(set(names))
        self.changed()

    def sift(self) -> None:
        """Another filter lets other commands through."""
        self._place.shown.commands.sift()
        if self.every is not None:
            self.every.sift()
        self.changed()

    def lift_filter(self) -> bool:
        """Let all commands through again; False when that is so."""
        if not self.review.filter.bit:
            return False
        self.review.reset()
        self.sift()
        return True

    def show_every(self, every: EveryCommand | None) -> None:
        """List the commands of all sessions, or again (None) of the one that is shown."""
        self.every = every
        self._list()
        self.changed()

    def renew(self, every: EveryCommand) -> None:
        """List the commands of all sessions as they are by now, with the cursor where it was."""
        rows = self.rows
        before, followed = rows.cursor, rows.following
        self.show_every(every)
        if before is not None and not followed:
            rows.go_to(before)

    def changed(self) -> None:
        """The list is another one."""
        self.rows_changed()
        self._place.show_footer()

    def subject(self, key: RowKey) -> Subject | None:
        """What a row is about that may be of another session than the one that is shown."""
        return self.every.subject(key) if self.every is not None and self.seen else None

    def session_of(self, key: RowKey) -> str | None:
        """The session of a row, while those of all sessions are looked at."""
        return self.every.session_of(key) if self.every is not None and self.seen else None

    def _list(self) -> None:
        self.rows.source = self._place.shown.commands if self.every is None else self.every
        self.rows.cursor = None
        self.rows.following = True
