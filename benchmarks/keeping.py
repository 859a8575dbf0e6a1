"""What it costs to keep the pane open, and how soon it is there: beside a bare Textual app, idle, and busy.

In a real pseudo-terminal: first paint of the pane on a session of `--spans` and of a Textual app with one
label, in turns; the pane's CPU while nothing happens and while 200 spans a second arrive; the time from the
key that turns to another session to that session's newest command on the screen; memory in the end.

    python benchmarks/keeping.py [--spans 100000] [--rounds 5] [--seconds 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from common import cpu_s
from pane import Terminal, Traffic, append, compiled, indexed
from terminal import Pty

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer

BARE = """
from textual.app import App
from textual.widgets import Label
class Bare(App):
    def compose(self):
        yield Label("bare-app-is-here")
Bare().run()
"""
RATE = 200  # spans a second
TURN = 16  # spans in a turn of `Traffic`


def filled(folder: str, spans: int) -> tuple[StateDir, Writer, Traffic]:
    """A journal with an older session and a newest one of so many spans."""
    state = StateDir(Path(folder))
    writer, other = Writer(state, synchronous="OFF"), Traffic("20261122_090000_older0")
    for _ in range(10):
        append(writer, other.turn())
    traffic = Traffic("20261123_100000_bench0")
    for _ in range(spans // TURN):
        append(writer, traffic.turn())
    indexed(state)
    return state, writer, traffic


def first_paint(state: StateDir, text: bytes) -> float:
    terminal = Terminal(state.path)
    try:
        return terminal.wait_for(text) - terminal.begin
    finally:
        terminal.close()


def bare_paint() -> float:
    begin, seen = time.perf_counter(), b""
    bare = Pty([sys.executable, "-c", BARE], size=(100, 40), environment=os.environ)
    try:
        while b"bare-app-is-here" not in seen:
            seen += bare.take(30)
        return time.perf_counter() - begin
    finally:
        bare.close()


def share(process: psutil.Process, seconds: float, work: Traffic | None, writer: Writer) -> float:
    """Of a core, while spans of `work` come RATE a second; None: nothing does."""
    before, begin = cpu_s(process), time.monotonic()
    turns = 0
    while (passed := time.monotonic() - begin) < seconds:
        if work is not None and turns < passed * RATE / TURN:
            append(writer, work.turn())
            turns += 1
        else:
            time.sleep(0.005)
    return (cpu_s(process) - before) / (time.monotonic() - begin)


def measure(spans: int, rounds: int, seconds: float) -> None:
    compiled()
    with tempfile.TemporaryDirectory(prefix="pane-bench-") as folder:
        state, writer, traffic = filled(folder, spans)
        newest = f"pattern-{traffic.serial}-".encode()
        paints = [(first_paint(state, newest), bare_paint()) for _ in range(rounds)]
        own, bare = (statistics.median(each) for each in zip(*paints, strict=True))
        print(f"first paint: {own * 1e3:.0f} ms, of a bare Textual app {bare * 1e3:.0f} ms: {own / bare:.2f}")
        terminal = Terminal(state.path)
        try:
            terminal.wait_for(newest)
            terminal.quiet(3)
            process = psutil.Process(terminal.process.pid)
            switches = []
            for keys, text in ((b"[", b"pattern-10-"), (b"]", newest)) * rounds:
                terminal.quiet(1)
                begin = time.perf_counter()
                terminal.write(keys)
                switches.append(terminal.wait_for(text) - begin)
            print(
                f"to the small session: {statistics.median(switches[::2]) * 1e3:.0f} ms, "
                f"to that of {spans:,} spans: {statistics.median(switches[1::2]) * 1e3:.0f} ms"
            )
            terminal.write(b"f")
            terminal.quiet(15)
            print(f"idle: {share(process, seconds, None, writer):.2%} of a core")
            print(f"{RATE} spans a second: {share(process, seconds, traffic, writer):.1%} of a core")
            print(f"memory: {process.memory_info().rss / 2**20:.0f} MB")
        finally:
            terminal.close()
            writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    measure(options.spans, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
