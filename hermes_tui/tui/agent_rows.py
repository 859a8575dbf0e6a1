"""Rows of subagents: how each ended and what it spent, by its span, by Hermes' records, or by both. Pure."""

from __future__ import annotations

from hermes_tui.figures import short_number, short_time
from hermes_tui.model.doing import State
from hermes_tui.model.joined import Agent
from hermes_tui.model.live_turns import LiveTurn
from hermes_tui.model.span import Span
from hermes_tui.model.verdicts import agent_end
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.rows import Row, node_row, shown
from hermes_tui.tui.standins import Delegate

_WORDS = {"interrupted": "stopped", "failed": "failed"}
_TIMEOUTS = ("timed_out", "timeout")


def delegate_row(part: Delegate, depth: int, marker: str, moment: Moment, glyphs: Glyphs) -> Row:
    """The row of a subagent's span."""
    row = node_row(part.node, part.trace_id, depth, marker, part.alive, glyphs)
    tokens = part.tokens or (_noted_tokens(part.agent, moment) if part.agent is not None else 0)
    row = row._replace(note=short_number(tokens) if tokens else "", note_style="dim")
    span = part.node.span
    if row.since_ns or span is None:
        return row
    end = agent_end(span) or _noted_end(part.agent, moment)
    if not end and not span.running:
        end = "completed"
    mark, style = _mark(end, span, glyphs)
    if end != "failed" or agent_end(span) == end:
        return row._replace(value=mark, value_style=style)
    # The span itself tells of no error, and by the value errors are counted and jumped to.
    return row._replace(note=mark, note_style=style, value=row.note, value_style="dim")


def agent_row(agent: Agent, moment: Moment, glyphs: Glyphs) -> Row:
    """The row of a subagent without a span."""
    running = moment.doing(agent.session).state is not State.IDLE
    turn = _noted(agent, moment)
    lasted = ""
    if turn is not None and not running:
        lasted = short_time(max(0, (turn.ended_ns or turn.last_ns) - agent.start_ns) / 1e9)
    mark, style = ("", "") if running or turn is None else _mark(turn.end, None, glyphs)
    tokens = _noted_tokens(agent, moment)
    return Row(
        key=(b"", b"", "agent"),
        depth=0,
        marker="",
        glyph=glyphs.subagent,
        text=shown(agent.prompt) or "subagent",
        style="subagent",
        note=short_number(tokens) if tokens else "",
        note_style="dim",
        time=lasted,
        value=mark,
        value_style=style,
        since_ns=agent.start_ns if running else 0,
        start_ns=agent.start_ns,
        end_ns=0 if turn is None or running else turn.ended_ns or turn.last_ns,
    )


def _mark(end: str, span: Span | None, glyphs: Glyphs) -> tuple[str, str]:
    if end == "completed":
        return glyphs.good, "good"
    if end not in _WORDS:
        return "", ""
    word = _WORDS[end]
    if span is not None and span.final_status in _TIMEOUTS:
        word = "timeout"
    return (f"{glyphs.bad} {word}", "bad") if end == "failed" else (f"{glyphs.stopped} {word}", "warning")


def _noted(agent: Agent | None, moment: Moment) -> LiveTurn | None:
    part = moment.live.session(agent.session) if agent is not None else None
    if agent is None or part is None:
        return None
    return next((turn for turn in part.turns if turn.key == agent.key), None)


def _noted_end(agent: Agent | None, moment: Moment) -> str:
    turn = _noted(agent, moment)
    return turn.end if turn is not None else ""


def _noted_tokens(agent: Agent, moment: Moment) -> int:
    """What Hermes noted of a subagent and of those below it."""
    parts = (moment.live.session(agent.session), *moment.live.below(agent.session))
    sums = [part.sums for part in parts if part is not None]
    return sum(each.input_tokens + each.output_tokens for each in sums if each is not None)
