"""The header and the footer: few lines that answer the questions asked most."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual import events
from textual.app import RenderResult
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from hermes_tui import neutral
from hermes_tui.figures import short_age, short_number, short_time
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.lines import middle
from hermes_tui.tui.trust import NO_WORD, Word


class HeaderData(msgspec.Struct, frozen=True):
    """What the header shows; equal data means nothing to repaint.

    `since_ns` is when what `status` says began, `lasted_s` how long a session that is at rest took.
    """

    session: str = ""
    title: str = ""
    model: str = ""
    source: str = ""
    status: str = ""
    since_ns: int = 0
    lasted_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_tokens: int = 0
    cost: float | None = None
    delivery: Word = NO_WORD
    trouble: str = ""


class PaneHeader(Widget):
    """Two lines: which session and is it alive; what did it cost and is it safe."""

    data: reactive[HeaderData] = reactive(HeaderData())

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__(id="header")
        self._glyphs = glyphs
        self._frozen_ns = 0

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)

    def freeze(self, at_ns: int) -> None:
        """Stop the clock at a time; 0: let it go on."""
        self._frozen_ns = at_ns
        self.refresh()

    def _tick(self) -> None:
        if self.data.since_ns and not self._frozen_ns:
            self.refresh()

    def render(self) -> RenderResult:
        width = self.content_size.width
        return Text("\n").join([self._first(width), self._second(width)])

    def _first(self, width: int) -> Text:
        data, glyphs = self.data, self._glyphs
        if not data.session:
            return Text("hermes-trace-tui", "bold")
        ends = {
            "running": (glyphs.running, "green"), "completed": (glyphs.good, "green"),
            "interrupted": (glyphs.stopped, "yellow"), "failed": (glyphs.bad, "red"),
            "waits for you": (glyphs.approval, "bold yellow"), "waits for you?": (glyphs.approval, "yellow"),
        }  # fmt: skip
        glyph, style = ends.get(data.status, (glyphs.unknown, "dim"))
        right = Text(f"{glyph} {data.status} {self._time()}".rstrip(), style)
        named = (data.title, data.model, data.source, data.session)
        parts = [neutral.line(part) for part in named if part]
        between, room = f" {glyphs.other} ", width - right.cell_len - 2
        spare = room - cell_len(between.join(["", *parts[:-1]]))
        if len(parts) > 1 and _LEAST_ID <= spare < cell_len(parts[-1]):
            parts[-1] = middle(parts[-1], spare, glyphs)  # ids differ at their ends
        while len(parts) > 1 and cell_len(between.join(parts)) > room:
            parts.pop()
        return _ends(Text(between.join(parts), "bold"), right, width, glyphs)

    def _time(self) -> str:
        data = self.data
        if not data.since_ns:
            return short_time(data.lasted_s)
        seconds = max(0, (self._frozen_ns or time.time_ns()) - data.since_ns) / 1e9
        return f"{short_age(seconds)} ago" if data.status == "last seen" else short_time(seconds)

    def _second(self, width: int) -> Text:
        data, glyphs = self.data, self._glyphs
        if data.trouble:
            return Text(_cut(neutral.line(data.trouble), width, glyphs), "bold red")
        if not data.session:
            return Text("waiting for the first span", "dim")
        left = self._spent(cache=True)
        if left.cell_len + 2 + cell_len(data.delivery.text) > width:
            left = self._spent(cache=False)  # why something waits matters more
        room = max(12, width - left.cell_len - 2)
        return _ends(left, Text(_cut(data.delivery.text, room, glyphs), data.delivery.style), width, glyphs)

    def _spent(self, *, cache: bool) -> Text:
        data, glyphs = self.data, self._glyphs
        spent = Text()
        for glyph, count in ((glyphs.up, data.input_tokens), (glyphs.down, data.output_tokens)):
            spent.append(f"{glyph} ", "dim").append(f"{short_number(count)}  ")
        if cache:
            spent.append("cache ", "dim").append(f"{short_number(data.cache_tokens)}  ")
        if data.cost is not None:
            spent.append(f"${data.cost:.2f}")
        spent.rstrip()
        return spent


def _cut(text: str, width: int, glyphs: Glyphs) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)) + glyphs.more


def _ends(left: Text, right: Text, width: int, glyphs: Glyphs) -> Text:
    """Two texts at the ends of a line; the left one gives way."""
    room = width - right.cell_len - 2
    if left.cell_len > room:
        left = Text(_cut(left.plain, max(0, room), glyphs), left.style)
    gap = max(1, width - left.cell_len - right.cell_len)
    return Text.assemble(left, " " * gap, right)


_LEAST_ID = 14  # cells in which an id can still be told from others
_TOLD = ("f", "n", "P")  # what these stand for is said: what came, and what was found
_SESSIONS = "s"
_NEW_SESSION = "s new"  # where there is no room for more words
_HELP = "?"  # who sees this one finds all others


class FooterData(msgspec.Struct, frozen=True):
    """Which views there are and which is open, a word on what arrived unseen, and the keys that matter.

    `views` and `keys` are (key, words); `view` is the key of the open one. `spoken`: the words of the first
    key matter more than the names of the views that are not open. `paused`: the view is frozen. `search`: how
    a search stands. `others`: a newer session waits, which is said whatever else is.
    """

    views: tuple[tuple[str, str], ...] = ()
    view: str = ""
    unseen: int = 0
    following: bool = True
    keys: tuple[tuple[str, str], ...] = ()
    spoken: bool = False
    paused: bool = False
    search: str = ""
    others: bool = False


class PaneFooter(Widget):
    """One line: the views with their numbers, then the keys that matter; everything can be clicked."""

    data: reactive[FooterData] = reactive(FooterData())

    @dataclass
    class Pressed(Message):
        """A part of the footer was clicked; `key` is the key it stands for."""

        key: str

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__(id="footer")
        self._glyphs = glyphs
        self._targets: list[tuple[int, int, str]] = []

    def render(self) -> RenderResult:
        data, width = self.data, self.content_size.width
        keys = [(key, f"{key} {words}") for key, words in data.keys]
        spoken = data.spoken
        waits = [each for each in keys if each[0] == _SESSIONS and data.others]
        if data.paused:
            news = f", +{data.unseen} new" if data.unseen else ""
            keys, spoken = [("P", f"P paused{news}"), *waits, *keys[-2:]], True
        elif data.unseen:
            keys, spoken = [("f", f"+{data.unseen} new, f follows"), *waits, *keys[-2:]], True
        elif not data.following:
            keys, spoken = [("f", "f follow"), *keys], True
        if data.search:
            keys, spoken = [("n", data.search), *keys], True
        least = [
            (key, text if (spoken and not at) or key in _TOLD else self._short(key))
            for at, (key, text) in enumerate(keys)
        ]
        told = [each for each in least if self._stays(each[0])]
        left = self._named(width - self._length(least), width - self._length(told))
        right = self._shortened(keys, width - self._length(left))
        self._targets = []
        line = Text()
        self._add(line, left, data.view, "bold")
        line.append(" " * max(0, width - line.cell_len - self._length(right)))
        self._add(line, right, "P" if data.paused else "f" if data.unseen else "", "bold yellow")
        return line

    def _named(self, room: int, most: int) -> list[tuple[str, str]]:
        """The views by name; where they do not fit, those that are not open by key and mark alone; where
        that takes more than `most`, the open one without its mark, then all of them by their keys. The mark
        of an open one that says what is shown (`Tree: errors`) outlasts the marks of the others.
        """
        views = self.data.views
        parts = [(key, f"{key} {words}") for key, words in views]
        closed = [at for at, (key, _) in enumerate(views) if key != self.data.view]
        by_mark = ((at, f"{views[at][0]} {views[at][1].partition(' ')[2]}") for at in reversed(closed))
        opened = ((at, f"{key} {words.split()[0]}") for at, (key, words) in enumerate(views))
        by_key = ((at, key) for at, (key, _) in enumerate(views))
        kept = [at for at, (_, words) in enumerate(views) if at not in closed and ": " in words]
        bare = [(at, views[at][0]) for at in reversed(closed)] if kept else []
        plain = (*bare, *(each for each in opened if each[0] not in closed), *by_key)
        for limit, shorter in ((room, by_mark), (most, plain)):
            for at, text in shorter:
                if self._length(parts) <= limit:
                    break
                parts[at] = (views[at][0], text.rstrip(" :"))
        return parts

    def _shortened(self, keys: list[tuple[str, str]], room: int) -> list[tuple[str, str]]:
        """What fits: the words of the last keys go first, as everybody knows those; then the keys."""
        for at in reversed(range(len(keys))):
            if self._length(keys) <= room:
                break
            if keys[at][0] not in _TOLD:
                keys[at] = (keys[at][0], self._short(keys[at][0]))
        while keys and self._length(keys) > room:
            spare = [at for at, (key, _) in enumerate(keys) if not self._stays(key)]
            keys.pop(next(iter(spare), -1))
        return keys

    def _short(self, key: str) -> str:
        """What is said of a key where there is little room."""
        return _NEW_SESSION if key == _SESSIONS and self.data.others else key

    def _stays(self, key: str) -> bool:
        return key in (*_TOLD, _HELP) or (key == _SESSIONS and self.data.others)

    def _length(self, parts: Sequence[tuple[str, str]]) -> int:
        return sum(cell_len(text) + 2 for _, text in parts)

    def _add(self, line: Text, parts: Sequence[tuple[str, str]], strong: str, style: str) -> None:
        for key, text in parts:
            begin = line.cell_len
            line.append(f" {text} ", style if key == strong else "dim")
            self._targets.append((begin, line.cell_len, key))

    def on_click(self, event: events.Click) -> None:
        for begin, end, key in self._targets:
            if begin <= event.x < end:
                self.post_message(self.Pressed(key))
                return
