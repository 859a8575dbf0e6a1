"""The OTLP/gRPC receiver: raw bytes in, the same `accept` as HTTP.

OTLP specification, "OTLP/gRPC"; opentelemetry-proto `trace_service.proto` and its siblings. A message is
asked for only once its sender was let in and there is room: until then its bytes stay with the sender.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio

from hermes_tui.otlp.access import Access
from hermes_tui.otlp.answers import (
    RETRY_AFTER_S,
    Accept,
    Answer,
    Code,
    Received,
    answer_body,
    status_details,
)
from hermes_tui.otlp.encodings import PROTOBUF
from hermes_tui.otlp.guard import Limits

log = logging.getLogger(__name__)

_SERVICES = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_STREAMS = 16  # calls at a time over one connection
_MESSAGES = 8  # messages that are received at a time, of all connections
_WINDOW_BYTES = 64 * 1024  # of a message that nobody has asked for yet
_IDLE_S = 120.0  # gRPC cannot close an idle connection to make room for another
_AGE_S = 600.0


class GrpcReceiver:
    """Listens for OTLP/gRPC; `address` is the "host:port" it got once started."""

    def __init__(
        self,
        accept: Accept,
        *,
        host: str,
        port: int,
        access: Access | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._limits = limits or Limits()
        self._server = aio.server(options=_options(self._limits))
        self._server.add_generic_rpc_handlers((_Desk(accept, access or Access(), self._limits),))
        self.address = ""

    async def start(self) -> None:
        """Bind and listen. Raises OSError when the port is taken."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            port = self._server.add_insecure_port(f"{host}:{self._port}")
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await self._server.start()
        self.address = f"{host}:{port}"

    async def stop(self) -> None:
        """Stop listening, answer what was taken, close; within `Limits.stop_s`."""
        await self._server.stop(self._limits.stop_s)


def _options(limits: Limits) -> list[tuple[str, int]]:
    """Channel arguments of the gRPC core, named as in its `grpc/impl/channel_arg_names.h`."""
    return [
        ("grpc.max_receive_message_length", limits.request_bytes),
        # Original bytes travel on, and what they unfold to is bounded where HTTP's is.
        ("grpc.per_message_decompression", 0),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),  # else the windows grow
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.absolute_max_metadata_size", 32 * 1024),
        ("grpc.server_handshake_timeout_ms", int(limits.times.head * 1000)),
        ("grpc.max_connection_idle_ms", int(min(limits.times.keep_alive, _IDLE_S) * 1000)),
        ("grpc.max_connection_age_ms", int(_AGE_S * 1000)),
        ("grpc.max_connection_age_grace_ms", int(limits.times.body * 1000)),
        ("grpc.so_reuseport", 0),  # else two relays would share a port without a word
    ]


class _Desk(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    """Answers calls. They are unary on the wire, and handled as streams to decide when to read."""

    def __init__(self, accept: Accept, access: Access, limits: Limits) -> None:
        self._accept = accept
        self._access = access
        self._body_s = limits.times.body
        self._gate = _Gate(_MESSAGES, limits.times.body, limits.patience_s)
        self._methods = {
            f"/{service}/Export": grpc.stream_unary_rpc_method_handler(self._exporter(signal))
            for signal, service in _SERVICES.items()
        }
        self._closed = grpc.stream_unary_rpc_method_handler(self._refuse)

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method; strangers do not learn which there are."""
        if self._access.refuse_token(_headers(handler_call_details.invocation_metadata)) is not None:
            return self._closed
        return self._methods.get(handler_call_details.method)

    async def _refuse(self, _: Any, context: Any) -> bytes:
        headers = _headers(context.invocation_metadata())
        return _answer(context, self._access.refuse_token(headers) or Answer(Code.UNAUTHENTICATED))

    def _exporter(self, signal: str) -> Callable[[Any, Any], Awaitable[bytes]]:
        async def export(_: Any, context: Any) -> bytes:
            headers = self._access.without_token(_headers(context.invocation_metadata()))
            return _answer(context, await self._take(signal, headers, context))

        return export

    async def _take(self, signal: str, headers: dict[str, str], context: Any) -> Answer:
        try:
            async with self._gate.turn():
                body = await context.read()
        except TimeoutError:
            return Answer(Code.UNAVAILABLE, "the message took too long to arrive", RETRY_AFTER_S)
        if not isinstance(body, bytes):  # the end of a call that sent none
            return Answer(Code.INVALID_ARGUMENT, "the call holds no message")
        try:
            return await self._accept(Received(signal, body, PROTOBUF, _encoding(body), headers))
        except Exception:
            # UNKNOWN would make a sender drop its spans; this way it comes again.
            log.exception("a request of %d bytes could not be taken", len(body))
            return Answer(Code.UNAVAILABLE, "the relay failed on this request; see its log", RETRY_AFTER_S)


class _Gate:
    """Lets `width` in at a time, the newest first: it is the likeliest to be still there and quick.

    Each has `longest_s`, and only `patience_s` while others wait; then its time is over.
    """

    def __init__(self, width: int, longest_s: float, patience_s: float) -> None:
        self._width = width
        self._longest_s, self._patience_s = longest_s, patience_s
        self._inside: dict[asyncio.Timeout, float] = {}  # and since when
        self._waiting: list[asyncio.Future[None]] = []
        self._free = width

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._longest_s) as time_is_up:
            await self._enter(loop)
            try:
                self._inside[time_is_up] = loop.time()
                self._hurry(time_is_up)
                yield
            finally:
                del self._inside[time_is_up]
                self._leave()

    async def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._free:
            self._free -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        for each in self._inside:
            self._hurry(each)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():
                self._leave()  # it was this one's turn just then
            raise

    def _hurry(self, time_is_up: asyncio.Timeout) -> None:
        if self._waiting:
            time_is_up.reschedule(self._inside[time_is_up] + self._patience_s)

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.done():  # its sender may have left in this very moment
                turn.set_result(None)
                return
        self._free += 1


def _headers(metadata: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in metadata or () if isinstance(value, str)}


def _encoding(body: bytes) -> str:
    """How a message is compressed: gRPC does not tell, and no OTLP message begins like this.

    RFC 1952, section 2.3.1; RFC 1950, section 2.2 (its first byte would be a field 15, which comes behind
    all that OTLP has).
    """
    if body[:2] == b"\x1f\x8b":
        return "gzip"
    if body[:1] == b"\x78" and len(body) > 1 and int.from_bytes(body[:2]) % 31 == 0:
        return "deflate"
    return ""


def _answer(context: Any, answer: Answer) -> bytes:
    """End a call; its bytes are sent with OK only.

    Not by `context.abort`: before grpcio 1.81 each such call is counted as open for ever, until the
    connection has no room for another.
    """
    if answer.code is not Code.OK:
        context.set_code(_CODES[answer.code])
        context.set_details(answer.message)
        context.set_trailing_metadata((("grpc-status-details-bin", status_details(answer)),))
    return answer_body(answer, PROTOBUF) if answer.code is Code.OK else b""
