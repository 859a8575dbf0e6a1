"""OTLP requests → spans.

Sources: opentelemetry-proto `trace_service.proto`, `trace.proto`, `common.proto`; the OTLP
specification, "OTLP/HTTP Request". Logfire (`logfire/_internal/tracer.py`, PendingSpanProcessor) for
spans that are announced when they start.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hermes_tui.model.conventions import WANTED, classify
from hermes_tui.model.span import Kind, Role, Status
from hermes_tui.otlp import bounds, json_format
from hermes_tui.otlp.encodings import (
    JSON,
    MAX_BYTES,
    NO_LIMIT,
    PROTOBUF,
    BadRequest,
    TooLarge,
    decompress,
    media_type,
)

__all__ = [
    "JSON",
    "MAX_BYTES",
    "NO_LIMIT",
    "PROTOBUF",
    "BadRequest",
    "Detail",
    "Entry",
    "Request",
    "TooLarge",
    "decompress",
    "media_type",
    "moved",
    "read",
]

_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_STATUSES = tuple(Status)
_DEPTH = 32  # AnyValue may nest without end; deeper parts are shown as their text
_PENDING = b"pending_span"
_ANNOUNCEMENT = frozenset({"logfire.span_type", "logfire.pending_parent_id"})
_PENDING_NAME = " (pending)"  # what older Logfire put behind the name


def read(body: bytes, content_type: str, content_encoding: str = "", limit: int = NO_LIMIT) -> Request:
    """Decode a request as it came, `limit` bytes large at most once unpacked.

    What is in the journal already was held against the limit of its time. Raises BadRequest (TooLarge
    beyond the limit) when it cannot be decoded.
    """
    plain = decompress(body, content_encoding, limit)
    if limit < NO_LIMIT:
        bounds.check(plain, content_type)
    return Request(plain, content_type)


class Request:
    """A decoded export request from uncompressed bytes. Raises BadRequest when they are not one.

    `message` is the protobuf message, for this room only; `size` the bytes it was decoded from.
    """

    __slots__ = ("_pending", "message", "size")

    def __init__(self, body: bytes, content_type: str = PROTOBUF) -> None:
        kind = media_type(content_type)
        self.message: Any
        if kind == PROTOBUF:
            try:
                self.message = ExportTraceServiceRequest.FromString(body)
            except DecodeError as error:
                raise BadRequest("body is not an OTLP ExportTraceServiceRequest in protobuf") from error
        elif kind == JSON:
            self.message = json_format.build(json_format.load(body))
        else:
            raise BadRequest(f"Content-Type {kind[:80]!r} is not supported; send {PROTOBUF} or {JSON}")
        self.size = len(body)
        self._pending = _PENDING in body  # asked once: looking at every span's attributes takes longer
        for span in self._spans():
            trace_id, span_id = span.trace_id, span.span_id
            if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
                raise BadRequest(
                    f"span {span.name[:80]!r} has a trace id of {len(trace_id)} bytes and a span id of "
                    f"{len(span_id)} bytes; OTLP wants 16 and 8, not all zero"
                )

    def __len__(self) -> int:
        message = self.message
        return sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)

    def _spans(self) -> Iterator[Any]:
        for resource_spans in self.message.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                yield from scope_spans.spans

    def ids(self) -> list[tuple[bytes, bytes, int]]:
        """(trace id, span id, end in ns) of every span, in the order of the bytes.

        The end is 0 for one that still runs; one that was announced has the id of the span itself.
        """
        if self._pending:
            return [
                (span.trace_id, span.parent_span_id, 0)
                if _announced(span) is not None
                else (span.trace_id, span.span_id, span.end_time_unix_nano)
                for span in self._spans()
            ]
        return [(span.trace_id, span.span_id, span.end_time_unix_nano) for span in self._spans()]

    def entries(self) -> Iterator[Entry]:
        """What the index keeps of every span, in the order of the bytes."""
        pending = self._pending
        for span in self._spans():
            name, end_ns, said = span.name, span.end_time_unix_nano, span.status
            own_id, parent = span.span_id, span.parent_span_id
            if pending and (real_parent := _announced(span)) is not None:
                own_id, parent, end_ns = parent, real_parent, 0
                name = name.removesuffix(_PENDING_NAME)
            status = _status(said.code)
            kind, role, facts = classify(
                name,
                _attributes(span.attributes, WANTED),
                status=status,
                message=said.message,
                running=end_ns == 0,
            )
            yield Entry(
                span.trace_id,
                own_id,
                parent if len(parent) == 8 and parent != _NO_SPAN else b"",
                name,
                span.start_time_unix_nano,
                end_ns,
                kind,
                role,
                status,
                facts,
            )

    def to_json(self) -> str:
        """The request on one line, as the Collector's file exporter writes it, in printable ASCII."""
        return json.dumps(json_format.dump(self.message), separators=(",", ":"), allow_nan=False)

    def detail(self, position: int) -> Detail:
        """All of the span at `position` (its place in the order of the bytes).

        Raises IndexError when the request has fewer spans.
        """
        at = 0
        for resource_spans in self.message.resource_spans:
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


def _announced(span: Any) -> bytes | None:
    """The parent of the span that this one announces; None when it announces none.

    Logfire sends one of these when a span starts: with an id of its own, below the span itself, and
    with the span's own parent in an attribute (zeros for a root).
    """
    if len(span.parent_span_id) != 8 or span.parent_span_id == _NO_SPAN:
        return None
    said = _attributes(span.attributes, _ANNOUNCEMENT)
    if said.get("logfire.span_type") != "pending_span":
        return None
    parent = said.get("logfire.pending_parent_id")
    try:
        return bytes.fromhex(parent) if isinstance(parent, str) else b""
    except ValueError:
        return b""


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


def moved(body: bytes, nanoseconds: int, content_type: str = PROTOBUF) -> bytes:
    """An uncompressed request with every time shifted; for replaying a recording as if it were now.

    JSON comes back as the Collector writes it. Raises BadRequest when the body is no request, ValueError
    when a time cannot be moved so far.
    """
    request = Request(body, content_type)
    message = request.message
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.start_time_unix_nano += nanoseconds
                if span.end_time_unix_nano:
                    span.end_time_unix_nano += nanoseconds
                for event in span.events:
                    event.time_unix_nano += nanoseconds
    if media_type(content_type) == JSON:
        return request.to_json().encode()
    return bytes(message.SerializeToString())
