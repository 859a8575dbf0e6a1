"""How fast the relay takes spans in: acknowledged, on disk, indexed, and what that costs.

Beside the real relay (its own process, fsync on, no destination) runs a bare aiohttp handler that
reads the same bytes and keeps nothing: the ratio of the two is what keeping costs, on any machine.
Both are measured in turns, with one and with four keep-alive senders, which are processes of their
own and only write prepared bytes to a socket.

    python benchmarks/ingest.py                    # about a minute
    python benchmarks/ingest.py --spans 1000000    # a longer last run
    python benchmarks/ingest.py --dir /mnt/disk    # on another file system than the temporary folder's
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from aiohttp import web
from traffic import SPANS, Renewer, one_span, template

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader

TEMPLATES = 8  # different sessions of a sender
SENDERS = (1, 4)
SPAWN = multiprocessing.get_context("spawn")

# ------------------------------------------------------------------------------------- the senders


def head(size: int, host: str = "127.0.0.1") -> bytes:
    """The request head an OTLP exporter of the Python SDK sends."""
    return (
        f"POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nUser-Agent: OTel-OTLP-Exporter-Python/1.45\r\n"
        "Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n"
        f"Content-Type: application/x-protobuf\r\nx-mlflow-experiment-id: 1\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


def post(connection: socket.socket, request: bytes) -> None:
    """Send one request and read its whole answer. Raises RuntimeError unless that is a 200."""
    connection.sendall(request)
    answer = connection.recv(65536)
    while b"\r\n\r\n" not in answer:
        more = connection.recv(65536)
        if not more:
            raise RuntimeError("the connection was closed before an answer came")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer[:300].decode("latin-1"))


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def sender(pipe: Connection, seed: int) -> None:
    """A process: told (address, how many requests), it makes them ready, waits for "go", sends, reports."""
    rng = random.Random(seed)
    renewers = [Renewer(template(rng)) for _ in range(TEMPLATES)]
    while (order := pipe.recv()) is not None:
        address, count = order
        bodies = [renewers[number % TEMPLATES](rng) for number in range(count)]
        requests = [head(len(body)) + body for body in bodies]
        del bodies
        with connect(address) as connection:
            pipe.send(sum(map(len, requests)))
            pipe.recv()
            times = []
            for request in requests:
                began = time.perf_counter()
                post(connection, request)
                times.append((began, time.perf_counter()))
        del requests
        pipe.send(times)


class Senders:
    """Sender processes, started once and used for every round."""

    def __init__(self, count: int) -> None:
        self._pipes: list[Connection] = []
        self._processes = []
        for seed in range(count):
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=sender, args=(theirs, os.getpid() * 100 + seed), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def send(self, address: str, spans: int, senders: int) -> Run:
        """Send about `spans` spans with so many senders at once."""
        pipes = self._pipes[:senders]
        each = max(1, spans // SPANS // senders)
        for pipe in pipes:
            pipe.send((address, each))
        size = sum(pipe.recv() for pipe in pipes)
        for pipe in pipes:
            pipe.send("go")
        times = [pair for pipe in pipes for pair in pipe.recv()]
        return Run(senders, each * senders * SPANS, size, sorted(times, key=lambda pair: pair[1]))

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(10)


@dataclass
class Run:
    """What one round of sending told: (sent, answered) of every request, by time of answer."""

    senders: int
    spans: int
    bytes: int
    times: list[tuple[float, float]] = field(repr=False)

    @property
    def began(self) -> float:
        return min(began for began, _ in self.times)

    @property
    def ended(self) -> float:
        return self.times[-1][1]

    @property
    def rate(self) -> float:
        return self.spans / (self.ended - self.began)

    def answer_ms(self, quantile: float) -> float:
        waits = sorted(ended - began for began, ended in self.times)
        return waits[min(len(waits) - 1, int(len(waits) * quantile))] * 1000

    def tenth(self, which: int) -> float:
        """Acknowledged spans a second in the first (0) … last (9) tenth of the run."""
        count = len(self.times)
        start = self.began if which == 0 else self.times[which * count // 10 - 1][1]
        part = self.times[which * count // 10 : (which + 1) * count // 10]
        return len(part) * SPANS / (part[-1][1] - start)


# ------------------------------------------------------------------------------ what is measured


def bare(pipe: Connection) -> None:
    """A process: an aiohttp handler that reads the body, answers 200 and keeps nothing."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b"", content_type="application/x-protobuf")

    async def serve() -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/traces", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send("{}:{}".format(*runner.addresses[0][:2]))
        await asyncio.Event().wait()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve())


@contextmanager
def bare_handler() -> Iterator[str]:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=bare, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join(10)


class Relay:
    """A real relay process on a fresh journal, and a look at its memory and files while it works."""

    def __init__(self, folder: Path) -> None:
        self.state = StateDir(folder)
        environment = {n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW_", "HERMES_TRACE_"))}
        environment["HERMES_TRACE_GRPC_PORT"] = "0"  # not the one that a relay of the user's listens on
        command = [
            sys.executable,
            "-m",
            "hermes_tui",
            "relay",
            "--http-port",
            "0",
            "--state-dir",
            str(folder),
        ]
        folder.mkdir(parents=True)
        (folder / "settings.yaml").write_text("{}\n", encoding="utf-8")
        environment["HERMES_TRACE_CONFIG"] = str(folder / "settings.yaml")  # not the user's own
        self._output = (folder / "output.txt").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(command, stdout=self._output, stderr=self._output, env=environment)
        self.address = self._wait()
        self.reader = Reader(self.state.journal)
        self.peak_memory = self.peak_wal = 0
        self._done = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def _wait(self) -> str:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                running = json.loads(self.state.address.read_text(encoding="utf-8"))
                if running.get("ready"):
                    return str(running["http"])
            except (OSError, ValueError):
                pass
            time.sleep(0.02)
        self._output.seek(0)
        raise RuntimeError(f"the relay did not start: {self._output.read()}")

    def _watch(self) -> None:
        process = psutil.Process(self.process.pid)
        while not self._done.wait(0.05):
            self.peak_memory = max(self.peak_memory, process.memory_info().rss)
            self.peak_wal = max(self.peak_wal, self._size("-wal"))

    def _size(self, suffix: str = "") -> int:
        path = self.state.journal.with_name(self.state.journal.name + suffix)
        return path.stat().st_size if path.exists() else 0

    def files(self) -> tuple[int, int]:
        """Bytes of the journal and of its WAL."""
        return self._size(), self._size("-wal")

    def indexed(self) -> tuple[int, int]:
        return self.reader.indexed()

    def catch_up(self) -> list[tuple[float, int]]:
        """Wait until every request is in the index; (time, last indexed request) on the way."""
        seen: list[tuple[float, int]] = []
        deadline = time.monotonic() + 120
        while True:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"the index does not catch up; last seen {seen[-1:]}")
            done, last = self.indexed()
            if not seen or done != seen[-1][1]:
                seen.append((time.perf_counter(), done))
            if done == last:
                return seen
            time.sleep(0.004)

    def stop(self) -> None:
        self._done.set()
        self._watching.join()
        self.reader.close()
        self.process.terminate()
        self.process.wait(60)
        self._output.close()


@dataclass
class Kept:
    """A run against the relay with what came after its last answer."""

    run: Run
    caught_up: list[tuple[float, int]]  # (time, last indexed request) from the last answer on

    @property
    def lag_s(self) -> float:
        return max(0.0, self.caught_up[-1][0] - self.run.ended)

    @property
    def indexed_rate(self) -> float:
        """Spans a second from the first request sent to the last one indexed, receiving included."""
        return self.run.spans / (max(self.run.ended, self.caught_up[-1][0]) - self.run.began)

    def alone(self, start: float = 0.0, end: float = 1.0) -> float | None:
        """Spans a second that the index does alone, in a part of the time after the last answer."""
        seen = self.caught_up
        low, span = seen[0][1], seen[-1][1] - seen[0][1]
        part = [pair for pair in seen if low + start * span <= pair[1] <= low + end * span]
        if len(part) < 3 or part[-1][0] - part[0][0] < 0.02:
            return None
        return (part[-1][1] - part[0][1]) * SPANS / (part[-1][0] - part[0][0])


def keep(relay: Relay, senders: Senders, spans: int, count: int) -> Kept:
    run = senders.send(relay.address, spans, count)
    return Kept(run, relay.catch_up())


def _one_span(rng: random.Random) -> bytes:
    body = one_span(rng)
    return head(len(body)) + body


def live(relay: Relay, times: int = 40) -> dict[str, float]:
    """One span to an idle relay: ms until the answer, and from the answer until a reader sees its row."""
    rng = random.Random(1)
    answers, rows = [], []
    with connect(relay.address) as connection:
        for _ in range(times):
            revision = relay.reader.revision()
            request = _one_span(rng)
            time.sleep(0.03)
            began = time.perf_counter()
            post(connection, request)
            answered = time.perf_counter()
            while not relay.reader.tail(revision):
                pass
            rows.append((time.perf_counter() - answered) * 1000)
            answers.append((answered - began) * 1000)
    return {
        "answer_ms": statistics.median(answers), "answer_max_ms": max(answers),
        "row_ms": statistics.median(rows), "row_max_ms": max(rows),
    }  # fmt: skip


def behind(relay: Relay, senders: Senders, spans: int) -> dict[str, float]:
    """One span at a time while the index works off a backlog: ms until the answer."""
    senders.send(relay.address, spans, SENDERS[-1])
    rng = random.Random(2)
    answers = []
    with connect(relay.address) as connection:
        for _ in range(200):
            done, last = relay.indexed()
            if last - done < 5:
                break
            request = _one_span(rng)
            began = time.perf_counter()
            post(connection, request)
            answers.append((time.perf_counter() - began) * 1000)
            time.sleep(0.002)
    relay.catch_up()
    some = answers or [0.0]
    return {"answers": len(answers), "median_ms": statistics.median(some), "max_ms": max(some)}


# ------------------------------------------------------------------------------------------ report


def measure(folder: Path, spans: int, rounds: int) -> dict[str, Any]:
    """Everything this benchmark tells, as one document."""
    senders = Senders(SENDERS[-1])
    part = max(SPANS * SENDERS[-1], spans // 5)
    document: dict[str, Any] = {
        "spans": spans, "rounds": rounds, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "senders": {},
    }  # fmt: skip
    try:
        with bare_handler() as address:
            relay = Relay(folder / "rounds")
            try:
                senders.send(address, part // 4, SENDERS[-1])  # both warm, sockets and files exist
                keep(relay, senders, part // 4, SENDERS[-1])
                document["live"] = live(relay)
                for count in SENDERS:
                    pairs = [
                        (senders.send(address, part, count), keep(relay, senders, part, count))
                        for _ in range(rounds)
                    ]
                    document["senders"][count] = _side_by_side(pairs)
                document["behind"] = behind(relay, senders, part)
            finally:
                relay.stop()
        shutil.rmtree(folder / "rounds")
        relay = Relay(folder / "long")
        try:
            document["long"] = _long(relay, keep(relay, senders, spans, SENDERS[-1]))
        finally:
            relay.stop()
    finally:
        senders.close()
    return document


def _side_by_side(pairs: list[tuple[Run, Kept]]) -> dict[str, float | None]:
    def middle(values: Iterator[float | None]) -> float | None:
        found = [value for value in values if value is not None]
        return statistics.median(found) if found else None

    return {
        "bare_spans_s": middle(run.rate for run, _ in pairs),
        "relay_spans_s": middle(kept.run.rate for _, kept in pairs),
        "ratio": middle(kept.run.rate / run.rate for run, kept in pairs),
        "indexed_spans_s": middle(kept.indexed_rate for _, kept in pairs),
        "index_alone_spans_s": middle(kept.alone() for _, kept in pairs),
        "lag_s": middle(kept.lag_s for _, kept in pairs),
        "answer_p50_ms": middle(kept.run.answer_ms(0.5) for _, kept in pairs),
        "answer_p99_ms": middle(kept.run.answer_ms(0.99) for _, kept in pairs),
    }


def _long(relay: Relay, kept: Kept) -> dict[str, float | None]:
    journal, wal = relay.files()
    run = kept.run
    return {
        "spans": run.spans,
        "bytes": run.bytes,
        "spans_s": run.rate,
        "first_tenth_spans_s": run.tenth(0),
        "last_tenth_spans_s": run.tenth(9),
        "indexed_spans_s": kept.indexed_rate,
        "index_alone_first_tenth_spans_s": kept.alone(0.0, 0.1),
        "index_alone_last_tenth_spans_s": kept.alone(0.9, 1.0),
        "lag_s": kept.lag_s,
        "answer_p50_ms": run.answer_ms(0.5),
        "answer_p99_ms": run.answer_ms(0.99),
        "peak_memory_bytes": relay.peak_memory,
        "journal_bytes": journal,
        "wal_bytes": wal,
        "peak_wal_bytes": relay.peak_wal,
    }


def show(document: dict[str, Any]) -> str:
    def line(name: str, *values: float | None, digits: int = 0) -> str:
        return f"{name:<44}" + "".join("         -" if v is None else f"{v:>10,.{digits}f}" for v in values)

    counts = list(document["senders"])
    columns = [document["senders"][count] for count in counts]

    def row(name: str, key: str, digits: int = 0) -> str:
        return line(name, *(column[key] for column in columns), digits=digits)

    at_idle, late, last = document["live"], document["behind"], document["long"]
    return "\n".join([
        f"{document['cpus']} cores, load {document['load']:.1f} before the start",
        f"{'':<44}" + "".join(f"{count:>2} sender{'s' if count > 1 else ' '}" for count in counts),
        row("bare handler, keeps nothing     spans/s", "bare_spans_s"),
        row("relay, acknowledged (on disk)   spans/s", "relay_spans_s"),
        row("ratio", "ratio", 2),
        row("relay, all of it indexed        spans/s", "indexed_spans_s"),
        row("index alone, after the last ack spans/s", "index_alone_spans_s"),
        row("index behind the last ack       s", "lag_s", 2),
        row("answer p50                      ms", "answer_p50_ms", 1),
        row("answer p99                      ms", "answer_p99_ms", 1),
        "",
        f"One span to an idle relay: answer {at_idle['answer_ms']:.1f} ms "
        f"(max {at_idle['answer_max_ms']:.1f}), "
        f"row visible {at_idle['row_ms']:.1f} ms after it (max {at_idle['row_max_ms']:.1f}).",
        f"One span while the index is behind: answer {late['median_ms']:.1f} ms (max {late['max_ms']:.1f}).",
        "",
        f"{last['spans']:,} spans of {last['bytes'] / last['spans'] / 1000:.2f} KB, "
        f"{counts[-1]} senders, new journal:",
        line("acknowledged                    spans/s", last["spans_s"]),
        line("  first tenth, last tenth", last["first_tenth_spans_s"], last["last_tenth_spans_s"]),
        line("all of it indexed               spans/s", last["indexed_spans_s"]),
        line("  index alone: first tenth, last tenth", last["index_alone_first_tenth_spans_s"],
             last["index_alone_last_tenth_spans_s"]),
        line("index behind the last ack       s", last["lag_s"], digits=2),
        line("answer p50, p99                 ms", last["answer_p50_ms"], last["answer_p99_ms"], digits=1),
        line("relay's memory at most          MB", last["peak_memory_bytes"] / 1e6),
        line("journal, WAL, WAL at most       MB", last["journal_bytes"] / 1e6, last["wal_bytes"] / 1e6,
             last["peak_wal_bytes"] / 1e6),
    ])  # fmt: skip


def main() -> None:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    text = "spans in the last, long run; a fifth of it in a round (default 300000)"
    parser.add_argument("--spans", type=int, default=300_000, metavar="N", help=text)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="medians of so many (default 3)")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where the journals lie while this runs")
    parser.add_argument("--json", action="store_true", help="print one line of JSON after the table")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hermes-ingest-", dir=options.dir))
    try:
        document = measure(folder, options.spans, options.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(show(document))
    if options.json:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
