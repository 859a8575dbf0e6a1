"""How often to look at what may have changed: at once while things happen, less often while nothing does."""

from __future__ import annotations

import time
from collections.abc import Callable

BUSY_S = 0.025
CALM_S = 0.1
LASTS_S = 10.0  # after a change more are to be expected for so long


class Pace:
    """Each wake-up costs some 100 µs of a core, forty a second more than the pane may use while idle."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved = clock()

    def wait_s(self, changed: object) -> float:
        """Seconds until the next look; `changed`: this one found something."""
        now = self._clock()
        if changed:
            self._moved = now
        return BUSY_S if now - self._moved < LASTS_S else CALM_S
