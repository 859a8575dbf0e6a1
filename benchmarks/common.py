"""What the benchmarks of delivery share: a real MLflow, a gate before it that can fail, and a sender."""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.processes import DEADLINE_S, MLflowServer

SPAWN = multiprocessing.get_context("spawn")
TRACES = "/v1/traces"
PROTOBUF = "application/x-protobuf"
SpanIds = set[tuple[bytes, bytes]]
MODES = ("open", "paused", "hanging", "failing", "down")
_CHUNK = 256 * 1024


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie; the largest for 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def wait(condition: Callable[[], object], poll_s: float) -> None:
    """Return once `condition` holds. Raises TimeoutError after an hour: then something hangs."""
    end = time.monotonic() + 3600
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within an hour: {condition}")
        time.sleep(poll_s)


def span_ids(sent: Sequence[bytes]) -> SpanIds:
    """(trace id, span id) of every span in some requests."""
    return {
        (span.trace_id, span.span_id)
        for body in sent
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    }


class Sender:
    """A keep-alive connection that sends as the OTLP exporter of the Python SDK does."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port))
        self._headers = {
            "Content-Type": PROTOBUF,
            "User-Agent": "OTel-OTLP-Exporter-Python/1.45",
            "x-mlflow-experiment-id": "1",
        }

    def post(self, body: bytes, timeout_s: float = DEADLINE_S) -> int:
        """The answer's status. Raises OSError when there is none; the next call connects again."""
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        try:
            self._connection.request("POST", TRACES, body, self._headers)
            answer = self._connection.getresponse()
            answer.read()
        except http.client.HTTPException as error:
            self.close()
            raise ConnectionError(str(error) or type(error).__name__) from error
        except OSError:
            self.close()
            raise
        return answer.status

    def close(self) -> None:
        self._connection.close()


class Store(MLflowServer):
    """A real MLflow in a folder of its own, with experiment 1 and its first, slow request behind it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder)
        self._database = folder / "mlflow.db"

    def wait_warm(self, body: bytes) -> None:
        """Ready, and `body` is stored: the first request after a start takes seconds."""
        self.wait_ready()
        made = self.call("/api/2.0/mlflow/experiments/create", {"name": "benchmark"})
        if made["experiment_id"] != "1":
            raise RuntimeError(f"a fresh MLflow gave its first experiment the id {made['experiment_id']}")
        sender = Sender(self.url)
        if (status := sender.post(body)) != 200:
            raise RuntimeError(f"MLflow answered {status}:\n{self.said()}")
        sender.close()

    def spans(self) -> SpanIds:
        """(trace id, span id) of every row in its table of spans. Raises RuntimeError for a second row."""
        with sqlite3.connect(f"{self._database.absolute().as_uri()}?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT trace_id, span_id FROM spans").fetchall()
        connection.close()
        found = {(bytes.fromhex(trace.removeprefix("tr-")), bytes.fromhex(span)) for trace, span in rows}
        if len(found) != len(rows):
            raise RuntimeError(f"{len(rows)} rows for {len(found)} spans in MLflow's store")
        return found

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time that the server and its children have used."""
        parent = psutil.Process(self._process.pid)
        return sum(cpu_s(each) for each in [parent, *parent.children(recursive=True)])


def cpu_s(process: psutil.Process) -> float:
    """Seconds of processor time that a process has used; 0 when it is gone."""
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


# ---------------------------------------------------------------------------------------- the gate


@dataclass(frozen=True, slots=True)
class Passed:
    """A request that went through the gate: `time.monotonic` of its arrival, passing and answer.

    It passes when it arrives, or when the gate opens.
    """

    path: str
    arrived: float
    passed: float
    answered: float
    bytes: int


class Gate:
    """An address before an MLflow. It forwards (open), keeps new requests waiting (paused), takes
    connections and never answers (hanging), answers 503 (failing), or does not listen (down).

    A process of its own. Everybody who is compared goes through one, so that it costs all the same.
    """

    def __init__(self, upstream: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        host, _, port = upstream.removeprefix("http://").rpartition(":")
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_gate, args=(theirs, self.port, (host, int(port))), daemon=True)
        self._process.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, mode: str) -> float:
        """Change the mode; `time.monotonic` of the change. What is under way ends as it would have."""
        return float(self._ask("set", mode))

    def busy(self) -> tuple[int, int]:
        """Requests that went through and have no answer yet: POSTs to /v1/traces, and others."""
        posts, others = self._ask("busy")
        return posts, others

    def posted(self) -> tuple[int, int]:
        """Answered POSTs to /v1/traces, and their bytes."""
        count, size = self._ask("posted")
        return count, size

    def passed(self) -> list[Passed]:
        """Every answered request since the start."""
        return [Passed(*each) for each in self._ask("passed")]

    def close(self) -> None:
        self._process.terminate()
        self._process.join(10)

    def _ask(self, *what: str) -> Any:
        self._pipe.send(what)
        return self._pipe.recv()


@contextmanager
def gate(upstream: str) -> Iterator[Gate]:
    made = Gate(upstream)
    try:
        yield made
    finally:
        made.close()


def _gate(pipe: Connection, port: int, upstream: tuple[str, int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_Gate(pipe, port, upstream).run())


_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


class _Gate:
    """The gate's side in its process. HTTP is read just far enough to see where a request begins."""

    def __init__(self, pipe: Connection, port: int, upstream: tuple[str, int]) -> None:
        self._pipe = pipe
        self._port = port
        self._upstream = upstream
        self._mode = "down"
        self._may_pass = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self.busy = [0, 0]  # POSTs of traces, others
        self.passed: list[tuple[str, float, float, float, int]] = []
        self._posted = [0, 0]

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        orders: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
        loop.add_reader(self._pipe.fileno(), lambda: orders.put_nowait(self._pipe.recv()))
        while True:
            what, *said = await orders.get()
            if what == "set":
                await self._set(*said)
                self._pipe.send(time.monotonic())
            elif what == "busy":
                self._pipe.send(tuple(self.busy))
            elif what == "posted":
                self._pipe.send(tuple(self._posted))
            else:
                self._pipe.send(self.passed)

    async def _set(self, mode: str) -> None:
        before, self._mode = self._mode, mode
        if mode == "paused":
            self._may_pass.clear()
        else:
            self._may_pass.set()
        if mode == "down" and self._server is not None:
            self._server.close()
            self._server = None
        elif mode != "down" and self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=_CHUNK)
        if before != mode and {before, mode} != {"open", "paused"}:
            for client in self._clients:
                client.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while head := await reader.read(_CHUNK):
                await self._request(head, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side hung up, or the mode changed
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _request(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, from its first bytes to the end of its answer."""
        while b"\r\n\r\n" not in head:
            more = await reader.read(_CHUNK)
            if not more:
                raise ConnectionError("the sender hung up")
            head += more
        arrived = time.monotonic()
        await self._may_pass.wait()
        if self._mode == "hanging":
            while await reader.read(_CHUNK):
                pass
            raise ConnectionError("the sender gave up")
        if self._mode != "open":
            await _rest(head, reader, None)
            writer.write(_UNAVAILABLE)
            return await writer.drain()
        await self._forward(head, arrived, reader, writer)
        return None

    async def _forward(
        self, head: bytes, arrived: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        passed = time.monotonic()
        path = head.split(b" ", 2)[1].decode("latin-1")
        other = not path.endswith(TRACES)
        self.busy[other] += 1
        upstream_reader, upstream = await asyncio.open_connection(*self._upstream, limit=_CHUNK)
        try:
            size = await _rest(head, reader, upstream)
            answer = await upstream_reader.readuntil(b"\r\n\r\n")
            answered = time.monotonic()
            await _rest(answer, upstream_reader, writer)
        finally:
            self.busy[other] -= 1
            upstream.close()
        self.passed.append((path, arrived, passed, answered, size))
        if not other:
            self._posted[0] += 1
            self._posted[1] += size


async def _rest(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> int:
    """Pass a message on whose head (and perhaps more) was read; the bytes of its body."""
    text, _, body = head.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in text.split(b"\r\n")[1:])
    chunked = b"chunked" in fields.get(b"transfer-encoding", b"")
    length = int(fields.get(b"content-length", b"0"))
    size, end = len(body), body[-5:]
    if writer is not None:
        writer.write(head)
    while end != b"0\r\n\r\n" if chunked else size < length:
        data = await reader.read(_CHUNK)
        if not data:
            raise ConnectionError("a message ended too early")
        size, end = size + len(data), (end + data)[-5:]
        if writer is not None:
            writer.write(data)
            await writer.drain()
    if writer is not None:
        await writer.drain()
    return size
