"""The last days of the whole journal, read some traces at a time so that its reader never halts for long."""

from __future__ import annotations

from collections.abc import Sequence

from hermes_tui.journal.reader import Reader
from hermes_tui.journal.records import views
from hermes_tui.model.days import Day, Share, Shares, midnights, shares, told

SLICE = 400
"""Spans that one `Days.step` goes through: some 12 ms of work."""

TRACES = 20_000
"""Newest traces that are counted at most."""

_AT_ONCE = 10


class Days:
    """What was used on each of the last days. Keeps a few numbers of every trace it has read.

    `look` when the journal changed or time passed, then `step` until all is read.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, Shares]] = {}
        self._begins: list[int] = []
        self._stale: list[tuple[bytes, int]] = []
        self._older_ns = 0  # traces that arrived until then are not counted: there are too many

    def look(self, reader: Reader, now_ns: int) -> None:
        """Find the traces that something arrived for; they are read again."""
        begins = midnights(now_ns)
        if begins != self._begins:
            self._begins, self._known = begins, _since(self._known, begins[0])
        listed = _traces(reader, begins[0])
        for gone in self._known.keys() - {trace_id for trace_id, _ in listed}:
            del self._known[gone]
        self._older_ns = listed[-1][1] if len(listed) >= TRACES else 0
        self._stale = [each for each in listed if self._known.get(each[0], _NEVER)[0] != each[1]]

    def step(self, reader: Reader, spans: int = SLICE) -> bool:
        """Read on, the newest first; whether all is read."""
        while self._stale and spans > 0:
            some = dict(self._stale[:_AT_ONCE])
            found = _read(reader, list(some), self._begins)
            for trace_id, arrived_ns in some.items():
                count, share = found.get(trace_id, (0, {}))
                self._known[trace_id] = arrived_ns, share
                spans -= count
            del self._stale[:_AT_ONCE]
        return not self._stale

    def days(self) -> tuple[Day, ...]:
        """The days with anything on them as far as they are read, today first."""
        unread_ns = max(self._older_ns, self._stale[0][1] if self._stale else 0)
        return told(_total(self._known), self._begins, unread_ns)


_NEVER: tuple[int, Shares] = (-1, {})


def _traces(reader: Reader, since_ns: int) -> list[tuple[bytes, int]]:
    """Traces that something arrived for since then, with when it did last, the newest first."""
    rows = reader.rows(
        "SELECT trace_id, received_ns FROM traces WHERE received_ns >= ? ORDER BY received_ns DESC LIMIT ?",
        (since_ns, TRACES),
    )
    return [(trace_id, received_ns) for trace_id, received_ns in rows]


def _read(reader: Reader, traces: Sequence[bytes], begins: Sequence[int]) -> dict[bytes, tuple[int, Shares]]:
    return {tree.trace_id: (len(tree.nodes), shares(view, begins)) for tree, view in views(reader, traces)}


def _since(known: dict[bytes, tuple[int, Shares]], first_ns: int) -> dict[bytes, tuple[int, Shares]]:
    """What stays known when a day passes."""
    return {
        trace_id: (arrived_ns, {begin: share for begin, share in found.items() if begin >= first_ns})
        for trace_id, (arrived_ns, found) in known.items()
    }


def _total(known: dict[bytes, tuple[int, Shares]]) -> Shares:
    total: Shares = {}
    for _, found in known.values():
        for begin, share in found.items():
            total.setdefault(begin, Share()).add(share)
    return total
