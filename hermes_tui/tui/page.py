"""A page of details as styled text: everything put on it is neutralised here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.text import Text

from hermes_tui import neutral
from hermes_tui.printed import laid_out
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.highlight import highlighted

_LINES = 30  # of one value, unless `full`
_CHARS = 3_000
_FULL_CHARS = 400_000
_LAID_OUT = 200_000  # characters of JSON that are laid out, unless `full`
_PRINTED = 40_000  # of what a program printed that are laid out, unless `full`
_STRING = 600  # characters of one string inside a laid out JSON value, unless `full`
_NAME = 1_000  # characters of a name, an id, a key

HEADING = "bold"
DIM = "dim"


class Page:
    """Collects styled lines. Everything added is neutralised here."""

    def __init__(self, glyphs: Glyphs, *, full: bool) -> None:
        self.text = Text()
        self.glyphs = glyphs
        self.full = full

    def heading(self, title: str) -> None:
        if self.text:
            self.text.append("\n")
        self.text.append(f"{title}\n", HEADING)

    def line(self, text: str, style: str = "") -> None:
        self.text.append(f"{self.cut(text)}\n", style)

    def cut(self, text: str) -> str:
        """One harmless line of bounded length: names, keys and ids come from outside too."""
        more = self.glyphs.more if len(text) > _NAME else ""
        return neutral.line(text[:_NAME]) + more

    def field(self, name: str, value: str, style: str = "") -> None:
        self.text.append(f"{name:<12} ", DIM)
        self.text.append(f"{self.cut(value)}\n", style)

    def value(self, text: str, *, indent: str = "", style: str = "") -> None:
        """A value of any length: whole lines up to the limit, then how much is left out."""
        lines, limit = self._lines(text)
        count = len(lines) if self.full else _LINES
        for line in lines[:count]:
            self.text.append(f"{indent}{line}\n", style)
        self._left_out(text, limit, lines[count:], indent)

    def code(self, text: str, language: str) -> None:
        """A program's text, as `value`, with what its words are told apart."""
        lines, limit = self._lines(text)
        count = len(lines) if self.full else _LINES
        self.text.append(highlighted("\n".join(lines[:count]), language)).append("\n")
        self._left_out(text, limit, lines[count:], "")

    def output(self, text: str) -> None:
        """What a program printed, as a terminal would have left it."""
        self.value(laid_out(text, _FULL_CHARS if self.full else _PRINTED))

    def _lines(self, text: str) -> tuple[list[str], int]:
        """The harmless lines of a value's beginning, and how many characters that is at most."""
        limit = _FULL_CHARS if self.full else _CHARS
        return neutral.block(text[:limit]).rstrip("\n").split("\n"), limit

    def _left_out(self, text: str, limit: int, rest: list[str], indent: str) -> None:
        hidden = max(0, len(text) - limit) + len("\n".join(rest))
        if hidden > 0:
            hint = "" if self.full else ", x shows more"
            self.text.append(f"{indent}{self.glyphs.more} {hidden:,} more characters{hint}\n", DIM)


def lay_out(value: Any, *, full: bool = False) -> str:
    """A value for reading: JSON indented with its line breaks as such, other text as it is."""
    if isinstance(value, str):
        text = value.strip()
        if text[:1] not in ("{", "["):
            return value
        if len(text) > _LAID_OUT and not full:
            return text  # only its beginning is shown anyway
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
    lines: list[str] = []
    try:
        _lay_out(value, "", lines, _FULL_CHARS if full else _STRING)
    except RecursionError:
        return str(value)
    return "\n".join(lines)


def _lay_out(value: Any, indent: str, lines: list[str], limit: int) -> None:
    items: Iterable[tuple[str, Any]]
    if isinstance(value, dict):
        items = ((f"{key}:", each) for key, each in value.items())
    elif isinstance(value, list):
        items = (("-", each) for each in value)
    else:
        lines.extend(f"{indent}{line}" for line in _scalar(value, limit).split("\n"))
        return
    before = len(lines)
    for head, each in items:
        if isinstance(each, dict | list) and each:
            lines.append(f"{indent}{head}")
            _lay_out(each, f"{indent}  ", lines, limit)
            continue
        first, *rest = _scalar(each, limit).split("\n")
        lines.append(f"{indent}{head} {first}")
        lines.extend(f"{indent}  {line}" for line in rest)
    if len(lines) == before:
        lines.append(f"{indent}{'{}' if isinstance(value, dict) else '[]'}")


def _scalar(value: Any, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[:limit]} … {len(text) - limit:,} more characters"


def clock(ns: int) -> str:
    """Local date and time with milliseconds."""
    try:
        when = datetime.fromtimestamp(ns // 1_000_000_000).astimezone()
    except (OverflowError, ValueError, OSError):
        return f"{ns} ns"
    return f"{when:%Y-%m-%d %H:%M:%S}.{ns // 1_000_000 % 1000:03}"
