"""Rows for what has no span: running, on its way, or lost."""

from __future__ import annotations

from hermes_tui.figures import short_number, short_time
from hermes_tui.model.doing import Doing, State
from hermes_tui.model.joined import Agent, Item, JoinedTurn, Step
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import Outcome, Span
from hermes_tui.model.sums import Sums
from hermes_tui.tui.agent_rows import agent_row, delegate_row
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.rows import Row, item_key, outcome_mark, shown, with_job
from hermes_tui.tui.standins import Delegate, StandIn, Waiting

LOST = "no span"
WAITING = "waiting"
"""The style of rows that only say that something is awaited."""


def stand_in_row(
    stand_in: StandIn, turn: JoinedTurn, depth: int, marker: str, moment: Moment, glyphs: Glyphs
) -> Row:
    """The row of anything that a stand-in is for."""
    part = stand_in.part
    if isinstance(part, Item):
        row = call_row(part, turn, moment, glyphs)
    elif isinstance(part, Step):
        row = _step_row(part, moment, glyphs)
    elif isinstance(part, Agent):
        row = agent_row(part, moment, glyphs)
    elif isinstance(part, Delegate):
        row = delegate_row(part, depth, marker, moment, glyphs)
    else:
        row = _waiting_row(part, glyphs)
    return row._replace(key=stand_in.key, depth=depth, marker=marker)


def call_row(item: Item, turn: JoinedTurn, moment: Moment, glyphs: Glyphs) -> Row:
    """A call as far as it is known without its span."""
    command = item.tool in COMMAND_TOOLS
    since = moment.since(item)
    text = shown(item.command) or f"({shown(item.tool)})" if command else _named(item)
    row = Row(
        key=item_key(item),
        depth=0,
        marker="",
        glyph=glyphs.command if command else glyphs.tool,
        text=text,
        style="command" if command else "tool",
        since_ns=since,
        start_ns=item.start_ns,
        end_ns=item.end_ns,
    )
    if moment.asks(item):
        return _asking(row, moment.doing(item.session), glyphs)
    if since:
        return row
    if moment.waits(item):
        return row._replace(note="next", note_style="dim", style=WAITING)
    return with_job(_ended(row, item, turn, moment, glyphs), moment.job(item), moment.now_ns, glyphs)


def _asking(row: Row, doing: Doing, glyphs: Glyphs) -> Row:
    """Someone has to decide, and Hermes waits for it."""
    note = "waits for you" if doing.certain else f"waits for you{glyphs.unknown}"
    return row._replace(glyph=glyphs.approval, style="asking", note=note, note_style="asking")


def _ended(row: Row, item: Item, turn: JoinedTurn, moment: Moment, glyphs: Glyphs) -> Row:
    lasted = short_time(max(0, item.end_ns - item.start_ns) / 1e9) if item.end_ns else ""
    if not item.end_ns:
        word = "stopped" if item.dropped else "not ended"
        value, style = f"{glyphs.bad} {word}", "warning"
    elif item.tool in COMMAND_TOOLS:
        value, style = outcome_mark(item.outcome, item.exit_code, glyphs)
    else:
        bad = item.outcome is Outcome.FAILED
        value, style = (glyphs.bad, "bad") if bad else (glyphs.good, "good")
    note = LOST if moment.lost(item, turn) else ""
    return row._replace(time=lasted, value=value, value_style=style, note=note, note_style="dim")


def _named(item: Item) -> str:
    return f"{shown(item.tool)} {shown(item.target)}".strip()


def _step_row(step: Step, moment: Moment, glyphs: Glyphs) -> Row:
    part = moment.live.session(step.session)
    model = shown(part.row.model if part is not None and part.row is not None else None) or "model"
    calls = step.live.calls
    led = f"{calls} tool{'s' if calls > 1 else ''}" if calls else "answer"
    spent = part.spent(step.live) if part is not None else None
    return Row(
        key=(b"", b"", "step"),
        depth=0,
        marker="",
        glyph=glyphs.llm,
        text=f"{model} {glyphs.arrow} {led}",
        style="llm",
        time=short_time((step.live.at_ns - step.live.since_ns) / 1e9),
        value=_tokens(spent),
        value_style="dim",
        start_ns=step.live.since_ns,
        end_ns=step.live.at_ns,
    )


def _tokens(spent: Sums | None) -> str:
    total = spent.input_tokens + spent.output_tokens if spent is not None else 0
    return short_number(total) if total else ""


def _waiting_row(waiting: Waiting, glyphs: Glyphs) -> Row:
    model = waiting.state is State.MODEL
    return Row(
        key=(b"", b"", "step"),
        depth=0,
        marker="",
        glyph=glyphs.llm if model else glyphs.tool,
        text="waiting for the model" if model else "a tool runs, seen when it ends",
        style=WAITING,
        since_ns=waiting.since_ns,
        start_ns=waiting.since_ns,
    )


def command_row(item: Item, span: Span, began: str, alive: bool, moment: Moment, glyphs: Glyphs) -> Row:
    """A line of the commands list: when, what, how long, how it ended."""
    running = span.running and alive
    value, style = ("", "") if span.running else outcome_mark(item.outcome, item.exit_code, glyphs)
    row = Row(
        key=item_key(item),
        depth=0,
        marker=began,
        glyph=glyphs.command if span.tool == "terminal" else glyphs.tool,
        text=shown(item.command) or f"({shown(item.tool)})",
        style="command",
        time="" if running else short_time(span.duration_s),
        value=value,
        value_style=style,
        since_ns=span.start_ns if running else 0,
    )
    return with_job(row, moment.job(item), moment.now_ns, glyphs)
