"""Fold the spans of one trace into a tree, in whatever order and however often they arrive.

A span's parent may come seconds later or never, so every parent named by a child has a node at once:
a placeholder that the real span fills in place. What the tree means (turns, sessions, totals) is in
`turns.py`; here are only nodes and links.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hermes_tui.model.span import Kind, Role, Span

if TYPE_CHECKING:
    from hermes_tui.model.turns import Turn

_NONE: list[Node] = []  # of all nodes without children; most are, and an empty list of their own has 56 bytes


class Node:
    """A place in the tree, with or without its span yet; `span` is None for a placeholder."""

    __slots__ = (
        "_children",
        "_sorted",
        "cut",
        "home",
        "owner",
        "parent",
        "span",
        "span_id",
        "turn",
        "within",
    )

    def __init__(self, span_id: bytes) -> None:
        self.span_id = span_id
        self.span: Span | None = None
        self.parent: Node | None = None
        self.home: Node | None = None  # set by `turns.read_trace`: the subagent whose work this top is
        self.cut = False  # its parent link would close a circle
        self.turn = False  # it starts a turn; `turns.read_trace` decides
        self.owner: str | None = None  # the session that it is of, and the turn that it is in; likewise
        self.within: Turn | None = None
        self._children: list[Node] = _NONE
        self._sorted = True

    @property
    def children(self) -> list[Node]:
        """Children by start time; placeholders never are children (they name no parent)."""
        if not self._sorted:
            self._children.sort(key=_by_start)
            self._sorted = True
        return self._children

    @property
    def start_ns(self) -> int:
        """Start of the span, or of the placeholder's first child; nanoseconds since the epoch."""
        if self.span is not None:
            return self.span.start_ns
        return self.children[0].start_ns if self._children else 0

    @property
    def role(self) -> Role | None:
        return None if self.span is None else self.span.role

    def ancestors(self) -> Iterator[Node]:
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first; iterative, so depth is no limit."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    def adopt(self, child: Node) -> None:
        child.parent = self
        if self._children is _NONE:
            self._children = []
        self._children.append(child)
        self._sorted = False

    def release(self, child: Node) -> None:
        child.parent = None
        self._children.remove(child)

    def disorder(self) -> None:
        """A child's start changed: sort again before the next look."""
        self._sorted = False


def _by_start(node: Node) -> tuple[int, bytes]:
    return node.start_ns, node.span_id


class TraceTree:
    """All that is known of one trace: `add` spans, then read `tops` and `nodes`."""

    def __init__(self, trace_id: bytes) -> None:
        self.trace_id = trace_id
        self.nodes: dict[bytes, Node] = {}
        self.agents: dict[bytes, Node] = {}
        self.tops: dict[bytes, Node] = {}
        self.version = 0

    def add(self, span: Span) -> bool:
        """Take one span in; True when that changed anything. Repeats and older versions do not.

        A repeat with the same content may still bring a new delivery state or place.
        """
        node = self._node(span.span_id)
        known = node.span
        if known is not None:
            if known.outranks(span) or known == span:
                return False
            if known.parent_id != span.parent_id:
                self._rebuild(span)
                return True
        node.span = span
        if span.kind is Kind.AGENT or span.role is Role.TURN:
            self.agents[span.span_id] = node
        else:
            self.agents.pop(span.span_id, None)
        if known is None and span.parent_id:
            self._link(node, self._node(span.parent_id))
        elif node.parent is not None:
            node.parent.disorder()
        self.version += 1
        return True

    @property
    def spans(self) -> Iterator[Span]:
        return (node.span for node in self.nodes.values() if node.span is not None)

    def ordered_tops(self) -> list[Node]:
        """Nodes without a known parent, by start time."""
        return sorted(self.tops.values(), key=_by_start)

    def _node(self, span_id: bytes) -> Node:
        node = self.nodes.get(span_id)
        if node is None:
            node = self.nodes[span_id] = self.tops[span_id] = Node(span_id)
        return node

    def _link(self, node: Node, parent: Node) -> None:
        circle = _circle(node, parent)
        if circle:
            # Spans that are each other's ancestors: the smallest id is the top, whatever came first.
            first = min(circle, key=lambda member: member.span_id)
            first.cut = True
            if first is node:
                return
            if first.parent is not None:
                first.parent.release(first)
            self.tops[first.span_id] = first
        parent.adopt(node)
        del self.tops[node.span_id]

    def _rebuild(self, newer: Span) -> None:
        """A span came again with another parent: link everything anew."""
        spans = [span for span in self.spans if span.span_id != newer.span_id]
        version = self.version
        self.nodes, self.tops, self.agents = {}, {}, {}
        for span in (*spans, newer):
            self.add(span)
        self.version = version + 1


def _circle(node: Node, parent: Node) -> list[Node]:
    """The nodes from `parent` up to `node`, if `node` is among them; else nothing."""
    if not node.children and node is not parent:
        return []
    path = []
    above: Node | None = parent
    while above is not None:
        path.append(above)
        if above is node:
            return path
        above = above.parent
    return []
