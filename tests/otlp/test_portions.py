"""Requests merged and parted: every span where it belongs, nothing that nobody knows lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hermes_tui.otlp.codec import JSON, PROTOBUF, BadRequest, Request
from hermes_tui.otlp.portions import merge, pick
from tests.otlp.wire import field
from tests.support import body_of, recorded_requests, recording_names, span_id, trace_id, wire_span

UNKNOWN = 3_000  # a field number that no message has
Key = tuple[bytes, bytes, int]


def unknown(text: str) -> bytes:
    return field(UNKNOWN, text.encode())


def span_bytes(number: int) -> bytes:
    return wire_span(number).SerializeToString() + unknown(f"span {number}")


def full_request(*resources: list[list[int]]) -> bytes:
    """A request with spans by number, and something that nobody knows at every level."""
    body = unknown("request")
    for at, scopes in enumerate(resources):
        attribute = field(1, b"service.name") + field(
            2, field(1, f"service {at}".encode()) + unknown("value")
        )
        inside = field(1, field(1, attribute + unknown("attribute")) + unknown(f"resource {at}"))
        for number, spans in enumerate(scopes):
            scope = field(1, field(1, f"scope {number}".encode()) + unknown(f"scope {number}"))
            scope += b"".join(field(2, span_bytes(each)) for each in spans)
            inside += field(2, scope + field(3, b"schema of a scope") + unknown(f"spans of scope {number}"))
        body += field(1, inside + field(3, b"schema of a resource") + unknown(f"spans of resource {at}"))
    return body


def as_document(*resources: list[list[int]]) -> dict[str, Any]:
    """The same in JSON."""
    return {
        "fromTheFuture": 1,
        "resourceSpans": [
            {
                "resource": {"attributes": [], "fromTheFuture": at},
                "scopeSpans": [
                    {
                        "scope": {"name": f"scope {number}", "fromTheFuture": 3},
                        "spans": [
                            {
                                "traceId": trace_id(0).hex(),
                                "spanId": span_id(each).hex().upper(),
                                "endTimeUnixNano": wire_span(each).end_time_unix_nano,
                                "fromTheFuture": {"a": ["ü", 0.1, 10**30, "\ud83d"]},
                            }
                            for each in spans
                        ],
                        "schemaUrl": "schema of a scope",
                        "fromTheFuture": 4,
                    }
                    for number, spans in enumerate(scopes)
                ],
                "schemaUrl": "schema of a resource",
                "fromTheFuture": 5,
            }
            for at, scopes in enumerate(resources)
        ],
    }


def key(number: int) -> Key:
    return trace_id(0), span_id(number), wire_span(number).end_time_unix_nano


SHAPES = st.lists(st.lists(st.lists(st.integers(0, 20), max_size=3), max_size=3), max_size=3)


def without(shape: list[list[list[int]]], wanted: set[int]) -> list[list[list[int]]]:
    scopes = [[[n for n in spans if n in wanted] for spans in resource] for resource in shape]
    kept = [[spans for spans in resource if spans] for resource in scopes]
    return [resource for resource in kept if resource]


@given(SHAPES, st.sets(st.integers(0, 20)))
def test_what_is_picked_keeps_everything_around_it(shape: list[list[list[int]]], wanted: set[int]) -> None:
    """Scopes and resources keep their number in the names, so that the wrong one would be seen."""
    body = full_request(*shape)
    picked = pick(body, PROTOBUF, {key(number) for number in wanted})
    numbers = [number for resource in shape for spans in resource for number in spans]
    left = [number for number in numbers if number in wanted]
    assert Request(picked).ids() == [key(number) for number in left]
    if left == numbers:
        assert picked == body
        return
    message = ExportTraceServiceRequest.FromString(picked)
    assert [[list(map(_number, s.spans)) for s in r.scope_spans] for r in message.resource_spans] == without(
        shape, wanted
    )
    for number in left:
        assert span_bytes(number) in picked
    for at, resource in enumerate(shape):
        for text in (f"service {at}", f"resource {at}", f"spans of resource {at}"):
            stays = any(n in wanted for spans in resource for n in spans)
            assert (unknown(text) in picked or field(1, text.encode()) in picked) is stays
    for text in ("value", "attribute"):
        assert picked.count(unknown(text)) == len(message.resource_spans)
    assert unknown("request") in picked


def _number(span: Any) -> int:
    return int.from_bytes(span.span_id, "big") - 1


@given(SHAPES, st.sets(st.integers(0, 20)))
def test_json_is_picked_alike(shape: list[list[list[int]]], wanted: set[int]) -> None:
    body = json.dumps(as_document(*shape)).encode()
    picked = pick(body, "application/json; charset=utf-8", {key(number) for number in wanted})
    expected = as_document(*without(shape, wanted))
    numbers = [number for resource in shape for spans in resource for number in spans]
    if all(number in wanted for number in numbers):
        assert picked == body
        return
    found = json.loads(picked)
    kept = [at for at, resource in enumerate(shape) if any(n in wanted for spans in resource for n in spans)]
    assert [each["resource"]["fromTheFuture"] for each in found["resourceSpans"]] == kept
    for resource, there in zip(found["resourceSpans"], expected["resourceSpans"], strict=True):
        there["resource"]["fromTheFuture"] = resource["resource"]["fromTheFuture"]
        for scope, scope_there in zip(resource["scopeSpans"], there["scopeSpans"], strict=True):
            scope_there["scope"]["name"] = scope["scope"]["name"]
    assert found == expected


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_parts_are_the_whole(content_type: str) -> None:
    for name in recording_names():
        for body in recorded_requests(name):
            whole = body if content_type == PROTOBUF else Request(body).to_json().encode()
            keys = Request(whole, content_type).ids()
            halves = [pick(whole, content_type, set(part)) for part in (keys[::2], keys[1::2])]
            again = Request(merge(halves, content_type), content_type)
            assert sorted(again.ids()) == sorted(keys)
            spans = {entry.span_id: entry for entry in Request(whole, content_type).entries()}
            assert {entry.span_id: entry for entry in again.entries()} == spans


def test_the_same_span_twice_is_picked_twice() -> None:
    body = full_request([[1, 1], [2]])
    assert Request(pick(body, PROTOBUF, {key(1)})).ids() == [key(1), key(1)]


def test_another_end_is_another_version() -> None:
    body = body_of(wire_span(1, end_ns=5), wire_span(1, end_ns=6))
    picked = pick(body, PROTOBUF, {(trace_id(0), span_id(1), 6)})
    assert Request(picked).ids() == [(trace_id(0), span_id(1), 6)]


def test_nothing_picked_is_no_span() -> None:
    for body, content_type in (
        (full_request([[1]]), PROTOBUF),
        (json.dumps(as_document([[1]])).encode(), JSON),
    ):
        assert len(Request(pick(body, content_type, set()), content_type)) == 0


def test_json_in_snake_case_is_picked_and_merged() -> None:
    text = json.dumps(as_document([[1, 2]], [[3]])).replace("resourceSpans", "resource_spans")
    body = text.replace("scopeSpans", "scope_spans").encode()
    picked = pick(body, JSON, {key(2), key(3)})
    assert Request(picked, JSON).ids() == [key(2), key(3)]
    merged = merge([body, picked, json.dumps(as_document([[4]])).encode()], JSON)
    assert Request(merged, JSON).ids() == [key(n) for n in (1, 2, 3, 2, 3, 4)]


# ------------------------------------------------------------------------------------------- merging


@given(st.lists(SHAPES, max_size=4))
def test_what_is_merged_comes_in_order(shapes: list[list[list[list[int]]]]) -> None:
    bodies = [full_request(*shape) for shape in shapes]
    keys = [each for body in bodies for each in Request(body).ids()]
    merged = merge(bodies, PROTOBUF)
    assert Request(merged).ids() == keys
    assert merged.count(unknown("request")) == len(bodies)
    documents = [json.dumps(as_document(*shape)).encode() for shape in shapes]
    assert Request(merge(documents, JSON), JSON).ids() == keys


def test_fields_beside_the_spans_are_those_of_the_first() -> None:
    documents = [{"a": 1, "resourceSpans": None}, {"a": 2, "b": 3, **as_document([[1]])}]
    merged = json.loads(merge([json.dumps(each).encode() for each in documents], JSON))
    assert merged == {"a": 1, "resourceSpans": as_document([[1]])["resourceSpans"]}


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON, "Application/JSON; charset=utf-8"])
def test_one_alone_keeps_its_very_bytes(content_type: str) -> None:
    assert merge([b" whatever "], content_type) == b" whatever "


@pytest.mark.parametrize("bodies", [[b"{}", b"broken"], [b"[]", b"{}"]])
def test_what_is_no_json_cannot_be_merged(bodies: list[bytes]) -> None:
    with pytest.raises(BadRequest, match="not OTLP in JSON"):
        merge(bodies, JSON)


@pytest.mark.parametrize(
    "work", [lambda: merge([b"", b""], "text/plain"), lambda: pick(b"", "text/plain", ())]
)
def test_another_media_type_is_refused(work: Any) -> None:
    with pytest.raises(BadRequest, match="text/plain"):
        work()
