"""The gRPC receiver: real channels, the same `accept` as HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from grpc import aio

from hermes_tui.otlp.grpc import GrpcReceiver
from hermes_tui.relay import service
from hermes_tui.relay.service import RelayError
from hermes_tui.settings import Settings
from tests.relay.conftest import Parts
from tests.support import body_of, wire_span

SERVICES = "opentelemetry.proto.collector"
TRACES = f"/{SERVICES}.trace.v1.TraceService/Export"
BODY = body_of(wire_span(1), wire_span(2)) + b"\xfa\x3f\x03new"  # a field that this version does not know

Make = Callable[..., Parts]
Call = Callable[..., Any]


@pytest.fixture
async def own(parts: Make) -> Parts:
    return parts()


@pytest.fixture
async def call(own: Parts) -> AsyncIterator[Call]:
    """Call a method of a listening receiver with raw bytes; its raw answer."""
    receiver = GrpcReceiver(own.intake.accept, host="127.0.0.1", port=0)
    await receiver.start()
    async with aio.insecure_channel(receiver.address) as channel:

        async def called(body: bytes, method: str = TRACES, **said: Any) -> bytes:
            return bytes(await channel.unary_unary(method)(body, **said))

        yield called
    await receiver.stop()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_the_very_bytes_are_on_disk_when_it_answers(
    call: Call, sql: Callable[..., list[Any]], compression: grpc.Compression
) -> None:
    metadata = (("x-mlflow-experiment-id", "7"), ("x-other", "no"))
    assert await call(BODY, metadata=metadata, compression=compression) == b""
    found = sql(
        "SELECT body, content_type, content_encoding, headers, span_count FROM requests "
        "JOIN routes ON routes.id = route"
    )
    assert found == [(BODY, "application/x-protobuf", "", '{"x-mlflow-experiment-id": "7"}', 2)]


async def test_a_large_message_is_taken(call: Call, sql: Callable[..., list[Any]]) -> None:
    large = body_of(wire_span(1, **{"output.value": "x" * 6_000_000}))
    await call(large)
    assert sql("SELECT length(body) FROM requests") == [(len(large),)]


async def test_bad_data_is_an_invalid_argument(call: Call, sql: Callable[..., list[Any]]) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await call(b"no protobuf!")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in refused.value.details()
    assert sql("SELECT count(*) FROM requests") == [(0,)]


async def test_when_storing_fails_the_sender_may_come_again(
    call: Call, sql: Callable[..., list[Any]]
) -> None:
    sql("CREATE TRIGGER full BEFORE INSERT ON requests BEGIN SELECT raise(ABORT, 'disk full'); END")
    with pytest.raises(aio.AioRpcError) as refused:
        await call(BODY)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


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
    async with AsyncExitStack() as stack:
        assert await service._start_grpc(Settings(), own.intake, stack) is None


async def test_a_port_that_was_asked_for_must_be_free(own: Parts, taken: int) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(RelayError, match=rf"port {taken} .*in use.*--grpc-port"):
            await service._start_grpc(Settings(grpc_port=taken), own.intake, stack)
