"""Clients that say exactly what they are told: for receivers that must survive them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from hermes_tui.otlp.answers import Answer, Received
from hermes_tui.otlp.encodings import PROTOBUF
from hermes_tui.otlp.guard import Limits
from hermes_tui.otlp.http import HttpReceiver
from tests.processes import DEADLINE_S

HEAD = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {PROTOBUF}\r\n"
ABOUT = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def request(body: bytes = b"", *, length: int | None = None, more: str = "") -> bytes:
    """A POST whose Content-Length may be a lie; `more` are header lines."""
    return f"{HEAD}{more}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


@dataclass(slots=True)
class Reply:
    """An answer as it came; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self) -> Reply:
        """The next answer. Raises IncompleteReadError when the connection ends before."""
        async with asyncio.timeout(DEADLINE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return Reply(int(status.split()[1]), headers, body)

    async def ask(self, data: bytes) -> Reply:
        await self.say(data)
        return await self.hear()

    async def closed(self) -> bytes:
        """Everything up to the end of the connection, however it ends."""
        found = b""
        async with asyncio.timeout(DEADLINE_S):
            with suppress(ConnectionError):
                while part := await self.reader.read(64 * 1024):
                    found += part
        return found


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Peer]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ask(address: str, data: bytes) -> Reply:
    """One request over a connection of its own."""
    async with connected(address) as peer:
        return await peer.ask(data)


@dataclass(slots=True)
class Stub:
    """An `accept` that takes everything while its `gate` is open."""

    received: list[Received] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def accept(self, received: Received) -> Answer:
        self.received.append(received)
        await self.gate.wait()
        return Answer()


@asynccontextmanager
async def listening(stub: Stub, limits: Limits | None = None, **said: Any) -> AsyncIterator[HttpReceiver]:
    where: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "identity": {"service": "test"},
        "limits": limits,
    }
    receiver = HttpReceiver(stub.accept, **{**where, **said})
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()
