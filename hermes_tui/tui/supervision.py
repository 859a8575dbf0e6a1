"""Keep a relay alive while a pane is open: a thread that looks once a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from textual.message import Message

from hermes_tui.tui.messages import RelayInfo, RelayMoved, Supervisor

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LONGEST_S = 30.0


class Supervision:
    """Starts the relay again when it died, waiting longer after each failure, and says so."""

    def __init__(self, supervisor: Supervisor, post: Callable[[Message], object]) -> None:
        self._supervisor = supervisor
        self._post = post
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay-supervision", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends soon; a start of the relay that is under way is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        known: RelayInfo | None = None
        failures = 0
        while not self._stop.is_set():
            relay = self._supervisor.find()
            if relay is None:
                self._post(RelayMoved(None, "the relay does not run; starting it"))
                relay, failures = self._start(failures)
            if relay is not None and relay != known:
                self._post(RelayMoved(relay))
            known = relay
            wait = _LOOK_S if relay is not None else min(_LONGEST_S, 2.0**failures)
            self._stop.wait(wait)

    def _start(self, failures: int) -> tuple[RelayInfo | None, int]:
        try:
            return self._supervisor.ensure(), 0
        except Exception as error:  # noqa: BLE001 - shown to the user, and tried again
            log.warning("cannot start the relay: %s", error)
            self._post(RelayMoved(None, f"the relay cannot be started: {error}"))
            return None, failures + 1
