"""End properly when the terminal is closed or the process is told to: the demo has to clean up."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

_LAST_S = 5


def on_signals(leave: Callable[[int], object]) -> None:
    """Call `leave` with an exit status on SIGTERM and SIGHUP, and when the terminal is gone without a signal;
    within the running loop, in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def end(number: int, _: object) -> None:
        # Of the system, not of the loop: that may hang in a write to the terminal, which then never returns.
        signal.alarm(_LAST_S)
        loop.call_soon_threadsafe(leave, 128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    if (terminal := sys.__stdin__) is not None and terminal.isatty():
        threading.Thread(
            target=_await_end, args=(terminal.fileno(),), name="terminal-end", daemon=True
        ).start()


def _await_end(terminal: int) -> None:
    """Raise SIGHUP once nobody is at the other side of the terminal: one that is not the process' controlling
    terminal ends without. Textual would read its end again and again, with a whole core.
    """
    hangup = select.poll()
    hangup.register(terminal, 0)
    if any(event & select.POLLHUP for _, event in hangup.poll()):  # not where it cannot be polled (macOS)
        os.kill(os.getpid(), signal.SIGHUP)
