"""Rows as data: what a line of the tree or of the commands list says, before any drawing."""

from __future__ import annotations

from typing import NamedTuple

from hermes_tui import neutral
from hermes_tui.figures import short_number, short_time
from hermes_tui.model.jobs import Job
from hermes_tui.model.joined import Item, JoinedTurn
from hermes_tui.model.live_turns import CallKey
from hermes_tui.model.pairing import SpanKey
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import FAILURES, Outcome, Role, Span, Status
from hermes_tui.model.steps import StepKey
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Turn, is_command
from hermes_tui.tui.glyphs import Glyphs

RowKey = tuple[bytes, bytes, str]
"""(trace id, span id or turn key, "turn" or "span"): the same before and after a span arrives. Of what is
known from elsewhere: (session, its name there, "asked" (a turn), "call", "step" (a model call) or "agent").
"""

TURN_KINDS = ("turn", "asked")

_TEXT = 400  # characters of a row's text; more never fits a line
_PARTS = 2  # of a folder's path that are said in a row
_VERDICT = 7  # characters of a decision in the last column


class Row(NamedTuple):
    """One line. Equal rows look equal, so a drawn line can be kept by its row.

    `since_ns` is the start of something that still runs (0: nothing does): its time is drawn from
    the clock. `style` and the other `*_style` are names of component classes. `start_ns` and `end_ns` are
    when it was (0: unknown, or not over), `nature` is what filters and jumps go by (`nature.py`). `mark` is a
    single cell before all others, `place` where it was done, said where there is room.
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
    start_ns: int = 0
    end_ns: int = 0
    nature: int = 0
    mark: str = ""
    place: str = ""


def turn_key(turn: Turn) -> RowKey:
    return (*turn.key, "turn")


def turn_keys(turn: JoinedTurn) -> tuple[RowKey, ...]:
    """What a turn's row is called, first, and what it was called before."""
    named = [turn_key(turn.turn)] if turn.turn is not None else []
    if turn.live is not None:
        session, asked_ns = turn.live.key
        named.append((*_coded((session, str(asked_ns))), "asked"))
    return tuple(named)


def span_key(trace_id: bytes, node: Node) -> RowKey:
    return (trace_id, node.span_id, "span")


def call_key(key: CallKey | SpanKey) -> RowKey:
    """The key of a call of which no span has come."""
    return (*_coded(key), "call")


def item_key(item: Item) -> RowKey:
    return call_key(item.key) if item.span is None else (item.span.trace_id, item.span.span_id, "span")


def step_row_key(key: StepKey) -> RowKey:
    return (*_coded(key), "step")


def agent_key(key: tuple[str, int]) -> RowKey:
    return (*_coded((key[0], str(key[1]))), "agent")


def _coded(key: tuple[str, str] | SpanKey) -> tuple[bytes, bytes]:
    first, second = key
    # A session's name may hold what is not UTF-8.
    return (
        first if isinstance(first, bytes) else first.encode(errors="surrogatepass"),
        second if isinstance(second, bytes) else second.encode(errors="surrogatepass"),
    )


def folder_name(path: str, glyphs: Glyphs) -> str:
    """The end of a folder's path, which tells it from others, as one harmless line."""
    parts = [part for part in path[-_TEXT:].split("/") if part]
    short = "/".join(parts[-_PARTS:])
    return shown(f"{glyphs.more}/{short}" if len(parts) > _PARTS else path)


def shown(text: str | None) -> str:
    """Text from a span as one harmless line of bounded length."""
    return neutral.line((text or "")[:_TEXT].strip())


_TURN_ENDS = {
    "completed": ("good", "good"), "interrupted": ("stopped", "warning"), "failed": ("bad", "bad"),
    "unknown": ("unknown", "dim"), "running": ("running", "live"),
}  # fmt: skip


def turn_row(
    turn: JoinedTurn, folded: bool, status: str, tokens: int, glyphs: Glyphs, *,
    errors: int = 0, retries: int = 0,
) -> Row:  # fmt: skip
    """A turn is its prompt; folded it also tells how it ended, how many commands it ran and what failed. Its
    number, the glyph, depends on how many there are: the outline knows.

    `errors` is how many of its rows say that something failed, `retries` how often a model call was made
    again.
    """
    running = status == "running"
    glyph, style = ("none", "dim") if _cut_short(turn, status) else _TURN_ENDS[status]
    mark = "" if running else getattr(glyphs, glyph)
    root = turn.turn.span if turn.turn is not None else None
    if status == "failed" and root is not None and root.final_status == "timed_out":
        mark += " timeout"
    commands = [item for item in turn.items if item.tool in COMMAND_TOOLS] if folded else []
    parts = [mark, f"{len(commands)} {glyphs.command}" if commands else ""]
    if folded and errors:
        parts.append(f"{glyphs.bad}{errors}")
    if folded and retries:
        parts.append(f"{glyphs.retry}{retries}")
    missing = "turn in progress" if running else "prompt not seen"
    title = shown(turn.prompt) or f"({missing})"
    if turn.turn is not None and turn.turn.review:
        title = f"background review: {title}"
    return Row(
        key=turn_keys(turn)[0],
        depth=0,
        marker=glyphs.folded if folded else glyphs.open,
        glyph="",
        text=title,
        style="turn" if turn.prompt else "turn-unnamed",
        note=" ".join(part for part in parts if part),
        note_style=style,
        time="" if running else short_time(max(0, end_of(turn) - turn.start_ns) / 1e9),
        value=short_number(tokens) if tokens else "",
        value_style="dim",
        since_ns=turn.start_ns if running else 0,
        start_ns=turn.start_ns,
        end_ns=0 if running else end_of(turn),
    )


def _cut_short(turn: JoinedTurn, status: str) -> bool:
    """Whether it is a background review that ended with Hermes' process: nobody interrupted it."""
    spans = turn.turn
    root = spans.span if spans is not None and spans.review else None
    return status == "interrupted" and root is not None and root.final_status == "finalized"


def end_of(turn: JoinedTurn) -> int:
    """When a turn that is over ended; that of its last record while its own span has not come."""
    record = (turn.live.ended_ns or turn.live.last_ns) if turn.live is not None else 0
    if turn.turn is None:
        return record
    return turn.turn.end_ns if turn.turn.span is not None else max(turn.turn.end_ns, record)


def node_row(
    node: Node, trace_id: bytes, depth: int, marker: str, alive: bool, glyphs: Glyphs, *,
    item: Item | None = None, job: Job | None = None, now_ns: int = 0, retried: bool = False,
) -> Row:  # fmt: skip
    """A span, or the place of one that has not come (`alive`: its turn still runs).

    `item` is what is known of its call from elsewhere too, `job` the background job that it started.
    `retried`: a model call that failed, and was made again.
    """
    span = node.span
    key = span_key(trace_id, node)
    if span is None:
        text = "parent not seen yet" if alive else "parent never seen"
        return Row(key, depth, marker, glyphs.missing, text, "missing")
    glyph, text, style = _face(span, glyphs)
    value, value_style = _value(span, item, glyphs)
    if retried:
        value, value_style = f"{glyphs.bad} {glyphs.retry}", "warning"
    running = span.running and alive
    row = Row(
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
        start_ns=span.start_ns,
        end_ns=span.end_ns,
    )
    if span.role is Role.APPROVAL and not span.running:
        row = row._replace(note="waited", note_style="dim")
    return with_job(row, job, now_ns, glyphs)


def with_job(row: Row, job: Job | None, now_ns: int, glyphs: Glyphs) -> Row:
    """The row of a command with what became of the background job that it started."""
    if job is None:
        return row
    if job.running(now_ns):
        return row._replace(time="", since_ns=job.started_ns, value=glyphs.background, value_style="warning")
    if not job.ended:
        return row
    mark, style = (glyphs.unknown, "dim")
    if job.exit_code is not None:
        mark, style = (glyphs.bad, "bad") if job.exit_code else (glyphs.good, "good")
    code = f" {job.exit_code}" if job.exit_code else ""
    lasted = (job.ended_ns - job.started_ns) / 1e9 if job.ended_ns and job.started_ns else None
    time = short_time(max(0.0, lasted)) if lasted is not None else row.time
    return row._replace(time=time, value=f"{glyphs.background} {mark}{code}", value_style=style)


def _face(span: Span, glyphs: Glyphs) -> tuple[str, str, str]:
    """Glyph, text and style of a span."""
    if is_command(span):
        return glyphs.command, shown(span.command) or f"({span.tool})", "command"
    if span.role is Role.TOOL:
        return glyphs.tool, f"{shown(span.tool)} {shown(span.target)}".strip(), "tool"
    if span.role is Role.MODEL_CALL:
        return glyphs.llm, shown(span.model) + _led_to(span, glyphs), "llm"
    if span.role is Role.APPROVAL:
        who, style = _decided(span)
        return glyphs.approval, f"{who}: {shown(span.target)}", style
    if span.role is Role.SUBAGENT:
        return glyphs.subagent, shown(span.prompt) or shown(span.name), "subagent"
    if span.role is Role.SKILL:
        return glyphs.skill, shown(span.name.removeprefix("skill.")), "skill"
    if span.role in (Role.TURN, Role.AGENT):
        return glyphs.subagent, shown(span.prompt) or shown(span.name), "subagent"
    return glyphs.other, shown(span.name), "other"


def refused(span: Span) -> bool:
    """Whether a person, or nobody in time, said no."""
    return span.role is Role.APPROVAL and bool(span.decision) and not _allowed(span)


def _allowed(span: Span) -> bool:
    return (span.decision or "").startswith("allowed")


def _decided(span: Span) -> tuple[str, str]:
    """Who decided, and the style of that."""
    if not span.decision:
        return "waiting", "warning"
    if _allowed(span):
        return "you allowed", "approval"
    return "nobody answered" if span.decision == "timed out" else f"you {shown(span.decision)}", "warning"


def _verdict(span: Span, glyphs: Glyphs) -> tuple[str, str]:
    """What was decided, as short as the last column."""
    if not span.decision:
        return "", ""
    if _allowed(span):
        return f"{glyphs.good} {shown(span.decision.removeprefix('allowed'))[:_VERDICT]}".rstrip(), "good"
    word = "timeout" if span.decision == "timed out" else shown(span.decision)[:_VERDICT]
    return f"{glyphs.bad} {word}", "warning"


def _led_to(span: Span, glyphs: Glyphs) -> str:
    if span.status is Status.ERROR:
        return f" {shown(span.error)}"
    if span.tool_calls:
        return f" {glyphs.arrow} {span.tool_calls} tool{'s' if span.tool_calls > 1 else ''}"
    return f" {glyphs.arrow} answer" if span.finish_reason == "stop" else ""


def _value(span: Span, item: Item | None, glyphs: Glyphs) -> tuple[str, str]:
    """The last column: how a command ended, else tokens, else whether it failed."""
    if is_command(span):
        if span.running:
            return "", ""
        if item is not None:
            return outcome_mark(item.outcome, item.exit_code, glyphs)
        return outcome_mark(span.outcome, span.exit_code, glyphs)
    if span.role is Role.APPROVAL:
        return _verdict(span, glyphs)
    if span.status is Status.ERROR:
        return glyphs.bad, "bad"
    if span.role is Role.MODEL_CALL and span.input_tokens is not None:
        return short_number(span.input_tokens + (span.output_tokens or 0)), "dim"
    if span.role is Role.TOOL and not span.running:
        return glyphs.good, "good"
    return "", ""


def outcome_mark(outcome: str | None, exit_code: int | None, glyphs: Glyphs) -> tuple[str, str]:
    """✓, ✗ 3, ✗ blocked, ?: glyph first, colour on top."""
    if outcome == Outcome.COMPLETED:
        return glyphs.good, "good"
    if outcome == Outcome.BACKGROUND:
        return glyphs.background, "warning"
    if outcome in FAILURES:
        word = "stopped" if outcome == Outcome.INTERRUPTED else outcome  # fits the column
        if outcome == Outcome.FAILED and exit_code is not None:
            word = str(exit_code)
        return f"{glyphs.bad} {word}", "bad" if outcome == Outcome.FAILED else "warning"
    return f"exit {glyphs.unknown}", "dim"
