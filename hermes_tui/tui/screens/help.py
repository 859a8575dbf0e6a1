"""The keys, from the real bindings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen
from textual.widgets import Static

from hermes_tui.tui.glyphs import Glyphs

_NAMES = {
    "less_than_sign": "<", "greater_than_sign": ">", "plus": "+", "minus": "-", "equals_sign": "=",
    "question_mark": "?", "left_square_bracket": "[", "right_square_bracket": "]", "escape": "esc",
    "pageup": "PgUp", "pagedown": "PgDn",
}  # fmt: skip


def _legend(glyphs: Glyphs) -> tuple[tuple[str, str], ...]:
    ends = f"{glyphs.good} {glyphs.bad} {glyphs.stopped} {glyphs.background}"
    return (
        (glyphs.command, "terminal command"), (glyphs.llm, "model call"), (glyphs.tool, "other tool"),
        (glyphs.approval, "approval"), (glyphs.subagent, "subagent"), (glyphs.skill, "skill"),
        (glyphs.retry, "made again after it failed"),
        (glyphs.missing, "span that has not come"), (ends, "done, failed, interrupted, in background"),
        (glyphs.flag, "command that deserves a look"),
        (f"{glyphs.reviewed} in front", "command you have reviewed"),
    )  # fmt: skip


class HelpScreen(ModalScreen[None]):
    """What each key does here; made from the bindings themselves, so that it cannot be wrong."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close"),
        Binding("j", "scroll(1)", "Down", show=False),
        Binding("k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, bindings: list[tuple[str, str]], glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._bindings_shown = bindings

    def compose(self) -> ComposeResult:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for keys, what in self._bindings_shown:
            table.add_row(Text(keys), Text(what))
        table.add_row("", "")
        for glyph, what in _legend(self._glyphs):
            table.add_row(Text(glyph), Text(what))
        with VerticalScroll(id="help"):
            yield Static(Text("Keys", "bold"))
            yield Static(table)

    def action_scroll(self, by: int) -> None:
        self.query_one("#help").scroll_relative(y=by, animate=False)


def declared_keys(owners: Iterable[type[DOMNode]]) -> list[tuple[str, str]]:
    """Keys and what they do, from the bindings of some classes; what several declare is said once."""
    names: dict[str, list[str]] = {}
    for owner in owners:
        for binding in owner.BINDINGS:
            if isinstance(binding, Binding):
                names.setdefault(binding.description, []).extend(key_names(binding.key).split())
    return [(" ".join(dict.fromkeys(keys)), what) for what, keys in names.items()]


def key_names(keys: str) -> str:
    """Keys as they are printed on the keyboard."""
    return " ".join(_NAMES.get(key.strip(), key.strip()) for key in keys.split(","))
