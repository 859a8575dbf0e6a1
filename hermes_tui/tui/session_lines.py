"""A session as lines of the list of sessions. Pure; everything is neutralised here."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from hermes_tui import neutral
from hermes_tui.figures import count_of, short_age, short_cost, short_number
from hermes_tui.hermes.home import DEFAULT
from hermes_tui.tui.directory import Listed
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.lines import cut, middle

_NAME = 200  # characters of a session's name
_INDENT = 2
_SOURCE, _MODEL = 0, 1  # ranks of what tells a session from others …
_TOKENS = 4  # … and of what it took
_UNIT = " tokens"


def session_lines(each: Listed, *, shown: bool, now_s: float, width: int, glyphs: Glyphs) -> Text:
    """Two lines: its name and what it does; then where it is from and what it took. `width` in cells."""
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
    about = _told(each, max(1, width - len(indent) - 2), glyphs)
    below = Text(f"{indent}  {about}", "dim", no_wrap=True)
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
    if each.status == "interrupted":
        return glyphs.stopped, "yellow"
    if each.status == "failed":
        return glyphs.bad, "red"
    return glyphs.none, "dim"


def _told(each: Listed, width: int, glyphs: Glyphs) -> str:
    """What tells it from others, then what it took; where there is no room the least important goes first."""
    parts = [(rank, neutral.line(text[:_NAME])) for rank, text in _about(each, glyphs) if text]
    room = width - sum(cell_len(text) + 2 for rank, text in parts if rank == _SOURCE)
    parts = [(rank, middle(text, room, glyphs) if rank == _MODEL else text) for rank, text in parts]
    while len(parts) > 1 and cell_len(", ".join(text for _, text in parts)) > width:
        rank, text = least = max(parts)
        if rank == _TOKENS and text.endswith(_UNIT):
            parts[parts.index(least)] = rank, text.removesuffix(_UNIT)  # the number says more than its name
        else:
            parts.remove(least)
    return ", ".join(text for _, text in parts)


def _about(each: Listed, glyphs: Glyphs) -> list[tuple[int, str]]:
    """In the order in which it is said, each with a rank: the higher, the sooner it gives way."""
    facts = each.facts
    found = [(_SOURCE, each.source), (2, each.home if each.home != DEFAULT else ""), (_MODEL, each.model)]
    if facts is not None:
        failed = f" {glyphs.bad}{facts.failed}" if facts.failed else ""
        least = "over " if facts.more else ""
        found.append((3, count_of(facts.errors, "error") if facts.errors else ""))
        found.append((5, f"{facts.commands} {glyphs.command}{failed}" if facts.commands else ""))
        found.append((6, f"{least}{count_of(facts.turns, 'turn')}" if facts.turns else ""))
    elif not each.traces and not each.depth:
        found.append((3, "no spans"))
    found.append((_TOKENS, f"{short_number(each.tokens)}{_UNIT}" if each.tokens else ""))
    found.append((7, short_cost(each.cost) if each.cost else ""))
    found.append((8, each.session if each.title else ""))
    return found
