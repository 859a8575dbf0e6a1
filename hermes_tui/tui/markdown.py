"""Markdown as styled lines of a width, cheaply: headings, lists, quotes, code, emphasis. Pure.

Only what reads better with a style is looked at; everything else stays as it was written, and nothing
becomes a link. Rich's renderer draws boxes and links of its own, and takes 3 to 15 times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

from hermes_tui.tui.glyphs import Glyphs

Part = tuple[str, str]
"""A text and the name of its `row--` class."""

PLAIN, HEADING, STRONG, EMPHASIS, CODE, DIM = "command", "heading", "strong", "emphasis", "code", "dim"

_HEADING = re.compile(r" {0,3}#{1,6}\s+(\S.*)$")
_BULLET = re.compile(r"(\s*)([-*+])\s+(.*)$")
_NUMBER = re.compile(r"(\s*)(\d{1,4}[.)])\s+(.*)$")
_QUOTE = re.compile(r" {0,3}>\s?(.*)$")
_RULE = re.compile(r" {0,3}([-*_])(?:\s*\1){2,}\s*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
_TABLE = re.compile(r"\s*\|.*\|\s*$")
_INLINE = re.compile(
    r"(?P<code>(?P<tick>`{1,2})(?P<inside>[^`]{1,2000})(?P=tick))"
    r"|\*\*(?P<strong>[^\s*](?:[^*]{0,500}[^\s*])?)\*\*"
    r"|(?<![\w*])\*(?P<emphasis>[^\s*](?:[^*]{0,500}[^\s*])?)\*(?![\w*])"
)
_LEAST = 8  # cells that a text has beside its indent


def markdown_lines(text: str, width: int, glyphs: Glyphs) -> Iterator[tuple[Part, ...]]:
    """Lines of `width` cells at most; `text` is harmless already."""
    fence = ""
    for line in text.split("\n"):
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            else:
                yield from _code(line, width)
        elif (found := _FENCE.match(line)) is not None and "`" not in found[2]:
            fence = found[1]
        else:
            yield from _line(line, width, glyphs)


def _line(line: str, width: int, glyphs: Glyphs) -> Iterator[tuple[Part, ...]]:
    if (found := _HEADING.match(line)) is not None:
        yield from wrap([(found[1].rstrip(" #"), HEADING)], width)
    elif _RULE.match(line):
        yield ((glyphs.rule * min(width, 40), DIM),)
    elif (found := _BULLET.match(line)) is not None:
        yield from _item(found[1], glyphs.other, found[3], width)
    elif (found := _NUMBER.match(line)) is not None:
        yield from _item(found[1], found[2], found[3], width)
    elif (found := _QUOTE.match(line)) is not None:
        head = f"{glyphs.side} "
        yield from wrap(inline(found[1]), width, first=((head, DIM),), indent=head, indented=DIM)
    elif _TABLE.match(line) or line.startswith("    "):
        yield from _code(line, width)
    else:
        yield from wrap(inline(line), width)


def _item(indent: str, mark: str, text: str, width: int) -> Iterator[tuple[Part, ...]]:
    head = f"{indent[: width // 3]}{mark} "
    yield from wrap(inline(text), width, first=((head, DIM),), indent=" " * cell_len(head))


def _code(line: str, width: int) -> Iterator[tuple[Part, ...]]:
    room = max(_LEAST, width - 2)
    for piece in chop_cells(line, room) or [""]:
        yield ((f"  {piece}", CODE),)


def inline(text: str) -> list[Part]:
    """A line's text in parts: code, strong, emphasis, and the rest."""
    parts: list[Part] = []
    at = 0
    for found in _INLINE.finditer(text):
        if found.start() > at:
            parts.append((text[at : found.start()], PLAIN))
        if found["code"] is not None:
            parts.append((found["inside"], CODE))
        elif found["strong"] is not None:
            parts.append((found["strong"], STRONG))
        else:
            parts.append((found["emphasis"], EMPHASIS))
        at = found.end()
    if at < len(text) or not parts:
        parts.append((text[at:], PLAIN))
    return parts


def wrap(
    parts: list[Part], width: int, *, first: tuple[Part, ...] = (), indent: str = "", indented: str = DIM,
    spared: int = 0,
) -> Iterator[tuple[Part, ...]]:  # fmt: skip
    """Parts over as many lines as they need, broken at blanks where that is possible. `first` stands before
    the first line, `indent` before the others; at the end of the first so many cells are `spared`.
    """
    line: list[Part] = list(first)
    before: list[Part] = [(indent, indented)] if indent else []
    room = max(_LEAST, width - sum(cell_len(text) for text, _ in first))
    full = left = max(_LEAST, room - spared)  # of the line that is filled
    for word, style in _words(parts):
        size = cell_len(word)
        if size > left and left < full:
            yield _joined(line)
            line, word = [*before], word.lstrip(" ")
            full = left = room
            size = cell_len(word)
        while size > left:
            # Of a long word only its beginning is looked at, again and again.
            piece = chop_cells(word[:left], left)[0] or word[0]
            yield _joined([*line, (piece, style)])
            line, word = [*before], word[len(piece) :]
            full = left = room
            size -= cell_len(piece)
        if word:
            line.append((word, style))
            left -= size
    yield _joined(line)


def _words(parts: list[Part]) -> Iterator[Part]:
    """Words, each with the blanks before it."""
    for text, style in parts:
        for found in re.finditer(r" *[^ ]+| +$", text):
            yield found[0], style


def _joined(line: list[Part]) -> tuple[Part, ...]:
    """Neighbours of one style as one part."""
    found: list[Part] = []
    for text, style in line:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + text, style)
        else:
            found.append((text, style))
    return tuple(found)
