"""Pure: rows for what has no span yet, or never gets one, and where they belong among a turn's spans."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hermes_tui.model.doing import State
from hermes_tui.model.joined import Agent, Item, JoinedTurn, Step
from hermes_tui.model.span import Role
from hermes_tui.model.steps import StepKey, step_key
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Turn, members
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.rows import RowKey, agent_key, call_key, span_key, step_row_key


class Waiting(msgspec.Struct, frozen=True):
    """A model that has not answered yet, or a tool of which only its model call tells."""

    key: StepKey
    since_ns: int
    state: State


class Delegate(msgspec.Struct, frozen=True):
    """A subagent's span with what its row tells beside it: the record of the same subagent, the tokens of all
    that is below it, and whether its turn still runs.
    """

    node: Node
    trace_id: bytes
    agent: Agent | None
    tokens: int
    alive: bool


class StandIn(msgspec.Struct, eq=False):
    """A row in place of a span, or around a subagent's.

    `children` are other stand-ins, and spans whose way up is not known."""

    key: RowKey
    start_ns: int
    part: Item | Step | Agent | Waiting | Delegate
    children: list[Place] = msgspec.field(default_factory=list)


Place = Node | StandIn
"""What a row is made of."""


class Standing(msgspec.Struct):
    """What is to be drawn of a turn beside its spans.

    `tops` hang below the turn, `below` under a subagent's span (by its id). `items` are the calls that have
    a span, by its id; `names` what rows of spans were called before their spans came. `hosted` are the ids
    of spans without a known way up that a stand-in has as children. `agents` are the records of subagents
    that have a span, by its id.
    """

    tops: list[Place] = msgspec.field(default_factory=list)
    below: dict[bytes, list[Place]] = msgspec.field(default_factory=dict)
    items: dict[tuple[bytes, bytes], Item] = msgspec.field(default_factory=dict)
    names: dict[RowKey, RowKey] = msgspec.field(default_factory=dict)
    hosted: set[bytes] = msgspec.field(default_factory=set)
    agents: dict[bytes, Agent] = msgspec.field(default_factory=dict)
    running: bool = False


def standing(turn: JoinedTurn, moment: Moment, *, running: bool) -> Standing:
    """Stand-ins for all that a turn's spans do not tell. `running`: the turn is what its session does."""
    found = Standing(running=running)
    hosts = _hosts(turn, moment.session, found)
    for step in turn.steps:
        if step.also is None:
            stand_in = StandIn(step_row_key(step.key), step.live.since_ns, step)
            hosts.get(step.session, found.tops).append(stand_in)
        else:
            found.names[(*step.also, "span")] = step_row_key(step.key)
    for item, start_ns in _in_order(turn.items):
        if item.span is None:
            hosts.get(item.session, found.tops).append(StandIn(call_key(item.key), start_ns, item))
        else:
            where = (item.span.trace_id, item.span.span_id)
            found.items[where] = item
            if item.also is not None and item.key != item.also:
                found.names[(*where, "span")] = call_key(item.key)
    sessions = [moment.session] * running + [agent.session for agent in turn.agents]
    for session in dict.fromkeys(sessions):
        if (waiting := _waiting(turn, session, moment)) is not None:
            place = StandIn(step_row_key(waiting.key), waiting.since_ns, waiting)
            hosts.get(session, found.tops).append(place)
    return found


def _in_order(items: Iterable[Item]) -> Iterable[tuple[Item, int]]:
    """Calls with a start that keeps them where they are when their spans come: behind those before them
    that were asked for at the same time.
    """
    last: dict[str, tuple[int, int]] = {}
    for item in items:
        asked, begun = last.get(item.session, (0, 0))
        floor = begun if asked == item.asked_ns else 0
        start = item.span.start_ns if item.span is not None else max(item.asked_ns, floor)
        last[item.session] = item.asked_ns, max(start, floor)
        yield item, start


def _waiting(turn: JoinedTurn, session: str, moment: Moment) -> Waiting | None:
    """The model call that a session waits for."""
    doing = moment.doing(session)
    if doing.state is not State.MODEL and not (doing.state is State.TOOL and not doing.calls):
        return None
    if turn.live is not None and session == turn.live.session:
        return Waiting(step_key(turn.live, len(turn.live.steps)), doing.since_ns, doing.state)
    part = moment.live.session(session) if session != moment.session else None
    if part is not None and part.turns:
        return Waiting(step_key(part.turns[-1], len(part.turns[-1].steps)), doing.since_ns, doing.state)
    return Waiting((session, "next"), doing.since_ns, doing.state)


def _hosts(turn: JoinedTurn, session: str, found: Standing) -> dict[str, list[Place]]:
    """Where the work of each subagent's session hangs: below its span, or below a stand-in for that."""
    hosts = {session: found.tops}
    others = {item.session for item in turn.items if item.span is None and item.session != session}
    spans = _subagents(turn.turn) if turn.turn is not None and (turn.agents or others) else {}
    for name, node in spans.items():
        hosts[name] = found.below.setdefault(node.span_id, [])
    for agent in turn.agents:
        if (known := spans.get(agent.session)) is not None and turn.turn is not None:
            found.names[span_key(turn.turn.trace_id, known)] = agent_key(agent.key)
            found.agents[known.span_id] = agent
            continue
        place = StandIn(agent_key(agent.key), agent.start_ns, agent)
        above = agent.under[0] if agent.under is not None else session
        hosts.get(above if isinstance(above, str) else session, found.tops).append(place)
        if agent.session not in hosts:
            hosts[agent.session] = place.children
            strays = _strays(turn.turn, agent.session) if turn.turn is not None else []
            place.children += strays
            found.hosted.update(node.span_id for node in strays)
    return hosts


def _subagents(turn: Turn) -> dict[str, Node]:
    """Subagents' spans by the session that worked for them."""
    return {
        child.span.session: node
        for node in members(turn)
        if node.role is Role.SUBAGENT
        for child in node.children
        if child.span is not None and child.span.session
    }


def _strays(turn: Turn, session: str) -> list[Node]:
    """Subtrees of a session whose way up to the turn is not known."""
    return [
        top for top in turn.tops
        if top.home is None and top is not turn.node
        and any(node.span is not None and node.span.session == session for node in (top, *top.children))
    ]  # fmt: skip
