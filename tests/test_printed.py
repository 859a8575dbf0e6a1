"""What a program printed, as a terminal leaves it; pyte is the terminal."""

from __future__ import annotations

import pyte
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyte import modes

from hermes_tui.neutral import block
from hermes_tui.printed import BLANKS, COLUMNS, laid_out

ESC = "\x1b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("\tnot touched\r\n  ", "\tnot touched\r\n  "),
        ("10 %\r55 %\r100 %\ndone\n", "100 %\ndone\n"),
        ("long text\rshort\n", "shorttext\n"),
        (f"long text\rshort{ESC}[K\n", "short\n"),
        ("abc\b\bX\n", "aXc\n"),
        (f"{ESC}[1;31mred{ESC}[0m and {ESC}[38:5:1mso{ESC}[m on", "red and so on"),
        (f"a{ESC}[Kb\tc\n", "ab      c\n"),
        (f"one: 1 %\ntwo: 1 %\n{ESC}[2Aone: 9 %\ntwo: 9 %\n", "one: 9 %\ntwo: 9 %\n"),
        (f"a\nb\nc{ESC}[2F{ESC}[Jd", "d"),
        (f"a\nb{ESC}[A.{ESC}[9Bc{ESC}[A{ESC}[Ed", "a.\nd c"),
        (f"{ESC}[?25lspin{ESC}[?25h", "spin"),
        ("bell\x07\rBELL", "BELL"),
        (f"{ESC}]52;c;QQ==\x07", f"{ESC}]52;c;QQ=="),
        (f"{ESC}[6n {ESC}[2;3H", f"{ESC}[6n {ESC}[2;3H"),
        ("crlf\r\nand\rCR\r\n", "crlf\nCRd\n"),
    ],
)
def test_as_a_terminal_leaves_it(text: str, expected: str) -> None:
    assert laid_out(text) == expected


moves = st.one_of(
    st.builds("\x1b[{}{}".format, st.sampled_from(["", "0", "1", "2", "3"]), st.sampled_from("ACDFG")),
    st.sampled_from(["\x1b[K", "\x1b[0K", "\x1b[1K", "\x1b[2K", "\x1b[J"]),
)
pieces = st.one_of(
    st.text("ab .", max_size=6),
    st.sampled_from(["\r", "\b", "\n", "\t", "\r\n", "\x1b[32m", "\x1b[0;1m", "\x07"]),
    moves,
)


@settings(max_examples=400)
@example([" ", "\b", "x", "\x1b[1K"])
@given(st.lists(pieces, max_size=30))
def test_like_a_real_terminal(some: list[str]) -> None:
    text = "".join(some)
    screen = pyte.Screen(300, 100)
    screen.set_mode(modes.LNM)
    pyte.Stream(screen).feed(text)
    assert _lines(laid_out(text + "\x1b[m")) == _lines("\n".join(screen.display))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            pieces, st.text(max_size=5), st.sampled_from([f"{ESC}[99999C", f"{ESC}[99999B", ESC, "\x9b"])
        )
    )
)
def test_any_text_is_laid_out_in_bounds(some: list[str]) -> None:
    text = "".join(some)
    found = laid_out(text)
    assert len(found) <= len(text) + (COLUMNS + 8) * (len(some) + 1)
    assert block(found) == block(block(found).replace("\t", " "))
    plain = text.replace("\x1b", "").replace("\x9b", "").replace("\b", "").replace("\r", "")
    for control in "\x07\x0e\x0f":
        plain = plain.replace(control, "")
    assert laid_out(plain) == plain


def test_moves_to_the_right_cost_no_memory() -> None:
    found = laid_out(f"{ESC}[99999Cx\n" * 2_000)
    assert len(found) <= BLANKS + 4_000
    assert found.count("x") == 2_000


def test_what_is_beyond_the_limit_stays_as_it_is() -> None:
    assert laid_out("ab\rX" + "c\rd", most=4) == "Xbc\rd"
