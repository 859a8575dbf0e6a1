"""Make text from outside harmless: the one place between a span's text and a screen or standard output.

Prompts, commands and outputs can hold terminal escape sequences, bidi controls and invisible
characters. They are shown, never obeyed, so everything a terminal might act on becomes a visible
stand-in of one cell.
"""

from __future__ import annotations

import json
import re
from typing import Any

REPLACEMENT = "\ufffd"

_SKIN_TONES = range(0x1F3FB, 0x1F400)  # terminals draw them into the emoji before them, or beside it
_UNSURE = (*range(0x2630, 0x2638), *range(0x268A, 0x2690), *range(0x3248, 0x3250), *range(0x1D300, 0x1D377))
"""Characters of two cells for some terminals and of one for others, by the Unicode version that they know."""


def _table() -> dict[int, str | None]:
    table: dict[int, str | None] = {code: chr(0x2400 + code) for code in range(0x20)}  # ␀ … ␟
    table[0x7F] = "␡"
    table.update(dict.fromkeys(range(0x80, 0xA0), REPLACEMENT))  # C1: CSI, OSC, DCS in one byte
    bidi = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    table.update(dict.fromkeys(bidi, "⁞"))
    zero_width = (0x00AD, 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x3164, 0xFEFF, 0xFFA0)
    table.update(dict.fromkeys((*zero_width, *range(0x200B, 0x200E), *range(0x2060, 0x2066)), "·"))
    table.update(dict.fromkeys((*range(0x206A, 0x2070), *range(0xFFF9, 0xFFFC)), "·"))
    # Variation selectors and tags change how wide a terminal draws the character before them.
    table.update(dict.fromkeys((*range(0xFE00, 0xFE10), *range(0xE0000, 0xE01F0)), None))
    table.update(dict.fromkeys(_SKIN_TONES))
    table.update(dict.fromkeys(_UNSURE, REPLACEMENT))
    table.update({0x2028: "⏎", 0x2029: "⏎", 0x85: "⏎"})
    table.update(dict.fromkeys(range(0xD800, 0xE000), REPLACEMENT))  # lone surrogates cannot be encoded
    return table


_ONE_LINE = _table()
_LINES = _ONE_LINE | {0x0A: "\n"}
_KEPT = (0x09, 0x200C, 0x200D, 0xFE0E, 0xFE0F)  # tab; joiners and selectors, without which letters differ
_COPY = _LINES | {code: chr(code) for code in (*_KEPT, *_SKIN_TONES, *_UNSURE)}
_PLAIN = re.compile(r"[\x20-\x7e]*")
_MARK = r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_MARKS = re.compile(f"({_MARK}{{3}}){_MARK}+")
_CONTROL_IN_JSON = re.compile(r"\x7f")


def line(text: str) -> str:
    """`text` on one line: line breaks as ⏎, tabs as a space, nothing a terminal would obey."""
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\r\n", "\n").replace("\n", "⏎").replace("\t", " ")
    return _MARKS.sub(r"\1", text.translate(_ONE_LINE))


def block(text: str) -> str:
    """`text` with its line breaks and tab stops of eight, nothing a terminal would obey."""
    text = text.replace("\r\n", "\n")
    if "\t" in text:
        text = text.expandtabs(8)
    return _MARKS.sub(r"\1", text.translate(_LINES))


def copied(text: str) -> str:
    """`text` for a clipboard or a file: as `block`, but tabs, accents, joined letters and emoji stay what
    they are.

    Nothing is laid out in cells there, and a command whose tabs became spaces would be another one. Line
    breaks at the end go: pasted into a shell, one would run the command at once.
    """
    return text.replace("\r\n", "\n").translate(_COPY).rstrip("\n")


def dump_json(document: Any, indent: int | None = 2) -> str:
    """One JSON document with every control and non-ASCII character escaped: exact and harmless.

    Without `indent` it is on one line.
    """
    text = json.dumps(document, ensure_ascii=True, indent=indent, allow_nan=False)
    return _CONTROL_IN_JSON.sub(r"\\u007f", text)
