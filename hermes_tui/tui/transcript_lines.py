"""An entry of a transcript as lines of a width: everything put on them is neutralised here. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from rich.cells import cell_len

from hermes_tui import neutral
from hermes_tui.figures import short_time
from hermes_tui.hermes.whole import Texts
from hermes_tui.model.changes import read_change
from hermes_tui.model.span import NANOSECONDS
from hermes_tui.model.transcript import Entry, Said, trouble
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.lines import cut, middle
from hermes_tui.tui.markdown import Part, markdown_lines, wrap
from hermes_tui.tui.rows import outcome_mark, shown

Parts = tuple[Part, ...]

_FEW, _TAIL = 6, 2  # lines of an output, and how many of them are its last
_SHORT, _FULL = 12, 2_000  # lines of a prompt, a command or a change; of anything when it is wanted whole
_ANSWER = 400
_CHARS, _FULL_CHARS = 20_000, 400_000
_LEAST = 12  # cells for a text, however deep

_GUESS = {Said.PROMPT: 2, Said.ANSWER: 3, Said.COMMAND: 3, Said.CHANGE: 4}


class Look(NamedTuple):
    """How entries are to be drawn. `full`: long ones whole."""

    width: int
    full: bool
    glyphs: Glyphs


def guess(entry: Entry) -> int:
    """How many lines an entry may have, before anybody has looked at it."""
    return _GUESS.get(entry.kind, 1) if entry.sure else 0


def entry_lines(
    entry: Entry, texts: Texts | None, look: Look, *, number: int, state: str
) -> tuple[Parts, ...]:
    """The lines of an entry; none for one that turned out to be empty. `texts` None: they are not read
    yet. `number` is its turn's, `state` of a call that goes on: running, asking (perhaps: asking?), or ""
    when nobody knows.
    """
    side = f"{look.glyphs.side} " * min(entry.depth, max(0, look.width // 2 - _LEAST) // 2)
    inner = look._replace(width=max(_LEAST, look.width - len(side)))
    if entry.kind is Said.PROMPT:
        lines = _prompt(entry, texts, inner, number)
    elif entry.kind is Said.ANSWER:
        lines = _answer(entry, texts, inner)
    elif entry.kind is Said.COMMAND:
        lines = _command(entry, texts, inner, state)
    elif entry.kind is Said.CHANGE:
        lines = _change(entry, texts, inner, state)
    elif entry.kind is Said.TOOL:
        lines = _tool(entry, inner, state)
    else:
        lines = _aside(entry, inner)
    before: Parts = ((side, "dim"),) if side else ()
    return tuple((*before, *line) for line in lines)


def _prompt(entry: Entry, texts: Texts | None, look: Look, number: int) -> Iterator[Parts]:
    text = (texts.text if texts is not None else None) or entry.text
    head = f"{number} {look.glyphs.folded} "
    review = entry.turn.turn is not None and entry.turn.turn.review
    parts = "background review: " * review + text if text else "(prompt not seen)"
    style = "turn" if text else "turn-unnamed"
    if number > 1:  # a blank line between turns
        yield ()
    lines = _texts(parts, style, look, ((head, "number"),))
    yield from _limited(lines, _FULL if look.full else _SHORT, look, " " * len(head))


def _answer(entry: Entry, texts: Texts | None, look: Look) -> Iterator[Parts]:
    head: Part = (f"{look.glyphs.llm} ", "llm")
    if texts is None and not entry.sure:
        return
    if texts is None:
        yield ()
        yield (head, (look.glyphs.more, "dim"))
        return
    if not texts.text or not texts.text.strip():
        return
    yield ()
    limit = _FULL_CHARS if look.full else _CHARS
    text = neutral.block(texts.text[:limit]).strip("\n")
    lines = markdown_lines(text, max(_LEAST, look.width - 2), look.glyphs)
    before: Part = head
    most = _FULL if look.full else _ANSWER
    if len(texts.text) > limit:
        lines = iter([*islice(lines, most - 1), ((_more(len(texts.text) - limit, "characters", look)),)])
    for line in _limited(lines, most, look, ""):
        yield (before, *line)
        before = ("  ", "dim")


def _command(entry: Entry, texts: Texts | None, look: Look, state: str) -> Iterator[Parts]:
    item = entry.item
    assert item is not None
    text = (texts.text if texts is not None else None) or entry.text or f"({item.tool})"
    mark, style = outcome_mark(item.outcome, item.exit_code, look.glyphs)
    right = _right(entry, mark, style, state, look)
    lines = _texts(text, "command", look, ((f"{look.glyphs.command} ", style),), room=_size(right))
    for at, line in enumerate(_limited(lines, _FULL if look.full else _SHORT, look, "  ")):
        yield _aligned(line, right, look.width) if at == 0 else line
    if texts is not None and texts.result:
        yield from _output(texts.result, look)
    if texts is not None and texts.error:
        head = ((f"  {look.glyphs.side} ", "dim"),)
        yield from _limited(_texts(texts.error, style, look, head), _FULL if look.full else 3, look, "  ")
    if texts is not None and texts.cut:
        yield ((f"  {look.glyphs.side} ", "dim"), ("hermes-otel cut this", "warning"))


def _output(text: str, look: Look) -> Iterator[Parts]:
    head: Part = (f"  {look.glyphs.side} ", "dim")
    room = max(_LEAST, look.width - 4)
    if look.full:
        lines = neutral.block(text[:_FULL_CHARS]).rstrip("\n").split("\n")
        drawn = (line for each in lines for line in wrap([(each, "dim")], room))
        yield from ((head, *line) for line in _limited(drawn, _FULL, look, ""))
        return
    text = text.rstrip()
    count = text.count("\n") + 1
    if count <= _FEW:
        for line in text.split("\n"):
            yield (head, (cut(neutral.block(line[:_CHARS]), room, look.glyphs), "dim"))
        return
    first = neutral.block(text[:_CHARS]).split("\n")[: _FEW - _TAIL - 1]
    last = neutral.block(text[-_CHARS:]).split("\n")[-_TAIL:]
    yield from ((head, (cut(line, room, look.glyphs), "dim")) for line in first)
    yield (head, _more(count - len(first) - _TAIL, "lines, x shows them", look))
    yield from ((head, (cut(line, room, look.glyphs), "dim")) for line in last)


def _change(entry: Entry, texts: Texts | None, look: Look, state: str) -> Iterator[Parts]:
    item = entry.item
    assert item is not None
    change = read_change(texts.text, texts.result) if texts is not None else None
    size = f"+{change.added} -{change.removed}" if change is not None and change.lines else ""
    bad = bool(change is not None and change.error) or trouble(entry) is not None
    mark, style = (look.glyphs.bad, "bad") if bad else (look.glyphs.good, "good")
    right = _right(entry, f"{size} {mark}".strip(), style, state, look)
    path = (change.path if change is not None else "") or entry.text
    head: Parts = ((f"{look.glyphs.tool} ", "tool"), (f"{shown(item.tool)} ", "tool"))
    room = max(4, look.width - _size(right) - _size(head))
    yield _aligned((*head, (middle(shown(path), room, look.glyphs), "command")), right, look.width)
    if change is None:
        return
    if change.error:
        yield from _limited(_texts(change.error, "bad", look, (("  ", "dim"),)), 3, look, "  ")
    styles = {"+": "added", "-": "removed", "@": "dim"}
    lines = (
        (("  ", "dim"), (cut(neutral.line(line), max(_LEAST, look.width - 2), look.glyphs),
                         styles.get(line[:1], "dim")))
        for line in change.lines
    )  # fmt: skip
    yield from _limited(lines, _FULL if look.full else _FEW, look, "  ", len(change.lines))


def _tool(entry: Entry, look: Look, state: str) -> Iterator[Parts]:
    item = entry.item
    assert item is not None
    mark, style = (look.glyphs.bad, "bad") if trouble(entry) is not None else (look.glyphs.good, "good")
    right = _right(entry, mark, style, state, look)
    text = f"{shown(item.tool)} {shown(entry.text)}".strip()
    room = max(_LEAST, look.width - _size(right) - 3)
    yield _aligned(((f"{look.glyphs.tool} {cut(text, room, look.glyphs)}", "tool"),), right, look.width)


def _aside(entry: Entry, look: Look) -> Iterator[Parts]:
    glyphs, text = look.glyphs, entry.text
    took = short_time(entry.took_ns / NANOSECONDS) if entry.took_ns else ""
    if entry.kind is Said.APPROVAL:
        text = _decision(text, took)
        style = "approval" if entry.text.startswith("allowed") else "warning"
        head: Parts = ((f"  {glyphs.approval} ", style),)
    elif entry.kind is Said.SUBAGENT:
        head, style, text = ((f"{glyphs.subagent} ", "subagent"),), "subagent", text or "(task not seen)"
    elif entry.kind is Said.SKILL:
        head, style = ((f"{glyphs.skill} ", "skill"),), "skill"
    elif entry.kind is Said.FAILURE:
        head, style, text = ((f"{glyphs.bad} ", "bad"),), "bad", f"model call failed: {text}"
    else:
        head, style = ((f"{glyphs.stopped} ", "warning"),), "warning"
        text = f"turn {text}"
    yield from _limited(_texts(text, style, look, head), _FULL if look.full else 4, look, "  ")


def _decision(decision: str, took: str) -> str:
    """Who decided, and how long that took."""
    if not decision:
        return "waits for you"
    if decision == "timed out":
        return f"nobody decided{f' within {took}' if took else ''}"
    return f"{decision} by a person{f' after {took}' if took else ''}"


def _texts(text: str, style: str, look: Look, first: Parts, *, room: int = 0) -> Iterator[Parts]:
    """A text of several lines, wrapped beside what stands before its first; `room` cells behind stay free."""
    limit = _FULL_CHARS if look.full else _CHARS
    indent = " " * _size(first)
    for line in neutral.block(text[:limit]).strip("\n").split("\n"):
        yield from wrap([(line, style)], look.width, first=first, indent=indent, spared=room)
        first, room = ((indent, "dim"),), 0
    if len(text) > limit:
        yield ((indent, "dim"), _more(len(text) - limit, "characters", look))


def _limited(
    lines: Iterable[Parts], most: int, look: Look, indent: str, count: int | None = None
) -> Iterator[Parts]:
    """So many lines at most; then how many more there are."""
    lines = iter(lines)
    yield from islice(lines, most - 1)
    last = list(islice(lines, 2))
    if len(last) < 2:
        yield from last
        return
    left = count - most + 1 if count is not None else 2 + sum(1 for _ in lines)
    hint = "lines" if look.full else "lines, x shows them"
    yield ((indent, "dim"), _more(left, hint, look))


def _more(count: int, what: str, look: Look) -> Part:
    return f"{look.glyphs.more} {count:,} more {what}", "dim"


def _right(entry: Entry, mark: str, style: str, state: str, look: Look) -> Parts:
    """How a call ended, and how long it took."""
    item = entry.item
    assert item is not None
    if item.open or item.dropped:
        if state in ("asking", "asking?"):
            return ((f" {look.glyphs.approval} waits for you{state.removeprefix('asking')}", "asking"),)
        return ((f" {look.glyphs.running}", "live"),) if state else ((" ?", "dim"),)
    took = short_time(entry.took_ns / NANOSECONDS) if entry.took_ns else ""
    return ((f" {mark}", style), (f" {took}".rjust(6), "dim"))


def _size(parts: Parts) -> int:
    return sum(cell_len(text) for text, _ in parts)


def _aligned(line: Parts, right: Parts, width: int) -> Parts:
    return (*line, (" " * max(0, width - _size(line) - _size(right)), "dim"), *right)
