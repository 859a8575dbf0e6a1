"""Markdown as lines: what is styled, what fits, and that hostile text costs no time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from hermes_tui import neutral
from hermes_tui.tui.glyphs import ASCII, UNICODE
from hermes_tui.tui.markdown import markdown_lines

CASES = [
    ("plain text", 40, [[("plain text", "command")]]),
    ("## A heading ##", 40, [[("A heading", "heading")]]),
    ("#no heading", 40, [[("#no heading", "command")]]),
    ("a **b** *c* `d`", 40, [[("a ", "command"), ("b", "strong"), (" ", "command"), ("c", "emphasis"),
                             (" ", "command"), ("d", "code")]]),
    ("2 * 3 * 4", 40, [[("2 * 3 * 4", "command")]]),
    ("- one two three", 10, [[("· ", "dim"), ("one two", "command")], [("  ", "dim"), ("three", "command")]]),
    ("10. ten", 40, [[("10. ", "dim"), ("ten", "command")]]),
    ("> said", 40, [[("│ ", "dim"), ("said", "command")]]),
    ("```sh\n# no heading\n```\nafter", 40, [[("  # no heading", "code")], [("after", "command")]]),
    ("```\nopen", 40, [[("  open", "code")]]),
    ("| a | b |", 40, [[("  | a | b |", "code")]]),
    ("one\n\ntwo", 40, [[("one", "command")], [], [("two", "command")]]),
    ("x" * 25, 10, [[("x" * 10, "command")], [("x" * 10, "command")], [("x" * 5, "command")]]),
    ("日本語の長い文", 8, [[("日本語の", "command")], [("長い文", "command")]]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "width", "lines"), CASES, ids=[case[0][:12] for case in CASES])
def test_lines(text: str, width: int, lines: list[list[tuple[str, str]]]) -> None:
    assert [list(line) for line in markdown_lines(text, width, UNICODE)] == lines


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.integers(min_value=12, max_value=120))
def test_every_line_fits_and_no_word_is_lost(text: str, width: int) -> None:
    text = neutral.block(text)
    lines = list(markdown_lines(text, width, ASCII))
    assert all(sum(cell_len(part) for part, _ in line) <= width for line in lines)
    letters = [each for each in text if each.isalnum()]
    shown = [each for line in lines for part, _ in line for each in part if each.isalnum()]
    if "```" not in text and "~~~" not in text:
        assert shown == letters


@pytest.mark.parametrize("piece", ["`", "**", "*", "# ", "> ", " ", "|", "a`", "**a", "- ", "x", "_ "])
def test_the_same_thing_over_and_over(piece: str) -> None:
    lines = list(markdown_lines(piece * 20_000, 60, UNICODE))
    assert all(sum(cell_len(part) for part, _ in line) <= 60 for line in lines)
