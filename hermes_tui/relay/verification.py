"""Verify on demand: read everything of a session back from MLflow, now, and say what is not there."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hermes_tui.journal import records
from hermes_tui.journal.marks import FINAL, SpanKey
from hermes_tui.journal.reader import NoJournal, Reader
from hermes_tui.model.span import Delivery, Span
from hermes_tui.relay.exporter import Exporter
from hermes_tui.relay.mlflow import NotNow, Unreadable
from hermes_tui.relay.onlooker import Onlooker
from hermes_tui.relay.outbox import Outbox
from hermes_tui.relay.prover import Prover

_TRACES = 20  # traces read from the journal, and asked for, in one go
_PATIENCE_S = 10.0  # how long what is just being sent is waited for
_POLL_S = 0.1
_LISTED = ("held", "quarantined")  # with their reasons

Progress = Callable[[int, int], Awaitable[None]]
"""Called with the traces that are read back and their total."""


class Verifier:
    """Reads back whole sessions. `destination` None: there is nowhere to read from."""

    def __init__(
        self,
        prover: Prover,
        exporter: Exporter | Onlooker,
        outbox: Outbox,
        journal: Path,
        destination: str | None,
    ) -> None:
        self._prover, self._exporter, self._outbox = prover, exporter, outbox
        self._journal, self._destination = journal, destination

    async def verify(self, session: str | None, progress: Progress) -> dict[str, Any]:
        """Counts and ids of the finished spans of a session (None: of all) by what MLflow has of them.

        `missing` are all that are not confirmed. `error` is set when the destination cannot be read.
        """
        error: str | None = None
        not_found: list[str] = []
        if self._destination is None:
            error = "no destination is configured: set --mlflow or MLFLOW_TRACKING_URI"
        else:
            await self._sent(session)
            try:
                not_found = await self._read_back(session, progress)
            except Unreadable as why:
                error = f"{self._destination} cannot be read back: {why}"
            except NotNow as why:
                error = f"{self._destination} could not be read back: {why}"
        report = await asyncio.to_thread(self._report, session)
        return {"destination": self._destination, **report, "not_found": not_found, "error": error}

    async def _sent(self, session: str | None) -> None:
        """Until nothing of it is queued, or the destination does not take it, or for a while."""
        deadline = time.monotonic() + _PATIENCE_S
        while self._exporter.forwards and self._exporter.state.state == "ok" and time.monotonic() < deadline:
            if not await asyncio.to_thread(self._any_queued, session):
                return
            await asyncio.sleep(_POLL_S)  # the marks are made in another thread, by whoever is first

    def _any_queued(self, session: str | None) -> bool:
        return any(span.delivery is Delivery.QUEUED for spans in self._all(session) for span in spans)

    async def _read_back(self, session: str | None, progress: Progress) -> list[str]:
        """Ids of the spans that MLflow had accepted, and does not have."""
        lost: list[str] = []
        chunks = await asyncio.to_thread(self._traces, session)
        done, total = 0, sum(len(chunk) for chunk in chunks)
        for chunk in chunks:
            by_route = await asyncio.to_thread(self._by_route, session, chunk)
            for number, spans in by_route.items():
                counts = Counter(span.trace_id for span in spans)
                async with self._prover.turn:
                    found = await self._prover.ask(self._outbox.route(number), counts)
                    there = [span for span in spans if found.has(_key(span))]
                    missing = [span for span in spans if not found.has(_key(span))]
                    news = [_key(span) for span in there if span.delivery is not Delivery.CONFIRMED]
                    await self._prover.note(found, news, [_key(span) for span in missing])
                lost += [span.span_id.hex() for span in missing if span.delivery in FINAL]
            done += len(chunk)
            await progress(done, total)
        return lost

    def _traces(self, session: str | None) -> list[list[bytes]]:
        with Reader(self._journal) as reader:
            traces = reader.traces() if session is None else reader.traces_of(session)
        return [traces[at : at + _TRACES] for at in range(0, len(traces), _TRACES)]

    def _by_route(self, session: str | None, traces: Sequence[bytes]) -> dict[int, list[Span]]:
        """The spans by the route of their trace's newest request: with its credentials they are read."""
        found: dict[int, list[Span]] = {}
        with Reader(self._journal) as reader:
            spans = [span for some in records.finished_spans(reader, session, traces) for span in some]
        routes = self._outbox.routes_of({span.trace_id for span in spans})
        for span in spans:
            found.setdefault(routes[span.trace_id], []).append(span)
        return found

    def _all(self, session: str | None) -> Iterable[list[Span]]:
        for traces in self._traces(session):
            with Reader(self._journal) as reader:
                yield from records.finished_spans(reader, session, traces)

    def _report(self, session: str | None) -> dict[str, Any]:
        listed: dict[str, list[Any]] = {delivery.name.lower(): [] for delivery in Delivery}
        confirmed = 0
        missing: list[str] = []
        try:
            with Reader(self._journal) as reader:
                for spans in self._all(session):
                    for span in spans:
                        if span.delivery is Delivery.CONFIRMED:
                            confirmed += 1
                            continue
                        state = span.delivery.name.lower()
                        missing.append(span.span_id.hex())
                        listed[state].append(_entry(span, reader) if state in _LISTED else span.span_id.hex())
        except NoJournal:
            pass  # nothing was received: nothing is missing
        del listed["confirmed"]
        return {"spans": confirmed + len(missing), "confirmed": confirmed, "missing": missing, **listed}


def _key(span: Span) -> SpanKey:
    return span.trace_id, span.span_id, span.end_ns


def _entry(span: Span, reader: Reader) -> dict[str, str]:
    return {
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "name": span.name,
        "reason": reader.reason(span),
    }
