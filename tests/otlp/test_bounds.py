"""Bodies that unfold to far more memory than they are long are refused before they are decoded."""

from __future__ import annotations

import gzip
import json

import pytest

from hermes_tui.otlp import bounds
from hermes_tui.otlp.codec import JSON, MAX_BYTES, PROTOBUF, BadRequest, TooLarge, read
from hermes_tui.otlp.portions import merge
from tests.otlp.wire import field
from tests.support import body_of, recorded_requests, recording_names, wire_span


def in_span(content: bytes) -> bytes:
    return field(1, field(2, field(2, content)))


def in_value(content: bytes) -> bytes:
    return in_span(field(9, field(1, b"k") + field(2, content)))


MOST = 1_000
EMPTY_MESSAGES = {
    "resources": lambda count: field(1, b"") * count,
    "scopes": lambda count: field(1, field(2, b"") * count),
    "spans": lambda count: field(1, field(2, field(2, b"") * count)),
    "attributes": lambda count: in_span(field(9, b"") * count),
    "events": lambda count: in_span(field(11, b"") * count),
    "links": lambda count: in_span(field(13, b"") * count),
    "attributes of a resource": lambda count: field(1, field(1, field(1, b"") * count)),
    "attributes of a scope": lambda count: field(1, field(2, field(1, field(3, b"") * count))),
    "attributes of events": lambda count: in_span(field(11, field(3, b"") * count)),
    "attributes of links": lambda count: in_span(field(13, field(4, b"") * count)),
    "items": lambda count: in_value(field(5, field(1, b"") * count)),
    "pairs": lambda count: in_value(field(6, field(1, b"") * count)),
    "items in items": lambda count: in_value(field(5, field(1, field(5, field(1, b"") * (count // 2))) * 2)),
}


@pytest.mark.parametrize("name", EMPTY_MESSAGES)
def test_more_messages_than_allowed_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_MESSAGES", MOST)
    make = EMPTY_MESSAGES[name]
    bounds.check(make(MOST - 10), PROTOBUF)
    with pytest.raises(TooLarge, match="more than 1000 spans, attributes and values"):
        bounds.check(make(MOST + 10), PROTOBUF)


@pytest.mark.parametrize("unknown", [b"\x50\x01", field(99, b""), b"\x0b\x0c"])
def test_more_fields_than_anyone_knows_are_refused(unknown: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_FIELDS", MOST)
    monkeypatch.setattr(bounds, "MOST_MESSAGES", 100)
    bounds.check(unknown * (MOST // 4), PROTOBUF)
    with pytest.raises(TooLarge):
        bounds.check(unknown * (MOST + 1), PROTOBUF)


BROKEN = {
    "zeros": bytes(9_000),
    "endless tag": b"\xff" * 9_000,
    "endless number": b"\x80" * 9_000,
    "too long": b"\x0a\xff\xff\xff\x0f" * 2_000,
    "no end": b"\x09" * 9_001,
    "no wire type": b"\x0f" * 9_000,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_bytes_are_left_to_the_decoder(broken: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_MESSAGES", 4_000)
    bounds.check(broken, PROTOBUF)
    with pytest.raises(BadRequest):
        read(broken, PROTOBUF)


@pytest.mark.parametrize(
    "document",
    [[{}] * MOST, [[]] * MOST, [1] * MOST, ["ab"] * MOST, {str(n): 0 for n in range(MOST)}],
    ids=["objects", "arrays", "numbers", "texts", "names"],
)
def test_more_json_values_than_allowed_are_refused(document: object, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"x": document}).encode()
    monkeypatch.setattr(bounds, "MOST_TOKENS", 5 * MOST)
    bounds.check(body, JSON)
    monkeypatch.setattr(bounds, "MOST_TOKENS", MOST - 10)
    with pytest.raises(TooLarge, match="objects and values"):
        bounds.check(body, JSON)


@pytest.mark.parametrize("text", ["{[,", 'say \\"{[,', "\\", '{"a": [1, 2]}', "\\\\"])
def test_what_is_in_texts_does_not_count(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_TOKENS", 50)
    bounds.check(json.dumps({"a": text * MOST, "b": text}).encode(), JSON)
    bounds.check(json.dumps({"a": text * MOST}).encode()[:-3], JSON)  # a text without an end
    with pytest.raises(TooLarge):  # which is no JSON, but would take long to find out here
        bounds.check(b'"{"' * MOST, JSON)


def test_small_bodies_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in 4 MB, it cannot be too many: all that Hermes sends costs nothing here."""
    monkeypatch.setattr(bounds, "_count", None)
    bounds.check(b"\x0a\x00" * bounds.MOST_MESSAGES, PROTOBUF)
    monkeypatch.setattr(bounds, "_tokens", None)
    bounds.check(b"," * bounds.MOST_TOKENS, JSON)


def test_a_large_real_request_is_far_below_the_limits() -> None:
    bodies = [body for name in recording_names() for body in recorded_requests(name)]
    some = merge(bodies * (20_000_000 // sum(map(len, bodies)) + 1), PROTOBUF)
    small = body_of(*[wire_span(n, a=1, b=True, c=0.5) for n in range(20_000)]) * 5
    for body in (some, small):
        bounds.check(body, PROTOBUF)
    bounds.check(read(some, PROTOBUF).to_json().encode(), JSON)


@pytest.mark.parametrize(
    ("unit", "content_type"), [(b"\x0a\x00", PROTOBUF), (b"{},", JSON), (b"[[]],", JSON), (b'"a",', JSON)]
)
def test_a_bomb_of_the_largest_size_is_refused_by_reading(unit: bytes, content_type: str) -> None:
    body = unit * ((MAX_BYTES - 100) // len(unit))
    if content_type == JSON:
        body = b'{"resourceSpans":[' + body + b"{}]}"
    packed = gzip.compress(body, 1)
    with pytest.raises(TooLarge, match="holds more than"):
        read(packed, content_type, "gzip", MAX_BYTES)
