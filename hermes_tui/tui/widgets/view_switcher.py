"""The views of the board, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from textual.widget import Widget
from textual.widgets import ContentSwitcher


class ViewSwitcher(ContentSwitcher):
    """Each view but the first is made when somebody first turns to it: what nobody looks at costs the first
    paint nothing, neither its modules nor its styles.
    """

    def __init__(self, first: Widget, makers: Mapping[str, Callable[[], Widget]], *, id: str) -> None:
        super().__init__(first, id=id, initial=first.id)
        self._makers = makers
        self._made: dict[str, Widget] = {}

    def made(self, view: str) -> Widget | None:
        """The widget of a view, if anybody has turned to it."""
        return self._made.get(view)

    def turn_to(self, view: str) -> Widget:
        """Show a view from now on; its widget has the view's name as its id."""
        widget = self._made.get(view)
        if widget is None:
            widget = self._made[view] = self._makers[view]()
            self.mount(widget)
        self.current = view
        return widget
