"""Recordings as joint timelines: spans and Hermes' records in the order in which they came."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from hermes_tui.hermes import state_query
from hermes_tui.model.live import Live
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Span
from hermes_tui.model.state_rows import MessageRow, SessionRow
from tests.state_player import StateEvent, state_events, state_names
from tests.support import RECORDINGS, spans_in

Row = MessageRow | SessionRow
HOME = "default"


def row_of(event: StateEvent, revision: int) -> Row:
    """A recorded row as the reader of `state.db` hands it on."""
    raw = event.row
    if event.table == "sessions":
        columns = tuple(raw.get(name) for name in state_query.SESSION_COLUMNS)
        return state_query.session_row(HOME, revision, columns)
    columns = tuple(raw.get(name) for name in state_query.MESSAGE_COLUMNS)
    content = raw.get("content")
    size = len((content or "").encode())
    return state_query.message_row(HOME, revision, (*columns, content, size, raw.get("tool_calls")))


@cache
def timeline(name: str) -> tuple[tuple[float, tuple[Row, ...], tuple[Span, ...]], ...]:
    """(wall clock in seconds, rows, spans) of every event of a recording."""
    events: list[tuple[float, float, tuple[Row, ...], tuple[Span, ...]]] = [
        (event.t, event.wall, (row_of(event, number + 1),), ())
        for number, event in enumerate(state_events(name) if name in state_names() else ())
    ]
    for line in (RECORDINGS / f"{name}.otlp.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["path"] == "/v1/traces":
            spans = tuple(spans_in(base64.b64decode(entry["body"])))
            events.append((entry["t"], entry["wall"], (), spans))
    events.sort(key=lambda event: event[0])
    return tuple(event[1:] for event in events)


def chosen(
    name: str, *, records: bool, spans: bool
) -> Iterator[tuple[float, tuple[Row, ...], tuple[Span, ...]]]:
    """The timeline with one source, both, or none."""
    for wall, rows, some in timeline(name):
        yield wall, rows if records else (), some if spans else ()


class Shown:
    """What a pane keeps of one session: the records, and the spans of every trace that it is in."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.forest = Forest(session)
        self._waiting: dict[bytes, list[Span]] = {}
        self._traces: set[bytes] = set()

    def add(self, spans: tuple[Span, ...]) -> set[bytes]:
        """Take spans in; ids of the traces that changed."""
        for span in spans:
            self._waiting.setdefault(span.trace_id, []).append(span)
            if span.session == self.session:
                self._traces.add(span.trace_id)
        for trace_id in self._traces & self._waiting.keys():
            self.forest.add(self._waiting.pop(trace_id))
        return self.forest.refresh()


def everyone(name: str) -> list[str]:
    """Every session of a recording, subagents' too."""
    found = {
        row.id if isinstance(row, SessionRow) else row.session
        for _, rows, _ in timeline(name)
        for row in rows
    }
    found |= {span.session for _, _, spans in timeline(name) for span in spans if span.session}
    return sorted(found)


def roots(name: str) -> list[str]:
    """The sessions of a recording that are nobody's subagents."""
    live = Live()
    found: dict[str, None] = {}
    for _, rows, spans in timeline(name):
        live.take(rows)
        found |= dict.fromkeys(span.session for span in spans if span.session)
    children = {part.id for each in live.sessions() if (part := live.session(each)) and part.parent}
    found |= dict.fromkeys(live.sessions())
    below = {s.session for _, _, spans in timeline(name) for s in spans if s.platform == "subagent"}
    return [each for each in found if each not in children and each not in below]


def plain(value: Any) -> Any:
    """Keys as text, so that a failure can be read."""
    if isinstance(value, bytes):
        return value.hex()[:8]
    return tuple(plain(each) for each in value) if isinstance(value, tuple) else value
