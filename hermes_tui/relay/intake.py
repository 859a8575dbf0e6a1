"""`accept`: check, store, answer. The only way into the journal, whatever the transport."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter

from hermes_tui.journal.writer import Envelope, Writer
from hermes_tui.otlp.answers import Answer, Code, Received
from hermes_tui.otlp.codec import JSON, MAX_BYTES, BadRequest, Request, TooLarge, media_type, read
from hermes_tui.relay.credentials import Credentials

log = logging.getLogger(__name__)

_WAITING_BYTES = 256 * 1024 * 1024
"""Requests that are decoded or wait for the disk at most, by what they unfold to; beyond that the answer
is 503 and memory stays bounded."""

_RETRY_AFTER_S = 2
_FULL_RETRY_AFTER_S = 15  # no room is made within a moment
_DECODING = 2  # large requests at a time; the rest wait as bytes

# Larger ones are decoded in a thread. Measured, of small spans on one core: 6 ms of work for each.
_LARGE_PROTOBUF = 1024 * 1024
_LARGE_JSON = 64 * 1024
_LARGE_PACKED = 8 * 1024  # which may unfold to a thousand times as much


class Intake:
    """Takes export requests in, of `limit` bytes at most before and after decompression.

    `counts` holds what arrived by signal; `refused` what was not taken.
    """

    def __init__(self, writer: Writer, credentials: Credentials, limit: int = MAX_BYTES) -> None:
        self._writer = writer
        self._credentials = credentials
        self._limit = limit
        self._waiting = 0
        self._decoding = asyncio.Semaphore(_DECODING)
        self._tasks: set[asyncio.Task[Answer]] = set()
        self.counts: Counter[str] = Counter()
        self.refused = 0

    def use(self, writer: Writer) -> None:
        """Store in another journal from now on."""
        self._writer = writer

    async def accept(self, received: Received) -> Answer:
        """OK once the request is on disk; else why not, and whether to come again."""
        if received.signal != "traces":
            self.counts[received.signal] += 1
            return Answer()
        # A sender that hangs up must not undo what is already on its way to the disk.
        task = asyncio.create_task(self._take(received))
        self._tasks.add(task)  # the loop holds only a weak reference
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _take(self, received: Received) -> Answer:
        size = len(received.body)
        if not self._fits(size):
            return self._busy()
        if why := self._writer.refusal():
            self.refused += 1
            return Answer(Code.UNAVAILABLE, why, _FULL_RETRY_AFTER_S)
        self._waiting += size
        try:
            decoded = await self._check(received)
            self.counts["traces"] += 1
            if len(decoded) == 0:
                return Answer()
            more = max(0, decoded.size - size)
            if not self._fits(more):
                return self._busy()
            size += more
            self._waiting += more
            return await self._store(_envelope(received, decoded), received.headers.get("authorization", ""))
        except BadRequest as error:
            self.refused += 1
            code = Code.RESOURCE_EXHAUSTED if isinstance(error, TooLarge) else Code.INVALID_ARGUMENT
            log.warning("refused a request of %d bytes: %s", len(received.body), error)
            return Answer(code, str(error))
        finally:
            self._waiting -= size

    def _fits(self, size: int) -> bool:
        return self._waiting + size <= _WAITING_BYTES

    def _busy(self) -> Answer:
        self.refused += 1
        return Answer(Code.UNAVAILABLE, "too many requests wait for the disk", _RETRY_AFTER_S)

    async def _check(self, received: Received) -> Request:
        """In a thread when it would keep the event loop from answering others. Raises BadRequest."""
        said = (received.body, received.content_type, received.content_encoding, self._limit)
        if len(received.body) <= _large(received):
            return read(*said)
        async with self._decoding:
            return await asyncio.to_thread(read, *said)

    async def _store(self, envelope: Envelope, authorization: str) -> Answer:
        try:
            if authorization:
                envelope.credential = self._credentials.keep(authorization)
            await asyncio.wrap_future(self._writer.append(envelope))
        except (sqlite3.Error, OSError) as error:
            self.refused += 1
            log.error("cannot store a request of %d bytes: %s", len(envelope.body), error)
            return Answer(Code.UNAVAILABLE, f"cannot store the request: {error}", _RETRY_AFTER_S)
        except (ValueError, OverflowError) as error:  # a header that no database can hold
            self.refused += 1
            return Answer(Code.INVALID_ARGUMENT, f"the request cannot be stored: {error}")
        finally:
            self._credentials.settle(envelope.credential)
        return Answer()


def _large(received: Received) -> int:
    """Bytes above which a request is large."""
    if received.content_encoding.strip().lower() not in ("", "identity"):
        return _LARGE_PACKED
    return _LARGE_JSON if media_type(received.content_type) == JSON else _LARGE_PROTOBUF


def _envelope(received: Received, decoded: Request) -> Envelope:
    return Envelope(
        body=received.body,
        content_type=received.content_type,
        content_encoding=received.content_encoding.strip().lower(),
        decoded=decoded,
        span_count=len(decoded),
        headers={n: v for n, v in received.headers.items() if n.startswith("x-mlflow-")},
    )
