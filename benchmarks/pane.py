"""How fast the pane is, and whether that depends on what is stored.

Runs the real pane in a pseudo-terminal on a journal with few and on one with many spans, and prints
for each: first paint, key to paint, the same of a jump to the next command (in turns that are folded) and
of unfolding all turns, arriving span to paint (from its commit in the journal to its text on the screen)
and resident memory; then the ratios many/few of this run. Last, what one more span of the turn that runs
costs when the turn has that many already: CPU from the span to all rows, without the drawing.

    python benchmarks/pane.py [--few 1000] [--many 50000] [--rounds 30] [--growing 200,2000,20000] [--json]
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import textual
from common import wait
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from terminal import Pty

import hermes_tui
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Envelope, Writer
from hermes_tui.otlp.codec import PROTOBUF, Request
from hermes_tui.tui.glyphs import UNICODE
from hermes_tui.tui.shown import ShownSession

STEPS = 7  # model calls and commands in a turn: 16 spans
PANE = """
import sys
from pathlib import Path
from hermes_tui.journal.files import StateDir
from hermes_tui.tui import start
start.run(StateDir(Path(sys.argv[1])))
"""


def compiled() -> None:
    """As after an installation; where Python may not write bytecode, each start would compile all modules."""
    for package in (hermes_tui, textual):
        compileall.compile_dir(Path(str(package.__file__)).parent, quiet=1)


def indexed(state: StateDir) -> None:
    """Until all that the journal holds can be read."""

    def done() -> bool:
        ready, stored = reader.indexed()
        return ready == stored

    with Reader(state.journal) as reader:
        wait(done, 0.05)


class Traffic:
    """Turns of one session, as hermes-otel sends them, with times that end now."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.serial = 0
        self.start_ns = time.time_ns() - 48 * 3600 * 10**9

    def turn(self) -> bytes:
        """One finished turn of 2 + 2 × STEPS spans."""
        request, spans = self._request()
        trace, root, wrapper = os.urandom(16), os.urandom(8), os.urandom(8)
        begin = at = self._next()
        for step in range(STEPS):
            self._span(spans, trace, wrapper, "api.gpt-5.5", "LLM", at, 300, **{
                "llm.token_count.prompt": 15000 + step, "llm.token_count.completion": 40,
                "gen_ai.response.model": "gpt-5.5", "llm.response.tool_calls": 1,
                "llm.response.finish_reason": "tool_calls"})  # fmt: skip
            self.command(spans, trace, wrapper, f"grep -rn pattern-{self.serial}-{step} src | head", at + 300)
            at += 700
        end = at - begin
        prompt = f"Turn {self.serial}: look for the pattern and say what you find"
        asked = {"input.value": prompt}
        self._span(spans, trace, root, "llm.gpt-5.5", "LLM", begin, end, span_id=wrapper, **asked)
        final = {**asked, "hermes.turn.final_status": "completed", "hermes.platform": "cli"}
        self._span(spans, trace, b"", "agent", "AGENT", begin, end, span_id=root, **final)
        return bytes(request.SerializeToString())

    def arrival(self, trace: bytes, parent: bytes, *texts: str) -> bytes:
        """Spans of commands of a turn that is under way."""
        request, spans = self._request()
        for text in texts:
            self.command(spans, trace, parent, text, time.time_ns() // 10**6 - 50)
        return bytes(request.SerializeToString())

    def command(self, spans: Any, trace: bytes, parent: bytes, text: str, at_ms: int) -> None:
        result = json.dumps({"output": "src/a.py:1: pattern\n" * 10, "exit_code": 0, "error": None})
        self._span(spans, trace, parent, "tool.terminal", "TOOL", at_ms, 40, **{
            "gen_ai.tool.name": "terminal", "hermes.tool.command": text, "hermes.tool.outcome": "completed",
            "input.value": json.dumps({"command": text}), "output.value": result})  # fmt: skip

    def _request(self) -> tuple[ExportTraceServiceRequest, Any]:
        request = ExportTraceServiceRequest()
        return request, request.resource_spans.add().scope_spans.add().spans

    def _next(self) -> int:
        self.serial += 1
        self.start_ns += 10 * 10**9
        return self.start_ns // 10**6

    def _span(
        self, spans: Any, trace: bytes, parent: bytes, name: str, kind: str, at_ms: int, for_ms: int,
        span_id: bytes | None = None, **attributes: str | int,
    ) -> None:  # fmt: skip
        span = spans.add(trace_id=trace, span_id=span_id or os.urandom(8), parent_span_id=parent, name=name)
        span.start_time_unix_nano, span.end_time_unix_nano = at_ms * 10**6, (at_ms + for_ms) * 10**6
        span.status.code = 1
        for key, value in {"session.id": self.session, "openinference.span.kind": kind, **attributes}.items():
            pair = span.attributes.add(key=key)
            if isinstance(value, int):
                pair.value.int_value = value
            else:
                pair.value.string_value = value


def append(writer: Writer, body: bytes) -> None:
    decoded = Request(body)
    writer.append(Envelope(body, PROTOBUF, "", decoded, len(decoded))).result()


class Terminal(Pty):
    """The pane in a pseudo-terminal of 100 × 40."""

    def __init__(self, state: Path) -> None:
        self.begin = time.perf_counter()
        super().__init__([sys.executable, "-c", PANE, str(state)], size=(100, 40), environment=os.environ)
        self.seen = b""

    def wait_for(self, text: bytes, seconds: float = 60) -> float:
        """Time (perf_counter) at which `text` came since the last `forget`."""
        deadline = time.perf_counter() + seconds
        while text not in self.seen:
            if not self.read(deadline - time.perf_counter()):
                raise SystemExit(f"{text!r} did not come; the screen's last bytes: {self.seen[-500:]!r}")
        return time.perf_counter()

    def read(self, seconds: float) -> bool:
        data = self.take(seconds)
        self.seen += data
        return bool(data)

    def quiet(self, seconds: float = 0.4) -> None:
        """Until nothing is written for a while."""
        while self.read(seconds):
            pass
        self.seen = b""

    def press(self, keys: bytes) -> float:
        """Seconds from the key to the last byte of its repaint's first burst."""
        self.seen = b""
        begin = time.perf_counter()
        self.write(keys)
        if not self.read(10):
            raise SystemExit(f"no repaint after {keys!r}")
        return time.perf_counter() - begin


@dataclass
class Figures:
    """Seconds and bytes of one journal size."""

    spans: int
    first_paint: float = 0.0
    key: list[float] = field(default_factory=list)
    jump: list[float] = field(default_factory=list)
    unfold: float = 0.0
    arrival: list[float] = field(default_factory=list)
    memory: int = 0

    def row(self) -> dict[str, float]:
        return {
            "spans": self.spans,
            "first_paint_ms": self.first_paint * 1e3,
            "key_p50_ms": statistics.median(self.key) * 1e3,
            "key_p95_ms": statistics.quantiles(self.key, n=20)[18] * 1e3,
            "jump_p50_ms": statistics.median(self.jump) * 1e3,
            "jump_p95_ms": statistics.quantiles(self.jump, n=20)[18] * 1e3,
            "unfold_all_ms": self.unfold * 1e3,
            "arrival_p50_ms": statistics.median(self.arrival) * 1e3,
            "arrival_p95_ms": statistics.quantiles(self.arrival, n=20)[18] * 1e3,
            "memory_mb": self.memory / 2**20,
        }


def measure(spans: int, rounds: int) -> Figures:
    figures = Figures(spans)
    with tempfile.TemporaryDirectory(prefix="pane-bench-") as folder:
        state = StateDir(Path(folder))
        writer = Writer(state, synchronous="OFF")
        traffic = Traffic("20261123_100000_bench0")
        for _ in range(spans // (2 + 2 * STEPS)):
            append(writer, traffic.turn())
        indexed(state)
        terminal = Terminal(state.path)
        try:
            run(terminal, writer, traffic, figures, rounds)
        finally:
            terminal.close()
            writer.close()
    return figures


def run(terminal: Terminal, writer: Writer, traffic: Traffic, figures: Figures, rounds: int) -> None:
    newest = f"pattern-{traffic.serial}-".encode()
    figures.first_paint = terminal.wait_for(newest) - terminal.begin
    terminal.quiet(5)  # a long session is still being read behind the first screen
    for number in range(rounds):
        figures.key.append(terminal.press(b"k" if number % 2 == 0 else b"j"))
        while terminal.read(0.03):
            pass
    for _ in range(rounds):
        figures.jump.append(terminal.press(b"c"))
        while terminal.read(0.03):
            pass
    figures.unfold = terminal.press(b"Z")
    terminal.quiet()
    terminal.write(b"z")
    terminal.quiet()
    terminal.write(b"f")  # follow the newest again
    terminal.quiet()
    trace, parent = os.urandom(16), os.urandom(8)
    for number in range(rounds):
        text = f"arrival-{number:04}-of-{figures.spans}"
        append(writer, traffic.arrival(trace, parent, f"echo {text}"))
        begin = time.perf_counter()
        terminal.seen = b""
        figures.arrival.append(terminal.wait_for(text.encode()) - begin)
        while terminal.read(0.03):  # let the frame end
            pass
    figures.memory = psutil.Process(terminal.process.pid).memory_info().rss


def growing(spans: int, rounds: int = 12) -> float:
    """Milliseconds of CPU for one more span in a turn of that many, the median."""
    trace, parent = os.urandom(16), os.urandom(8)
    with tempfile.TemporaryDirectory(prefix="pane-bench-") as folder:
        state = StateDir(Path(folder))
        writer = Writer(state, synchronous="OFF")
        traffic = Traffic("20261123_100000_bench0")
        shown = ShownSession(traffic.session, UNICODE)
        texts = [f"echo {number}" for number in range(spans)]
        for at in range(0, spans, 500):
            append(writer, traffic.arrival(trace, parent, *texts[at : at + 500]))
        taken = []
        indexed(state)
        with Reader(state.journal) as reader:
            shown.add(span for page in reader.spans_of([trace]) for span in page)
            shown.refresh(time.time_ns())
            revision = reader.revision()
            for number in range(rounds):
                append(writer, traffic.arrival(trace, parent, f"echo more {number}"))
                while not (more := reader.tail(revision)):
                    time.sleep(0.005)
                revision = more[-1].revision
                begin = time.process_time()
                shown.add(more)
                shown.refresh(time.time_ns())
                taken.append(time.process_time() - begin)
        writer.close()
    return statistics.median(taken) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--growing", default="200,2000,20000", help="sizes of a turn; empty: none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    compiled()
    few = measure(options.few, options.rounds).row()
    many = measure(options.many, options.rounds).row()
    ratios = {name: many[name] / few[name] for name in few if few[name]}
    grown = {size: growing(int(size)) for size in options.growing.split(",") if size}
    if options.json:
        print(json.dumps({"few": few, "many": many, "ratios": ratios, "growing_cpu_ms": grown}))
        return
    print(f"{'':18} {options.few:>12,} {options.many:>12,} {'ratio':>8}")
    for name in few:
        if name != "spans":
            print(f"{name:18} {few[name]:12.1f} {many[name]:12.1f} {ratios[name]:8.2f}")
    for size, took in grown.items():
        print(f"one more span in a turn of {int(size):>7,}: {took:8.1f} ms of CPU")


if __name__ == "__main__":
    main()
