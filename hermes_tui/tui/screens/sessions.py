"""Choose a session."""

from __future__ import annotations

import time
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from hermes_tui import neutral
from hermes_tui.figures import short_age
from hermes_tui.journal.reader import SessionRow
from hermes_tui.tui.glyphs import Glyphs

_NAME = 200  # characters of a session's name


class SessionsScreen(ModalScreen[str | None]):
    """The sessions by newest activity; its result is the chosen one, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,s,q", "dismiss(None)", "Close"),
        Binding("j", "down", "Down", show=False),
        Binding("k", "up", "Up", show=False),
    ]

    def __init__(self, sessions: list[SessionRow], shown: str | None, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._sessions = sessions
        self._shown = shown

    def compose(self) -> ComposeResult:
        with Vertical(id="sessions"):
            yield Static(Text("Sessions, newest activity first", "bold"))
            yield OptionList(*(self._option(row) for row in self._sessions))

    def on_mount(self) -> None:
        names = [row.session for row in self._sessions]
        options = self.query_one(OptionList)
        options.highlighted = names.index(self._shown) if self._shown in names else None
        options.focus()

    def _option(self, row: SessionRow) -> Option:
        ago = short_age(max(0.0, time.time() - row.received_ns / 1e9))
        mark = f"{self._glyphs.running} " if row.session == self._shown else "  "
        turns = f"{row.traces} trace{'s' if row.traces != 1 else ''}"
        text = Text.assemble(
            mark, (neutral.line(row.session[:_NAME]), "bold"), (f"  {turns}, {ago} ago", "dim")
        )
        return Option(text)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._sessions[event.option_index].session)

    def action_down(self) -> None:
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        self.query_one(OptionList).action_cursor_up()
