"""A thread that watches the journal and tells the pane what changed in the session it shows."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from textual.message import Message

from hermes_tui.journal.files import StateError
from hermes_tui.journal.reader import Reader
from hermes_tui.model.span import Span
from hermes_tui.tui.messages import DeliveryMoved, JournalMoved, SpansArrived
from hermes_tui.tui.pace import Pace
from hermes_tui.tui.trust import RelaySays
from hermes_tui.tui.usage_feed import UsageLook

log = logging.getLogger(__name__)

_ABSENT_S = 0.2
_FIRST_TRACES = 20  # shown at once when a session opens; the rest follows behind
_MORE_TRACES = 100
_PATIENCE_S = 5.0  # that a part of a session is waited for; longer than any painting takes
_DELIVERY_S = 0.5  # between two looks at how delivery stands …
_DELIVERY_SHARE = 20  # … and this many times as long as the last took
_REST_SHARE = 2  # times as long as it took to take news in, no other is sent …
_REST_S = 1.0  # … but no longer than this


class Feed:
    """Polls a journal; `post` takes its messages and may be called from the feed's thread.

    `paced`: the next part of a long session, and the next news of it, are only sent after `go_on`, so that
    whoever takes them can paint and hear keys in between.
    """

    def __init__(self, path: Path, post: Callable[[Message], object], *, paced: bool = False) -> None:
        self._path = path
        self._post = post
        self._wanted: str | None = None
        self._turned = threading.Event()
        self._wishes: tuple[str, ...] | None = None
        self._asked = threading.Event()
        self._delivery_moved = False
        self._delivery_at = 0.0
        self.usage = UsageLook(post)
        self._stop = threading.Event()
        self._paced = paced
        self._taken = threading.Event()
        self._sent_at = self._rested_at = 0.0
        self._wake = threading.Event()  # what was asked for waits for no pace
        self._session: str | None = None
        self._traces: set[bytes] = set()
        self._revision = 0
        self._thread = threading.Thread(target=self._run, name="journal-feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._taken.set()
        self._thread.join()

    def show(self, session: str) -> None:
        """Feed another session from now on."""
        self._wanted = session
        self._turned.set()
        self._wake.set()
        self._taken.set()

    def go_on(self, took_s: float = 0.0) -> None:
        """What was sent is on the screen; to take it in took so many seconds."""
        self._rested_at = time.monotonic() + min(_REST_S, _REST_SHARE * took_s)
        self._taken.set()

    def look_at_delivery(self, wishes: tuple[str, ...] | None) -> None:
        """Tell at once how delivery stands and what became of these wishes, and again when the journal
        changes; None: nobody looks any more.
        """
        self._wishes = wishes
        if wishes is not None:
            self._asked.set()
            self._wake.set()

    def look_at_usage(self, wanted: bool) -> None:
        """Tell what the view of the usage needs, and again when it changes; not `wanted`: nobody looks."""
        self.usage.look(wanted)
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Reader(self._path) as reader:
                    self._watch(reader)
            except StateError:
                self._stop.wait(_ABSENT_S)  # nothing received yet
            except sqlite3.Error:
                log.exception("reading the journal failed; it is opened again")
                self._stop.wait(_ABSENT_S)

    def _watch(self, reader: Reader) -> None:
        """Follow one journal file until it is replaced or rebuilt."""
        self._session = None
        self._asked.set()
        self.usage.reset()
        looks, pace, behind = 0, Pace(), False
        while not self._stop.is_set():
            self._wake.clear()
            looks += 1
            changed = reader.changed()
            if (changed or looks % 10 == 0) and reader.stale():
                return
            if self._turned.is_set() or self._session is None:
                self._turned.clear()
                self._open(reader)
                behind = False
            elif changed or behind:
                behind = self._follow(reader)
            if changed:
                self._tell(reader)
            self._tell_delivery(reader, changed)
            self.usage.step(reader, self._session, changed)
            if not self._stop.is_set():  # `stop` may have come before `clear`
                self._wake.wait(pace.wait_s(changed or behind or self.usage.busy))

    def _tell(self, reader: Reader) -> None:
        says = RelaySays(*(reader.document(name) for name in ("exporter", "proof", "keeping")))
        self._post(JournalMoved(reader.newest_session(), reader.recent_sessions(), says))

    def _tell_delivery(self, reader: Reader, changed: bool) -> None:
        """While somebody looks: when asked, else some time after the journal changed."""
        self._delivery_moved |= changed
        asked = self._asked.is_set()
        if asked:
            self._asked.clear()  # first, so that what is asked for from here on is asked again
        wishes, begin = self._wishes, time.monotonic()
        if wishes is None or not (asked or (self._delivery_moved and begin >= self._delivery_at)):
            return
        from hermes_tui.journal import delivery

        self._delivery_moved = False
        self._post(DeliveryMoved(self._session, delivery.look(reader, self._session, wishes)))
        took = time.monotonic() - begin
        self._delivery_at = begin + max(_DELIVERY_S, _DELIVERY_SHARE * took)

    def _open(self, reader: Reader) -> None:
        """Send a whole session: the newest traces first, so that the pane has something to show."""
        session = self._wanted or reader.newest_session()
        if session is None:
            return
        self._session = self._wanted = session
        self._asked.set()
        self._revision = reader.revision()
        traces = reader.traces_of(session)
        self._traces = set(traces)
        fresh = True
        while fresh or traces:
            count = _FIRST_TRACES if fresh else _MORE_TRACES
            some, traces = traces[:count], traces[count:]
            spans = [span for page in reader.spans_of(some) for span in page]
            if not self._send(SpansArrived(session, spans, fresh=fresh, complete=not traces)):
                return
            if self._paced and traces:
                self._taken.wait(_PATIENCE_S)
            fresh = False

    def _follow(self, reader: Reader) -> bool:
        """Send what changed since the last look, and whole traces that turn out to be the session's; whether
        there is more, that waits until those of before are taken.
        """
        assert self._session is not None
        while self._awaited():
            if not (changes := reader.tail(self._revision)):
                return False
            self._revision = changes[-1].revision
            own = [span for span in changes if span.trace_id in self._traces]
            own += self._joined(reader, {span.trace_id for span in changes} - self._traces)
            if own and not self._send(SpansArrived(self._session, own)):
                return False
        return True

    def _awaited(self) -> bool:
        """Whether what was sent is taken, and some time has passed since for everything else."""
        now = time.monotonic()
        if not self._paced:
            return True
        return now >= self._rested_at if self._taken.is_set() else now >= self._sent_at + _PATIENCE_S

    def _send(self, message: SpansArrived) -> bool:
        """Whether it was sent: not once nobody wants it any more."""
        self._taken.clear()
        if self._stop.is_set() or self._turned.is_set():
            return False
        self._sent_at = time.monotonic()
        self._post(message)
        return True

    def _joined(self, reader: Reader, strange: set[bytes]) -> list[Span]:
        if not strange:
            return []
        assert self._session is not None
        joined = strange.intersection(reader.traces_of(self._session))
        self._traces |= joined
        return [span for page in reader.spans_of(list(joined)) for span in page]
