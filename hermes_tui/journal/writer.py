"""The one writer of the journal: a thread with the only connection that changes anything.

Requests that arrive together share one commit (group commit); the index follows in commits of its
own, whenever no request waits. A caller gets a `concurrent.futures.Future` per job.
"""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from zlib import crc32

from hermes_tui.journal import marks
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.journal.indexing import Index
from hermes_tui.journal.marks import Pen, RequestState, SpanKey
from hermes_tui.journal.opening import is_damage, open_or_replace
from hermes_tui.journal.tally import Tally
from hermes_tui.journal.wal import RETRY_S, WriteAheadLog
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import Request

log = logging.getLogger(__name__)

T = TypeVar("T")

_GROUP = 256  # requests in one commit, so that the first of them does not wait for an endless rest
_QUIET_S = 0.01  # without a request for so long, the index has the thread for itself
_LONGEST_S = 0.03  # of one commit of the index, so that readers see it move
_SHARE = 0.15  # of the thread's time goes to the index while requests keep coming
_RETRY_S = 1.0  # pause after indexing failed (disk full, say)


@dataclass(slots=True)
class Envelope:
    """One export request as it came: original bytes, and what its headers said about them.

    `headers` holds only the sender's `x-mlflow-*`, names in lower case; `credential` names the
    Authorization value, which lies elsewhere.
    """

    body: bytes
    content_type: str
    content_encoding: str
    decoded: Request
    span_count: int
    headers: dict[str, str] = field(default_factory=dict)
    credential: str = ""
    received_ns: int = field(default_factory=time.time_ns)


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes. `undelivered`: of requests that wait to be delivered (0: no limit). The write-ahead log is
    emptied beyond `log`; beyond `longest_log` no requests are taken until it could be.
    """

    undelivered: int = 0
    log: int = 64 * 1024 * 1024
    longest_log: int = 1024 * 1024 * 1024


@dataclass(slots=True)
class _Append:
    envelope: Envelope
    future: Future[int]


@dataclass(slots=True)
class _Job:
    work: Callable[[Pen], Any]
    future: Future[Any]
    alone: bool = False


class Writer:
    """Opens (or creates) the journal of a state folder and owns all writing to it.

    `forward` says whether requests that arrive now have a destination. A journal that is damaged, or that
    `damage` says is, is moved aside and a fresh one begun. Called in the writer's thread: `on_index` after
    spans were indexed, `on_damage` once when the journal turns out to be damaged. Raises StateError when
    it cannot be used.
    """

    def __init__(
        self,
        state: StateDir,
        *,
        forward: bool = False,
        on_index: Callable[[], None] = lambda: None,
        on_damage: Callable[[str], None] = lambda _: None,
        damage: str = "",
        limits: Limits = Limits(),
        synchronous: str = "FULL",
    ) -> None:
        self.forward = forward
        self._on_index, self._on_damage = on_index, on_damage
        self._limits = limits
        self._jobs: queue.SimpleQueue[_Append | _Job | None] = queue.SimpleQueue()
        self._routes: dict[tuple[str, str], int] = {}
        self._gate = threading.Lock()  # so that no job is put behind the end of the queue
        self._closed = self._damaged = False
        self._stuck = False  # indexing failed: try again later
        self._quiet_at = self._index_at = 0.0  # when the index may go on: no requests, or its share is due
        self.commits = 0
        self._synchronous = synchronous
        self._connection, self._index, self._tally = _open(state, synchronous, damage)
        self._wal = WriteAheadLog(self._connection, state.journal, limits.log)
        self._pen = Pen(self._connection, self._index)
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def append(self, envelope: Envelope) -> Future[int]:
        """Store a request; the future's result is its id, given once it is on disk.

        The future raises `sqlite3.Error` when it could not be stored (disk full, say), and
        `ValueError` or `OverflowError` when a database cannot hold what the envelope says.
        """
        future: Future[int] = Future()
        self._put(_Append(envelope, future))
        return future

    def mark(
        self,
        spans: Sequence[SpanKey],
        state: Delivery,
        *,
        destination: str,
        reason: str | None = None,
        sent: Sequence[int] = (),
        parted: Sequence[int] = (),
    ) -> Future[None]:
        """Set the delivery of spans. Of the requests `sent` it is all, of those `parted` a part of them."""

        def work(pen: Pen) -> None:
            marks.mark(pen, spans, state, destination, reason)
            requests = [(RequestState.PARTED, "", each) for each in parted]
            requests += [(RequestState.SENT, destination, each) for each in sent]
            pen.connection.executemany(
                "UPDATE requests SET state = ?, destination = ? WHERE id = ?", requests
            )

        return self.do(work)

    def set_meta(self, key: str, value: object) -> Future[None]:
        """Keep one JSON document for readers, such as the exporter's state."""
        text = json.dumps(value)

        def work(pen: Pen) -> None:
            pen.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, text))

        return self.do(work)

    @property
    def undelivered_bytes(self) -> int:
        """Of the requests that wait to be delivered."""
        return self._tally.bytes

    def refusal(self) -> str:
        """Why no request should be taken now; "" when they can be."""
        full = self._tally.excess(self._limits.undelivered) if self.forward else ""
        return full or self._wal.excess(self._limits.longest_log)

    def suspect(self, error: BaseException) -> bool:
        """Whether an error that a reader of the journal met says that the file is damaged; then so be it."""
        damage = is_damage(error)
        if damage and not self._damaged:
            self._damaged = True
            log.error("the journal is damaged: %s", error)
            self._on_damage(str(error))
        return damage

    def close(self) -> None:
        """Store what was accepted, index it (else the next writer does), and close. Safe to call twice."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def do(self, work: Callable[[Pen], T]) -> Future[T]:
        """Run `work` in the writer's thread, in a transaction of its own; the future has its result.

        Requests wait meanwhile: keep it to milliseconds, and do long work in pieces.
        """
        future: Future[T] = Future()
        self._put(_Job(work, future))
        return future

    def empty_log(self) -> Future[bool]:
        """Write all into the journal's file itself; False when a reader keeps the log from being cut."""
        return self._alone(lambda pen: self._wal.empty())

    def compact(self) -> Future[None]:
        """Rewrite the whole file, so that nothing is left of what was forgotten. Requests wait meanwhile."""
        return self._alone(_vacuum)

    def _alone(self, work: Callable[[Pen], T]) -> Future[T]:
        """`do` without a transaction, for what SQLite does only outside of one."""
        future: Future[T] = Future()
        self._put(_Job(work, future, alone=True))
        return future

    def _put(self, job: _Append | _Job) -> None:
        with self._gate:
            if not self._closed:
                self._jobs.put(job)
                return
        job.future.set_exception(sqlite3.ProgrammingError("the journal is closed"))

    def _run(self) -> None:
        closing = False
        while not (closing and (self._stuck or not self._index.behind)):
            jobs, closing = self._take(closing)
            appends = [job for job in jobs if isinstance(job, _Append)]
            if appends:
                self._append(appends)
                self._quiet_at = time.monotonic() + _QUIET_S
            for job in jobs:
                if isinstance(job, _Job):
                    self._do(job)
            if self._index.behind and (closing or self._index_pause() <= 0):
                self._follow()
            self._relieve()
        self._connection.close()

    def _index_pause(self) -> float:
        """Seconds that the index leaves the thread to requests, so that senders wait for the disk only."""
        return min(self._quiet_at, self._index_at) - time.monotonic()

    def _take(self, closing: bool) -> tuple[list[_Append | _Job], bool]:
        """The jobs that are there now; waits for the first only when there is nothing else to do."""
        jobs: list[_Append | _Job] = []
        patience: float | None = None
        if self._stuck:
            patience = _RETRY_S
        elif self._index.behind:
            patience = max(0.0, self._index_pause())
        elif self._wal.excess(self._limits.longest_log):
            patience = RETRY_S
        while len(jobs) < _GROUP:
            try:
                job = self._jobs.get(not jobs and not closing and patience != 0, patience)
            except queue.Empty:
                break
            if job is None:
                closing = True
            elif job.future.set_running_or_notify_cancel():  # from here on nobody can cancel it
                jobs.append(job)
        return jobs, closing

    def _append(self, appends: list[_Append]) -> None:
        stored: list[tuple[_Append, int]] = []
        try:
            with self._transaction(self._synchronous):
                for append in appends:
                    try:
                        stored.append((append, self._insert(append.envelope)))
                    except (ValueError, OverflowError) as error:  # only this request is to blame
                        append.future.set_exception(error)
        except sqlite3.Error as error:
            self._routes.clear()  # some may have been made in what was rolled back
            for append in appends:
                if not append.future.done():
                    append.future.set_exception(error)
            self.suspect(error)
            return
        self.commits += 1
        self._stuck = False  # there is room again
        for append, request_id in stored:
            self._index.expect(request_id, append.envelope.decoded, append.envelope.decoded.size)
            append.future.set_result(request_id)

    @contextmanager
    def _transaction(self, synchronous: str) -> Iterator[None]:
        connection = self._connection
        try:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException:
            self._tally.rolled_back()
            if connection.in_transaction:
                try:
                    connection.execute("ROLLBACK")
                except sqlite3.Error as error:
                    log.error("cannot roll back: %s", error)
                    self.suspect(error)
            raise
        self._tally.committed()

    def _insert(self, envelope: Envelope) -> int:
        cursor = self._connection.execute(
            "INSERT INTO requests "
            "(received_ns, state, route, span_count, content_type, content_encoding, body, checksum) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                envelope.received_ns,
                RequestState.TO_SEND if self.forward else RequestState.LOCAL,
                self._route(envelope),
                envelope.span_count,
                envelope.content_type,
                envelope.content_encoding,
                envelope.body,
                crc32(envelope.body),
            ),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _route(self, envelope: Envelope) -> int:
        key = (json.dumps(envelope.headers, sort_keys=True), envelope.credential)
        if key not in self._routes:
            self._connection.execute("INSERT OR IGNORE INTO routes (headers, credential) VALUES (?, ?)", key)
            row = self._connection.execute(
                "SELECT id FROM routes WHERE headers = ? AND credential = ?", key
            ).fetchone()
            self._routes[key] = row[0]
        return self._routes[key]

    def _follow(self) -> None:
        """Index the next chunks of requests in a commit of its own, until a job waits for the thread."""
        began = time.monotonic()
        try:
            # No need to wait for the disk: this is made of what is there, and made again if it gets lost.
            with self._transaction("NORMAL" if self._synchronous == "FULL" else self._synchronous):
                self._index.advance()
                while self._index.behind and self._jobs.empty() and time.monotonic() - began < _LONGEST_S:
                    self._index.advance()
        except sqlite3.Error as error:
            # The requests are safe; the index stays behind and is tried again.
            self.suspect(error)
            if not self._stuck and not self._damaged:
                log.exception("indexing failed; it will be tried again")
            self._stuck = True
            self._reload(self._index.restart)
            return
        self._stuck = False
        ended = time.monotonic()
        self._index_at = ended + (ended - began) * (1 / _SHARE - 1)
        self._on_index()

    def _do(self, job: _Job) -> None:
        try:
            if job.alone:
                result = job.work(self._pen)
            else:
                with self._transaction(self._synchronous):
                    result = job.work(self._pen)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the job's caller
            self._reload(self._index.reload)
            job.future.set_exception(error)
            self.suspect(error)
        else:
            job.future.set_result(result)

    def _reload(self, again: Callable[[], None]) -> None:
        """Where the index stands after something was rolled back, if the journal still says it."""
        try:
            again()
        except sqlite3.Error as error:
            log.error("cannot read where the index stands: %s", error)
            self._stuck = True
            self.suspect(error)

    def _relieve(self) -> None:
        try:
            self._wal.relieve()
        except sqlite3.Error as error:
            log.warning("cannot empty the write-ahead log: %s", error)
            self.suspect(error)


def _open(state: StateDir, synchronous: str, damage: str) -> tuple[sqlite3.Connection, Index, Tally]:
    """The journal with all that is known of it; begun anew where the first look shows damage."""
    while True:
        connection = open_or_replace(state, synchronous, damage)
        try:
            index = Index(connection)
            index.reload()
            return connection, index, Tally(connection)
        except sqlite3.Error as error:
            connection.close()
            if damage or not is_damage(error):
                raise StateError(f"cannot read the journal {state.journal}: {error}") from error
            damage = str(error)


def _vacuum(pen: Pen) -> None:
    pen.connection.execute("VACUUM")
