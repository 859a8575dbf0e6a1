"""The session that the pane shows: its spans folded, its rows, its header. No I/O, no widgets."""

from __future__ import annotations

from collections.abc import Iterable

from hermes_tui import neutral
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Span
from hermes_tui.model.tree import Node
from hermes_tui.model.turns import Totals, Turn
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.outline import CommandsOutline, TreeOutline
from hermes_tui.tui.rows import RowKey
from hermes_tui.tui.trust import RelaySays, session_word
from hermes_tui.tui.widgets.bars import HeaderData


class ShownSession:
    """One session: `add` spans, `refresh`, then read rows and header."""

    def __init__(self, session: str, glyphs: Glyphs) -> None:
        self.id = session
        self.glyphs = glyphs
        self.forest = Forest(session)
        self.tree = TreeOutline(glyphs)
        self.commands = CommandsOutline(glyphs)
        self.totals = Totals()

    def add(self, spans: Iterable[Span]) -> int:
        """Take spans in; how many were new or changed."""
        return self.forest.add(spans)

    def news(self, spans: Iterable[Span]) -> int:
        """How many of these are finished spans that were not here before."""
        return sum(not span.running and not self._knows(span) for span in spans)

    def _knows(self, span: Span) -> bool:
        tree = self.forest.trees.get(span.trace_id)
        node = tree.nodes.get(span.span_id) if tree is not None else None
        return node is not None and node.span is not None and not node.span.running

    def refresh(self, now_ns: int) -> None:
        """Bring rows and totals up to date with what was added, and with the clock."""
        dirty = self.forest.refresh()
        self.tree.update(self.forest.turns, dirty, now_ns)
        self.commands.update(self.forest.turns, dirty, now_ns)
        if dirty:
            self.totals = self.forest.totals()

    def status(self, now_ns: int) -> str:
        return self.forest.status(now_ns)

    def header(self, says: RelaySays, trouble: str, now_ns: int) -> HeaderData:
        """What the header says of this session."""
        totals, usage = self.totals, self.totals.usage
        status = self.status(now_ns)
        newest_first = reversed(self.forest.turns)
        running = next((turn for turn in newest_first if turn.status(now_ns) == "running"), None)
        return HeaderData(
            session=self.id,
            model=neutral.line(totals.model or ""),
            source=neutral.line(totals.source or ""),
            status=status,
            since_ns=running.start_ns if running is not None else 0,
            lasted_s=max(0, totals.last_ns - totals.first_ns) / 1e9,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_tokens=usage.cache_read_tokens,
            cost=usage.cost,
            delivery=session_word(totals, says, self.glyphs),
            trouble=trouble,
        )

    def find(self, key: RowKey | None) -> tuple[Span | None, Turn | None]:
        """The span and turn of a row; the span is None while it has not come."""
        if key is None:
            return None, None
        trace_id, name, kind = key
        if kind == "turn":
            turn = next((each for each in self.forest.turns if each.key == (trace_id, name)), None)
            return (turn.span if turn is not None else None), turn
        view, tree = self.forest.views.get(trace_id), self.forest.trees.get(trace_id)
        node: Node | None = tree.nodes.get(name) if tree is not None else None
        return (node.span if node else None), (view.turn_of.get(name) if view is not None else None)

    def reveal(self, key: RowKey, now_ns: int) -> None:
        """Unfold what hides a row."""
        trace_id, span_id, kind = key
        _, turn = self.find(key)
        if turn is None or kind == "turn":
            return
        self.tree.set_fold((*turn.key, "turn"), False)
        node = self.forest.trees[trace_id].nodes[span_id]
        above = node.parent or node.home
        while above is not None:
            self.tree.unfold((trace_id, above.span_id, "span"))
            above = above.parent or above.home
        self.tree.update(self.forest.turns, (), now_ns)
