"""Whatever the order, the repeats and the batches in which spans arrive: the same sessions come out."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hermes_tui.model import sessions as sessions_module
from hermes_tui.model.sessions import Forest, collect
from hermes_tui.model.span import Delivery, Kind, Role, Span, Status
from hermes_tui.model.tree import TraceTree
from hermes_tui.model.turns import Totals, members, read_trace
from tests.support import (
    SECOND,
    agent_span,
    fold,
    make_span,
    picture,
    plant,
    recorded_spans,
    recording_names,
    span_id,
    totals_of,
    turn_of,
)

NAMES = recording_names()
MANY_SESSIONS = ["api_error", "subagent_children", "interrupted", "v123_subagent", "approval", "v123_preview"]


@cache
def expected(name: str) -> dict[str, Any]:
    return picture(recorded_spans(name))


@st.composite
def arrivals(draw: st.DrawFn, names: list[str]) -> tuple[str, list[Span]]:
    """A recording's spans in any order, some of them twice."""
    name = draw(st.sampled_from(names))
    spans = recorded_spans(name)
    repeats = draw(st.lists(st.sampled_from(spans), max_size=8))
    return name, draw(st.permutations([*spans, *repeats]))


@pytest.mark.parametrize("name", NAMES)
def test_backwards_and_twice(name: str) -> None:
    spans = recorded_spans(name)
    assert picture(reversed(spans)) == expected(name)
    assert picture([*spans, *spans]) == expected(name)


@settings(max_examples=150)
@given(arrivals(NAMES))
def test_any_order_and_any_repeat_fold_to_the_same_sessions(arrival: tuple[str, list[Span]]) -> None:
    name, spans = arrival
    assert picture(spans) == expected(name)


@settings(max_examples=40)
@given(arrivals(MANY_SESSIONS), st.randoms(use_true_random=False))
def test_any_batches_refresh_to_the_same_turns(arrival: tuple[str, list[Span]], random: Random) -> None:
    name, spans = arrival
    sessions = fold(recorded_spans(name))
    forests = {session: Forest(session) for session in sessions}
    while spans:
        size = random.randint(1, 6)
        batch, spans = spans[:size], spans[size:]
        for forest in forests.values():
            forest.add(batch)
            forest.refresh()
    for session, forest in forests.items():
        assert totals_of(forest.totals()) == totals_of(sessions[session].totals)
        own = [turn_of(turn) for turn in forest.turns if turn.session == session]
        assert own == [turn_of(turn) for turn in sessions[session].turns]


@settings(max_examples=12)
@given(arrivals(MANY_SESSIONS))
def test_forest_totals_are_right_after_every_span(arrival: tuple[str, list[Span]]) -> None:
    name, spans = arrival
    session = next(iter(fold(recorded_spans(name))))
    forest = Forest(session)
    for count, span in enumerate(spans, start=1):
        forest.add([span])
        forest.refresh()
        check_forest(forest, spans[:count])


def check_forest(forest: Forest, spans: list[Span]) -> None:
    """The forest's totals and turns are those of a fold of the same spans in one go."""
    slow = fold(spans).get(forest.session)
    assert totals_of(forest.totals()) == totals_of(slow.totals if slow else Totals())
    known = {turn.key for view in forest.views.values() for turn in view.turns}  # others are subagents' parts
    own = [turn_of(turn) for turn in forest.turns if turn.session == forest.session and turn.key in known]
    assert own == [turn_of(turn) for turn in (slow.turns if slow else [])]


@pytest.mark.parametrize("traces", [64, 65, 66, 150])
def test_forest_totals_with_more_open_traces_than_it_keeps_apart(traces: int) -> None:
    """Roots arrive after all calls, and some traces wake again: a sum must not take a trace twice."""
    calls = [
        make_span(
            number * 2 + 1,
            parent=number * 2,
            trace=number,
            name="api.m",
            kind=Kind.LLM,
            role=Role.MODEL_CALL,
            input_tokens=number + 1,
            output_tokens=1,
        )
        for number in range(traces)
    ]
    roots = [agent_span(number * 2, trace=number) for number in range(traces)]
    again = [
        make_span(1_000 + number, parent=number * 2, trace=number, status=Status.ERROR)
        for number in range(0, traces, 7)
    ]
    forest = Forest("s")
    arrived: list[Span] = []
    for span in [*calls, *reversed(roots), *again]:
        arrived.append(span)
        forest.add([span])
        forest.refresh()
        assert forest.totals().spans == len(arrived)
    check_forest(forest, arrived)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 6), max_size=20))
def test_forest_totals_whichever_trace_is_touched_next(touches: list[int]) -> None:
    with patch.object(sessions_module, "_OPEN_TRACES", 3):
        forest = Forest("s")
        for count, trace in enumerate(touches, start=1):
            forest.add([make_span(count, trace=trace)])
            forest.refresh()
            assert forest.totals().spans == count


@st.composite
def versions(draw: st.DrawFn) -> list[Span]:
    """A small trace in which some spans come in several versions: other ends, parents, names, content."""
    count = draw(st.integers(2, 7))
    said = st.fixed_dictionaries(
        {
            "parent": st.none() | st.integers(0, count - 1),
            "end": st.sampled_from([0, SECOND * 2_000, SECOND * 2_000 + 1]),
            "start": st.sampled_from([SECOND * 1_000, SECOND * 1_001]),
            "what": st.sampled_from(["agent", "subagent.leaf", "api.m", "llm.m", "tool.terminal"]),
            "session": st.sampled_from([None, "a", "b"]),
            "tokens": st.none() | st.integers(0, 3),
            "prompt": st.sampled_from([None, "one", "two"]),
        }
    )
    spans = []
    for number in range(count):
        spans += [version(number, **each) for each in draw(st.lists(said, min_size=1, max_size=3))]
    return spans


ROLES = {
    "agent": (Kind.AGENT, Role.TURN),
    "subagent.leaf": (Kind.AGENT, Role.SUBAGENT),
    "api.m": (Kind.LLM, Role.MODEL_CALL),
    "llm.m": (Kind.LLM, Role.WRAPPER),
    "tool.terminal": (Kind.TOOL, Role.TOOL),
}


def version(number: int, **said: Any) -> Span:
    kind, role = ROLES[said["what"]]
    tool = said["what"] == "tool.terminal"
    return make_span(
        number,
        parent=said["parent"],
        name=said["what"],
        kind=kind,
        role=role,
        start_ns=said["start"],
        end_ns=said["end"],
        session=said["session"],
        prompt=None if tool else said["prompt"],
        input_tokens=said["tokens"] if kind is Kind.LLM else None,
        tool="terminal" if tool else None,
    )


@settings(max_examples=250)
@given(versions(), st.randoms(use_true_random=False))
def test_conflicting_versions_resolve_the_same_in_any_order(spans: list[Span], random: Random) -> None:
    """Also with parents that form circles: `versions` names any span, itself too, as a parent."""
    shuffled = [*spans, *random.sample(spans, len(spans) // 2)]
    random.shuffle(shuffled)
    assert picture(shuffled) == picture(spans)


@settings(max_examples=60)
@given(versions(), st.randoms(use_true_random=False))
def test_a_forest_of_conflicting_versions_ends_like_a_fold(spans: list[Span], random: Random) -> None:
    random.shuffle(spans)
    forest = Forest("a")
    for count, span in enumerate(spans, start=1):
        forest.add([span])
        forest.refresh()
        check_forest(forest, spans[:count])


@st.composite
def many_traces(draw: st.DrawFn) -> list[Span]:
    """One session over several traces whose spans say model and platform, or do not."""
    return [
        agent_span(
            number,
            trace=number,
            end_ns=SECOND * (2_000 + draw(st.integers(0, 3))),
            model=draw(st.sampled_from([None, "m1", "m2"])),
            platform=draw(st.sampled_from([None, "cli", "api"])),
            cost=draw(st.sampled_from([None, 0.1, 0.2, 0.7])),
            final_status=draw(st.sampled_from([None, "completed", "interrupted"])),
        )
        for number in range(draw(st.integers(2, 5)))
    ]


@given(many_traces(), st.randoms(use_true_random=False))
def test_a_sessions_totals_do_not_depend_on_the_order_of_its_traces(
    spans: list[Span], random: Random
) -> None:
    shuffled = random.sample(spans, len(spans))
    assert picture(shuffled) == picture(spans)


def test_a_later_end_wins_and_a_running_version_never_does() -> None:
    running, short, long = (make_span(1, end_ns=end) for end in (0, 5 * SECOND, 9 * SECOND))
    for order in ([running, short, long], [long, short, running], [short, long, running]):
        (tree,) = plant(order).values()
        assert tree.nodes[span_id(1)].span == long


def test_a_repeat_changes_nothing_but_may_bring_a_new_delivery() -> None:
    tree = TraceTree(make_span(1).trace_id)
    assert tree.add(make_span(1))
    assert not tree.add(make_span(1))
    assert tree.add(make_span(1, delivery=Delivery.QUEUED))
    assert not tree.add(make_span(1, end_ns=0))


def test_rows_of_a_journal_are_replaced_by_their_revision() -> None:
    tree = TraceTree(make_span(1).trace_id)
    tree.add(make_span(1, revision=4, delivery=Delivery.QUEUED))
    assert tree.add(make_span(1, revision=5, delivery=Delivery.ACCEPTED))
    assert not tree.add(make_span(1, revision=4, delivery=Delivery.QUEUED))
    assert tree.nodes[span_id(1)].span == make_span(1, revision=5, delivery=Delivery.ACCEPTED)


def test_the_root_takes_its_placeholders_place() -> None:
    """The turn keeps its key when the root comes last, so that folds and the cursor stay."""
    tree = TraceTree(make_span(0).trace_id)
    tree.add(make_span(1, parent=0))
    (before,) = read_trace(tree).turns
    placeholder = tree.nodes[span_id(0)]
    tree.add(agent_span(0))
    (after,) = read_trace(tree).turns
    assert before.key == after.key
    assert before.node is None
    assert after.node is placeholder
    assert after.span == agent_span(0)


@example(parents=[0], order=[0])  # its own parent
@example(parents=[1, 0], order=[0, 1])  # two that are each other's parent
@example(parents=[1, 2, 0, 0], order=[3, 0, 2, 1])  # a tail on a circle
@settings(max_examples=200)
@given(
    parents=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    order=st.lists(st.integers(0, 11), max_size=24),
)
def test_circles_of_parents_end_and_do_not_depend_on_order(parents: list[int], order: list[int]) -> None:
    size = len(parents)
    spans = [make_span(number, parent=parent) for number, parent in enumerate(parents)]
    mixed = [spans[number % size] for number in order]
    arrived = [*mixed, *(span for span in reversed(spans) if span not in mixed)]
    assert picture(arrived) == picture(spans)
    (tree,) = plant(arrived).values()
    reached = [node.span_id for top in tree.ordered_tops() for node in top.walk()]
    assert sorted(reached) == sorted(tree.nodes)
    for node in tree.nodes.values():
        assert node not in list(node.ancestors())


@pytest.mark.parametrize("role", [Role.OTHER, Role.TURN, Role.AGENT, Role.SUBAGENT])
@pytest.mark.parametrize("circle", [False, True])
def test_three_thousand_deep(role: Role, circle: bool) -> None:
    """No recursion, and the same tree from both ends."""
    depth = 3_000
    kind = Kind.OTHER if role is Role.OTHER else Kind.AGENT
    spans = [
        make_span(
            number,
            parent=number - 1 if number else (depth - 1 if circle else None),
            kind=kind,
            role=role,
        )
        for number in range(depth)
    ]
    forwards, backwards = (plant(order)[spans[0].trace_id] for order in (spans, spans[::-1]))
    for tree in (forwards, backwards):
        assert [node.span_id for top in tree.ordered_tops() for node in top.walk()] == [
            span.span_id for span in spans
        ]
    found = [collect([read_trace(tree)])["s"] for tree in (forwards, backwards)]
    assert found[0].totals.spans == depth
    assert [[turn.key, *(node.span_id for node in members(turn))] for turn in found[0].turns] == [
        [turn.key, *(node.span_id for node in members(turn))] for turn in found[1].turns
    ]


def test_many_strays_of_one_trace_are_read_in_time() -> None:
    """2,000 agents and 2,000 orphans: each orphan finds its turn, without a look at each agent's chain."""
    agents = [agent_span(number) for number in range(2_000)]
    strays = [make_span(10_000 + number, parent=50_000 + number) for number in range(2_000)]
    spans = [*agents, *(replace(stray, start_ns=SECOND * 1_500) for stray in strays)]
    (tree,) = plant(spans).values()
    view = read_trace(tree)
    assert sum(turn.totals.spans for turn in view.turns) == 4_000
