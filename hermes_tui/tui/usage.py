"""What the usage view shows, gathered from what is known. No I/O; `usage_lines` lays it out."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import msgspec

from hermes_tui.figures import short_cost, short_number
from hermes_tui.model.compare import Difference, Told
from hermes_tui.model.days import Day
from hermes_tui.model.samples import Sample
from hermes_tui.model.spending import MODEL_CALL, TOOL, Book, Slow, Sum, Tally
from hermes_tui.model.sums import Sums
from hermes_tui.model.turns import TraceView, Turn
from hermes_tui.model.usage import Usage
from hermes_tui.model.windows import Window, Windows
from hermes_tui.tui.charts import spread
from hermes_tui.tui.differing import difference_line
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.rows import RowKey, node_row, shown, turn_key
from hermes_tui.tui.shown import ShownSession

TURNS = 10  # that are listed at most, the most expensive ones
NAMES = 12  # tools or models that are listed at most
COLUMNS = 400  # of the chart; more than fits any line
_CENT = 0.00005  # US dollars: less is not shown

EDGES_NS = tuple(base * 10**power for power in range(7, 12) for base in (1, 3))
"""Of the histogram: 10 ms, 30 ms, … 5 minutes."""

Compare = Callable[[TraceView, Told, int], tuple[Difference, ...]]


class SumRow(NamedTuple):
    """A line of a table of tokens. `said` is what others say of it, already in words."""

    label: str
    usage: Usage
    calls: int | None = None
    unpriced: int = 0
    said: tuple[str, ...] = ()
    key: RowKey | None = None
    title: str = ""


class Context(NamedTuple):
    """How the context grew: `series` after each model call (the largest of several when there are many),
    `now` after the newest, of `model`.
    """

    model: str
    calls: int
    series: tuple[int, ...]
    first: int
    most: int
    now: int
    window: Window | None


class LatencyRow(NamedTuple):
    """Nanoseconds."""

    name: str
    calls: int
    p50: int
    p95: int
    most: int


class SlowRow(NamedTuple):
    """One of the slowest spans. `style` is the name of a component class."""

    key: RowKey
    duration_ns: int
    glyph: str
    text: str
    style: str
    where: str


class UsageData(msgspec.Struct, frozen=True):
    """All that the view shows; equal data means nothing to repaint. `behind`: turns still to be counted."""

    behind: int = 0
    sums: tuple[SumRow, ...] = ()
    models: tuple[SumRow, ...] = ()
    days: tuple[tuple[str, Day], ...] = ()
    turns: tuple[SumRow, ...] = ()
    more_turns: int = 0
    context: Context | None = None
    latency: tuple[tuple[str, tuple[LatencyRow, ...], int], ...] = ()
    histogram: tuple[tuple[int, int], ...] = ()
    slowest: tuple[SlowRow, ...] = ()


class Others(msgspec.Struct, frozen=True):
    """What is known from elsewhere. `days` None: not read yet; `told` is MLflow's record by trace, `hermes`
    Hermes' own sums of the session with how many model calls they are of.
    """

    days: tuple[Day, ...] | None = None
    told: Mapping[bytes, Told] = msgspec.field(default_factory=dict)
    hermes: tuple[Sums, int] | None = None
    windows: Windows = msgspec.field(default_factory=Windows)


class UsageState:
    """Keeps the book of the session that is shown, while somebody looks."""

    def __init__(self, glyphs: Glyphs) -> None:
        self._glyphs = glyphs
        self._book = Book("")
        self._forest: object = None
        self._numbers: Mapping[int, int] = {}

    def update(self, session: ShownSession) -> bool:
        """Count some of what is new; whether all is counted."""
        if self._forest is not session.forest:
            self._forest, self._book = session.forest, Book(session.id)
        return self._book.update(session.forest)

    def data(
        self, session: ShownSession, others: Others, compare: Compare, now_ns: int, today: date
    ) -> UsageData:
        """What to show now; `today` in local time. `compare` as `compare.differences`."""
        book, total = self._book, self._book.sum()
        self._numbers = _numbers(session)
        turns = session.forest.turns
        listed = _largest(turns) if len(turns) > 1 else []
        differing = _Differing(session, others.told, compare, now_ns)
        samples = book.samples
        names = (("kind", samples.kinds), ("tool", samples.tools), ("model", samples.models))
        return UsageData(
            behind=book.behind,
            sums=tuple(self._sums(session, total, others, differing, listed, today)),
            models=_models(total),
            days=tuple((_day(day.date, today), day) for day in others.days or ()),
            turns=tuple(self._turn(turn, session, differing) for turn in listed),
            more_turns=len(turns) - len(listed) if listed else 0,
            context=_context(book, others.windows),
            latency=tuple((of, *_latency(found)) for of, found in names if found),
            histogram=_histogram(samples.kinds.get(MODEL_CALL), samples.kinds.get(TOOL)),
            slowest=tuple(row for slow in total.slowest if (row := self._slow(slow, session)) is not None),
        )

    def _sums(
        self,
        session: ShownSession,
        total: Sum,
        others: Others,
        differing: _Differing,
        listed: Sequence[Turn],
        today: date,
    ) -> list[SumRow]:
        """The newest turn, the session, its subagents, and today everywhere."""
        rows = []
        turns = session.forest.turns
        newest = next((turn for turn in reversed(turns) if not turn.review), turns[-1] if turns else None)
        if newest is not None:
            row = self._turn(newest, session, differing)._replace(title="")
            # A row is picked in one place: where it is listed among others.
            rows.append(row._replace(key=None) if newest in listed else row)
        own = total.own
        said = (*_hermes(session.totals.usage, own.calls, others.hermes), *differing.of_session())
        rows.append(SumRow("session", session.totals.usage, own.calls, own.calls - own.priced, said))
        if total.below.calls:
            rows.append(_row("subagents", total.below))
        now = next((day for day in others.days or () if day.date == today), None)
        if now is not None:
            rows.append(_day_row("all today", now))
        return rows

    def _turn(self, turn: Turn, session: ShownSession, differing: _Differing) -> SumRow:
        tally = self._book.turn(turn)
        # Of another session's turn only this session's share is meant.
        usage = turn.totals.usage if turn.session == session.id or tally is None else tally.usage
        return SumRow(
            _place(turn, self._numbers),
            usage,
            tally.calls if tally is not None else None,
            tally.calls - tally.priced if tally is not None else 0,
            differing.of_turn(turn),
            turn_key(turn),
            shown(turn.prompt),
        )

    def _slow(self, slow: Slow, session: ShownSession) -> SlowRow | None:
        node = session.forest.trees[slow.trace_id].nodes.get(slow.span_id)
        turn = session.forest.views[slow.trace_id].turn_of.get(slow.span_id)
        if node is None or turn is None:
            return None
        row = node_row(node, slow.trace_id, 0, "", False, self._glyphs)
        key = (slow.trace_id, slow.span_id, "span")
        return SlowRow(key, slow.duration_ns, row.glyph, row.text, row.style, _place(turn, self._numbers))


def _numbers(session: ShownSession) -> dict[int, int]:
    """The turns' numbers as the tree shows them, by their identity: a look for each would be linear."""
    return {id(each.turn): number for number, each in enumerate(session.turns, 1) if each.turn is not None}


def _place(turn: Turn, numbers: Mapping[int, int]) -> str:
    return f"turn {numbers[id(turn)]}" if id(turn) in numbers else "turn"


def _largest(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with most tokens; of equals the newest first."""
    return heapq.nlargest(TURNS, turns, key=lambda turn: (turn.totals.usage.tokens, turn.start_ns))


class _Differing:
    """Where MLflow's record of the session's traces has other tokens or cost."""

    def __init__(
        self, session: ShownSession, told: Mapping[bytes, Told], compare: Compare, now_ns: int
    ) -> None:
        self._found: dict[bytes, list[Difference]] = {}
        self._turns = 0
        views = session.forest.views
        for trace_id, record in told.items():
            if (view := views.get(trace_id)) is not None and view.turns:
                self._turns += 1
                differences = compare(view, record, now_ns)
                if some := [each for each in differences if each.what in _OF_USAGE]:
                    self._found[trace_id] = some
        self._views = views

    def of_turn(self, turn: Turn) -> tuple[str, ...]:
        """MLflow has one record for a trace: it is told of at the trace's first turn."""
        view = self._views.get(turn.trace_id)
        if view is None or view.turns[0] is not turn:
            return ()
        of = f", of {len(view.turns)} turns together" if len(view.turns) > 1 else ""
        by_reason: dict[str, list[str]] = {}
        for each in self._found.get(turn.trace_id, ()):
            by_reason.setdefault(each.why, []).append(f"{each.what} {difference_line(each)}")
        return tuple(f"MLflow{of}: {'; '.join(what)} ({why})" for why, what in by_reason.items())

    def of_session(self) -> tuple[str, ...]:
        """What MLflow's records come to when they are more or less in sum."""
        if not self._found:
            return ()
        parts = []
        for what in _OF_USAGE:
            some = [each for found in self._found.values() for each in found if each.what == what]
            if some:
                more = sum(_number(each.theirs) - _number(each.ours) for each in some)
                parts.append(f"{what} {_signed(more, cost=what == 'cost')}")
        count = len(self._found)
        noun = "trace" if self._turns == 1 else "traces"
        return (f"MLflow: {', '.join(parts)}, in {count} of {self._turns} {noun} it has (4 tells why)",)


_OF_USAGE = ("tokens in", "tokens out", "cost")


def _number(value: str | float | None) -> float:
    return value if isinstance(value, int | float) else 0.0


def _signed(value: float, *, cost: bool) -> str:
    sign = "+" if value >= 0 else "-"
    return f"{sign}{short_cost(abs(value)) if cost else short_number(round(abs(value)))}"


def _hermes(ours: Usage, calls: int, theirs: tuple[Sums, int] | None) -> tuple[str, ...]:
    """What Hermes' own records say where that is something else."""
    if theirs is None or theirs[1] < 0:
        return ()
    sums, their_calls = theirs
    pairs = (
        ("in", ours.input_tokens, sums.input_tokens),
        ("cached", ours.cache_read_tokens, sums.cache_read_tokens),
        ("out", ours.output_tokens, sums.output_tokens),
        ("reasoning", ours.reasoning_tokens, sums.reasoning_tokens),
    )
    parts = [f"{short_number(theirs)} {what}" for what, here, theirs in pairs if here != theirs]
    if sums.cost is not None and abs(sums.cost - (ours.cost or 0.0)) >= _CENT:
        parts.append(short_cost(sums.cost))
    if not parts:
        return ()
    why = f" ({their_calls:,} model calls, here {calls:,})" if their_calls != calls else ""
    return (f"Hermes: {', '.join(parts)}{why}",)


def _row(label: str, tally: Tally) -> SumRow:
    return SumRow(label, tally.usage, tally.calls, tally.calls - tally.priced)


def _day_row(label: str, day: Day) -> SumRow:
    return SumRow(label, day.usage, day.calls, day.calls - day.priced)


def _day(day: date, today: date) -> str:
    return "today" if day == today else day.strftime("%a %d")


def _models(total: Sum) -> tuple[SumRow, ...]:
    """Those that took most first; what is beyond the list is summed up."""
    order = sorted(total.models.items(), key=lambda each: (-each[1].usage.tokens, each[0]))
    rows = [_row(shown(model) or "(no name)", tally) for model, tally in order[:NAMES]]
    if len(order) > NAMES:
        rest = Tally()
        for _, tally in order[NAMES:]:
            rest.add(tally)
        rows.append(_row(f"{len(order) - NAMES} more", rest))
    return tuple(rows)


def _context(book: Book, windows: Windows) -> Context | None:
    if not book.calls:
        return None
    sizes = [call.input_tokens + call.output_tokens for call in book.calls]
    newest = book.calls[-1]
    series = sizes if len(sizes) <= COLUMNS else spread(sizes, COLUMNS)
    return Context(
        shown(newest.model),
        len(sizes),
        tuple(series),
        sizes[0],
        max(sizes),
        sizes[-1],
        windows.of(newest.model) if newest.model else None,
    )


def _latency(samples: Mapping[str, Sample]) -> tuple[tuple[LatencyRow, ...], int]:
    """Those first that most time went into; and how many are not listed."""
    order = sorted(samples.items(), key=lambda each: (-len(each[1]) * each[1].percentile(50), each[0]))
    rows = [
        LatencyRow(shown(name) or "(no name)", len(sample), *map(sample.percentile, (50, 95, 100)))
        for name, sample in order
        if sample
    ]
    return tuple(rows[:NAMES]), max(0, len(rows) - NAMES)


def _histogram(models: Sample | None, tools: Sample | None) -> tuple[tuple[int, int], ...]:
    """How many model calls and tool calls took so long, by `EDGES_NS`."""
    both: Collection[Sample] = [sample or Sample() for sample in (models, tools)]
    return tuple(zip(*(sample.histogram(EDGES_NS) for sample in both), strict=True)) if any(both) else ()
