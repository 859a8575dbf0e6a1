"""What Hermes notes beside its database: which process has a session open, which background jobs run.

Read in Hermes' `hermes_cli/active_sessions.py` and `tools/process_registry_checkpoint.py`. Both files are
written whole and put in place by a rename, so a reader needs no lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_query import moment
from hermes_tui.model.shorten import cut
from hermes_tui.model.state_rows import HolderRow, JobRow, StateRow

_BYTES = 4 * 1024 * 1024  # more is no register
_ENTRIES = 200
_COMMAND = 2_000  # characters of a command that are kept
_SURE_S = 1.0  # for so long nobody must have a database open before that is believed
_SESSION_KEYS = ("owner_task_id", "session_key", "task_id", "parent_session_id")
"""Where an entry names its session, the surest first: the last is at times that of a background review."""

_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510  # SQLite `os.h`: bytes that every open connection locks
_FLOCK = {
    "linux": (struct.Struct("hhqqi4x"), ("type", "whence", "start", "len", "pid")),
    "darwin": (struct.Struct("qqihh"), ("start", "len", "pid", "type", "whence")),
}
"""`struct flock` of `fcntl.h` where it was looked up."""


class Processes:
    """Which processes live. One that was never seen counts as unknown, not as dead: it may be elsewhere."""

    def __init__(
        self, exists: Callable[[int], bool] | None = None, began: Callable[[int], int] | None = None
    ) -> None:
        self._exists = exists or process_exists
        self._began = began or process_began
        self._seen: set[tuple[int, int]] = set()

    def alive(self, pid: int, began: int = 0) -> bool | None:
        """True; False when it was there before; None when nobody can tell from here.

        `began` is when it began as `process_began` has it, which tells it from a later one of its number.
        """
        if self._exists(pid) and (not began or self._began(pid) in (0, began)):
            self._seen.add((pid, began))
            return True
        return False if (pid, began) in self._seen else None


def process_exists(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def process_began(pid: int) -> int:
    """When a process of this machine began, in ticks since the machine did; 0 where that cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


class Registers:
    """The registers of one home; `poll` gives what changed, and what became of the processes in them."""

    def __init__(self, home: Home, processes: Processes) -> None:
        self._home = home
        self._processes = processes
        self._files = {path: _File(path) for path in (home.active_sessions, home.processes)}
        self._holders: dict[tuple[str, int], HolderRow] = {}
        self._jobs: dict[str, JobRow] = {}
        self._began: dict[str, int] = {}

    def poll(self, revision: int) -> list[StateRow]:
        """Rows that changed since the last call; a few system calls when none did."""
        sessions, jobs = (file.entries() for file in self._files.values())
        return [*self._poll_sessions(sessions, revision), *self._poll_jobs(jobs, revision)]

    def _poll_sessions(self, entries: list[dict[str, Any]], revision: int) -> list[StateRow]:
        changed: list[StateRow] = []
        for entry in entries:
            session, pid = entry.get("session_id"), _pid(entry.get("pid"))
            if not isinstance(session, str) or not session or not pid:
                continue
            alive = self._processes.alive(pid)
            known = self._holders.get((session, pid))
            if known is None or known.alive is not alive:
                row = HolderRow(self._home.name, revision, session, pid, alive)
                self._holders[session, pid] = row
                changed.append(row)
        return changed

    def _poll_jobs(self, entries: list[dict[str, Any]], revision: int) -> list[StateRow]:
        found = {row.id: row for entry in entries if (row := self._job(entry, revision)) is not None}
        changed: list[StateRow] = []
        for name, row in found.items():
            known = self._jobs.get(name)
            if known is None or known.alive is not row.alive or known.pid != row.pid:
                self._jobs[name] = row
                changed.append(row)
        for name, known in list(self._jobs.items()):
            if name in found or known.alive is False:
                continue
            if known.alive and self._processes.alive(known.pid, self._began[name]):
                continue  # another Hermes wrote the file anew, with only its own
            gone = replace(known, revision=revision, alive=False)
            self._jobs[name] = gone
            changed.append(gone)
        return changed

    def _job(self, entry: dict[str, Any], revision: int) -> JobRow | None:
        name = entry.get("session_id")
        if not isinstance(name, str) or not name:
            return None
        pid = _pid(entry.get("pid"))
        here = pid and entry.get("pid_scope", "host") == "host"
        began = entry.get("host_start_time")
        self._began[name] = began if isinstance(began, int) and began > 0 else 0
        command = entry.get("command")
        return JobRow(
            self._home.name,
            revision,
            name[:200],
            next((entry[key] for key in _SESSION_KEYS if _is_session(entry.get(key))), None),
            cut(command, _COMMAND) if isinstance(command, str) else None,
            pid,
            moment(entry.get("started_at")),
            self._processes.alive(pid, self._began[name]) if here else None,
        )


class _File:
    """A small JSON file of entries, read again when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._mark: tuple[int, int, int] | None = None
        self._entries: list[dict[str, Any]] = []

    def entries(self) -> list[dict[str, Any]]:
        try:
            found = os.stat(self._path)
            mark = found.st_ino, found.st_size, found.st_mtime_ns
            if mark != self._mark:
                self._entries = self._read() if found.st_size <= _BYTES else []
                self._mark = mark
        except FileNotFoundError:
            self._mark, self._entries = None, []
        except OSError:
            self._mark = None  # unreadable for now: what was read before is the best there is
        return self._entries

    def _read(self) -> list[dict[str, Any]]:
        with open(self._path, encoding="utf-8-sig", errors="replace") as file:
            try:
                document = json.load(file)
            except (ValueError, RecursionError):
                return []
        listed = document.get("entries") if isinstance(document, dict) else document
        entries: Iterable[Any] = listed if isinstance(listed, list) else []
        return [each for each in entries if isinstance(each, dict)][:_ENTRIES]


class Openers:
    """Whether another process has a database open, by the lock that SQLite holds on it in WAL mode.

    A database that is written though nobody holds it is open in a place from which no lock can be seen: in
    a virtual machine, say. Asked only while this process has no connection to the file: closing a file
    drops all of a process' locks on it.
    """

    def __init__(self, holder: Callable[[str], int] | None = None) -> None:
        self._holder = holder or lock_holder
        self._seen = False
        self._quiet: tuple[float, tuple[object, ...]] | None = None
        self.closed: bool | None = None

    def look(self, path: Path, now_s: float) -> None:
        """Look again. `closed` then is True: it is open nowhere; False: it is; None: nobody can tell."""
        name = str(path)
        if not os.path.exists(f"{name}-shm"):
            self._seen, self._quiet, self.closed = False, None, None
            return  # not in WAL mode, where SQLite locks only for moments
        try:
            held = self._holder(name)
        except OSError:
            self.closed = None
            return
        if held:
            self._seen, self._quiet, self.closed = True, None, False
        elif self._seen:
            self.closed = True
        else:
            self.closed = self._unseen(name, now_s)

    def _unseen(self, name: str, now_s: float) -> bool | None:
        """Nobody holds it, nor did when it was looked at before: the same, without a lock to go by."""
        mark = tuple(map(_written, (name, f"{name}-wal")))
        if self._quiet is None:
            self._quiet = now_s, mark
        elif self._quiet[1] != mark:
            self._quiet = float("inf"), mark
        return True if now_s - self._quiet[0] >= _SURE_S else None


def lock_holder(name: str) -> int:
    """A process that keeps others from writing all of a database file; -1: one that cannot be named; 0: none.

    Raises OSError, also where the system is not known to tell.
    """
    if (fields := _FLOCK.get(sys.platform)) is None:
        raise OSError(f"how {sys.platform} tells of locks is not known")
    layout, order = fields
    asked = {
        "type": fcntl.F_WRLCK,
        "whence": os.SEEK_SET,
        "start": _SHARED_FIRST,
        "len": _SHARED_SIZE,
        "pid": 0,
    }
    with open(name, "rb", buffering=0) as file:
        told = fcntl.fcntl(file, fcntl.F_GETLK, layout.pack(*(asked[field] for field in order)))
    found = dict(zip(order, layout.unpack(told), strict=True))
    return 0 if found["type"] == fcntl.F_UNLCK else found["pid"] or -1


def _written(name: str) -> tuple[int, int, int]:
    try:
        found = os.stat(name)
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_session(value: object) -> bool:
    """Whether this can be a session's id: no container's name, subagent's task or chat."""
    return (
        isinstance(value, str)
        and value not in ("", "default")
        and ":" not in value
        and not value.startswith("sa-")
    )


def _pid(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else 0
