"""The tools and model calls of every session, found by time, whichever trace they are in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection

from hermes_tui.model.pairing import SpanKey
from hermes_tui.model.span import Role, Span
from hermes_tui.model.turns import TraceView

Placed = tuple[Span, SpanKey]
"""A span with the key of the turn that it is in."""

Stretch = tuple[int, int]
"""From when to when, both included."""


_TOOL, _MODEL_CALL = Role.TOOL, Role.MODEL_CALL
_KEPT = 2_000  # spans of traces that were read last


class Shares:
    """`replace` a trace when it changed, ask for what was `between` two times.

    Few traces are asked for again once they rest: what is known of those is in their views alone.
    """

    def __init__(self) -> None:
        self._views: dict[bytes, tuple[TraceView, tuple[tuple[str, int, int], ...]]] = {}
        self._read: dict[bytes, _Trace] = {}  # newest last
        self._count = 0
        self._order: dict[str, list[tuple[int, int, bytes]]] = {}
        self._reach: dict[str, list[int]] = {}
        self._stale: dict[str, int] = {}  # from which place on `_reach` has to be measured anew

    def replace(self, trace_id: bytes, view: TraceView | None) -> dict[str, list[Stretch]]:
        """Take a trace as it is now; by session when anything in it was, or is."""
        moved: dict[str, list[Stretch]] = {}
        if (known := self._views.pop(trace_id, None)) is not None:
            if (read := self._read.pop(trace_id, None)) is not None:
                self._count -= read.count
            for session, first, last in known[1]:
                moved.setdefault(session, []).append((first, last))
                order = self._order[session]
                at = bisect_left(order, (first, last, trace_id))
                del order[at]
                self._stale[session] = min(self._stale.get(session, at), at)
        if view is not None:
            stretches = self._keep(trace_id, _Trace(view)).stretches()
            self._views[trace_id] = view, stretches
            for session, first, last in stretches:
                moved.setdefault(session, []).append((first, last))
                order = self._order.setdefault(session, [])
                at = bisect_left(order, (first, last, trace_id))
                order.insert(at, (first, last, trace_id))
                self._stale[session] = min(self._stale.get(session, at), at)
        return moved

    def between(self, session: str, since: int, until: int) -> tuple[list[Placed], list[Placed]]:
        """A session's tools that began, its model calls that ended, from `since` on and before `until`."""
        order, reach = self._order.get(session, []), self._measured(session)
        tools: list[Placed] = []
        models: list[Placed] = []
        at = bisect_left(order, (until, 0, b"")) - 1
        while at >= 0 and reach[at] >= since:
            if order[at][1] >= since:
                trace = self._trace(order[at][2])
                tools += cut_out(trace.tools[session], since, until, by_start)
                models += cut_out(trace.models[session], since, until, by_end)
            at -= 1
        return sorted(tools, key=by_start), sorted(models, key=by_end)

    def before(
        self, session: str, until: int, traces: Collection[bytes] | None
    ) -> tuple[list[Placed], list[Placed]]:
        """As `between` from the beginning on, in these traces; None: in all."""
        if traces is None:
            return self.between(session, 0, until)
        found = [self._trace(name) for name in traces if self._has(name, session)]
        tools = [each for trace in found for each in cut_out(trace.tools[session], 0, until, by_start)]
        models = [each for trace in found for each in cut_out(trace.models[session], 0, until, by_end)]
        if len(found) == 1:
            return tools, models
        return sorted(tools, key=by_start), sorted(models, key=by_end)

    def _has(self, trace_id: bytes, session: str) -> bool:
        known = self._views.get(trace_id)
        return known is not None and any(name == session for name, _, _ in known[1])

    def _trace(self, trace_id: bytes) -> _Trace:
        return self._read.get(trace_id) or self._keep(trace_id, _Trace(self._views[trace_id][0]))

    def _keep(self, trace_id: bytes, trace: _Trace) -> _Trace:
        self._read[trace_id] = trace
        self._count += trace.count
        while self._count > _KEPT and len(self._read) > 1:
            self._count -= self._read.pop(next(iter(self._read))).count
        return trace

    def _measured(self, session: str) -> list[int]:
        """How far the traces up to each one reach; measured when it is asked for, not for each of many."""
        reach = self._reach.setdefault(session, [])
        if (at := self._stale.pop(session, None)) is not None:
            del reach[at:]
            for _, last, _ in self._order[session][at:]:
                reach.append(max(last, reach[-1]) if reach else last)
        return reach


class _Trace:
    """What matters here of one trace: by session its tools (by start) and its model calls (by end)."""

    __slots__ = ("count", "models", "tools")

    def __init__(self, view: TraceView) -> None:
        self.count = 0
        self.tools: dict[str, list[Placed]] = {}
        self.models: dict[str, list[Placed]] = {}
        for node in view.nodes.values():
            if (span := node.span) is None or (turn := node.within) is None:
                continue
            if (role := span.role) is _TOOL or role is _MODEL_CALL:
                into = self.tools if role is _TOOL else self.models
                into.setdefault(node.owner or "", []).append((span, turn.key))
                self.count += 1
        for session in {*self.tools, *self.models}:
            self.tools.setdefault(session, []).sort(key=by_start)
            self.models.setdefault(session, []).sort(key=by_end)

    def stretches(self) -> tuple[tuple[str, int, int], ...]:
        """By session when anything in it was: the first time and the last."""
        return tuple((session, *self._stretch(session)) for session in self.tools)

    def _stretch(self, session: str) -> Stretch:
        tools, models = self.tools[session], self.models[session]
        times = [each.start_ns for each, _ in (*tools[:1], *tools[-1:])]
        times += [each.end_ns for each, _ in (*models[:1], *models[-1:])]
        return min(times), max(times)


def by_start(placed: Placed) -> tuple[int, bytes]:
    return placed[0].start_ns, placed[0].span_id


def by_end(placed: Placed) -> tuple[int, bytes]:
    return placed[0].end_ns, placed[0].span_id


def cut_out(
    placed: list[Placed], since: int, until: int, key: Callable[[Placed], tuple[int, bytes]]
) -> list[Placed]:
    """Those of a sorted list from `since` on and before `until`."""
    first, last = bisect_left(placed, (since, b""), key=key), bisect_left(placed, (until, b""), key=key)
    return placed[first:last]
