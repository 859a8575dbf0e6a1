"""How many tokens a model's context holds, where somebody said so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec


class Window(NamedTuple):
    """`tokens` of context, and who said so: "settings" or "Hermes"."""

    tokens: int
    source: str


class Windows(msgspec.Struct, frozen=True):
    """Windows by model: those of the settings by pattern (`claude-*`), which win, and those Hermes noted by
    name. Where Hermes noted several for a model, as its providers differ, none of them counts.

    Upper and lower case are the same, and a provider before the name ("openrouter/x/name") need not be named.
    Of several patterns that fit, the longest one holds.
    """

    chosen: Mapping[str, int] = msgspec.field(default_factory=dict)
    noted: Collection[tuple[str, int]] = ()

    def of(self, model: str) -> Window | None:
        """The window of a model; None: nobody said."""
        names = _names(model)
        fitting = [
            (len(pattern), pattern, tokens)
            for pattern, tokens in self.chosen.items()
            if any(fnmatchcase(name, pattern.lower()) for name in names)
        ]
        if fitting:
            return Window(max(fitting)[2], "settings")
        found = {tokens for name, tokens in self.noted if set(_names(name)) & set(names)}
        return Window(found.pop(), "Hermes") if len(found) == 1 else None


def _names(model: str) -> list[str]:
    """A model's name, and the same without what is before it."""
    name = model.strip().lower()
    return [name, name.rpartition("/")[2]] if name else []
