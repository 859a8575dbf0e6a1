"""A program in a pseudo-terminal, with pyte as the screen that draws what it writes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

DEADLINE_S = 60.0
SIZES = frozenset({"COLUMNS", "LINES"})
"""Variables that would be believed more than the terminal; pytest-xdist sets them."""


class Terminal:
    """Starts `command` on a terminal of its own; `written` is every byte it wrote so far."""

    def __init__(
        self, command: Sequence[str], *, size: tuple[int, int] = (80, 24), environment: Mapping[str, str]
    ) -> None:
        width, height = size
        environment = {name: value for name, value in environment.items() if name not in SIZES}
        self.written = b""
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self._changing = threading.Lock()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def lines(self) -> list[str]:
        # Not pyte's `display`, which cannot read the empty cell that half a wide character leaves.
        return ["".join(cell.data for cell in line) for line in self.cells()]

    def cells(self) -> list[list[pyte.screens.Char]]:
        """The screen's lines with their styles."""
        with self._changing:
            columns = range(self._screen.columns)
            return [[self._screen.buffer[row][at] for at in columns] for row in range(self._screen.lines)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def send(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, width: int, height: int) -> None:
        with self._changing:
            self._screen.resize(height, width)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        os.killpg(self.process.pid, signal.SIGWINCH)

    def until(self, condition: Callable[[], object], deadline: float = DEADLINE_S) -> None:
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not within {deadline} s; the screen:\n{self.text}")
            time.sleep(0.01)

    def shows(self, *texts: str) -> None:
        self.until(lambda: all(text in self.text for text in texts))

    def hides(self, text: str) -> None:
        self.until(lambda: text not in self.text)

    def wait(self) -> int:
        """The program's exit status, once it has ended and all it wrote was read."""
        code = self.process.wait(DEADLINE_S)
        self._reading.join(DEADLINE_S)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        self._reading.join(DEADLINE_S)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                ready, _, _ = select.select([self._master], [], [], 0.1)
                if not ready:
                    if self.process.poll() is not None:
                        return
                    continue
                data = os.read(self._master, 65536)
            except OSError:
                return  # the other side is closed
            if not data:
                return
            with self._changing:
                self.written += data
                self._stream.feed(data)
