"""Make the README's pictures: the real pane on recordings, in mid-turn and after it, and how delivery stands.

python screenshots/make.py [--png DIR]     (--png also writes PNG files there; needs the `pictures` extra)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from textual.pilot import Pilot

sys.path.insert(0, str(Path(__file__).parent.parent))

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import SpanKey
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Envelope, Writer
from hermes_tui.model.span import Delivery
from hermes_tui.otlp.codec import PROTOBUF, Request, moved
from hermes_tui.relay.rehearsal import beside
from hermes_tui.relay.replay import Recorded, read_recording
from hermes_tui.tui.app import TraceApp
from tests.hermes_process import HermesProcess, hermes_process
from tests.state_player import StateEvent
from tests.state_player import moved as moved_rows

HERE = Path(__file__).parent
RECORDINGS = HERE.parent / "tests" / "recordings"
DEMO = HERE.parent / "hermes_tui" / "recordings" / "demo.otlp.jsonl"
SCRIPT_TAG = re.compile(rb"\[\[s:\w+\]\]")
SIZES = {"60": (60, 20), "120": (120, 30)}
MLFLOW = "http://127.0.0.1:5000"
SAID = {"state": "OK", "duration_s": 18.699, "input_tokens": 113_692, "output_tokens": 240, "spans": 13}
"""What a real MLflow 3.17 said of the recording `interrupted`."""
REFUSED = "refused with 422: Failed to convert OTLP span"


def shift_of(requests: list[Recorded], until_s: float) -> float:
    """Seconds by which the recording is moved, so that `until_s` seconds of it have passed just now."""
    return time.time() - min(until_s, requests[-1].at_s) - requests[0].wall_s + requests[0].at_s


def commit(hermes: HermesProcess, home: Path, until_s: float, shift_s: float) -> None:
    """Hermes' own records of the demo, up to that moment."""
    hermes.begin(home)
    rows = [StateEvent(**json.loads(line)) for line in beside(DEMO).read_text("utf-8").splitlines()]
    for event in moved_rows(rows, shift_s):
        if event.t <= until_s:
            hermes.commit(event)


def fill(writer: Writer, requests: list[Recorded], until_s: float, shift_s: float) -> None:
    """Store what came in the first `until_s` seconds."""
    shift = int(shift_s * 1e9)
    for request in requests:
        if request.path == "/v1/traces" and request.at_s <= until_s:
            # The recordings' prompts begin with a tag for the scripted model; blanks keep the lengths right.
            body = moved(SCRIPT_TAG.sub(lambda tag: b" " * len(tag[0]), request.body), shift)
            decoded = Request(body)
            writer.append(Envelope(body, PROTOBUF, "", decoded, len(decoded))).result()


def deliver(writer: Writer, reader: Reader, *, refused: bool) -> None:
    """As the relay would mark it: traces whose root has come are read back, the others on their way.

    `refused`: one span is not taken, and MLflow has said something of the trace.
    """
    confirmed: list[SpanKey] = []
    accepted: list[SpanKey] = []
    for trace_id in reader.traces():
        spans = [span for page in reader.spans_of([trace_id]) for span in page if not span.running]
        rooted = any(not span.parent_id for span in spans)
        state = confirmed if rooted else accepted
        state += [(span.trace_id, span.span_id, span.end_ns) for span in spans]
        if refused:
            row = (trace_id, MLFLOW, time.time_ns(), json.dumps({**SAID, "spans": len(spans) - 1}))
            note(
                writer,
                "INSERT INTO read_back (trace_id, destination, at_ns, document) VALUES (?, ?, ?, ?)",
                row,
            )
    if refused:
        writer.mark([confirmed.pop()], Delivery.QUARANTINED, destination=MLFLOW, reason=REFUSED).result()
    writer.mark(confirmed, Delivery.CONFIRMED, destination=MLFLOW).result()
    writer.mark(accepted, Delivery.ACCEPTED, destination=MLFLOW).result()
    writer.set_meta("exporter", {"state": "ok", "destination": MLFLOW}).result()
    writer.set_meta("proof", {"state": "ok", "readable": True}).result()


def note(writer: Writer, statement: str, row: tuple[object, ...]) -> None:
    writer.do(lambda pen: pen.connection.execute(statement, row) and None).result()


async def picture(
    hermes: HermesProcess, name: str, recording: Path, until_s: float, keys: list[str], width: str
) -> str:
    """The pane's screen as SVG."""
    requests = read_recording(recording)
    shift_s = shift_of(requests, until_s)
    with tempfile.TemporaryDirectory() as folder:
        state, home = StateDir(Path(folder) / "state"), Path(folder) / "hermes"
        watch = Watch(find=lambda: [Home("default", home)]) if recording == DEMO else None
        if watch is not None:
            commit(hermes, home, until_s, shift_s)
        writer = Writer(state, forward=True)
        try:
            fill(writer, requests, until_s, shift_s)
            with Reader(state.journal) as reader:
                while reader.indexed()[0] != reader.indexed()[1]:
                    await asyncio.sleep(0.01)
                deliver(writer, reader, refused=name == "delivery")
            app = TraceApp(state, watch=watch)
            async with app.run_test(size=SIZES[width]) as pilot:
                await settled(app, pilot, state)
                for key in keys:
                    await pilot.press(key)
                    await pilot.pause(0.2)  # what a key asks for comes from the journal, in another thread
                return app.export_screenshot(title=f"hermes-trace-tui, {name}")
        finally:
            writer.close()


async def settled(app: TraceApp, pilot: Pilot[None], state: StateDir) -> None:
    """Until the pane shows all that the journal holds."""
    deadline = time.monotonic() + 30
    with Reader(state.journal) as reader:
        while True:
            await pilot.pause()
            done, last = reader.indexed()
            counted = app.shown.totals.spans
            told = app.live.sessions() or app._watch is None
            if told and done == last and counted and counted == sum(reader.counts().values()):
                await pilot.pause()
                return
            if time.monotonic() > deadline:
                raise SystemExit("the pane did not show all spans")


def plain_fonts(svg: str) -> str:
    """Without the web font that Rich names: a picture must not fetch anything."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return re.sub(r"font-family: ?[^;]*Fira Code[^;]*;", "font-family: monospace;", svg)


PICTURES = (
    ("mid-turn", DEMO, 9.8, [], "60"),
    ("mid-turn", DEMO, 9.8, [], "120"),
    ("done", DEMO, 1e9, ["f"], "60"),
    ("done", DEMO, 1e9, ["up", "up", "up", "up", "up", "up", "up", "up"], "120"),
    ("commands", DEMO, 1e9, ["2"], "60"),
    ("usage", DEMO, 1e9, ["3"], "60"),
    ("delivery", RECORDINGS / "interrupted.otlp.jsonl", 1e9, ["4", "down"], "60"),
    ("turns", RECORDINGS / "interrupted.otlp.jsonl", 1e9, [], "60"),
)


async def make(png: Path | None) -> None:
    with hermes_process() as hermes:
        await make_all(hermes, png)


async def make_all(hermes: HermesProcess, png: Path | None) -> None:
    for name, recording, until_s, keys, width in PICTURES:
        svg = plain_fonts(await picture(hermes, name, recording, until_s, keys, width))
        file = HERE / f"{name}-{width}.svg"
        file.write_text(svg, encoding="utf-8")
        print(file.name)
        if png is not None:
            import cairosvg

            cairosvg.svg2png(svg.encode(), write_to=str(png / f"{name}-{width}.png"), scale=1.5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--png", type=Path)
    asyncio.run(make(parser.parse_args().png))


if __name__ == "__main__":
    main()
