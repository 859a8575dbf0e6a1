"""Look the whole journal through for damage, once, beside everything else."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from zlib import crc32

from hermes_tui.journal.opening import Damaged

log = logging.getLogger(__name__)

_LONGEST_S = 120.0  # the log cannot be emptied meanwhile
_STEPS = 20_000  # of SQLite's machine between two looks at the time
_TABLES = ("meta", "routes", "requests", "marks", "spans", "traces", "trace_sessions")
_ROWS = 20  # requests read in one go


class Check:
    """Begins by itself after `after_s` seconds, in a thread; `suspect` is called there with what it finds."""

    def __init__(self, journal: Path, suspect: Callable[[BaseException], object], *, after_s: float) -> None:
        self._journal = journal
        self._suspect = suspect
        self._after_s = after_s
        self._stopped = threading.Event()
        # Not to be waited for: a large journal on a slow disk takes minutes.
        threading.Thread(target=self._run, name="journal-check", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        if self._stopped.wait(self._after_s):
            return
        began = time.monotonic()
        try:
            look(self._journal, lambda: self._stopped.is_set() or time.monotonic() - began > _LONGEST_S)
        except sqlite3.OperationalError as error:  # stopped, or it took too long
            log.info("the check of the journal ended early: %s", error)
        except sqlite3.DatabaseError as error:
            self._suspect(error)


def look(path: Path, stopped: Callable[[], bool] = lambda: False) -> None:
    """Table by table and request by request, so that no reading lasts longer than it must.

    Raises `sqlite3.DatabaseError` for damage, `sqlite3.OperationalError` when it was `stopped`.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)) as journal:
        journal.set_progress_handler(stopped, _STEPS)
        for table in _TABLES:
            for (found,) in journal.execute(f"PRAGMA quick_check({table})").fetchall():
                if found != "ok":
                    raise Damaged(found.partition("\n")[0])
        after = 0
        while rows := journal.execute(
            "SELECT id, body, checksum FROM requests WHERE id > ? ORDER BY id LIMIT ?", (after, _ROWS)
        ).fetchall():
            if stopped():
                return
            for after, body, checksum in rows:
                check_body(after, body, checksum)


def check_body(number: int, body: bytes, checksum: int | None) -> None:
    """Raises Damaged when a request is not what was stored. SQLite itself would not notice."""
    if checksum not in (None, crc32(body)):
        raise Damaged(f"request {number} is not what was stored")
