"""How long Hermes waits for the answer to its spans, whatever state MLflow is in.

At the end of a turn Hermes waits until its spans are taken. Here a sender posts requests as recorded
from Hermes (1 to 134 KB, and some of 700 KB; new ids each time), one after another on a keep-alive
connection, while another Hermes sends too: to the relay, and to the same destination directly, in turns.
The destination is a real MLflow that is healthy; then it takes connections but never answers
(hanging), answers 503 (failing), and does not listen (down).

The direct sender gives up as the OTLP exporter of OpenTelemetry's Python SDK does: 10 seconds in all,
pauses of 1, 2 and 4 seconds before it tries again. What it gave up is lost; so there are few of those.
At the end MLflow is healthy again, and gets from the relay all that it missed.

    HERMES_TRACE_TEST_MLFLOW_PYTHON=…/bin/python python benchmarks/hermes_wait.py     # about two minutes

The variable names a Python that has MLflow, if this one has not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import Gate, Sender, SpanIds, Store, gate, quantile, span_ids, wait
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hermes_tui.journal.files import StateDir
from tests.processes import RelayProcess, counts, relays
from tests.support import recorded_requests, recording_names

STATES = ("healthy", "hanging", "failing", "down")
AIM_MS = 50.0
TIMEOUT_S = 10.0  # OTEL_EXPORTER_OTLP_TIMEOUT's default
PAUSE_S = 0.02  # between two requests of the sender that is timed
BESIDE_S = 0.05  # between two of the other Hermes
LARGE = 700_000  # bytes of the largest requests seen from Hermes
LARGE_ONES = 2  # of them among the recorded ones
ROUNDS = 4  # in which the two take turns while MLflow is healthy
PATIENCE = 4  # requests that a direct sender has to give up, at once

# ----------------------------------------------------------------------------------------- traffic


class Traffic:
    """Recorded requests with new ids, all of them once before one comes again."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        recorded = {name: recorded_requests(name) for name in recording_names()}
        wide = [body for name, bodies in recorded.items() if name.startswith("v123") for body in bodies]
        self._pool = [body for bodies in recorded.values() for body in bodies]
        self._pool += [self._large(wide) for _ in range(LARGE_ONES)]
        self._left: list[bytes] = []

    def _large(self, wide: Sequence[bytes]) -> bytes:
        parts: list[bytes] = []
        while (room := LARGE - sum(map(len, parts))) > 0:
            parts.append(self._rng.choice([body for body in wide if len(body) <= max(room, 5000)]))
        return b"".join(parts)

    def take(self, count: int) -> list[bytes]:
        return [self._next() for _ in range(count)]

    def _next(self) -> bytes:
        if not self._left:
            self._left = self._rng.sample(self._pool, len(self._pool))
        return renewed(self._left.pop(), self._rng)


def renewed(body: bytes, rng: random.Random) -> bytes:
    """A request with other ids, the same wherever they were the same."""
    message = ExportTraceServiceRequest.FromString(body)
    ids: dict[bytes, bytes] = {}

    def other(name: bytes) -> bytes:
        return ids.setdefault(name, rng.randbytes(len(name)))

    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.trace_id, span.span_id = other(span.trace_id), other(span.span_id)
                span.parent_span_id = other(span.parent_span_id)
                for link in span.links:
                    link.trace_id, link.span_id = other(link.trace_id), other(link.span_id)
    return bytes(message.SerializeToString())


# ------------------------------------------------------------------------------------- the senders


def export(sender: Sender, body: bytes, rng: random.Random) -> bool:
    """Send as OTLPSpanExporter does; whether it was taken.

    Source: opentelemetry-exporter-otlp-proto-http 1.45, `_OTLPHTTPClient.export`.
    """
    deadline = time.monotonic() + TIMEOUT_S
    for attempt in range(6):
        try:
            status = sender.post(body, max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            return False
        except OSError:
            status = 503  # no connection: tried again like that
        if status < 400:
            return True
        pause = 2.0**attempt * rng.uniform(0.8, 1.2)
        if status not in (429, 502, 503, 504) or pause > deadline - time.monotonic():
            return False
        time.sleep(pause)
    return False


@dataclass
class Waits:
    """Seconds that a sender waited for each request, and how many of them were taken."""

    seconds: list[float] = field(default_factory=list)
    taken: int = 0

    def add(self, seconds: float, taken: bool) -> None:
        self.seconds.append(seconds)
        self.taken += taken

    def document(self) -> dict[str, float]:
        return {
            "requests": len(self.seconds), "taken": self.taken,
            "p50_ms": quantile(self.seconds, 0.5) * 1000, "p99_ms": quantile(self.seconds, 0.99) * 1000,
            "max_ms": max(self.seconds) * 1000,
        }  # fmt: skip


def in_turn(url: str, bodies: Sequence[bytes], waits: Waits) -> None:
    """Send one after another."""
    sender, rng = Sender(url), random.Random()
    for body in bodies:
        time.sleep(PAUSE_S)
        began = time.perf_counter()
        taken = export(sender, body, rng)
        waits.add(time.perf_counter() - began, taken)
    sender.close()


def at_once(url: str, bodies: Sequence[bytes], waits: Waits) -> None:
    """Send each over a connection of its own: nobody wants to wait 10 seconds for each."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        parts = [Waits() for _ in bodies]
        list(pool.map(lambda body, part: in_turn(url, [body], part), bodies, parts))
    for part in parts:
        waits.add(part.seconds[0], part.taken == 1)


@contextmanager
def another(url: str, bodies: Sequence[bytes]) -> Iterator[None]:
    """Another Hermes that sends meanwhile, as long as its requests last; it does not try again."""
    done = threading.Event()
    sender = Sender(url)

    def work() -> None:
        for body in bodies:
            if done.wait(BESIDE_S):
                return
            try:
                sender.post(body, TIMEOUT_S)
            except OSError:
                continue  # the destination is in trouble: that is what is measured

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        sender.close()


# --------------------------------------------------------------------------------------- measuring


class Measurement:
    """A relay before a gate before an MLflow, and what its senders waited."""

    def __init__(self, relay: RelayProcess, way: Gate, store: Store, requests: int) -> None:
        self._relay = relay
        self._gate = way
        self._store = store
        self._requests = requests
        self._traffic = Traffic(random.Random())
        self._beside = Traffic(random.Random())
        self._taken: SpanIds = set()  # by the relay, from the sender that is timed

    def state(self, state: str) -> dict[str, Any]:
        """What both wait in one state of the destination."""
        self._gate.set("open" if state == "healthy" else state)
        ours, direct = Waits(), Waits()
        if state == "healthy":
            each = -(-self._requests // ROUNDS)
            for _ in range(ROUNDS):
                self._send(in_turn, self._store.url, each, direct)
                self._send(in_turn, self._relay.address, each, ours)
        else:
            self._send(at_once, self._gate.url, PATIENCE, direct)
            self._send(in_turn, self._relay.address, self._requests, ours)
        relay, other = ours.document(), direct.document()
        return {
            "state": state, "relay": relay, "direct": other,
            "p50_ratio": relay["p50_ms"] / other["p50_ms"], "p99_ratio": relay["p99_ms"] / other["p99_ms"],
        }  # fmt: skip

    def _send(
        self, how: Callable[[str, Sequence[bytes], Waits], None], url: str, count: int, waits: Waits
    ) -> None:
        bodies = self._traffic.take(count)
        taken = waits.taken
        with another(url, self._beside.take(count)):
            how(url, bodies, waits)
        if url == self._relay.address:
            if waits.taken != taken + count:
                raise RuntimeError(f"the relay took {waits.taken - taken} of {count} requests")
            self._taken |= span_ids(bodies)

    def recover(self) -> dict[str, float]:
        """MLflow is healthy again: how long until it has all that the relay was given.

        Raises RuntimeError when a span is missing there.
        """
        self._gate.set("open")
        began = time.monotonic()
        wait(self._all_delivered, 0.2)
        seconds = time.monotonic() - began
        if missing := self._taken - self._store.spans():
            raise RuntimeError(f"{len(missing)} of {len(self._taken)} spans are not in MLflow")
        return {"spans": len(self._taken), "seconds": seconds}

    def _all_delivered(self) -> bool:
        if self._relay.process.poll() is not None:
            raise RuntimeError(f"the relay ended:\n{self._relay.said()}")
        return counts(self._relay.state)["queued"] == 0


def measure(folder: Path, requests: int) -> dict[str, Any]:
    """Everything this benchmark tells, as one document."""
    load = os.getloadavg()[0]
    store = Store(folder / "mlflow")
    try:
        store.wait_warm(Traffic(random.Random()).take(1)[0])
        with gate(store.url) as way, relays(folder) as start:
            way.set("open")
            relay = start(StateDir(folder / "state"), "--mlflow", way.url, "--experiment", "1")
            measurement = Measurement(relay, way, store, requests)
            states = [measurement.state(state) for state in STATES]
            recovered = measurement.recover()
    finally:
        store.close()
    return {
        "requests": requests, "cpus": os.cpu_count(), "load": load, "states": states, "recovered": recovered,
    }  # fmt: skip


def show(document: dict[str, Any]) -> str:
    lines = [
        f"{document['cpus']} cores, load {document['load']:.1f} before the start",
        f"{document['requests']} requests in each state; ms until the sender may go on",
        "",
        f"{'':<10}{'relay':>26}   {'directly':>26}   {'relay / directly':>16}",
        f"{'MLflow':<10}{'p50':>8}{'p99':>9}{'max':>9}   "
        f"{'p50':>8}{'p99':>9}{'taken':>9}   {'p50':>8}{'p99':>8}",
    ]
    for each in document["states"]:
        ours, other = each["relay"], each["direct"]
        taken = f"{other['taken']}/{other['requests']}"
        gave_up = "" if other["taken"] else f"  gave up after {other['p50_ms'] / 1000:.0f} s: lost"
        lines.append(
            f"{each['state']:<10}{ours['p50_ms']:>8,.1f}{ours['p99_ms']:>9,.1f}{ours['max_ms']:>9,.1f}   "
            f"{other['p50_ms']:>8,.0f}{other['p99_ms']:>9,.0f}{taken:>9}   "
            f"{each['p50_ratio']:>8.4f}{each['p99_ratio']:>8.4f}{gave_up}"
        )
    worst = max(each["relay"]["p99_ms"] for each in document["states"])
    recovered = document["recovered"]
    return "\n".join([
        *lines,
        "",
        f"The relay's p99 in the worst state: {worst:.1f} ms (aim: under {AIM_MS:.0f} ms).",
        f"Healthy again: all {recovered['spans']:,} spans that the relay had taken were in MLflow after "
        f"{recovered['seconds']:.1f} s.",
    ])  # fmt: skip


def main() -> None:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    text = "requests in each state (default 400)"
    parser.add_argument("--requests", type=int, default=400, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print one line of JSON after the table")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hermes-wait-"))
    try:
        document = measure(folder, options.requests)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(show(document))
    if options.json:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
