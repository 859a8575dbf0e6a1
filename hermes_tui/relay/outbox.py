"""What still has to be sent, read from the journal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hermes_tui.journal.marks import RequestState
from hermes_tui.otlp.codec import Request, decompress

BATCH_SPANS = 500
BATCH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Route:
    """Requests of one route go together: same sender's headers, same credential."""

    id: int
    headers: dict[str, str]
    credential: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """One stored request on its way: original bytes and what they hold."""

    id: int
    content_type: str
    content_encoding: str
    body: bytes

    def plain(self) -> bytes:
        return decompress(self.body, self.content_encoding)

    def spans(self) -> list[tuple[bytes, bytes, int]]:
        """(trace id, span id, end in ns) of what it holds."""
        return Request(self.plain()).ids()


class Outbox:
    """A read-only connection for the exporter; every read is bounded."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10
        )

    def close(self) -> None:
        self._connection.close()

    def routes(self) -> list[Route]:
        """Routes with something to send, the oldest waiting request first."""
        rows = self._connection.execute(
            "SELECT route, headers, credential FROM (SELECT route, min(id) AS oldest FROM requests "
            "WHERE state = ? GROUP BY route) JOIN routes ON routes.id = route ORDER BY oldest",
            (RequestState.TO_SEND,),
        ).fetchall()
        return [Route(number, json.loads(headers), credential) for number, headers, credential in rows]

    def batch(self, route: Route, *, without: Collection[int] = ()) -> list[Parcel]:
        """The oldest requests of a route that go together in one, and are indexed already.

        `without` are ids that wait for a later time.
        """
        rows = self._connection.execute(
            "SELECT id, span_count, length(body), content_type, content_encoding FROM requests "
            "WHERE state = ? AND route = ? AND id <= (SELECT value FROM meta WHERE key = 'indexed') "
            "ORDER BY id LIMIT ?",
            (RequestState.TO_SEND, route.id, BATCH_SPANS + len(without)),
        ).fetchall()
        parcels: list[Parcel] = []
        spans = size = 0
        for number, span_count, length, content_type, encoding in rows:
            if number in without:
                continue
            if parcels and (spans + span_count > BATCH_SPANS or size + length > BATCH_BYTES):
                break
            (body,) = self._connection.execute("SELECT body FROM requests WHERE id = ?", (number,)).fetchone()
            parcel = Parcel(number, content_type, encoding, body)
            # What a compressed request unfolds to counts, not what it is sent as.
            length = len(parcel.plain()) if encoding else length
            if parcels and size + length > BATCH_BYTES:
                break
            parcels.append(parcel)
            spans, size = spans + span_count, size + length
        return parcels


def merge(parcels: list[Parcel]) -> tuple[bytes, str]:
    """One body for several requests and its Content-Encoding; several are never compressed.

    Concatenated protobuf messages are one message with all their fields (Protocol Buffers encoding,
    "Last One Wins"); a request that goes alone keeps its very bytes.
    """
    if len(parcels) == 1:
        return parcels[0].body, parcels[0].content_encoding
    return b"".join(parcel.plain() for parcel in parcels), ""
