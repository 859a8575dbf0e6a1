"""One glyph for each kind of row; an ASCII set where the terminal has no more."""

from __future__ import annotations

import locale
import os

import msgspec


class Glyphs(msgspec.Struct, frozen=True):
    """Each a single cell wide, so that columns line up."""

    llm: str = "◆"
    command: str = "$"
    tool: str = "▣"
    approval: str = "?"
    subagent: str = "◈"
    skill: str = "✦"
    other: str = "·"
    missing: str = "◌"
    open: str = "▾"
    folded: str = "▸"
    running: str = "●"
    good: str = "✓"
    bad: str = "✗"
    stopped: str = "◼"
    unknown: str = "?"
    background: str = "&"
    flag: str = "!"
    reviewed: str = "✓"
    held: str = "‖"
    none: str = "–"
    more: str = "…"
    deep: str = "⋯"
    retry: str = "↻"
    arrow: str = "→"
    rule: str = "─"
    up: str = "↑"
    down: str = "↓"
    side: str = "│"
    bar: str = "━"
    blocks: str = " ▏▎▍▌▋▊▉█"
    here: str = "◂"
    spinner: str = "◐◓◑◒"


UNICODE = Glyphs()
ASCII = Glyphs(
    llm="*", tool="#", subagent="@", skill="+", other=".", missing="o", open="v", folded=">", running="o",
    good="+", bad="x", stopped="!", held="!", none="-", more="~", deep="~", retry="r", arrow=">", rule="-",
    up="in", down="out", side="|", bar="=", blocks=" #", here="<", reviewed="+", spinner="|/-\\",
)  # fmt: skip


def choose() -> Glyphs:
    """ASCII when HERMES_TRACE_ASCII is set or the locale cannot say more."""
    if os.environ.get("HERMES_TRACE_ASCII"):
        return ASCII
    return UNICODE if locale.getpreferredencoding(False).lower().replace("-", "") == "utf8" else ASCII
