#!/usr/bin/env python3
"""Work out what is in the recordings with opentelemetry-proto and the standard library alone.

Nothing of the project is used here: its tests compare it with what this finds. Only what the bytes
say without doubt is written down; `status` is null where a reader could argue.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HERE = Path(__file__).parent
SESSION = ("session.id", "gen_ai.conversation.id", "hermes.session_id", "hermes.session.id", "session_id")
CUT = re.compile(r"\.\.\.$")


class Seen:
    """One span of a recording: its protobuf message and its attributes as plain values."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.name: str = message.name
        self.id: str = message.span_id.hex()
        self.parent: str = message.parent_span_id.hex()
        self.trace: str = message.trace_id.hex()
        self.start: int = message.start_time_unix_nano
        self.said: dict[str, Any] = {}
        for pair in message.attributes:
            which = pair.value.WhichOneof("value")
            if which in ("string_value", "int_value", "double_value", "bool_value"):
                self.said[pair.key] = getattr(pair.value, which)

    @property
    def session(self) -> str:
        return next(self.said[key] for key in SESSION if self.said.get(key))

    @property
    def command_tool(self) -> str | None:
        tool = self.name.removeprefix("tool.")
        return tool if tool in ("terminal", "execute_code") and self.name.startswith("tool.") else None


def spans_of(path: Path) -> list[Seen]:
    """Every span of a recording once, by (trace id, span id), in the order of arrival."""
    found: dict[tuple[str, str], Seen] = {}
    for body in bodies(path):
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for message in scope_spans.spans:
                    seen = Seen(message)
                    found.setdefault((seen.trace, seen.id), seen)
    return list(found.values())


def bodies(path: Path) -> Iterator[bytes]:
    for line in path.read_text(encoding="utf-8").splitlines():
        request = json.loads(line)
        if request["path"] == "/v1/traces":
            yield base64.b64decode(request["body"])


def command(span: Seen) -> dict[str, Any]:
    """One call of a terminal tool, judged by its exit code as the field guide's table says."""
    given, given_whole = document(span.said.get("input.value", ""))
    got, got_whole = document(span.said.get("output.value", ""))
    # The plugin's short form keeps white space; it is whole unless it stops at its limit.
    short = span.said.get("hermes.tool.command", "")
    whole = short if short and not CUT.search(short) and len(short) < 500 else None
    if whole is None and given_whole:
        whole = given["command"]
    code = got.get("exit_code")
    return {
        "span": span.id,
        "trace": span.trace,
        "tool": span.command_tool,
        "command": whole,  # null: only a part is in the bytes
        "begins": (whole or short)[:400],
        "exit_code": None if outcome(given, got) == "background" else code,
        "outcome": outcome(given, got),
        "truncated": whole is None or not got_whole,
    }


def outcome(given: dict[str, Any], got: dict[str, Any]) -> str:
    code, output = got.get("exit_code"), str(got.get("output", ""))
    if got.get("status") == "blocked":
        return "blocked"
    if code is None:
        return "unknown"
    if given.get("background") and code == 0:
        return "background"
    if code == 0:
        return "completed"
    if code == 124 and "[Command timed out" in output:
        return "timeout"
    if code == 130 and "[Command interrupted]" in output:
        return "interrupted"
    return "failed"


def document(text: str) -> tuple[dict[str, Any], bool]:
    try:
        return json.loads(text, strict=False), True
    except ValueError:
        return {}, False


def turns_of(spans: list[Seen]) -> list[Seen | None]:
    """Agent spans that no subagent started; None for a trace that has no such span."""
    by_id = {span.id: span for span in spans}
    turns: list[Seen | None] = []
    for trace in dict.fromkeys(span.trace for span in spans):
        agents = [
            span
            for span in spans
            if span.trace == trace and span.name in ("agent", "cron") and not below_subagent(span, by_id)
        ]
        turns += agents or [None]
    return turns


def below_subagent(span: Seen, by_id: dict[str, Seen]) -> bool:
    parent = by_id.get(span.parent)
    return parent is not None and (parent.name.startswith("subagent.") or below_subagent(parent, by_id))


def status(session: str, spans: list[Seen]) -> str | None:
    """How a session stands long after its last span; null where its last turn leaves room for doubt."""
    own = [span for span in spans if span.session == session]
    agents = sorted((span for span in own if span.name == "agent"), key=lambda span: span.start)
    calls = sorted((span for span in own if span.name.startswith("api.")), key=lambda span: span.start)
    asked = [span for span in agents if "Review the conversation above" not in reviewed(span, spans)]
    last_call_failed = bool(calls) and calls[-1].message.status.code == 2
    if not asked:
        return "failed" if last_call_failed else None
    said = asked[-1].said.get("hermes.turn.final_status")
    if said == "finalized" and last_call_failed:
        return "failed"
    return said if said in ("completed", "interrupted", "failed") else None


def reviewed(agent: Seen, spans: list[Seen]) -> str:
    """All prompts in an agent's trace from its start on: a background review names itself there."""
    return " ".join(
        str(span.said.get("input.value", ""))[-4000:]
        for span in spans
        if span.trace == agent.trace and span.start >= agent.start and span.name.startswith(("llm.", "api."))
    )


def tokens(spans: list[Seen]) -> dict[str, int]:
    """Model calls only: wrappers and roots repeat what their calls say."""
    calls = [span.said for span in spans if span.name.startswith("api.")]

    def total(key: str) -> int:
        return sum(said.get(key, 0) for said in calls)

    return {
        "input_tokens": total("llm.token_count.prompt"),
        "output_tokens": total("llm.token_count.completion"),
        "cache_read_tokens": total("llm.token_count.prompt_details.cache_read"),
    }


def describe(path: Path) -> dict[str, Any]:
    spans = spans_of(path)
    turns = turns_of(spans)
    rootless = [s for s in dict.fromkeys(s.trace for s in spans)
                if not any(t is not None and t.trace == s for t in turns)]  # fmt: skip
    sessions = {}
    for name in sorted({span.session for span in spans}):
        own = [span for span in spans if span.session == name]
        of_session = [turn for turn in turns if turn is not None and turn.session == name]
        without_root = [t for t in rootless if any(span.trace == t for span in own)]
        sessions[name] = {
            "spans": len(own),
            "turns": len(of_session) + len(without_root),
            "turn_spans": [turn.id for turn in sorted(of_session, key=lambda turn: turn.start)],
            "prompts": [
                turn.said.get("input.value") for turn in sorted(of_session, key=lambda turn: turn.start)
            ],
            **tokens(own),
            "commands": [command(s) for s in sorted(own, key=lambda s: (s.start, s.id)) if s.command_tool],
            "errors": sum(span.message.status.code == 2 for span in own),
            "status": status(name, spans),
            "span_ids": sorted(span.id for span in own),
        }
    return {
        "requests": sum(1 for _ in bodies(path)),
        "spans": len(spans),
        "traces": sorted({span.trace for span in spans}),
        "turns": len(turns),
        **tokens(spans),
        "commands": sum(span.command_tool is not None for span in spans),
        "sessions": sessions,
    }


def main() -> int:
    truth = {path.name.split(".")[0]: describe(path) for path in sorted(HERE.glob("*.otlp.jsonl"))}
    text = json.dumps(truth, indent=1, ensure_ascii=True) + "\n"
    target = HERE / "truth.json"
    if "--check" in sys.argv:
        return 0 if target.read_text(encoding="utf-8") == text else 1
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
