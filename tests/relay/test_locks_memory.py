"""What attacks cost a real relay in memory, measured at its peak; and that others are answered meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import psutil
import pytest

from hermes_tui.journal.files import StateDir
from tests.processes import DEADLINE_S, RelayProcess, post
from tests.relay.peers import ABOUT, HEAD, connected, request
from tests.support import body_of, wire_span

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("memory")]

MIB = 1024 * 1024
BODY = body_of(wire_span(1))
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

Start = Callable[..., RelayProcess]


def peak(process: psutil.Process) -> int:
    """The most resident memory that a process has had, in bytes."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return int(process.memory_info().rss)
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@contextmanager
def costs_less_than(relay: RelayProcess, mebibytes: int) -> Iterator[None]:
    """Fail when the relay's memory grows by more meanwhile, or when it does not serve others afterwards."""
    assert post(relay.address, BODY) == 200  # what it loads on first use is no cost of the attack
    process = psutil.Process(relay.process.pid)
    before = process.memory_info().rss
    yield
    assert post(relay.address, BODY) == 200
    grown = (peak(process) - before) / MIB
    assert grown < mebibytes, f"{grown:.0f} MiB"
    assert relay.stop() == 0


async def answers_others(relay: RelayProcess, times: int = 5) -> None:
    for _ in range(times):
        assert await asyncio.to_thread(post, relay.address, BODY) == 200


async def test_two_hundred_slow_large_bodies(start_relay: Start, state: StateDir) -> None:
    """Each says that 8 MiB come and stalls after 4: together they would be 800 MiB."""
    relay = start_relay(state, "--max-request-bytes", "8MiB")
    head = request(length=8 * MIB)
    with costs_less_than(relay, 160):
        async with AsyncExitStack() as stack:

            async def stall() -> None:
                peer = await stack.enter_async_context(connected(relay.address))
                with suppress(ConnectionError):  # some are told to come again before they said so much
                    await peer.say(head + bytes(4 * MIB))

            await asyncio.gather(*(stall() for _ in range(200)))
            await answers_others(relay)


async def test_sixty_four_gibibytes_of_zeros_in_sixty_four_mebibytes(
    start_relay: Start, state: StateDir
) -> None:
    relay = start_relay(state)
    bomb = zeros(64 * 1024)
    assert 60 * MIB < len(bomb) <= 64 * MIB
    with costs_less_than(relay, 500):
        sending = asyncio.create_task(asyncio.to_thread(post, relay.address, bomb, Content_Encoding="gzip"))
        await answers_others(relay)
        assert await sending == 413


def zeros(mebibytes: int) -> bytes:
    """A gzip body of so many MiB of zeros: one compressed piece of 16 MiB, many times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    length = mebibytes * MIB % 2**32
    return gzip.compress(b"")[:10] + piece * (mebibytes // 16) + b"\x03\x00" + struct.pack("<II", 0, length)


@pytest.mark.parametrize(
    "small",
    [
        pytest.param(b"\x12\x00", id="spans"),
        pytest.param(b"\x12\x02\x4a\x00", id="attributes"),
        pytest.param(b"\x12\x04\x5a\x02\x1a\x00", id="event attributes"),
    ],
)
async def test_many_small_parts_that_unfold(start_relay: Start, state: StateDir, small: bytes) -> None:
    """64 MiB that are 64 KiB on the wire, and gigabytes as objects."""
    relay = start_relay(state)
    scope = field(2, small * (63 * MIB // len(small)))
    bomb = gzip.compress(field(1, scope), 9)
    assert len(bomb) < MIB
    with costs_less_than(relay, 1000):
        sending = asyncio.create_task(asyncio.to_thread(post, relay.address, bomb, Content_Encoding="gzip"))
        await answers_others(relay)
        assert await sending in (400, 413)


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, size = b"", len(value)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


async def test_a_hundred_thousand_pipelined_requests_whose_answers_nobody_reads(
    start_relay: Start, state: StateDir
) -> None:
    relay = start_relay(state)
    with costs_less_than(relay, 60):
        async with AsyncExitStack() as stack:
            for _ in range(20):
                peer = await stack.enter_async_context(connected(relay.address))
                peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
                peer.writer.write(ABOUT * 100_000)
            await answers_others(relay, 20)


async def test_heads_that_grow_and_never_end(start_relay: Start, state: StateDir) -> None:
    """As large as a head may be, over as many connections as there may be."""
    relay = start_relay(state)
    line = f"X-Much: {'a' * 7000}\r\n".encode()
    with costs_less_than(relay, 120):
        async with AsyncExitStack() as stack:
            for _ in range(300):
                peer = await stack.enter_async_context(connected(relay.address))
                peer.writer.write(HEAD.encode() + line * 9)
            await answers_others(relay)


async def test_bodies_of_one_byte_at_a_time(start_relay: Start, state: StateDir) -> None:
    """Chunks of one byte, which would cost sixty bytes each if they were kept apart."""
    relay = start_relay(state)
    chunked = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    with costs_less_than(relay, 60):
        async with AsyncExitStack() as stack:
            for _ in range(4):
                peer = await stack.enter_async_context(connected(relay.address))
                peer.writer.write(chunked + b"1\r\na\r\n" * 1_000_000)
            await answers_others(relay)


def test_grpc_messages_that_nobody_asked_for_yet(start_relay: Start, state: StateDir) -> None:
    """Many large messages at once over many connections: most stay with their senders until it is their turn.

    What has arrived waits for its decoding, 256 MiB of it at most.
    """
    relay = start_relay(state, "--max-request-bytes", "8MiB")
    assert relay.running is not None
    address = str(relay.running.grpc)
    message = bytes(7 * MIB)  # no OTLP: refused once it is there
    with costs_less_than(relay, 700):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        channels = [grpc.insecure_channel(address, options=options) for _ in range(10)]
        calls = [
            channel.unary_unary(TRACES).future(message, timeout=DEADLINE_S, wait_for_ready=True)
            for channel in channels
            for _ in range(16)
        ]
        assert post(relay.address, BODY) == 200
        codes = {call.code() for call in calls}
        for channel in channels:
            channel.close()
        assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE}
