"""Export requests modelled on hermes-otel's, made in advance and given new ids for every copy."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

SPANS = 100  # in a request; a busy turn of hermes-otel flushes about so many at once
TURN = 25  # spans in a trace


def template(rng: random.Random) -> bytes:
    """A request of four turns as hermes-otel sends them, about 1.4 KB and 20 attributes a span."""
    message = ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    for key, value in (("service.name", "hermes-agent"), ("telemetry.sdk.language", "python")):
        _set(resource_spans.resource.attributes, key, value)
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "hermes_otel"
    session = f"20261123_{rng.randrange(10**6):06}_{rng.randbytes(3).hex()}"
    for _ in range(SPANS // TURN):
        _turn(scope_spans.spans, session, rng)
    return bytes(message.SerializeToString(deterministic=True))


def _turn(spans: Any, session: str, rng: random.Random) -> None:
    trace, agent, llm = rng.randbytes(16), rng.randbytes(8), rng.randbytes(8)
    now = time.time_ns()

    def add(name: str, span_id: bytes, parent: bytes, attributes: dict[str, Any]) -> None:
        span = spans.add(name=name, trace_id=trace, span_id=span_id, parent_span_id=parent)
        span.start_time_unix_nano = now - rng.randrange(10**10)
        span.end_time_unix_nano = now
        span.kind = WireSpan.SPAN_KIND_INTERNAL
        span.status.code = 1
        for key, value in attributes.items():
            _set(span.attributes, key, value)

    for step in range((TURN - 2) // 2 + 1):
        add("api.claude-sonnet-4", rng.randbytes(8), llm, _api(session, rng))
        if step < (TURN - 2) // 2:
            name, attributes = _tool(session, step, rng)
            add(f"tool.{name}", rng.randbytes(8), llm, attributes)
    prompt = "Find out why the nightly import is slow and fix it. " + _prose(rng, 500)
    add("llm.claude-sonnet-4", llm, agent, _llm(session, prompt, rng))
    add("agent", agent, b"", _agent(session, prompt, rng))


def _api(session: str, rng: random.Random) -> dict[str, Any]:
    sent, answered = rng.randrange(4_000, 90_000), rng.randrange(20, 1_500)
    return {
        "session.id": session, "session_id": session, "llm.model_name": "claude-sonnet-4",
        "llm.provider": "anthropic", "llm.api_mode": "chat_completions", "llm.request.message_count": 12,
        "llm.request.approx_input_tokens": sent, "gen_ai.request.model": "claude-sonnet-4",
        "openinference.span.kind": "LLM", "gen_ai.operation.name": "chat", "gen_ai.conversation.id": session,
        "gen_ai.provider.name": "anthropic", "gen_ai.response.model": "claude-sonnet-4",
        "llm.token_count.prompt": sent, "llm.token_count.completion": answered,
        "llm.token_count.total": sent + answered, "gen_ai.usage.input_tokens": sent,
        "gen_ai.usage.output_tokens": answered, "llm.token_count.prompt_details.cache_read": sent // 2,
        "llm.response.duration_ms": rng.random() * 9_000, "llm.response.finish_reason": "tool_calls",
        "llm.response.tool_calls": 1, "output.value": _prose(rng, 420),
    }  # fmt: skip


def _tool(session: str, step: int, rng: random.Random) -> tuple[str, dict[str, Any]]:
    command = target = ""
    if step % 4 == 3:
        name, target = "read_file", f"/srv/app/src/module_{rng.randrange(99)}.py"
        arguments = json.dumps({"path": target, "offset": 1, "limit": 200})
        result = json.dumps({"content": _prose(rng, 300), "total_lines": 180, "truncated": False})
    else:
        name = "terminal"
        command = f"cd /srv/app && grep -rn 'import_{rng.randrange(999)}' src | head -n 20; echo done"
        arguments = json.dumps({"command": command, "workdir": "/srv/app", "timeout": 60})
        code = 0 if step % 5 else 1
        result = json.dumps({"output": _prose(rng, 260), "exit_code": code, "error": None})
    found = {
        "tool.name": name, "input.value": arguments, "gen_ai.tool.call.arguments": arguments,
        "traceloop.span.kind": "TOOL", "openinference.span.kind": "TOOL", "gen_ai.tool.name": name,
        "gen_ai.tool.call.id": f"{session}:{step}", "hermes.tool.outcome": "completed",
        "output.value": result, "gen_ai.tool.call.result": result, "gen_ai.operation.name": "execute_tool",
        "gen_ai.conversation.id": session, "session.id": session, "correlation.id": session,
    }  # fmt: skip
    found["hermes.tool.command" if command else "hermes.tool.target"] = command or target
    return name, found


def _llm(session: str, prompt: str, rng: random.Random) -> dict[str, Any]:
    return {
        "llm.model_name": "claude-sonnet-4", "llm.provider": "cli", "gen_ai.request.model": "claude-sonnet-4",
        "input.value": json.dumps([{"role": "user", "content": prompt}]),
        "input.mime_type": "application/json",
        "gen_ai.input.messages": json.dumps([{"role": "user", "content": prompt}]),
        "openinference.span.kind": "LLM", "session.id": session, "session_id": session,
        "gen_ai.response.model": "claude-sonnet-4", "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": session, "correlation.id": session, "output.value": _prose(rng, 300),
    }  # fmt: skip


def _agent(session: str, prompt: str, rng: random.Random) -> dict[str, Any]:
    return {
        "session.id": session, "session_id": session, "hermes.session_id": session,
        "hermes.session.kind": "session", "openinference.span.kind": "AGENT",
        "gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": session,
        "gen_ai.agent.name": "hermes-agent", "llm.provider": "cli", "llm.model_name": "claude-sonnet-4",
        "hermes.session.completed": True, "hermes.session.interrupted": False, "input.value": prompt,
        "output.value": _prose(rng, 400), "llm.token_count.prompt": 428_282,
        "llm.token_count.completion": 1_185, "llm.token_count.total": 429_467,
        "gen_ai.usage.input_tokens": 428_282, "gen_ai.usage.output_tokens": 1_185,
        "hermes.turn.tool_count": 2, "hermes.turn.tools": "terminal,read_file",
        "hermes.turn.api_call_count": 12, "hermes.turn.final_status": "completed",
    }  # fmt: skip


def _prose(rng: random.Random, size: int) -> str:
    words = ("index", "table", "import", "row", "slow", "the", "of", "batch", '"quoted"', "line\n", "is")
    return " ".join(rng.choices(words, k=size // 5))[:size]


def _set(attributes: Any, key: str, value: object) -> None:
    pair = attributes.add(key=key)
    if isinstance(value, bool):
        pair.value.bool_value = value
    elif isinstance(value, int):
        pair.value.int_value = value
    elif isinstance(value, float):
        pair.value.double_value = value
    else:
        pair.value.string_value = str(value)


def one_span(rng: random.Random) -> bytes:
    """A small request: one tool span."""
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    name, attributes = _tool("20261123_000000_live00", 1, rng)
    now = time.time_ns()
    span = spans.add(
        name=f"tool.{name}", trace_id=rng.randbytes(16), span_id=rng.randbytes(8),
        start_time_unix_nano=now - 10**9, end_time_unix_nano=now,
    )  # fmt: skip
    for key, value in attributes.items():
        _set(span.attributes, key, value)
    return bytes(message.SerializeToString())


class Renewer:
    """Makes copies of a request whose spans all have new ids, by writing over the old ones' bytes."""

    def __init__(self, body: bytes) -> None:
        message = ExportTraceServiceRequest.FromString(body)
        spans = message.resource_spans[0].scope_spans[0].spans
        ids = {each for span in spans for each in (span.trace_id, span.span_id)}
        places = sorted((at, len(each)) for each in ids for at in _places(body, each))
        self._names = {at: body[at : at + size] for at, size in places}
        self._places = places
        self._body = body

    def __call__(self, rng: random.Random) -> bytes:
        body = bytearray(self._body)
        fresh = {name: rng.randbytes(len(name)) for name in set(self._names.values())}
        for at, size in self._places:
            body[at : at + size] = fresh[self._names[at]]
        return bytes(body)


def _places(body: bytes, part: bytes) -> Iterator[int]:
    at = body.find(part)
    while at >= 0:
        yield at
        at = body.find(part, at + 1)
