"""Who is let in, on real sockets and by real relays: addresses, tokens, web pages."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.otlp.access import Access, is_loopback_address
from tests.processes import DEADLINE_S, RelayProcess, clean_environment, counts, post, run_cli
from tests.relay.peers import HEAD, Stub, ask, connected, listening, request
from tests.rpc import Status
from tests.support import RECORDINGS, body_of, wait_for, wire_span

TOKEN = "a-token-that-nobody-guesses"
PAGE = "https://app.test"
BODY = body_of(wire_span(1), wire_span(2))
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

Start = Callable[..., RelayProcess]


def call(address: str, **metadata: str) -> grpc.StatusCode:
    """Send BODY over gRPC; how it ended. `_` in metadata names stands for `-`."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(TRACES)(BODY, metadata=pairs, timeout=DEADLINE_S, wait_for_ready=True)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
            return code
    return grpc.StatusCode.OK


def grpc_address(relay: RelayProcess) -> str:
    assert relay.running is not None
    assert relay.running.grpc is not None
    return relay.running.grpc


# ---- loopback by default; anything else needs a token or a flag that names the risk


@pytest.mark.process
def test_loopback_by_default(start_relay: Start, state: StateDir) -> None:
    relay = start_relay(state)
    listening = [
        each.laddr.ip
        for each in psutil.Process(relay.process.pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 2
    assert all(map(is_loopback_address, listening)), listening
    assert post(relay.address, BODY) == 200
    assert call(grpc_address(relay)) is grpc.StatusCode.OK


@pytest.mark.process
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_any_other_address_needs_a_token_or_a_flag(state: StateDir, host: str) -> None:
    done = run_cli("relay", "--state-dir", str(state.path), "--host", host, "--http-port", "0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for word in (f"Error: host {host!r}", "HERMES_TRACE_TOKEN", "--token-file", "--allow-anyone", "journal"):
        assert word in line
    assert not state.path.exists()


@pytest.mark.process
def test_a_flag_that_names_the_risk_opens_it(start_relay: Start, state: StateDir) -> None:
    relay = start_relay(state, "--host", "0.0.0.0", "--allow-anyone")
    port = relay.address.rpartition(":")[2]
    assert post(f"127.0.0.1:{port}", BODY) == 200
    assert post(f"127.0.0.1:{port}", BODY, Host="192.0.2.1:4318") == 200
    assert post(f"127.0.0.1:{port}", BODY, Host=socket.gethostname()) == 200
    assert post(f"127.0.0.1:{port}", BODY, Host="evil.test") == 403


@pytest.mark.process
@pytest.mark.parametrize("source", ["environment", "file", "settings"])
def test_with_a_token_every_request_must_show_it(
    start_relay: Start, state: StateDir, tmp_path: Path, source: str
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "config.yaml").write_text(f"token: {TOKEN}")
    flags, environment = {
        "environment": ([], {"HERMES_TRACE_TOKEN": TOKEN}),
        "file": (["--token-file", str(tmp_path / "token")], {}),
        "settings": ([], {"HERMES_TRACE_CONFIG": str(tmp_path / "config.yaml")}),
    }[source]
    relay = start_relay(state, "--host", "0.0.0.0", *flags, **environment)
    http = "127.0.0.1:" + relay.address.rpartition(":")[2]
    rpc = "127.0.0.1:" + grpc_address(relay).rpartition(":")[2]
    assert post(http, BODY) == 401
    assert post(http, BODY, path="/v1/logs") == 401
    assert post(http, BODY, path="/nowhere") == 401
    assert post(http, BODY, x_hermes_trace_token=TOKEN[:-1]) == 401
    assert post(http, BODY, x_hermes_trace_token=TOKEN, Host="any.name.test") == 200
    assert post(http, BODY, Authorization=f"Bearer {TOKEN}") == 200
    assert call(rpc) is grpc.StatusCode.UNAUTHENTICATED
    assert call(rpc, x_hermes_trace_token="wrong") is grpc.StatusCode.UNAUTHENTICATED
    assert call(rpc, x_hermes_trace_token=TOKEN) is grpc.StatusCode.OK
    assert call(rpc, authorization=f"Bearer {TOKEN}") is grpc.StatusCode.OK
    wait_for(lambda: counts(state)["local"] == 2, DEADLINE_S)
    assert relay.stop() == 0


async def test_who_is_listening_is_told_to_nobody_without_the_token() -> None:
    async with listening(Stub(), access=Access(token=TOKEN)) as receiver:
        reply = await ask(receiver.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (reply.status, Status.FromString(reply.body).code) == (401, 16)
        assert "hermes" not in str(reply.headers).lower()
        shown = f"GET / HTTP/1.1\r\nHost: localhost\r\nx-hermes-trace-token: {TOKEN}\r\n\r\n"
        reply = await ask(receiver.address, shown.encode())
        assert json.loads(reply.body) == {"service": "test"}


@pytest.mark.process
@pytest.mark.parametrize("header", [f"authorization=Bearer%20{TOKEN}", f"x-hermes-trace-token={TOKEN}"])
def test_otlp_headers_can_carry_the_token(start_relay: Start, state: StateDir, header: str) -> None:
    """The OpenTelemetry SDK's own exporters, told by OTEL_EXPORTER_OTLP_HEADERS alone."""
    relay = start_relay(state, HERMES_TRACE_TOKEN=TOKEN)
    for protocol, endpoint in (
        ("http", f"{relay.url}/v1/traces"),
        ("grpc", f"http://{grpc_address(relay)}"),
    ):
        pytest.importorskip(f"opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter")
        done = subprocess.run(
            [sys.executable, "-c", EXPORT.replace("PROTOCOL", protocol)],
            env=clean_environment(
                OTEL_EXPORTER_OTLP_HEADERS=header, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=endpoint
            ),
            capture_output=True,
            encoding="utf-8",
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "SUCCESS" in done.stdout
    wait_for(lambda: counts(state)["local"] == 2, DEADLINE_S)


EXPORT = """
from opentelemetry.exporter.otlp.proto.PROTOCOL.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
exporter = OTLPSpanExporter()
provider = TracerProvider()
span = provider.get_tracer("t").start_span("s")
span.end()
print(exporter.export([span]))
exporter.shutdown()
"""


async def test_the_token_is_compared_and_never_kept() -> None:
    stub = Stub()
    async with listening(stub, access=Access(token=TOKEN)) as receiver:
        for more in (
            f"Authorization: Bearer {TOKEN}\r\n",
            f"X-Hermes-Trace-Token: {TOKEN}\r\n",
            f"X-Hermes-Trace-Token: {TOKEN}\r\nAuthorization: Bearer the-senders-own\r\n",
        ):
            assert (await ask(receiver.address, request(b"x", more=more))).status == 200
    assert TOKEN not in str(stub.received)
    assert [each.headers.get("authorization") for each in stub.received] == [
        None,
        None,
        "Bearer the-senders-own",
    ]


# ---- a web page cannot post to or probe the relay


PAGES = [
    f"Origin: {PAGE}\r\n",
    "Origin: null\r\n",
    "Origin: http://localhost:4318\r\n",
    "Sec-Fetch-Site: cross-site\r\n",
    "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n",
]


@pytest.mark.parametrize("more", PAGES)
async def test_a_web_page_cannot_post(more: str) -> None:
    stub = Stub()
    async with listening(stub) as receiver:
        reply = await ask(receiver.address, request(BODY, more=more))
        assert (reply.status, Status.FromString(reply.body).code) == (403, 7)
    assert stub.received == []


@pytest.mark.parametrize("more", PAGES)
@pytest.mark.parametrize(
    "target", ["GET /", "HEAD /", "GET /v1/traces", "GET /nothing", "OPTIONS /v1/traces"]
)
async def test_a_web_page_cannot_probe(more: str, target: str) -> None:
    """Every path gives the same answer, which says nothing of who gave it."""
    async with listening(Stub()) as receiver, connected(receiver.address) as peer:
        await peer.say(f"{target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n".encode())
        said = await peer.closed()
    assert said.startswith(b"HTTP/1.1 403 ")
    for word in (b"hermes", b"aiohttp", b"python", b"access-control", b"test"):
        assert word not in said.lower()


@pytest.mark.parametrize("host", ["evil.test", "evil.test:4318", "localhost.evil.test", "192.168.1.7:4318"])
async def test_dns_rebinding_does_not_help(host: str) -> None:
    """The page's own name leads to this machine: the browser takes us for its own site, and says its name."""
    stub = Stub()
    async with listening(stub) as receiver:
        data = request(BODY, more="Sec-Fetch-Site: same-origin\r\n").replace(
            b"Host: localhost", f"Host: {host}".encode()
        )
        assert (await ask(receiver.address, data)).status == 403
        about = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        assert (await ask(receiver.address, about)).status == 403
        async with connected(receiver.address) as peer:
            await peer.say(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 403 " in await peer.closed()
    assert stub.received == []


async def test_a_refused_body_is_not_taken_for_the_next_request() -> None:
    stub = Stub()
    async with listening(stub) as receiver, connected(receiver.address) as peer:
        await peer.say(request(request(b"smuggled"), more="Origin: https://evil.test\r\n"))
        assert (await peer.hear()).status == 403
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # it may have been closed with that
            assert (await peer.ask(request(b"next"))).status == 200
    assert b"smuggled" not in [each.body for each in stub.received]


# ---- no CORS unless asked for


async def test_no_cors_unless_asked_for() -> None:
    async with listening(Stub()) as receiver:
        for data in (request(b"x"), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            reply = await ask(receiver.address, data)
            assert reply.status == 200
            assert not [name for name in reply.headers if name.startswith("access-control") or name == "vary"]


def preflight(origin: str, more: str = "") -> bytes:
    lines = (
        "OPTIONS /v1/traces HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n"
        f"Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n{more}\r\n"
    )
    return lines.encode()


@pytest.mark.parametrize("token", ["", TOKEN])
async def test_pages_of_an_origin_that_was_asked_for_may_send(token: str) -> None:
    stub = Stub()
    access = Access(token=token, origins=frozenset({PAGE}))
    async with listening(stub, access=access) as receiver:
        asked = "Access-Control-Request-Headers: content-type, x-hermes-trace-token\r\n"
        reply = await ask(receiver.address, preflight(PAGE, asked))
        assert reply.status == 204
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert "POST" in reply.headers["access-control-allow-methods"]
        assert reply.headers["access-control-allow-headers"] == "content-type, x-hermes-trace-token"
        assert reply.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in reply.headers
        assert "access-control-allow-private-network" not in reply.headers
        asked = "Access-Control-Request-Private-Network: true\r\n"
        reply = await ask(receiver.address, preflight(PAGE, asked))
        assert reply.headers["access-control-allow-private-network"] == "true"

        more = f"Origin: {PAGE}\r\nSec-Fetch-Site: cross-site\r\n"
        if token:
            reply = await ask(receiver.address, request(b"x", more=more))
            assert reply.status == 401
            assert reply.headers["access-control-allow-origin"] == PAGE  # the page may know why
            more += f"x-hermes-trace-token: {token}\r\n"
        reply = await ask(receiver.address, request(b"x", more=more))
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, PAGE)
        assert [each.body for each in stub.received] == [b"x"]
        # Others still hear nothing.
        for data in (preflight("https://evil.test"), request(b"y", more="Origin: https://evil.test\r\n")):
            reply = await ask(receiver.address, data)
            assert reply.status == 403
            assert not [name for name in reply.headers if name.startswith("access-control")]
    assert len(stub.received) == 1


async def test_a_preflight_cannot_put_words_into_the_answer() -> None:
    async with listening(Stub(), access=Access(origins=frozenset({PAGE}))) as receiver:
        asked = "Access-Control-Request-Headers: a\x0b b; c\r\n"
        async with connected(receiver.address) as peer:
            await peer.say(preflight(PAGE, asked))
            said = (await peer.hear()).headers
    assert said.get("access-control-allow-headers", "") in ("", "x-hermes-trace-token")


@pytest.mark.process
def test_the_settings_of_doors_reach_the_relay(start_relay: Start, state: StateDir) -> None:
    relay = start_relay(
        state,
        "--max-request-bytes",
        "100 KiB",
        HERMES_TRACE_CORS_ORIGINS=f"http://other.test, {PAGE}",
        HERMES_TRACE_ALLOWED_HOSTS="named.test",
    )
    assert post(relay.address, BODY, Host="named.test:4318") == 200
    assert post(relay.address, BODY, Host="unnamed.test") == 403
    assert post(relay.address, BODY, Origin=PAGE) == 200
    assert post(relay.address, BODY, Origin="https://evil.test") == 403
    assert post(relay.address, bytes(100 * 1024 + 1)) == 413
    assert post(relay.address, body_of(wire_span(1, **{"output.value": "x" * 90_000}))) == 200
    assert relay.stop() == 0


def said_by(relay: RelayProcess) -> list[Any]:
    return [line for line in relay.said().splitlines() if "refused a request" in line]


@pytest.mark.process
def test_who_is_refused_is_logged_once_with_the_way_out(start_relay: Start, state: StateDir) -> None:
    relay = start_relay(state)
    for _ in range(50):
        assert post(relay.address, BODY, Host="evil.test\x7f") in (400, 403)
        assert post(relay.address, BODY, Host="evil.test") == 403
    (line,) = said_by(relay)
    assert "allowed_hosts" in line
    assert "evil.test" in line
    assert HEAD not in line
    assert relay.stop() == 0


@pytest.mark.process
def test_our_own_replay_shows_the_token_to_our_own_relay_only(
    start_relay: Start, state: StateDir, destination: Callable[..., Any]
) -> None:
    start_relay(state, HERMES_TRACE_TOKEN=TOKEN)
    recording = str(RECORDINGS / "subagent_children.otlp.jsonl")
    flags = ["--speed", "0", "--state-dir", str(state.path)]
    done = run_cli("replay", recording, *flags, environment={"HERMES_TRACE_TOKEN": TOKEN})
    assert done.returncode == 0, done.stderr
    done = run_cli("replay", recording, *flags)
    assert done.returncode == 1
    other = destination()
    run_cli("replay", recording, *flags, "--to", other.url, environment={"HERMES_TRACE_TOKEN": TOKEN})
    assert other.posts
    assert TOKEN not in str([taken.headers for taken in other.posts])
