"""Whether the wall clock can be trusted: what cannot be undone must not hang on one that leapt."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

LEAP_S = 3600.0
"""The wall clock leaps when it and the steady one differ by more than this between two looks."""

STEADY_S = 24 * 3600.0
"""After a leap it is trusted again when it was steady for so long."""

_LOOKS_S = 600.0  # a leap is noted so much later at most
_NANO = 1_000_000_000
_LEAPS = 20  # remembered


def steady_s() -> float:
    """Seconds that nobody sets, and that pass while the machine sleeps, as `time.monotonic`'s do not."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """The wall clock, watched: call `look` at least every few minutes.

    `known` is what `document` gave before the last end. A start more than `absence_s` seconds after that,
    or before it, counts as a leap: either may be wrong.
    """

    def __init__(
        self,
        known: Mapping[str, Any],
        absence_s: float,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        steady: Callable[[], float] = steady_s,
    ) -> None:
        self._wall_ns, self._steady = wall_ns, steady
        self._at = self._steady()
        self.now_ns = self._wall_ns()
        self._parts = [
            (self._at, self.now_ns)
        ]  # since when each stretch without a leap lasts, by both clocks
        self._calm_s: float | None = _number(known.get("calm_s"))  # since the last leap; None: long ago
        seen_ns = _number(known.get("seen_ns"))
        if seen_ns is not None and not -LEAP_S <= (self.now_ns - seen_ns) / _NANO <= max(absence_s, LEAP_S):
            self._calm_s = 0.0

    @property
    def trusted(self) -> bool:
        return self._calm_s is None

    def look(self) -> bool:
        """Note what time it is; True when that or a whole day without a leap changed `trusted`."""
        at, now_ns = self._steady(), self._wall_ns()
        passed, trusted = at - self._at, self.trusted
        if abs((now_ns - self.now_ns) / _NANO - passed) > LEAP_S:
            self._calm_s = 0.0
            self._parts = [*self._parts[-_LEAPS:], (at, now_ns)]
        elif self._calm_s is not None:
            self._calm_s += passed
            if self._calm_s >= STEADY_S:
                self._calm_s = None
        self._at, self.now_ns = at, now_ns
        return self.trusted is not trusted

    def lately(self, seconds: float) -> list[tuple[int, int]]:
        """When the last so many seconds were, by the wall clock as it went, and some minutes around them:
        from, to in nanoseconds since the epoch.
        """
        since, times = self._at - seconds, []
        ends = [begin for begin, _ in self._parts[1:]] + [self._at]
        for number, ((begin, wall_ns), end) in enumerate(zip(self._parts, ends, strict=True)):
            # Before the first look there was no leap that anybody knows of.
            first = since if number == 0 else max(since, begin)
            if first <= end:
                from_s, to_s = first - begin - _LOOKS_S, end - begin + _LOOKS_S
                times.append((wall_ns + int(from_s * _NANO), wall_ns + int(to_s * _NANO)))
        return times

    def document(self) -> dict[str, Any]:
        """What to keep for the next start."""
        return {"seen_ns": self.now_ns, "calm_s": self._calm_s}


def _number(value: object) -> Any:
    return value if isinstance(value, (int, float)) else None
