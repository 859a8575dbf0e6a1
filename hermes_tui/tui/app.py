"""The pane: looks at the journal, never writes it, and keeps a relay alive while it is open."""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import threading
import time
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Rule

from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.reader import Reader
from hermes_tui.model.span import Delivery, Span
from hermes_tui.model.turns import Turn
from hermes_tui.tui import glyphs as glyph_sets
from hermes_tui.tui.describe import describe
from hermes_tui.tui.feed import Feed
from hermes_tui.tui.messages import (
    CursorMoved,
    FoldToggled,
    JournalMoved,
    RelayInfo,
    RelayMoved,
    RowPicked,
    SpansArrived,
    Supervisor,
)
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.screens.details import DetailsScreen
from hermes_tui.tui.screens.help import HelpScreen, key_names
from hermes_tui.tui.screens.sessions import SessionsScreen
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.supervision import Supervision
from hermes_tui.tui.widgets.bars import Footer, FooterData, Header, HeaderData
from hermes_tui.tui.widgets.details import Details
from hermes_tui.tui.widgets.empty import Empty
from hermes_tui.tui.widgets.row_list import RowList
from hermes_tui.tui.widgets.trace_tree import CommandList, TraceTree

_LAST_S = 5
_CLOCK_S = 5.0  # a turn that fell silent is noticed within this time


class TraceApp(App[None]):
    """`supervisor` None: nobody starts a relay (demo, tests)."""

    CSS_PATH = "app.tcss"
    TITLE = "hermes-trace-tui"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it so
        (0, "-narrow"),
        (110, "-wide"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "view('tree')", "Tree"),
        Binding("2", "view('commands')", "Commands"),
        Binding("f", "follow", "Follow the newest"),
        Binding("s", "sessions", "Sessions"),
        Binding("left_square_bracket", "session(1)", "Older session"),
        Binding("right_square_bracket", "session(-1)", "Newer session"),
        Binding("w", "raw", "Wrappers and placeholders"),
        Binding("x", "full", "More of long values"),
        Binding("tab", "side", "To the details and back", priority=True),
        Binding("escape", "leave", "Back", show=False),
        Binding("question_mark", "help", "Keys"),
        Binding("q,ctrl+q", "quit", "Quit; the relay goes on"),
    ]

    def __init__(
        self, state: StateDir, *, supervisor: Supervisor | None = None, wanted: str | None = None
    ) -> None:
        super().__init__()
        self.glyphs = glyph_sets.choose()
        self.shown = ShownSession("", self.glyphs)
        self._state = state
        self._wanted = wanted
        self._feed = Feed(state.journal, self.post_message)
        self._supervision = Supervision(supervisor, self.post_message) if supervisor is not None else None
        self._relay: RelayInfo | None = None
        self._trouble = ""
        self._exporter: dict[str, Any] = {}
        self._journal = JournalMoved(None)
        self._chosen = False
        self._unseen = 0
        self._loading = False
        self._full = False
        self._view = "empty"
        self._detailed: tuple[object, ...] = ()
        self._reader: Reader | None = None
        self._main: Screen[Any]
        # Kept, not looked up: what arrives while the pane closes still finds them.
        self._header = Header(self.glyphs)
        self._footer = Footer(self.glyphs)
        self._empty = Empty(id="empty")
        self._tree = TraceTree(self.shown.tree, id="tree")
        self._commands = CommandList(self.shown.commands, id="commands")
        self._side = Details(id="side")

    # --- layout and life

    def compose(self) -> ComposeResult:
        yield self._header
        yield Rule(classes="rule", line_style="ascii" if self.glyphs is glyph_sets.ASCII else "solid")
        with Horizontal(id="body"):
            with ContentSwitcher(id="views", initial="empty"):
                yield self._empty
                yield self._tree
                yield self._commands
            yield self._side
        yield self._footer

    def on_mount(self) -> None:
        self._main = self.screen
        self.set_class(self.glyphs is glyph_sets.ASCII, "-ascii")
        self._obey_signals()
        self._feed.start()
        if self._supervision is not None:
            self._supervision.start()
        self.set_interval(_CLOCK_S, self._look_at_clock)
        self._show_footer()

    def _obey_signals(self) -> None:
        """End properly when the terminal is closed or the process is told to: the demo has to clean up."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, number)

    def _end(self, number: int) -> None:
        signal.alarm(_LAST_S)  # a terminal that is gone can make any farewell hang
        self.exit(return_code=128 + number)

    def on_unmount(self) -> None:
        self._feed.stop()
        if self._supervision is not None:
            self._supervision.stop()
        if self._reader is not None:
            self._reader.close()

    # --- what arrives

    def on_spans_arrived(self, message: SpansArrived) -> None:
        if message.fresh:
            gc.unfreeze()  # the spans of the session that was shown may go now
            self._open(message.session)
            self._loading = True
        elif message.session != self.shown.id:
            return  # of a session that was left meanwhile
        news = 0 if self._loading or self._tree.following else self.shown.news(message.spans)
        changed = self.shown.add(message.spans)
        if message.complete and self._loading:
            # A full collection would look at every span of the session again and again, 100 ms each.
            gc.freeze()
        self._loading = not message.complete
        if not changed and not message.fresh:
            return
        self._unseen += news
        self._update()

    def on_journal_moved(self, message: JournalMoved) -> None:
        self._journal = message
        self._exporter = message.exporter
        newest = message.newest
        if newest is not None and newest != self.shown.id and self.shown.id and not self._chosen:
            busy = self.shown.status(time.time_ns()) == "running"
            if self._tree.following and not busy:
                self._feed.show(newest)
        self._show_header()
        self._show_footer()

    def on_relay_moved(self, message: RelayMoved) -> None:
        self._relay, self._trouble = message.relay, message.trouble
        self._empty.show(message.relay, message.trouble)
        self._show_header()

    def _open(self, session: str) -> None:
        raw = self.shown.tree.raw
        self.shown = ShownSession(session, self.glyphs)
        self.shown.tree.set_raw(raw)
        self._tree.source = self.shown.tree
        self._commands.source = self.shown.commands
        for rows in (self._tree, self._commands):
            rows.cursor = None
            rows.following = True
        self._unseen = 0
        if self._view == "empty":
            self.action_view("tree")

    def _refresh(self) -> None:
        """Bring the rows up to date; a turn in which the user reads stays open."""
        self.shown.tree.hold(None if self._tree.following else self._tree.cursor)
        self.shown.refresh(time.time_ns())

    def _update(self) -> None:
        """Everything on the screen that depends on the session's spans."""
        self._refresh()
        self._tree.rows_changed()
        self._commands.rows_changed()
        self._show_header()
        self._show_footer()
        self._show_details()

    def _look_at_clock(self) -> None:
        if self.shown.id:
            self._refresh()
            self._tree.rows_changed()
            self._show_header()

    # --- what is shown

    @property
    def _rows(self) -> RowList:
        return self._commands if self._view == "commands" else self._tree

    def _show_header(self) -> None:
        trouble = self._trouble or self._mismatch()
        if not self.shown.id:
            self._header.data = HeaderData(trouble=trouble)
            return
        self._header.data = self.shown.header(self._exporter, trouble, time.time_ns())

    def _mismatch(self) -> str:
        """The pane's settings name another destination than the running relay's."""
        theirs = self._relay.destination if self._relay is not None else None
        if self._relay is None or self._wanted is None or self._wanted == theirs:
            return ""
        return f"relay sends to {theirs or 'nobody'}: `stop` it to use {self._wanted}"

    def _show_footer(self) -> None:
        others = self._journal.newest not in (None, self.shown.id)
        keys = [("s", "new session" if others else "sessions"), ("?", "keys"), ("q", "quit")]
        self._footer.data = FooterData(
            view=self._view,
            commands=len(self.shown.commands),
            failed=self.shown.commands.failed,
            unseen=self._unseen,
            following=self._rows.following or self._view == "empty",
            keys=tuple(keys),
        )

    def _show_details(self) -> None:
        key = self._rows.cursor
        if key is None:
            return
        screen = self.screen
        place = screen if isinstance(screen, DetailsScreen) else self._side
        if place is self._side and not self._main.has_class("-wide"):
            return
        span, turn = self.shown.find(key)
        subject = (place, key, self._full, span and span.revision, turn and turn.end_ns)
        if subject != self._detailed:  # most arrivals change another span than the one that is read
            self._detailed = subject
            place.show(key, self._page(key, span, turn))

    def _page(self, key: RowKey, span: Span | None, turn: Turn | None) -> Text:
        if span is None:
            what = "This turn's own span" if key[2] == "turn" else "This span"
            return Text(f"{what} has not arrived yet; its children have.", "dim")
        try:
            detail, reason = self._read(span)
        except (StateError, sqlite3.Error) as error:
            return Text(f"cannot read the journal: {error}", "red")
        return describe(span, detail, turn, glyphs=self.glyphs, full=self._full, reason=reason)

    def _read(self, span: Span) -> tuple[Any, str]:
        if self._reader is None or self._reader.stale():
            if self._reader is not None:
                self._reader.close()
            self._reader = Reader(self._state.journal)
        found = next(iter(self._reader.details([span])), None)
        reason = self._reader.reason(span) if span.delivery >= Delivery.HELD else ""
        return (None if found is None else found[1]), reason

    # --- what the user does

    def on_cursor_moved(self, message: CursorMoved) -> None:
        self._show_details()
        self._show_footer()

    def on_fold_toggled(self, message: FoldToggled) -> None:
        self.shown.tree.set_fold(message.key, message.folded)
        self._refresh()
        self._tree.rows_changed()

    def on_row_picked(self, message: RowPicked) -> None:
        if self._view == "commands":
            self.shown.reveal(message.key, time.time_ns())
            self.action_view("tree")
            self._tree.rows_changed()
            self._tree.go_to(message.key)
        elif self._main.has_class("-wide"):
            self._side.focus()
        else:
            self.push_screen(DetailsScreen(self.glyphs), self._after_details)

    def _after_details(self, _: None) -> None:
        self.call_after_refresh(self._show_details)

    def on_details_shown(self) -> None:
        self._show_details()

    def on_footer_pressed(self, message: Footer.Pressed) -> None:
        self.simulate_key("question_mark" if message.key == "?" else message.key)

    def action_view(self, view: str) -> None:
        if not self.shown.id:
            return
        self._view = view
        self._main.query_one(ContentSwitcher).current = view
        self._rows.focus()
        self._show_details()
        self._show_footer()

    def action_follow(self) -> None:
        self._unseen = 0
        self._chosen = False
        self._tree.follow()
        self._commands.follow()
        self._refresh()
        self._tree.rows_changed()
        newest = self._journal.newest
        if newest is not None and newest != self.shown.id and self.shown.id:
            self._feed.show(newest)
        self._show_footer()

    def action_raw(self) -> None:
        self.shown.tree.set_raw(not self.shown.tree.raw)
        self._refresh()
        self._tree.rows_changed()
        self.notify("All spans, as they came." if self.shown.tree.raw else "Wrappers are hidden.", timeout=2)

    def action_full(self) -> None:
        self._full = not self._full
        self._show_details()

    def action_neighbour(self, by: int) -> None:
        self._rows.action_move(by)

    def action_side(self) -> None:
        """Between the rows and the details beside them; on other screens as Textual does."""
        if self.screen is not self._main:
            self.screen.focus_next()
        elif self.focused is self._side:
            self._rows.focus()
        elif self._main.has_class("-wide"):
            self._side.focus()

    def action_leave(self) -> None:
        """Never quits: from the details to the rows, from the commands to the tree."""
        if self.focused is self._side:
            self._rows.focus()
        elif self._view == "commands":
            self.action_view("tree")

    def action_session(self, by: int) -> None:
        names = [row.session for row in self._journal.sessions]
        if self.shown.id in names:
            at = names.index(self.shown.id) + by
            if 0 <= at < len(names):
                self._show_session(names[at])

    def action_sessions(self) -> None:
        if self._journal.sessions:
            screen = SessionsScreen(self._journal.sessions, self.shown.id, self.glyphs)
            self.push_screen(screen, self._show_session)

    def _show_session(self, session: str | None) -> None:
        if session is not None and session != self.shown.id:
            self._chosen = session != self._journal.newest
            self._feed.show(session)

    def action_help(self) -> None:
        own = (TraceTree, RowList, DetailsScreen, TraceApp)
        declared = [each for owner in own for each in owner.BINDINGS if isinstance(each, Binding)]
        names: dict[str, list[str]] = {}
        for binding in declared:
            names.setdefault(binding.description, []).extend(key_names(binding.key).split())
        self.push_screen(
            HelpScreen([(" ".join(dict.fromkeys(keys)), what) for what, keys in names.items()], self.glyphs)
        )
