"""What the user takes along or changes: copies, MLflow's page, an export, themes, the command palette."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import CommandPalette, Provider
from textual.filter import ANSIToTruecolor, LineFilter, Monochrome, NoColor

from hermes_tui import neutral
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.pane_settings import Pane
from hermes_tui.tui import glyphs as glyph_sets
from hermes_tui.tui import memory, mlflow_page, themes
from hermes_tui.tui.beside import own_folders
from hermes_tui.tui.board import Board
from hermes_tui.tui.clipboard import Clipboard, amount
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.shown import Subject

if TYPE_CHECKING:
    from hermes_tui.tui.extracts import Extract
    from hermes_tui.tui.pages import Pages

_LONG_S = 20.0  # an address or a path has to be read, or selected with the mouse
_SHORT_S = 4.0
_FAILURES = (OSError, StateError, sqlite3.Error)


def _actions() -> type[Provider]:
    from hermes_tui.tui.palette import Actions

    return Actions


class Hands(App[None]):
    """The base of the pane. Whoever derives from it has made a `board` before anything is pressed."""

    ENABLE_COMMAND_PALETTE = True
    COMMANDS = {_actions}  # noqa: RUF012 - Textual declares it so
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy('about')", "Copy the command, prompt or input"),
        Binding("Y", "copy('output')", "Copy the output"),
        Binding("o", "open_trace", "Open in MLflow"),
        Binding("P", "pause", "Pause the view, and go on"),
        Binding("ctrl+p", "command_palette", "All commands", priority=True),
    ]

    board: Board

    def __init__(self, state: StateDir, watch: Watch | None, wanted: Pane) -> None:
        super().__init__()
        self.glyphs = glyph_sets.choose()
        self._state = state
        self._watch = watch
        self._copies = Clipboard(state, wanted.copy)
        self._folders = own_folders() if wanted.beside == "auto" else frozenset[str]()
        for look in themes.LOOKS.values():
            self.register_theme(look.theme)
        # Set, not assigned: each assignment has the style sheet read again after the first paint.
        theme = themes.first(wanted.theme, memory.recall(state).get("theme"), os.environ)
        self.set_reactive(App.theme, theme)
        names = themes.look(theme).names
        self.set_reactive(App.ansi_theme_dark, names)
        self.set_reactive(App.ansi_theme_light, names)
        self._names = ANSIToTruecolor(names)
        self.stylesheet.set_variables(self.get_css_variables())

    def pages(self) -> Pages:
        """What reads the details of rows; whoever asks for it closes it."""
        from hermes_tui.tui.pages import Pages

        return Pages(self._state, self.glyphs, self._watch)

    # --- themes

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Textual reads the style sheet once before it knows of any theme of ours."""
        return dict(themes.LOOKS["dark"].theme.variables)

    def get_line_filters(self) -> Sequence[LineFilter]:
        # Textual follows NO_COLOR with greys, and for as long as it runs, and has yet to hear of our theme.
        own = (ANSIToTruecolor, Monochrome)
        filters = [each for each in super().get_line_filters() if not isinstance(each, own)]
        named = filters if self.native_ansi_color else [self._names, *filters]
        return [*named, NoColor()] if self.theme == themes.PLAIN else named

    def on_mount(self) -> None:
        self._follow_theme()

    def _follow_theme(self) -> None:
        """Take along what a theme of Textual's does not hold."""
        names = themes.look(self.theme).names
        self._names = ANSIToTruecolor(names)
        self.ansi_theme_dark = self.ansi_theme_light = names
        self.no_color = self.theme == themes.PLAIN
        self.set_class(self.no_color, "-plain")

    def use_theme(self, name: str) -> None:
        """Draw with another theme from now on, and remember it."""
        self.theme = name
        self._follow_theme()
        self.run_worker(asyncio.to_thread(memory.remember, self._state, theme=name), name="remember")

    # --- copies

    def action_copy(self, what: str) -> None:
        """Copy what the row at the cursor is `about`, or its `output`."""
        key = self.board.rows.cursor
        if key is None:
            self.notify("There is no row to copy.", timeout=_SHORT_S)
            return
        self._work(self._copy(key, self.board.shown.find(key), what))

    async def _copy(self, key: RowKey, subject: Subject, what: str) -> None:
        extract = await asyncio.to_thread(self._read, key, subject, what)
        if extract.text:
            await self._take(extract.what, extract.text)
        else:
            self.notify(f"Nothing is known of {extract.what}: nothing was copied.", timeout=_SHORT_S)

    def _read(self, key: RowKey, subject: Subject, what: str) -> Extract:
        """The whole text, out of the journal and Hermes' records; they are only read when somebody asks."""
        from hermes_tui.tui.extracts import about, output

        pages = self.pages()
        try:
            attributes, record = pages.source(subject)
        finally:
            pages.close()
        if what == "output":
            return output(subject, attributes, record)
        return about(key, subject, attributes, record)

    async def _take(self, what: str, text: str) -> None:
        """Copy a text, and say what and how much it was."""
        copied = await asyncio.to_thread(self._copies.put, text)
        size = amount(copied.text)
        if copied.file:
            self._say(f"{what.capitalize()} ({size}) is in {copied.file}", _LONG_S)
            return
        if not copied.by_tmux:
            self.copy_to_clipboard(copied.text)
        self._say(f"Copied {what}: {size}")

    # --- MLflow

    def action_open_trace(self) -> None:
        """Show the trace of the row at the cursor in MLflow."""
        self._with_address(self._show_page)

    def copy_address(self) -> None:
        """Copy where MLflow shows the trace of the row at the cursor."""

        async def take(page: str) -> None:
            await self._take("the address", page)

        self._with_address(take)

    def _with_address(self, use: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        key = self.board.rows.cursor
        trace = _trace_of(key, self.board.shown.find(key)) if key is not None else None
        if trace is None:
            self.notify("No span of it has come yet: MLflow has no trace.", timeout=_SHORT_S)
            return

        async def work() -> None:
            try:
                page = await asyncio.to_thread(self._address, trace)
            except mlflow_page.NoPage as error:
                self._say(f"MLflow cannot be opened: {error}.")
                return
            await use(page)

        self._work(work())

    def _address(self, trace: bytes) -> str:
        relay = self.board.relay
        if relay is None:
            raise mlflow_page.NoPage("no relay runs that could say where it is")
        pages = self.pages()
        try:
            route = pages.route(trace)
        finally:
            pages.close()
        experiment = route.get("x-mlflow-experiment-id") or relay.experiment
        workspace = route.get("x-mlflow-workspace") or relay.workspace
        return mlflow_page.address(trace, relay.destination, experiment, workspace)

    async def _show_page(self, page: str) -> None:
        shown = await asyncio.to_thread(mlflow_page.show, page)
        self._say(f"Opening {page}" if shown else f"No browser here. MLflow shows it at {page}", _LONG_S)

    # --- files

    def export_session(self) -> None:
        """Write the session that is shown into a file of its own."""
        if session := self.board.shown.id:
            self._work(self._export(session))

    async def _export(self, session: str) -> None:
        from hermes_tui.tui.exports import save_session

        path, count = await asyncio.to_thread(save_session, self._state, session, Path.cwd())
        if count:
            said = f"{count:,} request{'s' if count != 1 else ''}, with all prompts and outputs"
            self._say(f"Exported to {path}: {said}", _LONG_S)
        else:
            self._say("No span of this session has come: there is nothing to export.")

    # --- what all need

    def action_command_palette(self) -> None:
        """Everything that can be done here, to choose from."""
        if not isinstance(self.screen, CommandPalette):
            hint = f"What to do{self.glyphs.more}"
            self.push_screen(CommandPalette(placeholder=hint, id="--command-palette"))

    def action_pause(self) -> None:
        """Freeze the view, or go on."""
        self.board.toggle_pause()

    def more_commands(self) -> list[tuple[str, str, Callable[[], object]]]:
        """What the palette offers that has no key: title, explanation, and what does it."""
        looks = [
            (f"Theme: {look.title}", "Remembered", lambda name=name: self.use_theme(name))
            for name, look in themes.LOOKS.items()
        ]
        return [
            ("Copy the MLflow address", "Of the trace at the cursor", self.copy_address),
            ("Export the session", "As OTLP JSON, into a new file in this folder", self.export_session),
            *looks,
        ]

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that reads or writes files, and say when it fails."""

        async def careful() -> None:
            try:
                await work
            except _FAILURES as error:
                self.notify(neutral.line(str(error)), severity="warning", timeout=_LONG_S, markup=False)

        self.run_worker(careful(), name="hands")

    def _say(self, text: str, seconds: float = _SHORT_S) -> None:
        self.notify(neutral.line(text), timeout=seconds, markup=False)


def _trace_of(key: RowKey, subject: Subject) -> bytes | None:
    """The trace that a row is in; None while no span of its turn has come."""
    if subject.span is not None:
        return subject.span.trace_id
    if key[2] in ("turn", "span"):
        return key[0]
    turn = subject.turn.turn if subject.turn is not None else None
    return turn.key[0] if turn is not None else None
