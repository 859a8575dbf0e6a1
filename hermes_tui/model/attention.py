"""What deserves the user's attention, each occurrence once: a question, the end of a turn, an error. Pure.

Only what happens while somebody watches counts: history that is read when the pane opens, a recording that
is played again, and a span that comes after the record of the same thing are no news.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from hermes_tui.model.doing import Doing, State
from hermes_tui.model.joined import AnyTurnKey, JoinedTurn
from hermes_tui.model.span import NANOSECONDS, Role, Span
from hermes_tui.model.turns import Turn, members

GUESS_NS = 5 * NANOSECONDS
"""A command that Hermes may be asking about has run for this long before anybody is called."""

STALLED_NS = 10 * NANOSECONDS
"""Hermes tries a failed model call again by itself: it is told when nothing followed for this long."""

RECENT_NS = 5 * 60 * NANOSECONDS
"""What happened longer ago is told to nobody, however new it is here."""

_NAMELESS_NS = (
    2 * NANOSECONDS
)  # a background review's end may come this long before what shows that it is one
_SAME_NS = 2 * NANOSECONDS  # the record and the span of one question begin within this time
_NEWEST = 8  # turns of a session that can still end; older ones are not looked at
_KEPT = 64
_NEVER = 2**63
TIMED_OUT = "timed_out"
_ENDS = frozenset({"completed", "interrupted", "failed"})


class Kind(StrEnum):
    """What can be asked for in the settings."""

    APPROVAL = "approval"
    TURN = "turn"
    ERROR = "error"


class Event(msgspec.Struct, frozen=True):
    """Something happened in a session, called `title`, at `at_ns`. Its texts came from outside.

    `subject` is what waits, the prompt of a turn that ended, or what the model's error says; `reason` why an
    approval is needed. `certain` False: it is a guess that anybody waits. `status` is completed, interrupted
    or failed of a turn that ended (it took `took_ns`), else empty: an error in a turn that goes on.
    """

    kind: Kind
    session: str
    at_ns: int
    subject: str = ""
    reason: str = ""
    title: str = ""
    certain: bool = True
    status: str = ""
    took_ns: int = 0


class _Told(msgspec.Struct):
    """What is settled in one session, told or not: when questions began, and keys of turns.

    `failures`: the turns whose error really was told.
    """

    questions: deque[int] = msgspec.field(default_factory=lambda: deque(maxlen=_KEPT))
    ends: deque[AnyTurnKey] = msgspec.field(default_factory=lambda: deque(maxlen=_KEPT))
    errors: deque[AnyTurnKey] = msgspec.field(default_factory=lambda: deque(maxlen=_KEPT))
    failures: deque[AnyTurnKey] = msgspec.field(default_factory=lambda: deque(maxlen=_KEPT))

    @staticmethod
    def has(which: deque[AnyTurnKey], turn: JoinedTurn) -> bool:
        """A turn that only its span was known of takes its record's key when that comes."""
        return turn.key in which or (turn.also is not None and turn.also in which)

    @staticmethod
    def note(which: deque[AnyTurnKey], turn: JoinedTurn) -> None:
        which.extend(key for key in (turn.key, turn.also) if key is not None)


class Watcher:
    """Finds in each look what is new since the last. `on` says what to look for.

    Turns that took less than `min_turn_ns` end without a word, unless they failed.
    """

    def __init__(
        self, started_ns: int, on: Collection[Kind] = frozenset(Kind), *, min_turn_ns: int = 0
    ) -> None:
        self._started_ns = started_ns
        self._on = frozenset(on)
        self._min_turn_ns = min_turn_ns
        self._sessions: dict[str, _Told] = {}

    def look(
        self,
        session: str,
        doing: Doing,
        turns: Sequence[JoinedTurn],
        now_ns: int,
        *,
        title: str = "",
        history: bool = False,
    ) -> list[Event]:
        """What happened in a session. Look when something in it moved, and each second while it is at work.

        `turns` are all of its joined turns; none for a subagent's session, of which only the questions
        matter. `history`: what is over by now is none of the news, such as while a session is being read.
        """
        told = self._sessions.setdefault(session, _Told())
        since_ns = _NEVER if history else max(self._started_ns, now_ns - RECENT_NS)
        found = [self._question(told, session, doing, now_ns)]
        own = [turn for turn in turns[-_NEWEST:] if turn.turn is None or not turn.turn.review]
        for turn in own:
            newest = turn is own[-1]
            if newest:
                found.append(self._error(told, session, turn, now_ns, since_ns))
            status = _status(turn, now_ns, doing, newest=newest)
            if turn.prompt is not None or now_ns >= _end_ns(turn) + _NAMELESS_NS:
                found.append(self._end(told, session, turn, status))
        news = (event for event in found if event is not None and event.at_ns >= since_ns)
        return [replace(event, title=title) for event in news if event.kind in self._on]

    def _question(self, told: _Told, session: str, doing: Doing, now_ns: int) -> Event | None:
        if doing.state is not State.APPROVAL:
            return None
        at_ns = doing.since_ns if doing.certain else doing.since_ns + GUESS_NS
        if now_ns < at_ns or any(abs(doing.since_ns - known) < _SAME_NS for known in told.questions):
            return None
        told.questions.append(doing.since_ns)
        call = doing.call
        subject = (call.command or call.target or call.tool) if call is not None else ""
        reason = doing.reason if doing.reason != subject else ""
        return Event(Kind.APPROVAL, session, at_ns, subject, reason, certain=doing.certain)

    def _error(self, told: _Told, session: str, turn: JoinedTurn, now_ns: int, since_ns: int) -> Event | None:
        """The model failed in a turn that is not over, and Hermes did not go on; once a turn."""
        over = turn.live is not None and turn.live.end
        if over or not _erring(turn) or told.has(told.errors, turn):
            return None
        call = _last_call(turn.turn)
        at_ns = call.end_ns + STALLED_NS if call is not None else _NEVER
        if call is None or now_ns < at_ns or _went_on(turn, call.end_ns):
            return None
        told.note(told.errors, turn)
        if at_ns >= since_ns:
            told.note(told.failures, turn)
        return Event(Kind.ERROR, session, at_ns, call.error or "")

    def _end(self, told: _Told, session: str, turn: JoinedTurn, status: str) -> Event | None:
        if status not in _ENDS or told.has(told.ends, turn):
            return None
        at_ns = _end_ns(turn)
        took_ns = max(0, at_ns - turn.start_ns)
        failed = status == "failed"
        if failed and Kind.ERROR in self._on:
            if _erring(turn):
                return None  # only silence says that it is over: it may still go on, and the error was told
            told.note(told.ends, turn)
            if told.has(told.failures, turn):
                return None  # the same failure, told before Hermes gave up
            why = _why(turn.turn) or turn.prompt or ""
            return Event(Kind.ERROR, session, at_ns, why, status=status, took_ns=took_ns)
        told.note(told.ends, turn)
        if took_ns < self._min_turn_ns and not failed:
            return None
        return Event(Kind.TURN, session, at_ns, turn.prompt or "", status=status, took_ns=took_ns)


def _status(turn: JoinedTurn, now_ns: int, doing: Doing, *, newest: bool) -> str:
    """As the turn says itself, but for guesses that its record knows better: Hermes goes on after the
    plugin's limit of ten minutes, and silence after an error can be the end of it.
    """
    span = turn.turn.span if turn.turn is not None else None
    if turn.live is not None and span is not None and span.final_status == TIMED_OUT:
        return turn.live.end or "running"
    if turn.live is not None and turn.live.end and _erring(turn):
        return turn.live.end
    return turn.status(now_ns, doing, newest=newest)


def _end_ns(turn: JoinedTurn) -> int:
    """When a turn ended by what says that it did."""
    span = turn.turn.span if turn.turn is not None else None
    if span is not None and not span.running and span.final_status != TIMED_OUT:
        return span.end_ns
    if turn.live is not None and turn.live.end:
        return turn.live.ended_ns
    return turn.turn.end_ns if turn.turn is not None else 0


def _erring(turn: JoinedTurn) -> bool:
    """Whether the last that is known of a turn is an error of its model."""
    return turn.turn is not None and turn.turn.verdict == "erring"


def _went_on(turn: JoinedTurn, since_ns: int) -> bool:
    return turn.live is not None and turn.live.last_ns > since_ns


def _last_call(turn: Turn | None) -> Span | None:
    """The newest of a turn's own model calls."""
    spans = (node.span for node in members(turn)) if turn is not None else ()
    calls = [span for span in spans if span is not None and span.role is Role.MODEL_CALL]
    own = [span for span in calls if turn is not None and span.session in (None, turn.session)]
    return max(own, key=lambda span: span.start_ns, default=None)


def _why(turn: Turn | None) -> str:
    """What the errors of a failed turn say."""
    call = _last_call(turn)
    return (
        (call.error if call is not None else None)
        or (turn.span.error if turn is not None and turn.span is not None else None)
        or ""
    )
