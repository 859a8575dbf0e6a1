"""The pane's themes: dark, light, high contrast, and the terminal's own colours alone.

Text keeps a contrast of 4.5 (WCAG AA) on the line under the cursor too, in high contrast of 7; a test
computes it for every style of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rich.terminal_theme import TerminalTheme
from textual.theme import Theme

PLAIN = "plain"
"""No colour at all: the cursor is reversed, the rest is told by glyphs, bold and italics."""


class Look(NamedTuple):
    """`names` are what red, green, yellow and the like are in texts that are not rows."""

    title: str
    theme: Theme
    names: TerminalTheme


def _names(
    background: tuple[int, int, int], foreground: tuple[int, int, int], *colours: str
) -> TerminalTheme:
    """`colours`: black, red, green, yellow, blue, magenta, cyan, white; bright ones are the same."""
    shades = [(int(each[1:3], 16), int(each[3:5], 16), int(each[5:7], 16)) for each in colours]
    return TerminalTheme(background, foreground, shades, shades)


_DARK = Theme(
    name="dark", primary="#0178D4", secondary="#004578", accent="#ffa62b", warning="#ffa62b", error="#f0708c",
    success="#4EBF71", foreground="#e0e0e0", dark=True,
    variables={
        "row-cursor": "#0E283C", "row-llm": "#5c9df0", "row-muted": "#acacac",
        "row-quiet": "#a2a2a2", "row-dim": "#969696", "row-faint": "#929292",
        "line": "#515151", "block-cursor-foreground": "#ffffff", "block-cursor-background": "#0166b8",
    },
)  # fmt: skip
_LIGHT = Theme(
    name="light", primary="#0b5cad", secondary="#0b5cad", accent="#7a3e9d", warning="#8a4b00",
    error="#b3202c", success="#11662f", foreground="#1a1a1a", background="#fafafa", surface="#f0f0f0",
    panel="#e4e4e4", dark=False,
    variables={
        "row-cursor": "#d3e5f7", "row-llm": "#0b4f94", "row-muted": "#3d3d3d", "row-quiet": "#474747",
        "row-dim": "#545454", "row-faint": "#565656", "line": "#b4b4b4",
        "block-cursor-foreground": "#ffffff", "input-selection-background": "#0b5cad 30%",
    },
)  # fmt: skip
_CONTRAST = Theme(
    name="contrast", primary="#9fd7ff", secondary="#9fd7ff", accent="#ffb0ff", warning="#ffe066",
    error="#ffa3a3", success="#7dff7d", foreground="#ffffff", background="#000000", surface="#000000",
    panel="#141414", dark=True,
    variables={
        "row-cursor": "#002a4a", "row-llm": "#b5e0ff", "row-muted": "#ffffff", "row-quiet": "#ffffff",
        "row-dim": "#e6e6e6", "row-faint": "#e6e6e6", "line": "#ffffff",
        "block-cursor-foreground": "#000000", "block-cursor-background": "#ffe066",
        "input-selection-background": "#9fd7ff 45%",
    },
)  # fmt: skip
_PLAIN = Theme(
    name=PLAIN, ansi=True, primary="ansi_default", secondary="ansi_default", accent="ansi_default",
    warning="ansi_default", error="ansi_default", success="ansi_default", foreground="ansi_default",
    background="ansi_default", surface="ansi_default", panel="ansi_default", boost="ansi_default", dark=True,
    variables={
        "row-cursor": "ansi_default", "row-llm": "ansi_default", "row-muted": "ansi_default",
        "row-quiet": "ansi_default", "row-dim": "ansi_default", "row-faint": "ansi_default",
        "line": "ansi_default", "ansi-background": "ansi_default", "ansi-foreground": "ansi_default",
        "block-cursor-foreground": "ansi_default", "block-cursor-background": "ansi_default",
        "block-cursor-text-style": "reverse", "input-cursor-text-style": "reverse",
        "input-cursor-background": "ansi_default", "input-cursor-foreground": "ansi_default",
        "input-selection-background": "ansi_default", "input-selection-foreground": "ansi_default",
        "screen-selection-background": "ansi_default", "screen-selection-foreground": "ansi_default",
        "border-blurred": "ansi_default",
    },
)  # fmt: skip

_ON_DARK = _names(
    (18, 18, 18), (224, 224, 224),
    "#1a1a1a", "#ff6d8f", "#98e024", "#fd971f", "#7aa8ff", "#ff79c6", "#58d1eb", "#c4c5b5",
)  # fmt: skip
_ON_LIGHT = _names(
    (250, 250, 250), (26, 26, 26),
    "#1a1a1a", "#b3202c", "#11662f", "#8a4b00", "#0b5cad", "#7a3e9d", "#00606b", "#5a5a5a",
)  # fmt: skip
_ON_BLACK = _names(
    (0, 0, 0), (255, 255, 255),
    "#000000", "#ffa3a3", "#7dff7d", "#ffe066", "#9fd7ff", "#ffb0ff", "#8ff0ff", "#ffffff",
)  # fmt: skip

LOOKS: Mapping[str, Look] = {
    "dark": Look("dark", _DARK, _ON_DARK),
    "light": Look("light", _LIGHT, _ON_LIGHT),
    "contrast": Look("high contrast", _CONTRAST, _ON_BLACK),
    PLAIN: Look("no colour", _PLAIN, _ON_DARK),
}
"""By the names that the settings have."""


def look(name: str) -> Look:
    """What a theme is drawn with; one of Textual's own with what the dark one is."""
    return LOOKS.get(name, LOOKS["dark"])


def first(wanted: str, remembered: object, environment: Mapping[str, str]) -> str:
    """The theme to begin with: the settings', else none with NO_COLOR, else the one chosen last."""
    if wanted in LOOKS:
        return wanted
    if environment.get("NO_COLOR"):
        return PLAIN
    return remembered if isinstance(remembered, str) and remembered in LOOKS else "dark"
