"""Choose a session."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from hermes_tui.figures import count_of
from hermes_tui.tui.directory import Listed
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.session_lines import session_lines


class SessionsScreen(ModalScreen[str | None]):
    """The sessions by newest activity; its result is the chosen one, or None. `list` brings it up to date."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("s,q", "dismiss(None)", "Close", show=False),
        Binding("slash", "filter", "Filter by title, id, model, folder"),
        Binding("j", "down", "Down", show=False),
        Binding("k", "up", "Up", show=False),
    ]

    def __init__(self, sessions: Sequence[Listed], shown: str, glyphs: Glyphs, watched: str) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._watched = watched
        self._sessions = list(sessions)
        self._shown = shown
        self._listed: list[Listed] = []
        self._options = OptionList()
        self._filter = Input(placeholder="title, id, model, folder", id="filter", compact=True)
        self._count = Static("", id="count")

    def compose(self) -> ComposeResult:
        with Vertical(id="sessions"):
            yield Static(Text("Sessions, newest activity first", "bold"))
            yield Static(Text(f"Hermes' records: {self._watched}", "dim"))
            yield self._filter
            yield self._options
            yield self._count

    def on_mount(self) -> None:
        self._filter.display = False
        self._show()
        names = [each.session for each in self._listed]
        self._options.highlighted = names.index(self._shown) if self._shown in names else 0
        self._options.focus()

    def list(self, sessions: Sequence[Listed]) -> None:
        """What is known now; the highlighted session stays highlighted."""
        self._sessions = [*sessions]
        if self.is_mounted:
            self._show()

    def on_resize(self, _: events.Resize) -> None:
        if self._listed:
            self._listed = []
            self._show()

    def _show(self) -> None:
        words = self._filter.value.lower().split()
        wanted = [each for each in self._sessions if each.has(words)]
        width = max(20, self._options.scrollable_content_region.width - 2)
        at = self._options.highlighted
        chosen = self._listed[at].session if at is not None and at < len(self._listed) else None
        before, self._listed = [each.session for each in self._listed], wanted
        lines = [self._lines(each, width) for each in wanted]
        if before == [each.session for each in wanted]:
            for number, line in enumerate(lines):
                if self._options.get_option_at_index(number).prompt != line:
                    self._options.replace_option_prompt_at_index(number, line)
        else:
            self._options.clear_options()
            self._options.add_options(Option(line) for line in lines)
            names = [each.session for each in wanted]
            self._options.highlighted = names.index(chosen) if chosen in names else 0 if names else None
        running = sum(each.running for each in wanted)
        said = f"{len(wanted)} of " if words else ""
        said += count_of(len(self._sessions), "session")
        hints = "  / filters  enter opens"
        self._count.update(Text(f"{said}, {running} running{hints}", "dim"))

    def _lines(self, each: Listed, width: int) -> Text:
        shown = each.session == self._shown
        return session_lines(each, shown=shown, now_s=time.time(), width=width, glyphs=self._glyphs)

    def on_input_changed(self, _: Input.Changed) -> None:
        self._show()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self._options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._listed[event.option_index].session)

    def action_filter(self) -> None:
        self._filter.display = True
        self._filter.focus()

    def action_leave(self) -> None:
        """From the filter to the list without it, from the list back."""
        if self._filter.display:
            self._filter.value = ""
            self._filter.display = False
            self._options.focus()
        else:
            self.dismiss(None)

    def action_down(self) -> None:
        self._options.action_cursor_down()

    def action_up(self) -> None:
        self._options.action_cursor_up()
