"""Whatever bytes come in: a request that can be used in every way, or BadRequest, never anything else.

HERMES_TRACE_TEST_FUZZ=20000 runs so many examples of each, other ones every time.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from contextlib import suppress
from functools import cache
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from hermes_tui.otlp.codec import JSON, PROTOBUF, BadRequest, Request, moved, read
from hermes_tui.otlp.portions import merge, pick
from tests.otlp.test_pending import announced
from tests.otlp.wire import field, varint
from tests.support import body_of, recorded_requests, recording_names, wire_span

_ASKED = int(os.environ.get("HERMES_TRACE_TEST_FUZZ", "0"))
fuzz = settings(max_examples=_ASKED or 150, derandomize=not _ASKED, database=None)

LIMIT = 4 * 1024 * 1024


def use(body: bytes, content_type: str, encoding: str = "") -> Request | None:
    """Everything that is ever done with a request; None when it is refused."""
    try:
        request = read(body, content_type, encoding, LIMIT)
    except BadRequest:
        event("refused")
        return None
    event("taken")
    entries = list(request.entries())
    ids = request.ids()
    assert [(entry.trace_id, entry.span_id, entry.end_ns) for entry in entries] == ids
    assert len(request) == len(ids)
    for position in range(len(request)):
        assert request.detail(position).attributes is not None
    line = request.to_json()
    assert line.isascii()
    assert line.isprintable()
    again = Request(line.encode(), JSON)
    assert repr(list(again.entries())) == repr(entries)  # NaN is not equal to itself
    if not encoding:
        part(body, content_type, ids)
        shift = max((-entry.start_ns for entry in entries), default=0)
        with suppress(ValueError):  # an event's time may still be too early to be moved
            assert len(Request(moved(body, shift, content_type), content_type)) == len(request)
    return request


def part(body: bytes, content_type: str, ids: list[tuple[bytes, bytes, int]]) -> None:
    """Picked halves make the whole; merged bodies keep their order."""
    odd = set(ids[1::2])
    halves = [pick(body, content_type, odd), pick(body, content_type, set(ids) - odd)]
    assert Request(halves[0], content_type).ids() == [key for key in ids if key in odd]
    assert Request(halves[1], content_type).ids() == [key for key in ids if key not in odd]
    assert Request(merge([*halves, body], content_type), content_type).ids() == [
        *(key for key in ids if key in odd),
        *(key for key in ids if key not in odd),
        *ids,
    ]


# -------------------------------------------------------------------------------------------- corpus


@cache
def corpus() -> tuple[bytes, ...]:
    """Recorded requests with their long texts cut: what is changed should be structure, not prose."""
    bodies = [
        body_of(wire_span(1, session__id="S", n=1, x=0.5, b=True)),
        body_of(announced(2, parent=1)),
        b"",
    ]
    for name in recording_names():
        for body in recorded_requests(name)[:3]:
            document = json.loads(Request(body).to_json())
            bodies.append(Request(json.dumps(shortened(document)).encode(), JSON).message.SerializeToString())
    return tuple(bodies)


def shortened(document: Any) -> Any:
    if isinstance(document, list):
        return [shortened(item) for item in document[:12]]
    if isinstance(document, dict):
        return {name: shortened(value) for name, value in document.items()}
    return document[:60] if isinstance(document, str) else document


@cache
def json_corpus() -> tuple[bytes, ...]:
    return tuple(Request(body).to_json().encode() for body in corpus())


@st.composite
def changed(draw: st.DrawFn, bodies: tuple[bytes, ...]) -> bytes:
    """A body with a few bytes flipped, cut out, doubled, or taken from another one."""
    body = draw(st.sampled_from(bodies))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 40)))
        how = draw(st.sampled_from(("flip", "cut", "double", "splice", "insert", "end")))
        if how == "flip" and start < len(body):
            body = body[:start] + bytes([body[start] ^ (1 << draw(st.integers(0, 7)))]) + body[start + 1 :]
        elif how == "cut":
            body = body[:start] + body[end:]
        elif how == "double":
            body = body[:end] + body[start:]
        elif how == "splice":
            other = draw(st.sampled_from(bodies))
            at = draw(st.integers(0, len(other)))
            body = body[:start] + other[at : at + 200] + body[end:]
        elif how == "insert":
            body = body[:start] + draw(st.binary(max_size=12)) + body[start:]
        elif how == "end":
            body = body[:start]
    return body


@fuzz
@given(changed(corpus()))
def test_changed_protobuf(body: bytes) -> None:
    use(body, PROTOBUF)


@fuzz
@given(changed(json_corpus()))
def test_changed_json(body: bytes) -> None:
    use(body, JSON)


@fuzz
@given(
    changed(tuple(gzip.compress(body, mtime=0) for body in corpus())), st.sampled_from(("gzip", "deflate"))
)
def test_changed_gzip(body: bytes, encoding: str) -> None:
    use(body, PROTOBUF, encoding)


@fuzz
@given(changed(tuple(zlib.compress(body) for body in corpus())), st.sampled_from((PROTOBUF, JSON)))
def test_changed_deflate(body: bytes, content_type: str) -> None:
    use(body, content_type, "deflate")


# ------------------------------------------------------------------------- bytes that look like OTLP


@st.composite
def wire(draw: st.DrawFn, depth: int = 7) -> bytes:
    """Fields with numbers that OTLP has, of any wire type, inside each other."""
    out = b""
    for _ in range(draw(st.integers(0, 4 if depth > 3 else 2))):
        number = draw(st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 99)))
        kind = draw(st.sampled_from(("inside", "inside", "bytes", "varint", "fixed64", "fixed32", "group")))
        if kind == "inside" and depth:
            out += field(number, draw(wire(depth=depth - 1)))
        elif kind == "varint":
            out += varint(number << 3) + varint(draw(st.integers(0, 2**64 - 1)))
        elif kind == "fixed64":
            out += varint(number << 3 | 1) + draw(st.binary(min_size=8, max_size=8))
        elif kind == "fixed32":
            out += varint(number << 3 | 5) + draw(st.binary(min_size=4, max_size=4))
        elif kind == "group":
            out += varint(number << 3 | 3) + varint(number << 3 | 4)
        else:
            sizes = st.sampled_from((0, 1, 8, 16))
            out += field(number, draw(st.binary(min_size=(size := draw(sizes)), max_size=size)))
    return out


@st.composite
def odd_request(draw: st.DrawFn) -> bytes:
    """A request whose spans have ids and, beside them, fields of any kind."""
    spans = b""
    for _ in range(draw(st.integers(1, 3))):
        ids = field(1, b"t" * 16) + field(2, draw(st.sampled_from((b"s" * 8, b"p" * 8, bytes(8)))))
        spans += field(2, ids + draw(wire()))
    return draw(wire(depth=2)) + field(1, draw(wire(depth=2)) + field(2, spans + draw(wire(depth=3))))


@fuzz
@given(st.one_of(wire(), odd_request(), st.binary(max_size=300)))
def test_bytes_that_look_like_protobuf(body: bytes) -> None:
    use(body, PROTOBUF)


_NAMES = (
    *("resourceSpans", "scopeSpans", "spans", "resource", "scope", "attributes", "events", "links", "status"),
    *("traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "flags"),
    *("key", "value", "stringValue", "intValue", "doubleValue", "boolValue", "bytesValue", "arrayValue"),
    *("kvlistValue", "values", "code", "message", "trace_id", "span_id", "droppedAttributesCount", "x"),
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "1700000000000000000", "NaN", "-1")
    ),
)
_DOCUMENTS = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5)
    ),
    max_leaves=20,
)


@st.composite
def odd_document(draw: st.DrawFn) -> Any:
    """A recorded request in which some values were replaced by anything."""
    document = json.loads(draw(st.sampled_from(json_corpus())))
    for _ in range(draw(st.integers(1, 3))):
        parent: Any = document
        while True:
            places = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            inner = parent[place]
            if not isinstance(inner, dict | list) or draw(st.integers(0, 5)) == 0:
                parent[place] = draw(_DOCUMENTS)
                break
            parent = inner
    return document


@fuzz
@given(st.one_of(_DOCUMENTS, odd_document(), _DOCUMENTS.map(lambda inner: {"resourceSpans": inner})))
def test_any_json(document: Any) -> None:
    use(json.dumps(document).encode(), JSON)
    use(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"), JSON)


# ---------------------------------------------------------------------------------------- properties


@fuzz
@given(st.lists(st.sampled_from(corpus()), max_size=3), st.sets(st.integers(0, 30)))
def test_both_encodings_are_parted_alike(bodies: list[bytes], places: set[int]) -> None:
    body = merge(bodies, PROTOBUF)
    line = Request(body).to_json().encode()
    wanted = {key for place, key in enumerate(Request(body).ids()) if place in places}
    picked, picked_line = pick(body, PROTOBUF, wanted), pick(line, JSON, wanted)
    assert Request(picked).ids() == [key for key in Request(body).ids() if key in wanted]
    if Request(picked).ids():
        assert Request(picked_line, JSON).to_json() == Request(picked).to_json()
    merged = merge([line, picked_line], JSON)
    assert Request(merged, JSON).ids() == [*Request(body).ids(), *Request(picked).ids()]
