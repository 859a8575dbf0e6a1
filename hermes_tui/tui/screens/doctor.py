"""What the doctor found last, and a new look on request."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from hermes_tui import neutral
from hermes_tui.journal import checkup
from hermes_tui.journal.checkup import Summary
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.tui.examination import Examination, words
from hermes_tui.tui.glyphs import Glyphs

_LOOK_S = 1.0  # the doctor may be at work in another terminal, too


class DoctorScreen(ModalScreen[None]):
    """`examination` None: there is nobody to be sent for, only what was found before is shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d,q,enter", "dismiss", "Close"),
        Binding("r", "examine", "Look again"),
        Binding("j", "scroll(1)", "Down", show=False),
        Binding("k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, state: StateDir, examination: Examination | None, glyphs: Glyphs) -> None:
        super().__init__()
        self._state = state
        self._examination = examination
        self._glyphs = glyphs
        self._text = Static(markup=False)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="doctor"):
            yield self._text

    def on_mount(self) -> None:
        self.query_one("#doctor").focus()
        self.set_interval(_LOOK_S, self._look)
        self._look()

    @work(exclusive=True)
    async def _look(self) -> None:
        """Show what lies on the desk by now."""
        examination = self._examination
        running = examination is not None and examination.running  # first: it may end while the desk is read
        trouble = "" if examination is None else examination.trouble
        found = None
        try:
            found = await asyncio.to_thread(checkup.last, self._state)
        except StateError as error:
            trouble = trouble or str(error)
        hint = "" if examination is None else "r looks again  "
        self._text.update(page(found, trouble, self._glyphs, running=running, hint=f"{hint}esc back"))

    def action_examine(self) -> None:
        if self._examination is not None:
            self._examination.start()
            self._look()

    def action_scroll(self, by: int) -> None:
        self.query_one("#doctor").scroll_relative(y=by, animate=False)


def page(found: Summary | None, trouble: str, glyphs: Glyphs, *, running: bool, hint: str) -> Text:
    """All that is known; `trouble`: why the last look failed."""
    text = Text.assemble(("Doctor  ", "bold"), words(found), "\n")
    if running:
        text.append("It looks at everything now, and sends a span to MLflow …\n", "yellow")
    elif trouble:
        text.append(f"{neutral.line(trouble)}\n", "bold red")
    marks = {"bad": (glyphs.bad, "red"), "warn": ("!", "yellow")}
    for each in found.troubles if found is not None else ():
        mark, style = marks.get(each.verdict, (glyphs.unknown, "dim"))
        text.append("\n")
        text.append(f"{mark} ", style)
        text.append(f"{neutral.line(each.name)}: ", "bold")
        text.append(f"{neutral.line(each.finding)}\n")
        if each.fix:
            text.append(f"  {glyphs.arrow} {neutral.line(each.fix)}\n")
    if found is not None and found.troubles:
        text.append("\nThe proofs: ", "dim")
        text.append("hermes-trace-tui doctor\n")
    text.append(f"\n{hint}", "dim")
    return text
