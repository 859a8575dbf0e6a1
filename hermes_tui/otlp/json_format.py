"""OTLP in JSON ↔ its protobuf messages, by one table for both directions.

Sources: the OTLP specification, "JSON Protobuf Encoding" (hex ids, enums as integers, unknown fields
ignored); the ProtoJSON format (64-bit integers as strings, NaN and Infinity as strings, base64). Names
and order, and what is written although it is empty, are those of the Collector's file exporter
(opentelemetry-collector, `pdata/internal/generated_proto_*.go`, `MarshalJSON`).

`google.protobuf.json_format.ParseDict` knows neither hex ids nor lone surrogates and reads 1,600 spans
of Hermes a second; this reads ten times as many.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from hermes_tui.otlp.encodings import BadRequest
from hermes_tui.otlp.json_values import (
    Wrong,
    from_id,
    from_real,
    to_array,
    to_bytes,
    to_choice,
    to_id,
    to_integer,
    to_real,
    to_text,
    to_truth,
    whole,
)

_DEPTH = 100  # messages inside each other; protobuf's own limit, so that both encodings take the same


def load(body: bytes) -> dict[str, Any]:
    """A body as a JSON object. Raises BadRequest when it is none."""
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant)
    except RecursionError:
        raise BadRequest("body is not OTLP in JSON: it is nested too deep") from None
    except ValueError as error:  # also for bytes that are no UTF-8 and integers of 5,000 digits
        raise BadRequest(f"body is not OTLP in JSON: {str(error)[:200]}") from error
    if not isinstance(document, dict):
        raise BadRequest("body is not OTLP in JSON: it is not an object")
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} must be a string")


def build(document: Mapping[str, Any]) -> ExportTraceServiceRequest:
    """The request that a JSON object says. Raises BadRequest naming the first field that is wrong."""
    message = ExportTraceServiceRequest()
    try:
        _fill(message, document, _REQUEST, _DEPTH)
    except Wrong as wrong:
        raise BadRequest(f"body is not an OTLP ExportTraceServiceRequest in JSON: {wrong}") from None
    return message


def dump(message: ExportTraceServiceRequest) -> dict[str, Any]:
    """A request as a JSON object, as the Collector's file exporter writes it."""
    return _REQUEST.write(message)


# ---------------------------------------------------------------------------------------- both ways

Read = Callable[[Any, Any, int], None]
"""Set a field of a message (first) from a JSON value (second); so many messages may still nest."""

Write = Callable[[Any], Any]
"""A field's value as JSON; None when it is empty and therefore not written."""


@dataclass(slots=True, frozen=True)
class _Field:
    name: str  # in JSON: lowerCamelCase
    attribute: str  # in protobuf: snake_case
    read: Read
    write: Write


class _Message:
    """What a message consists of, in the order in which it is written."""

    __slots__ = ("by_name", "fields")

    def __init__(self, *fields: _Field) -> None:
        self.fields = fields
        self.by_name = {name: field.read for field in fields for name in (field.name, field.attribute)}

    def write(self, message: Any) -> dict[str, Any]:
        found = {}
        for field in self.fields:
            value = field.write(getattr(message, field.attribute))
            if value is not None:
                found[field.name] = value
        return found


def _fill(message: Any, document: Any, what: _Message, room: int) -> None:
    if not isinstance(document, dict):
        raise Wrong("is not an object")
    if room == 0:
        raise Wrong("is nested too deep")
    known = what.by_name
    for name, value in document.items():
        if value is not None and (read := known.get(name)) is not None:
            try:
                read(message, value, room - 1)
            except Wrong as wrong:
                wrong.path.append(name)
                raise


def _scalar(name: str, parse: Callable[[Any], Any], write: Write) -> _Field:
    attribute = _snake(name)

    def read(message: Any, value: Any, room: int) -> None:
        parsed = parse(value)
        try:
            setattr(message, attribute, parsed)
        except UnicodeEncodeError:  # half of a character, where a sender has cut a text
            setattr(message, attribute, whole(parsed))
        except (ValueError, OverflowError):
            raise Wrong("is out of range") from None

    return _Field(name, attribute, read, write)


def _one(name: str, what: _Message) -> _Field:
    """A message in a message; written also when it is empty."""
    attribute = _snake(name)

    def read(message: Any, value: Any, room: int) -> None:
        inner = getattr(message, attribute)
        inner.SetInParent()
        _fill(inner, value, what, room)

    return _Field(name, attribute, read, what.write)


def _many(name: str, what: _Message) -> _Field:
    attribute = _snake(name)

    def read(message: Any, value: Any, room: int) -> None:
        items = getattr(message, attribute)
        for at, item in enumerate(to_array(value)):
            try:
                _fill(items.add(), item, what, room)
            except Wrong as wrong:
                wrong.path.append(f"[{at}]")
                raise

    def write(items: Any) -> list[dict[str, Any]] | None:
        return [what.write(item) for item in items] if items else None

    return _Field(name, attribute, read, write)


def _texts(name: str) -> _Field:
    attribute = _snake(name)

    def read(message: Any, value: Any, room: int) -> None:
        getattr(message, attribute).extend(whole(to_text(item)) for item in to_array(value))

    return _Field(name, attribute, read, lambda items: list(items) if items else None)


def _attributes(name: str = "attributes") -> _Field:
    """A list of KeyValue: most of what a span consists of, and mostly texts, which go a shorter way."""
    attribute = _snake(name)

    def read(message: Any, value: Any, room: int) -> None:
        pairs = getattr(message, attribute)
        for at, item in enumerate(to_array(value)):
            pair = pairs.add()
            try:
                pair.key = item["key"]
                (said,) = item["value"].items()
                if said[0] != "stringValue" or room < 2:
                    raise KeyError
                pair.value.string_value = said[1]
            except (KeyError, TypeError, ValueError, AttributeError):
                try:
                    _fill(pair, item, _PAIR, room)
                except Wrong as wrong:
                    wrong.path.append(f"[{at}]")
                    raise

    def write(pairs: Any) -> list[dict[str, Any]] | None:
        return [_PAIR.write(pair) for pair in pairs] if pairs else None

    return _Field(name, attribute, read, write)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _string(name: str) -> _Field:
    return _scalar(name, to_text, lambda value: value or None)


def _hex(name: str) -> _Field:
    return _scalar(name, to_id, from_id)


def _long(name: str) -> _Field:
    return _scalar(name, to_integer, lambda value: str(value) if value else None)


def _int(name: str) -> _Field:
    return _scalar(name, to_integer, lambda value: value or None)


def _enum(name: str, *names: str) -> _Field:
    return _scalar(name, to_choice(names), lambda value: value or None)


# -------------------------------------------------------------------------------------- the messages


class _AnyValue(_Message):
    """A value of any type; which one it is must be said also when it is empty."""

    def write(self, message: Any) -> dict[str, Any]:
        which = message.WhichOneof("value")
        field = _VALUES.get(which)
        return {} if field is None else {field.name: field.write(getattr(message, which))}


_VALUE = _AnyValue()
_PAIR = _Message(_string("key"), _one("value", _VALUE))
_LIST = _Message(_many("values", _VALUE))
_PAIRS = _Message(_attributes("values"))
_VALUES = {
    field.attribute: field
    for field in (
        _scalar("stringValue", to_text, str),
        _scalar("boolValue", to_truth, bool),
        _scalar("intValue", to_integer, str),
        _scalar("doubleValue", to_real, from_real),
        _one("arrayValue", _LIST),
        _one("kvlistValue", _PAIRS),
        _scalar("bytesValue", to_bytes, lambda value: b64encode(value).decode()),
    )
}
_VALUE.by_name.update(
    {name: field.read for field in _VALUES.values() for name in (field.name, field.attribute)}
)

_STATUS = _Message(
    _string("message"), _enum("code", "STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
)
_EVENT = _Message(_long("timeUnixNano"), _string("name"), _attributes(), _int("droppedAttributesCount"))
_LINK = _Message(
    _hex("traceId"),
    _hex("spanId"),
    _string("traceState"),
    _attributes(),
    _int("droppedAttributesCount"),
    _int("flags"),
)
_SPAN = _Message(
    _hex("traceId"),
    _hex("spanId"),
    _string("traceState"),
    _hex("parentSpanId"),
    _int("flags"),
    _string("name"),
    _enum(
        "kind",
        "SPAN_KIND_UNSPECIFIED",
        "SPAN_KIND_INTERNAL",
        "SPAN_KIND_SERVER",
        "SPAN_KIND_CLIENT",
        "SPAN_KIND_PRODUCER",
        "SPAN_KIND_CONSUMER",
    ),
    _long("startTimeUnixNano"),
    _long("endTimeUnixNano"),
    _attributes(),
    _int("droppedAttributesCount"),
    _many("events", _EVENT),
    _int("droppedEventsCount"),
    _many("links", _LINK),
    _int("droppedLinksCount"),
    _one("status", _STATUS),
)
_SCOPE = _Message(_string("name"), _string("version"), _attributes(), _int("droppedAttributesCount"))
_SCOPE_SPANS = _Message(_one("scope", _SCOPE), _many("spans", _SPAN), _string("schemaUrl"))
_ENTITY = _Message(_string("schemaUrl"), _string("type"), _texts("idKeys"), _texts("descriptionKeys"))
_RESOURCE = _Message(
    _attributes(),
    _int("droppedAttributesCount"),
    *[_many("entityRefs", _ENTITY) for name in Resource.DESCRIPTOR.fields_by_name if name == "entity_refs"],
)
_RESOURCE_SPANS = _Message(
    _one("resource", _RESOURCE), _many("scopeSpans", _SCOPE_SPANS), _string("schemaUrl")
)
_REQUEST = _Message(_many("resourceSpans", _RESOURCE_SPANS))
