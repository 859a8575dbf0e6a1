"""One classifier for every emitter seen in the wild."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_tui.model.conventions import WANTED, classify, kind_of
from hermes_tui.model.results import read_call
from hermes_tui.model.span import Facts, Kind, Role, Span, Status

RESULT = '{"output": "hi", "exit_code": 3, "error": null}'
USAGE = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 7}

# emitter, span name, attributes, kind, role, some of the facts
EMITTERS: list[tuple[str, str, dict[str, Any], Kind, Role, dict[str, Any]]] = [
    (
        "hermes-otel 0.11",
        "agent",
        {
            "openinference.span.kind": "AGENT",
            "session.id": "S",
            "llm.provider": "cli",
            "gen_ai.provider.name": "cli",
            "input.value": "What now?",
            "hermes.turn.final_status": "completed",
        },
        Kind.AGENT,
        Role.TURN,
        {"session": "S", "platform": "cli", "prompt": "What now?", "final_status": "completed"},
    ),
    (
        "hermes-otel 0.11",
        "llm.gpt",
        {
            "openinference.span.kind": "LLM",
            "llm.provider": "api_server",
            "input.value": '[{"role": "user", "content": "Hi"}]',
        },
        Kind.LLM,
        Role.WRAPPER,
        {"platform": "api_server", "prompt": "Hi"},
    ),
    (
        "hermes-otel 0.11",
        "api.gpt",
        {
            "openinference.span.kind": "LLM",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "custom",
            "gen_ai.response.model": "gpt-4o-2024",
            "gen_ai.request.model": "gpt-4o",
            "llm.token_count.prompt": 14_774,
            "llm.token_count.completion": 51,
            "llm.token_count.prompt_details.cache_read": 8_896,
            "gen_ai.usage.cache_read_input_tokens": 1,
            "llm.token_count.completion_details.reasoning": 12,
            "llm.response.finish_reason": "tool_calls",
            "llm.response.tool_calls": 2,
        },
        Kind.LLM,
        Role.MODEL_CALL,
        {
            "provider": "custom",
            "model": "gpt-4o-2024",
            "input_tokens": 14_774,
            "output_tokens": 51,
            "cache_read_tokens": 8_896,
            "reasoning_tokens": 12,
            "finish_reason": "tool_calls",
            "tool_calls": 2,
        },
    ),
    (
        "hermes-otel 0.11",
        "tool.terminal",
        {
            "openinference.span.kind": "TOOL",
            "tool.name": "terminal",
            "gen_ai.conversation.id": "S",
            "input.value": '{"command": "ls", "workdir": "/srv"}',
            "hermes.tool.command": "ls",
            "hermes.tool.outcome": "completed",
            "output.value": RESULT,
        },
        Kind.TOOL,
        Role.TOOL,
        {
            "session": "S",
            "tool": "terminal",
            "command": "ls",
            "cwd": "/srv",
            "exit_code": 3,
            "outcome": "failed",
        },
    ),
    (
        "hermes-otel 0.11",
        "skill.research",
        {"gen_ai.conversation.id": "S", "mlflow.spanType": "GENERAL"},
        Kind.OTHER,
        Role.SKILL,
        {"session": "S"},
    ),
    ("hermes-otel 1.23", "skill.research", {"mlflow.spanType": "CHAIN"}, Kind.CHAIN, Role.SKILL, {}),
    (
        "hermes-otel 1.23",
        "agent",
        {
            "mlflow.spanType": "AGENT",
            "hermes.platform": "telegram",
            "gen_ai.provider.name": "openrouter",
            "hermes.turn.number": 2,
            "hermes.cost.usage": 0.25,
        },
        Kind.AGENT,
        Role.TURN,
        {"platform": "telegram", "provider": "openrouter", "cost": 0.25},
    ),
    (
        "hermes-otel 1.23",
        "api.gpt",
        {
            "mlflow.spanType": "LLM",
            "hermes.turn.number": 1,
            "gen_ai.input.messages": '[{"role": "system", "content": ""}, {"role": "user", "content": "Do"}]',
            **USAGE,
        },
        Kind.LLM,
        Role.MODEL_CALL,
        {"prompt": "Do", "input_tokens": 100, "output_tokens": 7},
    ),
    (
        "hermes-otel 1.23",
        "approval.delete in root path",
        {
            "hermes.approval.command": "rm -rf /srv",
            "hermes.approval.granted": True,
            "hermes.approval.choice": "once",
        },
        Kind.OTHER,
        Role.APPROVAL,
        {"decision": "allowed once", "target": "rm -rf /srv"},
    ),
    (
        "hermes-otel 1.23",
        "approval.x",
        {
            "hermes.approval.granted": False,
            "hermes.approval.timed_out": True,
            "hermes.approval.pattern_key": "x",
        },
        Kind.OTHER,
        Role.APPROVAL,
        {"decision": "timed out", "target": "x"},
    ),
    (
        "hermes-otel 1.23",
        "approval.x",
        {"hermes.approval.granted": False},
        Kind.OTHER,
        Role.APPROVAL,
        {"decision": "denied"},
    ),
    (
        "hermes-otel 1.23",
        "subagent.leaf",
        {
            "mlflow.spanType": "AGENT",
            "session.id": "PARENT",
            "input.value": "Count",
            "hermes.subagent.status": "interrupted",
        },
        Kind.AGENT,
        Role.SUBAGENT,
        {"session": "PARENT", "prompt": "Count", "final_status": "interrupted"},
    ),
    ("hermes-otel 1.23", "cron.nightly", {"mlflow.spanType": "AGENT"}, Kind.AGENT, Role.TURN, {}),
    (
        "hermes-plugin-otel-tracing",
        "hermes.session",
        {"hermes.session.id": "S"},
        Kind.AGENT,
        Role.SESSION,
        {"session": "S"},
    ),
    (
        "hermes-plugin-otel-tracing",
        "hermes.turn",
        {"hermes.session.id": "S", "hermes.turn.user_message": "Hello"},
        Kind.AGENT,
        Role.TURN,
        {"session": "S", "prompt": "Hello"},
    ),
    (
        "hermes-plugin-otel-tracing",
        "chat gpt",
        {"gen_ai.operation.name": "chat", "hermes.cache.read_tokens": 9, **USAGE},
        Kind.LLM,
        Role.MODEL_CALL,
        {"input_tokens": 100, "cache_read_tokens": 9},
    ),
    (
        "hermes-plugin-otel-tracing",
        "hermes.tool.terminal",
        {"hermes.tool.args": '{"command": "ls"}', "hermes.tool.result": RESULT},
        Kind.TOOL,
        Role.TOOL,
        {"tool": "terminal", "command": "ls", "exit_code": 3, "outcome": "failed"},
    ),
    ("latitude", "interaction", {"span.type": "interaction"}, Kind.AGENT, Role.TURN, {}),
    ("latitude", "llm_request", {"span.type": "llm_request", **USAGE}, Kind.LLM, Role.MODEL_CALL, {}),
    (
        "latitude",
        "tool_call:terminal",
        {"span.type": "tool_call", "tool.is_error": True, "gen_ai.tool.call.arguments": '{"command": "ls"}'},
        Kind.TOOL,
        Role.TOOL,
        {"tool": "terminal", "command": "ls", "outcome": "failed"},
    ),
    (
        "GenAI semantic conventions",
        "invoke_agent helper",
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "C"},
        Kind.AGENT,
        Role.AGENT,
        {"session": "C"},
    ),
    (
        "GenAI semantic conventions",
        "chat gpt-4o",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.usage.cache_creation.input_tokens": 3,
            "gen_ai.usage.reasoning.output_tokens": 2,
            **USAGE,
        },
        Kind.LLM,
        Role.MODEL_CALL,
        {"provider": "openai", "cache_write_tokens": 3, "reasoning_tokens": 2},
    ),
    (
        "GenAI semantic conventions",
        "execute_tool read_file",
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": '{"path": "/etc/hosts"}'},
        Kind.TOOL,
        Role.TOOL,
        {"tool": "read_file", "target": "/etc/hosts"},
    ),
    ("OpenLLMetry", "openai.chat", {"gen_ai.operation.name": "chat"}, Kind.LLM, Role.MODEL_CALL, {}),
    (
        "OpenLLMetry",
        "openai.chat",
        {
            "traceloop.span.kind": "llm",
            "gen_ai.usage.prompt_tokens": "31",
            "gen_ai.usage.completion_tokens": 4.0,
        },
        Kind.LLM,
        Role.MODEL_CALL,
        {"input_tokens": 31, "output_tokens": 4},
    ),
    ("OpenLLMetry", "run.workflow", {"traceloop.span.kind": "workflow"}, Kind.CHAIN, Role.OTHER, {}),
    ("OpenLLMetry", "plan.agent", {"traceloop.span.kind": "agent"}, Kind.AGENT, Role.AGENT, {}),
    (
        "OpenLLMetry",
        "look.tool",
        {"traceloop.span.kind": "tool"},
        Kind.TOOL,
        Role.TOOL,
        {"tool": "look.tool"},
    ),
    (
        "MLflow",
        "ChatModel.predict",
        {"mlflow.spanType": "CHAT_MODEL", "mlflow.llm.cost": '{"total_cost": 0.5}'},
        Kind.LLM,
        Role.MODEL_CALL,
        {"cost": 0.5},
    ),
    (
        "MLflow",  # its tracer writes every attribute as JSON, texts with their quotes
        "lookup",
        {"mlflow.spanType": '"TOOL"', "mlflow.spanInputs": '{"path": "/srv"}'},
        Kind.TOOL,
        Role.TOOL,
        {"tool": "lookup", "target": "/srv"},
    ),
    ("anything else", "GET /", {}, Kind.OTHER, Role.OTHER, {}),
]


@pytest.mark.parametrize(
    ("name", "attributes", "kind", "role", "facts"),
    [pytest.param(*case[1:], id=f"{case[0]}-{case[1]}") for case in EMITTERS],
)
def test_every_emitters_spans_are_understood(
    name: str, attributes: dict[str, Any], kind: Kind, role: Role, facts: dict[str, Any]
) -> None:
    found_kind, found_role, found = classify(name, attributes)
    assert (found_kind, found_role) == (kind, role)
    assert {key: found.get(key) for key in facts} == facts


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"mlflow.spanType": "TOOL", "openinference.span.kind": "LLM"}, Kind.TOOL),
        ({"openinference.span.kind": "LLM", "traceloop.span.kind": "tool"}, Kind.LLM),
        ({"mlflow.spanType": "NEVER_HEARD", "openinference.span.kind": "LLM"}, Kind.LLM),
        ({"mlflow.spanType": "UNKNOWN", "gen_ai.operation.name": "chat"}, Kind.OTHER),
        ({"gen_ai.operation.name": "generate_content"}, Kind.LLM),
        ({"gen_ai.operation.name": "text_completion"}, Kind.LLM),
        ({"gen_ai.operation.name": "create_agent"}, Kind.AGENT),
        ({"hermes.span_kind": "tool"}, Kind.TOOL),
        ({}, Kind.LLM),
    ],
)
def test_the_first_attribute_that_names_a_kind_wins(attributes: dict[str, Any], kind: Kind) -> None:
    assert kind_of("api.gpt", attributes) is kind


def test_an_error_keeps_its_message() -> None:
    _, _, facts = classify("api.m", {"error.type": "RateLimitError"}, status=Status.ERROR, message="429")
    assert facts["error"] == "429"
    _, _, facts = classify("api.m", {"error.type": "RateLimitError"}, status=Status.ERROR)
    assert facts["error"] == "RateLimitError"


@pytest.mark.parametrize(
    ("attributes", "cost"),
    [
        ({"hermes.cost.usage": 0.5, "gen_ai.usage.cost": 9.0}, 0.5),
        ({"gen_ai.usage.cost": "0.25"}, 0.25),
        ({"mlflow.llm.cost": "not json"}, None),
        ({"mlflow.llm.cost": "[" * 100_000}, None),
        ({"llm.cost.total": -1}, None),
        ({"llm.cost.total": float("nan")}, None),
        ({"llm.cost.total": True}, None),
        ({"hermes.cost.status": "unknown"}, None),
    ],
)
def test_cost_is_taken_where_it_is_an_amount(attributes: dict[str, Any], cost: float | None) -> None:
    assert classify("api.m", attributes)[2].get("cost") == cost


def test_a_synthesized_review_is_recognised_by_its_prompt() -> None:
    prompt = json.dumps([{"role": "user", "content": "Review the conversation above and …"}])
    _, _, facts = classify("api.m", {"gen_ai.input.messages": prompt, **USAGE})
    assert facts["review"] is True


NASTY_TEXTS = st.sampled_from(
    [
        "",
        "[" * 50_000,
        '{"a":' * 20_000,
        '{"command": "\\ud800", "path": "\\udfff"}',
        '[{"role": "user", "content": "\\ud83d"}]',
        '[{"role": "user", "content": [{"text": 5}, 7, null]}]',
        '[{"role": "user"',
        '[{"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": "x", "arguments": [1]}}, 7]}]',
        '[{"role": "assistant", "parts": [{"type": "tool_call", "name": "\\ud800", "arguments": {}}]}]',
        '[{"role": "assistant"}, {"role": "tool", "tool_call_id": "a", "content": {"x": "\\udc00"}}, 3]',
        '[{"role": "assistant"}, {"role": "tool", "content": [{"id": "\\ud83d", "response": null}, 4',
        '[{"role": "assistant", "tool_calls": [{"name": "x", "arguments": ' + "[" * 900 + "]" * 900 + "}]}]",
        '{"output": "x", "exit_code": 100000000000000000000000000000000}',
        '{"output": "x", "exit_code": ' + "9" * 5_000 + "}",
        '{"exit_code": NaN}',
        '{"output": {"deep": ["list"]}, "exit_code": 1}',
        '"total_cost"',
        '{"total_cost": 1e999}',
        '{"total_cost": {"a": 1}}',
        "9" * 5_000,
        "٣",
        "1e400",
        "...",
        "{...",
        "\x00\x1b[31m",
        "\N{RIGHT-TO-LEFT OVERRIDE}",
    ]
)
NASTY = st.one_of(
    NASTY_TEXTS,
    st.text(max_size=8),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(max_size=4),
    st.lists(st.one_of(st.none(), st.integers(), NASTY_TEXTS), max_size=2),
    st.dictionaries(st.text(max_size=3), st.one_of(st.floats(), st.binary(max_size=2)), max_size=2),
)


@settings(max_examples=400)
@given(
    name=st.sampled_from(
        [
            "agent",
            "llm.m",
            "api.m",
            "tool.terminal",
            "tool.read_file",
            "tool.execute_code",
            "approval.x",
            "skill.",
        ]
    ),
    attributes=st.dictionaries(st.sampled_from(sorted(WANTED)), NASTY, max_size=10),
    status=st.sampled_from(Status),
    running=st.booleans(),
)
def test_no_value_of_any_attribute_stops_the_index(
    name: str, attributes: dict[str, Any], status: Status, running: bool
) -> None:
    """Whatever a sender writes: no exception, and facts that the journal can store and read back."""
    kind, role, facts = classify(name, attributes, status=status, message="\udcff", running=running)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(facts))
    assert stored == facts
    span = Span(kind=kind, role=role, **stored)
    assert all(isinstance(getattr(span, key), _ALLOWED[key]) for key in facts)


CALL = [{"id": "call_1", "name": "terminal", "arguments": '{"command": "ls"}', "provider_data": None}]
SAID = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "call_0", "function": {}}]},
    {"role": "tool", "name": "terminal", "content": RESULT, "tool_call_id": "call_0"},
    {"role": "tool", "name": "read_file", "content": "plain", "tool_call_id": "call_1"},
]
OLDER = [{"role": "tool", "content": "of an older turn", "tool_call_id": "call_9"}, {"role": "assistant"}]
PARTS = [{"type": "tool_call", "id": "c", "name": "terminal", "arguments": {"command": "ls"}}]
RESPONSE = [{"type": "tool_call_response", "id": "c", "response": {"exit_code": 3}}]


@pytest.mark.parametrize(
    ("attributes", "calls", "results"),
    [
        pytest.param({}, None, None, id="preview mode says nothing"),
        pytest.param(
            {"gen_ai.output.messages": json.dumps([{"role": "assistant", "tool_calls": CALL}])},
            [["call_1", "terminal", '{"command": "ls"}']],
            None,
            id="what it asked for",
        ),
        pytest.param(
            {"gen_ai.input.messages": json.dumps([*OLDER, *SAID])},
            None,
            [["call_0", RESULT], ["call_1", "plain"]],
            id="what the ones before answered",
        ),
        pytest.param(
            {"gen_ai.input.messages": json.dumps([*SAID, {"role": "assistant", "content": "Done"}])},
            None,
            None,
            id="only the last answers",
        ),
        pytest.param(
            {"gen_ai.input.messages": json.dumps([*OLDER, *SAID])[:-20] + "..."},
            None,
            [["call_0", RESULT]],
            id="cut in the middle",
        ),
        pytest.param(
            {"gen_ai.input.messages": json.dumps([*OLDER, {"content": "{", **SAID[2]}])},
            None,
            None,
            id="not in the known form",
        ),
        pytest.param(
            {
                "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": PARTS}]),
                "gen_ai.input.messages": json.dumps(
                    [{"role": "assistant", "parts": []}, {"role": "tool", "parts": RESPONSE}],
                    separators=(",", ":"),
                ),
            },
            [["c", "terminal", '{"command": "ls"}']],
            [["c", '{"exit_code": 3}']],
            id="GenAI conventions",
        ),
        pytest.param(
            {"gen_ai.input.messages": json.dumps([{"role": "user", "content": json.dumps(SAID)}])},
            None,
            None,
            id="a prompt that quotes a conversation",
        ),
    ],
)
def test_a_model_call_says_what_it_asked_for(
    attributes: dict[str, Any], calls: list[list[str]] | None, results: list[list[str]] | None
) -> None:
    _, role, facts = classify("api.m", attributes)
    assert role is Role.MODEL_CALL
    assert (facts.get("calls"), facts.get("results")) == (calls, results)


def test_a_long_result_keeps_how_it_ended() -> None:
    long = json.dumps({"output": "x" * 60_000, "exit_code": 7, "error": None})
    said = [*SAID[:2], {"role": "tool", "content": long, "tool_call_id": "call_0"}]
    _, _, facts = classify("api.m", {"gen_ai.input.messages": json.dumps(said)})
    ((_, kept),) = facts["results"]
    assert len(kept) < 1_000
    assert read_call("terminal", "{}", kept).exit_code == 7


@pytest.mark.parametrize(
    ("said", "known"),
    [("call_0c38b59ddb7d4367a418", True), ("S", False), ("S:3", False), ("", False), (5, False)],
)
def test_a_call_id_is_one_only_when_it_is_not_the_session(said: object, known: bool) -> None:
    """hermes-otel 0.11 writes the session's id where the call's belongs."""
    for name in ("tool.terminal", "approval.delete"):
        _, _, facts = classify(name, {"session.id": "S", "gen_ai.tool.call.id": said})
        assert facts.get("call_id") == (said if known else None)


_TEXT_FACTS = {
    "session",
    "model",
    "provider",
    "platform",
    "prompt",
    "tool",
    "target",
    "command",
    "cwd",
    "outcome",
}
_ALLOWED: dict[str, Any] = dict.fromkeys(Facts.__struct_fields__, int | float | bool)
_ALLOWED.update(
    dict.fromkeys({*_TEXT_FACTS, "finish_reason", "final_status", "error", "decision", "call_id"}, str)
)
_ALLOWED.update(dict.fromkeys(("calls", "results"), list))
