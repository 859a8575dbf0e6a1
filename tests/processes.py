"""Real relay processes, a destination that answers from a script, and a real MLflow."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import PROTOBUF
from hermes_tui.relay.lock import Running, find
from tests.support import wait_for, wire_spans_in

DEADLINE_S = 60.0
"""For whatever takes milliseconds here and may take long on a busy machine."""

_OURS = ("HERMES_", "MLFLOW_", "OTEL_")

SpanKey = tuple[bytes, bytes, int]


def clean_environment(**said: str) -> dict[str, str]:
    """An environment without settings, proxies or Hermes of whoever runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OURS) and not name.lower().endswith("_proxy")
    }
    return {**kept, "HERMES_TRACE_CONFIG": os.devnull, "HERMES_HOME": os.devnull, **said}


HEEDING = [
    sys.executable,
    "-c",
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('hermes_tui', run_name='__main__', alter_sys=True)",
]
"""The program, heeding SIGINT: what is started in the background of a shell inherits that it is ignored."""


def run_cli(
    *arguments: str, environment: Mapping[str, str] | None = None, text: bool = True, **said: Any
) -> subprocess.CompletedProcess[Any]:
    """One command of the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "hermes_tui", *arguments],
        env=clean_environment(**(environment or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        **({"encoding": "utf-8"} if text else {}),
        **said,
    )


async def until(condition: Callable[[], object], deadline: float = DEADLINE_S) -> None:
    """`wait_for` in an event loop."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} seconds: {condition}")
        await asyncio.sleep(0.005)


def span_keys(body: bytes) -> list[SpanKey]:
    """(trace id, span id, end in ns) of the spans in an uncompressed request."""
    return [(span.trace_id, span.span_id, span.end_time_unix_nano) for span in wire_spans_in(body)]


def post(
    address: str, body: bytes, *, path: str = "/v1/traces", timeout: float = DEADLINE_S, **headers: str
) -> int:
    """POST to "host:port" and return the status; `_` in header names stands for `-`."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request("POST", path, body, {"Content-Type": PROTOBUF, **named})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def counts(state: StateDir) -> dict[str, int]:
    """Finished spans by delivery, all six of them; zeros while there is no journal."""
    if not state.journal.exists():
        return {each.name.lower(): 0 for each in Delivery}
    with Reader(state.journal) as reader:
        found = reader.counts()
    return {each.name.lower(): found[each] for each in Delivery}


def document(state: StateDir, key: str) -> dict[str, Any]:
    with Reader(state.journal) as reader:
        return reader.document(key)


# ---- the relay


class RelayProcess:
    """`hermes-trace-tui relay` on a free port, its standard error in a file."""

    def __init__(self, state: StateDir, *flags: str, log: Path, environment: Mapping[str, str] | None = None):
        self.state = state
        self.log = log
        command = [sys.executable, "-m", "hermes_tui", "relay", "--state-dir", str(state.path)]
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*command, "--http-port", "0", "--grpc-port", "0", *flags],
                env=clean_environment(**(environment or {})),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.running: Running | None = None

    def wait_ready(self) -> RelayProcess:
        wait_for(self._ready, DEADLINE_S)
        return self

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the relay ended with {self.process.returncode}:\n{self.said()}")
        running = find(self.state)
        if running is None or not running.ready or running.pid != self.process.pid:
            return False
        self.running = running
        return True

    @property
    def address(self) -> str:
        assert self.running is not None
        assert self.running.http is not None
        return self.running.http

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM, and the exit status. Fails when the log holds a traceback."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert "Traceback" not in self.said(), self.said()
        return code


@contextmanager
def relays(folder: Path) -> Iterator[Callable[..., RelayProcess]]:
    """Start relays with logs in `folder`; whatever still runs is ended at the end."""
    started: list[RelayProcess] = []

    def start(state: StateDir, *flags: str, ready: bool = True, **environment: str) -> RelayProcess:
        log = folder / f"relay-{len(started)}.log"
        relay = RelayProcess(state, *flags, log=log, environment=environment)
        started.append(relay)
        return relay.wait_ready() if ready else relay

    try:
        yield start
    finally:
        for relay in started:
            if relay.process.poll() is None:
                relay.kill()


# ---- a destination


@dataclass(slots=True)
class Reply:
    """What the destination does with a request: answer after a while, never, or hang up."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang: bool = False
    drop: bool = False


@dataclass(slots=True)
class Post:
    """A request as it arrived; `status` is None until it is answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    status: int | None = None
    method: str = "POST"

    def plain(self) -> bytes:
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body

    def spans(self) -> list[SpanKey]:
        return span_keys(self.plain())


class Destination:
    """Records what is posted. Answers `script` first, one reply a request, then what `answer` says.

    It is no MLflow: what asks for the REST API finds nothing there, as behind a Collector.
    """

    def __init__(self, *script: Reply, answer: Callable[[Post], Reply] = lambda _: Reply()) -> None:
        self.posts: list[Post] = []
        self.reads: list[Post] = []
        """Questions to the REST API, which are no spans."""
        self.script = deque(script)
        self.answer = answer
        self._changing = threading.Lock()
        self._closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> Destination:
        destination = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with destination._changing:
                    destination._connections.add(self.connection)

            def finish(self) -> None:
                with destination._changing:
                    destination._connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    self.rfile.close()

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True  # the sender is gone

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                taken = Post(self.path, headers, body, time.monotonic(), method=self.command)
                reply = destination._take(taken)
                if reply.delay_s or reply.hang:
                    destination._closing.wait(DEADLINE_S if reply.hang else reply.delay_s)
                if reply.drop or reply.hang:
                    self.close_connection = True
                    return
                taken.status = reply.status
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: object) -> None:
                pass

        self._closing.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def _take(self, taken: Post) -> Reply:
        with self._changing:
            if taken.method == "GET" or "/api/" in taken.path:
                self.reads.append(taken)
                return self.read(taken)
            self.posts.append(taken)
            reply = self.script.popleft() if self.script else self.answer(taken)
            return self.received(taken, reply)

    def read(self, taken: Post) -> Reply:
        """The answer to a question to the REST API."""
        return Reply(404, b"404 page not found")

    def received(self, taken: Post, reply: Reply) -> Reply:
        """What is really answered, and what a destination that keeps something does with it."""
        return reply

    def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is None:
            return
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        wait_for(self._hung_up, DEADLINE_S)

    def _hung_up(self) -> bool:
        with self._changing:
            for connection in self._connections:
                with suppress(OSError):  # gone already
                    connection.shutdown(socket.SHUT_RDWR)
            return not self._connections

    def accepted(self) -> set[SpanKey]:
        """The spans in what was answered with 200."""
        return {key for taken in list(self.posts) if taken.status == 200 for key in taken.spans()}

    def __enter__(self) -> Destination:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- MLflow

MLFLOW_PYTHON = os.environ.get("HERMES_TRACE_TEST_MLFLOW_PYTHON") or sys.executable
"""The Python that has MLflow; asked now, because tests do not see the variable."""


class MLflowServer:
    """A real MLflow with a SQLite store below `folder`."""

    _START_S = 180.0

    def __init__(
        self,
        folder: Path,
        *flags: str,
        store: str | None = None,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self._log = folder / "mlflow.log"
        self.store = folder / "mlflow.db"
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            self.port = free.getsockname()[1]
        command = [MLFLOW_PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", store or f"sqlite:///{self.store}", "--workers", "1"]
        command += ["--artifacts-destination", str(folder / "artifacts"), *flags]
        said = clean_environment(
            MLFLOW_DISABLE_TELEMETRY="true",
            DO_NOT_TRACK="true",
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",  # seven more processes that no test needs
            **(environment or {}),
        )
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                env=said,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> None:
        wait_for(self._healthy, self._START_S)

    def _healthy(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(
                f"MLflow ended with {self._process.returncode}; these tests need it "
                f"(`pip install '.[test]'`):\n{self.said()}"
            )
        try:
            with _direct.open(f"{self.url}/health", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-5000:]

    def call(self, path: str, document: Mapping[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        """GET, or POST of a document; the JSON answer. Fails with the server's log."""
        said = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(f"{self.url}{path}", headers=said)
        if document is not None:
            request.data = json.dumps(document).encode()
        try:
            with _direct.open(request, timeout=DEADLINE_S) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError as error:
            raise AssertionError(f"{path}: {error}\n{self.said()}") from error

    def close(self) -> None:
        """End the server and all that it started; its store is thrown away."""
        family = [psutil.Process(self._process.pid)] if self._process.poll() is None else []
        family += [child for parent in family for child in parent.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(DEADLINE_S)
        psutil.wait_procs(family, DEADLINE_S)


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
