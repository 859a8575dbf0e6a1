"""Where details are read: beside the rows on a wide screen, else on a screen of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hermes_tui.tui.listing import Listing
from hermes_tui.tui.reading import Reading
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.screens.details import DetailsScreen
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.split import Split
from hermes_tui.tui.widgets.details import Details

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from textual.app import App
    from textual.screen import Screen
    from textual.widget import Widget

    from hermes_tui.tui.search import Search

_PAGES = ("empty", "usage", "delivery")  # views that have all the width until something is picked


class Rows(Protocol):
    """The list of any view."""

    @property
    def cursor(self) -> RowKey | None: ...
    def focus(self, scroll_visible: bool = True) -> Widget: ...


class Place(Protocol):
    """What the details need of the board."""

    shown: ShownSession
    listing: Listing
    search: Search
    view: str

    @property
    def app(self) -> App[Any]: ...
    @property
    def screen(self) -> Screen[Any]: ...
    @property
    def rows(self) -> Rows: ...
    def call_after_refresh(self, callback: Callable[[], None]) -> bool: ...
    def set_class(self, add: bool, *class_names: str) -> Widget: ...
    def has_class(self, *class_names: str) -> bool: ...


class Side:
    """`page` is beside the rows; its share of the width is the user's."""

    def __init__(self, place: Place, reading: Reading) -> None:
        self.page = Details(id="side")
        self._place = place
        self._reading = reading
        self._split = Split()
        self._due = False

    @property
    def wide(self) -> bool:
        """Whether the details are beside the rows."""
        return self._place.screen.has_class("-wide") and not self._place.has_class("-alone")

    @property
    def focused(self) -> bool:
        return self._place.app.focused is self.page

    @property
    def full(self) -> bool:
        """Whether long values are shown whole."""
        return self._reading.full

    def soon(self) -> None:
        """Show the details once the rows are seen: they are read from the disk, and may be long."""
        if not self._due:
            self._due = True
            self._place.call_after_refresh(self.show)

    def show(self) -> None:
        """Show those of the row at the cursor, if anywhere."""
        self._due = False
        place = self._place
        key, screens = place.rows.cursor, place.app.screen_stack
        unpicked = key is None and place.view in _PAGES
        place.set_class(self._split.hidden or unpicked, "-alone")
        if key is None or not screens:  # there is none left while the pane closes
            return
        subject = place.listing.subject(key)
        if isinstance(screen := screens[-1], DetailsScreen):
            if screen.is_mounted:  # else it says itself when it is
                self._reading.show(screen, key, place.shown, subject, place.search.needle)
        elif self.wide:
            self._reading.show(self.page, key, place.shown, subject, place.search.needle)

    def toggle_full(self) -> None:
        """Long values whole, or shortened."""
        self._reading.full = not self._reading.full
        self.show()

    def toggle_focus(self) -> None:
        """To the details beside the rows, or back."""
        if self.focused:
            self._place.rows.focus()
        elif self.wide:
            self.page.focus()

    def toggle_hidden(self) -> None:
        """Give the rows the whole width, or put the details beside them again."""
        self._split.hidden = not self._split.hidden
        self._resize()

    def move(self, by: int) -> None:
        """A step wider or narrower."""
        self._split.move(by)
        self._resize()

    def drag(self, x: int, width: int) -> None:
        """Put the border at a column."""
        self._split.drag(x, width)
        self._resize()

    def _resize(self) -> None:
        place = self._place
        if self._split.hidden and self.focused:
            place.rows.focus()
        self.page.styles.width = f"{self._split.share}%"
        if not place.screen.has_class("-wide"):
            place.app.notify("The details are beside the rows from 110 columns on.", timeout=3)
        self.show()
