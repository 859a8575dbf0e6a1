"""Emitters' names → `Facts`: the one place that knows how a span says what it is.

Serves hermes-otel (0.11 and 1.x), hermes-plugin-otel-tracing, latitude-telemetry-hermes, the GenAI
semantic conventions, OpenInference, OpenLLMetry and MLflow. First non-empty attribute wins, in the
order of the tables below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from hermes_tui.model.asked import asked_calls, last_results
from hermes_tui.model.results import COMMAND_TOOLS, read_call, read_target
from hermes_tui.model.span import Kind, Role, Status

Attributes = Mapping[str, Any]

ROW_TEXT = 2_000  # characters of a prompt or command that a row keeps

_KIND_KEYS = (
    "mlflow.spanType", "openinference.span.kind", "traceloop.span.kind", "gen_ai.operation.name",
    "hermes.span_kind", "hermes.span.kind", "span.type",
)  # fmt: skip
_KIND_WORDS = {
    "agent": Kind.AGENT, "invoke_agent": Kind.AGENT, "create_agent": Kind.AGENT, "interaction": Kind.AGENT,
    "llm": Kind.LLM, "chat": Kind.LLM, "text_completion": Kind.LLM, "generate_content": Kind.LLM,
    "chat_model": Kind.LLM, "llm_request": Kind.LLM,
    "tool": Kind.TOOL, "execute_tool": Kind.TOOL, "tool_call": Kind.TOOL, "chain": Kind.CHAIN,
    "workflow": Kind.CHAIN, "general": Kind.OTHER, "approval": Kind.OTHER, "unknown": Kind.OTHER,
}  # fmt: skip
_KIND_PREFIXES = (
    ("hermes.tool.", Kind.TOOL), ("tool_call:", Kind.TOOL), ("tool.", Kind.TOOL), ("execute_tool", Kind.TOOL),
    ("api.", Kind.LLM), ("llm.", Kind.LLM), ("chat ", Kind.LLM), ("llm_request", Kind.LLM),
    ("agent", Kind.AGENT), ("cron", Kind.AGENT), ("subagent.", Kind.AGENT), ("invoke_agent", Kind.AGENT),
    ("hermes.session", Kind.AGENT), ("hermes.turn", Kind.AGENT), ("interaction", Kind.AGENT),
)  # fmt: skip
_TURN_NAMES = frozenset({"agent", "cron", "hermes.turn", "interaction"})
_TOOL_PREFIXES = ("hermes.tool.", "tool_call:", "tool.", "execute_tool ")

_TEXTS: dict[str, tuple[str, ...]] = {
    "session": (
        "session.id", "gen_ai.conversation.id", "hermes.session_id", "hermes.session.id", "session_id",
    ),
    "model": ("gen_ai.response.model", "llm.response.model_name", "gen_ai.request.model", "llm.model_name"),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider"),
    "platform": ("hermes.platform",),
    "tool": ("gen_ai.tool.name", "tool.name", "hermes.tool.name"),
    "finish_reason": ("llm.response.finish_reason",),
    "final_status": ("hermes.turn.final_status",),
}  # fmt: skip
_COUNTS: dict[str, tuple[str, ...]] = {
    "input_tokens": (
        "llm.token_count.prompt", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens",
    ),
    "output_tokens": (
        "llm.token_count.completion", "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens",
    ),
    "cache_read_tokens": (
        "llm.token_count.prompt_details.cache_read", "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens", "hermes.cache.read_tokens",
    ),
    "cache_write_tokens": (
        "llm.token_count.prompt_details.cache_write", "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    "reasoning_tokens": (
        "llm.token_count.completion_details.reasoning", "gen_ai.usage.reasoning.output_tokens",
    ),
}  # fmt: skip
_COST = ("hermes.cost.usage", "gen_ai.usage.cost", "llm.cost.total", "mlflow.llm.cost")
_ARGUMENTS = ("input.value", "gen_ai.tool.call.arguments", "hermes.tool.args", "mlflow.spanInputs")
_RESULT = ("output.value", "gen_ai.tool.call.result", "hermes.tool.result", "mlflow.spanOutputs")
_COMMAND = ("hermes.tool.command", "tool_command")
_OUTCOME = "hermes.tool.outcome"
_IS_ERROR = "tool.is_error"
_AGENT_STATUS = ("hermes.subagent.status",)
_PROMPT = ("gen_ai.input.messages", "input.value", "hermes.turn.user_message", "mlflow.spanInputs")
_TOOL_CALLS = "llm.response.tool_calls"
_CALL_ID = "gen_ai.tool.call.id"
_ASKED = "gen_ai.output.messages"
_ANSWERED = "gen_ai.input.messages"
_TURN_NUMBER = "hermes.turn.number"
_SYNTHESIZED = "hermes.session.synthesized"
_APPROVAL_COMMAND = "hermes.approval.command"
_APPROVAL = (
    "hermes.approval.choice", "hermes.approval.granted", "hermes.approval.timed_out",
    "hermes.approval.pattern_key", "hermes.approval.description", _APPROVAL_COMMAND,
)  # fmt: skip
_NO_LIMIT = 2**63
_NUMBER = (int, float)
_REVIEW_PROMPT = "Review the conversation above"

WANTED: frozenset[str] = frozenset(
    key
    for keys in (
        _KIND_KEYS, *_TEXTS.values(), *_COUNTS.values(), _COST, _ARGUMENTS, _RESULT, _COMMAND, _PROMPT,
        (_OUTCOME, _IS_ERROR, _TOOL_CALLS, _TURN_NUMBER, _SYNTHESIZED, "error.type"), _APPROVAL,
        (_CALL_ID, _ASKED, _ANSWERED), _AGENT_STATUS,
    )
    for key in keys
)  # fmt: skip
"""The attributes `classify` looks at: a decoder need not turn others into Python values."""


def kind_of(name: str, attributes: Attributes) -> Kind:
    """A span's kind: the first attribute that says one, else its name's prefix."""
    for key in _KIND_KEYS:
        if key in attributes:
            word = str(attributes[key]).strip('"')  # MLflow's own tracer writes texts as JSON
            if (kind := _KIND_WORDS.get(word.lower())) is not None:
                return kind
    return next((kind for prefix, kind in _KIND_PREFIXES if name.startswith(prefix)), Kind.OTHER)


def role_of(name: str, kind: Kind, attributes: Attributes) -> Role:
    """The part a span plays, by its name first: emitters agree on kinds less than on names."""
    if attributes.get("hermes.span_kind") == "approval":
        return Role.APPROVAL
    if (role := _role_by_name(name)) is not None:
        return role
    if kind is Kind.AGENT:
        return Role.AGENT
    if kind is Kind.LLM:
        return Role.WRAPPER if name.startswith("llm.") and not _has_counts(attributes) else Role.MODEL_CALL
    return Role.TOOL if kind is Kind.TOOL else Role.OTHER


@lru_cache(maxsize=1024)  # a run has few names, and this is asked for every span
def _role_by_name(name: str) -> Role | None:
    if name.startswith("approval."):
        return Role.APPROVAL
    if name.startswith("subagent."):
        return Role.SUBAGENT
    if name.startswith("skill."):
        return Role.SKILL
    if name == "hermes.session":
        return Role.SESSION
    if name in _TURN_NAMES or name.startswith(("cron.", "session.")):
        return Role.TURN
    return None


def classify(
    name: str,
    attributes: Attributes,
    *,
    status: Status = Status.UNSET,
    message: str = "",
    running: bool = False,
) -> tuple[Kind, Role, dict[str, Any]]:
    """What a span is and says: kind, role and the `Facts` that differ from their defaults."""
    kind = kind_of(name, attributes)
    role = role_of(name, kind, attributes)
    facts: dict[str, Any] = {}
    for field, keys in _TEXTS.items():
        if (text := _text(attributes, keys)) is not None:
            facts[field] = text
    if role is not Role.TOOL:  # tokens are a model call's, or a sum of theirs
        for field, keys in _COUNTS.items():
            if (count := _count(attributes, keys)) is not None:
                facts[field] = count
    if (cost := _cost(attributes)) is not None:
        facts["cost"] = cost
    if status is Status.ERROR:
        facts["error"] = (message or str(attributes.get("error.type") or "error"))[:ROW_TEXT]
    if role is Role.TOOL:
        _tool(name, attributes, facts, status, running)
        _call_id(attributes, facts)
    elif role is Role.APPROVAL:
        _approval(attributes, facts)
        _call_id(attributes, facts)
    else:
        _agent_or_model(role, attributes, facts)
    for field, value in facts.items():
        if isinstance(value, str) and not value.isascii():
            # JSON can name lone surrogates, which no UTF-8 and so no database holds.
            facts[field] = value.encode("utf-8", "replace").decode()
    return kind, role, facts


def _tool(name: str, attributes: Attributes, facts: dict[str, Any], status: Status, running: bool) -> None:
    if "tool" not in facts:
        prefix = next((prefix for prefix in _TOOL_PREFIXES if name.startswith(prefix)), "")
        facts["tool"] = name[len(prefix) :] or name
    arguments, result = tool_texts(attributes)
    if facts["tool"] not in COMMAND_TOOLS:
        if target := read_target(arguments):
            facts["target"] = target[:ROW_TEXT]
        return
    call = read_call(
        facts["tool"],
        arguments,
        result,
        command=_text(attributes, _COMMAND),
        said=_text(attributes, (_OUTCOME,)),
        error=status is Status.ERROR or attributes.get(_IS_ERROR) is True,
        running=running,
    )
    facts["outcome"] = call.outcome.value
    if call.command is not None:
        facts["command"] = call.command[:ROW_TEXT]
    if call.cwd is not None:
        facts["cwd"] = call.cwd
    if call.exit_code is not None:
        facts["exit_code"] = call.exit_code
    if call.truncated:
        facts["truncated"] = True


def tool_texts(attributes: Attributes) -> tuple[str | None, str | None]:
    """A tool span's arguments and result, as the text the emitter sent."""
    return _text(attributes, _ARGUMENTS), _text(attributes, _RESULT)


def short_command(attributes: Attributes) -> str | None:
    """The emitter's own, shorter text of a command."""
    return _text(attributes, _COMMAND)


def _call_id(attributes: Attributes, facts: dict[str, Any]) -> None:
    """The model's id of the call. hermes-otel 0.11 writes the session's id in its place."""
    if _CALL_ID in attributes:
        call, session = attributes[_CALL_ID], facts.get("session")
        if isinstance(call, str) and 0 < len(call) <= 200 and not (session and session in call):
            facts["call_id"] = call


def _approval(attributes: Attributes, facts: dict[str, Any]) -> None:
    if attributes.get("hermes.approval.timed_out") is True:
        facts["decision"] = "timed out"
    elif attributes.get("hermes.approval.granted") is True:
        facts["decision"] = f"allowed {attributes.get('hermes.approval.choice') or ''}".strip()
    elif attributes.get("hermes.approval.granted") is False:
        facts["decision"] = "denied"
    wanted = (_APPROVAL_COMMAND, "hermes.approval.description", "hermes.approval.pattern_key")
    if target := _text(attributes, wanted):
        facts["target"] = target[:ROW_TEXT]


def _agent_or_model(role: Role, attributes: Attributes, facts: dict[str, Any]) -> None:
    if role is Role.SUBAGENT and (said := _text(attributes, _AGENT_STATUS)) is not None:
        facts["final_status"] = said
    old = role in (Role.TURN, Role.WRAPPER) and _TURN_NUMBER not in attributes and "platform" not in facts
    if old and "provider" in facts:
        # hermes-otel 0.11 writes the platform where the provider belongs (cli, api_server, subagent).
        facts["platform"] = facts.pop("provider")
    if role is not Role.OTHER and (prompt := read_prompt(attributes)):
        facts["prompt"] = prompt[:ROW_TEXT]
        if prompt.startswith(_REVIEW_PROMPT) and role in (Role.TURN, Role.WRAPPER, Role.MODEL_CALL):
            facts["review"] = True
    calls = attributes.get(_TOOL_CALLS)
    if isinstance(calls, int):
        facts["tool_calls"] = calls
    if role is Role.MODEL_CALL:
        _asked(attributes, facts)


def _asked(attributes: Attributes, facts: dict[str, Any]) -> None:
    if _ASKED in attributes and isinstance(text := attributes[_ASKED], str) and (asked := asked_calls(text)):
        facts["calls"] = asked
    if _ANSWERED in attributes:
        text = attributes[_ANSWERED]
        if isinstance(text, str) and (results := last_results(text)):
            facts["results"] = results


def model_texts(attributes: Attributes) -> tuple[dict[str, str], dict[str, str]]:
    """A model call span's whole texts by call id: arguments of the calls it asked for, results that it was
    given last.
    """
    asked, answered = attributes.get(_ASKED), attributes.get(_ANSWERED)
    calls = asked_calls(asked, _NO_LIMIT) if isinstance(asked, str) else []
    results = last_results(answered, _NO_LIMIT) if isinstance(answered, str) else []
    return {name: given for name, _, given in calls}, dict(results)


def read_prompt(attributes: Attributes) -> str | None:
    """What the user asked: the last user message, however the emitter wraps it."""
    for key in _PROMPT:
        text = attributes.get(key)
        if not isinstance(text, str) or not text:
            continue
        if text.lstrip().startswith("[{"):
            if prompt := _last_user_message(text):
                return prompt
            continue
        return text
    return None


def _last_user_message(text: str) -> str | None:
    at = text.rfind('"role": "user"')
    at = text.rfind('"role":"user"') if at < 0 else at
    if at < 0:
        return None
    start = text.rfind("{", 0, at)
    try:
        message, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    content = message.get("content", message.get("parts")) if isinstance(message, dict) else None
    if isinstance(content, list):
        parts = (part.get("text") or part.get("content") for part in content if isinstance(part, dict))
        content = " ".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) and content else None


def _has_counts(attributes: Attributes) -> bool:
    return _count(attributes, _COUNTS["input_tokens"]) is not None


def _text(attributes: Attributes, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        if key in attributes and (value := attributes[key]) is not None and value != "":
            return value if isinstance(value, str) else json.dumps(value, default=str)
    return None


def _count(attributes: Attributes, keys: tuple[str, ...]) -> int | None:
    for key in keys:
        if key not in attributes:
            continue
        value = attributes[key]
        if isinstance(value, _NUMBER) and not isinstance(value, bool) and 0 <= value < 2**53:
            return int(value)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
            return int(value)
    return None


def _cost(attributes: Attributes) -> float | None:
    for key in _COST:
        if key not in attributes:
            continue
        value = attributes[key]
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                continue
        if isinstance(value, dict):
            value = value.get("total_cost")
        if isinstance(value, _NUMBER) and not isinstance(value, bool) and 0 <= value < 1e9:
            return float(value)
    return None
