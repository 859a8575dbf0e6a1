"""Slow, endless, huge, pipelined and half-closed clients on real sockets: none blocks others.

What they cost in memory is measured in `test_locks_memory`; who is let in at all is in `test_locks_doors`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from hermes_tui.otlp.guard import Limits
from hermes_tui.otlp.line import Times
from tests.processes import DEADLINE_S, until
from tests.relay.peers import ABOUT, HEAD, Peer, Stub, ask, connected, listening, request
from tests.rpc import Status

QUICK = Limits(
    request_bytes=100_000,
    times=Times(first_byte=0.3, head=0.3, body=0.6, write=0.3, keep_alive=0.6, last=0.2),
    patience_s=0.2,
    stop_s=0.5,
)
PATIENT = Limits(request_bytes=100_000, patience_s=0.2)


@pytest.fixture
def stub() -> Stub:
    return Stub()


async def healthy(address: str) -> None:
    reply = await ask(address, request(b"healthy"))
    assert reply.status == 200


async def let_in(address: str, data: bytes) -> None:
    """Ask until the answer is 200: patience with who is slow takes its time."""
    async with asyncio.timeout(DEADLINE_S):
        while (reply := await ask(address, data)).status != 200:
            assert reply.status == 503


async def open_peers(stack: AsyncExitStack, address: str, number: int) -> list[Peer]:
    return [await stack.enter_async_context(connected(address)) for _ in range(number)]


# ---- slow clients


async def test_a_client_that_says_nothing_is_closed(stub: Stub) -> None:
    async with listening(stub, QUICK) as receiver, connected(receiver.address) as peer:
        assert await peer.closed() == b""


async def test_a_slow_head_is_given_up(stub: Stub) -> None:
    async with listening(stub, QUICK) as receiver, connected(receiver.address) as peer:

        async def drip() -> None:
            for number in range(len(HEAD)):
                await peer.say(HEAD[number : number + 1].encode())
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert (await peer.hear()).status == 408
        await healthy(receiver.address)
        dripping.cancel()


async def test_a_slow_body_is_given_up_and_may_come_again(stub: Stub) -> None:
    async with listening(stub, QUICK) as receiver, connected(receiver.address) as peer:
        await peer.say(request(b"a", length=1000))
        reply = await peer.hear()
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) > 0
        assert Status.FromString(reply.body).code == 14
        assert reply.headers["connection"] == "close"
        await peer.closed()
    assert stub.received == []


async def test_an_idle_connection_is_closed_after_a_while(stub: Stub) -> None:
    async with listening(stub, QUICK) as receiver, connected(receiver.address) as peer:
        assert (await peer.ask(request(b"x"))).status == 200
        assert (await peer.ask(request(b"y"))).status == 200
        assert await peer.closed() == b""


async def test_a_busy_connection_is_not_closed_by_any_of_these_times(stub: Stub) -> None:
    async with listening(stub, QUICK) as receiver, connected(receiver.address) as peer:
        began = time.monotonic()
        while time.monotonic() - began < 2 * QUICK.times.body:
            assert (await peer.ask(request(b"x" * 1000))).status == 200


async def test_waiting_for_the_disk_is_not_the_senders_fault(stub: Stub) -> None:
    async with listening(stub, QUICK) as receiver, connected(receiver.address) as peer:
        stub.gate.clear()
        await peer.say(request(b"x"))
        await asyncio.sleep(1.5 * QUICK.times.body)  # longer than any time that a peer has
        stub.gate.set()
        assert (await peer.hear()).status == 200


async def test_slow_bodies_do_not_keep_others_out_of_the_budget(stub: Stub) -> None:
    """All that bodies may hold together is held by some that stall: they go, not the newcomer."""
    limits = Limits(request_bytes=1_000_000, patience_s=0.2)
    async with listening(stub, limits) as receiver, AsyncExitStack() as stack:
        stalling = await open_peers(stack, receiver.address, 12)
        for peer in stalling:
            await peer.say(request(bytes(900_000), length=1_000_000))
        for _ in range(5):
            await let_in(receiver.address, request(bytes(1_000_000)))


async def test_beyond_the_budget_the_answer_is_to_come_again(stub: Stub) -> None:
    async with listening(stub, Limits(request_bytes=1_000_000)) as receiver, AsyncExitStack() as stack:
        stub.gate.clear()
        senders = await open_peers(stack, receiver.address, 8)
        for peer in senders:
            await peer.say(request(bytes(1_000_000)))
        replies = [asyncio.create_task(peer.hear()) for peer in senders]
        await until(lambda: any(reply.done() for reply in replies))
        await healthy_among_waiting(receiver.address, stub)
        found = await asyncio.gather(*replies)
        assert {reply.status for reply in found} == {200, 503}
        assert all("retry-after" in reply.headers for reply in found if reply.status == 503)
        # What was held is free again.
        for _ in range(5):
            assert (await ask(receiver.address, request(bytes(1_000_000)))).status == 200


async def healthy_among_waiting(address: str, stub: Stub) -> None:
    """A small request is let in whatever the large ones hold; then all are answered."""
    async with connected(address) as peer:
        before = len(stub.received)
        await peer.say(request(b"small"))
        await until(lambda: len(stub.received) > before)
        stub.gate.set()
        assert (await peer.hear()).status == 200


# ---- endless and huge ones


async def test_an_endless_head_is_cut_off(stub: Stub) -> None:
    async with listening(stub, PATIENT) as receiver, connected(receiver.address) as peer:
        await peer.say(HEAD.encode())
        for number in range(100):
            await peer.say(f"X-{number}: {'a' * 5000}\r\n".encode())
            if peer.reader.at_eof() or len(peer.reader._buffer):  # type: ignore[attr-defined]
                break
        assert (await peer.hear()).status == 431
        await healthy(receiver.address)


async def test_very_many_headers_are_refused(stub: Stub) -> None:
    lines = "".join(f"X-{number}: a\r\n" for number in range(1000))
    async with listening(stub, PATIENT) as receiver:
        assert (await ask(receiver.address, request(b"", more=lines))).status == 400


async def test_an_endless_body_is_cut_off(stub: Stub) -> None:
    async with listening(stub, PATIENT) as receiver, connected(receiver.address) as peer:
        await peer.say(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(20):
            await peer.say(b"2710\r\n" + bytes(10_000) + b"\r\n")
        reply = await peer.hear()
        assert (reply.status, Status.FromString(reply.body).code) == (413, 8)
        assert reply.headers["connection"] == "close"
        await healthy(receiver.address)
    assert [each.body for each in stub.received] == [b"healthy"]


async def test_a_huge_body_is_refused_before_it_is_sent(stub: Stub) -> None:
    async with listening(stub, PATIENT) as receiver, connected(receiver.address) as peer:
        more = "Expect: 100-continue\r\n"
        reply = await peer.ask(request(length=PATIENT.request_bytes + 1, more=more))
        assert reply.status == 413
    async with listening(stub, PATIENT) as receiver, connected(receiver.address) as peer:
        assert (await peer.ask(request(length=5, more=more))).status == 100
        assert (await peer.ask(b"12345")).status == 200


async def test_who_sends_a_huge_body_anyway_still_hears_why(stub: Stub) -> None:
    async with listening(stub, PATIENT) as receiver, connected(receiver.address) as peer:
        await peer.say(request(bytes(30 * PATIENT.request_bytes)))
        assert (await peer.hear()).status == 413


# ---- pipelined ones


async def test_pipelined_requests_are_answered_in_order(stub: Stub) -> None:
    async with listening(stub, PATIENT) as receiver, connected(receiver.address) as peer:
        await peer.say(request(b"1") + ABOUT + request(b"2"))
        replies = [await peer.hear() for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 200]
        assert (await peer.ask(b"nonsense\r\n\r\n")).status == 400
    assert [each.body for each in stub.received] == [b"1", b"2"]


async def test_pipelined_requests_are_not_read_while_one_is_answered(stub: Stub) -> None:
    async with listening(stub, PATIENT) as receiver, connected(receiver.address) as peer:
        stub.gate.clear()
        await peer.say(request(b"first"))
        await until(lambda: stub.received)
        flood = request(bytes(50_000))
        peer.writer.write(flood * 600)  # 30 MB
        sizes = [0, 1]
        while sizes[-1] != sizes[-2]:  # until the relay takes no more
            await asyncio.sleep(0.2)
            sizes.append(peer.writer.transport.get_write_buffer_size())
        assert sizes[-1] > 15_000_000
        assert len(stub.received) == 1
        await healthy_among_waiting(receiver.address, stub)
        for _ in range(601):
            assert (await peer.hear()).status == 200


async def test_answers_that_nobody_reads_are_given_up(stub: Stub) -> None:
    limits = Limits(times=Times(write=0.3))
    async with listening(stub, limits) as receiver, connected(receiver.address) as peer:
        await peer.ask(ABOUT)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.writer.write(ABOUT * 100_000)
        assert receiver.connections == 1
        await until(lambda: receiver.connections == 0)
        await healthy(receiver.address)


# ---- half-closed ones


@pytest.mark.parametrize("pieces", [[1], [2], [5], [1, 1], [1, 3, 1]], ids=str)
async def test_who_has_said_all_is_still_answered(stub: Stub, pieces: list[int]) -> None:
    async with listening(stub, QUICK) as receiver, connected(receiver.address) as peer:
        stub.gate.clear()
        for number in pieces:
            await peer.say(request(b"all") * number)
            await until(lambda: stub.received)
        peer.writer.write_eof()
        stub.gate.set()
        for _ in range(sum(pieces)):
            assert (await peer.hear()).status == 200
        assert await peer.closed() == b""


@pytest.mark.parametrize("said", [b"", HEAD.encode(), request(b"a", length=10)])
async def test_who_closes_in_the_middle_is_closed_at_once(stub: Stub, said: bytes) -> None:
    async with listening(stub, PATIENT) as receiver, connected(receiver.address) as peer:
        await peer.say(said)
        peer.writer.write_eof()
        assert await peer.closed() == b""
        await healthy(receiver.address)


# ---- many of them


async def test_connections_are_limited(stub: Stub) -> None:
    limits = Limits(request_bytes=100_000, connections=5)
    async with listening(stub, limits) as receiver, AsyncExitStack() as stack:
        stub.gate.clear()
        peers = await open_peers(stack, receiver.address, 5)
        for peer in peers:
            await peer.say(request(b"waits for its answer"))
        await until(lambda: len(stub.received) == 5)
        for _ in range(3):
            reply = await ask(receiver.address, request(b"one too many"))
            assert reply.status == 503
            assert int(reply.headers["retry-after"]) > 0
            assert Status.FromString(reply.body).code == 14
        stub.gate.set()
        for peer in peers:
            assert (await peer.hear()).status == 200
        await healthy(receiver.address)
    assert len(stub.received) == 6


@pytest.mark.parametrize("said", [b"", HEAD.encode(), ABOUT], ids=["silent", "in the head", "idle"])
async def test_connections_that_wait_make_room_for_new_ones(stub: Stub, said: bytes) -> None:
    async with listening(stub, Limits(connections=5)) as receiver, AsyncExitStack() as stack:
        for peer in await open_peers(stack, receiver.address, 5):
            await peer.say(said)
        for _ in range(10):
            await healthy(receiver.address)


async def test_slow_bodies_make_room_for_new_connections(stub: Stub) -> None:
    async with listening(stub, Limits(connections=5, patience_s=0.2)) as receiver, AsyncExitStack() as stack:
        for peer in await open_peers(stack, receiver.address, 5):
            await peer.say(request(b"a", length=1000))
        await let_in(receiver.address, request(b"healthy"))


async def test_a_flood_of_connections_is_survived(stub: Stub) -> None:
    async with listening(stub, Limits(connections=20)) as receiver, AsyncExitStack() as stack:
        stub.gate.clear()
        for peer in await open_peers(stack, receiver.address, 20):
            await peer.say(request(b"stays"))
        await until(lambda: len(stub.received) == 20)
        flood = await open_peers(stack, receiver.address, 300)
        ends = await asyncio.gather(*(peer.closed() for peer in flood))
        assert all(not end or b" 503 " in end for end in ends)
        stub.gate.set()
        await healthy(receiver.address)


# ---- the end


async def test_a_stop_closes_idle_connections_at_once_and_answers_what_is_under_way(stub: Stub) -> None:
    async with listening(stub, PATIENT) as receiver, AsyncExitStack() as stack:
        idle, stored, received = await open_peers(stack, receiver.address, 3)
        assert (await idle.ask(ABOUT)).status == 200
        stub.gate.clear()
        await stored.say(request(b"stored"))
        await until(lambda: stub.received)
        more = "Expect: 100-continue\r\n"
        assert (await received.ask(request(b"rec", length=len("received"), more=more))).status == 100
        stopping = asyncio.create_task(receiver.stop())
        assert await idle.closed() == b""
        assert not stopping.done()
        stub.gate.set()
        reply = await stored.hear()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        await received.say(b"eived")
        assert (await received.hear()).status == 200
        await stopping
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await ask(receiver.address, ABOUT)
    assert [each.body for each in stub.received] == [b"stored", b"received"]


async def test_a_stop_does_not_wait_for_ever(stub: Stub) -> None:
    async with listening(stub, Limits(stop_s=0.3)) as receiver, connected(receiver.address) as peer:
        await peer.say(request(b"never", length=1000))
        await until(lambda: receiver.connections == 1)
        await receiver.stop()
        assert receiver.connections == 0
        await peer.closed()


async def test_a_stop_with_nothing_under_way_is_over_at_once(stub: Stub) -> None:
    limits = Limits(stop_s=10 * 60)
    async with asyncio.timeout(60), listening(stub, limits) as receiver, AsyncExitStack() as stack:
        for peer in await open_peers(stack, receiver.address, 20):
            assert (await peer.ask(ABOUT)).status == 200
        await receiver.stop()
