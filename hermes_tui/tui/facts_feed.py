"""What the sessions' spans say of them, read in a thread while somebody looks at the list of sessions."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from textual.message import Message

from hermes_tui.journal.files import StateError
from hermes_tui.journal.reader import Reader, SessionRow
from hermes_tui.journal.records import views
from hermes_tui.model.sessions import collect
from hermes_tui.tui.directory import Facts, facts_of
from hermes_tui.tui.messages import FactsArrived

log = logging.getLogger(__name__)

TRACES = 100  # newest of a session that are read
_TOLD_S = 0.1  # between two messages
_KEPT = 1_000


class FactsFeed:
    """`read` the facts of sessions, newest first; only those that moved since they were last read."""

    def __init__(self, path: Path, post: Callable[[Message], object]) -> None:
        self._path = path
        self._post = post
        self._known: dict[str, tuple[int, Facts]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def known(self) -> dict[str, Facts]:
        return {name: facts for name, (_, facts) in list(self._known.items())}

    def read(self, rows: Sequence[SessionRow]) -> None:
        """Post `FactsArrived` as facts come; nothing while it is still at the last ones."""
        wanted = [row for row in rows if self._known.get(row.session, (0,))[0] != row.received_ns]
        if not wanted or self._stop.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(
            target=self._run, args=(wanted, {row.session for row in rows}), name="session-facts", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, wanted: Sequence[SessionRow], rows: Collection[str]) -> None:
        try:
            with Reader(self._path) as reader:
                self._read(reader, wanted, rows)
        except (StateError, sqlite3.Error) as error:
            log.warning("the sessions' facts cannot be read: %s", error)
        self._post(FactsArrived())

    def _read(self, reader: Reader, wanted: Sequence[SessionRow], rows: Collection[str]) -> None:
        told = time.monotonic()
        for row in wanted:
            if self._stop.is_set():
                return
            traces = reader.traces_of(row.session)
            some = collect(view for _, view in views(reader, traces[:TRACES]))
            if (session := some.get(row.session)) is not None:
                more = len(traces) > TRACES
                self._known[row.session] = row.received_ns, facts_of(session, time.time_ns(), more=more)
            self._known |= {  # subagents, which have no rows of their own
                name: (row.received_ns, facts_of(part, time.time_ns()))
                for name, part in some.items()
                if name not in rows and not part.turns
            }
            if time.monotonic() - told > _TOLD_S:
                self._post(FactsArrived())
                told = time.monotonic()
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
