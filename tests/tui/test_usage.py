"""The usage view's data and lines: what stands where, at any width, in any glyphs, and who says otherwise."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from hermes_tui.figures import short_cost, short_latency
from hermes_tui.model.compare import Difference, Told, differences
from hermes_tui.model.days import Day
from hermes_tui.model.span import Delivery, Kind, Role, Span
from hermes_tui.model.state_rows import SessionRow
from hermes_tui.model.sums import Sums, sums_of
from hermes_tui.model.turns import TraceView
from hermes_tui.model.usage import Usage
from hermes_tui.model.windows import Window, Windows
from hermes_tui.tui.glyphs import ASCII, UNICODE, Glyphs
from hermes_tui.tui.lines import Line
from hermes_tui.tui.shown import ShownSession
from hermes_tui.tui.usage import NAMES, TURNS, Others, UsageData, UsageState
from hermes_tui.tui.usage_lines import NO_CALLS, usage_lines
from hermes_tui.tui.widgets.page import Page
from hermes_tui.tui.widgets.usage_view import UsageView
from tests.model.test_spending import call
from tests.model.timeline import row_of
from tests.state_player import state_events
from tests.support import SECOND, agent_span, make_span, recorded_spans, recording_names, span_id, trace_id
from tests.tui import hostile
from tests.tui.stage import show

NAMES_OF_RECORDINGS = recording_names()
TODAY = date(2026, 11, 23)
WIDTHS = (8, 20, 37, 38, 46, 58, 66, 78, 118, 198)
BOTH = pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])


def compared(view: TraceView, told: Told, now_ns: int) -> tuple[Difference, ...]:
    return tuple(differences(view, told, now_ns))


def data_of(session: ShownSession, others: Others | None = None) -> UsageData:
    state = UsageState(session.glyphs)
    while not state.update(session):
        pass
    return state.data(session, others or Others(), compared, SECOND * 10**6, TODAY)


def drawn(data: UsageData, width: int = 58, glyphs: Glyphs = UNICODE) -> list[str]:
    return [text_of(line) for line in usage_lines(data, width, glyphs)]


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line.parts).rstrip()


def below(data: UsageData, heading: str, width: int = 58, glyphs: Glyphs = UNICODE) -> list[str]:
    """The lines of one section, its heading first."""
    lines = drawn(data, width, glyphs)
    first = next(at for at, line in enumerate(lines) if line.startswith(heading))
    last = next((at for at in range(first, len(lines)) if not lines[at]), len(lines))
    return lines[first:last]


def turn(trace: int, *calls: Span, **said: Any) -> list[Span]:
    """A turn of session "s" with these calls in it."""
    first = trace * 100
    start = SECOND * (1_000 + 100 * trace)
    root = agent_span(
        first, trace=trace, prompt=f"prompt {trace}", final_status="completed", start_ns=start, **said
    )
    placed = [
        replace(each, trace_id=trace_id(trace), parent_id=span_id(first), span_id=span_id(first + n),
                start_ns=start + n, end_ns=start + n + SECOND // 4)
        for n, each in enumerate(calls, 1)
    ]  # fmt: skip
    return [root, *placed]


# ---- every recording at every width


@pytest.mark.parametrize("name", NAMES_OF_RECORDINGS)
@BOTH
def test_no_line_is_too_long_and_every_style_is_known(name: str, glyphs: Glyphs) -> None:
    known = {each.removeprefix("row--") for each in Page.COMPONENT_CLASSES | UsageView.COMPONENT_CLASSES}
    for session in {span.session for span in recorded_spans(name)}:
        shown = show(recorded_spans(name), session=session, glyphs=glyphs)
        others = Others(days=(_day(TODAY), _day(date(2026, 11, 22))), windows=Windows({"*": 20_000}))
        data = data_of(shown, others)
        for width in WIDTHS:
            for line in usage_lines(data, width, glyphs):
                assert cell_len("".join(text for text, _ in line.parts)) <= width
                assert {style for _, style in line.parts} <= known
                assert all(text for text, _ in line.parts)
                if glyphs is ASCII:
                    assert text_of(line).replace("⏎", "").isascii() or name in _WIDE_TEXTS, text_of(line)


_WIDE_TEXTS = ("shell_corners", "v123_preview")  # commands in them are not ASCII


def _day(day: date, **said: Any) -> Day:
    return Day(day, said.pop("usage", Usage(1_000, 10, 400)), 3, 0, 1, **said)


@pytest.mark.parametrize("name", NAMES_OF_RECORDINGS)
def test_a_row_can_be_picked_in_one_place_only(name: str) -> None:
    for session in {span.session for span in recorded_spans(name)}:
        for width in (38, 78):
            lines = usage_lines(data_of(show(recorded_spans(name), session=session)), width, UNICODE)
            runs = [
                line.key
                for before, line in zip([Line(), *lines], lines, strict=False)
                if line.key != before.key
            ]
            picks = [key for key in runs if key is not None]
            assert len(picks) == len(set(picks))


def test_of_a_recording() -> None:
    data = data_of(show(recorded_spans("shell_corners")), Others(days=(_day(TODAY),)))
    assert below(data, "Tokens") == [
        "Tokens                 in cached         out reason  calls",
        "turn 1             253.9k 142.8k  56%    624      7     12",
        "session            253.9k 142.8k  56%    624      7     12",
        "all today            1.0k    400  40%     10      –      3",
        "cached is part of in, reasoning part of out; no call named",
        "a price",
    ]
    assert below(data, "Slowest")[1:3] == [
        "   5.2s $ for i in 1 2 3 4 5; do echo tick $i; sl…  turn 1",
        "   2.2s $ echo P2; sleep 2; echo done2              turn 1",
    ]
    assert below(data, "Latency")[:4] == [
        "Latency                          count   p50   p95     max",
        "turn                                 1   14s   14s     14s",
        "model call                          12  0.3s  0.5s    0.5s",
        "tool                                13  35ms  5.2s    5.2s",
    ]
    assert below(data, "Took") == [
        "Took    model calls              tools",
        " < 10ms                          █▋ 1",
        " < 30ms                          █████▏ 3",
        " < 0.1s                          ██████████▎ 6",
        " < 0.3s ███████████████████ 11",
        " < 1.0s █▋ 1",
        " < 3.0s                          ███▍ 2",
        "  < 10s                          █▋ 1",
    ]


# ---- tokens


def test_columns_give_way_and_what_they_said_stands_below() -> None:
    calls = [call(1, input_tokens=92_100, output_tokens=1_300, cache_read_tokens=46_050, cost=0.12)]
    calls[0] = replace(calls[0], cache_write_tokens=1_200, reasoning_tokens=70)
    data = data_of(show(turn(1, *calls), session="s"))
    wide = ["turn 1                  92.1k  46.0k  50%    1.2k   1.3k     70   $0.12      1"]
    assert below(data, "Tokens", 78)[1:2] == wide
    assert below(data, "Tokens", 58)[:2] == [
        "Tokens        in cached      written    out reason    cost",
        "turn 1     92.1k  46.0k  50%    1.2k   1.3k     70   $0.12",
    ]
    assert below(data, "Tokens", 38)[1:3] == [
        "turn 1     92.1k  46.0k   1.3k   $0.12",
        "  1.2k written, 70 reasoning",
    ]


@pytest.mark.parametrize(
    ("costs", "shown_", "note"),
    [
        ((0.25, 0.5), "$0.75", None),
        ((0.25, None), "$0.25+", "+: 1 call named no price"),
        ((None, None), None, "no call named a price"),
        ((0.0, 0.0), "$0.00", None),
    ],
)
def test_costs_and_what_named_none(
    costs: tuple[float | None, ...], shown_: str | None, note: str | None
) -> None:
    calls = [call(n, cost=cost, cache_read_tokens=None) for n, cost in enumerate(costs, 1)]
    lines = below(data_of(show(turn(1, *calls), session="s")), "Tokens")
    assert ("cost" in lines[0]) == (shown_ is not None)
    assert shown_ is None or lines[1].split()[-2] == shown_
    assert (note in lines) if note is not None else not any("price" in line for line in lines)


def test_a_part_that_is_more_than_the_whole_has_no_share() -> None:
    """Some senders count what came from the cache apart from the input."""
    data = data_of(show(turn(1, call(1, input_tokens=100, cache_read_tokens=900)), session="s"))
    assert "%" not in below(data, "Tokens")[1]


def test_subagents_stand_apart_and_a_subagents_session_is_its_own() -> None:
    spans = recorded_spans("subagents")
    rows = {row.label: row.usage.input_tokens for row in data_of(show(spans)).sums}
    assert rows == {"turn 1": 49_773, "session": 30_702, "subagents": 19_071}
    parent = show(spans).id
    for child in {span.session for span in spans} - {parent}:
        if child is not None and show(spans, session=child).totals.usage.tokens:
            rows = {row.label: row.usage.input_tokens for row in data_of(show(spans, session=child)).sums}
            assert set(rows) == {"turn 1", "session"}
            assert rows["turn 1"] == rows["session"] < 10_000


def test_the_newest_turn_is_the_users() -> None:
    data = data_of(show(recorded_spans("v123_preview")))
    assert data.sums[0].label == "turn 1"
    assert data.sums[0].key is None, "it is picked where all turns are listed"
    assert [row.label for row in data.turns] == ["turn 1", "turn 2"]


def test_no_calls() -> None:
    data = data_of(show([agent_span(0)], session="s"))
    assert drawn(data)[0] == NO_CALLS
    assert not any("Context" in line for line in drawn(data))


def test_the_largest_turns_are_listed_and_the_rest_is_counted() -> None:
    spans = [span for n in range(25) for span in turn(n, call(1, input_tokens=1_000 * (n % 7 + 1)))]
    data = data_of(show(spans, session="s"))
    assert [row.label for row in data.turns] == [
        f"turn {n + 1}" for n in (20, 13, 6, 19, 12, 5, 18, 11, 4, 24)
    ]
    lines = below(data, "Top turns", 78)
    assert lines[1].startswith("turn 21  prompt 20")
    assert lines[-1] == "… and 15 more"
    assert len(data.turns) == TURNS
    narrow = below(data, "Top turns", 38)
    assert narrow[1:3] == ["turn 21      7.0k      –     10      1", "  prompt 20"]


def test_many_models_and_tools_are_summed_up_or_counted() -> None:
    calls = [call(n, model=f"m{n:02}", input_tokens=1_000 + n) for n in range(1, 20)]
    tools = [make_span(50 + n, kind=Kind.TOOL, role=Role.TOOL, tool=f"t{n:02}") for n in range(20)]
    data = data_of(show(turn(1, *calls, *tools), session="s"))
    assert len(data.models) == NAMES + 1
    assert data.models[-1].label == "7 more"
    assert sum(row.usage.input_tokens for row in data.models) == data.sums[1].usage.input_tokens
    assert [(of, len(rows), more) for of, rows, more in data.latency] == [
        ("kind", 3, 0), ("tool", NAMES, 8), ("model", NAMES, 7),
    ]  # fmt: skip
    assert "… and 8 more" in below(data, "Latency")


def test_long_names_have_a_line_of_their_own_and_are_cut_in_their_middle() -> None:
    name = "openrouter/anthropic/claude-opus-4-8-20261101"
    data = data_of(show(turn(1, call(1, model=name)), session="s"))
    for heading in ("Models", "Latency"):
        assert name in below(data, heading, 58)
        assert "openrouter/anthropi…-opus-4-8-20261101" in below(data, heading, 38)


# ---- days


def test_days_that_are_not_read_through_are_marked() -> None:
    days = (_day(TODAY), _day(date(2026, 11, 22), whole=False))
    data = data_of(show(recorded_spans("weather")), Others(days=days))
    assert [line.split()[0] for line in below(data, "Days, all")] == ["Days,", "today", "Sun"]
    assert "Sun 22 …" in below(data, "Days, all")[2]
    assert "all today" in below(data, "Tokens")[3]


def test_today_alone_stands_above_only() -> None:
    data = data_of(show(recorded_spans("weather")), Others(days=(_day(TODAY),)))
    assert not any("Days" in line for line in drawn(data))
    yesterday = data_of(show(recorded_spans("weather")), Others(days=(_day(date(2026, 11, 22)),)))
    assert below(yesterday, "Days, all")[1].startswith("Sun 22")
    assert not any("all today" in line for line in drawn(yesterday))


# ---- context


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (None, ["What its window holds is not known. The settings can say:", "  windows: {gpt: 200k}"]),
        (
            200_000,
            [
                "███████████████████▏░░░░░░░░░░░░░░░░░░░░ 48%",
                "104.0k left of the 200.0k that gpt holds (settings)",
            ],
        ),
        (
            100_000,
            [
                "██████████████████████████████████████▍░ 96%",
                "4.0k left of the 100.0k that gpt holds (settings)",
            ],
        ),
        (
            50_000,
            [
                "████████████████████████████████████████ 192%",
                "more than fits of the 50.0k that gpt holds (settings)",
            ],
        ),
    ],
)
def test_what_is_left_of_the_context(tokens: int | None, said: list[str]) -> None:
    calls = [call(n, input_tokens=n * 10_000 - 1_000, output_tokens=1_000) for n in (1, 4, 9)]
    calls.append(replace(calls[-1], input_tokens=95_000))
    windows = Windows({"gpt": tokens} if tokens else {})
    data = data_of(show(turn(1, *calls), session="s"), Others(windows=windows))
    assert data.context is not None
    assert data.context.series == (10_000, 40_000, 90_000, 96_000)
    assert (data.context.first, data.context.most, data.context.now) == (10_000, 96_000, 96_000)
    assert data.context.window == (Window(tokens, "settings") if tokens else None)
    lines = below(data, "Context after each of 4 calls")
    assert lines[5] == "now 96.0k, at first 10.0k, at most 96.0k tokens"
    assert lines[6:] == said


def test_a_compacted_context_is_seen_to_shrink() -> None:
    sizes = [50_000, 90_000, 20_000, 30_000]
    calls = [call(n, input_tokens=size, output_tokens=0) for n, size in enumerate(sizes, 1)]
    data = data_of(show(turn(1, *calls), session="s"))
    assert below(data, "Context")[1:6] == [
        "90.0k     ████",
        "      ▂▂▂▂████",
        "      ████████    ▃▃▃▃",
        "    0 ████████▇▇▇▇████",
        "now 30.0k, at first 50.0k, at most 90.0k tokens",
    ]


# ---- who says otherwise


def told(**said: Any) -> Told:
    return Told(**{"state": "OK", "spans": 2, "input_tokens": 101, "output_tokens": 10, **said})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, ()),
        ({"input_tokens": 202}, ("MLflow: tokens in 101 here, 202 there",)),
        ({"output_tokens": None}, ("MLflow: tokens out 10 here, none there",)),
        ({"cost": 0.5}, ("MLflow: cost none here, $0.5000 there (Hermes named no price",)),
        ({"spans": 9}, ()),
        (
            {"input_tokens": 202, "output_tokens": 20},
            ("MLflow: tokens in 101 here, 202 there; tokens out 10 here, 20 there (unknown why)",),
        ),
    ],
)
def test_what_mlflow_says_otherwise_of_a_turn(said: dict[str, Any], words: tuple[str, ...]) -> None:
    spans = [replace(span, delivery=Delivery.CONFIRMED) for span in turn(1, call(1))]
    data = data_of(show(spans, session="s"), Others(told={trace_id(1): told(**said), trace_id(7): told()}))
    assert len(data.sums[0].said) == len(words)
    for line, begins in zip(data.sums[0].said, words, strict=True):
        assert line.startswith(begins)


def test_what_mlflow_says_otherwise_comes_to() -> None:
    spans = [replace(span, delivery=Delivery.CONFIRMED) for n in range(3) for span in turn(n, call(1))]
    others = Others(
        told={
            trace_id(0): told(input_tokens=2_101, cost=0.25),
            trace_id(1): told(input_tokens=1, cost=0.5),
            trace_id(2): told(),
        }
    )
    data = data_of(show(spans, session="s"), others)
    assert data.sums[1].said == (
        "MLflow: tokens in +1.9k, cost +$0.75, in 2 of 3 traces it has (4 tells why)",
    )
    assert "  MLflow: tokens in +1.9k, cost +$0.75, in 2 of 3 traces" in drawn(data)


OURS = Sums(101, 10, 40, 1, 0, None)


@pytest.mark.parametrize(
    ("theirs", "calls", "said"),
    [
        (OURS, 1, ()),
        (OURS._replace(input_tokens=201), 1, ("Hermes: 201 in",)),
        (OURS._replace(input_tokens=201), 3, ("Hermes: 201 in (3 model calls, here 1)",)),
        (OURS._replace(cost=0.125), 1, ("Hermes: $0.12",)),
        (OURS._replace(cost=0.00001), 1, ()),
        (OURS._replace(reasoning_tokens=5, output_tokens=20), 1, ("Hermes: 20 out, 5 reasoning",)),
    ],
)
def test_what_hermes_says_otherwise(theirs: Sums, calls: int, said: tuple[str, ...]) -> None:
    spans = turn(1, call(1, input_tokens=101, cache_read_tokens=40, cache_write_tokens=1))
    data = data_of(show(spans, session="s"), Others(hermes=(theirs, calls)))
    assert data.sums[1].said == said


@pytest.mark.parametrize("name", ["three_turns", "subagents", "shell_corners", "v123_turns", "rate_limited"])
def test_hermes_own_records_agree_with_the_spans(name: str) -> None:
    """Recorded side by side: no figure differs, so nothing is said."""
    rows = [row_of(event, 1) for event in state_events(name)]
    sessions = {row.id: row for row in rows if isinstance(row, SessionRow)}
    assert sessions
    for session, row in sessions.items():
        others = Others(hermes=(sums_of(row), row.api_calls))
        data = data_of(show(recorded_spans(name), session=session), others)
        assert [each.said for each in data.sums if each.label == "session"] == [()]


# ---- texts


@BOTH
def test_hostile_names_are_harmless(glyphs: Glyphs) -> None:
    spans = turn(
        1, call(1, model=hostile.ALL), make_span(2, kind=Kind.TOOL, role=Role.TOOL, tool=hostile.ALL)
    )
    spans[0] = replace(spans[0], prompt=hostile.ALL)
    spans += turn(2, call(1))
    data = data_of(show(spans, session="s", glyphs=glyphs))
    for width in WIDTHS:
        for line in usage_lines(data, width, glyphs):
            text = "".join(text for text, _ in line.parts)
            assert hostile.OBEYED.search(text) is None, ascii(text)
            assert cell_len(text) <= width


def test_what_is_still_counted_says_so() -> None:
    spans = [span for n in range(3) for span in turn(n, call(1))]
    session = show(spans, session="s")
    state = UsageState(UNICODE)
    state._book.update(session.forest, most=0)
    data = state.data(session, Others(), compared, 0, TODAY)
    assert data.behind == 3
    assert drawn(data)[0] == "… still counting: 3 turns to go"
    assert data.sums[1].usage.input_tokens == 303, "the session's sum is known at once"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0004, "0ms"),
        (0.0123, "12ms"),
        (0.0499, "50ms"),
        (0.06, "0.1s"),
        (0.463, "0.5s"),
        (0.9996, "1.0s"),
        (1.25, "1.2s"),
        (59, "59s"),
        (727, "12:07"),
    ],
)
def test_latencies(seconds: float, text: str) -> None:
    assert short_latency(seconds) == text


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (0.0, "$0.00"),
        (0.00421, "$0.0042"),
        (0.00996, "$0.01"),
        (42.1, "$42.10"),
        (999.99, "$999.99"),
        (4_200, "$4.2k"),
    ],
)
def test_costs(cost: float, text: str) -> None:
    assert short_cost(cost) == text
