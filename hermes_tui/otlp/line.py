"""One connection between its socket and aiohttp: hands on what comes, and knows what it is at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, cast

from hermes_tui.otlp.answers import RETRY_AFTER_S, Answer, Code, answer_body
from hermes_tui.otlp.encodings import PROTOBUF

NEVER = float("inf")
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a peer has for each part of a conversation.

    `last_s` is left to a peer that sends no more; `write_s` to one that does not read its answers.
    """

    first_byte: float = 30.0
    head: float = 10.0
    body: float = 120.0
    write: float = 30.0
    keep_alive: float = 600.0
    last: float = 0.1


class Stage(Enum):
    """What a connection is at."""

    IDLE = "between requests"
    HEAD = "a head has begun"
    READY = "a head is whole, and nobody has looked at it yet"
    BODY = "a body is being read"
    ANSWER = "the body is whole; what now takes long is on our side"
    REST = "answered before the body was whole: the rest is thrown away"

    @property
    def waits(self) -> bool:
        """Nothing is lost when the connection goes now."""
        return self in (Stage.IDLE, Stage.HEAD, Stage.REST)

    @property
    def receives(self) -> bool:
        return self in (Stage.READY, Stage.BODY)


class Content(Protocol):
    """The body of a request as it arrives."""

    def is_eof(self) -> bool:
        """Whether all of it is there."""


class Keeper(Protocol):
    """What a line asks of its guard."""

    stopping: bool

    def admit(self, line: Line) -> bool: ...
    def forget(self, line: Line) -> None: ...
    def hold(self, line: Line, size: int) -> bool: ...
    def release(self, line: Line) -> None: ...
    def watch(self, deadline: float) -> None: ...
    def farewell(self, transport: asyncio.Transport, answer: bytes) -> bool: ...


class Line(asyncio.Protocol):
    """The protocol of one connection.

    The application says `began`, `received` and `answered`; the transport it is given, a `Wire`, leads
    it here.
    """

    def __init__(self, guard: Keeper, inner: asyncio.Protocol, times: Times, head_bytes: int) -> None:
        self._guard = guard
        self._inner: asyncio.Protocol | None = inner
        self._times = times
        self._head_bytes = head_bytes
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._wire: Wire | None = None
        self._content: Content | None = None
        self._ended = False  # the peer sends no more
        self._served = False  # it was answered at least once
        self._head = 0  # bytes of the head so far
        self._tail = b""  # the last of them: the end of the head may lie across two pieces
        self._until = self._unread_until = NEVER
        self.held = 0
        self.stage = Stage.IDLE
        self.since = self._loop.time()

    # ---- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._guard.admit(self):
            self._inner = None
            self._say(canned(503, "Service Unavailable", "too many connections"))
            return
        self._wire = Wire(self, self._transport)
        self._enter(Stage.IDLE, self._times.first_byte)
        if self._inner is not None:
            self._inner.connection_made(self._wire)

    def data_received(self, data: bytes) -> None:
        if self.stage is Stage.IDLE:
            self._head, self._tail = 0, b""
            self._enter(Stage.HEAD, self._times.head)
        if self.stage is Stage.HEAD and not self._look_at_head(data):
            return
        if self.stage is Stage.ANSWER:
            self._hold_reading("busy", True)  # one piece ahead at most, until the answer is out
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool:
        """Whether the connection stays open: only for who waits for answers to all it has sent."""
        self._ended = True
        if self.stage is Stage.BODY:
            return self._content is not None and self._content.is_eof()
        if self.stage is Stage.IDLE and self._served:
            # The next request may have come with the one before, and its turn come in a moment.
            self._enter(Stage.IDLE, self._times.last)
            return True
        return self.stage in (Stage.READY, Stage.ANSWER)

    def connection_lost(self, error: Exception | None) -> None:
        self._guard.forget(self)
        self._until = self._unread_until = NEVER
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(error)

    def pause_writing(self) -> None:
        """Answers are not read: what else comes can wait, and not for ever."""
        self._hold_reading("unread", True)
        self._unread_until = self._loop.time() + self._times.write
        self._guard.watch(self._unread_until)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._unread_until = NEVER
        self._hold_reading("unread", False)
        if self._inner is not None:
            self._inner.resume_writing()

    def _look_at_head(self, data: bytes) -> bool:
        """Whether the head may go on."""
        self._head += len(data)
        seen = self._tail + data[: self._head_bytes]
        if _END_OF_HEAD in seen:
            self._enter(Stage.READY, self._times.head)
        elif self._head > self._head_bytes:
            self._say(canned(431, "Request Header Fields Too Large", "the head of the request is too large"))
            return False
        self._tail = seen[1 - len(_END_OF_HEAD) :]
        return True

    # ---- for the application

    def began(self, content: Content) -> None:
        """A request's head was read; `content` is its body."""
        self._content = content
        self._enter(Stage.BODY, self._times.body)
        if self._ended and not content.is_eof():
            self.close()

    def hold(self, size: int) -> bool:
        """Whether there is room for `size` bytes of body so far."""
        return self._guard.hold(self, size)

    def received(self) -> None:
        """The body is whole."""
        self._enter(Stage.ANSWER, NEVER)

    def answered(self) -> None:
        """The answer is known, and on its way next."""
        whole = self._content is None or self._content.is_eof()
        self._content, self._served = None, True
        self._guard.release(self)
        if whole:
            self._enter(Stage.IDLE, self._times.last if self._ended else self._times.keep_alive)
        else:
            self._enter(Stage.REST, self._times.head)
        self._hold_reading("busy", False)

    @property
    def stopping(self) -> bool:
        """Whether this answer is to be the connection's last."""
        return self._guard.stopping

    # ---- for the guard

    @property
    def deadline(self) -> float:
        """The event loop's time at which the peer's time is over."""
        return min(self._until, self._unread_until)

    def give_up(self) -> None:
        """The peer's time is over: say so where it waits for an answer, and close."""
        if self._unread_until <= self._loop.time():
            self.abort()
        elif self.stage is Stage.BODY:
            self._say(canned(503, "Service Unavailable", "the request took too long to arrive"))
        elif self.stage is Stage.HEAD:
            self._say(canned(408, "Request Timeout", "the head of the request took too long to arrive"))
        else:
            self.close()

    def close(self) -> None:
        """Close now, or cut off: what is not read by now would keep the connection open for ever."""
        self._guard.forget(self)
        transport = self._transport
        if transport is not None:
            (transport.abort if transport.get_write_buffer_size() else transport.close)()

    def abort(self) -> None:
        self._guard.forget(self)
        if self._transport is not None:
            self._transport.abort()

    def _say(self, answer: bytes) -> None:
        """A last word from here instead of the application, which sees a lost connection."""
        self._guard.forget(self)
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() or not self._guard.farewell(transport, answer):
            transport.abort()
            return
        if self._wire is not None:
            self._wire.cut()
        self.connection_lost(None)

    def _enter(self, stage: Stage, seconds: float) -> None:
        self.stage = stage
        self.since = self._loop.time()
        self._until = self.since + seconds
        if self._until != NEVER:
            self._guard.watch(self._until)

    def _hold_reading(self, why: str, on: bool) -> None:
        if self._wire is not None:
            self._wire.hold(why, on)


class Wire(asyncio.Transport):
    """A transport as aiohttp sees it: reading goes on while nobody, here or there, holds it."""

    def __init__(self, line: Line, transport: asyncio.Transport) -> None:
        super().__init__()
        self.line = line
        self._transport = transport
        self._holds: set[str] = set()
        self._cut = False

    def hold(self, why: str, on: bool) -> None:
        """Hold reading, or let go of it, for one reason."""
        before = bool(self._holds)
        (self._holds.add if on else self._holds.discard)(why)
        if bool(self._holds) == before or self.is_closing():
            return
        if before:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def cut(self) -> None:
        """Whoever holds this end is done with it; the socket goes on without."""
        if self._holds and not self.is_closing():
            self._transport.resume_reading()
        self._cut = True

    def pause_reading(self) -> None:
        self.hold("inner", True)

    def resume_reading(self) -> None:
        self.hold("inner", False)

    def is_reading(self) -> bool:
        return not self._holds and not self.is_closing()

    def write(self, data: Any) -> None:
        if not self._cut:
            self._transport.write(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        if not self._cut:
            self._transport.writelines(list_of_data)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._cut or self._transport.is_closing()

    def close(self) -> None:
        if not self._cut:
            self._transport.close()

    def abort(self) -> None:
        if not self._cut:
            self._transport.abort()


class Farewell(asyncio.Protocol):
    """Takes a connection over, says a last word and closes.

    What the peer has sent already is thrown away first: closing before would reset the connection, and
    the answer with it.
    """

    _LINGER_S = 1.0

    def __init__(self, transport: asyncio.Transport, answer: bytes, said: Callable[[Farewell], None]) -> None:
        self._said = said
        self._timer = asyncio.get_running_loop().call_later(self._LINGER_S, transport.abort)
        self.abort = transport.abort
        transport.set_protocol(self)
        transport.write(answer)
        if transport.can_write_eof():
            transport.write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._said(self)


def canned(status: int, reason: str, message: str) -> bytes:
    """The answer to a request that the application never answers; the connection ends with it."""
    code = Code.UNAVAILABLE if status == 503 else Code.INVALID_ARGUMENT
    body = answer_body(Answer(code, message), PROTOBUF)
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Type: {PROTOBUF}", f"Content-Length: {len(body)}"]
    if status == 503:
        lines.append(f"Retry-After: {RETRY_AFTER_S}")
    lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body
