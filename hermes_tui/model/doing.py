"""What a session does at this moment, and how far that can be believed.

Hermes' records say what was begun and not ended. Whether it still goes on is another question: Hermes may
have been killed. It counts as going on while something says so (a process that is there, a newer record)
and else for as long as that kind of work can take.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from hermes_tui.model.approvals import ASKING_TOOLS
from hermes_tui.model.live import Live, LiveSession
from hermes_tui.model.live_turns import LiveCall, LiveTurn
from hermes_tui.model.results import read_object
from hermes_tui.model.span import NANOSECONDS, Outcome

MODEL_LIMIT_NS = 15 * 60 * NANOSECONDS
"""How long a model call without a word can last."""

CUT_LIMIT_NS = 120 * NANOSECONDS
"""The same after an answer that was cut at its length: Hermes goes on at once, or not at all."""

TOOL_LIMIT_NS = 3600 * NANOSECONDS
"""How long a tool can run that names no time limit of its own."""

HELD_LIMIT_NS = 24 * 3600 * NANOSECONDS
"""How long anything can go on without a word while its process is there."""

_SAME_NS = NANOSECONDS // 10  # the end of a session and its last message are noted together
_GRACE_NS = NANOSECONDS  # a command that was not asked about is mostly over by then


class State(StrEnum):
    """What a session does."""

    TOOL = "tool"
    MODEL = "model"
    APPROVAL = "approval"
    IDLE = "idle"


class Doing(msgspec.Struct, frozen=True):
    """What a session does, since when. `calls` are at work with the time since which, `queued` wait.

    `certain` False: an approval that nobody can know of before it is decided; the command is one that
    Hermes mostly asks about, and it takes long. `gone`: it was at work when it was last heard of, at
    `heard_ns`, and nothing says that it still is.
    """

    state: State = State.IDLE
    since_ns: int = 0
    calls: tuple[tuple[LiveCall, int], ...] = ()
    queued: tuple[LiveCall, ...] = ()
    certain: bool = True
    reason: str = ""
    gone: bool = False
    heard_ns: int = 0

    @property
    def call(self) -> LiveCall | None:
        """The call that is at work for the longest."""
        return min(self.calls, key=lambda pair: pair[1])[0] if self.calls else None


def doing(live: Live, session: str, now_ns: int) -> Doing:
    """What a session does at `now_ns` by Hermes' own records."""
    part = live.session(session)
    if part is None:
        return Doing()
    heard = max([part.heard_ns, *(below.heard_ns for below in live.below(session))])
    if not part.turns:
        return Doing(since_ns=heard, heard_ns=heard)
    turn = part.turns[-1]
    found, limit = _by_records(part, turn, now_ns)
    if found.state is State.IDLE:
        return Doing(since_ns=found.since_ns, heard_ns=heard)
    if _over(live, part, turn, now_ns - max(heard, turn.last_ns), limit, now_ns):
        return Doing(since_ns=heard, gone=True, heard_ns=heard)
    return Doing(
        found.state, found.since_ns, found.calls, found.queued, found.certain, found.reason, heard_ns=heard
    )


def _by_records(part: LiveSession, turn: LiveTurn, now_ns: int) -> tuple[Doing, int]:
    """What was begun and not ended, and how long that can take."""
    row = part.row
    if row is not None and row.ended_ns and row.ended_ns >= turn.last_ns - _SAME_NS:
        return Doing(since_ns=row.ended_ns), 0
    if turn.ended_ns:
        return Doing(since_ns=turn.ended_ns), 0
    running, queued = turn.running()
    if not running:
        return Doing(State.MODEL, turn.last_ns), CUT_LIMIT_NS if turn.cut_short else MODEL_LIMIT_NS
    calls, since = tuple(running), min(since for _, since in running)
    limit = max(TOOL_LIMIT_NS, *(2 * _own_limit(call) for call, _ in running))
    for call, began in running:
        if call.tool in ASKING_TOOLS:
            return Doing(State.APPROVAL, began, calls, tuple(queued), reason=call.target or ""), limit
    for call, began in running:
        if now_ns - began >= _GRACE_NS and (reason := _asked_about(part, call)) is not None:
            return Doing(State.APPROVAL, began, calls, tuple(queued), certain=False, reason=reason), limit
    return Doing(State.TOOL, since, calls, tuple(queued)), limit


def _asked_about(part: LiveSession, call: LiveCall) -> str | None:
    """What Hermes may be asking about this call; None when it let the like of it pass before."""
    if call.risk is None:
        return None
    for turn in reversed(part.turns):
        for before in reversed(turn.calls):
            if before.ended_ns and before.risk == call.risk:
                return call.risk if before.allowed or before.outcome is Outcome.BLOCKED else None
    return call.risk


def _own_limit(call: LiveCall) -> int:
    """The time limit that the call itself names, in nanoseconds."""
    timeout = read_object(call.arguments)[0].get("timeout")
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout < 10**6:
        return int(timeout * NANOSECONDS)
    return 0


def _over(live: Live, part: LiveSession, turn: LiveTurn, silent_ns: int, limit: int, now_ns: int) -> bool:
    """Whether what the records leave open has ended all the same."""
    holders = list(part.holders.values())
    above, seen = part, {part.id}
    while above.parent and above.parent not in seen and (parent := live.session(above.parent)) is not None:
        holders += parent.holders.values()
        seen.add(above.parent)
        above = parent
    if live.closed(part.home) or (holders and all(each.alive is False for each in holders)):
        return True
    if any(each.alive is not False and each.until_ns > now_ns for each in holders):
        return silent_ns >= HELD_LIMIT_NS
    if any(each.alive for each in holders) and turn.calls and any(call.open for call in turn.calls):
        return silent_ns >= HELD_LIMIT_NS  # the process is there, and so may its tool be
    return silent_ns >= limit
