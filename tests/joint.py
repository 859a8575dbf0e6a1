"""Recordings as one stream of what Hermes committed and what its plugin sent, to be played together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hermes_tui.relay.replay import Recorded, read_recording
from tests.state_player import StateEvent, state_events, state_names
from tests.support import RECORDINGS

Event = StateEvent | Recorded
"""A row that Hermes committed, or a request with spans."""

TIMES = ("timestamp", "started_at", "ended_at")
"""Columns with seconds since the epoch."""

_SESSION = r"20\d{6}_\d{6}_[0-9a-f]{6}"
_CALL = r"call_[0-9a-f]{20}"
_STARTS = r'(?<![^"])'  # of a text, or of a text in a JSON text


def joint_events(name: str) -> list[Event]:
    """What was committed and what was sent in a recording, in the order of time."""
    rows = state_events(name) if name in state_names() else []
    requests = read_recording(RECORDINGS / f"{name}.otlp.jsonl")
    return sorted([*rows, *(each for each in requests if each.path == "/v1/traces")], key=at_s)


def at_s(event: Event) -> float:
    """When it happened: seconds since the recording began."""
    return event.t if isinstance(event, StateEvent) else event.at_s


def wall_s(event: Event) -> float:
    """When it happened: seconds since the epoch."""
    return event.wall if isinstance(event, StateEvent) else event.wall_s


def brought_to(events: Iterable[Event], begin_s: float, speed: float = 1.0) -> list[Event]:
    """The same events as if the first happened at `begin_s` (seconds since the epoch), and faster."""
    events = list(events)
    first_s = wall_s(events[0])
    first_ns = round(first_s * 1e9)

    def seconds(moment: float) -> float:
        return begin_s + (moment - first_s) / speed

    def nanoseconds(moment: int) -> int:
        return round(begin_s * 1e9) + round((moment - first_ns) / speed)

    return [_brought(event, seconds, nanoseconds, speed) for event in events]


def _brought(
    event: Event, seconds: Callable[[float], float], nanoseconds: Callable[[int], int], speed: float
) -> Event:
    if isinstance(event, Recorded):
        body = _retimed(event.body, nanoseconds)
        at, wall = event.at_s / speed, seconds(event.wall_s)
        return Recorded(at, wall, event.path, event.headers, body)
    row = event.row | {name: seconds(event.row[name]) for name in TIMES if event.row.get(name)}
    return StateEvent(event.t / speed, seconds(event.wall), event.table, row)


def _retimed(body: bytes, moment: Callable[[int], int]) -> bytes:
    message = ExportTraceServiceRequest.FromString(body)
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.start_time_unix_nano = moment(span.start_time_unix_nano)
                if span.end_time_unix_nano:
                    span.end_time_unix_nano = moment(span.end_time_unix_nano)
                for event in span.events:
                    event.time_unix_nano = moment(event.time_unix_nano)
    return bytes(message.SerializeToString())


def renewed(
    events: Iterable[Event],
    salt: str,
    *,
    sessions: str | None = None,
    words: Mapping[str, str] | None = None,
    first: int = 1,
) -> list[Event]:
    """The same events again: new ids, the same in rows and spans for the same `salt`.

    `sessions`: the salt for the ids of sessions, if another; so they may go on. `words` replaces beginnings
    of texts, also of texts in JSON. Messages are numbered from `first`.
    """
    named = salt if sessions is None else sessions
    words = words or {}
    beginnings = "|".join(re.escape(each) for each in sorted(words, key=len, reverse=True))
    pattern = re.compile("|".join([_SESSION, _CALL, *([f"{_STARTS}(?:{beginnings})"] if words else [])]))

    def other(match: re.Match[str]) -> str:
        found = match[0]
        if found in words:
            return words[found]
        size, own = (20, salt) if found.startswith("call_") else (6, named)
        return found[:-size] + hashlib.blake2b(f"{own}{found}".encode()).hexdigest()[:size]

    def text(value: str) -> str:
        return pattern.sub(other, value)

    def name(value: bytes) -> bytes:
        return hashlib.blake2b(salt.encode() + value, digest_size=len(value)).digest() if value else value

    events = list(events)
    oldest = min((each.row["id"] for each in events if _is_message(each)), default=0)
    return [_renewed(event, text, name, oldest, first) for event in events]


def _is_message(event: Event) -> bool:
    return isinstance(event, StateEvent) and event.table == "messages"


def _renewed(
    event: Event, text: Callable[[str], str], name: Callable[[bytes], bytes], oldest: int, first: int
) -> Event:
    if isinstance(event, Recorded):
        body = _rewritten(event.body, text, name)
        return Recorded(event.at_s, event.wall_s, event.path, event.headers, body)
    row = {key: text(value) if isinstance(value, str) else value for key, value in event.row.items()}
    if _is_message(event):
        row["id"] += first - oldest
    elif row.get("message_count"):
        row["message_count"] += first - 1  # a session that goes on never has fewer than before
    return StateEvent(event.t, event.wall, event.table, row)


def _rewritten(body: bytes, text: Callable[[str], str], name: Callable[[bytes], bytes]) -> bytes:
    message = ExportTraceServiceRequest.FromString(body)
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.trace_id, span.span_id = name(span.trace_id), name(span.span_id)
                span.parent_span_id = name(span.parent_span_id)
                for link in span.links:
                    link.trace_id, link.span_id = name(link.trace_id), name(link.span_id)
                for holder in (span, *span.events, *span.links):
                    for pair in holder.attributes:
                        _rewrite(pair.value, text)
    return bytes(message.SerializeToString())


def _rewrite(value: Any, text: Callable[[str], str]) -> None:
    """Every text in an attribute's value."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        value.string_value = text(value.string_value)
    elif kind == "array_value":
        for each in value.array_value.values:
            _rewrite(each, text)
    elif kind == "kvlist_value":
        for pair in value.kvlist_value.values:
            _rewrite(pair.value, text)
