"""What slow, endless and numerous clients may cost: the room that connections and bodies share.

aiohttp bounds a header's size, what it buffers of a body, and (since 3.14) pipelined requests. What it
leaves open is bounded here and in `line`: how many connections, how long a head and a body may take, how
large a head may be, how much the bodies of all requests hold together, answers that nobody reads, requests
that come while another is being answered. When there is no room for a newcomer, who has waited longest
for its peer makes room: slow ones never keep others out.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from hermes_tui.otlp.encodings import MAX_BYTES
from hermes_tui.otlp.line import NEVER, Farewell, Line, Times

_FAREWELLS = 64  # connections that are told why before they are closed
_FILES = 256  # of this process that are no connections of senders
_BUDGET = 4  # the bodies under way hold as much as this many largest requests, beside
_FREE_BYTES = 256 * 1024  # of each body, which always fit


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may cost; times in seconds.

    What waits for its peer for more than `patience_s` is given up when its room is needed.
    """

    request_bytes: int = MAX_BYTES
    connections: int = 256
    head_bytes: int = 64 * 1024
    times: Times = field(default_factory=Times)
    patience_s: float = 5.0
    stop_s: float = 3.0


def allow_files(more: int) -> None:
    """Let this process open as many files beside those that it needs anyway, as far as the system lets it.

    Some systems start with 256.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = more + _FAREWELLS + _FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # then fewer connections find room
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Guard:
    """Makes the protocol for every connection: `inner` behind a `Line` that watches it."""

    def __init__(self, inner: Callable[[], asyncio.BaseProtocol], limits: Limits) -> None:
        self._inner = inner
        self._limits = limits
        self._lines: set[Line] = set()
        self._farewells: set[Farewell] = set()
        self._held = 0
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.stopping = False

    def __call__(self) -> asyncio.BaseProtocol:
        limits = self._limits
        return Line(self, cast(asyncio.Protocol, self._inner()), limits.times, limits.head_bytes)

    @property
    def connections(self) -> int:
        return len(self._lines)

    @property
    def held(self) -> int:
        """Bytes of bodies that are held out of the budget."""
        return self._held

    async def stop(self) -> None:
        """Close what waits, let what is being received and answered end, for `stop_s` at most."""
        self.stopping = True
        for line in list(self._lines):
            if line.stage.waits:
                line.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.stop_s):
                while self._lines:
                    self._gone.clear()
                    await self._gone.wait()
        left: list[Line | Farewell] = [*self._lines, *self._farewells]
        for each in left:
            each.abort()
        await asyncio.sleep(0)  # the event loop closes these sockets in its next round
        if self._timer is not None:
            self._timer.cancel()

    # ---- for lines

    def admit(self, line: Line) -> bool:
        """Whether a new connection may stay; another may have to go for it."""
        if self.stopping:
            return False
        if len(self._lines) >= self._limits.connections:
            waiting = (each for each in self._lines if each.stage.waits)
            receiving = (each for each in self._lines if each.stage.receives)
            if not self._make_room(waiting, 0.0) and not self._make_room(receiving, self._limits.patience_s):
                return False
        self._lines.add(line)
        return True

    def forget(self, line: Line) -> None:
        """Its place and its room are free."""
        self.release(line)
        if line in self._lines:
            self._lines.remove(line)
            self._gone.set()

    def farewell(self, transport: asyncio.Transport, answer: bytes) -> bool:
        """Whether a connection is told why it is closed: not when too many are being told."""
        if len(self._farewells) >= _FAREWELLS:
            return False
        self._farewells.add(Farewell(transport, answer, self._farewells.discard))
        return True

    def hold(self, line: Line, size: int) -> bool:
        """Whether `size` bytes of a line's body fit; they are held until it lets go of them."""
        more = max(0, size - _FREE_BYTES) - line.held
        if more <= 0:
            return True
        budget = _BUDGET * self._limits.request_bytes
        while self._held + more > budget:
            others = (each for each in self._lines if each is not line and each.held and each.stage.receives)
            if not self._make_room(others, self._limits.patience_s):
                return False
        self._held += more
        line.held += more
        return True

    def release(self, line: Line) -> None:
        self._held -= line.held
        line.held = 0

    def _make_room(self, lines: Iterable[Line], patience_s: float) -> bool:
        """Give up the one that has waited longest for its peer, if for longer than `patience_s`."""
        oldest = min(lines, key=lambda line: line.since, default=None)
        if oldest is None or self._loop.time() - oldest.since < patience_s:
            return False
        oldest.give_up()
        return True

    def watch(self, deadline: float) -> None:
        """Look at all lines at this time of the event loop, if not before."""
        if self._timer is None or deadline < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for line in list(self._lines):
            if line.deadline <= now:
                line.give_up()
        upcoming = min((line.deadline for line in self._lines), default=NEVER)
        if upcoming != NEVER:
            self.watch(upcoming)
