"""Shorten what tools are called with and answer, so that it still reads as what it was."""

from __future__ import annotations

import json
from typing import Any

from hermes_tui.model.results import CUT, read_object

GAP = " … "
_LEAST = 160  # characters of a text that stay, whatever the limit: its end says how a command ended
_DEPTH, _ITEMS, _OVER = 4, 20, 4


def shorten(text: str, limit: int) -> str:
    """`text` in about `limit` characters. A JSON object stays one: only its long texts lose their middle.

    So `results.read_call` reads the same exit code and outcome from it as from the whole.
    """
    if len(text) <= limit:
        return text
    found, whole = read_object(text)
    if not whole:
        return middle_out(text, limit)
    small = {key: value for key, value in found.items() if _size(value) <= _LEAST}
    room = limit - sum(len(key) + _size(value) + 8 for key, value in small.items())
    each = max(_LEAST, room // max(1, len(found) - len(small)))
    short = {key: value if key in small else _shorter(value, each, _DEPTH) for key, value in found.items()}
    told = as_json(short)
    return told if len(told) <= _OVER * limit else middle_out(text, limit)


def middle_out(text: str, limit: int) -> str:
    """The beginning and the end of a text that is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = max(1, (limit - len(GAP)) // 2)
    return text[:half] + GAP + text[-half:]


def cut(text: str, limit: int) -> str:
    """The first `limit` characters, with the mark that hermes-otel too puts behind what it cuts."""
    return text if len(text) <= limit else text[:limit] + CUT


def as_json(value: Any) -> str:
    """A value as JSON text; one that nests beyond reason as "{}"."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (RecursionError, ValueError):
        return "{}"


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return 8 if value is None or isinstance(value, bool | int | float) else len(as_json(value))


def _shorter(value: Any, limit: int, depth: int) -> Any:
    if isinstance(value, str):
        return middle_out(value, limit)
    if depth and isinstance(value, list):
        return [_shorter(each, limit, depth - 1) for each in value[:_ITEMS]]
    if depth and isinstance(value, dict):
        return {key: _shorter(value[key], limit, depth - 1) for key in list(value)[:_ITEMS]}
    if value is None or isinstance(value, bool | int | float):
        return value
    return middle_out(as_json(value), limit)
