"""Pure: the usage view's data as lines of a given width. Text in `UsageData` is harmless already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from hermes_tui.figures import short_cost, short_latency, short_number
from hermes_tui.tui import charts
from hermes_tui.tui.glyphs import ASCII, Glyphs
from hermes_tui.tui.lines import Line, cut, fitted, middle, texts
from hermes_tui.tui.usage import EDGES_NS, Context, LatencyRow, SlowRow, SumRow, UsageData

PARTS = ("cached is part of in", "reasoning part of out")
NO_COST = "no call named a price"
NO_CALLS = "No model call has said its tokens yet."
NO_WINDOW = "What its window holds is not known. The settings can say:"

_CHART = 4  # lines
_LABEL, _WIDEST = 9, 44  # cells of a table's first column: least, most
_BESIDE = 30  # so much room, and a turn's prompt stands in its line
_TIMES = (6, 6, 6, 8)  # cells of the columns of latencies
_NEARLY = 0.8  # of a window: from there on it is a warning


def usage_lines(data: UsageData, width: int, glyphs: Glyphs) -> list[Line]:
    """The whole page, `width` cells wide at most."""
    width = max(8, width)
    lines: list[Line] = []
    if data.behind:
        lines += texts(f"{glyphs.more} still counting: {data.behind:,} turns to go", width, "live")
    lines += _tokens(data, width, glyphs)
    for section in (
        _context(data.context, width, glyphs),
        _table("Models", data.models, width, glyphs),
        _days(data, width, glyphs),
        _turns(data, width, glyphs),
        _slowest(data.slowest, width, glyphs),
        _latency(data, width, glyphs),
        _histogram(data.histogram, width, glyphs),
    ):
        if some := list(section):
            lines += [Line(), *some]
    return [fitted(line, width) for line in lines]


# ---- tokens and cost


class _Column(NamedTuple):
    """The highest `wanted` gives way first, 0 stays. `short` says a value where the column is not there."""

    title: str
    width: int
    text: Callable[[SumRow], str]
    wanted: int = 0
    short: str = ""


def _or_none(number: int, glyphs: Glyphs) -> str:
    return short_number(number) if number else glyphs.none


def _columns(glyphs: Glyphs) -> tuple[_Column, ...]:
    def share(row: SumRow) -> str:
        whole, part = row.usage.input_tokens, row.usage.cache_read_tokens
        return f"{part / whole:.0%}" if part and part <= whole else ""

    def cost(row: SumRow) -> str:
        if row.usage.cost is None:
            return glyphs.none
        return short_cost(row.usage.cost) + ("+" if row.unpriced else "")

    return (
        _Column("in", 7, lambda row: short_number(row.usage.input_tokens)),
        _Column("cached", 7, lambda row: _or_none(row.usage.cache_read_tokens, glyphs)),
        _Column("", 5, share, 3),
        _Column(
            "written",
            8,
            lambda row: _or_none(row.usage.cache_write_tokens, glyphs),
            2,
            "written",
        ),
        _Column("out", 7, lambda row: short_number(row.usage.output_tokens)),
        _Column("reason", 7, lambda row: _or_none(row.usage.reasoning_tokens, glyphs), 1, "reasoning"),
        _Column("cost", 8, cost),
        _Column("calls", 7, lambda row: "" if row.calls is None else short_number(row.calls), 4),
    )


def _fitting(rows: Sequence[SumRow], width: int, glyphs: Glyphs) -> tuple[list[_Column], list[_Column], int]:
    """Columns that are drawn, those that are not for want of room, and the room of the labels.

    A column in which nothing stands is no column.
    """
    used = [
        column
        for column in _columns(glyphs)
        if column.title in ("in", "cached", "out")
        or any(column.text(row) not in ("", glyphs.none) for row in rows)
    ]
    longest = min(_LABEL + 11, max((cell_len(row.label) for row in rows), default=0))
    dropped: list[_Column] = []
    while True:
        room = min(_WIDEST, width - sum(column.width for column in used))
        last = max(used, key=lambda column: column.wanted)
        if room >= max(_LABEL, longest) or not last.wanted:
            return used, dropped, max(0, room)
        used.remove(last)
        dropped.append(last)


def _table(heading: str, rows: Sequence[SumRow], width: int, glyphs: Glyphs) -> Iterator[Line]:
    """Tokens by row; what has no column is said below its row."""
    if not rows:
        return
    columns, dropped, label = _fitting(rows, width, glyphs)
    titles = "".join(column.title.rjust(column.width) for column in columns)
    yield Line(((set_cell_size(cut(heading, label, glyphs), label), "turn"), (titles, "dim")))
    for row in rows:
        numbers = "".join(column.text(row).rjust(column.width) for column in columns)
        if cell_len(row.label) > label and cell_len(row.label) > _LABEL:
            yield Line(((middle(row.label, width, glyphs), "command"),), row.key)
            yield Line(((" " * label, "command"), (numbers, "command")), row.key)
        else:
            name = set_cell_size(cut(row.label, label, glyphs), label)
            yield Line(((name, "command"), (numbers, "command")), row.key)
        yield from _below(row, dropped, width)
    if unpriced := [row for row in rows if row.unpriced and row.usage.cost is not None]:
        most = max(row.unpriced for row in unpriced)
        calls = "call" if most == 1 else "calls"
        yield from texts(f"+: {most:,} {calls} named no price", width, "dim", indent=2)


def _below(row: SumRow, dropped: Iterable[_Column], width: int) -> Iterator[Line]:
    said = [(column.text(row), column.short) for column in dropped if column.short]
    parts = [f"{text} {what}" for text, what in said if text[:1].isdigit()]
    for text in (", ".join(parts), *row.said):
        if text:
            for line in texts(text, max(8, width - 2), "dim", indent=2):
                yield Line((("  ", "dim"), *line.parts), row.key)


def _tokens(data: UsageData, width: int, glyphs: Glyphs) -> Iterator[Line]:
    if not any(row.usage.tokens or row.usage.cost is not None for row in data.sums):
        yield from texts(NO_CALLS, width, "dim")
        return
    yield from _table("Tokens", data.sums, width, glyphs)
    parts = [PARTS[0]] if any(row.usage.cache_read_tokens for row in data.sums) else []
    parts += [PARTS[1]] if any(row.usage.reasoning_tokens for row in data.sums) else []
    priced = any(row.usage.cost is not None for row in data.sums)
    said = [", ".join(parts)] if parts else []
    yield from texts("; ".join(said if priced else [*said, NO_COST]), width, "dim")


def _days(data: UsageData, width: int, glyphs: Glyphs) -> Iterator[Line]:
    rows = [
        SumRow(
            f"{label}{'' if day.whole else f' {glyphs.more}'}",
            day.usage,
            day.calls,
            day.calls - day.priced,
        )
        for label, day in data.days
    ]
    if [row.label for row in rows] != ["today"]:  # it stands above
        yield from _table("Days, all", rows, width, glyphs)


def _turns(data: UsageData, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """What was asked stands beside the turn's number where that leaves some of it, else below."""
    rows = list(data.turns)
    _, _, room = _fitting(rows, width, glyphs)
    if room >= _BESIDE:
        beside = ((row.label, cut(row.title, room - cell_len(row.label) - 2, glyphs)) for row in rows)
        labels = [f"{label}  {title}".rstrip() for label, title in beside]
        rows = [row._replace(label=label) for row, label in zip(rows, labels, strict=True)]
    else:
        titles = [cut(row.title, width - 2, glyphs) for row in rows]
        rows = [row._replace(said=(title, *row.said)) for row, title in zip(rows, titles, strict=True)]
    yield from _table("Turns" if not data.more_turns else "Top turns", rows, width, glyphs)
    if data.more_turns:
        yield Line(((f"{glyphs.more} and {data.more_turns:,} more", "dim"),))


# ---- context


def _context(context: Context | None, width: int, glyphs: Glyphs) -> Iterator[Line]:
    if context is None:
        return
    calls = f"{context.calls:,} call{'' if context.calls == 1 else 's'}"
    heading = f"Context after each of {calls}" if context.calls > 1 else "Context after 1 call"
    yield Line(((cut(heading, width, glyphs), "turn"),))
    gutter = max(cell_len(short_number(context.most)), 5)
    chart = charts.columns(context.series, width - gutter - 1, _CHART, glyphs)
    labels = [short_number(context.most), *[""] * (_CHART - 2), "0"]
    for label, text in zip(labels, chart, strict=True):
        yield Line(((f"{label.rjust(gutter)} ", "dim"), (text, "llm")))
    now, first, most = map(short_number, (context.now, context.first, context.most))
    yield from texts(f"now {now}, at first {first}, at most {most} tokens", width, "command")
    yield from _window(context, width, glyphs)


def _window(context: Context, width: int, glyphs: Glyphs) -> Iterator[Line]:
    window = context.window
    if window is None:
        if context.model:
            yield from texts(NO_WINDOW, width, "dim")
            yield Line(((cut(f"  windows: {{{context.model}: 200k}}", width, glyphs), "dim"),))
        return
    share = context.now / window.tokens
    left = max(0, window.tokens - context.now)
    style = "warning" if share >= _NEARLY else "good"
    room = max(4, min(40, width - 6))
    empty = "." if glyphs is ASCII else "░"
    filled = charts.bar(min(context.now, window.tokens), window.tokens, room, glyphs)
    yield Line(((filled, style), (empty * (room - cell_len(filled)), "dim"), (f" {share:.0%}", style)))
    full = f"{short_number(left)} left" if share <= 1 else "more than fits"
    text = f"{full} of the {short_number(window.tokens)} that {context.model} holds ({window.source})"
    yield from texts(text, width, style if share >= _NEARLY else "command")


# ---- time


def _slowest(rows: Sequence[SlowRow], width: int, glyphs: Glyphs) -> Iterator[Line]:
    if not rows:
        return
    yield Line((("Slowest", "turn"),))
    where = max(cell_len(row.where) for row in rows) + 2 if width >= 50 else 0
    for row in rows:
        time = short_latency(row.duration_ns / 1e9).rjust(7)
        room = max(1, width - 10 - where)
        text = set_cell_size(cut(row.text, room, glyphs), room)
        parts = ((time, "command"), (f" {row.glyph} ", row.style), (text, row.style))
        yield Line((*parts, (row.where.rjust(where) if where else "", "dim")), row.key)


def _latency(data: UsageData, width: int, glyphs: Glyphs) -> Iterator[Line]:
    if not data.latency:
        return
    label = min(_WIDEST, max(_LABEL, width - sum(_TIMES)))
    titles = "".join(map(str.rjust, ("count", "p50", "p95", "max"), _TIMES))
    yield Line(((set_cell_size("Latency", label), "turn"), (titles, "dim")))
    for number, (of, rows, more) in enumerate(data.latency):
        if number:
            yield Line(((f"by {of}", "dim"),))
        for row in rows:
            yield from _latency_row(row, label, width, glyphs)
        if more:
            yield Line(((f"{glyphs.more} and {more:,} more", "dim"),))


def _latency_row(row: LatencyRow, label: int, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """A name that is too long has a line of its own: names differ at their ends."""
    times = (short_latency(each / 1e9) for each in (row.p50, row.p95, row.most))
    numbers = "".join(map(str.rjust, (short_number(row.calls), *times), _TIMES))
    if cell_len(row.name) > label:
        yield Line(((middle(row.name, width, glyphs), "command"),))
        yield Line(((" " * label, "command"), (numbers, "command")))
    else:
        yield Line(((set_cell_size(row.name, label), "command"), (numbers, "command")))


def _histogram(counts: Sequence[tuple[int, int]], width: int, glyphs: Glyphs) -> Iterator[Line]:
    """Bars of model calls and of tools side by side, by how long they took."""
    taken = [at for at, both in enumerate(counts) if any(both)]
    if not taken:
        return
    label, number = 8, 6
    room = max(2, min(40, (width - label) // 2 - number))
    column = room + number
    heads = "".join(head.ljust(column)[:column] for head in ("model calls", "tools"))
    yield Line((("Took".ljust(label), "turn"), (heads.rstrip(), "dim")))
    most = max(max(both) for both in counts)
    for at in range(taken[0], taken[-1] + 1):
        parts: list[tuple[str, str]] = [(_span_of(at).rjust(label - 1) + " ", "dim")]
        for count, style in zip(counts[at], ("llm", "tool"), strict=True):
            drawn = charts.bar(count, most, room, glyphs)
            said = f" {short_number(count)}" if count else ""
            parts += [(drawn, style), (said.ljust(column - cell_len(drawn)), "dim")]
        yield Line(tuple(parts))


def _span_of(place: int) -> str:
    if place < len(EDGES_NS):
        return f"< {short_latency(EDGES_NS[place] / 1e9)}"
    return f"> {short_latency(EDGES_NS[-1] / 1e9)}"
