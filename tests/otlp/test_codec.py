"""OTLP bytes: refusals with a reason, everything a span says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from hermes_tui.model.span import Kind, Role, Status
from hermes_tui.otlp.codec import (
    BadRequest,
    Request,
    moved,
)
from tests.otlp.wire import field
from tests.support import (
    SECOND,
    body_of,
    recorded_requests,
    recording_names,
    span_id,
    trace_id,
    wire_span,
    wire_spans_in,
)

BODY = body_of(wire_span(1, session__id="S"), wire_span(2, parent=1))


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"garbage", b'{"resourceSpans": []}', BODY[:-3]])
def test_what_is_no_export_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not an OTLP ExportTraceServiceRequest"):
        Request(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    try:
        request = Request(body)
    except BadRequest:
        return
    assert len(list(request.entries())) == len(request) == len(request.ids())


def test_an_empty_request_is_a_request() -> None:
    assert len(Request(b"")) == 0


def with_ids(trace: bytes, span: bytes) -> bytes:
    return body_of(
        wire_span(1), trace_pb2.Span(trace_id=trace, span_id=span, name="odd one", end_time_unix_nano=1)
    )


@pytest.mark.parametrize(
    ("trace", "span"),
    [
        (b"", span_id(1)),
        (trace_id(1)[:15], span_id(1)),
        (trace_id(1) * 2, span_id(1)),
        (bytes(16), span_id(1)),
        (trace_id(1), b""),
        (trace_id(1), span_id(1)[:7]),
        (trace_id(1), bytes(8)),
    ],
)
def test_ids_that_are_none_are_refused_with_the_spans_name(trace: bytes, span: bytes) -> None:
    with pytest.raises(BadRequest, match="'odd one'"):
        Request(with_ids(trace, span))


@pytest.mark.parametrize("parent", [b"", bytes(8), b"short", span_id(1) * 2])
def test_a_parent_id_that_is_none_makes_a_root(parent: bytes) -> None:
    span = wire_span(1)
    span.parent_span_id = parent
    (entry,) = Request(body_of(span)).entries()
    assert entry.parent_id == b""


def test_entries_carry_identity_times_and_facts() -> None:
    span = wire_span(
        2, parent=1, trace=5, name="api.m", status=2, session__id="S", gen_ai__usage__input_tokens=12
    )
    span.status.message = "no quota"
    (entry,) = Request(body_of(span)).entries()
    assert (entry.trace_id, entry.span_id, entry.parent_id) == (trace_id(5), span_id(2), span_id(1))
    assert (entry.start_ns, entry.end_ns) == (1_002 * SECOND, 1_003 * SECOND)
    assert (entry.kind, entry.role, entry.status) == (Kind.LLM, Role.MODEL_CALL, Status.ERROR)
    assert entry.facts == {"session": "S", "input_tokens": 12, "error": "no quota"}


def test_a_status_code_from_the_future_counts_as_unset() -> None:
    span = wire_span(1)
    span.status.code = 7  # type: ignore[assignment]
    request = Request(body_of(span))
    assert next(request.entries()).status is Status.UNSET
    assert request.detail(0).status is Status.UNSET


def test_details_are_found_by_position_over_resources_and_scopes() -> None:
    message = ExportTraceServiceRequest()
    for service, scopes in (("one", [2, 0, 1]), ("two", [3])):
        resource = message.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = service
        for count in scopes:
            scope = resource.scope_spans.add()
            scope.scope.name, scope.scope.version = f"scope-{count}", "1"
            scope.spans.extend(
                wire_span((service == "two" and 10 + n) or n, trace=count) for n in range(count)
            )
    request = Request(message.SerializeToString())
    found = [request.detail(position) for position in range(len(request))]
    assert [(each.resource["service.name"], each.scope) for each in found] == [
        ("one", "scope-2 1"),
        ("one", "scope-2 1"),
        ("one", "scope-1 1"),
        ("two", "scope-3 1"),
        ("two", "scope-3 1"),
        ("two", "scope-3 1"),
    ]
    with pytest.raises(IndexError, match="6 spans"):
        request.detail(6)


def test_details_have_events_and_links() -> None:
    span = wire_span(1)
    event = span.events.add(time_unix_nano=5, name="exception")
    event.attributes.add(key="exception.type").value.string_value = "ValueError"
    link = span.links.add(trace_id=trace_id(9), span_id=span_id(9))
    link.attributes.add(key="why").value.string_value = "/new"
    detail = Request(body_of(span)).detail(0)
    assert detail.events == [(5, "exception", {"exception.type": "ValueError"})]
    assert detail.links == [(trace_id(9), span_id(9), {"why": "/new"})]


def test_every_kind_of_value_becomes_a_plain_one() -> None:
    span = wire_span(1, text="t", whole=5, real=0.5, yes=True)
    pairs = span.attributes
    pairs.add(key="bytes").value.bytes_value = b"\0\xff"
    pairs.add(key="nothing")
    items = pairs.add(key="list").value.array_value.values
    items.add(string_value="a")
    items.add()
    items.add().kvlist_value.values.add(key="k").value.int_value = 7
    pairs.add(key="empty").value.kvlist_value.SetInParent()
    assert Request(body_of(span)).detail(0).attributes == {
        "text": "t",
        "whole": 5,
        "real": 0.5,
        "yes": True,
        "bytes": b"\0\xff",
        "list": ["a", None, {"k": 7}],
        "empty": {},
    }


@pytest.mark.parametrize(
    ("depth", "as_list"), [(1, True), (32, True), (33, True), (45, True), (1, False), (25, False)]
)
def test_nested_values_are_read_to_a_depth_and_named_below_it(depth: int, as_list: bool) -> None:
    value = AnyValue(string_value="core")
    for _ in range(depth):
        outer = AnyValue()
        if as_list:
            outer.array_value.values.append(value)
        else:
            outer.kvlist_value.values.add(key="k").value.CopyFrom(value)
        value = outer
    span = wire_span(1)
    span.attributes.add(key="deep").value.CopyFrom(value)
    found = Request(body_of(span)).detail(0).attributes["deep"]
    levels = 0
    while isinstance(found, list | dict):
        found = found[0] if isinstance(found, list) else found["k"]
        levels += 1
    assert levels == min(depth, 32)
    assert found == ("core" if depth <= 32 else "[…]")


def test_values_nested_beyond_protobufs_own_limit_are_refused_not_a_crash() -> None:
    value = field(1, b"x")
    for _ in range(2_000):
        value = field(5, field(1, value))
    body = wire_span(1).SerializeToString() + field(9, field(1, b"k") + field(2, value))
    for number in (2, 2, 1):  # spans, scope_spans, resource_spans
        body = field(number, body)
    with pytest.raises(BadRequest):
        Request(body)


@pytest.mark.parametrize("name", recording_names())
def test_recorded_requests_are_read_whole(name: str) -> None:
    for body in recorded_requests(name):
        request, wire = Request(body), wire_spans_in(body)
        assert request.ids() == [(s.trace_id, s.span_id, s.end_time_unix_nano) for s in wire]
        assert [entry.name for entry in request.entries()] == [s.name for s in wire]
        for position, span in enumerate(wire):
            detail = request.detail(position)
            texts = {p.key: p.value.string_value for p in span.attributes if p.value.HasField("string_value")}
            assert {key: detail.attributes[key] for key in texts} == texts


def test_moving_a_request_shifts_times_and_nothing_else() -> None:
    running = wire_span(3, end_ns=0)
    running.events.add(time_unix_nano=7, name="e")
    before = body_of(wire_span(1, session__id="S"), running)
    after = moved(before, 5)
    first, second = wire_spans_in(after)
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (1_001 * SECOND + 5, 1_002 * SECOND + 5)
    assert (second.end_time_unix_nano, second.events[0].time_unix_nano) == (0, 12)
    assert moved(after, -5) == before
