"""Keep the write-ahead log short, whoever reads the journal."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from hermes_tui.figures import short_size

RETRY_S = 1.0  # between two attempts to empty a log that readers hold
_BUSY_MS = 10_000  # for a lock that another process holds
_RELIEF_MS = 50  # for readers that keep the log from being emptied; requests wait meanwhile


class WriteAheadLog:
    """Of one connection. `size` is what it takes on disk, in bytes, as of the last `relieve`."""

    def __init__(self, connection: sqlite3.Connection, journal: Path, most: int) -> None:
        self._connection = connection
        self._most = most
        self._again_at = 0.0
        self.path = journal.with_name(f"{journal.name}-wal")
        self.size = self._size()

    def relieve(self) -> None:
        """Empty the log when it has grown beyond `most`. SQLite does so by itself, unless a reader is always
        in it. Raises `sqlite3.Error`.
        """
        self.size = self._size()
        now = time.monotonic()
        if self.size > self._most and now >= self._again_at:
            self._again_at = now + RETRY_S
            self.empty()

    def empty(self) -> bool:
        """Write everything into the journal itself; False when readers keep the log from being cut."""
        connection = self._connection
        connection.execute(f"PRAGMA busy_timeout = {_RELIEF_MS}")
        try:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        self.size = self._size()
        return not busy

    def excess(self, limit: int) -> str:
        """What is wrong when it takes more than `limit` bytes; "" when it does not."""
        if self.size > limit:
            return (
                f"the journal's write-ahead log has grown to {short_size(self.size)}, because another "
                f"program keeps reading the journal without an end; end it (`fuser {self.path}` names it)"
            )
        return ""

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0
