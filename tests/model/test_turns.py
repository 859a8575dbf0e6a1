"""What a trace's tree means, in small trees made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hermes_tui.model.sessions import Session
from hermes_tui.model.span import NANOSECONDS, Kind, Role, Span, Status
from hermes_tui.model.tree import TraceTree
from hermes_tui.model.turns import ERROR_SILENCE_S, SILENCE_S, read_trace
from hermes_tui.model.usage import NOTHING, Usage
from tests.support import LONG_AFTER, SECOND, agent_span, fold, make_span, trace_id


def model_call(number: int, **said: Any) -> Span:
    facts = {"name": "api.m", "kind": Kind.LLM, "role": Role.MODEL_CALL, "status": Status.OK, **said}
    return make_span(number, **facts)


def only(spans: list[Span]) -> Session:
    (session,) = fold(spans).values()
    return session


def test_a_call_counts_once_however_often_its_numbers_are_repeated_above() -> None:
    """Root and wrapper repeat the sums; between wrapper and call stands a span without numbers."""
    spans = [
        agent_span(0, input_tokens=30, output_tokens=3),
        model_call(1, parent=0, name="llm.m", role=Role.WRAPPER, input_tokens=30, output_tokens=3, cost=0.5),
        make_span(2, parent=1, kind=Kind.CHAIN),
        model_call(3, parent=2, input_tokens=10, output_tokens=1, cache_read_tokens=4, cost=0.25),
        model_call(4, parent=1, input_tokens=20, output_tokens=2, reasoning_tokens=1, cost=0.25),
    ]
    session = only(spans)
    assert session.totals.usage == Usage(30, 3, 4, 0, 1, 0.5)
    assert session.totals.usage.tokens == 33
    assert session.turns[0].totals.usage == session.totals.usage


def test_a_wrapper_counts_where_nothing_below_it_does() -> None:
    assert only([agent_span(0), model_call(1, parent=0, input_tokens=7)]).totals.usage == Usage(7)
    assert only([agent_span(0, input_tokens=7)]).totals.usage == NOTHING


def test_cost_is_unknown_until_a_call_names_one() -> None:
    assert only([model_call(1, input_tokens=1)]).totals.usage.cost is None
    assert only([model_call(1, cost=0.0), model_call(2, input_tokens=1)]).totals.usage.cost == 0.0


def test_a_span_without_a_session_takes_its_nearest_relatives() -> None:
    spans = [
        agent_span(0, session=None),
        make_span(1, parent=0, session="above"),
        make_span(2, parent=1, session=None),
        make_span(3, parent=2, session="below"),
        make_span(4, parent=3, session=None),
    ]
    sessions = fold(spans)
    assert {name: session.totals.spans for name, session in sessions.items()} == {"above": 3, "below": 2}


def test_a_trace_without_any_session_is_one_of_its_own() -> None:
    (name,) = fold([make_span(1, session=None, trace=4)])
    assert name == f"trace-{trace_id(4).hex()}"


def test_a_subagents_agent_is_no_turn() -> None:
    spans = [
        agent_span(0),
        make_span(1, parent=0, kind=Kind.AGENT, role=Role.SUBAGENT),
        agent_span(2, parent=1, session="child", final_status="interrupted"),
    ]
    sessions = fold(spans)
    assert sessions["s"].turn_count == 1
    assert sessions["child"].turn_count == 0
    assert sessions["child"].status(LONG_AFTER) == "interrupted"


def test_an_agent_of_a_subagent_whose_parent_never_came_is_no_turn_either() -> None:
    spans = [agent_span(0), agent_span(2, parent=1, session="child", platform="subagent")]
    assert {name: session.turn_count for name, session in fold(spans).items()} == {"s": 1, "child": 0}


@pytest.mark.parametrize(("outer", "turns"), [(Role.TURN, 2), (Role.AGENT, 2)])
def test_turns_that_join_an_older_trace_stay_turns(outer: Role, turns: int) -> None:
    session = only([agent_span(0, role=outer), agent_span(1, parent=0)])
    assert session.turn_count == turns
    assert [turn.key for turn in session.turns] == [(trace_id(0), b""), (trace_id(0), b"\0\0\0\1")]


def test_a_plain_agent_below_another_is_a_part_of_its_turn() -> None:
    session = only([agent_span(0), agent_span(1, parent=0, role=Role.AGENT)])
    assert session.turn_count == 1
    assert session.turns[0].totals.spans == 2


def test_what_comes_after_a_turn_closed_is_shown_beside_it_and_not_counted_as_a_turn() -> None:
    """Spans of a session whose turns all ended: they belong to a turn whose root is still to come."""
    closed = agent_span(0, start_ns=SECOND, end_ns=5 * SECOND, final_status="completed")
    later = make_span(2, parent=9, start_ns=8 * SECOND, end_ns=9 * SECOND)
    session = only([closed, later])
    assert [turn.provisional for turn in session.turns] == [False, True]
    assert session.turn_count == 1
    assert session.status(10 * SECOND) == "running"


def root(**said: Any) -> Span:
    return agent_span(0, status=Status.OK, end_ns=2_000 * SECOND, **said)


ANSWER = model_call(1, parent=0, finish_reason="stop")
ASKED = model_call(1, parent=0, finish_reason="tool_calls", tool_calls=1)
FAILED = model_call(5, parent=0, status=Status.ERROR)


@pytest.mark.parametrize(
    ("spans", "status"),
    [
        ([root(final_status="completed"), ANSWER], "completed"),
        ([root(final_status="interrupted"), ANSWER], "interrupted"),
        ([root(final_status="timed_out")], "failed"),
        ([root(final_status="failed")], "failed"),
        ([root(final_status="incomplete"), ANSWER], "failed"),
        ([root(final_status="finalized"), ANSWER], "completed"),
        ([root(final_status="finalized"), ASKED], "interrupted"),
        ([root(final_status="finalized")], "interrupted"),
        ([root(final_status="finalized"), ASKED, FAILED], "failed"),
        ([root(final_status="finalized"), model_call(1, parent=0, status=Status.UNSET)], "interrupted"),
        ([root(), ANSWER], "completed"),
        ([root(), ASKED, FAILED], "failed"),
        ([agent_span(0, status=Status.ERROR)], "failed"),
        ([root(final_status="completed"), ASKED, FAILED], "completed"),
        ([ANSWER], "unknown"),
        ([ASKED, FAILED], "failed"),
        ([agent_span(0, end_ns=0), ANSWER], "unknown"),
    ],
)
def test_how_a_turn_ended_is_judged_by_its_root_and_then_by_its_calls(spans: list[Span], status: str) -> None:
    assert only(spans).status(LONG_AFTER) == status


@pytest.mark.parametrize(("spans", "limit_s"), [([ASKED], SILENCE_S), ([ASKED, FAILED], ERROR_SILENCE_S)])
def test_a_turn_without_its_root_runs_until_it_was_silent_for_long(spans: list[Span], limit_s: int) -> None:
    session = only(spans)
    last = session.totals.last_ns
    assert session.status(last + (limit_s - 1) * NANOSECONDS) == "running"
    assert session.status(last + (limit_s + 1) * NANOSECONDS) != "running"


def test_spans_that_still_run_are_not_counted_as_spans() -> None:
    totals = only([agent_span(0, end_ns=0), make_span(1, parent=0)]).totals
    assert (totals.spans, totals.running_spans) == (1, 1)
    assert sum(totals.deliveries.values()) == 1


def test_clocks_that_leap_give_no_negative_duration() -> None:
    assert make_span(1, start_ns=5, end_ns=4).duration_s == 0
    assert make_span(1, end_ns=0).duration_s is None


def test_strays_whose_subagents_are_strays_too_stay_tops() -> None:
    """Each holds an agent of the other's session: neither may become the other's home."""
    spans = [
        agent_span(0),
        make_span(10, parent=91, session="b", role=Role.MODEL_CALL),
        agent_span(11, parent=91, session="a", platform="subagent"),
        make_span(20, parent=92, session="a", role=Role.MODEL_CALL),
        agent_span(21, parent=92, session="b", platform="subagent"),
    ]
    tree = TraceTree(trace_id(0))
    for span in spans:
        tree.add(span)
    view = read_trace(tree)
    assert all(top.home is None for top in tree.tops.values())
    assert sum(turn.totals.spans for turn in view.turns) == len(spans)
