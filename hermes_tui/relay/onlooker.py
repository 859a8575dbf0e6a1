"""In the exporter's place where another sends: nothing is forwarded, what MLflow has is confirmed.

Hermes' plugin sends to MLflow by itself, and to the relay as well (`mlflow.forward: false`). A span is
queued until MLflow is seen to have it. One that never comes stays queued, and is asked for ever less often.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from hermes_tui.journal import marks
from hermes_tui.journal.writer import Writer
from hermes_tui.relay.exporter import ExporterState
from hermes_tui.relay.mlflow import NotNow, Unreadable
from hermes_tui.relay.outbox import Outbox, Parcel, Route
from hermes_tui.relay.policy import backoff_s
from hermes_tui.relay.prover import Prover

log = logging.getLogger(__name__)

_FIRST_S = 2.0  # the plugin sends to MLflow at the same time; asking at once would always be too early
_LONGEST_S = 600.0
_UNREADABLE_S = 60.0


class Onlooker:
    """Confirms what waits in the outbox, by reading back. `wake` after new requests were indexed."""

    forwards = False
    draining = False

    def __init__(
        self,
        writer: Writer,
        outbox: Outbox,
        prover: Prover,
        destination: str,
        *,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer, self._outbox, self._prover, self._tidy = writer, outbox, prover, tidy
        self._news = asyncio.Event()
        self._tries: dict[int, int] = {}  # requests that were seen, and how often they were asked for
        self._later: dict[int, float] = {}  # when they are asked for next
        self._failures = 0
        self._stopping = False
        self.state = ExporterState(destination, forwards=False)

    def wake(self) -> None:
        self._news.set()

    @property
    def trouble(self) -> str:
        """Why asking is put off just now; "" when it is not."""
        return self.state.reason

    def try_again(self) -> None:
        """Ask for everything now."""
        self._later.clear()
        self._failures = 0
        self.wake()

    async def run(self) -> None:
        """Ask until `stop`."""
        with suppress(sqlite3.Error):
            await self._save()
        while not self._stopping:
            self._news.clear()
            wait = await self._try()
            self._tidy()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)

    async def stop(self, flush_s: float) -> None:
        """End; nothing waits to be sent."""
        self._stopping = True
        self._news.set()

    async def _try(self) -> float | None:
        """A pass; seconds until the next, None when only news can help."""
        try:
            wait = await self._pass()
            self._failures = 0
            await self._say("ok")
            return wait
        except Unreadable as error:
            await self._say("held", str(error))
            return _UNREADABLE_S
        except NotNow as error:
            self._failures += 1
            await self._say("retrying", str(error))
        except sqlite3.Error as error:
            if not self._writer.suspect(error):
                log.exception("reading back failed on this side; it is tried again")
            self._failures += 1
        return backoff_s(self._failures, random.random())

    async def _pass(self) -> float | None:
        waiting: set[int] = set()
        for route in self._outbox.routes():
            while not self._stopping:
                now = time.monotonic()
                without = {number for number, at in self._later.items() if at > now}
                parcels = await asyncio.to_thread(self._outbox.batch, route, without=without)
                if not parcels:
                    break
                waiting |= await self._look(route, parcels)
            waiting |= without if not self._stopping else set()
        self._tries = {number: tries for number, tries in self._tries.items() if number in waiting}
        self._later = {number: at for number, at in self._later.items() if number in waiting}
        return max(0.0, min(self._later.values()) - time.monotonic()) if self._later else None

    async def _look(self, route: Route, parcels: Sequence[Parcel]) -> set[int]:
        """Ask for some requests' spans; those of the requests that are still incomplete."""
        now = time.monotonic()
        due = []
        for parcel in parcels:
            if parcel.wanted and parcel.id not in self._tries:
                self._tries[parcel.id], self._later[parcel.id] = 0, now + _FIRST_S
            else:
                due.append(parcel)
        counts = Counter(key[0] for parcel in due for key in parcel.wanted)
        incomplete = {parcel.id for parcel in parcels} - {parcel.id for parcel in due}
        if counts:
            async with self._prover.turn:
                found = await self._prover.ask(route, counts)
                there = [key for parcel in due for key in parcel.wanted if found.has(key)]
                await self._prover.note(found, there, [])
            for parcel in due:
                if not all(found.has(key) for key in parcel.wanted):
                    incomplete.add(parcel.id)
                    self._put_off(parcel.id)
        await self._restate([parcel.id for parcel in due])
        return incomplete

    def _put_off(self, number: int) -> None:
        tries = self._tries[number] = self._tries.get(number, 0) + 1
        self._later[number] = time.monotonic() + min(_LONGEST_S, _FIRST_S * 2.0 ** min(tries, 10))

    async def _restate(self, requests: Collection[int]) -> None:
        if requests:
            await asyncio.wrap_future(self._writer.do(lambda pen: marks.restate(pen, requests)))

    async def _say(self, state: str, reason: str = "") -> None:
        """Keep the state for readers when it changed."""
        if (state, reason) == (self.state.state, self.state.reason):
            return
        now = time.time_ns()
        if reason:
            log.warning("cannot see what MLflow has: %s", reason)
            self.state.last_error, self.state.last_error_ns = reason, now
        if state != self.state.state:
            self.state.since_ns = now
        self.state.state, self.state.reason = state, reason
        with suppress(sqlite3.Error):
            await self._save()

    async def _save(self) -> None:
        await asyncio.wrap_future(self._writer.set_meta("exporter", self.state.document()))
