"""Pure: what the tree's own keys do to it."""

from __future__ import annotations

from typing import NamedTuple

from hermes_tui.tui.jumps import TURN, jump
from hermes_tui.tui.nature import COMMAND, ERROR, FILTERS
from hermes_tui.tui.ordering import NEWEST, ORDERS
from hermes_tui.tui.outline import TreeOutline
from hermes_tui.tui.rows import RowKey

_GOALS = {"error": ERROR, "command": COMMAND, "turn": TURN}


class Told(NamedTuple):
    """Where the cursor goes (None: where it is), and what the user is told, if anything."""

    goal: RowKey | None = None
    says: str = ""


def navigate(tree: TreeOutline, cursor: RowKey | None, what: str, by: int) -> Told:
    """`what` is error, turn, command, all, levels (of all turns), level (of one), filter or order, `by` 1 for
    next or more and -1 else. Changes folds, filter and order, which is seen at the tree's next `update`.
    """
    if what in _GOALS:
        return _jump(tree, cursor, what, by)
    if what == "filter":
        wanted = FILTERS[(FILTERS.index(tree.filter) + by) % len(FILTERS)]
        tree.set_filter(wanted)
        none = "" if not wanted.wants or tree.passes() else ": none"
        return Told(says=f"Only {wanted.name}{none}. Esc shows all." if wanted.wants else "All rows.")
    if what == "order":
        tree.order = ORDERS[(ORDERS.index(tree.order) + by) % len(ORDERS)]
        back = "" if tree.order == NEWEST else " Esc: newest first."
        return Told(says=f"Turns: {tree.order}.{back}")
    if what == "levels":
        level, deepest = tree.level_all(by)
        return Told(says=f"All turns: level {level} of {deepest}." if level else "All turns folded.")
    if what == "all":
        tree.fold_all(folded=by < 0)
    elif cursor is not None:
        tree.level(cursor, by)
    return Told()


def _jump(tree: TreeOutline, cursor: RowKey | None, what: str, by: int) -> Told:
    found = jump(tree, cursor, _GOALS[what], by)
    if found is None:
        return Told(says=f"No other {what}." if cursor is not None else f"No {what}.")
    goal, wrapped = found
    return Told(goal, f"Went on at the {'top' if by > 0 else 'end'}." if wrapped else "")
