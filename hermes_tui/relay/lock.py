"""One relay per state folder, and how others learn of it. Standard library only: panes import this."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from hermes_tui.journal.files import StateDir, open_private, write_private

_PATIENCE_S = 1.0  # others test the lock for an instant; a relay that starts just then tries again


class AlreadyRunning(Exception):
    """Another relay holds this state folder."""


@dataclass(frozen=True, slots=True)
class Running:
    """Who the relay of a state folder is; addresses are "host:port", None when not listening.

    `experiment` and `workspace` are MLflow's, for senders that name none.
    """

    pid: int
    version: str = ""
    http: str | None = None
    grpc: str | None = None
    destination: str | None = None
    experiment: str | None = None
    workspace: str | None = None
    started_by: str = "user"
    ready: bool = False


class Lock:
    """Held by the relay for its lifetime; the system frees it however the process ends."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._descriptor = -1

    def acquire(self) -> None:
        """Raises AlreadyRunning when another relay has it, StateError when the folder is unusable."""
        self._state.create()
        descriptor = open_private(self._state.lock, os.O_RDWR | os.O_CREAT)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise AlreadyRunning from error
                time.sleep(0.02)  # flock with a deadline is only to be had by asking again
        self._descriptor = descriptor
        self.announce(Running(os.getpid()))

    def announce(self, running: Running) -> None:
        """Tell others who holds the lock and where it listens."""
        write_private(self._state.address, json.dumps(asdict(running)))

    def release(self) -> None:
        if self._descriptor >= 0:
            self._state.address.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def find(state: StateDir) -> Running | None:
    """The relay that runs for a state folder, or None. `ready` is False while it starts."""
    try:
        descriptor = open_private(state.lock, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(state)
    else:
        # Left behind by one that was killed; the next could be taken for it before it says who it is.
        # While we hold the lock none can start.
        with suppress(OSError):
            state.address.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return None


def _read(state: StateDir) -> Running:
    try:
        document: dict[str, Any] = json.loads(state.address.read_text(encoding="utf-8"))
        running = Running(**document)
        os.kill(running.pid, 0)
    except (OSError, ValueError, TypeError):
        return Running(0)  # it has the lock and is about to say who it is
    return running
