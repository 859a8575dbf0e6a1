"""Whether the pane still hears keys while a very long turn grows: 200 spans a second come into a turn that
has `--spans` already, in a real pseudo-terminal.

Prints the time from `?` to the page of keys on the screen, and the pane's CPU meanwhile.

    python benchmarks/busy.py [--spans 200,2000,20000] [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

import psutil
from common import cpu_s
from pane import Terminal, Traffic, append, compiled, indexed

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer

RATE, AT_ONCE = 200, 20  # spans a second, and in one request
KEYS = b"Everywhere"  # the first heading of the page of keys


def grow(writer: Writer, traffic: Traffic, turn: tuple[bytes, bytes], stop: threading.Event) -> None:
    """Spans of one turn, until told to stop."""
    count, begin = 0, time.monotonic()
    while not stop.wait(0.005):
        if count < (time.monotonic() - begin) * RATE:
            append(writer, traffic.arrival(*turn, *(f"echo more {count + at}" for at in range(AT_ONCE))))
            count += AT_ONCE


def drain(terminal: Terminal, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        terminal.read(left)
    terminal.seen = b""


def measure(spans: int, rounds: int) -> tuple[list[float], float]:
    """Seconds of each key, and the share of a core."""
    taken: list[float] = []
    with tempfile.TemporaryDirectory(prefix="pane-bench-") as folder:
        state = StateDir(Path(folder))
        writer, traffic = Writer(state, synchronous="OFF"), Traffic("20261123_100000_bench0")
        turn = os.urandom(16), os.urandom(8)
        for at in range(0, spans, 200):
            append(writer, traffic.arrival(*turn, *(f"echo {number}" for number in range(at, at + 200))))
        indexed(state)
        terminal, stop = Terminal(state.path), threading.Event()
        growing = threading.Thread(target=grow, args=(writer, traffic, turn, stop))
        try:
            terminal.wait_for(b"echo")
            drain(terminal, 2)
            growing.start()
            process = psutil.Process(terminal.process.pid)
            before, begin = cpu_s(process), time.monotonic()
            for _ in range(rounds):
                drain(terminal, random.uniform(0.2, 0.6))
                pressed = time.perf_counter()
                terminal.write(b"?")
                taken.append(terminal.wait_for(KEYS) - pressed)
                terminal.write(b"\x1b")
                drain(terminal, 1)
            share = (cpu_s(process) - before) / (time.monotonic() - begin)
        finally:
            stop.set()
            terminal.close()
            if growing.ident is not None:
                growing.join()
            writer.close()
    return taken, share


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", default="200,2000,20000", help="that the turn has in the beginning")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    compiled()
    for spans in map(int, options.spans.split(",")):
        taken, share = measure(spans, options.rounds)
        print(
            f"turn of {spans:>6,}: key p50 {statistics.median(taken) * 1e3:.0f} ms, "
            f"max {max(taken) * 1e3:.0f} ms; {share:.0%} of a core"
        )


if __name__ == "__main__":
    main()
