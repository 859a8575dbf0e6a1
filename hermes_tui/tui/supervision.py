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
_SERVICE_LOOKS = 10  # that a relay which this program's panes did not start has to come back by itself


def mismatch(relay: RelayInfo | None, wanted: str | None) -> str:
    """What is wrong when the pane's settings name another destination than the running relay's."""
    if relay is None or wanted is None or wanted == relay.destination:
        return ""
    return f"relay sends to {relay.destination or 'nobody'}: `stop` it to use {wanted}"


class Supervision:
    """Starts the relay again when it died, waiting longer after each failure, and says so."""

    def __init__(self, supervisor: Supervisor, post: Callable[[Message], object]) -> None:
        self._supervisor = supervisor
        self._post = post
        self._stop = threading.Event()
        self._patience = 0
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
            relay, failures = self._look(known, failures)
            if relay is not None and relay != known:
                self._post(RelayMoved(relay))
            known = relay
            # The exponent is bounded too: a float overflows after a thousand failures.
            wait = _LOOK_S if relay is not None else min(_LONGEST_S, 2.0 ** min(failures, 10))
            self._stop.wait(wait)

    def _look(self, known: RelayInfo | None, failures: int) -> tuple[RelayInfo | None, int]:
        """The relay that runs, started when there is none; None and one more failure when that fails."""
        what = "cannot look for the relay"
        try:
            relay = self._supervisor.find()
            if relay is not None:
                self._patience = 0 if relay.started_by == "pane" else _SERVICE_LOOKS
            elif self._patience > 0:
                # Started by us it would have our settings, and stand in its service's way.
                self._patience -= 1
                self._post(RelayMoved(None, "the relay does not run; waiting for its service to restart it"))
                return None, 0
            else:
                what = "the relay cannot be started"
                self._post(RelayMoved(None, "the relay does not run; starting it"))
                relay = self._supervisor.ensure()
                if relay == known:
                    self._post(RelayMoved(relay))  # the same one after all
        except Exception as error:  # noqa: BLE001 - shown to the user, and tried again
            log.warning("%s: %s", what, error)
            self._post(RelayMoved(None, f"{what}: {error}"))
            return None, failures + 1
        return relay, 0
