"""What a turn is by its spans: its prompt, how it ended, or what it waits for. The inside of `turns`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hermes_tui.model.span import NANOSECONDS, Role, Span, Status

if TYPE_CHECKING:
    from hermes_tui.model.turns import Turn

_SAME_NS = NANOSECONDS // 10  # a tool's span does not begin earlier than this before its model call's ends


def describe(turn: Turn, spans: Sequence[Span]) -> None:
    """Say what a turn is, by its spans, parents first."""
    if turn.node is None:
        turn.start_ns = turn.totals.first_ns
    own = [span for span in spans if span.session in (None, turn.session)]
    asked = [span for span in own if span.prompt and span.role is not Role.SUBAGENT]
    turn.prompt = next((span.prompt for span in asked), None)
    turn.review = any(span.review for span in asked)
    turn.verdict = _verdict(turn, own)
    if turn.verdict in ("erring", "open"):
        _look_for_work(turn, spans)


def _look_for_work(turn: Turn, spans: Sequence[Span]) -> None:
    """What a turn that is not over waits for, as far as its spans tell."""
    asking = [span for span in spans if span.running and span.role is Role.APPROVAL]
    turn.asking = min(asking, key=lambda span: span.start_ns, default=None)
    calls = [span for span in spans if span.role is Role.MODEL_CALL and span.session in (None, turn.session)]
    begun = [span.start_ns for span in calls if span.running]
    ends = [span.end_ns for span in spans if not span.running]
    turn.quiet_ns = max(begun or ends or [turn.start_ns])
    last = max(calls, key=lambda span: span.end_ns, default=None)
    if begun or last is None or last.status is Status.ERROR:
        return
    since = [
        span for span in spans
        if span.role is Role.TOOL and span.start_ns >= last.end_ns - _SAME_NS
        and span.session in (None, turn.session)
    ]  # fmt: skip
    turn.untold = max(0, (last.tool_calls or 0) - len(since))


TURN_ENDS = {
    "completed": "completed",
    "interrupted": "interrupted",
    "failed": "failed",
    "timed_out": "failed",
}

_AGENT_ENDS = TURN_ENDS | {"cancelled": "interrupted", "error": "failed", "timeout": "failed"}


def agent_end(span: Span | None) -> str:
    """How a subagent ended by its span: completed, interrupted or failed; "" when that does not say."""
    if span is None:
        return ""
    return "failed" if span.status is Status.ERROR else _AGENT_ENDS.get(span.final_status or "", "")


def _verdict(turn: Turn, spans: list[Span]) -> str:
    """How the turn ended: completed, interrupted, failed; erring or open when its root is not there.

    A root that the process closed on exit says `finalized` and OK whatever happened, so then (and
    for emitters that say nothing) the children judge.
    """
    calls = [span for span in spans if span.role is Role.MODEL_CALL]
    last = max(calls, key=lambda span: span.start_ns, default=None)
    erring = last is not None and last.status is Status.ERROR
    root = turn.span
    if root is None or root.running:
        return "erring" if erring else "open"
    if (said := TURN_ENDS.get(root.final_status or "")) is not None:
        return said
    if erring or root.status is Status.ERROR or root.final_status == "incomplete":
        return "failed"
    if root.final_status == "finalized" and not _answered(last):
        return "interrupted"
    return "completed"


def _answered(call: Span | None) -> bool:
    if call is None or call.status is Status.UNSET:
        return False
    return call.finish_reason == "stop" or (call.finish_reason is None and not call.tool_calls)
