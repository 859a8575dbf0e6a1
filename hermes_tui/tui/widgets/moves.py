"""The keys of every list and page: vi's, arrows, and the keys with words on them."""

from __future__ import annotations

from textual.binding import Binding, BindingType

MOVES: tuple[BindingType, ...] = (
    Binding("up,k", "move(-1)", "Up", show=False),
    Binding("down,j", "move(1)", "Down", show=False),
    Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
    Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
    Binding("home,g", "edge(-1)", "First row", show=False),
    Binding("end,G", "edge(1)", "Last row", show=False),
    Binding("enter", "pick", "Details", show=False),
)
"""Whoever takes them has `action_move`, `action_page`, `action_edge` and `action_pick`."""
