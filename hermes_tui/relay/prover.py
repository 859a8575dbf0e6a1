"""Prove delivery: read back from MLflow what it has accepted, and mark what is there as confirmed.

Confirmed means: trace id, span id and end match. What MLflow accepted and does not have is sent once
more, then quarantined with that reason. Gentle on MLflow: one question at a time, traces that have
ended first, none while a backlog is being delivered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from hermes_tui.journal import marks
from hermes_tui.journal.marks import Pen, SpanKey, Standing
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.relay import mlflow
from hermes_tui.relay.mlflow import NotNow, TraceInfo, Unreadable
from hermes_tui.relay.outbox import Outbox, Route, Sent
from hermes_tui.relay.policy import backoff_s
from hermes_tui.relay.sender import Sender

log = logging.getLogger(__name__)

_PAGE = 64  # requests looked at in one go
_INFOS = 100  # traces in one cheap question
_TRACES = 20  # traces read with their spans in one question …
_SPANS = 800  # … and about how many spans at most
_SETTLED_S = 0.3  # after the last acceptance of a trace whose root has ended
_OLD_S = 20.0  # a span of a trace that goes on
_GRACE_S = 2.0  # what is not there may still be on its way into MLflow's store
_BACKLOG_S = 30.0  # between two questions while a backlog is delivered: reading costs more than storing
_UNREADABLE_S = 600.0  # until a destination without MLflow's API is asked again


@dataclass(slots=True)
class ProofState:
    """What readers are shown, kept in the journal under "proof".

    `state` is none (no destination), ok, failing or unreadable; `readable` is None while unknown.
    """

    state: str
    readable: bool | None = None
    reason: str = ""
    at_ns: int = 0

    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Found:
    """What MLflow has of the traces that were `asked` for."""

    asked: set[bytes] = field(default_factory=set)
    infos: dict[bytes, TraceInfo] = field(default_factory=dict)
    ends: dict[bytes, dict[bytes, int]] = field(default_factory=dict)

    def has(self, key: SpanKey) -> bool:
        return self.ends.get(key[0], {}).get(key[1]) == key[2]

    def count(self, trace_id: bytes) -> int:
        """Spans of a trace."""
        return len(self.ends.get(trace_id, ()))


class Prover:
    """Reads back from one destination. `wake` after spans were accepted.

    `busy` tells whether a backlog is being delivered; `on_lost` is called when spans must be sent again,
    `tidy` after every pass.
    """

    def __init__(
        self,
        writer: Writer,
        outbox: Outbox,
        sender: Sender | None,
        destination: str | None,
        *,
        busy: Callable[[], bool] = lambda: False,
        on_lost: Callable[[], None] = lambda: None,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer, self._outbox = writer, outbox
        self._sender, self._destination = sender, destination or ""
        self._busy, self._on_lost, self._tidy = busy, on_lost, tidy
        self._news = asyncio.Event()
        self.turn = asyncio.Lock()
        """One question at a time, whoever asks: hold it around `ask` and `note`."""
        self._failures = 0
        self._asked_at = 0.0
        self._stopping = False
        self.state = ProofState("ok" if destination else "none")

    def wake(self) -> None:
        self._news.set()

    async def run(self) -> None:
        """Prove until `stop`."""
        if self._sender is None:
            await self._say("none", None)
            return
        while not self._stopping:
            self._news.clear()
            wait = await self._try()
            self._tidy()
            try:
                await asyncio.wait_for(self._news.wait(), wait)
            except TimeoutError:
                continue
            await asyncio.sleep(_SETTLED_S)  # acceptances come in bursts: one question for all of them

    def stop(self) -> None:
        self._stopping = True
        self._news.set()

    async def _try(self) -> float | None:
        """A pass over all that is unproven; seconds until the next one, None when only news can help."""
        try:
            wait = await self._pass()
        except Unreadable as error:
            await self._say("unreadable", False, str(error))
            return _UNREADABLE_S
        except NotNow as error:
            self._failures += 1
            await self._say("failing", self.state.readable, str(error))
            return backoff_s(self._failures + 2, random.random())
        except sqlite3.Error as error:
            if not self._writer.suspect(error):
                log.exception("reading back failed on this side; it is tried again")
            self._failures += 1
            return backoff_s(self._failures + 2, random.random())
        self._failures = 0
        return wait

    async def _pass(self) -> float | None:
        waits: list[float] = []
        after = 0
        while not self._stopping:
            if self._must_wait():
                return min([*waits, _BACKLOG_S / 4])
            page = await asyncio.to_thread(self._outbox.sent, self._destination, after=after, limit=_PAGE)
            if not page:
                break
            after = page[-1].id
            for number, requests in groupby(
                sorted(page, key=lambda sent: sent.route), lambda sent: sent.route
            ):
                async with self.turn:
                    waits += await self._prove(self._outbox.route(number), list(requests))
        return min(waits, default=None)

    async def _prove(self, route: Route, requests: Sequence[Sent]) -> list[float]:
        """Read back what is due of some requests; seconds until the others are."""
        keys = [key for sent in requests for key in sent.keys]
        known = await asyncio.to_thread(self._outbox.standings, keys)
        unproven = defaultdict[bytes, dict[SpanKey, float]](dict)
        now = time.time_ns()
        for key, standing in known.items():
            if self._is_ours(standing):
                unproven[key[0]][key] = (now - standing.at_ns) / 1e9
        rooted = await asyncio.to_thread(self._outbox.with_root, list(unproven))
        waits = {trace_id: _wait(ages.values(), trace_id in rooted) for trace_id, ages in unproven.items()}
        due = [trace_id for trace_id, wait in waits.items() if wait <= 0]
        later = [wait for wait in waits.values() if wait > 0]
        counts = {trace_id: len(unproven[trace_id]) for trace_id in due}
        found = await self.ask(route, counts, stop=self._must_wait)
        later += [_BACKLOG_S / 4 for trace_id in due if trace_id not in found.asked]
        there, missing = [], []
        for trace_id in found.asked:
            for key, age in unproven[trace_id].items():
                if found.has(key):
                    there.append(key)
                elif age < _GRACE_S:
                    later.append(_GRACE_S - age)
                else:
                    missing.append(key)
        await self.note(found, there, missing)
        await asyncio.wrap_future(
            self._writer.do(lambda pen: marks.settle(pen, {sent.id: sent.keys for sent in requests}))
        )
        return later

    def _is_ours(self, standing: Standing) -> bool:
        accepted = standing.state is Delivery.ACCEPTED and not standing.superseded
        return accepted and standing.destination == self._destination

    def _must_wait(self) -> bool:
        return self._busy() and time.monotonic() - self._asked_at < _BACKLOG_S

    async def ask(
        self, route: Route, traces: Mapping[bytes, int], *, stop: Callable[[], bool] = lambda: False
    ) -> Found:
        """Which spans MLflow has of some traces, given with about how many spans they have.

        Between two questions it may `stop`. Raises Unreadable or NotNow.
        """
        found = Found()
        if not traces or self._sender is None:
            return found
        names = list(traces)
        for at in range(0, len(names), _INFOS):
            some = names[at : at + _INFOS]
            found.infos |= (there := await mlflow.infos(self._sender, route, some))
            found.asked.update(set(some) - there.keys())
            for chunk in _chunks({name: traces[name] for name in some if name in there}):
                self._asked_at = time.monotonic()
                found.ends |= await mlflow.spans(self._sender, route, chunk)
                found.asked.update(chunk)
                if stop():
                    break
            if stop():
                break
        if self.state.readable is not True or self.state.state != "ok":
            await self._say("ok", True)
        return found

    async def note(self, found: Found, there: Sequence[SpanKey], missing: Sequence[SpanKey]) -> None:
        """Mark what was found and what was not, and keep what MLflow says of the traces."""
        now = time.time_ns()
        rows = [
            (
                trace_id,
                self._destination,
                now,
                json.dumps({**info.document(), "spans": found.count(trace_id)}),
            )
            for trace_id, info in found.infos.items()
        ]

        def work(pen: Pen) -> None:
            marks.mark(pen, there, Delivery.CONFIRMED, self._destination)
            marks.lose(pen, missing, self._destination)
            pen.connection.executemany(
                "INSERT OR REPLACE INTO read_back (trace_id, destination, at_ns, document) "
                "VALUES (?, ?, ?, ?)",
                rows,
            )

        if there or missing or rows:
            await asyncio.wrap_future(self._writer.do(work))
        if missing:
            log.warning("%d spans were accepted, but are not there when read back", len(missing))
            self._on_lost()

    async def _say(self, state: str, readable: bool | None, reason: str = "") -> None:
        if (state, readable, reason) != (self.state.state, self.state.readable, self.state.reason):
            if reason:
                log.warning("cannot read back: %s", reason)
            self.state = ProofState(state, readable, reason, time.time_ns())
            try:
                await asyncio.wrap_future(self._writer.set_meta("proof", self.state.document()))
            except sqlite3.Error as error:
                log.error("cannot store the state of the proof: %s", error)


def _wait(ages: Iterable[float], ended: bool) -> float:
    """Seconds until a trace is worth a question; a clock that leapt back makes it so at once."""
    oldest, newest = max(ages := list(ages)), min(ages)
    if newest < 0:
        return 0.0
    return min(_OLD_S - oldest, _SETTLED_S - newest if ended else _OLD_S)


def _chunks(traces: dict[bytes, int]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    spans = 0
    for trace_id, count in traces.items():
        if some and (len(some) == _TRACES or spans + count > _SPANS):
            yield some
            some, spans = [], 0
        some.append(trace_id)
        spans += count
    if some:
        yield some
