"""Percentiles and histograms: of any numbers, in any order, however often each."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_tui.model.samples import Sample

VALUES = st.lists(st.integers(0, 40) | st.integers(0, 2**62), max_size=60)


@pytest.mark.parametrize(
    ("values", "p50", "p95", "most"),
    [
        ([], 0, 0, 0),
        ([7], 7, 7, 7),
        ([2, 1], 1, 2, 2),
        ([3, 1, 2], 2, 3, 3),
        ([4, 4, 4, 4, 9], 4, 9, 9),
        (list(range(100, 0, -1)), 50, 95, 100),
        (list(range(1, 21)), 10, 19, 20),
        ([0, 0, 0], 0, 0, 0),
    ],
)
def test_the_nearest_rank(values: list[int], p50: int, p95: int, most: int) -> None:
    sample = Sample(values)
    assert [sample.percentile(percent) for percent in (50, 95, 100)] == [p50, p95, most]


@given(VALUES, st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[int], percent: int) -> None:
    found = Sample(values).percentile(percent)
    if not values:
        assert found == 0
        return
    assert found in values
    needed = ceil(len(values) * percent / 100)
    assert sum(value <= found for value in values) >= needed
    assert sum(value < found for value in values) < needed


@given(st.data(), VALUES)
def test_neither_order_nor_portions_matter(data: st.DataObject, values: list[int]) -> None:
    whole, parts = Sample(values), Sample()
    rest = data.draw(st.permutations(values))
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        parts.add(rest[:count])
        rest = rest[count:]
    assert len(parts) == len(whole) == len(values)
    for percent in (1, 50, 95, 100):
        assert parts.percentile(percent) == whole.percentile(percent)


@given(VALUES, VALUES)
def test_what_is_taken_out_leaves_the_rest(kept: list[int], gone: list[int]) -> None:
    sample = Sample(kept)
    sample.add(gone)
    sample.remove(gone[::-1])
    assert [sample.percentile(percent) for percent in range(1, 101)] == [
        Sample(kept).percentile(percent) for percent in range(1, 101)
    ]


def test_what_is_not_there_cannot_be_taken_out() -> None:
    sample = Sample([1, 3])
    for absent in (2, 4):
        with pytest.raises(ValueError, match=str(absent)):
            sample.remove([absent])


@given(VALUES, st.lists(st.integers(0, 50), min_size=1, unique=True).map(sorted))
def test_every_value_is_in_one_column_of_the_histogram(values: list[int], edges: list[int]) -> None:
    counts = Sample(values).histogram(edges)
    assert len(counts) == len(edges) + 1
    assert sum(counts) == len(values)
    tally = Counter(values)
    for (first, last), count in zip(pairwise([-1, *edges, 2**63]), counts, strict=True):
        below = 0 if first == -1 else first
        assert count == sum(number for value, number in tally.items() if below <= value < last)
