"""How fast the search in the pane is, and whether that depends on what is stored.

Runs the real pane in a pseudo-terminal on a session with few and on one with many spans and prints for
each: key to paint while a search is typed, and from hit to hit; from the last key to the hit for a command
of the newest and of the oldest turn, for a text in the oldest turn's output, for a letter that is
everywhere (the search ends when it has enough) and for a text that is nowhere (it sees everything); and
resident memory before and after. Then the ratios many/few of this run.

    python benchmarks/search.py [--few 1000] [--many 100000] [--rounds 20] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from pane import STEPS, Terminal, Traffic, append, indexed

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer

DEEP = "buried-treasure"


class Buried(Traffic):
    """Turns, and one whose only trace of `DEEP` is in an output."""

    def deep(self) -> bytes:
        request, spans = self._request()
        result = json.dumps({"output": f"x\n{DEEP}\n", "exit_code": 0, "error": None})
        self._span(spans, os.urandom(16), b"", "tool.terminal", "TOOL", self._next(), 40, **{
            "gen_ai.tool.name": "terminal", "hermes.tool.command": "dig", "hermes.tool.outcome": "completed",
            "input.value": json.dumps({"command": "dig"}), "output.value": result})  # fmt: skip
        return bytes(request.SerializeToString())


def measure(spans: int, rounds: int) -> dict[str, float]:
    """Milliseconds and megabytes by name."""
    with tempfile.TemporaryDirectory(prefix="search-bench-") as folder:
        state = StateDir(Path(folder))
        writer = Writer(state, synchronous="OFF")
        traffic = Buried("20261123_100000_bench0")
        append(writer, traffic.deep())
        for _ in range(spans // (2 + 2 * STEPS)):
            append(writer, traffic.turn())
        indexed(state)
        terminal = Terminal(state.path)
        try:
            commands = 1 + STEPS * (spans // (2 + 2 * STEPS))
            return {"spans": spans, **run(terminal, traffic.serial, commands, rounds)}
        finally:
            terminal.close()
            writer.close()


def run(terminal: Terminal, newest: int, commands: int, rounds: int) -> dict[str, float]:
    terminal.wait_for(f"Commands {commands}".encode(), 600)  # the whole session was read
    terminal.quiet()
    process = psutil.Process(terminal.process.pid)
    before = process.memory_info().rss
    figures = {
        "newest_command": found(terminal, f"pattern-{newest}-0", b"1/1"),
        "oldest_command": found(terminal, "pattern-2-0 src", b"1/1"),
        "oldest_output": found(terminal, DEEP, b"output.value"),
        "everywhere": found(terminal, "r", rb"\d+/(at least )?[\d,]+"),
        "nowhere": nowhere(terminal),
    }
    terminal.write(b"/")
    terminal.quiet()
    typed = []
    for key in (b"p", b"a", b"t", b"t", b"e", b"r", b"n", b"-", b"4", b"\x7f") * (rounds // 10 + 1):
        typed.append(terminal.press(key))
        while terminal.read(0.1):
            pass
    terminal.quiet(1.0)
    terminal.write(b"\x15pattern\r")
    terminal.quiet(1.0)
    stepped = []
    for key in b"nN" * rounds:
        stepped.append(terminal.press(bytes([key])))
        while terminal.read(0.05):
            pass
    return {
        "typed_p50": statistics.median(typed) * 1e3,
        "typed_p95": statistics.quantiles(typed, n=20)[18] * 1e3,
        "step_p50": statistics.median(stepped) * 1e3,
        "step_p95": statistics.quantiles(stepped, n=20)[18] * 1e3,
        **figures,
        "memory_mb_before": before / 2**20,
        "memory_mb_after": process.memory_info().rss / 2**20,
    }


def found(terminal: Terminal, text: str, shown: bytes) -> float:
    """Milliseconds from the key that makes a text of it to what the screen then says, as a pattern."""
    terminal.write(b"/" + text.encode() + b"%")  # which is nowhere
    terminal.wait_for(b"no hits")
    terminal.quiet()
    begin = time.perf_counter()
    terminal.write(b"\x7f")
    while re.search(shown, terminal.seen) is None:
        if not terminal.read(60) or time.perf_counter() > begin + 60:
            raise SystemExit(f"{text!r} was not found")
    took = time.perf_counter() - begin
    clear(terminal)
    return took * 1e3


def clear(terminal: Terminal) -> None:
    """Esc; what is typed before it was understood would become another key with it."""
    terminal.quiet()
    terminal.write(b"\x1b")
    terminal.wait_for(b"? keys")
    terminal.quiet()


def nowhere(terminal: Terminal) -> float:
    """Milliseconds until everything was looked at."""
    begin = time.perf_counter()
    terminal.write(b"/no such text")
    took = terminal.wait_for(b"no hits") - begin
    clear(terminal)
    return took * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    few, many = measure(options.few, options.rounds), measure(options.many, options.rounds)
    ratios = {name: many[name] / few[name] for name in few if few[name]}
    if options.json:
        print(json.dumps({"few": few, "many": many, "ratios": ratios}))
        return
    print(f"{'':18} {options.few:>12,} {options.many:>12,} {'ratio':>8}")
    for name in few:
        if name != "spans":
            print(f"{name:18} {few[name]:12.1f} {many[name]:12.1f} {ratios[name]:8.2f}")


if __name__ == "__main__":
    main()
