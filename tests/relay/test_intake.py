"""What is taken, whatever it is written in; large requests must not keep others waiting."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.otlp.answers import Answer, Code, Received
from hermes_tui.otlp.codec import JSON, MAX_BYTES, PROTOBUF, Request
from hermes_tui.relay import intake as intake_module
from hermes_tui.relay.credentials import Credentials
from hermes_tui.relay.intake import Intake
from tests.otlp.test_pending import announced
from tests.support import body_of, caught_up, picture, span_id, spans_in, tail_all, wait_for, wire_span

BODY = body_of(wire_span(1, session__id="S"), wire_span(2, parent=1))
LINE = Request(BODY).to_json().encode()


def received(body: bytes, content_type: str = PROTOBUF, encoding: str = "", **headers: str) -> Received:
    return Received("traces", body, content_type, encoding, headers)


def large(size: int, text: str = "x") -> bytes:
    return body_of(wire_span(1, text=text * size))


class Taker:
    """An intake on a journal of its own."""

    def __init__(self, state: StateDir, writer: Writer, limit: int = MAX_BYTES) -> None:
        self.state = state
        self.credentials = Credentials(state.credentials)
        self.intake = Intake(writer, self.credentials, limit)

    async def take(self, *said: Any, **headers: str) -> Answer:
        return await self.intake.accept(received(*said, **headers))

    def spans(self) -> list[Any]:
        with Reader(self.state.journal) as reader:
            wait_for(lambda: caught_up(reader))
            return tail_all(reader)

    def stored(self) -> list[tuple[str, str, bytes]]:
        with Reader(self.state.journal) as reader:
            found, number = [], 0
            while (request := reader.request_after(number)) is not None:
                found.append((request.content_type, request.content_encoding, request.body))
                number = request.id
            return found


@pytest.fixture
def taker(state: StateDir, open_writer: Callable[..., Writer]) -> Taker:
    return Taker(state, open_writer())


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    found = Gate()
    monkeypatch.setattr(intake_module, "read", found.read)
    yield found
    found.open.set()


class Gate:
    """Stands in front of `read`: holds what is decoded in threads until it opens, and counts it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = self.most = 0
        self.in_threads: list[int] = []
        self._lock = threading.Lock()
        self._main = threading.current_thread()
        self._read = intake_module.read

    def read(self, body: bytes, *said: Any) -> Request:
        if threading.current_thread() is not self._main:
            with self._lock:
                self.in_threads.append(len(body))
                self.inside += 1
                self.most = max(self.most, self.inside)
            assert self.open.wait(60)
            with self._lock:
                self.inside -= 1
        return self._read(body, *said)


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        (BODY, PROTOBUF, ""),
        (gzip.compress(BODY), PROTOBUF, "gzip"),
        (zlib.compress(BODY), PROTOBUF, "deflate"),
        (LINE, JSON, ""),
        (LINE, "Application/JSON; charset=utf-8", ""),
        (gzip.compress(LINE), JSON, "gzip"),
        (zlib.compress(LINE), JSON, "deflate"),
    ],
    ids=["plain", "gzip", "deflate", "json", "json charset", "json gzip", "json deflate"],
)
async def test_every_encoding_is_kept_as_it_came_and_read_alike(
    taker: Taker, body: bytes, content_type: str, encoding: str
) -> None:
    assert await taker.take(body, content_type, encoding) == Answer()
    assert taker.stored() == [(content_type, encoding, body)]
    assert picture(taker.spans()) == picture(spans_in(BODY))
    with Reader(taker.state.journal) as reader:
        details = [detail.attributes for _, detail in reader.details(taker.spans())]
    assert details == [{"session.id": "S"}, {}]


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "said"),
    [
        (b"broken", PROTOBUF, "", "not an OTLP ExportTraceServiceRequest in protobuf"),
        (b"broken", JSON, "", "not OTLP in JSON"),
        (LINE, PROTOBUF, "", "in protobuf"),
        (BODY, JSON, "", "not OTLP in JSON"),
        (BODY, "text/plain", "", "'text/plain' is not supported"),
        (BODY, PROTOBUF, "br", "'br' is not supported"),
        (BODY, PROTOBUF, "gzip", "not valid gzip"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"s"}]}]}]}', JSON, "", "a trace id of 0 bytes"),
    ],
    ids=["protobuf", "json", "json as protobuf", "protobuf as json", "type", "encoding", "gzip", "no id"],
)
async def test_what_cannot_be_read_is_refused_for_good(
    taker: Taker, body: bytes, content_type: str, encoding: str, said: str
) -> None:
    answer = await taker.take(body, content_type, encoding)
    assert answer.code is Code.INVALID_ARGUMENT
    assert said in answer.message
    assert (taker.intake.refused, taker.intake.counts["traces"]) == (1, 0)
    assert taker.stored() == []


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"", PROTOBUF), (b"{}", JSON), (b"", f"{PROTOBUF}; v=1")]
)
async def test_an_empty_request_is_a_success_and_leaves_nothing(
    taker: Taker, body: bytes, content_type: str
) -> None:
    assert await taker.take(body, content_type) == Answer()
    assert taker.stored() == []


async def test_the_limit_holds_before_and_after_decompression(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    taker = Taker(state, open_writer(), limit=10_000)
    fits, over = large(9_000), large(10_001)
    packers: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("", bytes),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
    ]
    for encoding, pack in packers:
        assert (await taker.take(pack(fits), PROTOBUF, encoding)).code is Code.OK
        answer = await taker.take(pack(over), PROTOBUF, encoding)
        assert answer.code is Code.RESOURCE_EXHAUSTED
        assert "10000" in answer.message
    assert len(taker.stored()) == 3


async def test_a_limit_above_the_usual_one_holds_for_reading_too(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    """What was let in must stay readable for the index and the details, whatever the usual limit."""
    taker = Taker(state, open_writer(), limit=2 * MAX_BYTES)
    packed = gzip.compress(large(MAX_BYTES + 1), 1)
    assert (await taker.take(packed, PROTOBUF, "gzip")).code is Code.OK
    assert (await Taker(state, open_writer()).take(packed, PROTOBUF, "gzip")).code is Code.RESOURCE_EXHAUSTED
    (span,) = taker.spans()
    with Reader(state.journal) as reader:
        ((_, detail),) = reader.details([span])
    assert len(detail.attributes["text"]) == MAX_BYTES + 1


async def test_bombs_of_every_kind_are_refused(taker: Taker) -> None:
    zeros = gzip.compress(bytes(MAX_BYTES + 1), 1)
    messages = gzip.compress(b"\x0a\x00" * 3_000_000, 1)
    objects = gzip.compress(b'{"resourceSpans":[' + b"{}," * 5_000_000 + b"{}]}", 1)
    for body, content_type in ((zeros, PROTOBUF), (zeros, JSON), (messages, PROTOBUF), (objects, JSON)):
        assert (await taker.take(body, content_type, "gzip")).code is Code.RESOURCE_EXHAUSTED
    nested = await taker.take(b"[" * 1_000_000, JSON)
    assert (nested.code, "nested too deep" in nested.message) == (Code.INVALID_ARGUMENT, True)


# ------------------------------------------------------------------------------- large requests


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "in_thread"),
    [
        (large(900_000), PROTOBUF, "", False),
        (large(1_100_000), PROTOBUF, "", True),
        (large(1_100_000), PROTOBUF, "identity", True),
        (Request(large(60_000)).to_json().encode(), JSON, "", False),
        (Request(large(70_000)).to_json().encode(), "Application/JSON;x=y", "", True),
        (gzip.compress(BODY), PROTOBUF, "gzip", False),
        (gzip.compress(large(12_000_000)), PROTOBUF, "gzip", True),
        (zlib.compress(large(20_000), 0), PROTOBUF, "Deflate", True),
    ],
    ids=["plain", "large", "large identity", "json", "large json", "gzip", "large gzip", "large deflate"],
)
async def test_large_requests_are_decoded_in_a_thread(
    taker: Taker, gate: Gate, body: bytes, content_type: str, encoding: str, in_thread: bool
) -> None:
    gate.open.set()
    assert await taker.take(body, content_type, encoding) == Answer()
    assert gate.in_threads == ([len(body)] if in_thread else [])


async def test_two_large_ones_at_a_time_and_others_go_on(taker: Taker, gate: Gate) -> None:
    tasks = [asyncio.create_task(taker.take(large(1_100_000 + n))) for n in range(5)]
    while len(gate.in_threads) < 2:
        await asyncio.sleep(0.001)
    assert await taker.take(BODY) == Answer()
    assert await taker.take(LINE, JSON) == Answer()
    assert not any(task.done() for task in tasks)
    gate.open.set()
    assert await asyncio.gather(*tasks) == [Answer()] * 5
    assert gate.most == 2
    assert len(taker.stored()) == 7


async def test_a_large_one_that_is_broken_is_refused_all_the_same(taker: Taker, gate: Gate) -> None:
    gate.open.set()
    answer = await taker.take(b"\xff" * 2_000_000)
    assert answer.code is Code.INVALID_ARGUMENT
    assert gate.in_threads == [2_000_000]


async def test_what_waits_counts_by_what_it_unfolds_to(
    taker: Taker, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = large(1_000_000)
    packed = gzip.compress(plain)
    monkeypatch.setattr(intake_module, "_WAITING_BYTES", len(plain) - 1)
    answer = await taker.take(packed, PROTOBUF, "gzip")
    assert (answer.code, answer.retry_after_s > 0) == (Code.UNAVAILABLE, True)
    monkeypatch.setattr(intake_module, "_WAITING_BYTES", len(plain) + len(packed))
    for _ in range(3):  # and nothing of it stays counted
        assert await taker.take(packed, PROTOBUF, "gzip") == Answer()
    assert len(taker.stored()) == 3
    assert gate.in_threads == []  # it was small enough to be decoded at once


async def test_what_waits_to_be_decoded_counts_too(
    taker: Taker, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = large(1_100_000)
    monkeypatch.setattr(intake_module, "_WAITING_BYTES", 3 * len(body))
    tasks = [asyncio.create_task(taker.take(body)) for _ in range(3)]
    while len(gate.in_threads) < 2:
        await asyncio.sleep(0.001)
    assert (await taker.take(BODY)).code is Code.UNAVAILABLE
    gate.open.set()
    assert await asyncio.gather(*tasks) == [Answer()] * 3
    assert await taker.take(BODY) == Answer()


# ------------------------------------------------------------------------------- senders that leave


async def test_a_sender_that_leaves_does_not_undo_what_it_sent(taker: Taker, gate: Gate) -> None:
    """gRPC cancels the call of a sender whose deadline has passed, wherever it is."""
    body = large(1_100_000)
    task = asyncio.create_task(taker.take(body, PROTOBUF, "", authorization="Bearer t"))
    while not gate.in_threads:
        await asyncio.sleep(0.001)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    taker.credentials.keep_only(())
    gate.open.set()
    while not taker.stored():
        await asyncio.sleep(0.001)
    assert [span.span_id for span in taker.spans()] == [span_id(1)]
    assert taker.credentials.values() == ["Bearer t"]
    while taker.intake._waiting:
        await asyncio.sleep(0.001)


class Brake:
    """Holds back what is to be stored, as a slow disk does."""

    def __init__(self, writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release = threading.Event()
        self.began = threading.Event()
        self._append = writer._append
        monkeypatch.setattr(writer, "_append", self._slow)

    def _slow(self, jobs: Any) -> None:
        self.began.set()
        assert self.release.wait(60)
        self._append(jobs)

    async def holding(self) -> None:
        while not self.began.is_set():
            await asyncio.sleep(0.001)


async def test_what_waits_for_the_disk_counts_by_what_it_unfolds_to(
    taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = large(1_000_000)
    packed = gzip.compress(plain)
    monkeypatch.setattr(intake_module, "_WAITING_BYTES", len(plain) + 2 * len(packed))
    brake = Brake(taker.intake._writer, monkeypatch)
    task = asyncio.create_task(taker.take(packed, PROTOBUF, "gzip"))
    try:
        await brake.holding()
        assert (await taker.take(packed, PROTOBUF, "gzip")).code is Code.UNAVAILABLE
    finally:
        brake.release.set()
    assert await task == Answer()
    assert await taker.take(packed, PROTOBUF, "gzip") == Answer()


async def test_a_credential_is_kept_until_its_request_is_stored(
    taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that leaves while the disk is slow must not have its credential erased before."""
    brake = Brake(taker.intake._writer, monkeypatch)
    task = asyncio.create_task(taker.take(BODY, PROTOBUF, "", authorization="Bearer t"))
    try:
        await brake.holding()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        taker.credentials.keep_only(())
        assert taker.credentials.values() == ["Bearer t"]
    finally:
        brake.release.set()
    while not taker.stored():
        await asyncio.sleep(0.001)


async def test_an_announced_span_is_shown_as_running(taker: Taker) -> None:
    line = Request(body_of(announced(1), announced(2, parent=1))).to_json().encode()
    assert await taker.take(line, JSON) == Answer()
    assert json.loads(line)
    assert [(span.span_id, span.parent_id, span.running) for span in taker.spans()] == [
        (span_id(1), b"", True),
        (span_id(2), span_id(1), True),
    ]
