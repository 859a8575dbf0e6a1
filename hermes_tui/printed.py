"""What a program printed, laid out as a terminal would have left it. Pure; the outcome is not harmless yet.

Carriage returns, backspaces, tabs and cursor moves write over what stands there, as progress bars do;
colours are dropped. Any other control sequence stays in the text, so that a reader sees that it was there.
"""

from __future__ import annotations

import re

COLUMNS = 500
"""No move goes further right; text does."""

BLANKS = 100_000
"""Filled in, in all, before what is written further right than its line goes; then it stands at the end."""

_CONTROL = re.compile(
    r"\n|\r|\x08|\t|\x07|\x0f|\x0e"
    r"|(?:\x1b\[|\x9b)(?:[0-9;:]{0,60}m|([0-9]{0,5})([ABCDEFGKJ])|\?[0-9;]{1,20}[hl])"
    r"|\x1b\([B0]"
)
_PARTS = re.compile(r"\x1b|\x9b|\x08|\x07|\x0e|\x0f|\r(?!\n)")
"""Without any of these a text is laid out already."""


class _Sheet:
    """Lines of characters and a place in them."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = [[]]
        self.row = 0
        self.column = 0
        self._blanks = BLANKS

    def write(self, text: str) -> None:
        line = self.lines[self.row]
        if self.column > len(line):
            blanks = min(self.column - len(line), self._blanks)
            self._blanks -= blanks
            line.extend(" " * blanks)
            self.column = min(self.column, len(line))
        end = self.column + len(text)
        line[self.column : end] = text
        self.column = end

    def control(self, control: str, count: str | None, kind: str | None) -> None:
        if control == "\n":
            self.row += 1
            self.column = 0
            if self.row == len(self.lines):
                self.lines.append([])
        elif control == "\r":
            self.column = 0
        elif control == "\b":
            self.column = max(0, self.column - 1)
        elif control == "\t":
            self.column += 8 - self.column % 8
        elif kind is not None:
            self._move(int(count or 0), kind)

    def _move(self, count: int, kind: str) -> None:
        if kind == "K":
            self._erase_line(count)
        elif kind == "J":
            if count == 0:
                self._erase_line(0)
                del self.lines[self.row + 1 :]
        elif kind == "G":
            self.column = min(max(count, 1), COLUMNS) - 1
        elif kind in "AF":
            self.row = max(0, self.row - max(count, 1))
        elif kind in "BE":
            self.row = min(len(self.lines) - 1, self.row + max(count, 1))
        elif kind == "C":
            self.column = max(self.column, min(self.column + max(count, 1), COLUMNS - 1))
        else:
            self.column = max(0, self.column - max(count, 1))
        if kind in "EF":
            self.column = 0

    def _erase_line(self, what: int) -> None:
        line = self.lines[self.row]
        if what == 0:
            del line[self.column :]
        elif what == 1:
            end = min(len(line), self.column + 1)
            line[:end] = " " * end
        elif what == 2:
            line.clear()


def laid_out(text: str, most: int = 400_000) -> str:
    """The text that was left to be read. What is beyond the first `most` characters stays as it is.

    A cell is taken for a character; work and memory follow the length of the text.
    """
    if _PARTS.search(text, 0, most) is None:
        return text
    head, rest = text[:most], text[most:]
    sheet, at = _Sheet(), 0
    for match in _CONTROL.finditer(head):
        if match.start() > at:
            sheet.write(head[at : match.start()])
        sheet.control(match[0], match[1], match[2])
        at = match.end()
    sheet.write(head[at:])
    return "\n".join("".join(line).rstrip(" ") for line in sheet.lines) + rest
