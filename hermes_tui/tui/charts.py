"""Charts as lines of text, drawn by Textual's `Sparkline` and Rich's `Bar`. Pure.

Their shape says everything: colours are the page's. With ASCII glyphs the block characters are replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.bar import Bar
from rich.console import Console
from textual.renderables.sparkline import Sparkline

from hermes_tui.tui.glyphs import ASCII, Glyphs

_TO_ASCII = str.maketrans({
    "▁": "_", "▂": "_", "▃": ".", "▄": "-", "▅": "-", "▆": "=", "▇": "*", "█": "#",
    "▏": " ", "▎": " ", "▍": "-", "▌": "-", "▋": "=", "▊": "=", "▉": "#",
})  # fmt: skip


def columns(values: Sequence[int], width: int, height: int, glyphs: Glyphs) -> list[str]:
    """Values as columns from zero up, in `height` lines of `width` cells at most.

    Of values that share a column the largest is drawn; few values get columns of several cells.
    """
    if not values or width <= 0:
        return [""] * height
    drawn = spread(values, width)
    # The zero in front keeps the scale from beginning at the least value; its column is cut off.
    chart = Sparkline([0, *drawn], width=len(drawn) + 1, height=height)
    return [line[1:].ljust(len(drawn)) for line in _drawn(chart, len(drawn) + 1, glyphs)]


def spread(values: Sequence[int], width: int) -> list[int]:
    """`values` as one number for each cell of a line, the largest of those that share it."""
    count = len(values)
    if count <= width:
        return [value for value in values for _ in range(min(4, width // count))]
    return [max(values[count * at // width : count * (at + 1) // width]) for at in range(width)]


def bar(value: float, most: float, width: int, glyphs: Glyphs) -> str:
    """A bar of `width` cells when `value` is `most`; what is more than nothing can be seen."""
    if width <= 0 or value <= 0 or most <= 0:
        return ""
    end = max(value, most / (8 * width))
    if glyphs is ASCII:
        end = max(value, most / width)
    (line,) = _drawn(Bar(most, 0, end, width=width), width, glyphs)
    return line.rstrip()


def _drawn(chart: Bar | Sparkline[int], width: int, glyphs: Glyphs) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None, legacy_windows=False)
    lines = console.render_lines(chart, pad=False)
    texts = ["".join(segment.text for segment in line) for line in lines]
    return [text.translate(_TO_ASCII) if glyphs is ASCII else text for text in texts]
