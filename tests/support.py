"""Helpers that several rooms' tests share: recordings, made-up spans, folds that can be compared."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Envelope, Writer
from hermes_tui.model.sessions import Session, collect
from hermes_tui.model.span import Kind, Role, Span
from hermes_tui.model.tree import TraceTree
from hermes_tui.model.turns import is_command, members, read_trace
from hermes_tui.otlp.codec import PROTOBUF, Request

RECORDINGS = Path(__file__).parent / "recordings"
SECOND = 1_000_000_000
LONG_AFTER = 2**62
"""A clock at which nothing that was ever silent still counts as running."""


def recording_names() -> list[str]:
    return sorted(path.name.split(".")[0] for path in RECORDINGS.glob("*.otlp.jsonl"))


@cache
def truth() -> dict[str, Any]:
    """What is in the recordings, worked out without the project's code (`make_truth.py`)."""
    found: dict[str, Any] = json.loads((RECORDINGS / "truth.json").read_text(encoding="utf-8"))
    return found


@cache
def recorded_requests(name: str) -> tuple[bytes, ...]:
    """The bodies of a recording's requests to /v1/traces, in the order of arrival."""
    lines = (RECORDINGS / f"{name}.otlp.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return tuple(base64.b64decode(each["body"]) for each in entries if each["path"] == "/v1/traces")


def spans_in(body: bytes) -> list[Span]:
    """The spans of one request as the model sees them."""
    return [
        Span(
            trace_id=entry.trace_id,
            span_id=entry.span_id,
            parent_id=entry.parent_id,
            name=entry.name,
            kind=entry.kind,
            role=entry.role,
            start_ns=entry.start_ns,
            end_ns=entry.end_ns,
            status=entry.status,
            **entry.facts,
        )
        for entry in Request(body).entries()
    ]


@cache
def recorded_spans(name: str) -> tuple[Span, ...]:
    return tuple(span for body in recorded_requests(name) for span in spans_in(body))


def plant(spans: Iterable[Span]) -> dict[bytes, TraceTree]:
    """One tree a trace, grown in the order given."""
    trees: dict[bytes, TraceTree] = {}
    for span in spans:
        trees.setdefault(span.trace_id, TraceTree(span.trace_id)).add(span)
    return trees


def fold(spans: Iterable[Span]) -> dict[str, Session]:
    """Sessions by id, folded in one go."""
    return collect(read_trace(tree) for tree in plant(spans).values())


def commands_of(session: Session) -> list[Span]:
    """A session's commands by start time, from its turns and from turns it only worked in."""
    found = [
        node.span
        for turn in session.turns
        for node in members(turn)
        if node.span is not None and is_command(node.span)
    ]
    return sorted(found, key=lambda span: (span.start_ns, span.span_id))


def picture(spans: Iterable[Span]) -> dict[str, Any]:
    """Everything a user could see of some spans, as plain values that two folds can be compared by."""
    views = [read_trace(tree) for tree in plant(spans).values()]
    owned: dict[str, list[Span]] = {}
    for view in views:
        for turn in view.turns:
            for node in members(turn):
                if node.span is not None:
                    owned.setdefault(view.owners[node.span_id], []).append(node.span)
    return {
        name: {
            "totals": totals_of(session.totals),
            "turn_count": session.turn_count,
            "status": session.status(LONG_AFTER),
            "turns": [turn_of(turn) for turn in session.turns],
            "spans": sorted(span.span_id for span in owned.get(name, [])),
            "commands": sorted(
                (span.start_ns, span.span_id, span.command, span.exit_code, span.outcome, span.truncated)
                for span in owned.get(name, [])
                if is_command(span)
            ),
        }
        for name, session in sorted(collect(views).items())
    }


def turn_of(turn: Any) -> dict[str, Any]:
    return {
        "key": turn.key,
        "session": turn.session,
        "prompt": turn.prompt,
        "review": turn.review,
        "provisional": turn.provisional,
        "start": turn.start_ns,
        "end": turn.end_ns,
        "status": turn.status(LONG_AFTER),
        "status_now": turn.status(turn.totals.last_ns),
        "totals": totals_of(turn.totals),
        "members": [node.span_id for node in members(turn)],
    }


def totals_of(totals: Any) -> dict[str, Any]:
    """Totals as plain values; costs rounded, because sums of floats depend on their order."""
    usage = totals.usage
    return {
        "spans": totals.spans,
        "running": totals.running_spans,
        "commands": totals.commands,
        "failed": totals.failed_commands,
        "errors": totals.errors,
        "tokens": (
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        ),
        "cost": None if usage.cost is None else round(usage.cost, 9),
        "deliveries": {state.name: count for state, count in sorted(totals.deliveries.items()) if count},
        "first": totals.first_ns,
        "last": totals.last_ns,
        "model": totals.model,
        "source": totals.source,
        "agent_end": totals.agent_end,
    }


def trace_id(number: int) -> bytes:
    return (number + 1).to_bytes(16, "big")


def span_id(number: int) -> bytes:
    return (number + 1).to_bytes(8, "big")


def make_span(number: int, *, parent: int | None = None, trace: int = 0, **said: Any) -> Span:
    """A small finished span of session "s"; everything can be overridden."""
    base = Span(
        trace_id=trace_id(trace),
        span_id=span_id(number),
        parent_id=b"" if parent is None else span_id(parent),
        name="step",
        start_ns=SECOND * (1_000 + number),
        end_ns=SECOND * (1_001 + number),
        session="s",
    )
    return replace(base, **said)


def agent_span(number: int, **said: Any) -> Span:
    facts = {"name": "agent", "kind": Kind.AGENT, "role": Role.TURN, **said}
    return make_span(number, **facts)


def wire_span(
    number: int,
    *,
    parent: int | None = None,
    trace: int = 0,
    name: str = "step",
    start_ns: int | None = None,
    end_ns: int | None = None,
    status: int = 0,
    **attributes: Any,
) -> trace_pb2.Span:
    """A protobuf span; attribute names are written with `__` for dots (`session__id="s"`)."""
    span = trace_pb2.Span(
        trace_id=trace_id(trace),
        span_id=span_id(number),
        parent_span_id=b"" if parent is None else span_id(parent),
        name=name,
        start_time_unix_nano=SECOND * (1_000 + number) if start_ns is None else start_ns,
        end_time_unix_nano=SECOND * (1_001 + number) if end_ns is None else end_ns,
    )
    span.status.code = status  # type: ignore[assignment]
    for key, value in attributes.items():
        pair = span.attributes.add(key=key.replace("__", "."))
        if isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, float):
            pair.value.double_value = value
        else:
            pair.value.string_value = value
    return span


def body_of(*spans: trace_pb2.Span) -> bytes:
    """The bytes of one export request."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return request.SerializeToString()


def wire_spans_in(body: bytes) -> list[trace_pb2.Span]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        span
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def envelope(body: bytes, **said: Any) -> Envelope:
    """A request as a receiver would hand it to the journal."""
    decoded = Request(body, said.get("content_type", PROTOBUF))
    return Envelope(
        **{
            "body": body,
            "content_type": PROTOBUF,
            "content_encoding": "",
            "decoded": decoded,
            "span_count": len(decoded),
            **said,
        }
    )


def wait_for(condition: Callable[[], object], deadline: float = 20.0) -> None:
    """Return once `condition` holds; fail when it does not within `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} seconds: {condition}")
        time.sleep(0.002)


def caught_up(reader: Reader) -> bool:
    """Whether every stored request is in the index."""
    indexed, last = reader.indexed()
    return indexed == last


def store(writer: Writer, *bodies: bytes, **said: Any) -> list[int]:
    """Append requests and wait until they are on disk; their ids."""
    futures = [writer.append(envelope(body, **said)) for body in bodies]
    return [future.result(timeout=20) for future in futures]


def tail_all(reader: Reader, cursor: int = 0) -> list[Span]:
    """Every row that changed after `cursor`, over as many pages as it takes."""
    found: list[Span] = []
    while page := reader.tail(cursor):
        found += page
        cursor = page[-1].revision
    return found
