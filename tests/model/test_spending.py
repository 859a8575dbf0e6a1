"""What a session used: every token once, in agreement with the bytes, whatever the order of arrival."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Delivery, Kind, Role, Span, Status
from hermes_tui.model.spending import SLOWEST, Book, Sum, Tally
from hermes_tui.model.usage import NOTHING, Usage
from tests.support import SECOND, agent_span, make_span, recorded_spans, recording_names, trace_id, truth

NAMES = recording_names()
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def forest_of(spans: Sequence[Span], session: str) -> Forest:
    forest = Forest(session)
    forest.add(spans)
    forest.refresh()
    return forest


def book_of(spans: Sequence[Span], session: str) -> Book:
    book = Book(session)
    assert book.update(forest_of(spans, session))
    return book


def picture(book: Book) -> dict[str, Any]:
    """All that a book says, as plain values; costs rounded, as sums of floats depend on their order."""
    total = book.sum()
    return {
        "own": counts(total.own),
        "below": counts(total.below),
        "models": {name: counts(tally) for name, tally in sorted(total.models.items())},
        "slowest": total.slowest,
        "calls": book.calls,
        "times": [
            {
                name: (len(sample), [sample.percentile(p) for p in range(1, 101)])
                for name, sample in some.items()
                if sample
            }
            for some in book.samples
        ],
    }


def counts(tally: Tally) -> tuple[Any, ...]:
    usage = tally.usage
    cost = None if usage.cost is None else round(usage.cost, 9)
    return tally.calls, tally.priced, *(getattr(usage, name) for name in COUNTS), cost


def call(number: int, *, parent: int = 0, trace: int = 0, **said: Any) -> Span:
    facts = {
        "name": "api.gpt",
        "kind": Kind.LLM,
        "role": Role.MODEL_CALL,
        "model": "gpt",
        "input_tokens": 100 + number,
        "output_tokens": 10,
        **said,
    }
    return make_span(number, parent=parent, trace=trace, **facts)


# ---- on recordings


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_bytes_and_with_the_fold(name: str) -> None:
    for session, wanted in truth()[name]["sessions"].items():
        spans = recorded_spans(name)
        forest = forest_of(_of_session(spans, session), session)
        book = Book(session)
        assert book.update(forest)
        own = book.sum().own.usage
        assert own == forest.totals().usage
        for count in ("input_tokens", "output_tokens", "cache_read_tokens"):
            assert getattr(own, count) == wanted[count]


def _of_session(spans: Sequence[Span], session: str) -> list[Span]:
    """The spans that the pane is fed with for a session: all of every trace that it is in."""
    traces = {span.trace_id for span in spans if span.session == session}
    traces |= {span.trace_id for span in spans if f"trace-{span.trace_id.hex()}" == session}
    return [span for span in spans if span.trace_id in traces]


@pytest.mark.parametrize("name", NAMES)
def test_models_and_turns_are_parts_of_one_sum(name: str) -> None:
    for session in truth()[name]["sessions"]:
        forest = forest_of(_of_session(recorded_spans(name), session), session)
        book = Book(session)
        book.update(forest)
        total = book.sum()
        everything = _added([total.own, total.below])
        assert _added(total.models.values()) == everything
        turns = [tally for turn in forest.turns if (tally := book.turn(turn)) is not None]
        assert _added(turns) == everything
        for turn in forest.turns:
            tally = book.turn(turn)
            assert tally is not None
            if turn.session == session:
                assert tally.usage == turn.totals.usage
        assert len(book.calls) <= total.own.calls
        assert book.calls == sorted(book.calls)


def _added(tallies: Any) -> tuple[Any, ...]:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return counts(total)


def test_a_session_and_its_subagents_stand_apart() -> None:
    """Of the turn everything, of the subagent's session its own, and never both."""
    spans = recorded_spans("subagents")
    sessions = truth()["subagents"]["sessions"]
    parent = max(sessions, key=lambda name: sessions[name]["input_tokens"])
    book = book_of(_of_session(spans, parent), parent)
    total = book.sum()
    assert (total.own.usage.input_tokens, total.below.usage.input_tokens) == (30_702, 19_071)
    assert total.own.calls == total.below.calls == 2
    assert [each.input_tokens for each in book.calls] == [
        15_191,
        15_511,
    ]  # the subagents have contexts of their own
    for child in sessions.keys() - {parent}:
        alone = book_of(_of_session(spans, child), child)
        assert alone.sum().own.usage.input_tokens == sessions[child]["input_tokens"]
        assert alone.sum().below.calls == 0
        assert len(alone.calls) == 1


def test_how_long_things_took_in_a_recording() -> None:
    book = book_of(recorded_spans("approval"), next(iter(truth()["approval"]["sessions"])))
    kinds, tools, models = book.samples
    assert {name: len(sample) for name, sample in kinds.items()} == {
        "turn": 4, "model call": 8, "tool": 4, "approval": 3,
    }  # fmt: skip
    assert {name: len(sample) for name, sample in tools.items()} == {"terminal": 4}
    assert {name: len(sample) for name, sample in models.items()} == {"fake-gpt-1": 8}
    slowest = book.sum().slowest
    assert len(slowest) == SLOWEST
    durations = [each.duration_ns for each in slowest]
    assert durations == sorted(durations, reverse=True)
    assert durations[0] == max(kinds["tool"].percentile(100), kinds["model call"].percentile(100))


# ---- rules


def test_a_wrapper_that_repeats_the_counts_of_its_calls_counts_for_nothing() -> None:
    spans = [
        agent_span(0, input_tokens=999, output_tokens=999, cost=9.0),
        make_span(1, parent=0, name="llm.gpt", kind=Kind.LLM, role=Role.WRAPPER, input_tokens=999, cost=9.0),
        call(2, parent=1, cost=0.25, cache_read_tokens=60, reasoning_tokens=4),
        call(3, parent=1),
    ]
    book = book_of(spans, "s")
    own = book.sum().own
    assert own.usage == Usage(205, 20, 60, 0, 4, 0.25)
    assert (own.calls, own.priced) == (2, 1)
    assert set(book.samples.kinds) == {"turn", "model call"}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"role": Role.TOOL, "tool": "read_file"}, "tool"),
        ({"role": Role.APPROVAL}, "approval"),
        ({"role": Role.SKILL}, "skill"),
        ({"role": Role.SUBAGENT, "kind": Kind.AGENT}, "subagent"),
        ({"role": Role.AGENT, "kind": Kind.AGENT}, "subagent"),
        ({"role": Role.OTHER}, "other"),
        ({"role": Role.WRAPPER}, None),
        ({"role": Role.SESSION}, None),
        ({"role": Role.TOOL, "end_ns": 0}, None),
    ],
)
def test_kinds_of_durations(said: dict[str, Any], kind: str | None) -> None:
    book = book_of([agent_span(0), make_span(1, parent=0, **said)], "s")
    assert set(book.samples.kinds) == {"turn", kind} - {None}


def test_the_agent_of_a_subagent_span_is_not_timed_again() -> None:
    inner = agent_span(2, parent=1, session="child")
    spans = [agent_span(0), make_span(1, parent=0, role=Role.SUBAGENT, kind=Kind.AGENT), inner]
    kinds = book_of(spans, "s").samples.kinds
    assert {name: len(sample) for name, sample in kinds.items()} == {"turn": 1, "subagent": 1}


def test_what_holds_others_is_not_among_the_slowest() -> None:
    spans = [
        agent_span(0, end_ns=SECOND * 9_000),
        make_span(1, parent=0, role=Role.SUBAGENT, kind=Kind.AGENT, end_ns=SECOND * 8_000),
        make_span(2, parent=0, role=Role.SKILL, end_ns=SECOND * 8_000),
        *(call(number, end_ns=SECOND * (1_001 + 2 * number)) for number in range(3, 20)),
    ]
    slowest = book_of(spans, "s").sum().slowest
    assert [each.span_id for each in slowest] == [span.span_id for span in spans[:-11:-1]]


def test_clocks_that_leap_make_no_negative_duration() -> None:
    book = book_of([agent_span(0), call(1, end_ns=1)], "s")
    assert book.samples.kinds["model call"].percentile(100) == 0


def test_a_failed_call_without_counts_has_no_context() -> None:
    spans = [agent_span(0), call(1, input_tokens=None, output_tokens=None, status=Status.ERROR), call(2)]
    assert [each.input_tokens for each in book_of(spans, "s").calls] == [102]


def test_no_calls_is_nothing() -> None:
    total = book_of([agent_span(0)], "s").sum()
    assert total.own.usage == NOTHING
    assert total.models == {}
    assert total.slowest == []


# ---- bit by bit


def _sessions(name: str) -> list[str]:
    return sorted(truth()[name]["sessions"])


@given(st.data())
def test_any_order_repeats_and_portions_come_to_the_same(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["subagents", "interrupted", "approval", "v123_parallel", "api_error"]))
    session = data.draw(st.sampled_from(_sessions(name)))
    spans = _of_session(recorded_spans(name), session)
    random_order = random.Random(data.draw(st.integers(0, 2**32)))
    order = [*spans, *random_order.sample(spans, len(spans) // 3)]
    random_order.shuffle(order)
    forest, book = Forest(session), Book(session)
    while order:
        count = random_order.randint(1, 8)
        forest.add(order[:count])
        forest.refresh()
        book.update(forest, most=random_order.choice([1, 5, 1_000]))
        order = order[count:]
    while not book.update(forest):
        pass
    assert picture(book) == picture(book_of(spans, session))


def test_versions_of_a_span_replace_each_other() -> None:
    forest, book = Forest("s"), Book("s")
    running = call(1, end_ns=0, input_tokens=None, output_tokens=None)
    for version in (running, call(1), call(1, end_ns=SECOND * 1_009, input_tokens=500, model="other")):
        forest.add([agent_span(0), version])
        forest.refresh()
        assert book.update(forest)
    assert picture(book) == picture(book_of([agent_span(0), version], "s"))
    assert book.sum().own.usage.input_tokens == 500
    assert list(book.sum().models) == ["other"]


def test_many_traces_at_rest_and_many_that_change() -> None:
    """More open traces than are kept apart, and one that changes long after it was summed up."""
    spans = [span for trace in range(150) for span in (_turn(trace))]
    forest, book = Forest("s"), Book("s")
    for half in (spans[::2], spans[1::2]):
        forest.add(half)
        forest.refresh()
        while not book.update(forest, most=7):
            pass
    for trace in (*range(100), 3):
        late = call(trace * 10 + 5, parent=trace * 10, trace=trace, input_tokens=7 + trace)
        spans.append(late)
        forest.add([late])
        forest.refresh()
        assert book.update(forest)
        assert len(book._open) <= 64, "what is summed up each time stays little"
    assert picture(book) == picture(book_of(spans, "s"))


def _turn(trace: int) -> list[Span]:
    first = trace * 10
    return [
        agent_span(first, trace=trace),
        *(call(first + n, parent=first, trace=trace, cost=0.001) for n in (1, 2, 3)),
    ]


def test_work_follows_the_traces_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from hermes_tui.model import spending

    read: list[bytes] = []
    original = spending.read_part

    def noted(view: Any, *rest: Any) -> Any:
        read.append(view.turns[0].trace_id)
        return original(view, *rest)

    monkeypatch.setattr(spending, "read_part", noted)
    forest, book = forest_of([span for trace in range(30) for span in _turn(trace)], "s"), Book("s")
    assert not book.update(forest, most=12)
    assert len(read) == 3
    assert book.behind == 27
    assert book.update(forest)
    read.clear()
    assert book.update(forest)
    assert read == []
    forest.add([call(75, parent=70, trace=7)])
    forest.refresh()
    assert book.update(forest)
    assert read == [trace_id(7)]


def test_a_span_that_is_only_delivered_moves_no_sum() -> None:
    """A whole journal is marked when MLflow has it: that must cost a look at each trace and no more."""
    spans = [span for trace in range(100) for span in _turn(trace)]
    forest, book = forest_of(spans, "s"), Book("s")
    assert book.update(forest)
    closed = book._closed
    forest.add([replace(span, delivery=Delivery.CONFIRMED) for span in spans])
    assert len(forest.refresh()) == 100
    assert not book.update(forest, most=1)
    assert book.behind == 0, "all is counted, though not all is looked at again"
    assert book.update(forest)
    assert book._closed is closed
    assert picture(book) == picture(book_of(spans, "s"))


@pytest.mark.parametrize("changed", [1, 64, 65, 150])
def test_many_traces_that_change_at_once_are_summed_once(
    changed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = [span for trace in range(150) for span in _turn(trace)]
    forest, book = forest_of(spans, "s"), Book("s")
    assert book.update(forest)
    late = [call(trace * 10 + 5, parent=trace * 10, trace=trace) for trace in range(changed)]
    forest.add(late)
    forest.refresh()
    made: list[Sum] = []

    class Noted(Sum):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr("hermes_tui.model.spending.Sum", Noted)
    assert book.update(forest)
    assert len(made) == 1
    assert len(book._open) <= 64
    monkeypatch.undo()
    assert picture(book) == picture(book_of([*spans, *late], "s"))


def test_sums_can_be_added_in_any_order() -> None:
    books = [book_of([replace(span, session="s") for span in _turn(trace)], "s") for trace in range(4)]
    one, other = Sum(), Sum()
    for book in books:
        one.add(book.sum())
    for book in reversed(books):
        other.add(book.sum())
    assert counts(one.own) == counts(other.own)
    assert one.slowest == other.slowest
