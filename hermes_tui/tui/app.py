"""The pane: looks at the journal, never writes it, and keeps a relay alive while it is open."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Rule

from hermes_tui.hermes.state_db import Watch, Watched
from hermes_tui.journal.files import StateDir
from hermes_tui.model.live import Live
from hermes_tui.model.windows import Windows
from hermes_tui.settings import Attention
from hermes_tui.tui import directory, wishes
from hermes_tui.tui import glyphs as glyph_sets
from hermes_tui.tui.calling import Calling
from hermes_tui.tui.delivery import DeliveryState
from hermes_tui.tui.directory import Listed
from hermes_tui.tui.ending import on_signals
from hermes_tui.tui.examination import Examination
from hermes_tui.tui.feed import Feed
from hermes_tui.tui.heading import heading
from hermes_tui.tui.messages import (
    CursorMoved,
    DeliveryMoved,
    FoldToggled,
    JournalMoved,
    RecordsArrived,
    RelayInfo,
    RelayMoved,
    RowPicked,
    SpansArrived,
    Supervisor,
    UsageMoved,
    WishWanted,
)
from hermes_tui.tui.pages import Pages
from hermes_tui.tui.reading import Reading
from hermes_tui.tui.records import Records
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.screens.details import DetailsScreen
from hermes_tui.tui.screens.doctor import DoctorScreen
from hermes_tui.tui.screens.help import HelpScreen, declared_keys
from hermes_tui.tui.screens.sessions import SessionsScreen
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.supervision import Supervision, mismatch
from hermes_tui.tui.views import VIEWS, footer
from hermes_tui.tui.widgets.bars import Footer, Header, HeaderData
from hermes_tui.tui.widgets.delivery_view import DeliveryView
from hermes_tui.tui.widgets.details import Details
from hermes_tui.tui.widgets.empty import Empty, watched_words
from hermes_tui.tui.widgets.row_list import RowList
from hermes_tui.tui.widgets.trace_tree import CommandList, TraceTree
from hermes_tui.tui.widgets.usage_view import UsageView

_CLOCK_S = 1.0  # a turn that fell silent, or an approval that waits, is noticed within this time
_RECENT_NS = 3600 * 10**9


class TraceApp(App[None]):
    """`supervisor` None: nobody starts a relay (demo, tests). `watch` None: Hermes' own records are left
    alone; else it is closed in the end. `attention` None: nobody is called. `examination` None: no doctor.
    """

    CSS_PATH = "app.tcss"
    TITLE = "hermes-trace-tui"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it so
        (0, "-narrow"),
        (110, "-wide"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(view.key, f"view('{view.name}')", view.title) for view in VIEWS),
        Binding("f", "follow", "Follow the newest"),
        Binding("s", "sessions", "Sessions"),
        Binding("left_square_bracket", "session(1)", "Older session"),
        Binding("right_square_bracket", "session(-1)", "Newer session"),
        Binding("d", "doctor", "What the doctor found"),
        Binding("w", "raw", "Wrappers and placeholders"),
        Binding("x", "full", "More of long values"),
        Binding("tab", "side", "To the details and back", priority=True),
        Binding("escape", "leave", "Back", show=False),
        Binding("question_mark", "help", "Keys"),
        Binding("q,ctrl+q", "quit", "Quit; the relay goes on"),
    ]

    def __init__(
        self, state: StateDir, *, supervisor: Supervisor | None = None, wanted: str | None = None,
        watch: Watch | None = None, attention: Attention | None = None,
        examination: Examination | None = None,
        windows: Callable[[], Windows] = Windows,
    ) -> None:  # fmt: skip
        super().__init__()
        self.glyphs = glyph_sets.choose()
        self.live = Live()
        self.shown = ShownSession("", self.glyphs, self.live)
        self._calling = Calling(attention, self.live, time.time_ns(), self._warn) if attention else None
        if self._calling is not None:
            self.driver_class = self._calling.driver(self.driver_class)
        self._state = state
        self._examination = examination
        self._wanted = wanted
        self._feed = Feed(state.journal, self.post_message)
        self._watch = watch
        self._records = Records(watch, self.post_message) if watch is not None else None
        self._watched: list[Watched] | None = None if watch is None else []
        self._supervision = Supervision(supervisor, self.post_message) if supervisor is not None else None
        self._relay: RelayInfo | None = None
        self._trouble = ""
        self._journal = JournalMoved(None)
        self._delivery = DeliveryState(self.glyphs)
        self._newest: str | None = None
        self._goal: RowKey | None = None  # where to go once the session it is in has come
        self._chosen = False
        self._unseen = 0
        self._loading = False
        self._view = "empty"
        self._reading = Reading(Pages(state, self.glyphs, watch))
        self._main: Screen[Any]
        # Kept, not looked up: what arrives while the pane closes still finds them.
        self._header = Header(self.glyphs)
        self._footer = Footer(self.glyphs)
        self._views = ContentSwitcher(id="views", initial="empty")
        self._empty = Empty(self._watched, state, id="empty")
        self._tree = TraceTree(self.shown.tree, id="tree")
        self._commands = CommandList(self.shown.commands, id="commands")
        self._proof = DeliveryView(self.glyphs, id="delivery")
        self._usage = UsageView(self.glyphs, self._delivery.differences, id="usage")
        self._windows: Callable[[], Windows] | None = windows
        self._side = Details(id="side")

    # --- layout and life

    def compose(self) -> ComposeResult:
        yield self._header
        yield Rule(classes="rule", line_style="ascii" if self.glyphs is glyph_sets.ASCII else "solid")
        with Horizontal(id="body"):
            with self._views:
                yield self._empty
                yield self._tree
                yield self._commands
                yield self._usage
                yield self._proof
            yield self._side
        yield self._footer

    def on_mount(self) -> None:
        self._main = self.screen
        self.set_class(self.glyphs is glyph_sets.ASCII, "-ascii")
        on_signals(lambda status: self.exit(return_code=status))
        self._feed.start()
        if self._records is not None:
            self._records.start()
        if self._supervision is not None:
            self._supervision.start()
        self.set_interval(_CLOCK_S, self._look_at_clock)
        self._show_footer()

    def on_unmount(self) -> None:
        self._feed.stop()
        if self._records is not None:
            self._records.stop()
        if self._supervision is not None:
            self._supervision.stop()
        if self._calling is not None:
            self._calling.stop()
        if self._examination is not None:
            self._examination.stop()
        self._reading.close()

    # --- what arrives

    def on_spans_arrived(self, message: SpansArrived) -> None:
        if message.fresh:
            gc.unfreeze()  # the spans of the session that was shown may go now
            self._open(message.session)
            self._loading = True
        elif message.session != self.shown.id:
            return  # of a session that was left meanwhile
        changed = self.shown.add(message.spans)
        if message.complete and self._loading:
            # A full collection would look at every span of the session again and again, 100 ms each.
            gc.freeze()
        if changed or message.fresh:
            self._update()
        self._loading = not message.complete
        if self._goal is not None and (self._goal[0] in self.shown.forest.trees or message.complete):
            self._go_to(self._goal)

    def on_records_arrived(self, message: RecordsArrived) -> None:
        self._watched = message.watched
        changed = self.live.take(message.rows)
        self._empty.show_watched(message.watched)
        self._turn_to_newest()
        if not self.shown.id:
            return
        family = {self.shown.id, *(part.id for part in self.live.below(self.shown.id))}
        if not family.isdisjoint(changed):
            self._update()
        elif changed:
            self._call()

    def on_journal_moved(self, message: JournalMoved) -> None:
        self._journal = message
        self._turn_to_newest()
        self._show_header()
        self._show_footer()

    def _turn_to_newest(self) -> None:
        """Show the newest session, unless the user looks at another one or that one is still at work."""
        newest = self._newest = directory.newest(self._journal.newest, self._journal.sessions, self.live)
        if newest is None or newest == self.shown.id or self._chosen:
            return
        if not self.shown.id:
            self._show_first(newest)
        elif self._tree.following and self.shown.status() != "running":
            self._show_now(newest)

    def _show_first(self, newest: str) -> None:
        """A session of which no span ever came is only shown at once when it is a recent one."""
        part = self.live.session(newest)
        recent = part is not None and time.time_ns() - part.active_ns < _RECENT_NS
        if recent and newest != self._journal.newest:
            self._show_now(newest)

    def _show_now(self, session: str) -> None:
        """Turn to a session; its spans follow."""
        self._feed.show(session)
        if self._watch is not None:
            self._watch.pin(session)
        if self.live.session(session) is not None:
            self._open(session)
            self._update()

    def on_delivery_moved(self, message: DeliveryMoved) -> None:
        if message.session not in (None, self.shown.id):
            return  # the session was left meanwhile
        for wish in self._delivery.take(message.snapshot, time.time_ns()):
            self.run_worker(asyncio.to_thread(wishes.withdraw, self._state, wish), name="withdraw")
        self._show_delivery()

    def on_usage_moved(self, message: UsageMoved) -> None:
        if message.session in (None, self.shown.id):
            self._usage.take(message)

    def on_relay_moved(self, message: RelayMoved) -> None:
        self._relay, self._trouble = message.relay, message.trouble
        self._empty.show(message.relay, message.trouble)
        self._show_header()
        self._show_delivery()

    def _open(self, session: str) -> None:
        """Begin to show a session; one that is shown already begins anew, with its folds."""
        if session == self.shown.id:
            self.shown.begin()
            return
        raw = self.shown.tree.raw
        self.shown = ShownSession(session, self.glyphs, self.live)
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
        self._call()

    def _call(self) -> None:
        """Call the user when there is a reason."""
        if self._calling is not None:
            self._calling.look(self.shown, time.time_ns(), history=self._loading and self._chosen)

    def _warn(self, text: str) -> None:
        self.notify(text, severity="warning", timeout=10, markup=False)

    def _update(self) -> None:
        """Everything on the screen that depends on the session's spans and records."""
        known = self.shown.news
        self._refresh()
        if not self._loading and not self._tree.following:
            self._unseen += max(0, self.shown.news - known)
        self._tree.rows_changed()
        self._commands.rows_changed()
        self._show_header()
        self._show_footer()
        self._show_details()
        self._show_usage()

    def _look_at_clock(self) -> None:
        if not self.shown.id:
            return
        if self.shown.tree.moves:
            self._refresh()
            self._tree.rows_changed()
            self._commands.rows_changed()
            self._show_header()
        else:
            self._call()
        self._show_delivery()
        self._show_usage()

    # --- what is shown

    @property
    def _rows(self) -> RowList | DeliveryView | UsageView:
        if self._view == "delivery":
            return self._proof
        if self._view == "usage":
            return self._usage
        return self._commands if self._view == "commands" else self._tree

    def _show_header(self) -> None:
        trouble = self._trouble or mismatch(self._relay, self._wanted)
        if not self.shown.id:
            self._header.data = HeaderData(trouble=trouble)
            return
        self._header.data = heading(self.shown, self._journal.says, trouble)

    def _show_delivery(self) -> None:
        if self._view != "delivery":
            return
        address = self._relay.destination if self._relay is not None else None
        stopped = self._trouble if self._relay is None else ""
        self._proof.show(self._delivery.data(self.shown, address, stopped, time.time_ns()))

    def _show_usage(self) -> None:
        looks = self._view == "usage"
        self._usage.follow(self.shown if looks else None, time.time_ns())
        record = self.shown.record if looks else None
        if record is not None and record.row is not None and record.sums is not None:
            self._usage.tell_hermes(record.sums, record.row.api_calls)

    def _show_footer(self) -> None:
        self._footer.data = footer(
            self._view,
            self.shown,
            self._header.data.delivery.glyph,
            unseen=self._unseen,
            following=self._rows.following or self._view == "empty",
            others=self._newest not in (None, self.shown.id),
        )

    def _show_details(self) -> None:
        key = self._rows.cursor
        if key is None:
            return
        screen = self.screen
        place = screen if isinstance(screen, DetailsScreen) else self._side
        if place is self._side and not self._main.has_class("-wide"):
            return
        self._reading.show(place, key, self.shown)

    # --- what the user does

    def on_cursor_moved(self, message: CursorMoved) -> None:
        self._show_details()
        self._show_footer()

    def on_fold_toggled(self, message: FoldToggled) -> None:
        self.shown.tree.set_fold(message.key, message.folded)
        self._refresh()
        self._tree.rows_changed()

    def on_row_picked(self, message: RowPicked) -> None:
        if self._view != "tree":
            self._go_to(message.key)
        elif self._main.has_class("-wide"):
            self._side.focus()
        else:
            # Who reads one row does not want the next one; who then closes it without having moved does.
            read = message.key if self._tree.following else None
            self._tree.following = False
            self.push_screen(DetailsScreen(self.glyphs), lambda _: self._after_details(read))

    def _go_to(self, key: RowKey) -> None:
        """Show a row in the tree, and the session that it is in if that is another one."""
        self._goal = None
        if key[2] in ("turn", "span") and key[0] not in self.shown.forest.trees:
            session = self._delivery.session_of(key[0])
            if session in (None, self.shown.id):
                self.notify("It is no longer in the journal.", timeout=3)
                return
            self._show_session(session)
            self._goal = key
            return
        self.shown.reveal(key)
        self.action_view("tree")
        self._tree.rows_changed()
        self._tree.go_to(key)

    def _after_details(self, read: RowKey | None) -> None:
        """Follow on when the row that was read is still that at the cursor."""
        cursor = self.shown.tree.find(self._tree.cursor)
        if read is not None and cursor is not None and self.shown.tree.find(read) == cursor:
            self._unseen = 0
            self._tree.follow()
            self._show_footer()
        self.call_after_refresh(self._show_details)

    def on_details_shown(self) -> None:
        self._show_details()

    def on_footer_pressed(self, message: Footer.Pressed) -> None:
        self.simulate_key("question_mark" if message.key == "?" else message.key)

    def action_view(self, view: str) -> None:
        if not self.shown.id:
            return
        self._view = view
        self._views.current = view
        self._rows.focus()
        self._look_at_delivery()
        self._look_at_usage()
        self._show_delivery()
        self._show_details()
        self._show_footer()

    def _look_at_delivery(self) -> None:
        self._feed.look_at_delivery(self._delivery.wishes.open if self._view == "delivery" else None)

    def _look_at_usage(self) -> None:
        looks = self._view == "usage"
        self._feed.look_at_usage(looks)
        self._show_usage()
        if looks and self._windows is not None:
            self.run_worker(self._learn_windows(self._windows), name="windows")
            self._windows = None

    async def _learn_windows(self, windows: Callable[[], Windows]) -> None:
        self._usage.tell_windows(await asyncio.to_thread(windows))

    def on_wish_wanted(self, message: WishWanted) -> None:
        self.run_worker(self._wish(message.kind), name=message.kind)

    async def _wish(self, kind: str) -> None:
        if not await self._delivery.wishes.make(self._state, kind, self.shown.id):
            self.notify("It is still at the last one.", timeout=2)
        self._look_at_delivery()
        self._show_delivery()

    def action_follow(self) -> None:
        self._unseen = 0
        self._chosen = False
        self._tree.follow()
        self._commands.follow()
        self._refresh()
        self._tree.rows_changed()
        if self._newest is not None and self._newest != self.shown.id and self.shown.id:
            self._show_now(self._newest)
        self._show_footer()

    def action_raw(self) -> None:
        self.shown.tree.set_raw(not self.shown.tree.raw)
        self._refresh()
        self._tree.rows_changed()
        self.notify("All spans, as they came." if self.shown.tree.raw else "Wrappers are hidden.", timeout=2)

    def action_full(self) -> None:
        self._reading.full = not self._reading.full
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
        elif self._view not in ("tree", "empty"):
            self.action_view("tree")

    def _sessions(self) -> list[Listed]:
        return directory.directory(self._journal.sessions, self.live, time.time_ns())

    def action_session(self, by: int) -> None:
        names = [listed.session for listed in self._sessions()]
        if self.shown.id in names:
            at = names.index(self.shown.id) + by
            if 0 <= at < len(names):
                self._show_session(names[at])

    def action_sessions(self) -> None:
        if found := self._sessions():
            screen = SessionsScreen(found, self.shown.id, self.glyphs, watched_words(self._watched))
            self.push_screen(screen, self._show_session)
        else:
            self.notify("There are no sessions yet.", timeout=3)

    def _show_session(self, session: str | None) -> None:
        self._goal = None
        if session is not None and session != self.shown.id:
            self._chosen = session != self._newest
            self._show_now(session)

    def action_doctor(self) -> None:
        self.push_screen(DoctorScreen(self._state, self._examination, self.glyphs))

    def action_help(self) -> None:
        owners = (TraceTree, RowList, DeliveryView, UsageView, DetailsScreen, TraceApp)
        self.push_screen(HelpScreen(declared_keys(owners), self.glyphs))
