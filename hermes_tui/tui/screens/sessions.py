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
from hermes_tui.hermes.home import DEFAULT
from hermes_tui.tui.directory import Listed
from hermes_tui.tui.glyphs import Glyphs

_NAME = 200  # characters of a session's name
_STATES = {"tool": "running", "model": "running", "approval": "waits for you"}


class SessionsScreen(ModalScreen[str | None]):
    """The sessions by newest activity; its result is the chosen one, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,s,q", "dismiss(None)", "Close"),
        Binding("j", "down", "Down", show=False),
        Binding("k", "up", "Up", show=False),
    ]

    def __init__(self, sessions: list[Listed], shown: str | None, glyphs: Glyphs, watched: str) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._watched = watched
        self._sessions = sessions
        self._shown = shown

    def compose(self) -> ComposeResult:
        with Vertical(id="sessions"):
            yield Static(Text("Sessions, newest activity first", "bold"))
            yield Static(Text(f"Hermes' records: {self._watched}", "dim"))
            yield OptionList(*(self._option(row) for row in self._sessions))

    def on_mount(self) -> None:
        names = [row.session for row in self._sessions]
        options = self.query_one(OptionList)
        options.highlighted = names.index(self._shown) if self._shown in names else 0
        options.focus()

    def _option(self, row: Listed) -> Option:
        glyphs = self._glyphs
        ago = short_age(max(0.0, time.time() - row.active_ns / 1e9))
        mark = f"{glyphs.running} " if row.session == self._shown else "  "
        name = neutral.line((row.title or row.session)[:_NAME])
        does = _STATES.get(row.state, "")
        turns = f"{row.traces} trace{'s' if row.traces != 1 else ''}" if row.traces else "no spans"
        about = [row.source, row.home if row.home != DEFAULT else "", turns, f"{ago} ago"]
        said = neutral.line("  " + ", ".join(part for part in about if part))
        return Option(
            Text.assemble(mark, (name, "bold"), (f"  {does}" if does else "", "green"), (said, "dim"))
        )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._sessions[event.option_index].session)

    def action_down(self) -> None:
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        self.query_one(OptionList).action_cursor_up()
