"""The transcript: a session to read, which grows while Hermes works.

Only what is near the view is laid out, and its texts are read by a thread. Elsewhere guesses say how long
entries are; so what is on the screen stays where it is when they turn out to be wrong.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from hermes_tui import neutral
from hermes_tui.journal.files import StateError
from hermes_tui.model.transcript import Entry
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.laid import Laid, LaidLines
from hermes_tui.tui.messages import CursorMoved, RowPicked
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.script import Place, Script, Spot
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.transcript_feed import TranscriptFeed, TranscriptRead, Wanted
from hermes_tui.tui.transcript_keys import row_key
from hermes_tui.tui.transcript_lines import Look, entry_lines, guess
from hermes_tui.tui.widgets.moves import MOVES

_PAUSE_S = 0.1  # between two times that what is new is looked at …
_SHARE = 10  # … and this many times as long as the last took
_ROUNDS = 4  # guesses that are put right before a screen is drawn


class TranscriptView(ScrollView, can_focus=True):
    """Does nothing while nobody looks. `following`: the end stays in sight; while it does not, `unseen` is
    how much was `missed`.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *MOVES,
        Binding("X", "export", "Write the transcript to a Markdown file"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"row--{name}"
        for name in (
            "cursor", "turn", "turn-unnamed", "number", "command", "llm", "tool", "approval", "subagent",
            "skill", "other", "good", "bad", "warning", "live", "dim", "heading", "strong", "emphasis",
            "code", "added", "removed", "asking",
        )
    }  # fmt: skip

    def __init__(self, glyphs: Glyphs, feed: TranscriptFeed, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.unseen = 0
        self._following = True
        self.full = False
        self.laid_out = 0
        self._glyphs = glyphs
        self._feed = feed
        self._session: ShownSession | None = None
        self._script = Script("", guess)
        self._laid = LaidLines()
        self._asked: list[Wanted] = []
        self._place: Place | None = None
        self._top: Spot | None = None
        self._moving = False
        self._moved = False
        self._alive = False
        self._next_s = 0.0
        self._timer: Timer | None = None

    @property
    def cursor(self) -> RowKey | None:
        """The row of the entry under the cursor."""
        entry = self._script.entry(self._place) if self._place is not None else None
        return row_key(entry) if entry is not None else None

    @property
    def following(self) -> bool:
        return self._following

    @following.setter
    def following(self, following: bool) -> None:
        self._following = following
        if following:
            self.unseen = 0

    # --- what arrives

    def missed(self, count: int) -> None:
        """So much came, whether or not it is in sight."""
        if not self.following:
            self.unseen += count

    def show(self, session: ShownSession | None) -> None:
        """Show this session as it is now. None: nobody looks."""
        if session is None:
            self._session = None
            self._stop()
            self._feed.want(())
            self._asked = []
            return
        if session.id != self._script.session:
            self._begin(session.id)
        fresh = self._session is None
        self._session, self._moved = session, True
        if fresh:
            self._stop()
            self._next_s = 0.0
        if self._timer is None:
            self._work()
        if fresh:
            self._settle()

    def take(self, message: TranscriptRead) -> None:
        """Lines that were read."""
        for wanted, lines in message.found:
            if self._script.entry(wanted.place) == wanted.entry and wanted.look == self._look:
                self._laid.keep(wanted.place, Laid(wanted.entry, wanted.look, wanted.state, True, lines))
        done = {id(wanted) for wanted, _ in message.found}
        self._asked = [wanted for wanted in self._asked if id(wanted) not in done]
        self._settle()

    def follow(self) -> None:
        """Look at the end, now and as it moves."""
        self.following = True
        self._settle()

    def show_full(self, full: bool) -> None:
        """Long texts whole, or shortened."""
        if self.full != full:
            self.full = full
            self._settle()

    def _begin(self, session: str) -> None:
        self._script = Script(session, guess)
        self._laid.clear()
        self._place = self._top = None
        self.following = True

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def _work(self) -> None:
        """Take in what is new, but not more often than it can be read."""
        self._timer = None
        session, begin = self._session, time.monotonic()
        if session is None or not self._moved or not self.is_attached:
            return
        if begin >= self._next_s:
            self._moved = False
            if self._script.update(session.turns) or self._alive:
                self._settle()
            self._next_s = begin + max(_PAUSE_S, _SHARE * (time.monotonic() - begin))
        else:
            self._timer = self.set_timer(self._next_s - begin, self._work)

    # --- what is laid out

    @property
    def _look(self) -> Look:
        return Look(max(1, self.scrollable_content_region.width - 2), self.full, self._glyphs)

    def _settle(self) -> None:
        """Lay out what is near the view, with the line at its top, or the end, staying where it is."""
        height = self.scrollable_content_region.height
        if height <= 0 or self._session is None:
            return
        self._alive = False
        look, seen = self._look, list[Place]()
        for _ in range(_ROUNDS):
            top = self._top_line(height)
            seen = self._script.places(top - height, top + 2 * height)
            if not self._measure(seen, look):
                break
        self._go(self._top_line(height))
        self._want(seen, look)
        if self.following:
            self._choose(self._script.last(), by_user=False)
        self.refresh()

    def _top_line(self, height: int) -> int:
        end = max(0, len(self._script) - height)
        if self.following or self._top is None:
            return end
        first = self._script.line(self._top.place)
        if first is None:
            return min(round(self.scroll_y), end)
        return min(first + min(self._top.line, max(0, self._script.height(self._top.place) - 1)), end)

    def _measure(self, places: Sequence[Place], look: Look) -> bool:
        """Lay out these where they are not; whether any is not as long as it was thought to be."""
        changed = False
        for place in places:
            changed |= self._script.resize(place, len(self._lines_of(place, look).lines))
        return changed

    def _lines_of(self, place: Place, look: Look) -> Laid:
        entry = self._script.entry(place)
        assert entry is not None
        state = self._state(entry, place)
        known = self._laid.get(place)
        same = known is not None and known.look == look and known.state == state
        if known is not None and same and (known.entry is entry or known.entry == entry):
            self._laid.use(place)
            return known
        if known is not None and known.look == look and known.read:
            # What it was meanwhile is better than a gap; its new texts are asked for.
            laid = known._replace(entry=entry, state=state, read=False)
        else:
            number = self._script.number(place)
            lines = entry_lines(entry, None, look, number=number, state=state)
            laid = Laid(entry, look, state, entry.whole, lines)
            self.laid_out += 1
        self._laid.keep(place, laid)
        return laid

    def _state(self, entry: Entry, place: Place) -> str:
        """What a call does that goes on."""
        item, session = entry.item, self._session
        if item is None or session is None or not item.open or not self._script.newest(place):
            return ""
        self._alive = True
        if not session.moment.asks(item):
            return "running"
        return "asking" if session.moment.doing(item.session).certain else "asking?"

    def _want(self, places: Sequence[Place], look: Look) -> None:
        """Have read what is not, the middle of the view first."""
        known = {(wanted.place, wanted.look): wanted for wanted in self._asked}
        wanted: list[Wanted] = []
        for place in places:
            laid = self._laid.get(place)
            if laid is None or laid.read or laid.look != look:
                continue
            asked = known.get((place, look))
            if asked is None or asked.entry != laid.entry or asked.state != laid.state:
                asked = Wanted(place, laid.entry, look, self._script.number(place), laid.state)
            wanted.append(asked)
        if self.following:
            wanted.reverse()
        if [id(each) for each in wanted] != [id(each) for each in self._asked]:
            self._asked = wanted
            self._feed.want(list(wanted))

    def _go(self, line: int) -> None:
        """Put a line at the top."""
        width = self.scrollable_content_region.width
        self._moving = True
        try:
            self.virtual_size = Size(width, len(self._script))
            if line != round(self.scroll_y):
                self.scroll_to(y=line, animate=False, force=True)
        finally:
            self._moving = False
        self._top = self._script.spot(line)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self._moving or round(old_value) == round(new_value):
            return
        line = round(new_value)
        self.following = line >= len(self._script) - self.scrollable_content_region.height
        self._top = self._script.spot(line)
        self._settle()
        self.post_message(CursorMoved(self.cursor, by_user=True))  # the footer says whether it follows

    def on_resize(self, _: events.Resize) -> None:
        self._settle()

    # --- moving

    def _choose(self, place: Place | None, *, by_user: bool) -> None:
        if by_user:
            self.following = place is not None and place == self._script.last()
        if place != self._place:
            self._place = place
            self.refresh()
            self.post_message(CursorMoved(self.cursor, by_user=by_user))

    def _near(self, place: Place) -> bool:
        """Whether any of an entry is on the screen, or next to it."""
        first, top = self._script.line(place), round(self.scroll_y)
        if first is None:
            return False
        height = self.scrollable_content_region.height
        return first + self._script.height(place) >= top and first <= top + height

    def action_move(self, by: int) -> None:
        """To the next entry when it begins in sight, else a line on."""
        top, height = round(self.scroll_y), self.scrollable_content_region.height
        if self._place is None or not self._near(self._place):
            spot = self._script.spot(top if by > 0 else min(top + height, len(self._script)) - 1)
            self._choose(spot.place if spot is not None else None, by_user=True)
            return
        target = self._script.next(self._place, by)
        if target is not None and self._near(target):
            first = self._script.line(target) or 0
            last = first + min(self._script.height(target), height)
            self._choose(target, by_user=True)
            if first < top:
                self._scroll(max(first, top - height + 1))
            elif last > top + height:
                self._scroll(last - height)
            return
        self._scroll(top + by)

    def action_page(self, by: int) -> None:
        height = max(1, self.scrollable_content_region.height - 1)
        self._scroll(round(self.scroll_y) + by * height)
        self._choose_seen(by)

    def action_edge(self, side: int) -> None:
        if side > 0:
            self.follow()
            self.post_message(CursorMoved(self.cursor, by_user=True))  # the footer says that it follows
            return
        self._scroll(0)
        self._choose_seen(-1)

    def _choose_seen(self, side: int) -> None:
        top, height = round(self.scroll_y), self.scrollable_content_region.height
        spot = self._script.spot(top if side < 0 else min(top + height, len(self._script)) - 1)
        self._choose(spot.place if spot is not None else None, by_user=True)

    def _scroll(self, line: int) -> None:
        self.scroll_to(y=line, animate=False, force=True)

    def action_pick(self) -> None:
        key = self.cursor
        if key is not None and self._place is not None and self._near(self._place):
            self.post_message(RowPicked(key))

    def on_click(self, event: events.Click) -> None:
        spot = self._script.spot(self.scroll_offset.y + event.y)
        if spot is None:
            return
        if spot.place == self._place:
            self.action_pick()
        self._choose(spot.place, by_user=True)

    # --- to a file

    def action_export(self) -> None:
        if self._script.session:
            self.run_worker(self._export(self._script.session), name="export")

    async def _export(self, session: str) -> None:
        folder = Path.cwd()
        try:
            path = await asyncio.to_thread(self._feed.export, session, folder)
        except (OSError, StateError, sqlite3.Error) as error:
            text = neutral.line(f"It could not be written: {error}")
            self.app.notify(text, severity="error", timeout=10, markup=False)
            return
        self.app.notify(neutral.line(f"Written to {path}"), timeout=10, markup=False)

    # --- drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        spot = self._script.spot(self.scroll_offset.y + y)
        if spot is None:
            return Strip.blank(width, self.rich_style)
        lines = self._lines_of(spot.place, self._look).lines
        parts = lines[spot.line] if spot.line < len(lines) else ()
        heads = spot.line == next((at for at, line in enumerate(lines) if line), 0)
        current = spot.place == self._place and heads
        base = self._style("command", current)
        segments = [Segment(text, self._style(style, current)) for text, style in parts]
        return Strip([Segment(" ", base), *segments]).adjust_cell_length(width, base)

    def _style(self, name: str, current: bool) -> Style:
        """As in `RowList`: a component's colours over the line's background."""
        names = ("row--cursor", f"row--{name}") if current else (f"row--{name}",)
        return self.get_visual_style(*names).rich_style
