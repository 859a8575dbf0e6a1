"""What the user wants of folds. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hermes_tui.tui.rows import TURN_KINDS, RowKey


class Folds(msgspec.Struct):
    """`said` of single rows; `bent` are the turns in which rows were folded; `levels` how much is shown of
    single turns, `level` of the others (None: everything). `held` are turns that stay open because somebody
    reads in them. `all_open`: a turn of which nothing was said is open, else only the newest.
    """

    said: dict[RowKey, bool] = msgspec.field(default_factory=dict)
    bent: set[RowKey] = msgspec.field(default_factory=set)
    levels: dict[RowKey, int] = msgspec.field(default_factory=dict)
    held: set[RowKey] = msgspec.field(default_factory=set)
    all_open: bool = False
    level: int | None = None

    def folded(self, keys: Iterable[RowKey], *, newest: bool) -> bool:
        """Whether a turn is, by all its names."""
        keys = tuple(keys)
        said = next((self.said[key] for key in keys if key in self.said), None)
        if said is not None:
            return said
        return not (self.all_open or newest) and self.held.isdisjoint(keys)

    def set_all(self, folded: bool, newest: Iterable[RowKey]) -> None:
        """Fold or unfold every turn, `newest` those that would be open by themselves."""
        self.said = {key: said for key, said in self.said.items() if key[2] not in TURN_KINDS}
        self.held.clear()
        self.all_open = not folded
        self.level = None
        if folded:
            self.said.update(dict.fromkeys(newest, True))

    def set_level(self, level: int, newest: Iterable[RowKey]) -> None:
        """Show so many levels of every turn, whatever was said of single rows."""
        for each in (self.said, self.bent, self.levels):
            each.clear()
        self.set_all(not level, newest)
        self.level = level or None
