"""Details of one span on a screen of their own, for narrow panes."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from hermes_tui.tui.glyphs import UNICODE, Glyphs
from hermes_tui.tui.widgets.details import Details


class DetailsScreen(Screen[None]):
    """Shows what the app hands it; n and p go to the neighbouring rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,left,h", "close", "Back"),
        Binding("n", "app.neighbour(1)", "Next row"),
        Binding("p", "app.neighbour(-1)", "Previous row"),
    ]

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        arrows = f"{self._glyphs.up}{self._glyphs.down}" if self._glyphs is UNICODE else "arrows"
        yield Details(id="page")
        yield Static(Text(f" esc back  n next  p previous  x more  {arrows} scroll", "dim"), id="hints")

    def on_mount(self) -> None:
        self.query_one(Details).focus()

    def show(self, subject: object, page: Text, at: int | None = None) -> None:
        self.query_one(Details).show(subject, page, at)

    def action_close(self) -> None:
        self.dismiss()
