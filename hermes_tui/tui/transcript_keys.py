"""The row of the tree that an entry of the transcript is about. Pure."""

from __future__ import annotations

from hermes_tui.model.transcript import Entry, Said
from hermes_tui.tui.rows import RowKey, agent_key, item_key, step_row_key, turn_keys


def row_key(entry: Entry) -> RowKey:
    """Its own where it has one, else its turn's."""
    if entry.kind in (Said.PROMPT, Said.END):
        return turn_keys(entry.turn)[0]
    if entry.kind is Said.APPROVAL and entry.span is not None:
        return (entry.span.trace_id, entry.span.span_id, "span")
    if entry.item is not None:
        return item_key(entry.item)
    if entry.kind is Said.ANSWER and entry.span is not None and entry.span is _root(entry):
        return turn_keys(entry.turn)[0]
    if entry.span is not None:
        return (entry.span.trace_id, entry.span.span_id, "span")
    if entry.step is not None:
        return step_row_key(entry.step.key)
    if entry.agent is not None:
        return agent_key(entry.agent.key)
    return turn_keys(entry.turn)[0]


def _root(entry: Entry) -> object:
    return entry.turn.turn.span if entry.turn.turn is not None else None
