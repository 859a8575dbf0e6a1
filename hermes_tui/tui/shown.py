"""The session that the pane shows: its spans and Hermes' records folded, its rows. No I/O, no widgets."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, takewhile

import msgspec

from hermes_tui.model.doing import Doing, doing
from hermes_tui.model.joined import Agent, Item, Joined, JoinedTurn, Step
from hermes_tui.model.live import Live, LiveSession
from hermes_tui.model.present import present
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Outcome, Span
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Totals, Turn
from hermes_tui.tui.commands_outline import CommandsOutline
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.moment import Moment, lead_of
from hermes_tui.tui.outline import TreeOutline
from hermes_tui.tui.review import Review
from hermes_tui.tui.rows import RowKey, agent_key, call_key, step_row_key, turn_keys

_POLLS = 20  # calls that are asked about a background job
_RECENT = 3  # turns in which there may be anything without a span that is news


class Subject(msgspec.Struct, frozen=True):
    """What a row is about, as far as it is known: its span, and what Hermes' records say of it."""

    span: Span | None = None
    turn: JoinedTurn | None = None
    item: Item | None = None
    step: Step | None = None
    agent: Agent | None = None
    polls: tuple[Item, ...] = ()
    """The calls that may tell of the background job that this one started."""


class ShownSession:
    """One session: `add` spans, `refresh`, then read rows. `live` are Hermes' records of all sessions."""

    def __init__(
        self, session: str, glyphs: Glyphs, live: Live | None = None, review: Review | None = None
    ) -> None:
        self.id = session
        self.glyphs = glyphs
        self.live = live or Live()
        self.tree = TreeOutline(glyphs)
        self.commands = CommandsOutline(glyphs, review)
        self.begin()

    def begin(self) -> None:
        """Forget the spans; folds stay as the user wants them."""
        self.forest = Forest(self.id)
        self.joined = Joined(self.id)
        self.totals = Totals()
        self.moment = Moment(0)
        self.news = 0

    @property
    def turns(self) -> list[JoinedTurn]:
        return self.joined.turns

    @property
    def doing(self) -> Doing:
        """What the session does, as of the last `refresh`."""
        return self.moment.doing(self.id)

    @property
    def record(self) -> LiveSession | None:
        """What Hermes' records say of it."""
        return self.live.session(self.id)

    def add(self, spans: Iterable[Span]) -> int:
        """Take spans in; how many were new or changed."""
        return self.forest.add(spans)

    def refresh(self, now_ns: int) -> None:
        """Bring rows and totals up to date with what was added, and with the clock."""
        dirty = self.forest.refresh()
        self.joined.update(self.live, self.forest, dirty)
        self.moment = self._look(now_ns)
        self.tree.update(self.turns, self.moment)
        self.commands.update(self.turns, self.moment)
        if dirty:
            self.totals = self.forest.totals()
        self.news = self.totals.spans + sum(
            sum(item.span is None for item in turn.items) + sum(step.span is None for step in turn.steps)
            for turn in self.turns[-_RECENT:]
        )  # fmt: skip

    def redraw(self) -> None:
        """Bring the rows up to date with folds alone: nothing new is shown."""
        self.tree.update(self.turns, self.moment)
        self.commands.update(self.turns, self.moment)

    def _look(self, now_ns: int) -> Moment:
        live = self.live
        doings = {part.id: doing(live, part.id, now_ns) for part in live.below(self.id)}
        doings[self.id] = present(self.id, live, self.turns, now_ns)
        jobs = {job.call: job for name in doings for job in live.jobs(name) if job.call is not None}
        return Moment(
            now_ns, self.id, doings, jobs, live, bool(self.forest.trees), self.commands.review.flags
        )

    def status(self) -> str:
        """As of the last `refresh`: that of the newest turn of the user's."""
        lead = lead_of(self.turns)
        if lead is None:
            return "unknown"
        if lead.turn is None or lead.live is not None:
            return self.moment.status(lead, lead)
        return self.forest.status(self.moment.now_ns)

    def joined_with(self, turn: Turn) -> JoinedTurn | None:
        """A turn of the session's spans with what the records say of it."""
        return next((each for each in reversed(self.turns) if each.turn is turn), None)

    def number(self, turn: JoinedTurn) -> int:
        """A turn's place among the session's, from 1."""
        return self.turns.index(turn) + 1

    def find(self, key: RowKey | None) -> Subject:
        """What the row with this key is about; nothing is known of a span that is not this session's."""
        if key is None:
            return Subject()
        trace_id, name, kind = key
        if kind in ("turn", "asked"):
            turn = next((each for each in reversed(self.turns) if key in turn_keys(each)), None)
            span = turn.turn.span if turn is not None and turn.turn is not None else None
            return Subject(span, turn)
        if kind != "span":
            return self._find_recorded(key)
        view, tree = self.forest.views.get(trace_id), self.forest.trees.get(trace_id)
        node: Node | None = tree.nodes.get(name) if tree is not None else None
        home = view.turn_of.get(name) if view is not None else None
        turn = self.joined_with(home) if home is not None else None
        item = next((each for each in turn.items if each.also == key[:2]), None) if turn else None
        step = next((each for each in turn.steps if each.also == key[:2]), None) if turn else None
        return Subject(node.span if node else None, turn, item, step, polls=self._polls(turn, item))

    def _polls(self, turn: JoinedTurn | None, item: Item | None) -> tuple[Item, ...]:
        """The newest calls that may tell of the background job that `item` started."""
        if turn is None or item is None or item.outcome is not Outcome.BACKGROUND:
            return ()
        later = takewhile(lambda each: each.start_ns >= turn.start_ns, reversed(self.turns))
        calls = (each for part in later for each in reversed(part.items))
        told = (each for each in calls if each.tool == "process" and each.start_ns >= item.start_ns)
        return tuple(islice(told, _POLLS))[::-1]

    def _find_recorded(self, key: RowKey) -> Subject:
        """What is known by a key that it had, or has, without a span."""
        for turn in reversed(self.turns):
            for item in turn.items:
                if key[2] == "call" and call_key(item.key) == key:
                    return Subject(item.span, turn, item)
            for step in turn.steps:
                if key[2] == "step" and step_row_key(step.key) == key:
                    return Subject(step.span, turn, step=step)
            for agent in turn.agents:
                if key[2] == "agent" and agent_key(agent.key) == key:
                    return Subject(None, turn, agent=agent)
        return Subject(None, lead_of(self.turns) if key[2] == "step" else None)

    def reveal(self, key: RowKey) -> None:
        """Unfold what hides a row."""
        trace_id, span_id, kind = key
        turn = self.find(key).turn
        if turn is None or kind in ("turn", "asked"):
            return
        self.tree.set_fold(turn_keys(turn)[0], False)
        if kind == "span":
            node = self.forest.trees[trace_id].nodes[span_id]
            above = node.parent or node.home
            while above is not None:
                self.tree.unfold((trace_id, above.span_id, "span"))
                above = above.parent or above.home
        self.tree.update(self.turns, self.moment)
