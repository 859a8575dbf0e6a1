"""Pure: what a search found, as rows of the shown session in the order in which they are seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hermes_tui.journal.searching import Found
from hermes_tui.model.joined import AnyTurnKey, Item, JoinedTurn
from hermes_tui.model.pairing import SpanKey
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import Role
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Turn
from hermes_tui.tui.rows import RowKey, item_key, turn_keys
from hermes_tui.tui.shown import ShownSession


class Group(NamedTuple):
    """The hits in one turn: where each was found, by the row that it is on. `at` is the turn's place in the
    view, `head` the key of its row.
    """

    at: int
    head: RowKey
    turn: JoinedTurn
    rows: Mapping[RowKey, str]


class Hits:
    """Everything found so far. `version` changes with it."""

    def __init__(self) -> None:
        self.version = 0
        self._spans: dict[tuple[bytes, bytes, str], Found] = {}
        self._records: Mapping[AnyTurnKey, Mapping[RowKey, str]] = {}

    def take(self, spans: Iterable[Found], records: Mapping[AnyTurnKey, Mapping[RowKey, str]]) -> None:
        """More hits in spans, and all in Hermes' records."""
        before = len(self._spans)
        for found in spans:
            self._spans.setdefault((found.trace_id, found.span_id, found.call), found)
        if len(self._spans) != before or records != self._records:
            self._records = records
            self.version += 1

    def groups(self, shown: ShownSession, *, commands: bool) -> list[Group]:
        """By turn, in the order of the tree, or of the list of commands."""
        by_turn: dict[SpanKey, list[tuple[Node, Found]]] = {}
        for found in self._spans.values():
            view, tree = shown.forest.views.get(found.trace_id), shown.forest.trees.get(found.trace_id)
            home = view.turn_of.get(found.span_id) if view is not None else None
            if home is not None and tree is not None:
                by_turn.setdefault(home.key, []).append((tree.nodes[found.span_id], found))
        groups = []
        for at, turn in enumerate(shown.turns if commands else shown.tree.arranged):
            spans = by_turn.get(turn.turn.key, ()) if turn.turn is not None else ()
            records = self._records.get(turn.key, {})
            if not spans and not records:
                continue
            rows = _rows(turn, spans, shown.tree.raw)
            for key, where in records.items():
                rows.setdefault(key, where)
            if commands:
                listed = {item_key(item) for item in turn.items if item.tool in COMMAND_TOOLS}
                rows = {key: where for key, where in rows.items() if key in listed}
            if rows:
                groups.append(Group(at, turn_keys(turn)[0], turn, rows))
        return groups


def _rows(turn: JoinedTurn, spans: Iterable[tuple[Node, Found]], raw: bool) -> dict[RowKey, str]:
    """The rows on which hits in spans are seen."""
    assert turn.turn is not None or not spans
    rows: dict[RowKey, str] = {}
    calls: dict[str, Item] = {}
    for node, found in spans:
        if found.call and not calls:
            calls = {item.id: item for item in turn.items}
        item = calls.get(found.call) if found.call else None
        key = item_key(item) if item is not None else _row_of(node, turn.turn, found.trace_id, raw)
        where = rows.setdefault(key or turn_keys(turn)[0], found.where)
        if where and not found.where:  # what a row shows says more than what lies behind it
            rows[key or turn_keys(turn)[0]] = ""
    return rows


def _row_of(node: Node | None, turn: Turn | None, trace_id: bytes, raw: bool) -> RowKey | None:
    """The row on which a span is seen; None: the turn's."""
    while node is not None and not node.turn and (turn is None or node is not turn.node):
        if node.span is not None and (raw or not _repeats(node)):
            return (trace_id, node.span_id, "span")
        node = node.parent or node.home
    return None


def _repeats(node: Node) -> bool:
    """Whether the tree hides a span because it says what its parent says."""
    if node.role is Role.TURN:
        return node.parent is None or node.parent.role in (None, Role.SUBAGENT)
    return node.role is Role.WRAPPER
