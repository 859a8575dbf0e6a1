"""The documents that commands print, as plain data: sessions and status; `hermes.completed` has the rest.

Times are RFC 3339 in UTC, durations seconds, unknown is null. Everything is made from whole traces,
some at a time, so that memory does not grow with the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from hermes_tui.journal.reader import Reader
from hermes_tui.model.sessions import Session, collect
from hermes_tui.model.span import Delivery, Span
from hermes_tui.model.tree import TraceTree
from hermes_tui.model.turns import TraceView, read_trace

_TRACES = 200  # traces folded at a time

Record = dict[str, Any]


class UnknownSession(Exception):
    """No session of this name is in the journal."""


def timestamp(ns: int) -> str | None:
    """RFC 3339 in UTC with microseconds; None for 0 or a time outside of the calendar."""
    if ns <= 0:
        return None
    try:
        when = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return when.replace(microsecond=ns % 1_000_000_000 // 1000).isoformat().replace("+00:00", "Z")


def find_session(reader: Reader, name: str | None) -> str | None:
    """The session meant by a `--session` value; None means all. Raises UnknownSession."""
    if name is None:
        return None
    if name == "last":
        if (newest := reader.newest_session()) is None:
            raise UnknownSession("there is no session yet; nothing has been received")
        return newest
    if not reader.traces_of(name):
        raise UnknownSession(f"there is no session {name!r}; `hermes-trace-tui sessions` lists them")
    return name


def sessions(reader: Reader, now_ns: int) -> list[Record]:
    """All sessions, the oldest first."""
    found: dict[str, Session] = {}
    for tree, view in views(reader, reader.traces()):
        del tree
        for name, session in collect([view]).items():
            if name in found:
                found[name].take(session.totals, session.turns)
            else:
                found[name] = session
    return [
        _session(each, now_ns) for each in sorted(found.values(), key=lambda s: (s.totals.first_ns, s.id))
    ]


def _session(session: Session, now_ns: int) -> Record:
    totals, usage = session.totals, session.totals.usage
    status = session.status(now_ns)
    return {
        "session": session.id,
        "source": totals.source,
        "model": totals.model,
        "started": timestamp(totals.first_ns),
        "ended": None if status == "running" else timestamp(totals.last_ns),
        "turns": session.turn_count,
        "spans": totals.spans,
        "commands": totals.commands,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost": usage.cost,
        "status": status,
    }


def status(reader: Reader | None) -> Record:
    """Counts of finished spans by delivery, and what the exporter said last."""
    counts = {delivery.name.lower(): 0 for delivery in Delivery}
    trouble = ""
    if reader is not None:
        counts.update({delivery.name.lower(): count for delivery, count in reader.counts().items()})
        trouble = _trouble(reader.document("keeping"), reader.document("exporter"))
    return {"spans": sum(counts.values()), **counts, "last_error": trouble or None}


def _trouble(keeping: Record, exporter: Record) -> str:
    """Why nothing is taken; else the last error in sending, or that the journal was damaged."""
    said = str(exporter.get("last_error") or "")
    damage = keeping.get("damage")
    if keeping.get("full"):
        return f"no requests are taken: {keeping.get('reason')}"
    if not damage or (said and exporter.get("last_error_ns", 0) > damage["at_ns"]):
        return said
    back = "what can be read of it is being put back"
    if damage["requests"] is not None:
        back = f"{damage['requests']} requests could be put back, {damage['lost']} are lost"
    return (
        f"the journal was damaged ({damage['reason']}): {back}. The damaged one is {damage['file']}; "
        "remove it when you have taken note"
    )


def finished_spans(reader: Reader, session: str | None, traces: Sequence[bytes]) -> Iterator[list[Span]]:
    """The spans in some traces that have ended and count in a session (None: in any)."""
    if session is None:
        for spans in reader.spans_of(traces):
            yield [span for span in spans if not span.running]
        return
    for tree, view in views(reader, traces):
        yield [span for span in tree.spans if not span.running and view.owners[span.span_id] == session]


def views(reader: Reader, traces: Sequence[bytes]) -> Iterator[tuple[TraceTree, TraceView]]:
    """Each trace folded and read, some at a time."""
    for at in range(0, len(traces), _TRACES):
        trees: dict[bytes, TraceTree] = {}
        for spans in reader.spans_of(traces[at : at + _TRACES]):
            for span in spans:
                if span.trace_id not in trees:
                    trees[span.trace_id] = TraceTree(span.trace_id)
                trees[span.trace_id].add(span)
        for tree in trees.values():
            yield tree, read_trace(tree)
