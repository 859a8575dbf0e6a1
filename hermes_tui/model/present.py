"""What a session does at this moment, by Hermes' records, by its spans, or by both."""

from __future__ import annotations

from collections.abc import Sequence

from hermes_tui.model.doing import Doing, State, doing
from hermes_tui.model.joined import Item, JoinedTurn
from hermes_tui.model.live import Live, LiveSession
from hermes_tui.model.live_turns import LiveCall
from hermes_tui.model.span import NANOSECONDS, Span
from hermes_tui.model.turns import Turn

ENDS = frozenset({"completed", "interrupted", "failed"})
_TOGETHER_NS = NANOSECONDS  # a turn's last record and the end of its span are not further apart


def present(session: str, live: Live, turns: Sequence[JoinedTurn], now_ns: int) -> Doing:
    """What a session does at `now_ns`. `turns` are its joined turns, as far as there are spans.

    Hermes' records are the newer word, unless spans say that the turn is over (a model call that failed
    for good leaves no record), or go on long after the last record.
    """
    said = _by_spans(turns, now_ns)
    part = live.session(session)
    if part is None or not part.turns:
        return said or doing(live, session, now_ns)
    found = doing(live, session, now_ns)
    newest = _newest(turns)
    if newest is None or said is None:
        return found
    over = said.state is State.IDLE and newest.status(now_ns) in ENDS
    if over and found.state is not State.IDLE:
        return said if ends_last(newest.end_ns, part) else found
    if found.state is State.IDLE and said.state is not State.IDLE and not _later(turns):
        newer = said.heard_ns > found.heard_ns + _TOGETHER_NS
        return said if newer and not live.closed(part.home) else found
    return found


def ends_last(ended_ns: int, part: LiveSession) -> bool:
    """Whether a turn that ended then, by its spans, is the last one in Hermes' records too."""
    last = part.turns[-1]  # asked after that end: another turn, of which there is no span yet
    return ended_ns >= max(last.asked_ns, last.last_ns - _TOGETHER_NS)


def _later(turns: Sequence[JoinedTurn]) -> bool:
    """Whether the newest turn is only a background review, which is nobody's waiting."""
    return bool(turns) and turns[-1].turn is not None and turns[-1].turn.review


def _newest(turns: Sequence[JoinedTurn]) -> Turn | None:
    """The newest turn with a span that is no background review: those run beside the turns."""
    own = (joined.turn for joined in reversed(turns) if joined.turn is not None)
    return next((turn for turn in own if not turn.review), None)


def _by_spans(turns: Sequence[JoinedTurn], now_ns: int) -> Doing | None:
    """What spans alone say; None when there are none."""
    own = [joined for joined in turns if joined.turn is not None and not joined.turn.review]
    if not own:
        return None
    joined, turn = own[-1], own[-1].turn
    assert turn is not None
    heard = max(turn.totals.last_ns, turn.start_ns)
    if turn.status(now_ns) != "running":
        gone = turn.status(now_ns) == "unknown"
        return Doing(since_ns=heard if gone else turn.end_ns, gone=gone, heard_ns=heard)
    if turn.asking is not None:
        asked = turn.asking
        call = (_call(asked.tool or "terminal", asked.target, asked), asked.start_ns)
        return Doing(State.APPROVAL, asked.start_ns, (call,), heard_ns=heard)
    running = [(_running(item), item.start_ns) for item in joined.items if item.open]
    if running:
        return Doing(State.TOOL, min(since for _, since in running), tuple(running), heard_ns=heard)
    return Doing(State.TOOL if turn.untold else State.MODEL, turn.quiet_ns, heard_ns=heard)


def _running(item: Item) -> LiveCall:
    name = item.key[1]
    key = (item.session, name if isinstance(name, str) else item.tool)
    return LiveCall(
        key, item.id, item.tool, item.arguments, item.start_ns, command=item.command, target=item.target
    )


def _call(tool: str, target: str | None, span: Span) -> LiveCall:
    return LiveCall((span.session or "", span.span_id.hex()), "", tool, "", span.start_ns, command=target)
