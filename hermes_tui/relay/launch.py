"""Start, find and stop the relay from another process. Imports neither aiohttp nor grpc."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hermes_tui import __version__
from hermes_tui.journal.files import StateDir, open_private
from hermes_tui.relay.lock import Running, find

_POLL_S = 0.02
_START_S = 20.0
_STOP_S = 20.0
T = TypeVar("T")


class LaunchError(Exception):
    """The relay could not be started or stopped; the message is its own last word."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Knows how to start the relay of a state folder: `arguments` are flags for `relay`."""

    state: StateDir
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    pass_fds: tuple[int, ...] = ()

    def find(self) -> Running | None:
        return find(self.state)

    def ensure(self) -> Running:
        """The running relay; starts one when there is none, and replaces an older pane's.

        Of two that start at once, one gets the lock and the other attaches. Raises LaunchError.
        """
        running = self.find()
        if running is not None and running.ready and _outdated(running):
            stop(self.state)
            running = None
        if running is None:
            return self._start()
        return running if running.ready else self._wait(None)

    def _start(self) -> Running:
        self.state.create()
        # Its log is a file of its own; this is what it says beside that, such as why it cannot start.
        output = open_private(self.state.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "hermes_tui", "relay", "--started-by", "pane", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # it outlives this terminal
                cwd=self.state.path,
                env=self.environment,
                pass_fds=self.pass_fds,
            )
        finally:
            os.close(output)
        _remember(process)
        return self._wait(process)

    def _wait(self, process: subprocess.Popen[bytes] | None) -> Running:
        """Until a relay is ready, whoever started it."""

        def ready() -> Running | None:
            running = self.find()
            if running is not None and running.ready:
                return running
            if process is not None and process.poll() is not None and running is None:
                raise LaunchError(self._last_words() or f"the relay ended with {process.returncode}")
            return None

        return _until(ready, _START_S, "the relay did not start within 20 s; see " + str(self.state.log))

    def _last_words(self) -> str:
        with self.state.output.open("rb") as output:
            lines = output.read(64 * 1024).decode("utf-8", "replace").splitlines()
        errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
        return errors[-1] if errors else (lines[-1] if lines else "")


def wait(state: StateDir) -> Running:
    """The relay of a state folder once it is ready, whoever starts it just now. Raises LaunchError."""
    return Launcher(state)._wait(None)


@contextmanager
def private_relay(*, play: Path | None = None, speed: float = 1.0) -> Iterator[StateDir]:
    """A relay of our own on a free port with a temporary folder; both go when this ends, however.

    The relay holds the read end of a pipe: when this process ends, even by kill -9, the pipe closes,
    and the relay ends and removes the folder. Raises LaunchError.
    """
    folder = Path(tempfile.mkdtemp(prefix="hermes-trace-"))
    state = StateDir(folder)
    lifeline, ours = os.pipe()
    flags = ["--state-dir", str(folder), "--http-port", "0", "--lifeline", str(lifeline), "--ephemeral"]
    if play is not None:
        flags += ["--play", str(play), "--speed", str(speed)]
    try:
        Launcher(state, flags, environment=_without_settings(), pass_fds=(lifeline,)).ensure()
        os.close(lifeline)
        lifeline = -1
        yield state
    finally:
        os.close(ours)
        if lifeline >= 0:
            os.close(lifeline)
        with suppress(LaunchError):
            _until(lambda: True if find(state) is None else None, _STOP_S, "")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def borrowed_relay(
    state: StateDir, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A relay for a state folder that has none, for as long as this lasts or this process lives.

    It listens on a free port only. When another starts just then, it is that one. Raises LaunchError.
    """
    lifeline, ours = os.pipe()
    flags = ["--state-dir", str(state.path), "--started-by", "command", "--host", "127.0.0.1"]
    flags += ["--http-port", "0", "--lifeline", str(lifeline), *arguments]
    before = list(_started)
    try:
        try:
            running = Launcher(state, flags, environment=environment, pass_fds=(lifeline,)).ensure()
        finally:
            os.close(lifeline)
        yield running
    finally:
        os.close(ours)
        mine = [each for each in _started if each not in before]  # also one that came second
        with suppress(LaunchError):
            _until(lambda: True if all(each.poll() is not None for each in mine) else None, _STOP_S, "")


_started: list[subprocess.Popen[bytes]] = []


def _remember(process: subprocess.Popen[bytes]) -> None:
    """Keep what was started until it ended: a forgotten child stays a zombie."""
    _started[:] = [each for each in _started if each.poll() is None]
    _started.append(process)


def stop(state: StateDir) -> bool:
    """End the relay of a state folder and wait for its end; False when none runs. Raises LaunchError."""
    running = find(state)
    if running is None:
        return False
    if running.pid <= 0:  # it starts just now
        running = _until(lambda: _named(state), 5.0, "the relay does not say its pid")
    os.kill(running.pid, signal.SIGTERM)
    gone = f"the relay (pid {running.pid}) does not end; see {state.log}"
    return _until(lambda: True if find(state) is None else None, _STOP_S, gone)


def _named(state: StateDir) -> Running | None:
    running = find(state)
    return running if running is not None and running.pid > 0 else None


def _without_settings() -> dict[str, str]:
    """The environment without the user's destination and settings file: a demo must reach nobody."""
    ours = ("MLFLOW_", "HERMES_TRACE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "HERMES_TRACE_CONFIG": os.devnull}


def _outdated(running: Running) -> bool:
    return running.started_by == "pane" and _number(running.version) < _number(__version__)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _until(condition: Callable[[], T | None], seconds: float, otherwise: str) -> T:
    deadline = time.monotonic() + seconds
    while (result := condition()) is None:
        if time.monotonic() > deadline:
            raise LaunchError(otherwise)
        time.sleep(_POLL_S)  # another process: there is nothing to be woken by
    return result
