"""The line in which a search is typed; it takes the footer's place while it is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static


class SearchBar(Horizontal):
    """Posts every change of its text, and how it was closed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close(False)", "Clear the search", show=False),
        Binding("down", "step(1)", "Next hit", show=False, priority=True),
        Binding("up", "step(-1)", "Previous hit", show=False, priority=True),
    ]

    @dataclass
    class Typed(Message):
        """The text changed."""

        text: str

    @dataclass
    class Stepped(Message):
        """The user wants to see the next hit, or the one before."""

        by: int

    @dataclass
    class Closed(Message):
        """The line was closed; `kept`: the search goes on."""

        kept: bool

    def __init__(self) -> None:
        super().__init__(id="search")
        self.display = False
        self._input = Input(compact=True, select_on_focus=False)
        self._input.cursor_blink = False  # nothing here moves by itself
        self._count = Static(id="count")

    def compose(self) -> ComposeResult:
        yield Static("/", id="slash")
        yield self._input
        yield self._count

    def open(self) -> None:
        """Begin a new search."""
        self.display = True
        self._input.value = ""
        self.screen.set_focus(self._input)  # at once: the next key is already its

    def say(self, words: str) -> None:
        """How the search stands."""
        self._count.update(Text(words))

    def action_step(self, by: int) -> None:
        self.post_message(self.Stepped(by))

    def action_close(self, kept: bool) -> None:
        if self.display:
            self.display = False
            self.post_message(self.Closed(kept))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self.post_message(self.Typed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_close(bool(event.value))

    def on_descendant_blur(self, _: events.DescendantBlur) -> None:
        """Whoever clicks on a row has found what was looked for."""
        if self.screen.is_current:
            self.action_close(bool(self._input.value))
