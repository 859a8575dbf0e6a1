"""What subagents spent, each with those below it."""

from __future__ import annotations

from hermes_tui.model.span import Role
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Turn, innermost, members


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
