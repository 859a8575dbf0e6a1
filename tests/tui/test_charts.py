"""Charts are drawn by libraries; what is asked of them: to scale, from zero, in any glyphs, no wider."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hermes_tui.tui.charts import bar, columns, spread
from hermes_tui.tui.glyphs import ASCII, UNICODE, Glyphs

GLYPHS = pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
VALUES = st.lists(st.integers(0, 2**53), max_size=300)


def test_columns_begin_at_zero() -> None:
    assert columns([1, 2, 3, 4], 4, 2, UNICODE) == ["  ▄█", "▄███"]
    assert columns([2, 4], 2, 2, ASCII) == [" #", "##"]
    assert columns([0, 4, 0], 3, 1, UNICODE) == ["▁█▁"]


def test_few_values_have_columns_of_several_cells() -> None:
    assert columns([4, 4], 40, 1, UNICODE) == ["█" * 8]
    assert columns([4], 3, 1, UNICODE) == ["███"]


def test_of_values_that_share_a_column_the_largest_is_drawn() -> None:
    assert spread([1, 9, 1, 1, 1, 5], 3) == [9, 1, 5]
    assert spread(list(range(1_000)), 10) == [99, 199, 299, 399, 499, 599, 699, 799, 899, 999]


@GLYPHS
@given(values=VALUES, width=st.integers(0, 200), height=st.integers(1, 6))
def test_columns_keep_to_their_place(glyphs: Glyphs, values: list[int], width: int, height: int) -> None:
    lines = columns(values, width, height, glyphs)
    assert len(lines) == height
    assert len({cell_len(line) for line in lines}) == 1
    assert cell_len(lines[0]) <= width
    assert glyphs is UNICODE or all(line.isascii() for line in lines)
    if values and width and max(values):
        assert lines[0].strip(), "the largest reaches the top"


@given(values=st.lists(st.integers(0, 10**6), min_size=1, max_size=300), width=st.integers(1, 200))
def test_no_peak_is_lost(values: list[int], width: int) -> None:
    drawn = spread(values, width)
    assert max(drawn) == max(values)
    assert set(drawn) <= set(values)
    assert len(drawn) <= width


@pytest.mark.parametrize(
    ("value", "most", "unicode", "ascii_"),
    [
        (0, 10, "", ""),
        (-1, 10, "", ""),
        (1, 0, "", ""),
        (10, 10, "█" * 8, "########"),
        (5, 10, "████", "####"),
        (1, 10**9, "▏", "#"),
    ],
)
def test_bars_are_to_scale_and_what_is_there_is_seen(
    value: int, most: int, unicode: str, ascii_: str
) -> None:
    assert bar(value, most, 8, UNICODE) == unicode
    assert bar(value, most, 8, ASCII) == ascii_


@GLYPHS
@given(value=st.integers(0, 2**60), most=st.integers(0, 2**60), width=st.integers(0, 80))
def test_bars_keep_to_their_place(glyphs: Glyphs, value: int, most: int, width: int) -> None:
    drawn = bar(min(value, most), most, width, glyphs)
    assert cell_len(drawn) <= width
    assert glyphs is UNICODE or drawn.isascii()
    assert bool(drawn) == bool(width and value and most)
