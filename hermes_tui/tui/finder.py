"""The search in the shown session: what is looked for, what was found, and the way from hit to hit."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import NamedTuple

from hermes_tui.model.joined import JoinedTurn
from hermes_tui.model.needle import Needle
from hermes_tui.model.results import COMMAND_TOOLS
from hermes_tui.model.span import Span
from hermes_tui.model.tree import Node
from hermes_tui.tui.hits import Group, Hits
from hermes_tui.tui.messages import HitsFound
from hermes_tui.tui.outline import TreeOutline
from hermes_tui.tui.rows import RowKey, item_key, shown, turn_keys
from hermes_tui.tui.scanner import Quest, Scanner
from hermes_tui.tui.shown import ShownSession

_WORD = 24  # characters of what is searched for that are told


class Told(NamedTuple):
    """How a search stands, in words: `place` is short, `more` may be left out."""

    word: str
    place: str
    more: str


class Finder:
    """`look` for a text, `take` what is found, `step` from hit to hit. Empty text: no search."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._serial = 0
        self._horizon = 0
        self._forget(Needle(""))

    def _forget(self, needle: Needle) -> None:
        self.needle = needle
        self.rows_done = self.done = self.bounded = False
        self._hits = Hits()
        self._shown: ShownSession | None = None
        self._turns: list[JoinedTurn] = []
        self._looks = 0
        self._groups: tuple[object, list[Group]] = (None, [])
        self._order: tuple[object, list[RowKey]] = (None, [])
        self._opened: list[RowKey] = []

    @property
    def active(self) -> bool:
        return bool(self.needle)

    # --- what is searched

    def look(self, text: str, shown: ShownSession) -> None:
        """Search a session for a text, from the beginning."""
        self._forget(Needle(text))
        self._serial += 1
        if not text:
            self._scanner.ask(None)
            return
        self._shown, self._turns = shown, list(shown.turns)
        trees = list(shown.forest.trees.values())
        self._scanner.ask(Quest(self._serial, self.needle, trees, self._turns))

    def begin(self, shown: ShownSession, *, again: bool) -> None:
        """A session is read from its beginning. `again`: the same one, in which the search goes on."""
        self._horizon = 0
        self.look(self.needle.text if again else "", shown)

    def arrived(self, spans: list[Span], known: Set[bytes]) -> None:
        """Spans came into the session, which had these traces before: search those that are new in it.

        A span that only moved on to MLflow comes again from a request that was searched.
        """
        horizon = self._horizon
        fresh = [span for span in spans if span.request >= horizon or span.trace_id not in known]
        self._horizon = max([horizon, *(span.request for span in fresh)])
        if fresh and self.active:
            self.done = False
            self._scanner.also(fresh, [])

    def refreshed(self) -> None:
        """The session's rows are up to date: search the turns that changed for what records say of them."""
        shown = self._shown
        if shown is None:
            return
        known = {id(turn) for turn in self._turns}
        changed = [turn for turn in shown.turns if id(turn) not in known]
        self._turns = list(shown.turns)  # also keeps them alive, so that no other gets an id of theirs
        if changed:
            self.done = False
            self._looks += 1
            self._scanner.also([], changed)

    def take(self, message: HitsFound) -> bool:
        """More was found; False when that was for another search."""
        if message.serial != self._serial:
            return False
        self._hits.take(message.spans, message.records)
        self.rows_done, self.done, self.bounded = message.rows, message.done, message.bounded
        return True

    # --- the hits

    def groups(self, *, commands: bool) -> list[Group]:
        """The hits by turn, in the order of the view."""
        if self._shown is None:
            return []
        tree = self._shown.tree
        mark = (commands, self._hits.version, tree.raw, tree.order, tree.arrangement, self._looks)
        if self._groups[0] != mark:
            self._groups = mark, self._hits.groups(self._shown, commands=commands)
        return self._groups[1]

    def marked(self, *, commands: bool) -> set[RowKey]:
        """The rows that hits are on, and those of their turns."""
        groups = self.groups(commands=commands)
        return {key for group in groups for key in (group.head, *group.rows)}

    def told(self, cursor: RowKey | None, *, commands: bool) -> Told:
        """The footer's words; `cursor` is the row that the user is at."""
        groups = self.groups(commands=commands)
        total, place, where = 0, 0, ""
        for group in groups:
            if cursor is not None and cursor in group.rows:
                order = self._ordered(group, commands=commands)
                place = total + order.index(cursor) + 1 if cursor in order else 0
                where = shown(group.rows[cursor])[:_WORD]  # an attribute's name is a sender's
            total += len(group.rows)
        count = f"at least {total:,}" if self.bounded else f"{total:,}"
        if not total:
            count = "no hits" if self.done else ""
        more = "" if self.done else "searching…"
        word = shown(self.needle.text)[:_WORD]
        return Told(f"/{word}", f"{place:,}/{count}" if place else count, more or where)

    # --- from hit to hit

    def step(
        self, cursor: RowKey | None, by: int, *, commands: bool, here: bool = False, keep: bool = True
    ) -> RowKey | None:
        """The next hit below (`by` 1) or above (-1) the cursor's row, round the end; `here`: or that row.

        What hides it is unfolded, until `fold_back` unless `keep`.
        """
        shown, groups = self._shown, self.groups(commands=commands)
        if shown is None or not groups:
            return None
        home, at = self._home(cursor, commands=commands)
        first = next((n for n, group in enumerate(groups) if group.at >= at), 0)
        if by < 0:
            first = next((n for n in reversed(range(len(groups))) if groups[n].at <= at), len(groups) - 1)
        for offset in range(len(groups) + 1):
            group = groups[(first + by * offset) % len(groups)]
            own = group.at == at and not offset
            if own and by < 0 and cursor == home and not commands:
                continue  # nothing of a turn is above its own row
            if not commands:
                self._unfold(group, keep=keep)
            order = self._ordered(group, commands=commands)
            if own:
                order = self._beyond(group, order, cursor, by, here=here, commands=commands)
            if order:
                return order[0 if by > 0 else -1]
        return None

    def fold_back(self) -> None:
        """Fold what was unfolded on the way, not to stay so."""
        shown, opened = self._shown, self._opened
        self._opened = []
        if shown is not None and opened:
            for key in opened:
                shown.tree.set_fold(key, True)
            shown.tree.update(shown.turns, shown.moment)

    def stay(self) -> None:
        """What was unfolded stays so."""
        self._opened = []

    def _home(self, cursor: RowKey | None, *, commands: bool) -> tuple[RowKey | None, int]:
        """The head of the turn that a row is in, and its place in the view."""
        assert self._shown is not None
        turns = self._shown.turns if commands else self._shown.tree.arranged
        turn = self._shown.find(cursor).turn
        if turn is None:
            return None, 0
        at = next((at for at, each in enumerate(turns) if each is turn), 0)
        return turn_keys(turn)[0], at

    def _ordered(self, group: Group, *, commands: bool) -> list[RowKey]:
        """The hits of a turn in the order of its rows; only those that are not hidden."""
        assert self._shown is not None
        if commands:
            listed = self._shown.commands
            keys = (item_key(item) for item in group.turn.items if item.tool in COMMAND_TOOLS)
            found = [key for key in keys if key in group.rows]
            return [key for key in found if listed.find(key) is not None] if listed.sifted else found
        tree = self._shown.tree
        mark = (group.head, self._hits.version, tree.built, len(tree))
        if self._order[0] != mark:
            self._order = mark, list(_keys(tree, group))
        return self._order[1]

    def _beyond(
        self, group: Group, order: list[RowKey], cursor: RowKey | None, by: int, *, here: bool, commands: bool
    ) -> list[RowKey]:
        """Those of a turn's hits that are behind the cursor's row in the direction."""
        assert self._shown is not None
        if cursor in order:
            at = order.index(cursor)
            return order[at + (not here) :] if by > 0 else order[: at + here]
        source = self._shown.commands if commands else self._shown.tree
        line = source.find(cursor)
        if line is None:
            return order
        # Few compared to the rows: halve until the first hit below the cursor is found.
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            if (source.find(order[middle]) or 0) < line:
                low = middle + 1
            else:
                high = middle
        return order[low:] if by > 0 else order[:low]

    def _unfold(self, group: Group, *, keep: bool) -> None:
        """Show all hits of a turn with all that they hang below."""
        shown = self._shown
        assert shown is not None
        tree = shown.tree
        if set(group.rows) <= {group.head}:
            return
        line = tree.find(group.head)
        opened = line is not None and tree.row(line).marker == tree.glyphs.folded
        if opened:
            tree.set_fold(group.head, False)
            if not keep:
                self._opened.append(group.head)
        elif len(self._ordered(group, commands=False)) == len(group.rows):
            return  # all of them are to be seen
        seen: set[bytes] = set()
        for trace_id, name, kind in group.rows:
            trace = shown.forest.trees.get(trace_id) if kind == "span" else None
            for above in _above(trace.nodes[name], seen) if trace is not None else ():
                tree.unfold((trace_id, above.span_id, "span"))
        tree.update(shown.turns, shown.moment)


def _keys(tree: TreeOutline, group: Group) -> Iterator[RowKey]:
    """The keys of the rows of a turn that hits are on."""
    line, count = tree.find(group.head), len(group.rows)
    while line is not None and line < len(tree) and count:
        row = tree.row(line)
        if row.depth == 0 and row.key != group.head:
            return
        if row.key in group.rows:
            count -= 1
            yield row.key
        line += 1


def _above(node: Node, seen: set[bytes]) -> Iterator[Node]:
    """What a span hangs below, as far as it was not asked for before."""
    above = node.parent or node.home
    while above is not None and above.span_id not in seen:
        seen.add(above.span_id)
        yield above
        above = above.parent or above.home
