"""OTLP bytes → spans, and the bytes of answers; the only user of protobuf.

Sources: opentelemetry-proto `trace_service.proto`, `trace.proto`, `common.proto`; the OTLP
specification, sections "OTLP/HTTP Request" and "OTLP/HTTP Response"; google/rpc/status.proto.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from hermes_tui.model.conventions import WANTED, classify
from hermes_tui.model.span import Kind, Role, Status

PROTOBUF = "application/x-protobuf"
EMPTY_ANSWER: bytes = ExportTraceServiceResponse().SerializeToString()
MAX_BYTES = 64 * 1024 * 1024
"""Largest request, before and after decompression."""

_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_STATUSES = tuple(Status)
_DEPTH = 32  # AnyValue may nest without end; deeper parts are shown as their text


class BadRequest(ValueError):
    """The sender's fault; the message says what was wrong, and sending it again will not help."""


class TooLarge(BadRequest):
    """The request is larger than the limit, before or after decompression."""


def decompress(body: bytes, encoding: str, limit: int = MAX_BYTES) -> bytes:
    """The identity bytes of a body with the given Content-Encoding (identity or gzip).

    Raises BadRequest for an unknown encoding or broken data, TooLarge beyond `limit` bytes.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        plain = body
    elif encoding == "gzip":
        plain = _gunzip(body, limit)
    else:
        raise BadRequest(f"Content-Encoding {encoding!r} is not supported; send gzip or none")
    if len(plain) > limit:
        raise TooLarge(f"request of {len(plain)} bytes; the limit is {limit}")
    return plain


def _gunzip(body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while rest:
            member = zlib.decompressobj(wbits=31)
            part = member.decompress(rest, limit - size + 1)
            size += len(part)
            if size > limit:
                raise TooLarge(f"request of more than {limit} bytes after decompression")
            if not member.eof:
                raise BadRequest("gzip body ends too early")
            parts.append(part)
            rest = member.unused_data
    except zlib.error as error:
        raise BadRequest(f"body is not valid gzip: {error}") from error
    return b"".join(parts)


class Request:
    """A decoded export request. Raises BadRequest when the bytes are not one."""

    __slots__ = ("_message",)

    def __init__(self, body: bytes) -> None:
        try:
            self._message = ExportTraceServiceRequest.FromString(body)
        except DecodeError as error:
            raise BadRequest("body is not an OTLP ExportTraceServiceRequest in protobuf") from error
        for span in self._spans():
            trace_id, span_id = span.trace_id, span.span_id
            if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
                raise BadRequest(
                    f"span {span.name[:80]!r} has a trace id of {len(trace_id)} bytes and a span id of "
                    f"{len(span_id)} bytes; OTLP wants 16 and 8, not all zero"
                )

    def __len__(self) -> int:
        message = self._message
        return sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)

    def _spans(self) -> Iterator[Any]:
        for resource_spans in self._message.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                yield from scope_spans.spans

    def ids(self) -> list[tuple[bytes, bytes, int]]:
        """(trace id, span id, end in ns) of every span, in the order of the bytes."""
        return [(span.trace_id, span.span_id, span.end_time_unix_nano) for span in self._spans()]

    def entries(self) -> Iterator[Entry]:
        """What the index keeps of every span, in the order of the bytes."""
        for span in self._spans():
            name, end_ns, said = span.name, span.end_time_unix_nano, span.status
            status = _status(said.code)
            kind, role, facts = classify(
                name,
                _attributes(span.attributes, WANTED),
                status=status,
                message=said.message,
                running=end_ns == 0,
            )
            parent = span.parent_span_id
            yield Entry(
                span.trace_id,
                span.span_id,
                parent if len(parent) == 8 and parent != _NO_SPAN else b"",
                name,
                span.start_time_unix_nano,
                end_ns,
                kind,
                role,
                status,
                facts,
            )

    def detail(self, position: int) -> Detail:
        """All of the span at `position` (its place in the order of the bytes).

        Raises IndexError when the request has fewer spans.
        """
        at = 0
        for resource_spans in self._message.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                if position < at + len(scope_spans.spans):
                    span = scope_spans.spans[position - at]
                    resource = _attributes(resource_spans.resource.attributes)
                    return _detail(span, resource, scope_spans.scope)
                at += len(scope_spans.spans)
        raise IndexError(f"request has {at} spans, none at {position}")


@dataclass(slots=True)
class Entry:
    """One span for the index: identity, times, and the facts worth a row."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    start_ns: int
    end_ns: int
    kind: Kind
    role: Role
    status: Status
    facts: dict[str, Any]


@dataclass(slots=True)
class Detail:
    """Everything a span says, for the details view; times in ns since the epoch."""

    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str
    status: Status
    message: str
    events: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    links: list[tuple[bytes, bytes, dict[str, Any]]] = field(default_factory=list)


def _detail(span: Any, resource: dict[str, Any], scope: Any) -> Detail:
    return Detail(
        attributes=_attributes(span.attributes),
        resource=resource,
        scope=f"{scope.name} {scope.version}".strip(),
        status=_status(span.status.code),
        message=span.status.message,
        events=[(e.time_unix_nano, e.name, _attributes(e.attributes)) for e in span.events],
        links=[(k.trace_id, k.span_id, _attributes(k.attributes)) for k in span.links],
    )


def _status(code: int) -> Status:
    return _STATUSES[code] if 0 <= code < len(_STATUSES) else Status.UNSET


def _attributes(pairs: Any, wanted: Collection[str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        key = pair.key
        if wanted is None or key in wanted:
            value = pair.value
            if text := value.string_value:  # most are; asking which one it is costs as much again
                found[key] = text
            elif (which := value.WhichOneof("value")) is not None:
                found[key] = _value(value, which, _DEPTH)
    return found


def _value(value: Any, which: str | None, depth: int) -> Any:
    if which == "array_value":
        if depth == 0:
            return "[…]"
        return [_value(item, item.WhichOneof("value"), depth - 1) for item in value.array_value.values]
    if which == "kvlist_value":
        if depth == 0:
            return "{…}"
        return {
            pair.key: _value(pair.value, pair.value.WhichOneof("value"), depth - 1)
            for pair in value.kvlist_value.values
        }
    return None if which is None else getattr(value, which)


def moved(body: bytes, nanoseconds: int) -> bytes:
    """An uncompressed request with every time shifted; for replaying a recording as if it were now."""
    message = ExportTraceServiceRequest.FromString(body)
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.start_time_unix_nano += nanoseconds
                if span.end_time_unix_nano:
                    span.end_time_unix_nano += nanoseconds
                for event in span.events:
                    event.time_unix_nano += nanoseconds
    return bytes(message.SerializeToString())


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def status_body(code: int, message: str) -> bytes:
    """A google.rpc.Status in protobuf: code = 1 (varint), message = 2 (string).

    Written out because the two fields are all it takes and googleapis-common-protos is a large
    dependency for them.
    """
    text = message.encode("utf-8", "replace")
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text
