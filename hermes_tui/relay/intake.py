"""`accept`: check, store, answer. The only way into the journal, whatever the transport."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter

from hermes_tui.journal.writer import Envelope, Writer
from hermes_tui.otlp.answers import Answer, Code, Received
from hermes_tui.otlp.codec import BadRequest, Request, TooLarge, decompress
from hermes_tui.relay.credentials import Credentials

log = logging.getLogger(__name__)

_WAITING_BYTES = 256 * 1024 * 1024
"""Bodies that wait for the disk at most; beyond that the answer is 503 and memory stays bounded."""

_RETRY_AFTER_S = 2


class Intake:
    """Takes export requests in. `counts` holds what arrived by signal; `refused` what was not taken."""

    def __init__(self, writer: Writer, credentials: Credentials) -> None:
        self._writer = writer
        self._credentials = credentials
        self._waiting = 0
        self.counts: Counter[str] = Counter()
        self.refused = 0

    async def accept(self, received: Received) -> Answer:
        """OK once the request is on disk; else why not, and whether to come again."""
        if received.signal != "traces":
            self.counts[received.signal] += 1
            return Answer()
        try:
            envelope = self._check(received)
        except BadRequest as error:
            self.refused += 1
            code = Code.RESOURCE_EXHAUSTED if isinstance(error, TooLarge) else Code.INVALID_ARGUMENT
            log.warning("refused a request of %d bytes: %s", len(received.body), error)
            return Answer(code, str(error))
        self.counts["traces"] += 1
        if envelope.span_count == 0:
            return Answer()
        return await self._store(envelope, received.headers.get("authorization", ""))

    def _check(self, received: Received) -> Envelope:
        decoded = Request(decompress(received.body, received.content_encoding))
        return Envelope(
            body=received.body,
            content_type=received.content_type,
            content_encoding=received.content_encoding.strip().lower(),
            decoded=decoded,
            span_count=len(decoded),
            headers={n: v for n, v in received.headers.items() if n.startswith("x-mlflow-")},
        )

    async def _store(self, envelope: Envelope, authorization: str) -> Answer:
        size = len(envelope.body)
        if self._waiting + size > _WAITING_BYTES:
            self.refused += 1
            return Answer(Code.UNAVAILABLE, "too many requests wait for the disk", _RETRY_AFTER_S)
        self._waiting += size
        try:
            if authorization:
                envelope.credential = self._credentials.keep(authorization)
            # Shielded: a sender that hangs up must not undo what is already on its way to the disk.
            await asyncio.shield(asyncio.wrap_future(self._writer.append(envelope)))
        except (sqlite3.Error, OSError) as error:
            self.refused += 1
            log.error("cannot store a request of %d bytes: %s", size, error)
            return Answer(Code.UNAVAILABLE, f"cannot store the request: {error}", _RETRY_AFTER_S)
        except (ValueError, OverflowError) as error:  # a header that no database can hold
            self.refused += 1
            return Answer(Code.INVALID_ARGUMENT, f"the request cannot be stored: {error}")
        finally:
            self._waiting -= size
            self._credentials.settle(envelope.credential)
        return Answer()
