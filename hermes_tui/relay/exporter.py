"""Deliver what is stored: undelivered requests → destination, until every span has its mark.

One POST at a time: MLflow stores serially, and larger batches are what makes it fast. While one is on
its way the next is read, and the marks of the last are written.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hermes_tui.journal import marks
from hermes_tui.journal.marks import SpanKey
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.relay.cargo import Cargo
from hermes_tui.relay.outbox import Outbox, Parcel, Route
from hermes_tui.relay.policy import Judgement, Verdict, backoff_s
from hermes_tui.relay.sender import Sender

log = logging.getLogger(__name__)

_HOLD_S = 15.0  # how often a held route is tried again
_AWAY_S = 2.0  # how often an address is tried at which nobody listens
_ASIDE_S = 15.0  # how long a span that the destination fails on waits while others go; doubles
_LONGEST_ASIDE_S = 600.0
_DOUBTS = 3  # attempts before a batch is parted
_PATIENCE = 5  # failures of a span that is alone, while others are accepted, before it is quarantined
_TURN = 8  # batches of one route before the next route has its turn


@dataclass(slots=True)
class ExporterState:
    """What readers are shown, kept in the journal under "exporter".

    `state` is none (no destination), ok, retrying or held; times are nanoseconds since the epoch.
    Without `forwards` another sends, and what waits is only looked for there.
    """

    destination: str | None
    state: str = "ok"
    reason: str = ""
    since_ns: int = 0
    last_error: str = ""
    last_error_ns: int = 0
    forwards: bool = True

    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Lane:
    """How sending along one route goes."""

    held_until: float = 0.0
    held: str = ""  # why, while it is
    held_spans: frozenset[SpanKey] = frozenset()
    doubts: int = 0


@dataclass(slots=True)
class _Failing:
    """A span that the destination fails on."""

    requests: list[int]
    accepted: int  # batches accepted when it failed first
    tries: int = 0


@dataclass(slots=True)
class _Pause:
    failures: int = 0
    until: float = 0.0
    aside: dict[int, float] = field(default_factory=dict)  # request → when it may go again
    failing: dict[SpanKey, _Failing] = field(default_factory=dict)


class Exporter:
    """Sends queued requests to one destination. `wake` after new requests were indexed.

    `on_accepted` is called after spans were marked as accepted, `tidy` when nothing is left to send.
    """

    forwards = True

    def __init__(
        self,
        writer: Writer,
        outbox: Outbox,
        sender: Sender | None,
        destination: str | None,
        *,
        on_accepted: Callable[[], None] = lambda: None,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer = writer
        self._outbox = outbox
        self._sender = sender
        self._destination = destination or ""
        self._on_accepted, self._tidy = on_accepted, tidy
        self._news = asyncio.Event()
        self._lanes: dict[int, _Lane] = {}
        self._pause = _Pause()
        self._marking: asyncio.Future[None] | None = None
        self._unmarked: frozenset[int] = frozenset()  # requests in that marking
        self._accepted = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self.draining = False
        """Whether batch follows batch: readers of the same destination had better wait."""
        self.state = ExporterState(destination, state="ok" if destination else "none")

    def wake(self) -> None:
        self._idle.clear()
        self._news.set()

    @property
    def trouble(self) -> str:
        """Why sending is put off just now; "" when it is not."""
        return self.state.reason if self.state.state == "retrying" else ""

    def try_again(self) -> None:
        """Forget what was held or put aside, and send at once: the user says that it is mended."""
        self._pause = _Pause()
        for lane in self._lanes.values():
            lane.held_until = 0.0
            lane.held_spans = frozenset()  # they were released: holding them again has to be noted again
        self.wake()

    async def run(self) -> None:
        """Send until `stop`; without a destination, only say so."""
        with suppress(sqlite3.Error):
            await self._save()
        while self._sender is not None and not self._stopping:
            self._news.clear()
            began = time.monotonic()
            if not await self._try(self._sender):
                await self._rest(began)

    async def stop(self, flush_s: float) -> None:
        """Let what is queued go for `flush_s` seconds at most, then end."""
        if self._sender is not None and self._pause.failures == 0:
            try:
                await asyncio.wait_for(self._idle.wait(), flush_s)
            except TimeoutError:
                log.info("stopping with requests still queued; they are sent after the next start")
        self._stopping = True
        self._news.set()

    async def _try(self, sender: Sender) -> bool:
        """A round. What fails on our own side, such as a full disk, is said and tried again later."""
        try:
            progress = await self._round(sender)
            if not progress:
                self.draining = False
                self._tidy()
                self._idle.set()
            return progress
        except Exception as error:
            self.draining = False
            if not self._writer.suspect(error):
                log.exception("delivering failed; it is tried again")
            self._pause.failures += 1
            self._pause.until = time.monotonic() + backoff_s(self._pause.failures, random.random())
            with suppress(sqlite3.Error):
                await self._say(f"delivering failed on this side: {error}")
            return False

    async def _round(self, sender: Sender) -> bool:
        """Batches of every route that may go now; whether anything was delivered."""
        progress = False
        now = time.monotonic()
        if now < self._pause.until:
            return False
        self._pause.aside = {number: until for number, until in self._pause.aside.items() if until > now}
        try:
            for route in self._outbox.routes():
                lane = self._lanes.setdefault(route.id, _Lane())
                if self._stopping or time.monotonic() < max(lane.held_until, self._pause.until):
                    continue
                progress |= await self._send(sender, route, lane)
        finally:
            await self._marked()
        return progress

    async def _rest(self, began: float) -> None:
        """Wait for news or for the next time after `began` at which something may go.

        It may have passed already: what the last round had to store can take longer than its pause.
        """
        held = (lane.held_until for lane in self._lanes.values())
        times = [self._pause.until, *self._pause.aside.values(), *held]
        upcoming = [at for at in times if at > began]
        wait = max(0.0, min(upcoming) - time.monotonic()) if upcoming else None
        try:
            await asyncio.wait_for(self._news.wait(), wait)
        except TimeoutError:
            return

    async def _send(self, sender: Sender, route: Route, lane: _Lane) -> bool:
        """Some batches of a route, one after the other, until one does not go."""
        progress = False
        parcels = await self._load(route)
        for _ in range(_TURN):
            if not parcels or self._stopping:
                break
            coming = asyncio.create_task(self._load(route, busy={parcel.id for parcel in parcels}))
            try:
                went = await self._deliver(sender, route, lane, parcels)
            finally:
                parcels = await coming
            if not went:
                break
            progress = True
            self.draining |= bool(parcels)
        return progress

    async def _load(self, route: Route, busy: Collection[int] = ()) -> list[Parcel]:
        without = {*busy, *self._unmarked, *self._pause.aside}
        return await asyncio.to_thread(self._outbox.batch, route, without=without)

    async def _deliver(self, sender: Sender, route: Route, lane: _Lane, parcels: list[Parcel]) -> bool:
        """Send one batch and do what its answer asks for; True when something moved."""
        if done := [
            parcel.id for parcel in parcels if not parcel.wanted
        ]:  # all of it still runs, or is marked
            await self._restate(done)
        cargo = Cargo.of(parcels)
        if not cargo.parts:
            return True
        judgement, retry_after = await sender.export(route, cargo)
        if judgement.verdict is Verdict.ACCEPTED:
            lane.doubts = 0
            lane.held, lane.held_spans = "", frozenset()
            await self._accept(cargo.spans, sent=[parcel.id for parcel, _ in cargo.parts])
            await self._say()
            return True
        log.warning("sending %d spans: %s", len(cargo.spans), judgement.reason)
        await self._marked()
        if judgement.verdict is Verdict.HOLD:
            return await self._hold(lane, cargo, judgement.reason)
        if judgement.verdict is Verdict.REFUSED:
            lane.held, lane.held_spans = "", frozenset()  # it looks at the spans: nothing else is in the way
            return await self._isolate(sender, route, lane, cargo, judgement)
        lane.doubts += judgement.verdict is Verdict.DOUBT
        if lane.doubts >= _DOUBTS:
            lane.doubts = 0
            return await self._isolate(sender, route, lane, cargo, judgement)
        return await self._wait(judgement, retry_after)

    async def _wait(self, judgement: Judgement, retry_after: float) -> bool:
        """The destination is in trouble: leave it alone for a while, longer when it is there."""
        self._pause.failures += 1
        delay = backoff_s(self._pause.failures, random.random())
        if judgement.verdict is Verdict.AWAY:
            delay = min(delay, _AWAY_S)
        self._pause.until = time.monotonic() + max(retry_after, delay)
        await self._say(judgement.reason)
        return False

    async def _hold(self, lane: _Lane, cargo: Cargo, reason: str) -> bool:
        """The user must act; other routes go on, and this one is tried again from time to time."""
        lane.held_until = time.monotonic() + _HOLD_S
        spans = frozenset(cargo.spans)
        if (reason, spans) != (lane.held, lane.held_spans):
            lane.held, lane.held_spans = reason, spans
            await self._mark(cargo.spans, Delivery.HELD, reason=reason)
        await self._say(reason)
        return False

    async def _isolate(
        self, sender: Sender, route: Route, lane: _Lane, cargo: Cargo, first: Judgement
    ) -> bool:
        """Part a batch, traces and then spans apart, until the bad span is alone and all others are sent.

        A destination that fails on every part is in trouble itself: then it is left alone again.
        """
        parts, judgement, retry_after = [cargo], first, 0.0
        accepted = self._accepted
        barren = 0  # parts in a row that failed: a bad span alone takes log2 of the batch
        requests = {parcel.id for parcel, _ in cargo.parts}
        try:
            while parts and not self._stopping:
                part = parts.pop()
                if part is not cargo:
                    judgement, retry_after = await sender.export(route, part)
                match judgement.verdict:
                    case Verdict.ACCEPTED:
                        barren = 0
                        await self._accept(part.spans, parted=[parcel.id for parcel, _ in part.parts])
                    case Verdict.HOLD:
                        return await self._hold(lane, part, judgement.reason)
                    case Verdict.RETRY | Verdict.AWAY:
                        return await self._wait(judgement, retry_after)
                    case Verdict.DOUBT if self._accepted == accepted and barren > _depth(cargo):
                        return await self._wait(judgement, retry_after)
                    case verdict:
                        barren += verdict is Verdict.DOUBT
                        if halves := part.halves():
                            parts += reversed(halves)
                        else:
                            await self._blame(part, judgement)
        finally:
            await self._marked()
            await self._restate(requests)
        return True

    async def _blame(self, part: Cargo, judgement: Judgement) -> None:
        """A span alone: quarantined when it is refused, or when it fails again and again."""
        (span,) = part.spans
        requests = [parcel.id for parcel, _ in part.parts]
        failing = self._pause.failing.setdefault(span, _Failing(requests, self._accepted))
        failing.tries += 1
        hopeless = failing.tries >= _PATIENCE and self._accepted > failing.accepted
        if judgement.verdict is Verdict.REFUSED or hopeless:
            self._pause.failing.pop(span)
            self._pause.failures = 0  # the destination works
            await self._mark(part.spans, Delivery.QUARANTINED, reason=judgement.reason, parted=requests)
        else:
            until = time.monotonic() + min(_LONGEST_ASIDE_S, _ASIDE_S * 2.0 ** (failing.tries - 1))
            self._pause.aside.update(dict.fromkeys(requests, until))
        await self._say(judgement.reason)

    async def _accept(
        self, spans: Sequence[SpanKey], *, sent: Sequence[int] = (), parted: Sequence[int] = ()
    ) -> None:
        """Start to mark spans as accepted; the next batch need not wait for the disk."""
        self._absolve(spans)
        await self._marked()
        future = self._writer.mark(
            spans, Delivery.ACCEPTED, destination=self._destination, sent=sent, parted=parted
        )
        self._marking, self._unmarked = asyncio.wrap_future(future), frozenset(sent)

    def _absolve(self, accepted: Sequence[SpanKey]) -> None:
        """The destination works: what failed while nothing else went may go again at once."""
        pause = self._pause
        pause.failures = 0
        for span in pause.failing.keys() & set(accepted):
            del pause.failing[span]
        for failing in pause.failing.values():
            if failing.accepted == self._accepted:
                for number in failing.requests:
                    pause.aside.pop(number, None)
        self._accepted += 1

    async def _marked(self) -> None:
        """Wait until the last marks are on disk. Raises what kept them from it."""
        marking, self._marking = self._marking, None
        if marking is not None:
            try:
                await marking
            finally:
                self._unmarked = frozenset()
            self._on_accepted()

    async def _mark(
        self, spans: Sequence[SpanKey], state: Delivery, *, reason: str, parted: Sequence[int] = ()
    ) -> None:
        await self._marked()
        await asyncio.wrap_future(
            self._writer.mark(spans, state, destination=self._destination, reason=reason, parted=parted)
        )

    async def _restate(self, requests: Collection[int]) -> None:
        await asyncio.wrap_future(self._writer.do(lambda pen: marks.restate(pen, requests)))
        self._on_accepted()  # of some it may be all now

    async def _say(self, error: str = "") -> None:
        """Keep the state for readers when it changed; `error` is what just went wrong."""
        held = next((lane.held for lane in self._lanes.values() if lane.held), "")
        state = "retrying" if self._pause.failures else "held" if held else "ok"
        reason = held if state == "held" else error if state == "retrying" else ""
        before = (self.state.state, self.state.reason, self.state.last_error)
        now = time.time_ns()
        if error:
            self.state.last_error, self.state.last_error_ns = error, now
        if state != self.state.state:
            self.state.since_ns = now
        self.state.state, self.state.reason = state, reason
        if (state, reason, self.state.last_error) != before:
            await self._save()

    async def _save(self) -> None:
        await asyncio.wrap_future(self._writer.set_meta("exporter", self.state.document()))


def _depth(cargo: Cargo) -> int:
    """Parts that fail in a row, at most, when one span of these is to blame."""
    return 2 * len(cargo.spans).bit_length()
