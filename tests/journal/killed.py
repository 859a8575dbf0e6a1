"""Run by a test in a process of its own: print each span once acknowledged, then die without a goodbye."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from tests.support import body_of, envelope, wire_span


def main(folder: Path) -> None:
    writer = Writer(StateDir(folder))
    for number in range(50):
        writer.append(envelope(body_of(wire_span(number)))).result(timeout=20)
        print(number, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
