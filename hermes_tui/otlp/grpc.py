"""The OTLP/gRPC receiver: raw bytes in, the same `accept` as HTTP.

OTLP specification, "OTLP/gRPC"; opentelemetry-proto `trace_service.proto` and its siblings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from hermes_tui.otlp.answers import Accept, Code, Received
from hermes_tui.otlp.codec import EMPTY_ANSWER, MAX_BYTES, PROTOBUF

_SERVICES = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
_CODES = {
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.so_reuseport", 0),  # else two relays would share a port without a word
)
_GRACE_S = 5.0


class GrpcReceiver:
    """Listens for OTLP/gRPC; `address` is the "host:port" it got once started."""

    def __init__(self, accept: Accept, *, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._server = aio.server(options=_OPTIONS)
        for signal, service in _SERVICES.items():
            # No (de)serializers: gRPC hands over the message's very bytes and takes ours.
            method = grpc.unary_unary_rpc_method_handler(_handler(signal, accept))
            handler = grpc.method_handlers_generic_handler(service, {"Export": method})
            self._server.add_generic_rpc_handlers((handler,))
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
        """Stop listening, answer what was taken, close."""
        await self._server.stop(_GRACE_S)


def _handler(signal: str, accept: Accept) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def export(body: bytes, context: Any) -> bytes:
        metadata = context.invocation_metadata() or ()
        headers = {key.lower(): value for key, value in metadata if isinstance(value, str)}
        answer = await accept(Received(signal, body, PROTOBUF, "", headers))
        if answer.code is not Code.OK:
            await context.abort(_CODES[answer.code], answer.message)
        return EMPTY_ANSWER

    return export
