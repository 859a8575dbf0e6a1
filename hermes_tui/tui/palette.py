"""The command palette's entries: what the keys do where the user is, the views, and what has no key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text
from textual.binding import ActiveBinding
from textual.command import DiscoveryHit, Hit, Hits, Provider

from hermes_tui import neutral
from hermes_tui.tui.screens.help import key_names

if TYPE_CHECKING:
    from hermes_tui.tui.hands import Hands

_MOVES = ("move", "page", "edge", "scroll", "cursor", "neighbour", "command_palette")
"""Actions, by how they begin, that only make sense pressed again and again."""

_TEXTUALS = ("focus_", "copy_text", "help_quit", "suspend_process", "maximize", "minimize")
"""Those of every Textual screen: they are for forms."""


class _Entry(NamedTuple):
    title: str
    help: str
    run: Callable[[], object]


class Actions(Provider):
    """Reads the bindings that hold when the palette is opened, so that it never says what is not so."""

    async def discover(self) -> Hits:
        for entry in self._entries():
            yield DiscoveryHit(Text(entry.title), entry.run, text=entry.title, help=entry.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for entry in self._entries():
            if (score := matcher.match(entry.title)) > 0:
                yield Hit(score, matcher.highlight(entry.title), entry.run, text=entry.title, help=entry.help)

    def _entries(self) -> Iterator[_Entry]:
        """One for each action, with all its keys."""
        found: dict[tuple[str, str], tuple[list[str], Callable[[], object]]] = {}
        found_keys = sorted(self.screen.active_bindings.items(), key=self._order)
        for key, (node, binding, enabled, _) in found_keys:
            action = binding.action.removeprefix("app.").removeprefix("screen.")
            if not enabled or not binding.description or action.startswith(_MOVES + _TEXTUALS):
                continue
            run: Callable[[], object] = partial(self.app.run_action, binding.action, node)
            found.setdefault((binding.description, binding.action), ([], run))[0].append(key)
        for (title, _), (keys, run) in found.items():
            yield _Entry(neutral.line(title), f"Key {key_names(','.join(keys))}", run)
        app: Hands = self.app  # type: ignore[assignment]
        for title, about, command in app.more_commands():
            yield _Entry(neutral.line(title), about, command)

    def _order(self, entry: tuple[str, ActiveBinding]) -> tuple[bool, bool, bool]:
        """The views, the pane's other commands as they were declared, then those of what has the focus."""
        node, binding = entry[1].node, entry[1].binding
        return binding.action == "quit", node is not self.app, not binding.action.startswith("view(")
