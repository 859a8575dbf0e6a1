"""The details of one span: a scrolling page, beside the tree or on a screen of its own."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.visual import visualize
from textual.widgets import Static

from hermes_tui.tui.messages import DetailsShown, SplitDragged


class Details(VerticalScroll, can_focus=True):
    """Shows a page; the scroll position survives an update of the same span."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "Down", show=False),
        Binding("k", "scroll_up", "Up", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "End", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._subject: object = None
        self._drags = False
        self._page = Static(Text("Nothing selected.", "dim"), markup=False)

    def compose(self) -> ComposeResult:
        yield self._page

    def on_show(self) -> None:
        self.post_message(DetailsShown())

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.x == 0 and self.styles.border_left[0]:
            self.capture_mouse()
            self._drags = True

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._drags:
            self.post_message(SplitDragged(event.screen_x))

    def on_mouse_up(self, _: events.MouseUp) -> None:
        if self._drags:
            self._drags = False
            self.release_mouse()

    def show(self, subject: object, page: Text, at: int | None = None) -> None:
        """Replace the page; another `subject` starts at the top. Its character `at` is brought into sight."""
        self._page.update(page)
        if subject != self._subject:
            self._subject = subject
            self.scroll_home(animate=False)
        if at is not None:
            self.call_after_refresh(self._show_end_of, page[:at])

    def _show_end_of(self, above: Text) -> None:
        """Bring the line after this text, the page's beginning, into sight."""
        page = self._page
        line = visualize(page, above).get_height(page.styles.get_rules(), page.content_size.width)
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        if not top <= line - 1 < top + height:
            self.scroll_to(y=line - height // 2, animate=False)
