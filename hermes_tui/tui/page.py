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
_FULL_LINES = 5_000
_FULL_CHARS = 300_000
_PAGE_LINES, _PAGE_CHARS = 10_000, 600_000  # of a page, after which every value is shown short even if `full`
_LAID_OUT = 200_000  # characters of JSON that are laid out, unless `full`
_LAID_MOST = 900_000  # characters of lines that a value is laid out in, indents and all
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
        self._lines_of_values = 0

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
        lines, rest, limit = self._lines(text)
        for line in lines:
            self.text.append(f"{indent}{line}\n", style)
        self._left_out(text, limit, rest, indent)

    def code(self, text: str, language: str) -> None:
        """A program's text, as `value`, with what its words are told apart."""
        lines, rest, limit = self._lines(text)
        self.text.append(highlighted("\n".join(lines), language)).append("\n")
        self._left_out(text, limit, rest, "")

    def output(self, text: str) -> None:
        """What a program printed, as a terminal would have left it."""
        self.value(laid_out(text, _FULL_CHARS if self.full else _PRINTED))

    def _lines(self, text: str) -> tuple[list[str], list[str], int]:
        """The harmless lines of a value's beginning that are shown, those that are not, and how many
        characters that beginning has at most.
        """
        limit, count = _CHARS, _LINES
        if self.full:
            limit = max(limit, min(_FULL_CHARS, _PAGE_CHARS - len(self.text)))
            count = max(count, min(_FULL_LINES, _PAGE_LINES - self._lines_of_values))
        lines = neutral.block(text[:limit]).rstrip("\n").split("\n")
        self._lines_of_values += min(count, len(lines))
        return lines[:count], lines[count:], limit

    def _left_out(self, text: str, limit: int, rest: list[str], indent: str) -> None:
        hidden = max(0, len(text) - limit) + len("\n".join(rest))
        if hidden > 0:
            hint = ": y or Y copies all of it, X exports it" if self.full else ", x shows more"
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
    lines = _Lines(_LAID_MOST)
    try:
        _lay_out(value, "", lines, _FULL_CHARS if full else _STRING)
    except RecursionError:
        return str(value)
    if lines.room <= 0:
        lines.append("(only its beginning is laid out)")
    return "\n".join(lines)


class _Lines(list[str]):
    """Lines of a value that is laid out; `room` is how many characters more are wanted."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def add(self, line: str) -> None:
        self.append(line)
        self.room -= len(line) + 1


def _lay_out(value: Any, indent: str, lines: _Lines, limit: int) -> None:
    items: Iterable[tuple[str, Any]]
    if isinstance(value, dict):
        items = ((f"{key}:", each) for key, each in value.items())
    elif isinstance(value, list):
        items = (("-", each) for each in value)
    else:
        for line in _scalar(value, limit).split("\n"):
            lines.add(f"{indent}{line}")
        return
    before = len(lines)
    for head, each in items:
        if lines.room <= 0:
            return
        if isinstance(each, dict | list) and each:
            lines.add(f"{indent}{head}")
            _lay_out(each, f"{indent}  ", lines, limit)
            continue
        first, *rest = _scalar(each, limit).split("\n")
        lines.add(f"{indent}{head} {first}")
        for line in rest:
            lines.add(f"{indent}  {line}")
    if len(lines) == before:
        lines.add(f"{indent}{'{}' if isinstance(value, dict) else '[]'}")


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
