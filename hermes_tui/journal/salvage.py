"""Put every request that can still be read of a damaged journal into the fresh one.

How far that got is noted in the fresh journal with each piece, so that a relay killed at any moment goes on
where it was.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from hermes_tui.journal.aside import FRESH, Damage, pending, settle
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import Pen, RequestState, finished, request_state, standings
from hermes_tui.journal.pages import Pages, Place, Row, Value
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import BadRequest, Request, read

if TYPE_CHECKING:
    from hermes_tui.journal.writer import Writer

log = logging.getLogger(__name__)

_SPANS, _BYTES, _REQUESTS = 100, 1024 * 1024, 32  # put back in one commit
_ROWS = 500
_ROOM = 512 * 1024 * 1024  # on the disk that is left for others
_PAUSES = 3  # as long as a piece took: the rest of the time is the senders'
_STATES = range(RequestState.LOCAL, RequestState.STUCK + 1)
_DELIVERIES = range(len(Delivery))


# ---- what can be read


@dataclass(frozen=True, slots=True)
class Saved:
    """A request as it was stored. `number` is its old id."""

    number: int
    received_ns: int
    state: int
    headers: str
    credential: str
    span_count: int
    content_type: str
    content_encoding: str
    body: bytes
    decoded: Request


@dataclass(slots=True)
class Survey:
    """What a damaged journal still holds: requests by their place, small rows as they are."""

    requests: list[tuple[int, Place]] = field(default_factory=list)
    marks: dict[tuple[Value, ...], tuple[Value, ...]] = field(default_factory=dict)
    answers: dict[Value, tuple[Value, ...]] = field(default_factory=dict)
    read_back: dict[tuple[Value, ...], tuple[Value, ...]] = field(default_factory=dict)
    routes: dict[int, tuple[str, str]] = field(default_factory=dict)


class Wreck:
    """A damaged journal, opened for reading what can be read. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._pages = Pages(path)

    def close(self) -> None:
        self._pages.close()

    def survey(self) -> Survey:
        """Look at every page; takes about a second a gigabyte."""
        survey = Survey()
        requests: dict[int, Place] = {}
        for row in self._pages.rows():
            if _is_request(row):
                assert row.rowid is not None
                requests.setdefault(row.rowid, row.place)
            elif len(row.types) in (3, 4, 7, 8):
                _note(survey, row, self._pages.values(row))
        survey.requests = sorted(requests.items())
        return survey

    def requests(self, survey: Survey, after: int = 0) -> Iterator[Saved | None]:
        """The requests in the order of their arrival, from the one behind `after`; None: it is lost."""
        for number, place in survey.requests[after:]:
            yield self._request(survey, number, place)

    def _request(self, survey: Survey, number: int, place: Place) -> Saved | None:
        row = self._pages.row(place)
        values: Any = self._pages.values(row) if row is not None and _is_request(row) else None
        if values is None:
            return None
        received_ns, state, route, span_count, content_type, encoding, body = values[1:8]
        if state not in _STATES or (len(values) > 9 and values[9] not in (None, crc32(body))):
            return None
        try:
            decoded = read(body, content_type, encoding)
        except BadRequest:
            return None
        if len(decoded) != span_count:  # for those without a checksum: other bytes than were stored
            return None
        headers, credential = survey.routes.get(route, ("{}", ""))
        return Saved(
            number,
            received_ns,
            state,
            headers,
            credential,
            span_count,
            content_type,
            encoding,
            body,
            decoded,
        )


def _shape(types: Sequence[int]) -> str:
    return "".join(_letter(kind) for kind in types)


def _letter(kind: int) -> str:
    """n: null, i: integer, f: float, t: text, b: blob, 8 and 16: blobs as long as ids are."""
    if kind in (28, 44):
        return "s" if kind == 28 else "T"
    if kind >= 12:
        return "t" if kind % 2 else "b"
    return "n" if kind == 0 else "f" if kind == 7 else "i"


def _is_request(row: Row) -> bool:
    """By the columns of `requests`; versions 2 and 3 of the schema have one more each."""
    if row.rowid is None or row.rowid <= 0 or len(row.types) not in (8, 9, 10):
        return False
    shape = _shape(row.types)
    return shape[:7] == "niiiitt" and shape[7] in "bsT" and shape[8:] in ("", "t", "ti", "tn")


def _note(survey: Survey, row: Row, values: Any) -> None:
    """Keep a small row that belongs to one of the tables worth it, if it is the newest version."""
    shape = _shape(row.types)
    if values is None:
        return
    if shape == "ntt" and row.rowid is not None and _is_object(values[1]):
        survey.routes.setdefault(row.rowid, (values[1], values[2]))
    elif row.rowid is not None:
        return
    elif shape[:6] == "Tstiii" and shape[6:] in ("n", "t", "ni", "ti") and values[4] in _DELIVERIES:
        survey.marks.setdefault(tuple(values[:3]), (*values, 0)[:8])
    elif shape == "titt" and _is_object(values[3]):
        survey.answers.setdefault(values[0], tuple(values))
    elif shape == "Ttit" and _is_object(values[3]):
        survey.read_back.setdefault(tuple(values[:2]), tuple(values))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


# ---- putting it back


@dataclass(slots=True)
class PutBack:
    """What became of one damaged journal; `lost` are requests of which only a part can be read."""

    file: str
    reason: str
    at_ns: int
    requests: int = 0
    lost: int = 0


def put_all_back(state: StateDir, writer: Writer, stop: threading.Event) -> list[PutBack]:
    """Put everything back that is still to be, in pieces between which requests are taken, until `stop`.

    For a thread of its own. Raises `sqlite3.Error` when the journal cannot take it; call it again later.
    """
    results = []
    for damage in pending(state):
        wreck = Wreck(state.path / damage.file)
        try:
            results.append(_Restoration(state, writer, wreck, damage, stop).run())
        finally:
            wreck.close()
        if stop.is_set():
            break
        settle(state, damage)
        found = results[-1]
        log.warning("of %s, %d requests were put back, %d are lost", found.file, found.requests, found.lost)
    return results


class _Restoration:
    """Of one damaged journal."""

    def __init__(
        self, state: StateDir, writer: Writer, wreck: Wreck, damage: Damage, stop: threading.Event
    ) -> None:
        self._state, self._writer, self._wreck, self._stop = state, writer, wreck, stop
        self._result = PutBack(damage.file, damage.reason, damage.at_ns)

    def run(self) -> PutBack:
        result = self._result
        known: PutBack | None = self._writer.do(lambda pen: _progress(pen.connection)).result()
        if known is not None and known.file == result.file:
            result.requests, result.lost = known.requests, known.lost
        survey = self._wreck.survey()
        if result.requests + result.lost == 0:
            self._put_rest(survey)
        piece: list[Saved] = []
        for saved in self._wreck.requests(survey, after=result.requests + result.lost):
            if self._stop.is_set():
                return result
            if saved is None:
                result.lost += 1
                continue
            piece.append(saved)
            if _weight(piece) >= 1:
                self._put(piece)
                piece = []
        self._put(piece)
        return result

    def _put_rest(self, survey: Survey) -> None:
        for table, columns, rows in (
            ("marks", "trace_id, span_id, destination, end_ns, state, at_ns, reason, lost", survey.marks),
            ("answers", "wish, at_ns, state, document", survey.answers),
            ("read_back", "trace_id, destination, at_ns, document", survey.read_back),
        ):
            places = ", ".join("?" * len(columns.split(",")))
            # What is in the journal already is newer.
            statement = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})"
            left = list(rows.values())
            while left and not self._stop.is_set():
                some, left = left[:_ROWS], left[_ROWS:]
                self._do(partial(_insert, statement=statement, rows=some))

    def _put(self, piece: list[Saved]) -> None:
        self._result.requests += len(piece)
        self._do(lambda pen: _put_back(pen, self._result, piece))

    def _do(self, work: Callable[[Pen], object]) -> None:
        disk = shutil.disk_usage(self._state.path)
        if disk.free < min(_ROOM, disk.total // 10):  # what arrives now needs it more
            raise sqlite3.OperationalError("there is no room to put more of a damaged journal back")
        began = time.monotonic()
        self._writer.do(work).result()
        self._stop.wait((time.monotonic() - began) * _PAUSES)


def _insert(pen: Pen, statement: str, rows: Sequence[tuple[Value, ...]]) -> None:
    pen.connection.executemany(statement, rows)


def _weight(piece: Sequence[Saved]) -> float:
    """1 and more: as much as one commit should hold while senders wait."""
    spans = sum(saved.span_count for saved in piece)
    return max(spans / _SPANS, sum(len(saved.body) for saved in piece) / _BYTES, len(piece) / _REQUESTS)


def _progress(connection: sqlite3.Connection) -> PutBack | None:
    row = connection.execute("SELECT value FROM meta WHERE key = 'salvage'").fetchone()
    return None if row is None else PutBack(**json.loads(row[0]))


def _put_back(pen: Pen, result: PutBack, requests: Sequence[Saved]) -> None:
    """Some requests, indexed at once, and how far that got."""
    connection = pen.connection
    row = connection.execute("SELECT coalesce(max(id), 0) FROM requests WHERE id < ?", (FRESH,)).fetchone()
    for number, saved in enumerate(requests, row[0] + 1):
        route = (saved.headers, saved.credential)
        connection.execute("INSERT OR IGNORE INTO routes (headers, credential) VALUES (?, ?)", route)
        connection.execute(
            "INSERT INTO requests (id, received_ns, state, route, span_count, content_type, "
            "content_encoding, body, checksum) VALUES (?, ?, ?, "
            "(SELECT id FROM routes WHERE headers = ? AND credential = ?), ?, ?, ?, ?, ?)",
            (
                number,
                saved.received_ns,
                saved.state,
                *route,
                saved.span_count,
                saved.content_type,
                saved.content_encoding,
                saved.body,
                crc32(saved.body),
            ),
        )
        state = saved.state
        if state != RequestState.LOCAL:  # by its marks: some may be lost, and then it is sent again
            keys = finished(saved.decoded.ids())
            state, destination = request_state(standings(connection, keys).values())
            connection.execute(
                "UPDATE requests SET state = ?, destination = ? WHERE id = ?", (state, destination, number)
            )
        pen.index.admit(number, state, saved.received_ns, saved.decoded)
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('salvage', ?)", (json.dumps(asdict(result)),)
    )
