"""A program in a pseudo-terminal, read byte by byte, for the benchmarks of what is on the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence

_CHUNK = 1 << 16


class Pty:
    """Starts `command` on a terminal of `size` (columns, rows); whoever made it has to read it."""

    def __init__(
        self, command: Sequence[str], *, size: tuple[int, int], environment: Mapping[str, str]
    ) -> None:
        columns, rows = size
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        drawn = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONUTF8": "1"}
        self.process = subprocess.Popen(
            list(command), stdin=slave, stdout=slave, stderr=slave, env={**environment, **drawn}
        )
        os.close(slave)

    def fileno(self) -> int:
        return self.master

    def take(self, seconds: float) -> bytes:
        """What it wrote, as soon as it wrote something; b"" when that was nothing, or it has ended."""
        ready, _, _ = select.select([self.master], [], [], max(0.0, seconds))
        try:
            return os.read(self.master, _CHUNK) if ready else b""
        except OSError:  # Linux says so when the other side is closed
            return b""

    def write(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
