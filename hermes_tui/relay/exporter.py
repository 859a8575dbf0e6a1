"""Deliver what is stored: undelivered requests → destination, until every span has its mark.

One request at a time: MLflow stores serially, and larger batches are what makes it fast.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from hermes_tui import __version__
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import PROTOBUF
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.outbox import Outbox, Parcel, Route, merge
from hermes_tui.relay.policy import Judgement, Verdict, backoff_s, judge
from hermes_tui.settings import MLflow

log = logging.getLogger(__name__)

_TIMEOUT_S = 60.0  # MLflow waits up to 20 s for a locked store, and answers a first request after 7 s
_HOLD_S = 15.0  # how often a held route is tried again
_ASIDE_S = 15.0  # how long a request that the destination fails on waits while others go; doubles
_LONGEST_ASIDE_S = 600.0
_DOUBTS = 3  # attempts before a batch is parted
_MAX_RETRY_AFTER_S = 300.0


@dataclass(slots=True)
class ExporterState:
    """What readers are shown, kept in the journal under "exporter".

    `state` is none (no destination), ok, retrying or held; times are nanoseconds since the epoch.
    """

    destination: str | None
    state: str = "ok"
    reason: str = ""
    since_ns: int = 0
    last_error: str = ""
    last_error_ns: int = 0

    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Lane:
    """How sending along one route goes."""

    held_until: float = 0.0
    held: str = ""  # why, while it is
    held_ids: frozenset[int] = frozenset()
    doubts: int = 0
    part: int = 0  # requests in a batch at most while a bad one is looked for; 0: no limit


@dataclass(slots=True)
class _Pause:
    failures: int = 0
    until: float = 0.0
    aside: dict[int, float] = field(default_factory=dict)  # request → when it may go again
    failed: dict[int, float] = field(default_factory=dict)  # request → how long it waited last


class Exporter:
    """Sends queued requests to one destination. `wake` after new requests were indexed."""

    def __init__(self, writer: Writer, outbox: Outbox, credentials: Credentials, mlflow: MLflow) -> None:
        self._writer = writer
        self._outbox = outbox
        self._credentials = credentials
        self._mlflow = mlflow
        self._url = traces_url(mlflow.url) if mlflow.url else ""
        self._news = asyncio.Event()
        self._lanes: dict[int, _Lane] = {}
        self._pause = _Pause()
        self._stopping = False
        self._idle = asyncio.Event()
        self.state = ExporterState(mlflow.url, state="ok" if mlflow.url else "none")

    def wake(self) -> None:
        self._idle.clear()
        self._news.set()

    async def run(self) -> None:
        """Send until `stop`; without a destination, only say so."""
        with suppress(sqlite3.Error):
            await self._save()
        if not self._url:
            return
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S, connect=10)
        async with aiohttp.ClientSession(timeout=timeout, proxy=_proxy(self._url)) as session:
            while not self._stopping:
                self._news.clear()
                began = time.monotonic()
                if not await self._try(session):
                    await self._rest(began)

    async def stop(self, flush_s: float) -> None:
        """Let what is queued go for `flush_s` seconds at most, then end."""
        if self._url and self._pause.failures == 0:
            try:
                await asyncio.wait_for(self._idle.wait(), flush_s)
            except TimeoutError:
                log.info("stopping with requests still queued; they are sent after the next start")
        self._stopping = True
        self._news.set()

    async def _try(self, session: aiohttp.ClientSession) -> bool:
        """A round. What fails on our own side, such as a full disk, is said and tried again later."""
        try:
            return await self._round(session)
        except Exception as error:
            log.exception("delivering failed; it is tried again")
            self._pause.failures += 1
            self._pause.until = time.monotonic() + backoff_s(self._pause.failures, random.random())
            with suppress(sqlite3.Error):
                await self._say(f"delivering failed on this side: {error}")
            return False

    async def _round(self, session: aiohttp.ClientSession) -> bool:
        """One batch of every route that may go now; whether anything was delivered."""
        progress = False
        now = time.monotonic()
        if now < self._pause.until:
            return False
        self._pause.aside = {number: until for number, until in self._pause.aside.items() if until > now}
        routes = self._outbox.routes()
        self._credentials.keep_only({route.credential for route in routes if route.credential})
        for route in routes:
            lane = self._lanes.setdefault(route.id, _Lane())
            if self._stopping or time.monotonic() < max(lane.held_until, self._pause.until):
                continue
            parcels = self._outbox.batch(route, without=self._pause.aside)
            if lane.part:
                parcels = parcels[: lane.part]
            if parcels:
                progress |= await self._deliver(session, route, lane, parcels)
        if not progress:
            self._idle.set()
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

    async def _deliver(
        self, session: aiohttp.ClientSession, route: Route, lane: _Lane, parcels: list[Parcel]
    ) -> bool:
        """Send one batch and do what its answer asks for; True when something moved."""
        answer, retry_after = await self._post(session, route, parcels)
        verdict, reason = answer.verdict, answer.reason
        if verdict is Verdict.ACCEPTED:
            self._pause.failures = lane.doubts = 0
            lane.part = min(lane.part * 2, 4096) if lane.part else 0
            lane.held, lane.held_ids = "", frozenset()
            for parcel in parcels:
                self._pause.failed.pop(parcel.id, None)
            await self._mark(parcels, Delivery.ACCEPTED, done=True)
            await self._say()
            return True
        log.warning("sending %d requests: %s", len(parcels), reason)
        if verdict is Verdict.HOLD:
            await self._hold(lane, parcels, reason)
            return False
        if verdict is Verdict.REFUSED:
            lane.held, lane.held_ids = "", frozenset()  # it looks at the spans: nothing else is in the way
            return await self._part(lane, parcels, reason)
        self._pause.failures += 1
        lane.doubts += verdict is Verdict.DOUBT
        if lane.doubts >= _DOUBTS:
            return await self._doubt(lane, parcels, reason)
        delay = max(retry_after, backoff_s(self._pause.failures, random.random()))
        self._pause.until = time.monotonic() + delay
        await self._say(reason)
        return False

    async def _hold(self, lane: _Lane, parcels: list[Parcel], reason: str) -> None:
        """The user must act; other routes go on, and this one is tried again from time to time."""
        lane.held_until = time.monotonic() + _HOLD_S
        ids = frozenset(parcel.id for parcel in parcels)
        if (reason, ids) != (lane.held, lane.held_ids):
            lane.held, lane.held_ids = reason, ids
            await self._mark(parcels, Delivery.HELD, reason=reason)
        await self._say(reason)

    async def _part(self, lane: _Lane, parcels: list[Parcel], reason: str) -> bool:
        """A refused batch: smaller ones next; a refused request alone is set apart for good."""
        if len(parcels) > 1:
            lane.part = (len(parcels) + 1) // 2
        else:
            await self._mark(parcels, Delivery.QUARANTINED, reason=reason, done=True)
            await self._say(reason)
        return True

    async def _doubt(self, lane: _Lane, parcels: list[Parcel], reason: str) -> bool:
        """The destination keeps failing on this batch: find out whether one request is to blame."""
        if len(parcels) > 1:
            lane.part = (len(parcels) + 1) // 2
            return True
        lane.doubts = 0
        number = parcels[0].id
        wait = min(_LONGEST_ASIDE_S, 2 * self._pause.failed.get(number, _ASIDE_S / 2))
        self._pause.failed[number] = wait
        self._pause.aside[number] = time.monotonic() + wait
        await self._say(reason)
        return True

    async def _post(
        self, session: aiohttp.ClientSession, route: Route, parcels: list[Parcel]
    ) -> tuple[Judgement, float]:
        """The judgement of the destination's answer, and its Retry-After in seconds."""
        body, encoding = merge(parcels)
        headers = self._headers(route)
        headers["Content-Type"] = parcels[0].content_type if len(parcels) == 1 else PROTOBUF
        if encoding:
            headers["Content-Encoding"] = encoding
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                said = await response.content.read(64 * 1024)
                experiment = headers.get("x-mlflow-experiment-id")
                judgement = judge(response.status, said, experiment=experiment, url=self._url)
                return judgement, _seconds(response.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            return Judgement(Verdict.RETRY, f"the destination cannot be reached: {why}"), 0.0

    def _headers(self, route: Route) -> dict[str, str]:
        """Ours first, then the sender's, which win."""
        mlflow = self._mlflow
        headers = {"User-Agent": f"hermes-trace-tui/{__version__}"}
        if mlflow.experiment:
            headers["x-mlflow-experiment-id"] = mlflow.experiment
        if mlflow.workspace:
            headers["x-mlflow-workspace"] = mlflow.workspace
        if mlflow.token:
            headers["Authorization"] = f"Bearer {mlflow.token}"
        elif mlflow.username:
            pair = f"{mlflow.username}:{mlflow.password or ''}".encode()
            headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
        headers.update(route.headers)
        if route.credential and (value := self._credentials.value(route.credential)):
            headers["Authorization"] = value
        return headers

    async def _mark(
        self, parcels: list[Parcel], state: Delivery, *, reason: str | None = None, done: bool = False
    ) -> None:
        spans = [span for parcel in parcels for span in parcel.spans()]
        ids = [parcel.id for parcel in parcels] if done else []
        destination = self._mlflow.url or ""
        await asyncio.wrap_future(
            self._writer.mark(spans, state, destination=destination, reason=reason, sent=ids)
        )

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


def traces_url(base: str) -> str:
    """Where OTLP goes below an MLflow address, which may have a path prefix or be complete already."""
    base = base.rstrip("/")
    return base if base.endswith("/v1/traces") else f"{base}/v1/traces"


def _proxy(url: str) -> str | None:
    """The environment's proxy for an address. aiohttp's own `trust_env` would add credentials from netrc."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _seconds(retry_after: str | None) -> float:
    if retry_after is None or not retry_after.strip().isdigit():
        return 0.0
    return min(float(retry_after), _MAX_RETRY_AFTER_S)
