"""Pure: when in its turn a row was, and for how long, as a bar of a few cells."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from hermes_tui.model.span import NANOSECONDS
from hermes_tui.tui.glyphs import Glyphs

_LEAST_WIDTH = 64  # cells of a line, before any of them go to bars …
_FEW = 12  # … so many at first …
_ROOMY = 100  # … and from this width on a quarter
_MOST = 48
_STEPS = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1_800, 3_600)


class Frame(NamedTuple):
    """The time that the bars of a turn's rows show; nanoseconds since the epoch."""

    start_ns: int
    end_ns: int


def cells(width: int) -> int:
    """How many cells of a line of this width are for bars."""
    if width < _ROOMY:
        return _FEW if width >= _LEAST_WIDTH else 0
    return min(_MOST, width // 4)


def frame(start_ns: int, end_ns: int, now_ns: int) -> Frame:
    """The time of a turn. While it runs (`end_ns` 0) it is rounded up, so that bars seldom move."""
    if end_ns:
        return Frame(start_ns, max(end_ns, start_ns + 1))
    seconds = max(0, now_ns - start_ns) / NANOSECONDS
    at = bisect_left(_STEPS, seconds)
    hours = _STEPS[-1] * (int(seconds / _STEPS[-1]) + 1)
    length = _STEPS[at] if at < len(_STEPS) else hours
    return Frame(start_ns, start_ns + length * NANOSECONDS)


def bar(begin_ns: int, end_ns: int, within: Frame, width: int, glyphs: Glyphs) -> tuple[str, str, str]:
    """The cells before, the bar, the cells after. However short, a bar has one cell; what lies outside of
    the frame is at its edge.
    """
    length = within.end_ns - within.start_ns

    def place(at_ns: int) -> float:
        return min(1.0, max(0.0, (at_ns - within.start_ns) / length)) * width

    left = min(int(place(begin_ns)), width - 1)
    # Block characters begin at a cell's left edge: a bar begins with a cell, and is as long as it should be.
    parts = len(glyphs.blocks) - 1
    size = max(1, round((place(max(begin_ns, end_ns)) - place(begin_ns)) * parts))
    full, rest = divmod(min(size, (width - left) * parts), parts)
    body = glyphs.blocks[parts] * full + (glyphs.blocks[rest] if rest else "")
    return " " * left, body, " " * (width - left - len(body))
