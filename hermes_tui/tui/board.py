"""The board: the session that is shown, in every view, with its header, its footer and its details."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

import msgspec
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Rule

from hermes_tui.model.flags import Flags
from hermes_tui.model.live import Live
from hermes_tui.model.span import Span
from hermes_tui.tui import glyphs as glyph_sets
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.heading import heading
from hermes_tui.tui.held import Held
from hermes_tui.tui.later_views import LaterViews
from hermes_tui.tui.listing import Listing
from hermes_tui.tui.messages import (
    CursorMoved,
    FoldToggled,
    Refreshed,
    RelayInfo,
    RowPicked,
    SplitDragged,
    TreeKey,
    ViewChanged,
)
from hermes_tui.tui.navigating import navigate
from hermes_tui.tui.reading import Reading
from hermes_tui.tui.review import Review
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.screens.details import DetailsScreen
from hermes_tui.tui.search import Search
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.side import Side
from hermes_tui.tui.trust import RelaySays
from hermes_tui.tui.views import footer
from hermes_tui.tui.widgets.bars import HeaderData, PaneFooter, PaneHeader
from hermes_tui.tui.widgets.empty import Empty
from hermes_tui.tui.widgets.trace_tree import TraceTree
from hermes_tui.tui.widgets.view_switcher import ViewSwitcher

if TYPE_CHECKING:
    from hermes_tui.tui.finder import Finder
    from hermes_tui.tui.transcript_feed import TranscriptFeed
    from hermes_tui.tui.widgets.delivery_view import DeliveryView
    from hermes_tui.tui.widgets.row_list import RowList
    from hermes_tui.tui.widgets.search_bar import SearchBar
    from hermes_tui.tui.widgets.transcript_view import TranscriptView
    from hermes_tui.tui.widgets.usage_view import UsageView


class Board(Vertical):
    """Tell it what is known, then `update`. `filling`: the session is still being read. `held`: the view is
    paused, and this is what came since.

    Its parts are kept, not looked up: what arrives while the pane closes still finds them. `texts` and
    `finder` make what reads for the transcript and for the search, once somebody turns to them.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        # With priority, as the keys right behind it are for the search's line already.
        Binding("slash", "search", "Search", priority=True),
        Binding("n", "hit(1)", "Next hit of the search"),
        Binding("N", "hit(-1)", "Previous hit of the search"),
        Binding("b", "hide_side", "Details beside the rows, or not"),
        Binding("less_than_sign", "split(1)", "Wider details"),
        Binding("greater_than_sign", "split(-1)", "Narrower details"),
    ]

    def __init__(
        self, glyphs: Glyphs, live: Live, reading: Reading, empty: Empty, flags: Flags,
        texts: Callable[[], TranscriptFeed], finder: Callable[[], Finder],
    ) -> None:  # fmt: skip
        super().__init__(id="board", classes="-alone")
        self.glyphs = glyphs
        self.live = live
        review = Review(flags)
        self.shown = ShownSession("", glyphs, live, review)
        self.listing = Listing(self, review, glyphs)
        self.view = "empty"
        self.filling = False
        self.says = RelaySays()
        self.relay: RelayInfo | None = None
        self.trouble = ""
        self.mismatch = ""
        self.others = False
        self.held: Held | None = None
        self._unseen = 0
        self._header = PaneHeader(glyphs)
        self._footer = PaneFooter(glyphs)
        self.empty = empty
        self.trace_tree = TraceTree(self.shown.tree, id="tree")
        self.later = LaterViews(self, texts)
        self._views = ViewSwitcher(
            empty,
            {
                "tree": lambda: self.trace_tree,
                "commands": lambda: self.listing.rows,
                **self.later.makers,
            },
            id="views",
        )
        self.side = Side(self, reading)
        self.search = Search(self, finder, (self.trace_tree, self.listing.rows), self._footer)

    def compose(self) -> ComposeResult:
        yield self._header
        yield Rule(classes="rule", line_style="ascii" if self.glyphs is glyph_sets.ASCII else "solid")
        yield self.listing.bar
        with Horizontal(id="body"):
            yield self._views
            yield self.side.page
        yield self._footer

    # --- the session

    def open(self, session: str) -> None:
        """Begin to show a session; one that is shown already begins anew, with its folds."""
        if self.held is not None:
            self._hold(None)
        if session == self.shown.id:
            self.shown.begin()
            self.search.begin(again=True)
            return
        before = self.shown.tree
        self.shown = ShownSession(session, self.glyphs, self.live, self.listing.review)
        self.shown.tree.set_raw(before.raw)
        self.shown.tree.set_filter(before.filter)
        self.shown.tree.order = before.order
        self.trace_tree.source = self.shown.tree
        self.trace_tree.cursor = None
        self.trace_tree.following = True
        self.listing.begin()
        self._unseen = 0
        self.search.begin(again=False)
        if self.view == "empty":
            self.turn_to("tree")

    def take(self, spans: Sequence[Span]) -> int:
        """Take spans of the session in, or hold them back while paused; how many were new or changed."""
        return self.shown.add(spans) if self.held is None else self.held.add(spans, self.shown.forest)

    def update(self) -> None:
        """Everything that depends on the session's spans and records; nothing while paused."""
        if self.held is not None:
            self.post_message(Refreshed())
            self.show_footer()
            return
        known = self.shown.news
        self._refresh_rows()
        fresh = 0 if self.filling else max(0, self.shown.news - known)
        if not self.trace_tree.following:
            self._unseen += fresh
        if self.later.transcript is not None:
            self.later.transcript.missed(fresh)
        self._rows_changed()
        self.show_header()
        self.show_footer()
        self.side.soon()
        self.later.show_usage()
        self.later.show_transcript()

    def tick(self) -> None:
        """What the clock alone changes."""
        if not self.shown.id:
            return
        if self.shown.tree.moves and self.held is None:
            self._refresh_rows()
            self._rows_changed()
            self.show_header()
        else:
            self.post_message(Refreshed())
        self.later.show()

    def _refresh_rows(self) -> None:
        """Bring the rows up to date; a turn in which the user reads stays open."""
        self.shown.tree.hold(None if self.trace_tree.following else self.trace_tree.cursor)
        if self.held is None:
            self.shown.refresh(time.time_ns())
        else:
            self.shown.redraw()
        self.search.refreshed()
        self.post_message(Refreshed())

    def _redraw_tree(self) -> None:
        """The tree alone: what is known of the session is the same."""
        self.shown.tree.hold(None if self.trace_tree.following else self.trace_tree.cursor)
        self.shown.tree.update(self.shown.turns, self.shown.moment)

    def _rows_changed(self) -> None:
        self.trace_tree.rows_changed()
        self.listing.rows_changed()

    def session_of(self, key: RowKey) -> str | None:
        """The session that a row of another one is in."""
        return self.listing.session_of(key) or self.later.delivery.session_of(key[0])

    # --- what is shown

    @property
    def rows(self) -> RowList | DeliveryView | UsageView | TranscriptView:
        """The list of the view that is shown."""
        view = self._views.made(self.view)
        return cast("RowList | DeliveryView | UsageView | TranscriptView", view or self.trace_tree)

    def show_header(self) -> None:
        trouble = self.trouble or self.mismatch
        if not self.shown.id:
            self._header.data = HeaderData(trouble=trouble)
            return
        if self.held is not None:
            self._header.data = msgspec.structs.replace(self._header.data, trouble=trouble)
            return
        self._header.data = heading(self.shown, self.says, trouble)

    def show_footer(self) -> None:
        transcript = self.later.transcript if self.view == "transcript" else None
        unseen = self._unseen if transcript is None else transcript.unseen
        self._footer.data = footer(
            self.view,
            self.shown,
            self._header.data.delivery.glyph,
            unseen=unseen if self.held is None else len(self.held),
            following=self.rows.following or self.view == "empty",
            others=self.others,
            paused=self.held is not None,
            search=self.search.words(),
        )

    # --- what the user does

    def turn_to(self, view: str) -> None:
        """Show another view of the session."""
        if not self.shown.id:
            return
        self.view = view
        widget = self._views.turn_to(view)
        if widget.is_mounted:
            self.screen.set_focus(widget)  # at once: what is focused next, as the search's line, keeps it
        else:
            widget.focus()
        self.post_message(ViewChanged(view))
        self.listing.rows_changed()
        self.later.show()
        self.side.show()
        self.search.show()
        self.show_footer()

    def follow(self) -> None:
        """Look at the newest row from now on."""
        self._resume()
        self._unseen = 0
        self.trace_tree.follow()
        self.listing.follow()
        if self.later.transcript is not None:
            self.later.transcript.follow()
        self._refresh_rows()
        self._rows_changed()
        self.show_footer()

    def toggle_pause(self) -> None:
        """Freeze the view with its clocks, or show what came since."""
        if self.held is None and self.shown.id:
            self._hold(Held())
            self.show_footer()
        elif self.held is not None:
            self._resume()
            self.update()

    def _resume(self) -> None:
        if self.held is not None:
            spans = self.held.spans
            self._hold(None)
            self.shown.add(spans)

    def _hold(self, held: Held | None) -> None:
        """Freeze the view, or let it go on."""
        self.held = held
        at_ns = 0 if held is None else time.time_ns()
        for frozen in (self._header, self.trace_tree, self.listing.rows):
            frozen.freeze(at_ns)

    def go_to(self, key: RowKey) -> None:
        """Put the tree's cursor on a row, and unfold what hides it."""
        self.shown.reveal(key)
        self.turn_to("tree")
        self.trace_tree.rows_changed()
        self.trace_tree.go_to(key)

    def toggle_raw(self) -> bool:
        """All spans as they came, or without wrappers; which it is now."""
        self.shown.tree.set_raw(not self.shown.tree.raw)
        self._refresh_rows()
        self.trace_tree.rows_changed()
        return self.shown.tree.raw

    def toggle_full(self) -> None:
        """Long values in the details whole, or shortened."""
        self.side.toggle_full()
        if self.later.transcript is not None:
            self.later.transcript.show_full(self.side.full)

    def leave(self) -> None:
        """From the details to the rows, from a search to none, from another view to the tree."""
        if self.side.focused:
            self.rows.focus()
        elif self.search.clear():
            return
        elif self.view not in ("tree", "empty"):
            self.turn_to("tree")
        elif self.view == "tree":
            self.lift_filter()

    def lift_filter(self) -> bool:
        """Show all rows of the view again; False when no filter hid any."""
        if self.view == "commands":
            return self.listing.lift_filter()
        if not self.shown.tree.lift():
            return False
        self._tree_changed(None)
        return True

    def on_resize(self) -> None:
        """Where the details no longer have a place they cannot keep the focus."""
        self.call_after_refresh(self._refocus)

    def _refocus(self) -> None:
        focused = self.screen.focused
        if self.view != "empty" and (focused is None or (focused is self.side.page and not self.side.wide)):
            self.rows.focus()

    def action_hide_side(self) -> None:
        self.side.toggle_hidden()

    def action_split(self, by: int) -> None:
        self.side.move(by)

    def on_split_dragged(self, message: SplitDragged) -> None:
        self.side.drag(message.x, self.size.width)

    async def action_search(self) -> None:
        if self.search.typing:
            raise SkipAction  # it is typed
        await self.search.open()

    def action_hit(self, by: int) -> None:
        self.search.step(by)

    def on_search_bar_typed(self, message: SearchBar.Typed) -> None:
        self.search.typed(message.text)

    def on_search_bar_stepped(self, message: SearchBar.Stepped) -> None:
        self.search.step(message.by)

    def on_search_bar_closed(self, message: SearchBar.Closed) -> None:
        self.search.closed(kept=message.kept)

    def tell(self, text: str) -> None:
        self.notify(text, timeout=3, markup=False)

    def on_cursor_moved(self, _: CursorMoved) -> None:
        self.side.soon()
        self.show_footer()

    def on_fold_toggled(self, message: FoldToggled) -> None:
        self.shown.tree.set_fold(message.key, message.folded)
        self._refresh_rows()
        self.trace_tree.rows_changed()

    def on_tree_key(self, message: TreeKey) -> None:
        told = navigate(self.shown.tree, self.trace_tree.cursor, message.what, message.by)
        self._tree_changed(told.goal)
        if told.says:
            self.app.notify(told.says, timeout=2)
        self.show_footer()

    def _tree_changed(self, goal: RowKey | None) -> None:
        """Folds or filter changed: keep the cursor on its row, or on its turn's head; or go to `goal`."""
        rows, tree = self.trace_tree, self.shown.tree
        if goal is None and not rows.following:
            goal = tree.head_of(rows.cursor)
            self._redraw_tree()
            goal = rows.cursor if tree.find(rows.cursor) is not None else goal
        else:
            rows.following = rows.following and goal is None
            self._redraw_tree()
        rows.rows_changed()
        if goal is not None:
            rows.go_to(goal)
        self.show_footer()

    def on_row_picked(self, message: RowPicked) -> None:
        if message.place or self.view not in ("tree", "commands") or message.key[2] == "session":
            return  # it may be in another session: the app goes there
        message.stop()
        if self.side.wide:
            self.side.page.focus()
            return
        # Who reads one row does not want the next one; who then closes it without having moved does.
        read = message.key if self.view == "tree" and self.trace_tree.following else None
        for rows in (self.trace_tree, self.listing.rows):
            rows.following = rows.following and self.rows is not rows
        self.app.push_screen(DetailsScreen(self.glyphs), lambda _: self._after_details(read))

    def _after_details(self, read: RowKey | None) -> None:
        cursor = self.shown.tree.find(self.trace_tree.cursor)
        if read is not None and cursor is not None and self.shown.tree.find(read) == cursor:
            self._unseen = 0
            self.trace_tree.follow()
            self.show_footer()
        self.call_after_refresh(self.side.show)
