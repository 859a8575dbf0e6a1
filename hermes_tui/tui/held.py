"""What came while the view is paused. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Span


class Held:
    """Spans that are not shown yet; its length is how many of them are not known by an earlier version."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._new: set[tuple[bytes, bytes]] = set()

    def __len__(self) -> int:
        return len(self._new)

    def add(self, spans: Iterable[Span], known: Forest) -> int:
        """Hold spans back; how many came."""
        before = len(self.spans)
        for span in spans:
            self.spans.append(span)
            tree = known.trees.get(span.trace_id)
            node = tree.nodes.get(span.span_id) if tree is not None else None
            if node is None or node.span is None:
                self._new.add((span.trace_id, span.span_id))
        return len(self.spans) - before
