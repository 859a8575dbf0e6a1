"""The lines of a transcript's entries that are laid out: those looked at longest ago are let go."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from hermes_tui.model.transcript import Entry
from hermes_tui.tui.script import Place
from hermes_tui.tui.transcript_lines import Look, Parts

_LINES = 20_000  # that are kept


class Laid(NamedTuple):
    """An entry's lines for a look; `read`: its whole texts are in them."""

    entry: Entry
    look: Look
    state: str
    read: bool
    lines: tuple[Parts, ...]


class LaidLines:
    """By the place of their entry."""

    def __init__(self) -> None:
        self._laid: OrderedDict[Place, Laid] = OrderedDict()
        self._held = 0

    def get(self, place: Place) -> Laid | None:
        """Does not count as looked at; `use` does."""
        return self._laid.get(place)

    def use(self, place: Place) -> None:
        self._laid.move_to_end(place)

    def keep(self, place: Place, laid: Laid) -> None:
        before = self._laid.pop(place, None)
        self._held += len(laid.lines) - (len(before.lines) if before is not None else 0)
        self._laid[place] = laid
        while self._held > _LINES and len(self._laid) > 1:
            _, gone = self._laid.popitem(last=False)
            self._held -= len(gone.lines)

    def clear(self) -> None:
        self._laid.clear()
        self._held = 0
