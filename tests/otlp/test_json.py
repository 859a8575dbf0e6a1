"""OTLP in JSON: read whatever senders write, and written as the Collector writes it."""

from __future__ import annotations

import json
import math
import random
from base64 import b64encode
from typing import Any

import pytest
from google.protobuf import json_format as protojson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from hermes_tui.model.span import Status
from hermes_tui.otlp.codec import JSON, PROTOBUF, BadRequest, Request, read
from tests.support import (
    SECOND,
    body_of,
    recorded_requests,
    recording_names,
    span_id,
    trace_id,
    wire_span,
)

TRACE, SPAN, PARENT = "5B8EFFF798038103D269B633813FC60C", "eee19b7ec3c1b174", "EEE19B7EC3C1B173"

# The example of the OTLP specification (opentelemetry-proto, examples/trace.json), shortened.
EXAMPLE: dict[str, Any] = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "my.library", "version": "1.0.0"},
                    "spans": [
                        {
                            "traceId": TRACE,
                            "spanId": SPAN,
                            "parentSpanId": PARENT,
                            "name": "I'm a server span",
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": "1544712661000000000",
                            "kind": 2,
                            "attributes": [{"key": "my.span.attr", "value": {"stringValue": "some value"}}],
                        }
                    ],
                }
            ],
        }
    ]
}


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def request_of(**fields: Any) -> dict[str, Any]:
    """A request with one span; `fields` are its own, None leaves one out."""
    span = {"traceId": TRACE, "spanId": SPAN, "name": "s", "endTimeUnixNano": "5", **fields}
    span = {name: value for name, value in span.items() if value is not None}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def with_value(value: object) -> dict[str, Any]:
    return request_of(attributes=[{"key": "k", "value": value}])


def value_of(value: object) -> Any:
    """What an attribute's JSON value is read as."""
    return Request(encoded(with_value(value)), JSON).detail(0).attributes["k"]


def message_of(**fields: Any) -> Any:
    """The protobuf span that one in JSON is read as."""
    message = Request(encoded(request_of(**fields)), JSON).message
    return message.resource_spans[0].scope_spans[0].spans[0]


def test_the_specifications_example() -> None:
    request = Request(encoded(EXAMPLE), JSON)
    (entry,) = request.entries()
    assert entry.trace_id == bytes.fromhex(TRACE)
    assert (entry.span_id, entry.parent_id) == (bytes.fromhex(SPAN), bytes.fromhex(PARENT))
    assert (entry.start_ns, entry.end_ns) == (1544712660 * SECOND, 1544712661 * SECOND)
    detail = request.detail(0)
    assert detail.attributes == {"my.span.attr": "some value"}
    assert detail.resource == {"service.name": "my.service"}
    assert detail.scope == "my.library 1.0.0"


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=UTF-8"]
)
def test_the_media_type_decides_whatever_its_parameters(content_type: str) -> None:
    assert len(read(encoded(EXAMPLE), content_type)) == 1
    with pytest.raises(BadRequest):
        read(encoded(EXAMPLE), PROTOBUF)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/jsonl"])
def test_another_media_type_is_refused_by_name(content_type: str) -> None:
    with pytest.raises(BadRequest, match=f"'{content_type}' is not supported; send application/x-protobuf"):
        read(encoded(EXAMPLE), content_type)


def test_a_byte_order_mark_is_tolerated() -> None:
    assert len(read(b"\xef\xbb\xbf" + encoded(EXAMPLE), JSON)) == 1


@pytest.mark.parametrize("body", [b"{}", b'{"resourceSpans": []}', b'{"resourceSpans": null, "x": [[{}]]}'])
def test_a_request_without_spans_is_a_request(body: bytes) -> None:
    assert len(read(body, JSON)) == 0


def in_snake_case(document: Any) -> Any:
    if isinstance(document, list):
        return [in_snake_case(item) for item in document]
    if isinstance(document, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in name): in_snake_case(value)
            for name, value in document.items()
        }
    return document


def test_names_in_snake_case_are_tolerated() -> None:
    camel, snake = Request(encoded(EXAMPLE), JSON), Request(encoded(in_snake_case(EXAMPLE)), JSON)
    assert "resource_spans" in in_snake_case(EXAMPLE)
    assert list(camel.entries()) == list(snake.entries())
    assert camel.detail(0) == snake.detail(0)


def test_unknown_fields_and_null_are_ignored_at_every_level() -> None:
    document: Any = json.loads(encoded(EXAMPLE))
    resource = document["resourceSpans"][0]
    scope = resource["scopeSpans"][0]
    span = scope["spans"][0]
    span["links"] = [{"traceId": TRACE, "spanId": SPAN}]
    span["events"] = [{"name": "e"}]
    span["status"] = {}
    attribute = span["attributes"][0]
    levels = (document, resource, resource["resource"], scope, scope["scope"], span, span["links"][0])
    for level in (*levels, span["events"][0], span["status"], attribute, attribute["value"]):
        level["fromTheFuture"] = {"deep": [1, None, {"x": "y"}]}
        level["droppedAttributesCount"] = None
    assert list(Request(encoded(document), JSON).entries()) == list(Request(encoded(EXAMPLE), JSON).entries())


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_ids_are_hex_of_any_case_in_spans_and_links(change: Any) -> None:
    trace, span = change(TRACE.lower()), change(SPAN)
    link = {"traceId": trace, "spanId": span}
    found = message_of(traceId=trace, spanId=span, parentSpanId=span, links=[link])
    wanted = (bytes.fromhex(TRACE), bytes.fromhex(SPAN))
    assert (found.trace_id, found.span_id, found.parent_span_id) == (*wanted, wanted[1])
    assert (found.links[0].trace_id, found.links[0].span_id) == wanted


@pytest.mark.parametrize(
    ("kind", "code", "read_as"),
    [
        (3, 2, (3, 2)),
        ("SPAN_KIND_CLIENT", "STATUS_CODE_ERROR", (3, 2)),
        ("3", "2", (3, 2)),
        (99, 99, (99, 99)),
        ("SPAN_KIND_OF_THE_FUTURE", "STATUS_CODE_MAYBE", (0, 0)),
        (None, None, (0, 0)),
    ],
)
def test_enums_are_numbers_or_names(kind: object, code: object, read_as: tuple[int, int]) -> None:
    found = message_of(kind=kind, status={"code": code, "message": "m"})
    assert (found.kind, found.status.code, found.status.message) == (*read_as, "m")


NOW = 1_792_000_000_123_456_789


@pytest.mark.parametrize("value", [str(NOW), NOW, 2**63, str(2**64 - 1), 0, "0", 5.0, "007"])
def test_64_bit_integers_are_texts_or_numbers(value: str | float) -> None:
    found = message_of(startTimeUnixNano=value, events=[{"timeUnixNano": value}])
    assert found.start_time_unix_nano == found.events[0].time_unix_nano == int(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"stringValue": "täxt ☃"}, "täxt ☃"),
        ({"stringValue": ""}, ""),
        ({"boolValue": False}, False),
        ({"boolValue": True}, True),
        ({"intValue": "-5"}, -5),
        ({"intValue": 0}, 0),
        ({"intValue": -(2**63)}, -(2**63)),
        ({"doubleValue": 0.5}, 0.5),
        ({"doubleValue": 5}, 5.0),
        ({"doubleValue": "1e3"}, 1000.0),
        ({"doubleValue": "Infinity"}, math.inf),
        ({"doubleValue": "-Infinity"}, -math.inf),
        ({"bytesValue": b64encode(b"\0\xff>?").decode()}, b"\0\xff>?"),
        ({"bytesValue": "AP8-Pw"}, b"\0\xff>?"),
        ({"bytesValue": ""}, b""),
        ({"arrayValue": {"values": [{"stringValue": "a"}, {}, {"intValue": 1}]}}, ["a", None, 1]),
        ({"arrayValue": {}}, []),
        ({"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}}, {"k": "v"}),
        ({"kvlistValue": {"values": None}}, {}),
        ({"string_value": "old"}, "old"),
        ({"intValue": "5", "stringValue": None}, 5),
        ({"stringValue": "first", "intValue": 2}, 2),
    ],
)
def test_values_of_every_kind(value: object, expected: object) -> None:
    found = value_of(value)
    assert (found, type(found)) == (expected, type(expected))


def test_not_a_number_is_written_as_a_text() -> None:
    assert math.isnan(value_of({"doubleValue": "NaN"}))


@pytest.mark.parametrize("value", [None, {}, {"futureValue": 5}])
def test_an_attribute_without_a_value_is_none(value: object) -> None:
    request = Request(encoded(with_value(value)), JSON)
    assert request.detail(0).attributes == {}
    assert len(list(request.entries())) == 1


def test_half_a_character_is_shown_as_one_that_is_not_known() -> None:
    """JavaScript cuts texts in the middle of characters, and then writes lone surrogates."""
    attribute = {"key": "a\udc00", "value": {"stringValue": "y\ud83d"}}
    body = encoded(request_of(name="x\ud83d", attributes=[attribute]))
    assert b"\\ud83d" in body
    request = Request(body, JSON)
    assert [entry.name for entry in request.entries()] == ["x�"]
    assert request.detail(0).attributes == {"a�": "y�"}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b'"text"', b"5", b'{"a": NaN}', b'{"a": Infinity}', b"\xff{}", b"{} {}"),
        *(b'{"resourceSpans": [' + b"[" * 100_000, b'{"x":' * 100_000, b'{"x": ' + b"9" * 5_000 + b"}"),
        *(b"\x0a\x00", '{"a": "ü"}'.encode("utf-16")),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^body is not OTLP in JSON: "):
        read(body, JSON)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"resourceSpans": {}}, "resourceSpans is not an array"),
        ({"resourceSpans": [None]}, r"resourceSpans\[0\] is not an object"),
        (
            {"resourceSpans": [{"scopeSpans": [{"spans": [5]}]}]},
            r"scopeSpans\[0\].spans\[0\] is not an object",
        ),
        (request_of(name=5), r"spans\[0\].name is not a string"),
        (request_of(startTimeUnixNano="soon"), "startTimeUnixNano is not an integer"),
        (request_of(startTimeUnixNano="1_000"), "startTimeUnixNano is not an integer"),
        (request_of(startTimeUnixNano="--5"), "startTimeUnixNano is not an integer"),
        (request_of(startTimeUnixNano="٥"), "startTimeUnixNano is not an integer"),
        (request_of(startTimeUnixNano=1.5), "startTimeUnixNano is not an integer"),
        (request_of(startTimeUnixNano=True), "startTimeUnixNano is not an integer"),
        (request_of(startTimeUnixNano=""), "startTimeUnixNano is not an integer"),
        (request_of(startTimeUnixNano=-1), "startTimeUnixNano is out of range"),
        (request_of(startTimeUnixNano=str(2**64)), "startTimeUnixNano is out of range"),
        (request_of(startTimeUnixNano="9" * 5_000), "startTimeUnixNano is not an integer"),
        (request_of(kind=2**40), "kind is out of range"),
        (request_of(flags=2**32), "flags is out of range"),
        (request_of(traceId="nothex"), "traceId is not an id in hex"),
        (request_of(traceId=" " + TRACE), "traceId is not an id in hex"),
        (request_of(traceId=TRACE[:-1]), "traceId is not an id in hex"),
        (request_of(parentSpanId=5), "parentSpanId is not a string"),
        (request_of(links=[{"traceId": "?"}]), r"links\[0\].traceId is not an id in hex"),
        (request_of(status=[]), "status is not an object"),
        (request_of(attributes=[{"key": 5}]), r"attributes\[0\].key is not a string"),
        (request_of(attributes=["k"]), r"attributes\[0\] is not an object"),
        (request_of(events=[{"attributes": {}}]), r"events\[0\].attributes is not an array"),
        (with_value("text"), r"attributes\[0\].value is not an object"),
        (with_value({"stringValue": 5}), "value.stringValue is not a string"),
        (with_value({"boolValue": "true"}), "value.boolValue is neither true nor false"),
        (with_value({"intValue": 2**63}), "value.intValue is out of range"),
        (with_value({"doubleValue": 10**400}), "value.doubleValue is out of range"),
        (with_value({"doubleValue": "five"}), "value.doubleValue is not a number"),
        (with_value({"doubleValue": True}), "value.doubleValue is not a number"),
        (with_value({"bytesValue": "*"}), "value.bytesValue is not base64"),
        (with_value({"arrayValue": []}), "value.arrayValue is not an object"),
        (with_value({"arrayValue": {"values": ["x"]}}), r"arrayValue.values\[0\] is not an object"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(document: object, said: str) -> None:
    with pytest.raises(
        BadRequest, match=f"^body is not an OTLP ExportTraceServiceRequest in JSON: .*{said}$"
    ):
        read(encoded(document), JSON)


def test_a_number_beyond_every_range_is_refused() -> None:
    body = encoded(with_value({"doubleValue": 0.5})).replace(b"0.5", b"1e999")
    with pytest.raises(BadRequest, match="out of range"):
        read(body, JSON)


@pytest.mark.parametrize(("trace", "span"), [(None, SPAN), ("", SPAN), ("00" * 16, SPAN), (TRACE, SPAN[2:])])
def test_ids_that_are_none_are_refused_as_in_protobuf(trace: str | None, span: str) -> None:
    with pytest.raises(BadRequest, match="'s' has a trace id of"):
        read(encoded(request_of(traceId=trace, spanId=span)), JSON)


def nested(depth: int, *, lists: bool) -> AnyValue:
    value = AnyValue(string_value="core")
    for _ in range(depth):
        outer = AnyValue()
        if lists:
            outer.array_value.values.append(value)
        else:
            outer.kvlist_value.values.add(key="k").value.CopyFrom(value)
        value = outer
    return value


@pytest.mark.parametrize(("lists", "most"), [(True, 47), (False, 31)])
def test_values_may_nest_as_deep_as_in_protobuf(lists: bool, most: int) -> None:
    for depth in (most, most + 1):
        span = wire_span(1)
        span.attributes.add(key="deep").value.CopyFrom(nested(depth, lists=lists))
        message = ExportTraceServiceRequest()
        message.resource_spans.add().scope_spans.add().spans.append(span)
        body = protojson.MessageToJson(message, preserving_proto_field_name=False).encode()
        body = as_hex_ids(body)
        if depth == most:
            assert Request(body, JSON).message == Request(message.SerializeToString()).message
        else:
            with pytest.raises(BadRequest):
                Request(message.SerializeToString())
            with pytest.raises(BadRequest, match="nested too deep"):
                Request(body, JSON)


def as_hex_ids(body: bytes) -> bytes:
    """protobuf's own JSON, whose ids are base64, with the ids of `wire_span(1)` in hex."""
    for number in (trace_id(0), span_id(1)):
        body = body.replace(b64encode(number), number.hex().encode())
    return body


# ------------------------------------------------------------------------------------------- writing


def test_a_request_is_written_as_the_collector_writes_it() -> None:
    """Field by field after opentelemetry-collector, pdata/internal/generated_proto_*.go."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add(schema_url="r")
    resource.resource.attributes.add(key="service.name").value.string_value = "h"
    scope = resource.scope_spans.add(schema_url="s")
    scope.scope.name, scope.scope.version = "lib", "1"
    full = scope.spans.add(
        trace_id=trace_id(1), span_id=span_id(1), parent_span_id=span_id(2), trace_state="a=b", flags=257,
        name="n", kind=3, start_time_unix_nano=NOW, end_time_unix_nano=NOW + 1, dropped_attributes_count=1,
        dropped_events_count=2, dropped_links_count=3,
    )  # fmt: skip
    full.status.code, full.status.message = 2, "bad"  # type: ignore[assignment]
    event = full.events.add(time_unix_nano=5, name="e", dropped_attributes_count=4)
    event.attributes.add(key="k").value.bool_value = False
    link = full.links.add(trace_id=trace_id(3), span_id=span_id(3), trace_state="c", flags=1)
    link.attributes.add(key="").value.int_value = 7
    for key, values in (("whole", {"int_value": 0}), ("real", {"double_value": 0.5})):
        full.attributes.add(key=key).value.CopyFrom(AnyValue(**values))
    full.attributes.add(key="odd").value.double_value = math.nan
    full.attributes.add(key="bytes").value.bytes_value = b"\0\xff>?"
    full.attributes.add(key="list").value.array_value.values.add()
    full.attributes.add(key="map").value.kvlist_value.values.add(key="x").value.string_value = ""
    full.attributes.add(key="none").value.array_value.SetInParent()
    scope.spans.add(trace_id=trace_id(1), span_id=span_id(4), parent_span_id=bytes(8))
    assert Request(message.SerializeToString()).to_json() == (
        '{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"h"}}]},'
        '"scopeSpans":[{"scope":{"name":"lib","version":"1"},"spans":['
        '{"traceId":"00000000000000000000000000000002","spanId":"0000000000000002","traceState":"a=b",'
        '"parentSpanId":"0000000000000003","flags":257,"name":"n","kind":3,'
        '"startTimeUnixNano":"1792000000123456789","endTimeUnixNano":"1792000000123456790","attributes":['
        '{"key":"whole","value":{"intValue":"0"}},{"key":"real","value":{"doubleValue":0.5}},'
        '{"key":"odd","value":{"doubleValue":"NaN"}},{"key":"bytes","value":{"bytesValue":"AP8+Pw=="}},'
        '{"key":"list","value":{"arrayValue":{"values":[{}]}}},'
        '{"key":"map","value":{"kvlistValue":{"values":[{"key":"x","value":{"stringValue":""}}]}}},'
        '{"key":"none","value":{"arrayValue":{}}}],"droppedAttributesCount":1,'
        '"events":[{"timeUnixNano":"5","name":"e","attributes":[{"key":"k","value":{"boolValue":false}}],'
        '"droppedAttributesCount":4}],"droppedEventsCount":2,'
        '"links":[{"traceId":"00000000000000000000000000000004","spanId":"0000000000000004",'
        '"traceState":"c","attributes":[{"value":{"intValue":"7"}}],"flags":1}],"droppedLinksCount":3,'
        '"status":{"message":"bad","code":2}},'
        '{"traceId":"00000000000000000000000000000002","spanId":"0000000000000005","status":{}}],'
        '"schemaUrl":"s"}],"schemaUrl":"r"}]}'
    )


def test_what_is_written_is_one_line_of_printable_ascii() -> None:
    hostile = '\x1b[2J\x9b31m\x7f\x00\u202e\u2028\u2066\U0001f600 ü\r\n\t\\"'
    body = body_of(wire_span(1, name=hostile, text=hostile))
    line = Request(body).to_json()
    assert line.isascii()
    assert line.isprintable()
    assert Request(line.encode(), JSON).detail(0).attributes == {"text": hostile}


@pytest.mark.parametrize("name", recording_names())
def test_recordings_are_the_same_in_json(name: str) -> None:
    for body in recorded_requests(name):
        plain = Request(body)
        there = Request(plain.to_json().encode(), JSON)
        assert list(there.entries()) == list(plain.entries())
        for position in range(len(plain)):
            assert there.detail(position) == plain.detail(position)


@pytest.mark.parametrize("name", recording_names())
def test_recordings_are_read_as_protobufs_own_reader_reads_them(name: str) -> None:
    """ParseDict knows no hex ids; everything else it must read alike, in either way of writing."""
    for body in recorded_requests(name):
        line = Request(body).to_json()
        document = json.loads(line)
        for resource in document["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    base64_ids(span)
                    for link in span.get("links", ()):
                        base64_ids(link)
        parsed = protojson.ParseDict(document, ExportTraceServiceRequest())
        assert Request(line.encode(), JSON).message == parsed


def base64_ids(document: dict[str, Any]) -> None:
    for name in {"traceId", "spanId", "parentSpanId"} & document.keys():
        document[name] = b64encode(bytes.fromhex(document[name])).decode()


def test_a_status_in_json_is_judged() -> None:
    failed = request_of(status={"code": "STATUS_CODE_ERROR", "message": "no"})
    (entry,) = Request(encoded(failed), JSON).entries()
    assert (entry.status, entry.facts["error"]) == (Status.ERROR, "no")


def test_entities_of_a_resource_survive() -> None:
    entity = {"schemaUrl": "s", "type": "host", "idKeys": ["host.id"], "descriptionKeys": ["host.name"]}
    document = request_of()
    document["resourceSpans"][0]["resource"] = {"entityRefs": [entity]}
    line = Request(encoded(document), JSON).to_json()
    assert json.loads(line)["resourceSpans"][0]["resource"] == {"entityRefs": [entity]}


def test_reading_does_not_depend_on_the_order_of_names() -> None:
    shuffled = json.loads(encoded(EXAMPLE), object_pairs_hook=_shuffled)
    assert list(Request(encoded(shuffled), JSON).entries()) == list(Request(encoded(EXAMPLE), JSON).entries())


def _shuffled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(random.Random(len(pairs)).sample(pairs, len(pairs)))
