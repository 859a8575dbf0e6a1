"""What a model said, read from a span of its call, or of the turn that the call ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_MESSAGES = "gen_ai.output.messages"
_VALUES = ("output.value", "hermes.turn.assistant_message", "mlflow.spanOutputs")


def read_answer(attributes: Mapping[str, Any]) -> str | None:
    """The text in a model's answer; None where there is none, or only calls of tools."""
    said = attributes.get(_MESSAGES)
    if isinstance(said, str) and said:
        return _said(said)
    for key in _VALUES:
        text = attributes.get(key)
        if isinstance(text, str) and text.strip():
            return _said(text) if text.lstrip()[:1] in "[{" else text
    return None


def _said(text: str) -> str | None:
    """The texts in JSON messages; what is no JSON after all is text itself."""
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    messages = found if isinstance(found, list) else [found]
    texts = [said for message in messages if (said := _text(message))]
    return "\n\n".join(texts).encode("utf-8", "replace").decode() or None


def _text(message: Any) -> str:
    if not isinstance(message, dict) or message.get("role", "assistant") != "assistant":
        return ""
    content = message.get("content", message.get("parts"))
    if isinstance(content, str):
        return content.strip()
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = (part.get("text") or part.get("content") for part in parts if part.get("type", "text") == "text")
    return "\n".join(text for text in texts if isinstance(text, str)).strip()
