"""Pure: what a row is about and what came of it, as the text that somebody wants to take along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hermes_tui.model.conventions import read_prompt, tool_texts
from hermes_tui.model.results import COMMAND_TOOLS, Call, read_call
from hermes_tui.model.span import Role
from hermes_tui.model.turns import is_command
from hermes_tui.tui.describe_record import Record
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.shown import Subject


class Extract(NamedTuple):
    """`what` it is, and the text as it came: not yet harmless. None: there is none."""

    what: str
    text: str | None


def about(key: RowKey, subject: Subject, attributes: Mapping[str, Any], record: Record) -> Extract:
    """A command's text, the prompt of a turn or of a subagent, else what it was given, else its name."""
    call = _call(subject, attributes, record)
    if call is not None:
        return Extract("the command", call.command)
    span, turn = subject.span, subject.turn
    asks = span is not None and span.role in (Role.TURN, Role.AGENT, Role.SUBAGENT)
    if subject.agent is not None:
        return Extract("the prompt", subject.agent.prompt)
    if key[2] in ("turn", "asked") or asks:
        short = span.prompt if asks and span is not None else turn.prompt if turn is not None else None
        return Extract("the prompt", read_prompt(attributes) or short)
    if given := record.arguments or tool_texts(attributes)[0]:
        return Extract("the input", given)
    if span is not None and span.target:
        return Extract("the name", f"{span.tool or span.name} {span.target}")
    item = subject.item
    return Extract("the name", span.name if span is not None else item.tool if item is not None else None)


def output(subject: Subject, attributes: Mapping[str, Any], record: Record) -> Extract:
    """What a command printed, else what its result says went wrong; or what came of anything else."""
    call = _call(subject, attributes, record)
    if call is not None:
        if not call.output and call.error:
            return Extract("what went wrong", call.error)
        return Extract("the output", call.output)
    given = record.result if record.source is not None else None
    return Extract("the output", given or tool_texts(attributes)[1])


def _call(subject: Subject, attributes: Mapping[str, Any], record: Record) -> Call | None:
    """A terminal call with its whole texts, by the best source there is; None: the row is none."""
    span, item = subject.span, subject.item
    arguments, result = tool_texts(attributes)
    if record.source is not None:
        result = record.result or result
    arguments = record.arguments or arguments
    if span is not None and is_command(span):
        return read_call(span.tool or "", arguments, result, command=span.command)
    if span is None and item is not None and item.tool in COMMAND_TOOLS:
        return read_call(item.tool, arguments, result, command=item.command)
    return None
