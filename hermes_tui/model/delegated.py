"""Subagents' shares of the turns that they worked in: what each did, and what it spent."""

from __future__ import annotations

from hermes_tui.model.span import Role
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Totals, TraceView, Turn, innermost, members, sum_up
from hermes_tui.model.verdicts import agent_end, describe

_AGENTS = (Role.TURN, Role.AGENT)


def part_of(view: TraceView, session: str) -> list[Turn]:
    """What a subagent's session did in the turns of a trace, as turns of its own: one for each of its agents,
    by start. Nothing when the session is no subagent's.

    The nodes are in these turns from then on, in place of those that they were in.
    """
    heads = [node for node in view.nodes.values() if node.owner == session and _begins(node)]
    if not heads or not all(map(_delegated, heads)):
        return []
    heads.sort(key=lambda node: (node.start_ns, node.span_id))
    agents = [node for node in heads if node.role in _AGENTS]
    turns = [_turn(view, session, number, node) for number, node in enumerate(agents or [None])]
    for node in heads:
        if node not in agents:
            before = [turn for turn in turns if turn.node is not None and turn.node.start_ns <= node.start_ns]
            (before[-1] if before else turns[0]).tops.append(node)
    for turn in turns:
        turn.tops.sort(key=lambda node: (node is not turn.node, node.start_ns, node.span_id))
        turn.start_ns = turn.tops[0].start_ns
        _tell(turn)
    return turns


def _turn(view: TraceView, session: str, number: int, node: Node | None) -> Turn:
    # Not a name that a turn of the trace has: both can be asked for.
    name = session.encode(errors="surrogatepass") + (f" {number}".encode() if number else b"")
    return Turn((view.turns[0].trace_id, name), view.turns[0].trace_id, node, [node] if node else [], session)


def _tell(turn: Turn) -> None:
    """Say what a turn is and how it ended; where its agent is lost, its subagent's span knows."""
    for top in turn.tops:
        if top.home is turn.node:
            top.home = None
    nodes = list(members(turn))
    sum_up(turn, nodes, dict[str, Totals]())
    describe(turn, [node.span for node in nodes if node.span is not None])
    above = [top.parent.span for top in turn.tops if top.parent is not None]
    if turn.verdict in ("open", "erring"):
        turn.verdict = next(filter(None, map(agent_end, above)), turn.verdict)


def _begins(node: Node) -> bool:
    return node.parent is None or node.parent.owner != node.owner


def _delegated(node: Node) -> bool:
    """Whether a place may be where a subagent's work begins. Its span itself is of the session above."""
    above = node.parent
    if node.role is Role.SUBAGENT:
        return False
    if above is None or above.role is Role.SUBAGENT:
        return True
    return node.span is not None and node.span.platform == "subagent"


def spent_below(turn: Turn) -> dict[bytes, int]:
    """Tokens of all that is below each subagent's span of a turn, by the span's id; work is linear."""
    nodes = _parents_first(turn)
    calls = {node.span_id for node in innermost(nodes)}
    below: dict[bytes, int] = {}
    for node in reversed(nodes):
        total = below.get(node.span_id, 0)
        if node.span is not None and node.span_id in calls:
            total += (node.span.input_tokens or 0) + (node.span.output_tokens or 0)
        above = node.parent or node.home
        if total:
            below[node.span_id] = total
            if above is not None:
                below[above.span_id] = below.get(above.span_id, 0) + total
    agents = (node.span_id for node in nodes if node.role is Role.SUBAGENT)
    return {name: below[name] for name in agents if name in below}


def _parents_first(turn: Turn) -> list[Node]:
    """The members of a turn; what has a home elsewhere in it behind all others."""
    tops = {top.span_id for top in turn.tops}
    own: list[Node] = []
    guests: list[Node] = []
    into = own
    for node in members(turn):
        if node.span_id in tops:
            into = own if node.home is None else guests
        into.append(node)
    return own + guests
