"""What goes in one POST: very bytes when whole, parts that keep everything else when not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_tui.otlp.codec import JSON, PROTOBUF, read
from hermes_tui.relay.cargo import Cargo
from hermes_tui.relay.outbox import Parcel
from tests.support import body_of, wire_span

UNKNOWN_FIELD = b"\xc2\x3e\x05later"


def parcel(number: int, body: bytes, *, kind: str = PROTOBUF, encoding: str = "", skip: int = 0) -> Parcel:
    keys = tuple(read(body, kind, encoding).ids())
    return Parcel(number, kind, encoding, body, keys, tuple(dict.fromkeys(keys[skip:])))


def spans(cargo: Cargo) -> list[tuple[bytes, bytes, int]]:
    body, encoding = cargo.body()
    return read(body, cargo.content_type, encoding).ids()


def request(*numbers: int, trace: int = 0) -> bytes:
    return body_of(*(wire_span(number, trace=trace) for number in numbers))


def as_json(*numbers: int) -> bytes:
    found = [
        {"traceId": "ab" * 16, "spanId": f"{number:016x}", "name": "j", "endTimeUnixNano": str(number)}
        for number in numbers
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": found}]}], "later": 1}).encode()


def test_a_whole_request_alone_is_its_very_bytes() -> None:
    body = gzip.compress(request(1, 2) + UNKNOWN_FIELD)
    cargo = Cargo.of([parcel(1, body, encoding="gzip", kind=f"{PROTOBUF}; v=1")])
    assert cargo.body() == (body, "gzip")
    assert cargo.content_type == f"{PROTOBUF}; v=1"


def test_what_is_not_wanted_stays_behind() -> None:
    cargo = Cargo.of([parcel(1, gzip.compress(request(1, 2, 3)), encoding="gzip", skip=1)])
    assert spans(cargo) == read(request(2, 3), PROTOBUF).ids()
    assert cargo.body()[1] == ""


def test_a_request_without_anything_wanted_is_no_part() -> None:
    assert Cargo.of([parcel(1, request(1), skip=1)]).parts == ()


@pytest.mark.parametrize(("make", "kind"), [(request, PROTOBUF), (as_json, JSON)])
def test_several_requests_are_one_of_their_type(make: Callable[..., bytes], kind: str) -> None:
    cargo = Cargo.of([parcel(1, make(1, 2), kind=kind), parcel(2, make(3), kind=f"{kind}; charset=utf-8")])
    assert cargo.content_type == kind
    assert [key[1][-1] for key in spans(cargo)] == [key[1][-1] for key in cargo.spans]
    assert len(cargo.spans) == 3


def test_traces_are_parted_before_spans() -> None:
    cargo = Cargo.of([parcel(1, request(1, 2)), parcel(2, request(1, 2, trace=1)), parcel(3, request(3))])
    halves = cargo.halves()
    assert halves is not None
    assert [{key[0] for key in spans(half)} for half in halves] == [
        {key[0] for key in read(request(1), PROTOBUF).ids()},
        {key[0] for key in read(request(1, trace=1), PROTOBUF).ids()},
    ]
    assert [len(half.spans) for half in halves] == [3, 2]


def test_one_span_that_came_twice_is_one() -> None:
    cargo = Cargo.of([parcel(1, request(1)), parcel(2, request(1))])
    assert len(cargo.spans) == 1
    assert cargo.halves() is None


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=6), min_size=1)
)
def test_halves_part_everything_down_to_single_spans(requests: list[list[tuple[int, int]]]) -> None:
    bodies = [body_of(*(wire_span(number, trace=trace) for trace, number in spans)) for spans in requests]
    whole = Cargo.of([parcel(number, body) for number, body in enumerate(bodies)])
    singles: list[tuple[bytes, bytes, int]] = []
    rest = [whole]
    while rest:
        cargo = rest.pop(0)
        assert set(spans(cargo)) == set(cargo.spans)
        halves = cargo.halves()
        if halves is None:
            singles += cargo.spans
            continue
        assert not set(halves[0].spans) & set(halves[1].spans)
        assert {*halves[0].spans, *halves[1].spans} == set(cargo.spans)
        assert min(len(half.spans) for half in halves) > 0
        rest += halves
    assert sorted(singles) == sorted(whole.spans)
