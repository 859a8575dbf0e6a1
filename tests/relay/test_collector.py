"""An OpenTelemetry Collector behind the relay, before it, and killed in mid-traffic: spans by their ids.

Runs with what it finds: the Collector itself (`otelcol-contrib`, with the very files of docs/fleet.md)
or rotel, a small collector (`pip install --pre rotel`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.model.span import Delivery
from tests.processes import (
    DEADLINE_S,
    Destination,
    MLflowServer,
    RelayProcess,
    SpanKey,
    clean_environment,
    counts,
    document,
    post,
    run_cli,
    span_keys,
)
from tests.support import (
    RECORDINGS,
    body_of,
    recorded_requests,
    recording_names,
    tail_all,
    wait_for,
    wire_span,
)
from tests.test_mlflow import new_experiment, read_back

FLEET = Path(__file__).parents[2] / "docs" / "fleet.md"
NAMED = "HERMES_TRACE_TEST_COLLECTOR"
EXPERIMENT = "7"
TOKEN = "a-token-that-only-tests-know"
TOKEN_HEADER = "x-hermes-trace-token"
FAR_S = 120.0


def find_collector() -> Path | None:
    """The program that `NAMED` names, else the first one on PATH, beside this Python or in a package."""
    if named := os.environ.get(NAMED):
        return Path(named)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    for name in ("otelcol-contrib", "otelcol", "rotel-agent", "rotel"):
        if found := shutil.which(name, path=path):
            return Path(found)
    package = importlib.util.find_spec("rotel")  # its wheel brings the program, but puts it on no PATH
    bundled = Path(package.origin).parent / "rotel-agent" if package and package.origin else None
    return bundled if bundled and bundled.exists() else None


PROGRAM = find_collector()
IS_ROTEL = PROGRAM is not None and PROGRAM.name.startswith("rotel")
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        PROGRAM is None,
        reason=f"no OpenTelemetry collector: put otelcol-contrib on PATH, name one with {NAMED}, "
        "or `pip install --pre rotel`",
    ),
]


class Collector:
    """A collector on a free port that stays its own over restarts.

    It exports to `to`, with `headers` of ours beside the experiment's, and to `pane` too.
    """

    def __init__(
        self,
        folder: Path,
        to: str,
        *,
        pane: str | None = None,
        experiment: str = EXPERIMENT,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._folder = folder
        self._log = folder / "collector.log"
        self.port, other = free_ports(2)
        if IS_ROTEL:
            headers = {"x-mlflow-experiment-id": experiment, **headers}
            self._command = rotel(folder, self.port, other, to, headers)
        else:
            self._command = otelcol(folder, self.port, to, pane, headers)
        self._environment = clean_environment(MLFLOW_URL=to, MLFLOW_EXPERIMENT_ID=experiment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> Collector:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, DEADLINE_S)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"the collector ended with {code}:\n{self.said()}"
        try:
            return post(f"127.0.0.1:{self.port}", b"") == 200
        except OSError:
            return False

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-5000:]

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)


def otelcol(folder: Path, port: int, to: str, pane: str | None, headers: Mapping[str, str]) -> list[str]:
    """The command of the Collector with the documented files; only addresses and patience are others."""
    exporters = {"otlp_http/mlflow": to} | ({"otlp_http/pane": pane} if pane else {})
    settings = {
        "receivers.otlp.protocols.http.endpoint": f"127.0.0.1:{port}",
        "extensions.file_storage.directory": str(folder / "queue"),
        "service.telemetry.metrics.level": "none",  # it would want a port of its own
    }
    for header, value in headers.items():
        settings[f"exporters.otlp_http/mlflow.headers.{header}"] = value
    for name, url in exporters.items():
        settings[f"exporters.{name}.endpoint"] = url
        settings[f"exporters.{name}.retry_on_failure.initial_interval"] = "100ms"
    command = [str(PROGRAM)]
    for name in ("otelcol.yaml", *(["pane.yaml"] if pane else [])):
        (folder / name).write_text(documented(name), encoding="utf-8")
        command += ["--config", str(folder / name)]
    return command + [f"--set={name}={value}" for name, value in settings.items()]


def documented(name: str) -> str:
    """The block of docs/fleet.md that begins with this file name in a comment."""
    found = re.search(rf"```yaml\n(# {re.escape(name)}\n.*?)```", FLEET.read_text(encoding="utf-8"), re.S)
    assert found, f"docs/fleet.md has no {name}"
    return found[1]


def rotel(folder: Path, port: int, grpc_port: int, to: str, headers: Mapping[str, str]) -> list[str]:
    """The command of rotel, which keeps its queue in memory."""
    options = {
        "pid-file": str(folder / "rotel.pid"),
        "otlp-http-endpoint": f"127.0.0.1:{port}",
        "otlp-grpc-endpoint": f"127.0.0.1:{grpc_port}",
        "exporter": "otlp",
        "otlp-exporter-endpoint": to,
        "otlp-exporter-protocol": "http",
        "otlp-exporter-custom-headers": ",".join(map("=".join, headers.items())),
        "otlp-exporter-request-timeout": "60s",
        "otlp-exporter-retry-initial-backoff": "100ms",
    }
    return [str(PROGRAM), "start", *(f"--{name}={value}" for name, value in options.items())]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def start_collector(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Start collectors; none outlives its test."""
    with ExitStack() as stack:

        def started(to: str, **said: Any) -> Collector:
            collector = Collector(tmp_path, to, **said)
            stack.callback(collector.kill)
            return collector.open()

        yield started


TRACES_ONLY = tuple(name for name in recording_names() if name != "metrics_logs")


def play(to: str, names: Sequence[str] = TRACES_ONLY) -> set[SpanKey]:
    """Send recordings with the program's own `replay`; the spans in them."""
    files = [str(RECORDINGS / f"{name}.otlp.jsonl") for name in names]
    done = run_cli("replay", "--speed", "0", "--to", to, *files)
    assert done.returncode == 0, done.stderr
    return {key for name in names for body in recorded_requests(name) for key in span_keys(body)}


def kept(state: StateDir, *deliveries: Delivery) -> set[SpanKey]:
    """The spans in a relay's journal, all of them or those in these states."""
    with Reader(state.journal) as reader:
        return {
            (span.trace_id, span.span_id, span.end_ns)
            for span in tail_all(reader)
            if not deliveries or span.delivery in deliveries
        }


def all_are(state: StateDir, delivery: str, number: int) -> bool:
    found: Mapping[str, int] = counts(state)
    return found[delivery] == number == sum(found.values())


def test_relay_to_collector_to_destination(
    start_relay: Callable[..., RelayProcess],
    start_collector: Callable[..., Collector],
    destination: Callable[..., Destination],
    state: StateDir,
) -> None:
    there = destination()
    collector = start_collector(there.url)
    relay = start_relay(state, "--mlflow", collector.url)
    wanted = play(relay.url)
    wait_for(lambda: there.accepted() >= wanted, DEADLINE_S)
    wait_for(lambda: all_are(state, "accepted", len(wanted)), DEADLINE_S)
    assert there.accepted() == wanted
    assert {each.headers["x-mlflow-experiment-id"] for each in there.posts} == {EXPERIMENT}
    wait_for(lambda: document(state, "proof").get("readable") is False, DEADLINE_S)
    assert document(state, "proof")["state"] == "unreadable"
    verified = run_cli("verify", "--state-dir", str(state.path))
    assert verified.returncode == 1
    assert "cannot be read back" in verified.stderr
    assert relay.stop() == 0
    assert all_are(state, "accepted", len(wanted)), "a collector cannot be read: nothing is confirmed"


@pytest.mark.skipif(IS_ROTEL, reason="rotel sends traces to one place only")
def test_collector_to_destination_and_relay(
    start_relay: Callable[..., RelayProcess],
    start_collector: Callable[..., Collector],
    destination: Callable[..., Destination],
    state: StateDir,
) -> None:
    there = destination()
    relay = start_relay(state)
    collector = start_collector(there.url, pane=relay.url)
    wanted = play(collector.url)
    wait_for(lambda: there.accepted() >= wanted, DEADLINE_S)
    wait_for(lambda: all_are(state, "local", len(wanted)), DEADLINE_S)
    assert there.accepted() == kept(state) == wanted
    assert relay.stop() == 0


def test_collector_to_relay_to_destination(
    start_relay: Callable[..., RelayProcess],
    start_collector: Callable[..., Collector],
    destination: Callable[..., Destination],
    state: StateDir,
) -> None:
    """The relay wants a token, as one does that listens to other machines; the token ends there."""
    there = destination()
    relay = start_relay(state, "--mlflow", there.url, HERMES_TRACE_TOKEN=TOKEN)
    collector = start_collector(relay.url, headers={TOKEN_HEADER: TOKEN})
    wanted = play(collector.url)
    wait_for(lambda: there.accepted() >= wanted, DEADLINE_S)
    assert kept(state) == there.accepted() == wanted
    assert {each.headers["x-mlflow-experiment-id"] for each in there.posts} == {EXPERIMENT}
    assert not any(TOKEN in value for each in there.posts for value in each.headers.values())
    assert relay.stop() == 0


class Traffic:
    """One sender that posts small requests to a relay until it is told to stop."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.statuses: set[int] = set()
        self.sent: list[SpanKey] = []

    def _send(self) -> None:
        for number in range(0, 1_000_000, 2):
            root = wire_span(number, trace=number)
            body = body_of(root, wire_span(number + 1, trace=number, parent=number))
            self.statuses.add(post(self._address, body))
            self.sent += span_keys(body)
            if self._stop.wait(0.005):  # the pace of a busy Hermes
                return

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)

    def go_on(self, number: int) -> None:
        """Wait for as many more spans."""
        enough = len(self.sent) + number
        wait_for(lambda: len(self.sent) >= enough, DEADLINE_S)


def test_a_collector_killed_in_mid_traffic(
    start_relay: Callable[..., RelayProcess],
    start_collector: Callable[..., Collector],
    destination: Callable[..., Destination],
    state: StateDir,
) -> None:
    there = destination()
    collector = start_collector(there.url)
    relay = start_relay(state, "--mlflow", collector.url)
    with Traffic(relay.address) as traffic:
        wait_for(lambda: len(there.accepted()) >= 20, DEADLINE_S)
        collector.kill()
        wait_for(lambda: document(state, "exporter")["state"] == "retrying", DEADLINE_S)
        answered = kept(state, Delivery.ACCEPTED)
        traffic.go_on(40)
        collector.open()
        wait_for(lambda: document(state, "exporter")["state"] == "ok", DEADLINE_S)
        traffic.go_on(40)
    wait_for(lambda: all_are(state, "accepted", len(traffic.sent)), DEADLINE_S)
    assert traffic.statuses == {200}, "an outage of the collector is not the sender's"
    # What the dead collector had answered for was its own to keep, and rotel keeps nothing on disk.
    guaranteed = set(traffic.sent) - (answered if IS_ROTEL else set())
    assert len(guaranteed) >= 80
    wait_for(lambda: there.accepted() >= guaranteed, DEADLINE_S)
    assert relay.stop() == 0


@pytest.mark.mlflow
@pytest.mark.xdist_group("mlflow")
@pytest.mark.timeout(600)
def test_two_relays_a_collector_and_mlflow(
    mlflow: MLflowServer,
    start_relay: Callable[..., RelayProcess],
    start_collector: Callable[..., Collector],
    tmp_path: Path,
) -> None:
    """Host's relay → Collector → relay in front of MLflow → MLflow, read back by id."""
    host, central = StateDir(tmp_path / "host"), StateDir(tmp_path / "central")
    last = start_relay(central, "--mlflow", mlflow.url)
    collector = start_collector(last.url, experiment=new_experiment(mlflow, "fleet"))
    first = start_relay(host, "--mlflow", collector.url)
    wanted = play(first.url, ["three_turns", "subagents", "v123_parallel"])
    wait_for(lambda: all_are(central, "confirmed", len(wanted)), FAR_S)
    assert {key for trace in {key[0] for key in wanted} for key in read_back(mlflow, trace)} == wanted
    wait_for(lambda: all_are(host, "accepted", len(wanted)), DEADLINE_S)
    assert first.stop() == last.stop() == 0
