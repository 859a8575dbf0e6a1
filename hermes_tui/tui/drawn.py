"""What the tree notes of what it has drawn. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hermes_tui.model.joined import Item
from hermes_tui.model.span import Span
from hermes_tui.tui.rows import Row, RowKey


class Mark(NamedTuple):
    """What the rows of a turn depend on, beside the turn: of another mark they are made anew."""

    folded: bool
    status: str
    generation: int
    pulse: tuple[object, ...]


class Drawn(NamedTuple):
    """The row of a span that has ended, and what it was made of."""

    row: Row
    span: Span
    item: Item | None
    retried: bool


NOTHING_DRAWN: Mapping[RowKey, Drawn] = MappingProxyType({})
