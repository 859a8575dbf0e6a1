"""When in its turn a row was, as a bar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hermes_tui.tui.glyphs import ASCII, UNICODE, Glyphs
from hermes_tui.tui.waterfall import Frame, bar, cells, frame
from tests.support import SECOND

TEN = Frame(0, 10 * SECOND)


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (0, 10, "██████████"),
        (0, 5, "█████     "),
        (5, 10, "     █████"),
        (2, 2, "  ▏       "),
        (10, 10, "         ▏"),
        (1, 2.5, " █▌       "),
        (-5, 1, "█         "),
        (8, 99, "        ██"),
        (6, 3, "      ▏   "),
    ],
)
def test_bars(begin: float, end: float, expected: str) -> None:
    assert "".join(bar(int(begin * SECOND), int(end * SECOND), TEN, 10, UNICODE)) == expected


def test_bars_in_ascii() -> None:
    assert "".join(bar(SECOND, 3 * SECOND, TEN, 10, ASCII)) == " ##       "


@given(
    begin=st.integers(-(2**63), 2**63), end=st.integers(-(2**63), 2**63),
    start=st.integers(0, 2**63), length=st.integers(1, 2**63), width=st.integers(1, 60),
    glyphs=st.sampled_from([UNICODE, ASCII]),
)  # fmt: skip
def test_a_bar_fills_its_column_whatever_the_clocks_said(
    begin: int, end: int, start: int, length: int, width: int, glyphs: Glyphs
) -> None:
    before, body, after = bar(begin, end, Frame(start, start + length), width, glyphs)
    assert cell_len(before + body + after) == width
    assert body.strip()


@pytest.mark.parametrize(
    ("now_s", "length_s"),
    [(0, 1), (1, 1), (1.5, 2), (9, 10), (11, 15), (61, 90), (3_700, 7_200), (7_300, 10_800)],
)
def test_the_time_of_a_running_turn_grows_in_steps(now_s: float, length_s: int) -> None:
    assert frame(SECOND, 0, SECOND + int(now_s * SECOND)) == Frame(SECOND, SECOND + length_s * SECOND)


def test_a_finished_turn_has_its_own_time() -> None:
    assert frame(5, 9, 1_000) == Frame(5, 9)
    assert frame(5, 5, 1_000) == Frame(5, 6)


@pytest.mark.parametrize(
    ("width", "expected"), [(40, 0), (60, 0), (66, 12), (99, 12), (100, 25), (120, 30), (300, 48)]
)
def test_only_wide_lines_have_bars(width: int, expected: int) -> None:
    assert cells(width) == expected
