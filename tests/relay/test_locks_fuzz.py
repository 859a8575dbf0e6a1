"""Whatever is sent to a real relay's ports: it answers the next sender, in bounded memory, and stays calm.

HERMES_TRACE_TEST_FUZZ=20000 runs so many examples of each, other ones every time.
"""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import psutil
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from hermes_tui.journal.files import StateDir
from hermes_tui.otlp.encodings import JSON, PROTOBUF
from tests.otlp.test_fuzz import changed, corpus, fuzz, json_corpus, odd_request
from tests.processes import DEADLINE_S, RelayProcess, relays
from tests.relay.peers import ABOUT, request
from tests.rpc import Status

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("fuzzed relay")]

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
HOSTILE = (
    b"",
    b"\x00" * 100,
    b"GET /\r\n",
    b"GET /\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    bytes.fromhex("16030100c8010000c40303") + b"\x5a" * 200,  # a TLS hello
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + ABOUT,
    b"\x04\x01\x10\xde\x7f\x00\x00\x01me\x00",  # SOCKS
    b"SSH-2.0-OpenSSH_9.9\r\n",
    b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\nmore",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nmore",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
    b"GET http://evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET //evil.test:99999/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET " + b"/a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000 + b"\r\n",
    request(b"abc", length=2),
    request(b"abc", length=-1),
    request(b"abc", length=2**64),
    request(b"abc", more="Content-Length: 4\r\n"),
    request(b"3\r\nabc\r\n0\r\n\r\n", more="Transfer-Encoding: chunked\r\n"),
    request(b"", more="Expect: 100-continue\r\n", length=5),
    request(b"", more="Authorization: Bearer \xff\xfe\x00\r\n"),
    request(b"", more="X-MLflow-Experiment-Id: \x01\r\n"),
)


@dataclass(slots=True)
class Target:
    """A relay, and another sender with a connection that stays open all the time."""

    http: str
    grpc: str
    healthy: http.client.HTTPConnection

    def post(self, body: bytes, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.healthy.request("POST", "/v1/traces", body, named)
        answer = self.healthy.getresponse()
        return answer, answer.read()

    def is_well(self) -> None:
        answer, said = self.post(b"", Content_Type=PROTOBUF)
        assert (answer.status, said) == (200, b"")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("fuzzed")
    with relays(folder) as start:
        relay: RelayProcess = start(StateDir(folder / "state"), "--max-request-bytes", "1MiB")
        assert relay.running is not None
        assert relay.running.grpc is not None
        healthy = http.client.HTTPConnection(relay.address, timeout=DEADLINE_S)
        found = Target(relay.address, relay.running.grpc, healthy)
        found.is_well()
        process = psutil.Process(relay.process.pid)
        before = process.memory_info().rss
        yield found
        found.is_well()
        healthy.close()
        assert process.memory_info().rss - before < 200 * 1024 * 1024
        assert len(relay.said()) < 1024 * 1024, relay.said()[-3000:]
        assert relay.stop() == 0  # and its log holds no traceback


def said_to(address: str, data: bytes, ending: str) -> bytes:
    """Say something on a new connection and end it in one of the ways there are; what was answered."""
    host, _, port = address.rpartition(":")
    heard = b""
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
        try:
            connection.sendall(data)
            if ending == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif ending == "half":
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(64 * 1024):
                    heard += part
        except ConnectionError:
            event("cut off")
    return heard


endings = st.sampled_from(("half", "half", "close", "reset"))
words = st.sampled_from(
    [
        "",
        "\r\n",
        " ",
        ":",
        "\x00",
        "\xff",
        "HTTP/1.1",
        "0",
        "-1",
        "99999999999999999999",
        "chunked",
        "gzip",
        "é",
    ]
)
texts = st.lists(st.one_of(words, st.text(st.characters(max_codepoint=255), max_size=8)), max_size=4).map(
    "".join
)
NAMES = (
    *("Content-Length", "Transfer-Encoding", "Content-Type", "Content-Encoding", "Connection", "Host"),
    *("Expect", "Upgrade", "Origin", "Authorization", "x-mlflow-experiment-id", "Cookie", "Range"),
)
headers = st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), texts), texts), max_size=8)


@st.composite
def nearly_http(draw: st.DrawFn) -> bytes:
    """Requests that are HTTP in most places."""
    method = draw(
        st.sampled_from(["POST", "POST", "GET", "OPTIONS", "HEAD", "PUT", "TRACE", "post", "", "\x00"])
    )
    path = draw(st.sampled_from(["/v1/traces", "/v1/traces", "/v1/logs", "/", "*", "", "/v1/traces?x=1#y"]))
    version = draw(
        st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.10", ""])
    )
    lines = [
        f"{method} {path} {version}",
        "Host: localhost",
        f"Content-Type: {draw(st.sampled_from([PROTOBUF, JSON]))}",
    ]
    lines += [f"{name}: {value}" for name, value in draw(headers)]
    body = draw(st.one_of(st.binary(max_size=200), st.sampled_from(corpus())))
    if draw(st.booleans()):
        lines.append(f"Content-Length: {max(0, len(body) + draw(st.integers(-3, 3)))}")
    if draw(st.booleans()):
        lines.append("Transfer-Encoding: chunked")
        sizes = draw(
            st.lists(st.sampled_from(["0", "1", "5", "fffffff", "-1", "zz", "5;x=y", ""]), max_size=5)
        )
        body = b"".join(size.encode() + b"\r\n" + body[:5] + b"\r\n" for size in sizes) + b"0\r\n\r\n"
    end = draw(st.sampled_from(["\r\n", "\r\n", "\n", "\r"]))
    return (end.join(lines) + end * 2).encode("latin-1", "replace") + body


def check(heard: bytes) -> None:
    """Whatever is answered is HTTP, and no error of ours."""
    if heard:
        assert heard.startswith(b"HTTP/"), heard[:100]
        status = int(heard.split(b" ", 2)[1])
        event(f"answered with {status}")
        assert status < 500, heard[:1000]


@fuzz
@given(st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=2000), changed(HOSTILE)), endings)
def test_any_bytes_on_the_http_port(target: Target, data: bytes, ending: str) -> None:
    check(said_to(target.http, data, ending))
    target.is_well()


@fuzz
@given(st.lists(nearly_http(), min_size=1, max_size=3), endings)
def test_what_is_nearly_http(target: Target, requests: list[bytes], ending: str) -> None:
    check(said_to(target.http, b"".join(requests), ending))
    target.is_well()


@fuzz
@given(changed(tuple(request(body) for body in corpus())), endings)
def test_changed_requests(target: Target, data: bytes, ending: str) -> None:
    check(said_to(target.http, data, ending))
    target.is_well()


PACKED = {
    "": lambda body: body,
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "deflate": zlib.compress,
    "br": lambda body: body,
}


@fuzz
@given(
    st.one_of(
        st.tuples(st.just(PROTOBUF), st.one_of(changed(corpus()), odd_request())),
        st.tuples(st.just(JSON), changed(json_corpus())),
    ),
    st.sampled_from(list(PACKED)),
    st.booleans(),
)
def test_changed_recordings(target: Target, sent: tuple[str, bytes], encoding: str, lie: bool) -> None:
    kind, body = sent
    body = body if lie else PACKED[encoding](body)
    more = {"Content_Encoding": encoding} if encoding else {}
    answer, said = target.post(body, Content_Type=kind, **more)
    event(f"answered with {answer.status}")
    assert answer.status in (200, 400, 413), said
    assert answer.headers["Content-Type"].split(";")[0] == kind
    if answer.status != 200:
        code = json.loads(said)["code"] if kind == JSON else Status.FromString(said).code
        assert code in (3, 8)
    elif kind == JSON:
        assert json.loads(said) == {}
    else:
        assert said == b""


# ---- gRPC


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000000040000000000")


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """HTTP/2 after its preface: frames of any type, flags, stream and length."""
    out = PREFACE + SETTINGS
    for _ in range(draw(st.integers(0, 6))):
        payload = draw(st.binary(max_size=60))
        size = draw(st.one_of(st.just(len(payload)), st.integers(0, 2**24 - 1)))
        kind, flags = draw(st.integers(0, 12)), draw(st.integers(0, 255))
        stream = draw(st.sampled_from((0, 1, 2, 3, 2**31 - 1, 2**32 - 1)))
        out += size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    return out


@pytest.fixture(scope="module")
def channel(target: Target) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target.grpc) as opened:
        yield opened


@fuzz
@given(st.one_of(frames(), changed((PREFACE + SETTINGS,)), st.sampled_from(HOSTILE), st.binary(max_size=500)))
def test_any_bytes_on_the_grpc_port(target: Target, channel: grpc.Channel, data: bytes) -> None:
    said_to(target.grpc, data, "close")
    assert channel.unary_unary(f"/{SERVICE}/Export")(b"", timeout=DEADLINE_S) == b""


@fuzz
@given(
    st.one_of(changed(corpus()), odd_request(), st.binary(max_size=200)),
    st.sampled_from(list(grpc.Compression)),
    st.sampled_from([f"/{SERVICE}/Export"] * 3 + [f"/{SERVICE}/Import", "/", "/x"]),
)
def test_any_message_over_grpc(
    channel: grpc.Channel, message: bytes, compression: grpc.Compression, method: str
) -> None:
    try:
        said = channel.unary_unary(method)(message, compression=compression, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        code = error.code()  # type: ignore[attr-defined]
        event(str(code))
        expected = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert code in expected if method.endswith("Export") else code is grpc.StatusCode.UNIMPLEMENTED
        return
    event("OK")
    assert said == b""
