"""The pane: looks at the journal, never writes it, and keeps a relay alive while it is open."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from hermes_tui.journal.files import StateDir
from hermes_tui.model.flags import Flags
from hermes_tui.model.live import Live
from hermes_tui.model.windows import Windows
from hermes_tui.pane_settings import Pane
from hermes_tui.tui import directory
from hermes_tui.tui import glyphs as glyph_sets
from hermes_tui.tui.beside import beside, elsewhere
from hermes_tui.tui.board import Board
from hermes_tui.tui.directory import Listed
from hermes_tui.tui.ending import on_signals
from hermes_tui.tui.feed import Feed
from hermes_tui.tui.hands import Hands
from hermes_tui.tui.messages import (
    CommandsRead,
    DeliveryMoved,
    FactsArrived,
    HitsFound,
    JournalMoved,
    RecordsArrived,
    RelayMoved,
    ReviewAsked,
    RowPicked,
    SpansArrived,
    Supervisor,
    UsageMoved,
    ViewChanged,
    WishWanted,
)
from hermes_tui.tui.parts import Parts
from hermes_tui.tui.reading import Reading
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.supervision import Supervision, mismatch
from hermes_tui.tui.views import VIEWS
from hermes_tui.tui.widgets.bars import PaneFooter
from hermes_tui.tui.widgets.empty import Empty, watched_words

if TYPE_CHECKING:
    from hermes_tui.hermes.state_db import Watch, Watched
    from hermes_tui.settings import Attention
    from hermes_tui.tui.examination import Examination
    from hermes_tui.tui.reviewing import Reviewing
    from hermes_tui.tui.screens.sessions import SessionsScreen
    from hermes_tui.tui.transcript_feed import TranscriptRead

_CLOCK_S = 1.0  # a turn that fell silent, or an approval that waits, is noticed within this time
_RECENT_NS = 3600 * 10**9
_CURTAIN_S = 0.15  # that the first paint waits for the first spans, when there are any


class TraceApp(Hands):
    """What is not needed for the first paint is imported and made when somebody asks for it.

    `supervisor` None: nobody starts a relay (demo, tests). `watch` None: Hermes' own records are left
    alone; else it is closed in the end. `attention` None: nobody is called. `examination` None: no doctor.
    """

    CSS_PATH = "app.tcss"
    TITLE = "hermes-trace-tui"
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
        windows: Callable[[], Windows] = Windows, flags: Flags | None = None,
        wanted_pane: Pane | None = None,
    ) -> None:  # fmt: skip
        super().__init__(state, watch, wanted_pane or Pane())
        self.live = Live()
        self._parts = Parts(state, watch, self.post_message)
        self._calling = self._parts.calling(attention, self.live, self._warn) if attention else None
        if self._calling is not None:
            self.driver_class = self._calling.driver(self.driver_class)
        self._examination = self._parts.keep(examination) if examination is not None else None
        self._wanted = wanted
        self._feed = self._parts.keep(Feed(state.journal, self.post_message, paced=True))
        self._records = self._parts.records(watch) if watch is not None else None
        self._watched: list[Watched] | None = None if watch is None else []
        self._supervision: Supervision | None = None
        if supervisor is not None:
            self._supervision = self._parts.keep(Supervision(supervisor, self.post_message))
        self._windows: Callable[[], Windows] | None = windows
        self._journal = JournalMoved(None)
        self._newest: str | None = None
        self._goal: RowKey | None = None  # where to go once the session it is in has come
        self._chosen = False
        self._left: str | None = None  # the newest session when the user turned to another: it is not news
        self._reading = Reading(self.pages)
        empty = Empty(self._watched, state, id="empty")
        self.board = Board(
            self.glyphs,
            self.live,
            self._reading,
            empty,
            flags or Flags(),
            self._parts.texts,
            self._parts.finder,
        )
        self._reviewing: Reviewing | None = None
        self._directory: SessionsScreen | None = None
        self._main: Screen[Any]
        self._curtain = ExitStack()

    @property
    def shown(self) -> ShownSession:
        """The session on the screen."""
        return self.board.shown

    @property
    def _review(self) -> Reviewing:
        if self._reviewing is None:
            from hermes_tui.tui.reviewing import Reviewing

            self._reviewing = self._parts.keep(
                Reviewing(self, self.board, self._state, self._sessions, lambda: self._watched)
            )
        return self._reviewing

    # --- life

    def compose(self) -> ComposeResult:
        yield self.board

    def on_load(self) -> None:
        """Read while the screen is built: what arrives waits until it is."""
        self._feed.start()

    def on_mount(self) -> None:
        self._main = self.screen
        self.set_class(self.glyphs is glyph_sets.ASCII, "-ascii")
        on_signals(lambda status: self.exit(return_code=status))
        for part in (self._records, self._supervision):
            if part is not None:
                part.start()
        self._curtain.callback(_collect)
        if self._state.journal.exists():
            self._curtain.callback(self._main.refresh)  # the end of a batch alone wakes no screen
            self._curtain.enter_context(self.batch_update())
        self.set_timer(_CURTAIN_S, self._curtain.close)
        self.set_interval(_CLOCK_S, self.board.tick)
        self.set_interval(_CLOCK_S, self._list_sessions)
        self.board.show_footer()

    def on_unmount(self) -> None:
        self._curtain.close()
        self._parts.stop()
        self._reading.close()

    # --- what arrives

    def on_spans_arrived(self, message: SpansArrived) -> None:
        begin = time.thread_time()
        if message.fresh:
            gc.unfreeze()  # the spans of the session that was shown may go now
            self.board.open(message.session)
            self.board.filling = True
        elif message.session != self.shown.id:
            return  # of a session that was left meanwhile
        self.board.search.arrived(message.spans)
        changed = self.board.take(message.spans)
        if message.complete and self.board.filling:
            # A full collection would look at every span of the session again and again, 100 ms each.
            gc.freeze()
        if changed or message.fresh:
            self.board.update()
        self.board.filling = not message.complete
        self._curtain.close()
        self.call_after_refresh(self._feed.go_on, time.thread_time() - begin)
        if self._goal is not None and (self._goal[0] in self.shown.forest.trees or message.complete):
            self._go_to(self._goal)

    def on_records_arrived(self, message: RecordsArrived) -> None:
        self._watched = message.watched
        changed = self.live.take(message.rows)
        self.board.empty.show_watched(message.watched)
        self._turn_to_newest()
        if not self.shown.id:
            return
        family = {self.shown.id, *(part.id for part in self.live.below(self.shown.id))}
        if not family.isdisjoint(changed):
            self.board.update()
            if self._goal is not None:
                self._reach(self._goal)
        elif changed:
            self.on_refreshed()

    def on_journal_moved(self, message: JournalMoved) -> None:
        self._journal, self.board.says = message, message.says
        self._turn_to_newest()
        self.board.show_header()
        self.board.show_footer()

    def on_delivery_moved(self, message: DeliveryMoved) -> None:
        if message.session not in (None, self.shown.id):
            return  # the session was left meanwhile
        from hermes_tui.tui import wishes

        for wish in self.board.later.delivery.take(message.snapshot, time.time_ns()):
            self.run_worker(asyncio.to_thread(wishes.withdraw, self._state, wish), name="withdraw")
        self.board.later.show_delivery()

    def on_usage_moved(self, message: UsageMoved) -> None:
        if self.board.later.usage is not None and message.session in (None, self.shown.id):
            self.board.later.usage.take(message)

    def on_transcript_read(self, message: TranscriptRead) -> None:
        if self.board.later.transcript is not None:
            self.board.later.transcript.take(message)

    def on_relay_moved(self, message: RelayMoved) -> None:
        self.board.relay, self.board.trouble = message.relay, message.trouble
        self.board.mismatch = mismatch(message.relay, self._wanted)
        self.board.empty.show(message.relay, message.trouble)
        self.board.show_header()
        self.board.later.show_delivery()

    def on_facts_arrived(self, _: FactsArrived) -> None:
        if self._directory is not None and self._directory.is_current:
            self._directory.list(self._sessions())

    def on_hits_found(self, message: HitsFound) -> None:
        self.board.search.take(message)

    def on_refreshed(self) -> None:
        """Call the user when there is a reason."""
        if self._reviewing is not None:
            self._reviewing.settle()
        if self._calling is not None:
            history = self.board.filling and self._chosen
            seen = self.shown if self.board.held is None else ShownSession("", self.glyphs, self.live)
            self._calling.look(seen, time.time_ns(), history=history)

    def _warn(self, text: str) -> None:
        self.notify(text, severity="warning", timeout=10, markup=False)

    # --- which session is shown

    def _turn_to_newest(self) -> None:
        """Show the newest session, unless the user looks at another one or that one is still at work."""
        ours = beside(self.live, self._folders, time.time_ns())
        newest = ours or directory.newest(self._journal.newest, self._journal.sessions, self.live)
        self._newest = newest
        self.board.others = newest not in (None, self.shown.id, self._left)
        if newest is None or newest == self.shown.id or self._chosen or self.board.held is not None:
            return
        if not self.shown.id:
            self._show_first(newest)
        elif self.board.trace_tree.following and (
            self.shown.status() != "running"
            or (ours is not None and elsewhere(self.live, self.shown.id, self._folders))
        ):
            self._show_now(newest)

    def _show_first(self, newest: str) -> None:
        """A session of which no span ever came is only shown at once when it is a recent one."""
        part = self.live.session(newest)
        recent = part is not None and time.time_ns() - part.active_ns < _RECENT_NS
        if recent and newest != self._journal.newest:
            self._show_now(newest)

    def _show_now(self, session: str) -> None:
        """Turn to a session; its spans follow."""
        self.board.others = self._newest not in (None, session, self._left)
        self._feed.show(session)
        if self._watch is not None:
            self._watch.pin(session)
        if self.live.session(session) is not None:
            self.board.open(session)
            self.board.update()

    def _show_session(self, session: str | None) -> None:
        self._goal = None
        if session is not None and session != self.shown.id:
            self._chosen, self._left = session != self._newest, self._newest
            self._show_now(session)

    def _go_to(self, key: RowKey) -> None:
        """Show a row in the tree, and the session that it is in if that is another one."""
        self._goal = None
        elsewhere = key[2] in ("turn", "span") and key[0] not in self.shown.forest.trees
        listed = self.board.listing.every is not None
        session = self.board.session_of(key) if elsewhere or listed else None
        if session is not None and session != self.shown.id:
            self._show_session(session)
            self._goal = key
            self._reach(key)
        elif elsewhere:
            self.notify("It is no longer in the journal.", timeout=3)
        else:
            self.board.go_to(key)

    def _reach(self, key: RowKey) -> None:
        """Go where the user wanted to when all that is known of it is in Hermes' records."""
        if key[2] == "session" or (key[2] == "call" and self.shown.find(key).item is not None):
            self._goal = None
            self.board.go_to(key)

    def _sessions(self) -> list[Listed]:
        rows, facts = self._journal.sessions, self._parts.facts.known
        return directory.directory(rows, self.live, time.time_ns(), facts)

    def _list_sessions(self) -> None:
        """Bring the list of sessions up to date while somebody looks at it."""
        if self._directory is not None and self._directory.is_current:
            self._directory.list(self._sessions())
            self._parts.facts.read(self._journal.sessions)

    # --- what the user does

    def on_row_picked(self, message: RowPicked) -> None:
        self._go_to(message.key)

    def on_details_shown(self) -> None:
        self.board.side.show()

    def on_pane_footer_pressed(self, message: PaneFooter.Pressed) -> None:
        self.simulate_key({"?": "question_mark", "/": "slash"}.get(message.key, message.key))

    def on_view_changed(self, message: ViewChanged) -> None:
        """Have read what the view needs, and nothing that none does."""
        self._look_at_delivery()
        self._feed.look_at_usage(message.view == "usage")
        if message.view == "commands":
            self._review.look()
        if message.view == "usage" and self._windows is not None:
            self.run_worker(self._learn_windows(self._windows), name="windows")
            self._windows = None

    def _look_at_delivery(self) -> None:
        delivery = self.board.view == "delivery"
        self._feed.look_at_delivery(self.board.later.delivery.wishes.open if delivery else None)

    async def _learn_windows(self, windows: Callable[[], Windows]) -> None:
        known = await asyncio.to_thread(windows)
        if self.board.later.usage is not None:
            self.board.later.usage.tell_windows(known)

    def on_review_asked(self, message: ReviewAsked) -> None:
        self._review.asked(message.what)

    def on_commands_read(self, message: CommandsRead) -> None:
        self._review.read(message)

    def on_wish_wanted(self, message: WishWanted) -> None:
        self.run_worker(self._wish(message.kind), name=message.kind)

    async def _wish(self, kind: str) -> None:
        if not await self.board.later.delivery.wishes.make(self._state, kind, self.shown.id):
            self.notify("It is still at the last one.", timeout=2)
        self._look_at_delivery()
        self.board.later.show_delivery()

    def action_view(self, view: str) -> None:
        self.board.turn_to(view)

    def action_follow(self) -> None:
        self._chosen = False
        self.board.follow()
        if self._newest is not None and self._newest != self.shown.id and self.shown.id:
            self._show_now(self._newest)

    def action_raw(self) -> None:
        raw = self.board.toggle_raw()
        self.notify("All spans, as they came." if raw else "Wrappers are hidden.", timeout=2)

    def action_full(self) -> None:
        self.board.toggle_full()

    def action_neighbour(self, by: int) -> None:
        self.board.rows.action_move(by)

    def action_pause(self) -> None:
        super().action_pause()
        self._turn_to_newest()  # what was held back meanwhile

    def action_side(self) -> None:
        """Between the rows and the details beside them; on other screens as Textual does."""
        if self.screen is self._main:
            self.board.side.toggle_focus()
        else:
            self.screen.focus_next()

    def action_leave(self) -> None:
        """Never quits."""
        self.board.leave()

    def action_session(self, by: int) -> None:
        names = [listed.session for listed in self._sessions()]
        if self.shown.id in names:
            at = names.index(self.shown.id) + by
            if 0 <= at < len(names):
                self._show_session(names[at])

    def action_sessions(self) -> None:
        from hermes_tui.tui.screens.sessions import SessionsScreen

        if found := self._sessions():
            words = watched_words(self._watched)
            self._directory = SessionsScreen(found, self.shown.id, self.glyphs, words)
            self.push_screen(self._directory, self._show_session)
            self._parts.facts.read(self._journal.sessions)
        else:
            self.notify("There are no sessions yet.", timeout=3)

    def action_doctor(self) -> None:
        from hermes_tui.tui.screens.doctor import DoctorScreen

        self.push_screen(DoctorScreen(self._state, self._examination, self.glyphs))

    def action_help(self) -> None:
        from hermes_tui.tui.keys import all_keys
        from hermes_tui.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(all_keys(TraceApp), self.glyphs))


def _collect() -> None:
    """Look for garbage from now on, but not in what the start has made (`start.run`)."""
    gc.freeze()
    gc.enable()
