"""What the pane's tests share: a session without a screen, a pane on a real journal, and what both show."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from opentelemetry.proto.trace.v1 import trace_pb2
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import ContentSwitcher

from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal import marks
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.marks import Pen
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery, Span
from hermes_tui.pane_settings import Pane
from hermes_tui.settings import Attention
from hermes_tui.tui.app import TraceApp
from hermes_tui.tui.blocks import Blocks
from hermes_tui.tui.examination import Examination
from hermes_tui.tui.glyphs import UNICODE, Glyphs
from hermes_tui.tui.messages import RelayInfo, Supervisor
from hermes_tui.tui.rows import Row, RowKey
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.widgets.delivery_view import DeliveryView
from hermes_tui.tui.widgets.row_list import RowList
from tests.support import SECOND, recorded_requests, spans_in, trace_id, wire_span

NARROW, WIDE = (60, 20), (120, 30)
DEADLINE_S = 30.0


# ---- without a screen


def session_of(spans: Iterable[Span]) -> str:
    """The session that a recording begins with."""
    named = [span for span in spans if span.session is not None]
    first = min(named, key=lambda span: span.start_ns).session
    assert first is not None
    return first


def spans_until(name: str, requests: int | None = None) -> list[Span]:
    """The spans in the first requests of a recording."""
    return [span for body in recorded_requests(name)[:requests] for span in spans_in(body)]


def last_ns(spans: Iterable[Span]) -> int:
    return max(max(span.end_ns, span.start_ns) for span in spans)


def show(
    spans: Iterable[Span],
    *,
    session: str | None = None,
    now_ns: int | None = None,
    raw: bool = False,
    glyphs: Glyphs = UNICODE,
) -> ShownSession:
    """A session with these spans taken in at once."""
    spans = list(spans)
    shown = ShownSession(session_of(spans) if session is None else session, glyphs)
    shown.tree.set_raw(raw)
    shown.add(spans)
    shown.refresh(last_ns(spans) + SECOND if now_ns is None else now_ns)
    return shown


def rows_of(source: Blocks[Any]) -> list[Row]:
    return [source.row(number) for number in range(len(source))]


def lines_of(source: Blocks[Any], width: int = 24) -> list[str]:
    """Rows as short texts: how deep, marker, glyph, the text's beginning, and how it ended."""
    return [
        f"{'  ' * row.depth}{row.marker}{row.glyph} {row.text[:width]}".rstrip()
        + (f" | {row.value}" if row.value else "")
        for row in rows_of(source)
    ]


def check_rows(source: Blocks[Any]) -> None:
    """Every row is found by its key, and no two rows have the same."""
    rows = rows_of(source)
    assert len({row.key for row in rows}) == len(rows)
    assert [source.find(row.key) for row in rows] == list(range(len(rows)))
    assert source.find(None) is None


# ---- with one


@dataclass
class FakeRelay:
    """What a pane knows of a relay."""

    pid: int = 4711
    http: str | None = "127.0.0.1:54321"
    destination: str | None = None
    experiment: str | None = None
    workspace: str | None = None
    started_by: str = "pane"


class FakeSupervisor:
    """`running` is what it finds; each `ensure` takes the next of `script`: a relay, or an error to raise."""

    def __init__(
        self, running: RelayInfo | None = None, script: Iterable[RelayInfo | Exception] = ()
    ) -> None:
        self.running = running
        self.script = list(script)
        self.asked = 0

    def find(self) -> RelayInfo | None:
        return self.running

    def ensure(self) -> RelayInfo:
        self.asked += 1
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        self.running = step
        return step


class Clock:
    """Stands in for the `time` module of the pane's modules; stands still until it is moved."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def time(self) -> float:
        return self.now_ns / 1e9

    def time_ns(self) -> int:
        return self.now_ns

    def install(self, monkeypatch: Any) -> Clock:
        fake = SimpleNamespace(**{**vars(time), "time": self.time, "time_ns": self.time_ns})
        for module in (
            "app",
            "board",
            "later_views",
            "reviewing",
            "wishes",
            "usage_feed",
            "widgets.row_list",
            "widgets.bars",
            "screens.sessions",
        ):
            monkeypatch.setattr(f"hermes_tui.tui.{module}.time", fake)
        return self


class Stage:
    """A pane under test: its parts, and what it shows."""

    def __init__(self, app: TraceApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def until(self, condition: Callable[[], object], deadline: float = DEADLINE_S) -> None:
        """Return once `condition` holds and the screen has been drawn with it."""
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not within {deadline} s: {condition}\n" + "\n".join(self.lines()))
            await self.pilot.pause(0.005)
        await self.pilot.pause()

    async def shows(self, *texts: str) -> None:
        """Until all these texts are on the screen."""
        await self.until(lambda: all(text in self.text for text in texts))

    async def gone(self, text: str) -> None:
        await self.until(lambda: text not in self.text)

    async def says(self, *texts: str) -> None:
        """Until notices hold all these texts; a pane without `notices` keeps them all the same."""
        await self.until(lambda: all(any(text in said for said in self.said) for text in texts))

    @property
    def said(self) -> list[str]:
        """The notices that were not taken away yet."""
        return [each.message for each in self.app._notifications]

    async def press(self, *keys: str) -> None:
        """Press keys and let everything that follows from them happen."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def spans(self, count: int) -> None:
        """Until the shown session holds so many finished spans."""
        await self.until(lambda: self.app.shown.totals.spans == count)

    def strips(self) -> list[Strip]:
        """The screen's lines as they are drawn, the widgets laid over each other."""
        return self.app.screen._compositor.render_strips(self.app.size)

    def lines(self) -> list[str]:
        return ["".join(segment.text for segment in strip) for strip in self.strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines())

    @property
    def footer(self) -> str:
        return self.app._main.query_one("#footer").render_line(0).text

    @property
    def header(self) -> str:
        header = self.app._main.query_one("#header")
        return f"{header.render_line(0).text}\n{header.render_line(1).text}"

    @property
    def main(self) -> Any:
        return self.app._main

    @property
    def view(self) -> str | None:
        return self.main.query_one(ContentSwitcher).current

    @property
    def rows(self) -> RowList:
        """The list that is shown."""
        rows = self.main.query_one("#commands" if self.view == "commands" else "#tree", RowList)
        assert isinstance(rows, RowList)
        return rows

    @property
    def proof(self) -> DeliveryView:
        assert self.app.board.later.proof is not None
        return self.app.board.later.proof

    @property
    def cursor(self) -> RowKey | None:
        return self.rows.cursor

    @property
    def cursor_row(self) -> Row:
        line = self.rows.source.find(self.cursor)
        assert line is not None
        return self.rows.source.row(line)

    @property
    def cursor_line(self) -> int:
        """The cursor's line on the screen, counted from the list's top."""
        line = self.rows.source.find(self.cursor)
        assert line is not None
        return line - self.rows.scroll_offset.y

    @property
    def drawn_cursor(self) -> list[int]:
        """Lines of the list that are drawn with the cursor's background."""
        background = self.rows.get_component_rich_style("row--cursor").bgcolor
        height = self.rows.scrollable_content_region.height
        return [
            y
            for y in range(height)
            if any(
                segment.style is not None and segment.style.bgcolor == background
                for segment in self.rows.render_line(y)
            )
        ]

    async def go_to(self, text: str) -> Row:
        """Put the cursor on the row whose text begins so, as a user would."""
        rows = self.rows
        texts = [rows.source.row(number).text for number in range(len(rows.source))]
        wanted = next(number for number, each in enumerate(texts) if each.startswith(text))
        rows.go_to(rows.source.row(wanted).key)
        await self.pilot.pause()
        assert self.cursor_row.text.startswith(text)
        return self.cursor_row


@asynccontextmanager
async def pane(
    state: StateDir,
    size: tuple[int, int] = NARROW,
    *,
    supervisor: Supervisor | None = None,
    wanted: str | None = None,
    watch: Watch | None = None,
    attention: Attention | None = None,
    examination: Examination | None = None,
    settings: Pane | None = None,
    notices: bool = False,
) -> AsyncIterator[Stage]:
    """A pane on the journal of `state`, on a screen of this size; with `notices` what it says pops up."""
    app = TraceApp(
        state, supervisor=supervisor, wanted=wanted, watch=watch, attention=attention,
        examination=examination, wanted_pane=settings,
    )  # fmt: skip
    async with app.run_test(size=size, notifications=notices) as pilot:
        yield Stage(app, pilot)


# ---- what is played to it


def deliver(
    writer: Writer,
    spans: Iterable[trace_pb2.Span | Span],
    delivery: Delivery,
    *,
    reason: str | None = None,
    at_ns: int = SECOND * 1_400,
) -> None:
    """Mark spans as the relay would, at a moment of the test's."""
    keys = [
        (each.trace_id, each.span_id, each.end_ns if isinstance(each, Span) else each.end_time_unix_nano)
        for each in spans
    ]

    def work(pen: Pen) -> None:
        marks.mark(pen, keys, delivery, "http://mlflow", reason)
        pen.connection.executemany(
            "UPDATE marks SET at_ns = ? WHERE trace_id = ? AND span_id = ?",
            [(at_ns, *key[:2]) for key in keys],
        )

    writer.do(work).result(DEADLINE_S)


def tell(writer: Writer, trace: bytes, **document: Any) -> None:
    """What MLflow says of a trace, as the relay notes it."""
    row = (trace, "http://mlflow", 1, json.dumps(document))
    statement = (
        "INSERT OR REPLACE INTO read_back (trace_id, destination, at_ns, document) VALUES (?, ?, ?, ?)"
    )
    writer.do(lambda pen: pen.connection.execute(statement, row) and None).result(DEADLINE_S)


def says(writer: Writer, **documents: dict[str, Any]) -> None:
    """The relay's documents: exporter, proof, keeping."""
    for name, document in documents.items():
        writer.set_meta(name, document).result(DEADLINE_S)


def wire_turn(
    trace: int,
    *,
    calls: int = 2,
    root: bool = True,
    session: str = "s",
    at_s: int | None = None,
    first: int = 0,
) -> list[trace_pb2.Span]:
    """A turn as its spans arrive, children first. Ids and times follow from the number of its trace."""
    number, start = trace * 1_000, SECOND * (1_000 + 10 * trace if at_s is None else at_s)
    spans = [
        wire_command(trace, index, session=session, start_ns=start + index * SECOND // 100)
        for index in range(first, first + calls)
    ]
    if root:
        spans.append(
            wire_span(
                number + 1,
                parent=number,
                trace=trace,
                name="llm.gpt",
                start_ns=start,
                end_ns=start + 4 * SECOND,
                session__id=session,
            )
        )
        spans.append(
            wire_span(
                number,
                trace=trace,
                name="agent",
                start_ns=start,
                end_ns=start + 5 * SECOND,
                session__id=session,
                input__value=f"turn {trace}",
                hermes__turn__final_status="completed",
            )
        )
    return spans


def wire_command(trace: int, index: int, *, session: str = "s", code: int = 0, **said: Any) -> trace_pb2.Span:
    """A terminal call of a turn: `echo TRACE.INDEX`."""
    number = trace * 1_000
    arguments = json.dumps({"command": f"echo {trace}.{index}"})
    result = json.dumps({"output": f"out {trace}.{index}\n", "exit_code": code, "error": None})
    start = said.pop("start_ns", SECOND * (1_000 + 10 * trace) + index * SECOND // 100)
    return wire_span(
        number + 10 + index,
        parent=number + 1,
        trace=trace,
        name="tool.terminal",
        session__id=session,
        input__value=arguments,
        output__value=result,
        start_ns=start,
        end_ns=start + SECOND // 200,
        **said,
    )


def key_of(span: trace_pb2.Span) -> RowKey:
    return (span.trace_id, span.span_id, "span")


def head_of(trace: int) -> RowKey:
    """The key of the row of a trace's first turn."""
    return (trace_id(trace), b"", "turn")
