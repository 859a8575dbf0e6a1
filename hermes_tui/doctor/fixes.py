"""What `doctor --fix` does by itself: only what loses nothing and changes no file of the user's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress

import psutil

from hermes_tui.doctor.finding import Finding
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.relay import launch
from hermes_tui.relay.launch import Launcher, LaunchError
from hermes_tui.relay.lock import Running, find
from hermes_tui.relay.wishing import WishError, fulfil

_KILL_S = 10.0
_RESTARTS = ("relay", "relay version", "destination", "journal")
_SENDS = ("held", "quarantined")


def fix(
    findings: Sequence[Finding], launcher: Launcher, progress: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Do what is safe; a sentence for each thing that was done, or could not be."""
    wanted = [each.name for each in findings if each.fixable]
    steps: list[tuple[str, Callable[[], str]]] = []
    if any(name in _RESTARTS for name in wanted):
        steps.append(("starting the relay", lambda: _start(launcher)))
    if any(name in _SENDS for name in wanted):
        steps.append(("sending again", lambda: _send(launcher)))
    return list(_take(steps, progress))


def _take(steps: Iterable[tuple[str, Callable[[], str]]], progress: Callable[[str], None]) -> Iterable[str]:
    for doing, step in steps:
        progress(doing)
        try:
            yield step()
        except (LaunchError, StateError, WishError, OSError, sqlite3.Error, psutil.Error) as error:
            yield f"{doing} failed: {error}"


def _start(launcher: Launcher) -> str:
    """A relay that runs is ended first: it is silent, of another version, or sends elsewhere."""
    stopped = _end(launcher.state)
    running = launcher.ensure()
    return ("restarted" if stopped else "started") + f" the relay: http://{running.http}, pid {running.pid}"


def _end(state: StateDir) -> bool:
    """End the relay, by force when it does not heed: what it has taken is on disk."""
    try:
        return launch.stop(state)
    except LaunchError:
        running = find(state)
        if running is None or running.pid <= 0:
            raise
        with suppress(psutil.NoSuchProcess):  # it may end just now, by itself
            relay = psutil.Process(running.pid)
            relay.kill()
            relay.wait(_KILL_S)
        return True


def _send(launcher: Launcher) -> str:
    def none() -> AbstractContextManager[Running]:
        raise LaunchError("no relay runs")

    done = fulfil(launcher.state, "retry", {"session": None, "local": False}, lend=none)
    names = ("accepted", "queued", "held", "quarantined")
    counts = ", ".join(f"{done[name]} {name}" for name in names if done.get(name))
    return f"sent {done.get('sent_again', 0)} spans again: {counts or 'none'}"
