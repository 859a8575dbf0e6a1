"""Look for a text in all that spans say: in the stored requests, some bytes at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hermes_tui.journal.reader import Reader
from hermes_tui.model.conventions import model_texts
from hermes_tui.model.needle import Needle
from hermes_tui.model.span import Role, Span

if TYPE_CHECKING:
    from hermes_tui.otlp.codec import Detail

_HISTORY = frozenset({
    "gen_ai.input.messages", "gen_ai.system_instructions", "input.value", "llm.input_messages",
    "llm.prompts", "mlflow.spanInputs",
})  # fmt: skip
_ASKED = frozenset({"gen_ai.output.messages", "output.value"})


class Found(NamedTuple):
    """A span that says what is searched for. `where` is an attribute's name, or "" in what its row shows.

    `call`: it says so of what this tool call answered. `history`: in what a model was given, which
    repeats all that was before.
    """

    trace_id: bytes
    span_id: bytes
    where: str = ""
    call: str = ""
    history: bool = False


def in_row(needle: Needle, span: Span) -> bool:
    """Whether a span's row shows the text, or would if it were wide enough."""
    said = [span.name, span.command, span.tool, span.target, span.model, span.error, span.decision]
    if span.role is not Role.MODEL_CALL:  # its row shows no prompt: it repeats that of its turn
        said.append(span.prompt)
    return needle.within("\n".join([text for text in said if text]))


def in_request(reader: Reader, number: int, spans: Sequence[Span], needle: Needle) -> tuple[list[Found], int]:
    """Which of the spans of one stored request say the text, and how many bytes that request has.

    A request that is gone holds nothing.
    """
    from hermes_tui.otlp.codec import JSON, BadRequest, Request, decompress, media_type

    stored = reader.request_after(number - 1)
    if stored is None or stored.id != number:
        return [], 0
    try:
        plain = decompress(stored.body, stored.content_encoding)
        if not needle.may_be_within(plain):
            return [], len(plain)
        request = Request(plain, JSON if media_type(stored.content_type) == JSON else stored.content_type)
    except BadRequest:  # the index was made by a version that could read it
        return [], len(stored.body)
    return [
        found for span in spans for found in _in_detail(span, request.detail(span.position), needle)
    ], len(plain)


def _in_detail(span: Span, detail: Detail, needle: Needle) -> Iterator[Found]:
    """What a model call says of tool calls is theirs: what they were given, and what they answered."""
    key = (span.trace_id, span.span_id)
    own, history = detail.attributes, dict[str, Any]()
    about: dict[str, str] = {}
    if span.role in (Role.MODEL_CALL, Role.WRAPPER):
        history = {name: value for name, value in own.items() if _is_history(name)}
        asked, answered = model_texts(own)
        about = {name: "output" for name, text in answered.items() if needle.within_value(text)}
        given = {name: "arguments" for name, text in asked.items() if needle.within_value(text)}
        about |= given
        own = {
            name: value for name, value in own.items() if not (name in history or (given and name in _ASKED))
        }
    events = {name or "event": [name, said] for _, name, said in detail.events}
    if where := _first({**own, **events, "status": detail.message}, needle):
        yield Found(*key, where)
    for call, where in about.items():
        yield Found(*key, where, call)
    if history and not about and (where := _first(history, needle)):
        yield Found(*key, where, history=True)


def _is_history(name: str) -> bool:
    return name in _HISTORY or name.startswith(("llm.input_messages.", "gen_ai.prompt."))


def _first(values: Mapping[str, Any], needle: Needle) -> str:
    return next((name for name, value in values.items() if needle.within_value(_text(value))), "")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return str(value)
