"""What the search does to the screen: its line, the marks in the rows, the cursor's way from hit to hit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hermes_tui.model.needle import Needle
from hermes_tui.model.span import Span
from hermes_tui.tui.messages import HitsFound
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.widgets.bars import PaneFooter
from hermes_tui.tui.widgets.row_list import RowList

if TYPE_CHECKING:
    from textual.widget import AwaitMount, Widget

    from hermes_tui.tui.finder import Finder
    from hermes_tui.tui.side import Side
    from hermes_tui.tui.widgets.search_bar import SearchBar

_ROOMY = 100  # columns from which on the footer also says where a hit was found


class Place(Protocol):
    """What the search needs of the board."""

    shown: ShownSession
    side: Side
    view: str

    def mount(self, *widgets: Widget) -> AwaitMount: ...
    def turn_to(self, view: str) -> None: ...
    def lift_filter(self) -> bool: ...
    def tell(self, text: str) -> None: ...
    def show_footer(self) -> None: ...


class Search:
    """`lists` are the tree and the list of commands; `finder` makes what finds, for the first search."""

    def __init__(
        self, place: Place, finder: Callable[[], Finder], lists: tuple[RowList, RowList], footer: PaneFooter
    ) -> None:
        self.bar: SearchBar | None = None
        self._place = place
        self._make = finder
        self._finder: Finder | None = None
        self._lists = lists
        self._footer = footer
        self._origin: tuple[RowKey | None, bool] = (None, True)
        self._landed = False

    @property
    def _commands(self) -> bool:
        return self._place.view == "commands"

    @property
    def _rows(self) -> RowList:
        return self._lists[self._commands]

    @property
    def typing(self) -> bool:
        """Whether the user types what to search for."""
        return self.bar is not None and self.bar.display

    # --- what the user does

    async def open(self) -> None:
        """Let the user type what to search for: the next key is already part of it."""
        if not self._place.shown.id:
            return
        if self._place.view not in ("tree", "commands"):
            self._place.turn_to("tree")
        self.clear()
        self._origin = self._rows.cursor, self._rows.following
        if self.bar is None:
            await self._begin()
        assert self.bar is not None
        self._footer.display = False
        self.bar.open()

    async def _begin(self) -> None:
        from hermes_tui.tui.widgets.search_bar import SearchBar

        self._finder = self._make()
        self.bar = SearchBar()
        await self._place.mount(self.bar)

    def typed(self, text: str) -> None:
        """Search for another text, from where the search began."""
        if self._finder is None:
            return
        self._finder.fold_back()
        self._finder.look(text, self._place.shown)
        self._landed = False
        if not text:
            self._return()
        self.show()

    def step(self, by: int) -> None:
        """To the next hit, or the one before."""
        if self._finder is None or not self._finder.active:
            self._place.tell("Nothing is searched for. / begins a search.")
            return
        if self._place.view not in ("tree", "commands"):
            self._place.turn_to("tree")
        self._landed = True
        key = self._finder.step(self._rows.cursor, by, commands=self._commands)
        if key is None and self._finder.groups(commands=self._commands) and self._place.lift_filter():
            self._place.tell("The filter hid every hit: all rows are shown again.")
            key = self._finder.step(self._rows.cursor, by, commands=self._commands)
        if key is not None:
            self._go(key)

    def closed(self, *, kept: bool) -> None:
        """The line is gone: the hits stay, or everything is as before."""
        self._footer.display = True
        if self._finder is None:
            return
        if kept:
            self._finder.stay()
        else:
            self._finder.fold_back()
            self._return()
            self.clear()
        self._rows.focus()
        self.show()

    def clear(self) -> bool:
        """End the search; False when there was none."""
        if self._finder is None or not self._finder.active:
            return False
        self._finder.look("", self._place.shown)
        self.show()
        return True

    # --- what comes

    def begin(self, *, again: bool) -> None:
        """The session is read from its beginning; `again`: it is the same one."""
        if self._finder is None or self.bar is None:
            return
        if not again and self.bar.display:
            self.bar.action_close(False)
        self._finder.begin(self._place.shown, again=again)
        self.show()

    def arrived(self, spans: list[Span]) -> None:
        """Spans came that the session does not hold yet."""
        if self._finder is not None:
            self._finder.arrived(spans, self._place.shown.forest.trees.keys())

    def refreshed(self) -> None:
        """The session's rows are up to date."""
        if self._finder is not None:
            self._finder.refreshed()

    def take(self, message: HitsFound) -> None:
        """Show what was found; while the user types the cursor goes to the first hit from where it was."""
        if self._finder is None or not self._finder.take(message):
            return
        if self.typing and not self._landed:
            self._finder.fold_back()
            key = self._finder.step(self._origin[0], 1, commands=self._commands, here=True, keep=False)
            if key is not None:
                self._landed = message.rows
                self._go(key)
            elif message.done:
                self._return()
        self.show()

    # --- what is shown

    @property
    def needle(self) -> Needle | None:
        """What is searched for."""
        finder = self._finder
        return finder.needle if finder is not None and finder.active else None

    def words(self) -> str:
        """For the footer; "" while nothing is searched."""
        if self._finder is None or not self._finder.active:
            return ""
        told = self._finder.told(self._rows.cursor, commands=self._commands)
        roomy = not self._finder.done or self._footer.app.size.width >= _ROOMY
        return " ".join(part for part in (told.word, told.place, told.more if roomy else "") if part)

    def show(self) -> None:
        """Bring marks, footer and line up to date."""
        finder = self._finder
        if finder is None:
            return
        needle = self.needle
        for commands, rows in enumerate(self._lists):
            wanted = needle is not None and (rows is self._rows)
            rows.mark(needle, finder.marked(commands=bool(commands)) if wanted else frozenset())
        if self.bar is not None and self.bar.display:
            told = finder.told(self._rows.cursor, commands=self._commands)
            self.bar.say(" ".join(part for part in (told.place, told.more) if part) if needle else "")
        self._place.show_footer()
        self._place.side.show()

    def _go(self, key: RowKey) -> None:
        rows = self._rows
        rows.following = False
        rows.rows_changed()
        rows.go_to(key)

    def _return(self) -> None:
        """To where the search began."""
        cursor, following = self._origin
        rows = self._rows
        rows.following = following
        rows.rows_changed()
        if cursor is not None and not following:
            rows.go_to(cursor)
