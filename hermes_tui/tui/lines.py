"""Lines of a page of text: parts with styles, some of which stand for a row that can be gone to. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len, chop_cells, set_cell_size

from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.rows import RowKey


class Line(NamedTuple):
    """Parts of (text, style), where a style is a `row--` component class; `key` of what it stands for."""

    parts: tuple[tuple[str, str], ...] = ()
    key: RowKey | None = None


def texts(
    text: str, width: int, style: str, *, most: int = 20, indent: int = 0, glyphs: Glyphs | None = None
) -> Iterator[Line]:
    """A text over as many lines as it needs, `most` at most; those after the first are indented."""
    lines = wrapped(text, width, indent)
    if len(lines) > most:
        lines = lines[:most]
        more = glyphs.more if glyphs is not None else ""
        lines[-1] = set_cell_size(lines[-1], min(cell_len(lines[-1]), width - 1)) + more
    for line in lines:
        yield Line(((line, style),))


def wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Lines of `width` cells at most, broken at blanks where that is possible."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        if line.strip() and cell_len(line) + 1 + cell_len(word) <= width:
            line += f" {word}"
            continue
        if line.strip():
            lines.append(line)
        begin = " " * indent if lines else ""
        pieces = chop_cells(word, max(2, width - len(begin))) or [""]
        lines += [begin + piece for piece in pieces[:-1]]
        line = (" " * indent if lines else "") + pieces[-1]
    return [*lines, line] if line.strip() or not lines else lines


def fitted(line: Line, width: int) -> Line:
    """The line without what is beyond `width` cells."""
    parts: list[tuple[str, str]] = []
    for text, style in line.parts:
        text = text if cell_len(text) <= width else set_cell_size(text, width)
        width -= cell_len(text)
        if text:
            parts.append((text, style))
    return Line(tuple(parts), line.key)


def cut(text: str, width: int, glyphs: Glyphs) -> str:
    """A text that is too long, with a mark for its end."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)) + glyphs.more if width > 0 else ""


def middle(text: str, width: int, glyphs: Glyphs) -> str:
    """A text that is too long, with a mark for its middle: names differ at their ends."""
    if cell_len(text) <= width:
        return text
    if width < 5:
        return cut(text, width, glyphs)
    before = width // 2
    head, tail = set_cell_size(text, before).rstrip(), ""
    for character in reversed(text):
        if cell_len(character) + cell_len(tail) + cell_len(head) + 1 > width:
            break
        tail = character + tail
    return head + glyphs.more + tail
