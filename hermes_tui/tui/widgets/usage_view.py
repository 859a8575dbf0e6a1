"""The usage view: a page of tables and charts in which turns and slow spans can be picked."""

from __future__ import annotations

import time
from datetime import datetime
from typing import ClassVar

from msgspec.structs import replace
from textual.timer import Timer

from hermes_tui.model.sums import Sums
from hermes_tui.model.windows import Windows
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.lines import Line
from hermes_tui.tui.messages import UsageMoved
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.usage import Compare, Others, UsageData, UsageState
from hermes_tui.tui.usage_lines import usage_lines
from hermes_tui.tui.widgets.page import Page

_PAUSE_S = 0.25  # between two times that the page is made anew …
_SHARE = 10  # … and this many times as long as the last took
_SLICE_S = 0.01  # left to others while a long session is counted


class UsageView(Page[UsageData]):
    """Counts and draws what the session that is shown used. Does nothing while nobody looks."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"row--{name}"
        for name in ("llm", "tool", "approval", "subagent", "skill", "other", "missing")  # of slow spans
    }

    def __init__(self, glyphs: Glyphs, compare: Compare, *, id: str | None = None) -> None:
        super().__init__(glyphs, id=id)
        self._state = UsageState(glyphs)
        self._compare = compare
        self._others = Others()
        self._session: ShownSession | None = None
        self._now_ns = 0
        self._timer: Timer | None = None
        self._moved = False
        self._next_s = 0.0

    def lines(self, data: UsageData, width: int) -> list[Line]:
        return usage_lines(data, width, self._glyphs)

    def follow(self, session: ShownSession | None, now_ns: int) -> None:
        """Show this session as it is now: at once when it is another one, else soon. None: nobody looks."""
        fresh = session is not None and (self._session is None or self._session.forest is not session.forest)
        self._session, self._now_ns = session, now_ns
        if session is None:
            self._stop()
        elif fresh:
            self._others = replace(self._others, told={}, hermes=None)
            self._stop()
            self._next_s = 0.0
            self._work()
        else:
            self._soon()

    def take(self, message: UsageMoved) -> None:
        """What the whole journal says."""
        self._others = replace(self._others, days=message.days, told=message.told)
        self._soon()

    def tell_windows(self, windows: Windows) -> None:
        """How many tokens the models' contexts hold."""
        self._others = replace(self._others, windows=windows)
        self._soon()

    def tell_hermes(self, sums: Sums | None, calls: int) -> None:
        """What Hermes' own records say of the session: its sums, and of how many model calls they are."""
        hermes = None if sums is None else (sums, calls)
        if hermes != self._others.hermes:
            self._others = replace(self._others, hermes=hermes)
            self._soon()

    def _soon(self) -> None:
        """Make the page anew, but not more often than it can be read."""
        if self._session is None:
            return
        self._moved = True
        if self._timer is None:
            self._work()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def _work(self) -> None:
        self._timer = None
        session = self._session
        if session is None or not self.is_attached:
            return
        begin = time.monotonic()
        whole = self._state.update(session)
        if whole or begin >= self._next_s:  # of what is half counted a look now and then is enough
            today = datetime.fromtimestamp(self._now_ns / 1e9).date()  # noqa: DTZ006 - local time is meant
            self.show(self._state.data(session, self._others, self._compare, self._now_ns, today))
            self._next_s = begin + max(_PAUSE_S, _SHARE * (time.monotonic() - begin))
        self._moved = not whole
        self._timer = self.set_timer(self._next_s - begin if whole else _SLICE_S, self._rested)

    def _rested(self) -> None:
        self._timer = None
        if self._moved:
            self._work()
