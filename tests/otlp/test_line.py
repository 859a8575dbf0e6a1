"""One connection's protocol between a real socket and an application that is only recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest

from hermes_tui.otlp.grpc import _Gate
from hermes_tui.otlp.guard import Guard, Limits
from hermes_tui.otlp.line import Line, Stage, Times, Wire
from tests.processes import until

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Content:
    """A body that is whole when the test says so."""

    whole: bool = False

    def is_eof(self) -> bool:
        return self.whole


@dataclass
class Application(asyncio.Protocol):
    """What the application would see."""

    heard: bytearray = field(default_factory=bytearray)
    wire: Wire | None = None
    lost: list[Exception | None] = field(default_factory=list)
    paused: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Wire)
        self.wire = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.paused -= 1

    @property
    def line(self) -> Line:
        assert self.wire is not None
        return self.wire.line


@dataclass
class Pair:
    """Both ends of one connection."""

    application: Application
    guard: Guard
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def line(self) -> Line:
        return self.application.line

    async def say(self, data: bytes) -> None:
        before = len(self.application.heard)
        self.writer.write(data)
        await until(lambda: len(self.application.heard) >= before + len(data))


@asynccontextmanager
async def pair(limits: Limits | None = None) -> AsyncIterator[Pair]:
    application = Application()
    limits = replace(limits or Limits(), stop_s=0.0)  # nobody answers what is under way
    guard = Guard(lambda: application, limits)
    server = await asyncio.get_running_loop().create_server(guard, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    try:
        await until(lambda: application.wire)
        yield Pair(application, guard, reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        await guard.stop()


@pytest.mark.parametrize("cut", range(1, len(HEAD)))
async def test_a_head_ends_wherever_it_is_cut(cut: int) -> None:
    async with pair(Limits(head_bytes=100)) as ends:
        for part in (HEAD[:cut], HEAD[cut:]):
            await ends.say(part)
        assert ends.line.stage is Stage.READY
        await ends.say(bytes(1000))  # a body is no head, whoever looks at it when
        assert ends.line.stage is Stage.READY


async def test_a_head_ends_however_small_its_pieces() -> None:
    async with pair() as ends:
        for number in range(len(HEAD)):
            assert ends.line.stage is (Stage.HEAD if number else Stage.IDLE)
            await ends.say(HEAD[number : number + 1])
        assert ends.line.stage is Stage.READY


async def test_while_one_request_is_answered_no_more_is_read_than_one_piece() -> None:
    async with pair() as ends:
        await ends.say(HEAD)
        ends.line.began(Content(whole=True))
        ends.line.received()
        ends.writer.write(bytes(20_000_000))
        before = -1
        while before != len(ends.application.heard):
            before = len(ends.application.heard)
            await asyncio.sleep(0.05)
        assert before < 1_000_000
        ends.line.answered()
        await until(lambda: ends.application.lost or len(ends.application.heard) > before)


async def test_reading_goes_on_when_nobody_holds_it() -> None:
    async with pair() as ends:
        wire = ends.application.wire
        assert wire is not None
        wire.pause_reading()
        wire.hold("busy", True)
        wire.pause_reading()
        wire.resume_reading()
        assert not wire.is_reading()
        wire.hold("busy", False)
        assert wire.is_reading()
        await ends.say(HEAD)


async def test_a_lost_connection_is_told_once_and_keeps_nothing() -> None:
    async with pair(Limits(request_bytes=1_000_000)) as ends:
        await ends.say(HEAD)
        ends.line.began(Content())
        assert ends.line.hold(900_000)
        assert ends.guard.held > 0
        ends.writer.transport.abort()
        await until(lambda: ends.application.lost)
        assert (ends.guard.connections, ends.guard.held) == (0, 0)
        ends.line.answered()  # the application may find out late
        assert ends.guard.held == 0
    assert len(ends.application.lost) == 1


async def test_who_is_given_up_is_lost_to_the_application_and_told_why() -> None:
    async with pair(Limits(times=Times(body=0.1))) as ends:
        await ends.say(HEAD)
        ends.line.began(Content())
        said = await ends.reader.read()
        assert said.startswith(b"HTTP/1.1 503 ")
        assert len(ends.application.lost) == 1
        wire = ends.application.wire
        assert wire is not None
        assert wire.is_closing()
        wire.write(b"late")
        wire.close()
        assert await ends.reader.read() == b""
    assert len(ends.application.lost) == 1


async def test_a_budget_is_given_back() -> None:
    async with pair(Limits(request_bytes=1_000_000)) as ends:
        for _ in range(20):
            await ends.say(HEAD)
            content = Content()
            ends.line.began(content)
            for size in range(0, 1_000_001, 100_000):
                assert ends.line.hold(size)
            content.whole = True
            ends.line.received()
            ends.line.answered()
        assert ends.guard.held == 0
        assert not ends.line.hold(10_000_000)
        assert ends.guard.held == 0


async def test_the_gate_forgets_who_does_not_wait_any_more() -> None:
    gate = _Gate(1, 60.0, 60.0)

    async def wait() -> None:
        async with gate.turn():
            raise AssertionError("it was nobody's turn")

    async with gate.turn():
        waiting = [asyncio.create_task(wait()) for _ in range(5)]
        await asyncio.sleep(0)
        for each in waiting[::2]:
            each.cancel()
        await asyncio.wait(waiting[::2])
        assert len(gate._waiting) == 2
        for each in waiting:
            each.cancel()
    await asyncio.wait(waiting)
    async with asyncio.timeout(60), gate.turn():
        assert gate._waiting == []


async def test_the_newest_has_its_turn_first() -> None:
    gate = _Gate(1, 60.0, 60.0)
    order: list[int] = []

    async def work(number: int) -> None:
        async with gate.turn():
            order.append(number)

    async with gate.turn():
        waiting = []
        for number in range(3):
            waiting.append(asyncio.create_task(work(number)))
            await asyncio.sleep(0)
    await asyncio.wait(waiting)
    assert order == [2, 1, 0]


async def test_whose_time_is_over_makes_room() -> None:
    gate = _Gate(1, 0.1, 60.0)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with gate.turn():
                await asyncio.Event().wait()
