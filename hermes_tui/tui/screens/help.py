"""The keys, from the real bindings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

_ROOMY = 50  # columns from which all keys of an action stand in a line
_KEYS, _NARROW_KEYS = 16, 8  # cells

_NAMES = {
    "less_than_sign": "<", "greater_than_sign": ">", "plus": "+", "minus": "-", "equals_sign": "=",
    "question_mark": "?", "slash": "/", "left_square_bracket": "[", "right_square_bracket": "]",
    "left_parenthesis": "(", "right_parenthesis": ")", "escape": "esc", "pageup": "PgUp", "pagedown": "PgDn",
}  # fmt: skip


def _legend(glyphs: Glyphs) -> tuple[tuple[str, str], ...]:
    ends = f"{glyphs.good} {glyphs.bad} {glyphs.stopped} {glyphs.background}"
    return (
        (glyphs.command, "terminal command"), (glyphs.llm, "model call"), (glyphs.tool, "other tool"),
        (glyphs.approval, "approval"), (glyphs.subagent, "subagent"), (glyphs.skill, "skill"),
        (glyphs.retry, "made again after it failed"),
        (glyphs.missing, "span that has not come"), (ends, "done, failed, interrupted, in background"),
        (glyphs.none, "background review that ended with Hermes"),
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

    def __init__(self, keys: Mapping[str, Sequence[tuple[str, str]]], glyphs: Glyphs) -> None:
        """`keys` and what they do, by where they do it."""
        super().__init__()
        self._glyphs = glyphs
        self._keys = keys

    def compose(self) -> ComposeResult:
        tables = {**self._keys, "Signs": _legend(self._glyphs)}
        narrow = self.app.size.width < _ROOMY
        with VerticalScroll(id="help"):
            for title, rows in tables.items():
                table = Table(box=None, pad_edge=False, show_header=False)
                table.add_column(style="bold", width=_NARROW_KEYS if narrow else _KEYS)
                table.add_column()
                for keys, what in rows:
                    table.add_row(Text(keys), Text(what))
                yield Static(Text(title, "bold underline"))
                yield Static(table, classes="keys")

    def action_scroll(self, by: int) -> None:
        self.query_one("#help").scroll_relative(y=by, animate=False)


def declared_keys(places: Mapping[str, Iterable[type[DOMNode]]]) -> dict[str, list[tuple[str, str]]]:
    """Keys and what they do by where they do it, from the bindings of the classes there. What a place
    declares again is said once, where it comes first.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    said: set[tuple[str, str]] = set()
    for place, owners in places.items():
        names: dict[str, list[str]] = {}
        for owner in owners:
            for binding in owner.BINDINGS:
                if isinstance(binding, Binding):
                    what = binding.description
                    fresh = (key for key in key_names(binding.key).split() if (key, what) not in said)
                    names.setdefault(what, []).extend(fresh)
        rows = [(" ".join(dict.fromkeys(keys)), what) for what, keys in names.items() if keys]
        said |= {(key, what) for keys, what in rows for key in keys.split()}
        if rows:
            found[place] = rows
    return found


def key_names(keys: str) -> str:
    """Keys as they are printed on the keyboard."""
    return " ".join(_NAMES.get(key.strip(), key.strip()) for key in keys.split(","))
