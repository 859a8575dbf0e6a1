"""Pure: the next or previous row of a nature, in turns that are folded too."""

from __future__ import annotations

from typing import NamedTuple

from hermes_tui.tui.nature import ERROR
from hermes_tui.tui.outline import TreeOutline
from hermes_tui.tui.rows import Row, RowKey

TURN = 0
"""What is jumped to: a nature, or this."""


class Found(NamedTuple):
    """`at` is the place of its turn, whose rows are `rows`; `wrapped`: it lies the other way."""

    at: int
    rows: list[Row]
    number: int
    wrapped: bool


def jump(tree: TreeOutline, cursor: RowKey | None, wants: int, by: int) -> tuple[RowKey, bool] | None:
    """Unfold the way to the next row of a nature (`by` 1: downward, -1: upward): its key, and whether the
    search went on at the other end. Seen at the tree's next `update`. None: there is no other.
    """
    found = _seek(tree, cursor, wants, by)
    if found is None:
        return None
    tree.open_to(found.at, found.rows, found.number)
    return found.rows[found.number].key, found.wrapped


def _seek(tree: TreeOutline, cursor: RowKey | None, wants: int, by: int) -> Found | None:
    count = tree.turns_shown
    if not count:
        return None
    here = tree.turn_at(cursor)
    rows = tree.look(here, wants)
    own = (number for number, row in enumerate(rows) if row.key == cursor)
    mine = next(own, 0 if cursor is None else 1)  # 1: it is somewhere below a head that was asked for alone
    hits = _hits(rows, wants)
    ahead = [number for number in hits if (number - mine) * by > 0]
    if ahead:
        return Found(here, rows, ahead[0 if by > 0 else -1], False)
    for step in range(1, count):
        at = here + by * step
        wrapped = not 0 <= at < count
        others = tree.look(at % count, wants)
        if numbers := _hits(others, wants):
            return Found(at % count, others, numbers[0 if by > 0 else -1], wrapped)
    behind = [number for number in hits if number != mine]
    return Found(here, rows, behind[0 if by > 0 else -1], True) if behind else None


def _hits(rows: list[Row], wants: int) -> list[int]:
    """Numbers of the rows wanted. A turn that failed without a row that did is an error itself."""
    if wants == TURN:
        return [0]
    hits = [number for number, row in enumerate(rows) if number and row.nature & wants]
    return hits or ([0] if wants == ERROR and rows and rows[0].nature & ERROR else [])
