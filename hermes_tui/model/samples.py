"""Numbers of which percentiles are asked for, however many there are and in whatever order they come."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from itertools import pairwise
from math import ceil

_FEW = 16  # so many are put in their places one by one; more are sorted in


class Sample:
    """A bag of whole numbers. An answer costs a look; a change follows how many numbers it concerns."""

    __slots__ = ("_sorted",)

    def __init__(self, values: Collection[int] = ()) -> None:
        self._sorted = sorted(values)

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, values: Collection[int]) -> None:
        if len(values) <= _FEW:
            for value in values:
                insort(self._sorted, value)
        else:
            self._sorted.extend(values)
            self._sorted.sort()  # linear in what is there: it is in order already

    def remove(self, values: Collection[int]) -> None:
        """Take values out again; each must be in it as often as it is named. Raises ValueError."""
        for value in values:
            at = bisect_left(self._sorted, value)
            if at == len(self._sorted) or self._sorted[at] != value:
                raise ValueError(f"{value} is not in the sample")
            del self._sorted[at]

    def percentile(self, percent: int) -> int:
        """The nearest rank: the least value that `percent` of all values do not exceed.

        It is one of the values; 0 when there are none.
        """
        if not self._sorted:
            return 0
        return self._sorted[max(1, ceil(len(self._sorted) * percent / 100)) - 1]

    def histogram(self, edges: Sequence[int]) -> list[int]:
        """How many values are below the first edge, from each edge up to the next, and from the last on."""
        places = [0, *(bisect_left(self._sorted, edge) for edge in edges), len(self._sorted)]
        return [last - first for first, last in pairwise(places)]
