"""How fast a backlog reaches MLflow, as a ratio to the best that a direct sender reaches in the same run.

While the destination is down, the relay is given its backlog: turns as Hermes sends them, with new
ids. Then the destination opens. Beside it, a direct sender posts the same spans in batches of 500 (as
many requests concatenated) to an MLflow of its own, another one does so over two connections at once,
and the better of the two is what the relay is compared with.

The machine's noise must hit all alike: they work in turns, in slices of the backlog, each on a fresh
store that grows as the others do. Between its slices the relay is not told anything, its next
requests just have to wait at a gate, which all of them go through. The relay's time counts from the
opening of the destination, back-off included, to the last span `accepted`.

    HERMES_TRACE_TEST_MLFLOW_PYTHON=…/bin/python python benchmarks/drain.py      # about five minutes
    python benchmarks/drain.py --spans 20000

The variable names a Python that has MLflow, if this one has not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from common import TRACES, Gate, Passed, Sender, SpanIds, Store, cpu_s, gate, quantile, span_ids, wait
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from traffic import SPANS, Renewer, template

from hermes_tui.journal.files import StateDir
from tests.processes import RelayProcess, counts, relays

BATCH = 500  # spans in a direct sender's request
SLICE = 5_000  # spans that each sender gets stored before it is the next one's turn
TEMPLATES = 8  # different sessions in the backlog
ENOUGH = 0.9
POLL_S = 0.02  # looking on costs the same two cores

# ----------------------------------------------------------------------------------------- traffic


def bodies(spans: int, request_spans: int, rng: random.Random) -> list[bytes]:
    """Export requests of at most `request_spans` spans each, in the order in which Hermes would send them."""
    renewers = [Renewer(template(rng)) for _ in range(TEMPLATES)]
    whole = [renewers[number % TEMPLATES](rng) for number in range(-(-spans // SPANS))]
    return (
        whole if request_spans >= SPANS else [part for body in whole for part in parts(body, request_spans)]
    )


def parts(body: bytes, size: int) -> Iterator[bytes]:
    """A request in several of `size` spans, as exports during a turn are."""
    (resource_spans,) = ExportTraceServiceRequest.FromString(body).resource_spans
    spans = resource_spans.scope_spans[0].spans
    for at in range(0, len(spans), size):
        message = ExportTraceServiceRequest()
        made = message.resource_spans.add(resource=resource_spans.resource).scope_spans.add()
        made.scope.CopyFrom(resource_spans.scope_spans[0].scope)
        made.spans.extend(spans[at : at + size])
        yield bytes(message.SerializeToString())


# ------------------------------------------------------------------------------------- the senders


@dataclass
class Lane:
    """One way to MLflow: its store, its gate, and how long which part of the backlog took."""

    name: str
    store: Store
    gate: Gate
    seconds: float = 0.0
    cpu_s: float = 0.0  # MLflow's
    sent: SpanIds = field(default_factory=set)
    slices: list[tuple[int, float]] = field(default_factory=list)  # (spans, seconds)

    def count(self, spans: int, seconds: float) -> None:
        self.slices.append((spans, seconds))
        self.seconds += seconds

    @property
    def rate(self) -> float:
        return sum(spans for spans, _ in self.slices) / self.seconds

    def check(self) -> None:
        """Raises RuntimeError unless MLflow has just what was sent, each span once."""
        found = self.store.spans()
        if found != self.sent:
            raise RuntimeError(
                f"{self.name}: {len(self.sent - found)} spans are missing in MLflow, "
                f"{len(found - self.sent)} there were never sent"
            )


class Direct:
    """Posts batches of 500 spans over some connections at once."""

    def __init__(self, lane: Lane, connections: int, batches: Sequence[bytes], slices: int) -> None:
        self.lane = lane
        self._waiting = list(reversed(batches))
        self._each = -(-len(batches) // slices)
        self._senders = [Sender(lane.gate.url) for _ in range(connections)]
        lane.gate.set("open")

    def slice(self) -> None:
        """Send the next slice."""
        lane, batches = self.lane, [self._waiting.pop() for _ in range(min(self._each, len(self._waiting)))]
        waiting = list(reversed(batches))

        def work(sender: Sender) -> None:
            while waiting:
                batch = waiting.pop()
                while (status := sender.post(batch)) == 503:
                    pass  # the other connection's request has the store
                if status != 200:
                    raise RuntimeError(f"MLflow answered {status}:\n{lane.store.said()}")

        cpu, began = lane.store.cpu_s, time.monotonic()
        with ThreadPoolExecutor(len(self._senders)) as pool:
            list(pool.map(work, self._senders))
        ended = time.monotonic()
        lane.cpu_s += lane.store.cpu_s - cpu
        sent = span_ids(batches)
        lane.sent |= sent
        lane.count(len(sent), ended - began)


class Drain:
    """A relay with a backlog, let through slice by slice."""

    def __init__(self, lane: Lane, relay: RelayProcess, backlog: Sequence[bytes], slices: int) -> None:
        self.lane = lane
        self.relay = relay
        self.cpu_s = 0.0  # the relay's
        self.noticed_s = 0.0  # from the opening to the first request
        self._process = psutil.Process(relay.process.pid)
        self._bytes = sum(map(len, backlog))
        self._backlog = span_ids(backlog)
        self._slices = slices
        self._stored = len(lane.sent)
        lane.sent |= self._backlog

    def fill(self, backlog: Sequence[bytes]) -> None:
        """Give the relay its backlog, and wait until it is indexed."""
        sender = Sender(self.relay.address)
        for body in backlog:
            if (status := sender.post(body)) != 200:
                raise RuntimeError(f"the relay answered {status}:\n{self.relay.said()}")
        sender.close()
        wait(lambda: sum(counts(self.relay.state).values()) == len(self._backlog), 0.2)

    def slice(self) -> None:
        """Open the gate until the next part of the backlog has its answers; the last time to the end."""
        lane, number = self.lane, len(self.lane.slices) + 1
        cpu, mlflow_cpu, opened = cpu_s(self._process), lane.store.cpu_s, lane.gate.set("open")
        if number == self._slices:
            wait(self._all_accepted, POLL_S)
            ended = time.monotonic()
        else:
            part = self._bytes * number // self._slices
            wait(lambda: lane.gate.posted()[1] >= part, POLL_S)
            lane.gate.set("paused")
            wait(lambda: lane.gate.busy() == (0, 0), POLL_S)
            ended = max(passed.answered for passed in lane.gate.passed())
        self.cpu_s += cpu_s(self._process) - cpu
        lane.cpu_s += lane.store.cpu_s - mlflow_cpu
        if number == 1:
            self.noticed_s = lane.gate.passed()[0].passed - opened
        stored = len(lane.store.spans())
        lane.count(stored - self._stored, ended - opened)
        self._stored = stored

    def _all_accepted(self) -> bool:
        if self.relay.process.poll() is not None:
            raise RuntimeError(f"the relay ended:\n{self.relay.said()}")
        if self.lane.gate.busy()[0] or self.lane.gate.posted()[1] < self._bytes:
            return False  # asking the journal costs more
        found = counts(self.relay.state)
        if found["held"] or found["quarantined"]:
            raise RuntimeError(f"the relay could not deliver all: {found}\n{self.relay.said()}")
        return found["accepted"] + found["confirmed"] == len(self._backlog)


# --------------------------------------------------------------------------------------- measuring


@contextmanager
def lanes(folder: Path, warm: Sequence[bytes]) -> Iterator[list[Lane]]:
    """One lane for each of the three, with MLflows that have stored their first request."""
    names = ("relay", "direct, one connection", "direct, two connections")
    with ExitStack() as stack:
        made = []
        for number, name in enumerate(names):
            store = Store(folder / f"mlflow-{number}")
            stack.callback(store.close)
            made.append(Lane(name, store, stack.enter_context(gate(store.url))))
        for lane, body in zip(made, warm, strict=True):
            lane.store.wait_warm(body)
            lane.sent |= span_ids([body])
        yield made


def measure(folder: Path, spans: int, request_spans: int, outage_s: float) -> dict[str, Any]:
    """Everything this benchmark tells, as one document."""
    rng = random.Random()
    load = os.getloadavg()[0]
    slices = -(-spans // SLICE)
    warm = bodies(3 * SPANS, SPANS, rng)
    with lanes(folder, warm) as (ours, serial, double), relays(folder) as start:
        backlog = bodies(spans, request_spans, rng)
        direct = [
            Direct(lane, connections, batches(bodies(spans, SPANS, rng)), slices)
            for connections, lane in enumerate((serial, double), start=1)
        ]
        relay = start(StateDir(folder / "state"), "--mlflow", ours.gate.url, "--experiment", "1")
        drain = Drain(ours, relay, backlog, slices)
        down = time.monotonic()
        drain.fill(backlog)
        time.sleep(max(0.0, down + outage_s - time.monotonic()))
        down = time.monotonic() - down
        for number in range(slices):
            turn: list[Direct | Drain] = [*direct, drain] if number % 2 else [drain, *direct]
            for each in turn:
                each.slice()
        for lane in (ours, serial, double):
            lane.check()
        return {
            "spans": spans, "requests": len(backlog), "bytes": sum(map(len, backlog)), "cpus": os.cpu_count(),
            "load": load, "outage_s": down,
            **_compared(ours, serial, double, drain.noticed_s), **_inside(drain),
        }  # fmt: skip


def batches(whole: Sequence[bytes]) -> list[bytes]:
    """Requests of 500 spans: concatenated protobuf messages are one message."""
    each = BATCH // SPANS
    return [b"".join(whole[at : at + each]) for at in range(0, len(whole), each)]


def _compared(ours: Lane, serial: Lane, double: Lane, noticed_s: float) -> dict[str, Any]:
    best = max(serial, double, key=lambda lane: lane.rate)
    pairs = zip(ours.slices, best.slices, strict=True)
    ratios = [(a / s) / (b / t) for (a, s), (b, t) in pairs]
    return {
        "relay_spans_s": ours.rate, "direct_spans_s": best.rate, "ratio": ours.rate / best.rate,
        "ratio_noticed": ours.rate / best.rate * ours.seconds / (ours.seconds - noticed_s),
        "slice_ratios": [round(each, 3) for each in ratios],
        "direct": {lane.name: lane.rate for lane in (serial, double)},
        "mlflow_cpu_ms_per_1000": {
            lane.name: lane.cpu_s * 1e6 / sum(n for n, _ in lane.slices) for lane in (ours, best)
        },
    }  # fmt: skip


def _inside(drain: Drain) -> dict[str, Any]:
    """Where the relay's time went: its requests, and what lay between them."""
    passed = drain.lane.gate.passed()
    posts = [each for each in passed if each.path.endswith(TRACES)]
    waits = [each.answered - each.passed for each in posts]
    gaps = gaps_between(posts)
    return {
        "noticed_s": drain.noticed_s, "posts": len(posts),
        "post_ms": quantile(waits, 0.5) * 1000, "gap_ms": quantile(gaps, 0.5) * 1000,
        "gap_p90_ms": quantile(gaps, 0.9) * 1000, "other_requests": len(passed) - len(posts),
        "relay_cpu_ms_per_1000": drain.cpu_s * 1e6 / len(drain.lane.sent),
    }  # fmt: skip


def gaps_between(posts: Sequence[Passed]) -> list[float]:
    """Seconds without any request under way or waiting at the gate, before each request but the first."""
    ordered = sorted(posts, key=lambda each: each.arrived)
    gaps, until = [], ordered[0].answered
    for each in ordered[1:]:
        gaps.append(max(0.0, each.arrived - until))
        until = max(until, each.answered)
    return gaps or [0.0]


def show(document: dict[str, Any]) -> str:
    def row(name: str, value: float, digits: int = 0) -> str:
        return f"{name:<52}{value:>10,.{digits}f}"

    said, cpu = document, document["mlflow_cpu_ms_per_1000"]
    lines = [
        f"{said['cpus']} cores, load {said['load']:.1f} before the start",
        f"{said['spans']:,} spans in {said['requests']:,} requests, {said['bytes'] / 1e6:.0f} MB; "
        f"the destination was down for {said['outage_s']:.0f} s",
        "",
        *(row(f"{name:<40}spans/s", rate) for name, rate in said["direct"].items()),
        row(f"{'relay, opening to last accepted':<40}spans/s", said["relay_spans_s"]),
        row(f"ratio to the better (aim: {ENOUGH} or more)", said["ratio"], 3),
        row("  without the time until it noticed the opening", said["ratio_noticed"], 3),
        row("  by slice: lowest", min(said["slice_ratios"]), 3),
        row("  by slice: median", quantile(said["slice_ratios"], 0.5), 3),
        row("  by slice: highest", max(said["slice_ratios"]), 3),
        "",
        row(f"{'opening noticed after (back-off)':<40}s", said["noticed_s"], 2),
        row(f"{'POSTs':<40}", said["posts"]),
        row(f"{'a POST, median':<40}ms", said["post_ms"], 1),
        row(f"{'between two, median':<40}ms", said["gap_ms"], 1),
        row(f"{'between two, 9 of 10 below':<40}ms", said["gap_p90_ms"], 1),
        row(f"{'other requests (read-back)':<40}", said["other_requests"]),
        row(f"{'processor time a 1,000 spans: the relay':<40}ms", said["relay_cpu_ms_per_1000"]),
        *(row(f"{f'  MLflow, {name}':<40}ms", value) for name, value in cpu.items()),
        "",
        "MLflow has every span of every sender exactly once.",
    ]
    return "\n".join(lines)


def main() -> None:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=100_000, metavar="N", help="backlog (default 100000)")
    text = f"spans in a stored request at most (default {SPANS}; Hermes sends 1 to some hundred)"
    parser.add_argument("--request-spans", type=int, default=SPANS, metavar="N", help=text)
    text = "seconds that the destination is down at least (default: as long as filling takes)"
    parser.add_argument("--outage", type=float, default=0.0, metavar="S", help=text)
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="where journal and stores lie while this runs"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON after the table")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hermes-drain-", dir=options.dir))
    try:
        document = measure(folder, options.spans, options.request_spans, options.outage)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(show(document))
    if options.json:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
