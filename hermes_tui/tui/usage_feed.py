"""What the usage view needs of the whole journal, read in the feed's thread while somebody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.message import Message

from hermes_tui.journal.reader import Reader
from hermes_tui.tui.messages import UsageMoved

if TYPE_CHECKING:
    from hermes_tui.journal.days import Days

_PAUSE_S = 0.5  # between two messages …
_SHARE = 20  # … and this many times as long as the last look took
_CLOCK_S = 60.0  # a day passes although nothing arrives
_TRACES = 300  # newest of a session whose record at MLflow is read


class UsageLook:
    """Reads on with every `step`; `look` from any thread, `reset` and `step` from the feed's."""

    def __init__(self, post: Callable[[Message], object]) -> None:
        self._post = post
        self._wanted = False
        self._asked = threading.Event()
        self.reset()

    def look(self, wanted: bool) -> None:
        """Tell at once, and again when the journal changes; not `wanted`: nobody looks any more."""
        self._wanted = wanted
        if wanted:
            self._asked.set()

    @property
    def busy(self) -> bool:
        """Whether the next step has something to do."""
        return self._wanted and self._reading

    def reset(self) -> None:
        """It is another journal now."""
        self._days: Days | None = None
        self._session: str | None = None
        self._moved = True
        self._reading = False
        self._next_s = self._clock_s = 0.0

    def step(self, reader: Reader, session: str | None, changed: bool) -> None:
        """Do some milliseconds of what is to be done, if anything is."""
        begin = time.monotonic()
        self._moved |= changed or session != self._session or begin >= self._clock_s
        if not self._wanted:
            return
        asked = self._asked.is_set() or session != self._session
        if asked or (self._moved and begin >= self._next_s and not self._reading):
            self._asked.clear()
            self._session, self._moved, self._reading = session, False, True
            self._clock_s = begin + _CLOCK_S
            if self._days is None:
                from hermes_tui.journal.days import Days

                self._days = Days()
            self._days.look(reader, time.time_ns())
        if not self._reading or self._days is None:
            return
        self._reading = not self._days.step(reader)
        if not self._reading or asked or begin >= self._next_s:
            self._tell(reader, self._days)
            self._next_s = begin + max(_PAUSE_S, _SHARE * (time.monotonic() - begin))

    def _tell(self, reader: Reader, days: Days) -> None:
        from hermes_tui.journal import delivery

        session = self._session
        traces = reader.traces_of(session)[:_TRACES] if session is not None else []
        told = delivery.told(reader, traces) if traces else {}
        self._post(UsageMoved(session, days.days(), told))
