"""The gRPC receiver: real channels, the same `accept` as HTTP."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio

from hermes_tui.otlp.access import Access
from hermes_tui.otlp.answers import Answer, Code, Received
from hermes_tui.otlp.grpc import GrpcReceiver
from hermes_tui.otlp.guard import Limits
from hermes_tui.otlp.line import Times
from hermes_tui.relay import service
from hermes_tui.relay.service import RelayError
from hermes_tui.settings import Settings
from tests.relay.conftest import Parts
from tests.rpc import Status, retry_delay_s
from tests.support import body_of, wire_span

SERVICES = "opentelemetry.proto.collector"
TRACES = f"/{SERVICES}.trace.v1.TraceService/Export"
BODY = body_of(wire_span(1), wire_span(2)) + b"\xfa\x3f\x03new"  # a field that this version does not know

Make = Callable[..., Parts]
Call = Callable[..., Any]


@pytest.fixture
async def own(parts: Make) -> Parts:
    return parts()


@asynccontextmanager
async def listening(accept: Any, **said: Any) -> AsyncIterator[Call]:
    """Call a method of a listening receiver with raw bytes; its raw answer."""
    receiver = GrpcReceiver(accept, host="127.0.0.1", port=0, **said)
    await receiver.start()
    async with aio.insecure_channel(receiver.address) as channel:

        async def called(body: bytes, method: str = TRACES, **said: Any) -> bytes:
            return bytes(await channel.unary_unary(method)(body, **said))

        called.channel, called.address = channel, receiver.address  # type: ignore[attr-defined]
        yield called
    await receiver.stop()


@pytest.fixture
async def call(own: Parts) -> AsyncIterator[Call]:
    async with listening(own.intake.accept) as called:
        yield called


async def refusal(called: Any) -> tuple[grpc.StatusCode, str, Any]:
    """How a call is refused: code, message, and the google.rpc.Status in its details if there is one."""
    with pytest.raises(aio.AioRpcError) as refused:
        await called
    error = refused.value
    trailing = {name: value for name, value in error.trailing_metadata() or ()}  # noqa: C416 - no mapping
    details = trailing.get("grpc-status-details-bin")
    status = None if details is None else Status.FromString(details)
    if status is not None:
        assert (status.code, status.message) == (error.code().value[0], error.details())
    return error.code(), str(error.details()), status


PACKED = {
    grpc.Compression.NoCompression: ("", lambda body: body),
    grpc.Compression.Gzip: ("gzip", gzip.decompress),
    grpc.Compression.Deflate: ("deflate", zlib.decompress),
}


@pytest.mark.parametrize("compression", PACKED)
async def test_the_very_bytes_are_on_disk_when_it_answers(
    call: Call, sql: Callable[..., list[Any]], compression: grpc.Compression
) -> None:
    encoding, unpacked = PACKED[compression]
    metadata = (("x-mlflow-experiment-id", "7"), ("x-other", "no"))
    assert await call(BODY, metadata=metadata, compression=compression) == b""
    ((body, *rest),) = sql(
        "SELECT body, content_type, content_encoding, headers, span_count FROM requests "
        "JOIN routes ON routes.id = route"
    )
    assert unpacked(body) == BODY
    assert rest == ["application/x-protobuf", encoding, '{"x-mlflow-experiment-id": "7"}', 2]


async def test_a_large_message_is_taken(call: Call, sql: Callable[..., list[Any]]) -> None:
    large = body_of(wire_span(1, **{"output.value": "x" * 6_000_000}))
    await call(large)
    assert sql("SELECT length(body) FROM requests") == [(len(large),)]


async def test_bad_data_is_an_invalid_argument(call: Call, sql: Callable[..., list[Any]]) -> None:
    code, said, status = await refusal(call(b"no protobuf!"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in said
    assert retry_delay_s(status) is None
    assert sql("SELECT count(*) FROM requests") == [(0,)]


async def test_when_storing_fails_the_sender_may_come_again(
    call: Call, sql: Callable[..., list[Any]]
) -> None:
    sql("CREATE TRIGGER full BEFORE INSERT ON requests BEGIN SELECT raise(ABORT, 'disk full'); END")
    code, _, status = await refusal(call(BODY))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert retry_delay_s(status)


async def test_refused_calls_leave_room_for_others_on_their_connection(call: Call) -> None:
    """Older gRPC counts a call that is aborted as open for ever."""
    for _ in range(100):
        code, _, _ = await refusal(call(b"no protobuf!"))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert await call(BODY) == b""


async def test_too_large_is_never_to_come_again() -> None:
    async with listening(accepting, limits=Limits(request_bytes=10_000)) as call:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            assert await call(bytes(9_000), compression=compression) == b""
        code, said, status = await refusal(call(bytes(20_000)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "10000" in said
        assert status is None or retry_delay_s(status) is None


async def test_too_large_once_unpacked_is_never_to_come_again(
    call: Call, sql: Callable[..., list[Any]]
) -> None:
    bomb = bytes(Limits().request_bytes + 1)
    code, _, status = await refusal(call(bomb, compression=grpc.Compression.Gzip))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert retry_delay_s(status) is None
    assert sql("SELECT count(*) FROM requests") == [(0,)]


async def test_a_bug_in_the_relay_asks_the_sender_to_come_again() -> None:
    """UNKNOWN would make a sender drop the batch at once."""

    async def broken(_: Received) -> Answer:
        raise RuntimeError("a bug")

    async with listening(broken) as call:
        code, said, status = await refusal(call(BODY))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "a bug" not in said
    assert retry_delay_s(status)


async def accepting(_: Received) -> Answer:
    return Answer()


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_a_call_without_a_message_is_refused() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        for each in ():
            yield each

    async with listening(accepting) as call:
        code, _, _ = await refusal(call.channel.stream_unary(TRACES)(nothing()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_that_does_not_come_is_not_waited_for() -> None:
    times = Times(body=0.2)
    async with listening(accepting, limits=Limits(times=times)) as call:
        code, _, status = await refusal(call.channel.stream_unary(TRACES)(never()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert retry_delay_s(status)
        assert await call(BODY) == b""


@asynccontextmanager
async def waiting_calls(call: Any) -> AsyncIterator[None]:
    """As many calls as one connection of its own may have, whose messages never come."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with aio.insecure_channel(call.address, options=options) as channel:
        for each in [channel.stream_unary(TRACES)(never()) for _ in range(16)]:
            await each.wait_for_connection()
        yield


async def test_slow_messages_make_room_for_others() -> None:
    async with listening(accepting, limits=Limits(patience_s=0.2)) as call, waiting_calls(call):
        assert await call(BODY, timeout=30) == b""


async def test_senders_that_leave_while_they_wait_keep_no_place() -> None:
    async with listening(accepting) as call:
        for _ in range(4):
            async with waiting_calls(call):
                pass
        assert await call(BODY, timeout=30) == b""


TOKEN = "a-token-that-nobody-guesses"


@pytest.mark.parametrize(
    ("metadata", "let_in"),
    [
        ({"x-hermes-trace-token": TOKEN}, True),
        ({"authorization": f"Bearer {TOKEN}"}, True),
        ({"authorization": "Basic bWU6bWU=", "x-hermes-trace-token": TOKEN}, True),
        ({}, False),
        ({"x-hermes-trace-token": TOKEN[:-1]}, False),
        ({"authorization": f"Basic {TOKEN}"}, False),
    ],
)
async def test_with_a_token_only_who_shows_it_is_heard(metadata: dict[str, str], let_in: bool) -> None:
    heard: list[Received] = []

    async def accept(received: Received) -> Answer:
        heard.append(received)
        return Answer(Code.OK)

    async with listening(accept, access=Access(token=TOKEN)) as call:
        if let_in:
            assert await call(BODY, metadata=tuple(metadata.items())) == b""
            (received,) = heard
            assert TOKEN not in str(received.headers)
            assert ("authorization" in received.headers) is metadata.get("authorization", "").startswith(
                "Basic"
            )
            return
        for method in (TRACES, "/no.such.Service/Method"):
            code, _, _ = await refusal(call(BODY, method, metadata=tuple(metadata.items())))
            assert code is grpc.StatusCode.UNAUTHENTICATED
        # Strangers are sent away before they have sent anything.
        began = time.monotonic()
        code, _, _ = await refusal(
            call.channel.stream_unary(TRACES)(never(), metadata=tuple(metadata.items()))
        )
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert time.monotonic() - began < Limits().times.body
    assert heard == []


async def test_connections_are_limited() -> None:
    receiver = GrpcReceiver(accepting, host="127.0.0.1", port=0, limits=Limits(connections=3))
    await receiver.start()
    host, port = receiver.address.split(":")
    open_ones = []
    try:
        for _ in range(3):
            reader, writer = await asyncio.open_connection(host, int(port))
            assert await reader.read(1)  # it greets first
            open_ones.append(writer)
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        for each in open_ones:
            each.close()
        async with aio.insecure_channel(receiver.address) as channel:
            assert await channel.unary_unary(TRACES)(BODY, wait_for_ready=True, timeout=60) == b""
    finally:
        await receiver.stop()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    limits = Limits(times=Times(head=0.3))
    async with listening(accepting, limits=limits) as call:
        assert await call(BODY) == b""
        receiver = GrpcReceiver(accepting, host="127.0.0.1", port=0, limits=limits)
        await receiver.start()
        reader, writer = await asyncio.open_connection(*receiver.address.split(":"))
        await asyncio.wait_for(reader.read(), 60)
        writer.close()
        await receiver.stop()


@pytest.mark.parametrize(
    ("method", "signal"),
    [
        (f"/{SERVICES}.metrics.v1.MetricsService/Export", "metrics"),
        (f"/{SERVICES}.logs.v1.LogsService/Export", "logs"),
    ],
)
async def test_other_signals_are_answered_and_counted(
    call: Call, own: Parts, sql: Callable[..., list[Any]], method: str, signal: str
) -> None:
    assert await call(b"whatever", method) == b""
    assert own.intake.counts == {signal: 1}
    assert sql("SELECT count(*) FROM requests") == [(0,)]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_the_usual_port_may_be_taken(own: Parts, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "GRPC_PORT", taken)
    listening: list[service.Receiver] = []
    assert await service._start_grpc(Settings(), own.intake, Access(), Limits(), listening) is None
    assert listening == []


async def test_a_port_that_was_asked_for_must_be_free(own: Parts, taken: int) -> None:
    with pytest.raises(RelayError, match=rf"port {taken} .*in use.*--grpc-port"):
        await service._start_grpc(Settings(grpc_port=taken), own.intake, Access(), Limits(), [])
