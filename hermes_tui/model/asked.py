"""What a model call's own span says of tools: those it asked for, and what the ones before answered.

hermes-otel 1.x with full content writes both as JSON: `gen_ai.output.messages` has the calls before they
end, `gen_ai.input.messages` of the next model call ends with their whole results. Others write the parts
of OpenTelemetry's GenAI conventions. Only the end of the input is read: it holds the whole conversation.
"""

from __future__ import annotations

import json
from typing import Any

from hermes_tui.model.shorten import as_json, shorten

ARGUMENTS = 2_000  # characters of a call's arguments that are kept
RESULT = 400  # and of a result: enough for its exit code and its last words
_MOST = 64  # calls or results of one span
_ID = 200  # characters of an id or a name
_ASSISTANT = ('"role": "assistant"', '"role":"assistant"')
_TOOL = ('"role": "tool"', '"role":"tool"')
_DECODER = json.JSONDecoder(strict=False)


def asked_calls(text: str, limit: int = ARGUMENTS) -> list[list[str]]:
    """[id, name, arguments] of the tool calls in a model's answer; arguments as JSON text, shortened to
    about `limit` characters.
    """
    if '"tool_call' not in text:
        return []
    try:
        messages = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return []
    found: list[list[str]] = []
    for message in messages if isinstance(messages, list) else [messages]:
        for call in _calls(message):
            function = call.get("function")
            function = function if isinstance(function, dict) else call
            name, given = function.get("name"), function.get("arguments")
            if isinstance(name, str) and name:
                given = given if isinstance(given, str) else as_json(given or {})
                found.append([_id(call.get("id")), _clean(name[:_ID]), _clean(shorten(given, limit))])
    return found[:_MOST]


def last_results(text: str, limit: int = RESULT) -> list[list[str]]:
    """[call id, result] of the tools that answered last, at the end of a conversation; shortened to about
    `limit` characters.
    """
    found: list[list[str]] = []
    at = next((place for mark in _ASSISTANT if (place := text.rfind(mark)) >= 0), -1)
    if at < 0:
        return found
    while len(found) < _MOST and (place := _next(text, at)) >= 0:
        if (start := text.rfind("{", at, place)) < 0:
            return found  # not a message that begins with its role
        try:
            message, at = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return found
        found += _results(message, limit)
    return found


def _next(text: str, at: int) -> int:
    return min((place for mark in _TOOL if (place := text.find(mark, at)) >= 0), default=-1)


def _calls(message: Any) -> list[dict[str, Any]]:
    if not isinstance(message, dict):
        return []
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        parts = message.get("parts", message.get("content"))
        parts = parts if isinstance(parts, list) else []
        calls = [part for part in parts if isinstance(part, dict) and part.get("type") == "tool_call"]
    return [call for call in calls if isinstance(call, dict)]


def _results(message: dict[str, Any], limit: int) -> list[list[str]]:
    if name := _id(message.get("tool_call_id")):
        return [[name, _text(message.get("content"), limit)]]
    parts = message.get("parts", message.get("content"))
    return [
        [name, _text(part.get("response", part.get("result")), limit)]
        for part in (parts if isinstance(parts, list) else [])
        if isinstance(part, dict) and (name := _id(part.get("id")))
    ]


def _id(value: Any) -> str:
    return _clean(value[:_ID]) if isinstance(value, str) else ""


def _text(value: Any, limit: int) -> str:
    return _clean(shorten(value if isinstance(value, str) else as_json(value), limit))


def _clean(text: str) -> str:
    """JSON can name lone surrogates, which no UTF-8 and so no database holds."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
