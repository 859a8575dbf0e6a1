"""Rows as data: what a line of the tree or of the commands list says, before any drawing."""

from __future__ import annotations

from typing import NamedTuple

from hermes_tui import neutral
from hermes_tui.figures import short_number, short_time
from hermes_tui.model.span import FAILURES, Outcome, Role, Span, Status
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Turn, is_command
from hermes_tui.tui.glyphs import Glyphs

RowKey = tuple[bytes, bytes, str]
"""(trace id, span id or turn key, "turn" or "span"): the same before and after a span arrives."""

_TEXT = 400  # characters of a row's text; more never fits a line


class Row(NamedTuple):
    """One line. Equal rows look equal, so a drawn line can be kept by its row.

    `since_ns` is the start of something that still runs (0: nothing does): its time is drawn from
    the clock. `style` and the other `*_style` are names of component classes.
    """

    key: RowKey
    depth: int
    marker: str
    glyph: str
    text: str
    style: str
    note: str = ""
    note_style: str = ""
    time: str = ""
    value: str = ""
    value_style: str = ""
    since_ns: int = 0


def turn_key(turn: Turn) -> RowKey:
    return (*turn.key, "turn")


def span_key(trace_id: bytes, node: Node) -> RowKey:
    return (trace_id, node.span_id, "span")


def shown(text: str | None) -> str:
    """Text from a span as one harmless line of bounded length."""
    return neutral.line((text or "")[:_TEXT].strip())


_TURN_ENDS = {
    "completed": ("good", "good"), "interrupted": ("stopped", "warning"), "failed": ("bad", "bad"),
    "unknown": ("unknown", "dim"), "running": ("running", "live"),
}  # fmt: skip


def turn_row(turn: Turn, number: int, folded: bool, now_ns: int, glyphs: Glyphs) -> Row:
    """A turn is its prompt; folded it also tells how it ended and how many commands it ran."""
    status = turn.status(now_ns)
    running = status == "running"
    glyph, style = _TURN_ENDS[status]
    mark = "" if running else getattr(glyphs, glyph)
    totals = turn.totals
    parts = [mark, f"{totals.commands} {glyphs.command}" if totals.commands and folded else ""]
    if totals.failed_commands and folded:
        parts.append(f"{glyphs.bad}{totals.failed_commands}")
    missing = "turn in progress" if running else "prompt not seen"
    title = shown(turn.prompt) or f"({missing})"
    if turn.review:
        title = f"background review: {title}"
    return Row(
        key=turn_key(turn),
        depth=0,
        marker=glyphs.folded if folded else glyphs.open,
        glyph=str(number),
        text=title,
        style="turn" if turn.prompt else "turn-unnamed",
        note=" ".join(part for part in parts if part),
        note_style=style,
        time="" if running else short_time(max(0, turn.end_ns - turn.start_ns) / 1e9),
        value=short_number(totals.usage.tokens) if totals.usage.tokens else "",
        value_style="dim",
        since_ns=turn.start_ns if running else 0,
    )


def node_row(node: Node, trace_id: bytes, depth: int, marker: str, alive: bool, glyphs: Glyphs) -> Row:
    """A span, or the place of one that has not come (`alive`: its turn still runs)."""
    span = node.span
    key = span_key(trace_id, node)
    if span is None:
        text = "parent not seen yet" if alive else "parent never seen"
        return Row(key, depth, marker, glyphs.missing, text, "missing")
    glyph, text, style = _face(span, glyphs)
    value, value_style = _value(span, glyphs)
    running = span.running and alive
    return Row(
        key=key,
        depth=depth,
        marker=marker,
        glyph=glyph,
        text=text,
        style=style,
        time="" if running else short_time(span.duration_s),
        value=value,
        value_style=value_style,
        since_ns=span.start_ns if running else 0,
    )


def _face(span: Span, glyphs: Glyphs) -> tuple[str, str, str]:
    """Glyph, text and style of a span."""
    if is_command(span):
        return glyphs.command, shown(span.command) or f"({span.tool})", "command"
    if span.role is Role.TOOL:
        return glyphs.tool, f"{shown(span.tool)} {shown(span.target)}".strip(), "tool"
    if span.role is Role.MODEL_CALL:
        return glyphs.llm, shown(span.model) + _led_to(span, glyphs), "llm"
    if span.role is Role.APPROVAL:
        decision = shown(span.decision) or "waiting"
        style = "approval" if decision.startswith("allowed") else "warning"
        return glyphs.approval, f"{decision}: {shown(span.target)}", style
    if span.role is Role.SUBAGENT:
        return glyphs.subagent, shown(span.prompt) or shown(span.name), "subagent"
    if span.role is Role.SKILL:
        return glyphs.skill, shown(span.name.removeprefix("skill.")), "skill"
    if span.role in (Role.TURN, Role.AGENT):
        return glyphs.subagent, shown(span.prompt) or shown(span.name), "subagent"
    return glyphs.other, shown(span.name), "other"


def _led_to(span: Span, glyphs: Glyphs) -> str:
    if span.status is Status.ERROR:
        return f" {shown(span.error)}"
    if span.tool_calls:
        return f" {glyphs.arrow} {span.tool_calls} tool{'s' if span.tool_calls > 1 else ''}"
    return f" {glyphs.arrow} answer" if span.finish_reason == "stop" else ""


def _value(span: Span, glyphs: Glyphs) -> tuple[str, str]:
    """The last column: how a command ended, else tokens, else whether it failed."""
    if is_command(span):
        return outcome_mark(span, glyphs)
    if span.status is Status.ERROR:
        return glyphs.bad, "bad"
    if span.role is Role.MODEL_CALL and span.input_tokens is not None:
        return short_number(span.input_tokens + (span.output_tokens or 0)), "dim"
    if span.role is Role.TOOL and not span.running:
        return glyphs.good, "good"
    return "", ""


def outcome_mark(span: Span, glyphs: Glyphs) -> tuple[str, str]:
    """✓, ✗ 3, ✗ blocked, ?: glyph first, colour on top."""
    if span.running:
        return "", ""
    outcome = span.outcome
    if outcome == Outcome.COMPLETED:
        return glyphs.good, "good"
    if outcome == Outcome.BACKGROUND:
        return glyphs.background, "warning"
    if outcome in FAILURES:
        word = "stopped" if outcome == Outcome.INTERRUPTED else outcome  # fits the column
        if outcome == Outcome.FAILED and span.exit_code is not None:
            word = str(span.exit_code)
        return f"{glyphs.bad} {word}", "bad" if outcome == Outcome.FAILED else "warning"
    return f"exit {glyphs.unknown}", "dim"


def command_row(span: Span, trace_id: bytes, node: Node, clock: str, alive: bool, glyphs: Glyphs) -> Row:
    """A line of the commands list: when, what, how long, how it ended."""
    value, value_style = outcome_mark(span, glyphs)
    running = span.running and alive
    text = shown(span.command) or f"({span.tool})"
    return Row(
        key=span_key(trace_id, node),
        depth=0,
        marker=clock,
        glyph=glyphs.command if span.tool == "terminal" else glyphs.tool,
        text=text,
        style="command",
        time="" if running else short_time(span.duration_s),
        value=value,
        value_style=value_style,
        since_ns=span.start_ns if running else 0,
    )
