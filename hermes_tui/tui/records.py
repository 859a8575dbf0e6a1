"""A thread that watches Hermes' own records and tells the pane what is new in them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from textual.message import Message

from hermes_tui.hermes.state_db import Watch, Watched
from hermes_tui.tui.messages import RecordsArrived
from hermes_tui.tui.pace import Pace

log = logging.getLogger(__name__)

_AGAIN_S = 1.0


class Records:
    """Polls `watch`, which is closed in the end; `post` is called from the thread."""

    def __init__(self, watch: Watch, post: Callable[[Message], object]) -> None:
        self._watch = watch
        self._post = post
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hermes-records", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        watched: list[Watched] = []
        pace, found = Pace(), False
        try:
            while not self._stop.wait(pace.wait_s(found)):
                watched, found = self._look(watched)
        finally:
            self._watch.close()

    def _look(self, before: list[Watched]) -> tuple[list[Watched], bool]:
        """Tell what changed since the last look, `before` being what was watched then; whether any did."""
        try:
            rows = self._watch.poll()
        except Exception:
            # Somebody else's files: whatever is wrong with them must not end the pane's looking.
            log.exception("reading Hermes' records failed; it is tried again")
            self._stop.wait(_AGAIN_S)
            return before, False
        watched = self._watch.watched()
        changed = bool(rows) or watched != before
        if changed:
            self._post(RecordsArrived(rows, watched))
        return watched, changed
