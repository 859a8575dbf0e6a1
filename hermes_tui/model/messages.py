"""The messages of one session in the order in which Hermes wrote them, each with what in it is new."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from msgspec.structs import replace

from hermes_tui.model.copies import COPIED_NS, TOGETHER_NS, Copies
from hermes_tui.model.state_rows import BeforeRow, MessageRow

_FAR = 2**63


class Messages:
    """`take` rows in any order and more than once; `news` are those that were not handed on yet.

    `stale`: something changed among those that were, `begin` again.
    """

    def __init__(self) -> None:
        self._rows: dict[int, MessageRow] = {}
        self._ids: list[int] = []
        self._looks: dict[int, int] = {}  # that found a row first, where a later one found it again
        self._before: BeforeRow | None = None
        self._copies = Copies()
        self._last = -1
        self.stale = False

    def __bool__(self) -> bool:
        return bool(self._rows) or self._before is not None

    def take(self, row: MessageRow) -> None:
        known = self._rows.get(row.id)
        if known is not None:
            self._find_again(row, known)
            return
        self._rows[row.id] = row
        if not self._ids or row.id > self._ids[-1]:
            if self._copies.unsure and _apart(row, self._rows[self._ids[-1]]) <= self._reach():
                self.stale = True  # copies are written at one moment: the one before it is one
            self._ids.append(row.id)
        else:
            insort(self._ids, row.id)
            self.stale = True

    def goes_on(self, row: BeforeRow) -> None:
        """Take what is known of the session that this one goes on from."""
        known = self._before
        if known is None or (row.revision, row.told) > (known.revision, known.told):
            self._before = row
            self.stale = self.stale or known is None or known.told != row.told

    def forget(self, revision: int) -> None:
        """Drop what was read before `revision`."""
        self._rows = {name: row for name, row in self._rows.items() if row.revision >= revision}
        self._ids = sorted(self._rows)
        self._looks = {name: look for name, look in self._looks.items() if look >= revision}
        if self._before is not None and self._before.revision < revision:
            self._before = None
        self.stale = True

    def begin(self) -> None:
        """Hand everything on again."""
        self.stale = False
        self._last = -1
        self._copies = Copies(self._before.told if self._before is not None else ())

    def news(self) -> Iterator[tuple[MessageRow, MessageRow | None]]:
        """Each message that counts, and of it what Hermes had not noted before (None: nothing).

        Its revision is that of the look which found it first.
        """
        for place in range(bisect_right(self._ids, self._last), len(self._ids)):
            self._last = self._ids[place]
            row = self._rows[self._last]
            if row.role not in ("user", "assistant", "tool"):
                continue
            fresh = self._copies.fresh(row, self._near(place))  # what was taken back may have been a copy too
            if row.active:
                look = self._looks.get(row.id, row.revision)
                yield row, fresh and replace(fresh, revision=look)

    def _find_again(self, row: MessageRow, known: MessageRow) -> None:
        look = self._looks.get(row.id, known.revision)
        if row.revision != known.revision:
            self._looks[row.id] = min(look, row.revision)
            self.stale = self.stale or row.revision < look
        if (row.revision, repr(row)) > (known.revision, repr(known)):
            self._rows[row.id] = row
            self.stale = self.stale or replace(known, revision=row.revision) != row

    def _near(self, place: int) -> int:
        """How far the nearest row beside one is in time."""
        row = self._rows[self._ids[place]]
        beside = [*self._ids[max(0, place - 1) : place], *self._ids[place + 1 : place + 2]]
        return min((_apart(row, self._rows[name]) for name in beside), default=_FAR)

    def _reach(self) -> int:
        return TOGETHER_NS if self._before is None else COPIED_NS


def _apart(row: MessageRow, other: MessageRow) -> int:
    return abs(row.at_ns - other.at_ns)
