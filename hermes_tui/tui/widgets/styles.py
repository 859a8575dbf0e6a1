"""How the parts of a list are drawn: a component's colours over those of its line."""

from __future__ import annotations

from rich.style import Style
from textual.widget import Widget

_REVERSE = Style(reverse=True)


def row_style(widget: Widget, name: str, *, current: bool) -> Style:
    """The style of `row--NAME`, on the line under the cursor if it is `current`; Textual keeps the colours
    until the theme changes.
    """
    names = ("row--cursor", f"row--{name}") if current else (f"row--{name}",)
    style = widget.get_visual_style(*names).rich_style
    # Textual 8.2 leaves `reverse` out of what it combines.
    if any(widget.get_component_styles(each).text_style.reverse for each in names):
        return style + _REVERSE
    return style
