"""Read a SQLite file that another program writes, without that program ever noticing.

Measured with SQLite 3.40: a connection with `mode=ro` to a database in WAL mode that nobody has open makes
a `-wal` and a `-shm` file beside it, and an open connection keeps the writer's last close from folding the
WAL in. So a file that nobody has open is read as a snapshot, and one at rest is only looked at from
outside; a connection is held while commits come.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_MAGIC = b"SQLite format 3\0"
_WAL = 2  # the file format's read version, byte 19 of the header
_BUSY_S = 0.02
_REST_S = 3.0  # without a commit for so long the connection is closed
_RETRY_S = 1.0  # after a failure, unless the file changes before
_PATIENCE_S = 2.0  # a lock that is held for longer is worth a word

Mark = tuple[tuple[int, int, int] | None, ...]
"""What a file and its WAL look like from outside: (inode, size, changed in ns) of each."""


class Unusable(Exception):
    """The file cannot be read now; why, in one sentence without a full stop."""


class StateFile:
    """One database file. `trouble` is a sentence while it cannot be read; `fresh` counts new files.

    `closed` is True when no program has it open, None while that cannot be told.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.trouble = ""
        self.present = False
        self.fresh = 0
        self.closed: bool | None = None
        self._clock = clock
        self._names = (str(path), f"{path}-wal", f"{path}-shm")
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._version = -1
        self._moved_s = 0.0
        self._rested: Mark | None = None
        self._failed: tuple[Mark, float] | None = None
        self._locked_s: float | None = None
        self._log = 0
        # Whoever closes a file loses all locks of its process on it, those of its connections too: so the
        # header is never read while a connection is open.
        self._using = threading.RLock()

    def poll(self, read: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `read` gives when the file may have changed since the last call, else None.

        `read` may run into any sqlite3.Error; then nothing happened, and it is tried again. After
        `fresh` has changed it looks at another file than before.
        """
        try:
            with self._using:
                return self._follow(read) if self._connection is not None else self._look(read)
        except (Unusable, sqlite3.Error, OSError) as error:
            self._fail(error)
            return None

    def once(self, read: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `read` gives on a connection of its own, for any thread; None when it cannot be read."""
        with self._using:
            try:
                connection = self._connect(self._connection is None and self._is_closed())
            except (Unusable, sqlite3.Error, OSError):
                return None
            try:
                return read(connection)
            except sqlite3.Error:
                return None
            finally:
                connection.close()

    def apart(self, work: Callable[[], None]) -> None:
        """Do what opens and closes the file by itself, unless a connection to it is open."""
        with self._using:
            if self._connection is None:
                work()

    @property
    def connected(self) -> bool:
        """Whether a connection is held, because commits come."""
        return self._connection is not None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _follow(self, read: Callable[[sqlite3.Connection], T]) -> T | None:
        """With a connection: has anything been committed?"""
        assert self._connection is not None
        log = _look_at(self._names[1])[0]
        if _look_at(self._names[0])[0] != self._inode or (self._log and log != self._log):
            self.close()
            return self._look(read)
        self._log = log
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            self._locked_s = None
            if self._clock() - self._moved_s > _REST_S:
                self._rest()
            return None
        found = read(self._connection)
        self._version = version
        self._moved_s = self._clock()
        self._well()
        return found

    def _rest(self) -> None:
        """Close, and from now on look at the files from outside."""
        assert self._connection is not None
        mark = self._mark()
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:  # so nothing is between the mark and what was read
            self.close()
            self._is_closed()  # what was written over it by no SQLite shows only now
            self._rested = mark

    def _look(self, read: Callable[[sqlite3.Connection], T]) -> T | None:
        """Without a connection: have the files changed?"""
        mark = self._mark()
        if mark[0] is None:
            self._gone()
            return None
        if mark == self._rested and self._inode == mark[0][0]:
            return None
        if self._failed is not None and self._failed[0] == mark and self._clock() < self._failed[1]:
            return None
        self.present = True
        if mark[0][0] != self._inode:
            self._inode, self._rested = mark[0][0], None
            self.fresh += 1
        snapshot = self._is_closed()
        connection = self._connect(snapshot)
        try:
            if not snapshot:
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                found = read(connection)
                self._connection, self._version, self._moved_s = connection, version, self._clock()
                self._log = _look_at(self._names[1])[0]
            else:
                found = read(connection)
                if not self._is_closed() or self._mark() != mark:
                    raise Unusable("was opened by Hermes while it was read")
                self._rested = mark
        finally:
            if self._connection is not connection:
                connection.close()
        self.closed = True if snapshot else None
        self._well()
        return found

    def _connect(self, snapshot: bool) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode=ro{'&immutable=1' if snapshot else ''}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)
        try:
            connection.text_factory = _text
            connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _is_closed(self) -> bool:
        """Whether no program has the database open. Raises Unusable when it is none, or cannot be read."""
        with open(self.path, "rb", buffering=0) as file:
            head = file.read(20)
        if not head:
            raise Unusable("is empty")
        if not head.startswith(_MAGIC) or len(head) < 20:
            raise Unusable("is not an SQLite database")
        if head[19] != _WAL:
            return False
        log, index = _look_at(self._names[1]), os.path.exists(self._names[2])
        if log[0] and index:
            return False
        if log[1]:
            raise Unusable("has a log without an index, and is read once Hermes opens it")
        return True

    def _mark(self) -> Mark:
        return tuple(found if found[0] else None for found in map(_look_at, self._names[:2]))

    def _gone(self) -> None:
        if self.present:
            self.fresh += 1
        self.present, self.trouble, self.closed = False, "", None
        self._inode, self._rested, self._failed, self._locked_s = 0, None, None, None

    def _well(self) -> None:
        self.trouble, self._failed, self._locked_s = "", None, None

    def _fail(self, error: Exception) -> None:
        now = self._clock()
        if _is_busy(error):
            self._locked_s = now if self._locked_s is None else self._locked_s
            if now - self._locked_s > _PATIENCE_S:
                self.trouble = "is locked by another program"
            return
        self.close()
        if isinstance(error, FileNotFoundError):
            self._gone()
            return
        self._failed = (self._mark(), now + _RETRY_S)
        why = getattr(error, "strerror", None) or str(error)
        self.trouble = why if isinstance(error, Unusable) else f"cannot be read: {why}"


def _look_at(name: str) -> tuple[int, int, int]:
    try:
        found = os.stat(name)
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_busy(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
