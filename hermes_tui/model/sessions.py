"""Sessions: what all traces together say about each Hermes conversation."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

import msgspec

from hermes_tui.model.delegated import part_of
from hermes_tui.model.span import Span
from hermes_tui.model.tree import TraceTree
from hermes_tui.model.turns import Totals, TraceView, Turn, read_trace
from hermes_tui.model.verdicts import TURN_ENDS


class Session(msgspec.Struct):
    """One Hermes conversation: its totals over all traces and its turns by start time."""

    id: str
    totals: Totals = msgspec.field(default_factory=Totals)
    turns: list[Turn] = msgspec.field(default_factory=list)

    @property
    def turn_count(self) -> int:
        """Turns whose agent span is known, and traces whose root has not come."""
        return sum(not turn.provisional for turn in self.turns)

    def status(self, now_ns: int) -> str:
        """running, completed, interrupted, failed or unknown: that of the newest turn of the user's."""
        return session_status(reversed(self.turns), self.totals, now_ns)

    @property
    def newest(self) -> Turn | None:
        """The newest turn that is not a background review: those run beside the turns."""
        return next((turn for turn in reversed(self.turns) if not turn.review), None)

    def take(self, totals: Totals, turns: Iterable[Turn]) -> None:
        self.totals.add(totals)
        for turn in turns:
            insort(self.turns, turn, key=_by_start)


def session_status(newest_first: Iterable[Turn], totals: Totals, now_ns: int) -> str:
    """A session's status from its turns: the newest that is not a background review decides."""
    review: Turn | None = None
    for turn in newest_first:
        if not turn.review:
            return turn.status(now_ns)
        review = review or turn
    if review is not None:
        return review.status(now_ns)
    return TURN_ENDS.get(totals.agent_end[1], "unknown")


def _by_start(turn: Turn) -> tuple[int, tuple[bytes, bytes]]:
    return turn.start_ns, turn.key


def collect(views: Iterable[TraceView]) -> dict[str, Session]:
    """Sessions by id from the views of whole traces, in any order."""
    sessions: dict[str, Session] = {}
    for view in views:
        for session_id, totals in view.sessions.items():
            session = sessions.setdefault(session_id, Session(session_id))
            session.take(totals, (turn for turn in view.turns if turn.session == session_id))
    return sessions


_OPEN_TRACES = 64


class Forest:
    """The traces of one session, folded as spans arrive: add, then `refresh` what changed.

    Work per `refresh` follows the traces that changed, not what is stored.
    """

    def __init__(self, session: str) -> None:
        self.session = session
        self.trees: dict[bytes, TraceTree] = {}
        self.views: dict[bytes, TraceView] = {}
        self.turns: list[Turn] = []
        self._own: dict[bytes, list[Turn]] = {}
        self._dirty: set[bytes] = set()
        self._closed = Totals()
        self._open: dict[bytes, Totals] = {}

    def add(self, spans: Iterable[Span]) -> int:
        """Take spans in; the number that changed something."""
        changed = 0
        for span in spans:
            tree = self.trees.get(span.trace_id)
            if tree is None:
                tree = self.trees[span.trace_id] = TraceTree(span.trace_id)
            if tree.add(span):
                self._dirty.add(span.trace_id)
                changed += 1
        return changed

    def refresh(self) -> set[bytes]:
        """Read the changed traces anew; their ids."""
        dirty, self._dirty = self._dirty, set()
        for trace_id in dirty:
            known = self.views.get(trace_id)
            for turn in self._own.pop(trace_id, ()):
                at = bisect_left(self.turns, _by_start(turn), key=_by_start)
                del self.turns[at]
            view = self.views[trace_id] = read_trace(self.trees[trace_id])
            own = [turn for turn in view.turns if turn.session == self.session]
            self._own[trace_id] = own or part_of(view, self.session) or view.turns
            for turn in self._own[trace_id]:
                insort(self.turns, turn, key=_by_start)
            self._settle(trace_id, view, known is not None)
        return dirty

    def status(self, now_ns: int) -> str:
        """The session's status at `now_ns`."""
        own = (turn for turn in reversed(self.turns) if turn.session == self.session)
        return session_status(own, self.totals(), now_ns)

    def number(self, turn: Turn) -> int:
        """A turn's place among the session's turns, from 1."""
        return bisect_left(self.turns, _by_start(turn), key=_by_start) + 1

    def totals(self) -> Totals:
        """The session's totals."""
        total = Totals()
        total.add(self._closed)
        for totals in self._open.values():
            total.add(totals)
        return total

    def own(self, trace_id: bytes) -> Sequence[Turn]:
        """The session's turns in a trace; of a subagent's session what it did in another's turn."""
        return self._own.get(trace_id, ())

    def _settle(self, trace_id: bytes, view: TraceView, known: bool) -> None:
        """Keep one sum for the traces at rest, so that totals cost what is open, not what is stored."""
        if known and trace_id not in self._open:
            self._closed, self._open = Totals(), {}
            for other, settled in self.views.items():
                if other != trace_id:
                    self._closed.add(settled.sessions.get(self.session, Totals()))
        if len(self._open) > _OPEN_TRACES:
            self._open.pop(trace_id, None)
            for totals in self._open.values():
                self._closed.add(totals)
            self._open = {}
        self._open[trace_id] = view.sessions.get(self.session, Totals())
