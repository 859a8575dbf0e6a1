"""End properly when the terminal is closed or the process is told to: the demo has to clean up."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable

_LAST_S = 5


def on_signals(leave: Callable[[int], object]) -> None:
    """Call `leave` with an exit status on SIGTERM and SIGHUP; within the running loop, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return

    def end(number: int) -> None:
        signal.alarm(_LAST_S)  # a terminal that is gone can make any farewell hang
        leave(128 + number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
