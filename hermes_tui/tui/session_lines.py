"""A session as lines of the list of sessions. Pure; everything is neutralised here."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from hermes_tui import neutral
from hermes_tui.figures import short_age, short_cost, short_number
from hermes_tui.hermes.home import DEFAULT
from hermes_tui.tui.directory import Listed
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.lines import cut, middle

_NAME = 200  # characters of a session's name
_INDENT = 2


def session_lines(each: Listed, *, shown: bool, now_s: float, width: int, glyphs: Glyphs) -> Text:
    """Two lines: its name and what it does; then what it took and where it is from. `width` in cells."""
    mark, style = _mark(each, glyphs)
    word = each.status if each.running else f"{short_age(max(0.0, now_s - each.active_ns / 1e9))} ago"
    indent = " " * (_INDENT * each.depth)
    room = max(1, width - len(word) - 2)
    here = f" {glyphs.here}" if shown else ""
    space = max(1, room - len(indent) - cell_len(mark) - 1 - cell_len(here))
    name = neutral.line((each.title or each.session)[:_NAME])
    name = cut(name, space, glyphs) if each.title else middle(name, space, glyphs)  # ids differ at their ends
    head = Text(no_wrap=True)
    head.append(f"{indent}{mark} ", style)
    head.append(name, "bold" if not each.depth else "")
    head.append(here, "bold")
    _fit(head, room, glyphs)
    head.pad_right(max(0, room - head.cell_len))
    head.append(f"  {word}", style if each.running else "dim")
    below = Text(f"{indent}  {neutral.line(', '.join(_about(each, glyphs)))}", "dim", no_wrap=True)
    _fit(below, max(1, width), glyphs)
    return Text("\n", no_wrap=True).join((head, below))


def _fit(text: Text, width: int, glyphs: Glyphs) -> None:
    if text.cell_len > width:
        text.truncate(width - 1, overflow="crop")
        text.append(glyphs.more)


def _mark(each: Listed, glyphs: Glyphs) -> tuple[str, str]:
    if each.status == "waits for you":
        return glyphs.approval, "bold yellow"
    if each.running:
        return glyphs.running, "bold green"
    if each.status == "completed":
        return glyphs.good, "green"
    if each.status in ("failed", "interrupted"):
        return glyphs.bad, "red"
    return glyphs.none, "dim"


def _about(each: Listed, glyphs: Glyphs) -> list[str]:
    facts = each.facts
    found: list[str] = []
    if facts is not None:
        least = "over " if facts.more else ""
        found.append(f"{least}{facts.turns} turn{'s' * (facts.turns != 1)}")
        if facts.commands:
            failed = f" {glyphs.bad}{facts.failed}" if facts.failed else ""
            found.append(f"{facts.commands} {glyphs.command}{failed}")
        if facts.errors:
            found.append(f"{facts.errors} error{'s' * (facts.errors != 1)}")
    elif not each.traces and not each.depth:
        found.append("no spans")
    if each.tokens:
        found.append(f"{short_number(each.tokens)} tokens")
    if each.cost:
        found.append(short_cost(each.cost))
    found += [each.source, each.home if each.home != DEFAULT else "", each.model]
    if each.title:
        found.append(each.session)
    return [part[:_NAME] for part in found if part]
