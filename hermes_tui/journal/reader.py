"""Read-only views of the journal, for panes and commands.

Every read is bounded and fetched whole: an open cursor would keep the WAL from being reset.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hermes_tui.journal.files import StateError
from hermes_tui.model.span import UNDELIVERED, Delivery, Kind, Role, Span, Status

if TYPE_CHECKING:
    from hermes_tui.otlp.codec import Detail

PROBE = "hermes-trace-doctor-"
"""How the sessions of the doctor's probe spans begin: no work of Hermes', and gone again soon."""

_COLUMNS = (
    "revision, trace_id, span_id, parent_id, name, kind, role, status, start_ns, end_ns, delivery, "
    "request, position, facts"
)
_PAGE = 2_000  # rows a read returns at most
_NAMES = 500  # placeholders in one statement; SQLite allows at least 999
_KINDS = {kind.value: kind for kind in Kind}
_ROLES = {role.value: role for role in Role}
_STATUSES = tuple(Status)
_DELIVERIES = tuple(Delivery)
_UNDELIVERED = ", ".join(str(each.value) for each in UNDELIVERED)
_SHARED = (
    "session",
    "model",
    "provider",
    "platform",
    "tool",
    "cwd",
    "outcome",
    "finish_reason",
    "final_status",
)
_decode = msgspec.msgpack.Decoder().decode


class SessionRow(msgspec.Struct, frozen=True):
    """A session as the journal's index knows it, without folding its spans."""

    session: str
    received_ns: int
    traces: int


class StoredRequest(msgspec.Struct, frozen=True):
    """A request with its original bytes."""

    id: int
    content_type: str
    content_encoding: str
    body: bytes


class NoJournal(StateError):
    """Nothing was ever received into this state folder, or its relay is just making the journal."""


class Reader:
    """One read-only connection to a journal. Raises NoJournal, or StateError when it is unreadable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise NoJournal(f"there is no journal at {path} yet; nothing has been received")
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10
            )
        except sqlite3.Error as error:
            raise StateError(f"cannot read the journal {path}: {error}") from error
        try:
            self._connection.execute("PRAGMA query_only = ON")
            self._inode = path.stat().st_ino
            if not self._ready():
                raise NoJournal(f"the journal {path} is just being made")
            self.epoch = self._meta("epoch")
        except (OSError, sqlite3.Error) as error:
            self._connection.close()
            raise StateError(f"cannot read the journal {path}: {error}") from error
        except NoJournal:
            self._connection.close()
            raise
        self._version = -1

    def _ready(self) -> bool:
        tables = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trace_sessions'")
        return tables.fetchone() is not None

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def changed(self) -> bool:
        """Whether anything was committed since the last call; costs microseconds."""
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        changed = version != self._version
        self._version = version
        return changed

    def stale(self) -> bool:
        """Whether this is another journal than the one opened: reopen and start over."""
        try:
            return self._path.stat().st_ino != self._inode or self._meta("epoch") != self.epoch
        except OSError:
            return True

    def revision(self) -> int:
        """The newest revision."""
        return int(self._meta("revision") or 0)

    def indexed(self) -> tuple[int, int]:
        """(last indexed request, last request): equal when the index has caught up."""
        (last,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM requests").fetchone()
        return int(self._meta("indexed") or 0), last

    def tail(self, revision: int) -> list[Span]:
        """Spans whose row changed after `revision`, oldest change first; a page at most."""
        return self._spans("WHERE revision > ? ORDER BY revision LIMIT ?", (revision, _PAGE))

    def recent_sessions(self, limit: int = 5_000) -> list[SessionRow]:
        """Sessions with the newest arrival first, without probes; traces without one stand for themselves."""
        rows = self._connection.execute(
            "SELECT coalesce(session, 'trace-' || lower(hex(trace_id))) AS name, "
            "max(received_ns) AS newest, count(*) FROM traces WHERE name NOT GLOB ? GROUP BY name "
            "ORDER BY newest DESC, name LIMIT ?",
            (f"{PROBE}*", limit),
        ).fetchall()
        return [SessionRow(*row) for row in rows]

    def newest_session(self) -> str | None:
        """The session with the newest arrival; subagents' spans count for the session above them."""
        row = self._connection.execute(
            "SELECT coalesce(session, 'trace-' || lower(hex(trace_id))) AS name FROM traces "
            "WHERE name NOT GLOB ? ORDER BY received_ns DESC, first_ns DESC LIMIT 1",
            (f"{PROBE}*",),
        ).fetchone()
        return None if row is None else str(row[0])

    def traces_of(self, session: str) -> list[bytes]:
        """Ids of the traces that hold spans of a session, those with the newest arrival first."""
        if (trace_id := _trace_of(session)) is not None:
            return [trace_id]
        rows = self._connection.execute(
            "SELECT trace_id FROM traces JOIN trace_sessions USING (trace_id) "
            "WHERE trace_sessions.session = ? ORDER BY received_ns DESC, first_ns DESC",
            (session,),
        ).fetchall()
        return [row[0] for row in rows]

    def spans_of(self, traces: Sequence[bytes]) -> Iterator[list[Span]]:
        """All spans of some traces, a bounded number of traces at a time, each trace whole."""
        for at in range(0, len(traces), _NAMES):
            some = traces[at : at + _NAMES]
            yield self._spans(f"WHERE trace_id IN ({', '.join('?' * len(some))})", some)

    def span(self, trace_id: bytes, span_id: bytes) -> Span | None:
        """One span's row."""
        found = self._spans("WHERE trace_id = ? AND span_id = ?", (trace_id, span_id))
        return found[0] if found else None

    def traces(self) -> list[bytes]:
        """Ids of all traces."""
        return [row[0] for row in self._connection.execute("SELECT trace_id FROM traces").fetchall()]

    def counts(self) -> Counter[Delivery]:
        """Finished spans by delivery. Confirmed ones are the rest: they are most, and not looked at."""
        unproven = [each for each in _DELIVERIES if each is not Delivery.CONFIRMED]
        parts = "".join(
            f", (SELECT count(*) FROM spans WHERE delivery != 3 AND delivery = {each.value} AND end_ns > 0)"
            for each in unproven
        )
        ((total, *counts),) = self.rows(
            "SELECT (SELECT count(*) FROM spans) - (SELECT count(*) FROM spans WHERE delivery != 3)" + parts
        )
        return +Counter(dict(zip((Delivery.CONFIRMED, *unproven), (total, *counts), strict=True)))

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows of a bounded SELECT, for the journal's other readers."""
        return self._connection.execute(statement, parameters).fetchall()

    def document(self, key: str) -> dict[str, Any]:
        """A JSON document that the relay keeps for readers; empty when there is none."""
        text = self._meta(key)
        document = json.loads(text) if isinstance(text, str) else {}
        return document if isinstance(document, dict) else {}

    def answer(self, wish: str) -> tuple[str, dict[str, Any]] | None:
        """What became of a wish on the desk: working, done or failed, and the document; None: not seen."""
        try:
            row = self._connection.execute(
                "SELECT state, document FROM answers WHERE wish = ?", (wish,)
            ).fetchone()
        except sqlite3.OperationalError:  # a journal that no relay of this version has opened yet
            return None
        return None if row is None else (row[0], json.loads(row[1]))

    def arrived_before(self, time_ns: int) -> tuple[int, int, int]:
        """Requests, spans and undelivered spans that arrived before a time; looks through all of them."""
        counts = self._connection.execute(
            "SELECT (SELECT count(*) FROM requests WHERE received_ns < ?1), count(*), "
            f"coalesce(sum(end_ns > 0 AND delivery IN ({_UNDELIVERED})), 0) "
            "FROM spans JOIN requests ON requests.id = request WHERE received_ns < ?1",
            (time_ns,),
        ).fetchone()
        return counts[0], counts[1], counts[2]

    def names(self, spans: Collection[bytes]) -> dict[bytes, str]:
        """Names by span id; looks through all spans."""
        found: dict[bytes, str] = {}
        wanted = list(spans)
        for at in range(0, len(wanted), _NAMES):
            some = wanted[at : at + _NAMES]
            found.update(
                self._connection.execute(
                    f"SELECT span_id, name FROM spans WHERE span_id IN ({', '.join('?' * len(some))})", some
                ).fetchall()
            )
        return found

    def reasons(self, limit: int = 20) -> list[tuple[bytes, bytes, Delivery, str]]:
        """Why spans were held or quarantined, newest first: (trace id, span id, state, reason)."""
        rows = self._connection.execute(
            "SELECT trace_id, span_id, state, coalesce(reason, '') FROM marks WHERE state IN (?, ?) "
            "ORDER BY at_ns DESC LIMIT ?",
            (Delivery.HELD.value, Delivery.QUARANTINED.value, limit),
        ).fetchall()
        return [(trace_id, span_id, Delivery(state), reason) for trace_id, span_id, state, reason in rows]

    def reason(self, span: Span) -> str:
        """Why a span was held or quarantined; "" when it was not."""
        row = self._connection.execute(
            "SELECT reason FROM marks WHERE trace_id = ? AND span_id = ? ORDER BY at_ns DESC LIMIT 1",
            (span.trace_id, span.span_id),
        ).fetchone()
        return "" if row is None or row[0] is None else str(row[0])

    def details(self, spans: Iterable[Span]) -> Iterator[tuple[Span, Detail]]:
        """Each span with all that it says, read from its request; a request is decoded once a run.

        Spans whose request is gone are left out.
        """
        from hermes_tui.otlp.codec import Request, read

        number, request = -1, Request(b"")
        for span in spans:
            if span.request != number:
                stored = self.request_after(span.request - 1)
                if stored is None or stored.id != span.request:
                    continue
                number = span.request
                request = read(stored.body, stored.content_type, stored.content_encoding)
            yield span, request.detail(span.position)

    def request_after(self, number: int) -> StoredRequest | None:
        """The stored request that arrived next after request `number`; None when that is the last."""
        row = self._connection.execute(
            "SELECT id, content_type, content_encoding, body FROM requests WHERE id > ? ORDER BY id LIMIT 1",
            (number,),
        ).fetchone()
        return None if row is None else StoredRequest(*row)

    def _meta(self, key: str) -> Any:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _spans(self, where: str, parameters: Sequence[object]) -> list[Span]:
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM spans {where}", parameters).fetchall()
        ids: dict[Any, Any] = {}
        return [_span(row, ids) for row in rows]


def _span(row: tuple[Any, ...], ids: dict[Any, Any]) -> Span:
    """`ids` are those met before, of spans and of requests: the same one is kept once, and texts that most
    spans share are, too. A long session has 100,000 spans.
    """
    (revision, trace_id, span_id, parent_id, name, kind, role, status, start_ns, end_ns, delivery, request,
     position, encoded) = row  # fmt: skip
    facts = _decode(encoded)
    for shared in _SHARED:
        if (text := facts.get(shared)) is not None:
            facts[shared] = sys.intern(text)
    return Span(
        trace_id=ids.setdefault(trace_id, trace_id),
        span_id=ids.setdefault(span_id, span_id),
        parent_id=ids.setdefault(parent_id, parent_id),
        name=sys.intern(name),
        kind=_KINDS[kind],
        role=_ROLES[role],
        status=_STATUSES[status],
        start_ns=start_ns,
        end_ns=end_ns,
        delivery=_DELIVERIES[delivery],
        request=ids.setdefault(request, request),
        position=position,
        revision=revision,
        **facts,
    )


def _trace_of(session: str) -> bytes | None:
    """The trace that stands for its own session, when `session` is such a name."""
    if not session.startswith("trace-") or len(session) != 38:
        return None
    try:
        return bytes.fromhex(session[6:])
    except ValueError:
        return None
