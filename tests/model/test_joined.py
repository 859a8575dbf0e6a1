"""Records and spans joined: at every event of every recording what a slow, obvious reference says."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hermes_tui.model import joined as joined_module
from hermes_tui.model.joined import Joined, Source, Step
from hermes_tui.model.live import Live
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Kind, Role, Span
from hermes_tui.model.state_rows import CallRow, MessageRow, SessionRow
from hermes_tui.model.turns import members
from tests.model.joined_reference import joined_picture, reference
from tests.model.timeline import Row, Shown, chosen, everyone, roots, timeline
from tests.state_player import state_names
from tests.support import SECOND, agent_span, make_span, recording_names

SOURCES = [
    pytest.param(True, True, id="both"),
    pytest.param(True, False, id="records alone"),
    pytest.param(False, True, id="spans alone"),
]


@pytest.mark.parametrize(("records", "spans"), SOURCES)
@pytest.mark.parametrize("name", recording_names())
def test_every_moment_of_a_recording(name: str, records: bool, spans: bool) -> None:
    for session in everyone(name):
        live, shown, joined = Live(), Shown(session), Joined(session)
        rows_so_far: list[Row] = []
        spans_so_far: list[Span] = []
        for number, (_, rows, some) in enumerate(chosen(name, records=records, spans=spans)):
            rows_so_far += rows
            spans_so_far += some
            live.take(rows)
            before = {turn[0]: turn for turn in joined_picture(joined.turns)}
            named = joined.update(live, shown.forest, shown.add(some))
            found = joined_picture(joined.turns)
            assert found == reference(session, rows_so_far, spans_so_far), f"event {number}"
            now = {turn[0]: turn for turn in found}
            assert {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)} <= named


@pytest.mark.parametrize("name", state_names())
def test_a_call_keeps_its_key_or_is_found_by_its_span(name: str) -> None:
    """A cursor on a row finds it again, whatever comes next; nothing is ever shown twice."""
    for session in roots(name):
        live, shown, joined = Live(), Shown(session), Joined(session)
        before: list[set[object]] = []
        for _, rows, some in chosen(name, records=True, spans=True):
            live.take(rows)
            joined.update(live, shown.forest, shown.add(some))
            items = joined.items()
            names = [{item.key, item.also} - {None} for item in items]
            every = [each for own in names for each in own]
            assert len(every) == len(set(every))
            for old in before:
                assert any(old & own for own in names), old
            before = names


@pytest.mark.parametrize("name", state_names())
def test_in_the_end_there_is_every_span_and_what_spans_lost(name: str) -> None:
    for session in roots(name):
        live, shown, joined = Live(), Shown(session), Joined(session)
        for _, rows, some in timeline(name):
            live.take(rows)
            joined.update(live, shown.forest, shown.add(some))
        drawn = {
            node.span_id
            for turn in shown.forest.turns
            for node in members(turn)
            if node.span is not None and node.span.role is Role.TOOL
        }
        items = joined.items()
        assert sorted(item.span.span_id for item in items if item.span) == sorted(drawn)
        recorded = [
            call.key
            for part in (live.session(session), *live.below(session))
            if part is not None
            for turn in part.turns
            for call in turn.calls
        ]
        assert sorted(item.key for item in items if Source.STATE in item.sources) == sorted(recorded)
        for item in items:
            if item.span is not None and not item.span.truncated:
                assert (item.exit_code, item.completed) == (item.span.exit_code, None)


MIXED = ("v123_turns", "v123_subagent", "v123_interrupted", "v123_parallel", "subagents", "truncated")
EVENTS = {name: timeline(name) for name in MIXED}


@settings(max_examples=120)
@given(name=st.sampled_from(MIXED), data=st.data())
def test_the_order_of_arrival_does_not_matter(name: str, data: st.DataObject) -> None:
    """Rows and spans in any order and portions, some twice: the same in the end, the reference on the way."""
    rows = [row for _, some, _ in EVENTS[name] for row in some]
    spans = [span for _, _, some in EVENTS[name] for span in some]
    everything: list[Row | Span] = [*rows, *spans]
    again = data.draw(st.lists(st.sampled_from(everything), max_size=6))
    order = data.draw(st.permutations([*everything, *again]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order) - 1), max_size=8)) | {0, len(order)})
    (session,) = roots(name)
    live, shown, joined = Live(), Shown(session), Joined(session)
    rows_so_far: dict[object, Row] = {}
    spans_so_far: list[Span] = []
    for start, end in pairwise(cuts):
        some_rows = [each for each in order[start:end] if not isinstance(each, Span)]
        some_spans = tuple(each for each in order[start:end] if isinstance(each, Span))
        spans_so_far += some_spans
        for row in some_rows:
            if (known := rows_so_far.get((type(row), row.id))) is None or known.revision < row.revision:
                rows_so_far[type(row), row.id] = row
        live.take(some_rows)
        joined.update(live, shown.forest, shown.add(some_spans))
        assert joined_picture(joined.turns) == reference(session, rows_so_far.values(), spans_so_far)


@settings(max_examples=120)
@given(
    name=st.sampled_from(MIXED),
    shifts=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([-60, -7, -1, 3])), max_size=4),
    apart=st.booleans(),
)
def test_a_clock_that_is_set_draws_no_span_twice(
    name: str, shifts: list[tuple[float, int]], apart: bool
) -> None:
    """Hermes' rows keep their order, their times do not. `apart`: spans have another clock."""
    times = [row.at_ns for _, rows, _ in EVENTS[name] for row in rows if isinstance(row, MessageRow)]
    steps = [(min(times) + int(at * (max(times) - min(times))), by * SECOND) for at, by in shifts]

    def told(true_ns: int) -> int:
        return true_ns + sum(by for at, by in steps if at <= true_ns) if true_ns else 0

    def moved(each: Row | Span) -> Any:
        if isinstance(each, Span):
            times = {} if apart else {"start_ns": told(each.start_ns), "end_ns": told(each.end_ns)}
            return replace(each, **times)
        return replace(each, at_ns=told(each.at_ns)) if isinstance(each, MessageRow) else each

    (session,) = roots(name)
    live, shown, joined = Live(), Shown(session), Joined(session)
    for _, rows, spans in EVENTS[name]:
        live.take([moved(row) for row in rows])
        joined.update(live, shown.forest, shown.add(tuple(moved(span) for span in spans)))
        check_once(joined)
    late = Joined(session)
    late.update(live, shown.forest, set(shown.forest.views))
    assert joined_picture(joined.turns) == joined_picture(late.turns)


def check_once(joined: Joined) -> None:
    """No span, no record and no turn is in two places."""
    parts = [part for turn in joined.turns for part in (*turn.items, *turn.steps)]
    spans = [part.also for part in parts if part.also]
    records = [part.key for part in parts if isinstance(part, Step) or Source.STATE in part.sources]
    turns = [turn.key for turn in joined.turns]
    for keys in (spans, records, turns):
        assert len(keys) == len(set(keys))  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [(2_000, 1_000), (1_000, 1_000), (1_000, 3_000, 2_000)])
def test_turns_out_of_their_times_order(asked: tuple[int, ...]) -> None:
    """The clock was set back between two of them; also by as much as had passed."""
    live, forest, joined = Live(), Forest("s"), Joined("s")
    tools = [
        make_span(at, parent=0, role=Role.TOOL, kind=Kind.TOOL, tool="terminal", start_ns=at * SECOND)
        for at in (500, 1_500, 2_500, 3_500)
    ]
    forest.add(tools)
    joined.update(live, forest, forest.refresh())
    for number, at in enumerate(asked):
        live.take([message(2 * number + 1, "user", f"Turn {number}", at)])
        joined.update(live, forest, ())
        check_once(joined)
        live.take([message(2 * number + 2, "assistant", "Done", at + 1, finish="stop")])
        joined.update(live, forest, ())
        check_once(joined)
        assert sorted(item.also[1] for item in joined.items() if item.also) == sorted(
            tool.span_id for tool in tools
        )


def test_calls_that_share_one_span_keep_their_rows() -> None:
    """hermes-otel 0.11 makes one span of calls to one tool at once: one's input, another's output."""
    live = Live()
    calls = tuple(CallRow(f"call_{n}", "read_file", json.dumps({"path": f"/{n}"})) for n in range(3))
    live.take(
        [
            message(1, "user", "Read", 10.0),
            message(2, "assistant", "", 11.0, calls=calls),
            *(message(3 + n, "tool", "text", 11.5, tool_call_id=f"call_{n}") for n in range(3)),
        ]
    )
    root = agent_span(0, start_ns=10 * SECOND, end_ns=13 * SECOND, prompt="Read")
    tool = make_span(
        1, parent=0, role=Role.TOOL, kind=Kind.TOOL, name="tool.read_file", tool="read_file", target="/1",
        start_ns=11 * SECOND, end_ns=int(11.5 * SECOND),
    )  # fmt: skip
    joined = joined_from(live, [root, tool])
    (turn,) = joined.turns
    assert [(item.target, item.also) for item in turn.items] == [
        ("/0", None),
        ("/1", (tool.trace_id, tool.span_id)),
        ("/2", None),
    ]
    assert [item.lost(turn.turn, 13 * SECOND) for item in turn.items] == [True, False, True]


@pytest.mark.parametrize(
    ("ended", "root_end", "now", "lost"),
    [
        pytest.param(11.5, 0, 12, False, id="its span is on the way"),
        pytest.param(11.5, 0, 42, True, id="it is not coming any more"),
        pytest.param(11.5, 13, 13, True, id="the turn's own span came after all others"),
        pytest.param(0, 13, 99, False, id="it still runs"),
    ],
)
def test_a_span_is_awaited_for_a_while(ended: float, root_end: int, now: int, lost: bool) -> None:
    live = Live()
    rows = [
        message(1, "user", "Go", 10.0),
        message(2, "assistant", "", 11.0, calls=(CallRow("call_0", "terminal", '{"command": "ls"}'),)),
    ]
    if ended:
        rows.append(message(3, "tool", '{"exit_code": 0}', ended, tool_call_id="call_0"))
    live.take(rows)
    joined = joined_from(live, [agent_span(0, start_ns=10 * SECOND, end_ns=root_end * SECOND)])
    (turn,) = joined.turns
    (item,) = turn.items
    assert item.lost(turn.turn, now * SECOND) is lost


def test_a_provisional_turn_becomes_the_true_one_in_place() -> None:
    live, joined = Live(), Joined("s")
    forest = Forest("s")
    live.take([message(1, "user", "First", 10.0), message(2, "assistant", "Done", 12.0, finish="stop")])
    live.take([message(3, "user", "Second", 20.0)])
    assert joined.update(live, forest, ()) == {("s", 10 * SECOND), ("s", 20 * SECOND)}
    assert [(turn.prompt, turn.turn) for turn in joined.turns] == [("First", None), ("Second", None)]
    span = agent_span(0, start_ns=20 * SECOND - 3_000_000, end_ns=0)
    forest.add([span])
    assert joined.update(live, forest, forest.refresh()) == {("s", 20 * SECOND)}
    first, second = joined.turns
    assert first.turn is None
    assert (second.key, second.also) == (("s", 20 * SECOND), (span.trace_id, b""))
    assert second.prompt == "Second"
    assert joined.update(live, forest, ()) == set()


def test_spans_from_just_before_the_oldest_record_belong_to_it() -> None:
    """Records may begin in the middle of a turn, a moment after a span that belongs to the same call."""
    live, forest, joined = Live(), Forest("s"), Joined("s")
    live.take([message(3, "tool", '{"exit_code": 0}', 12.0, tool_call_id="a", tool_name="terminal")])
    joined.update(live, forest, ())
    tool = make_span(
        1, parent=0, role=Role.TOOL, kind=Kind.TOOL, tool="terminal", command="ls", call_id="a",
        start_ns=int(11.2 * SECOND), end_ns=12 * SECOND,
    )  # fmt: skip
    forest.add([tool])
    joined.update(live, forest, forest.refresh())
    ((item,),) = [turn.items for turn in joined.turns]
    assert (item.command, item.also) == ("ls", (tool.trace_id, tool.span_id))


def test_a_subagents_calls_come_before_its_parents_records() -> None:
    live, forest, joined = Live(), Forest("s"), Joined("s")
    call = CallRow("a", "terminal", '{"command": "ls"}')
    child = SessionRow("default", 1, "c", source="subagent", parent="s", started_ns=20 * SECOND)
    parent = SessionRow("default", 1, "s", started_ns=9 * SECOND)
    live.take([parent, child, replace(message(5, "assistant", "", 21.0, calls=(call,)), session="c")])
    assert joined.update(live, forest, ()) == set()
    delegate = CallRow("d", "delegate_task", "{}")
    live.take([message(1, "user", "Go", 10.0), message(2, "assistant", "", 19.0, calls=(delegate,))])
    joined.update(live, forest, ())
    (turn,) = joined.turns
    assert [(item.key, item.under) for item in turn.items] == [(("s", "d"), None), (("c", "a"), ("s", "d"))]


def test_work_follows_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a session is: a row or a span in its newest turn concerns that turn and its neighbour."""
    live, forest, joined = Live(), Forest("s"), Joined("s")
    for number in range(200):
        live.take([message(2 * number + 1, "user", f"Turn {number}", 10.0 * number + 10)])
        live.take([message(2 * number + 2, "assistant", "Done", 10.0 * number + 15, finish="stop")])
        start = 10 * number + 10
        forest.add([agent_span(number, trace=number, start_ns=start * SECOND, end_ns=(start + 5) * SECOND)])
    joined.update(live, forest, forest.refresh())
    assert len(joined.turns) == 200
    done: list[str] = []

    def counted(module: Any, name: str) -> None:
        work = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *said: (done.append(name), work(*said))[1])

    counted(joined_module, "join")
    counted(joined_module.Joined, "_turn")
    counted(joined_module.Places, "_settle")
    live.take([message(401, "assistant", "More", 2_008.0, finish="stop")])
    joined.update(live, forest, ())
    forest.add([make_span(999, parent=199, trace=199, start_ns=2_001 * SECOND, end_ns=2_002 * SECOND)])
    joined.update(live, forest, forest.refresh())
    live.take([message(402, "user", "Turn 200", 2_020.0)])
    joined.update(live, forest, ())
    assert len(joined.turns) == 201
    assert 0 < len(done) < 40


@pytest.mark.parametrize("records", [0, 50])
def test_work_follows_what_changed_where_there_are_no_records(
    records: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long session Hermes' records tell only the end, or nothing."""
    live, forest, joined = Live(), Forest("s"), Joined("s")
    for number in range(200):
        start = 10 * number + 10
        tool = make_span(
            1_000 + number, parent=number, trace=number, role=Role.TOOL, kind=Kind.TOOL, tool="terminal",
            start_ns=(start + 1) * SECOND, end_ns=(start + 2) * SECOND,
        )  # fmt: skip
        forest.add([agent_span(number, trace=number, start_ns=start * SECOND), tool])
        if number >= 200 - records:
            live.take([message(2 * number + 1, "user", f"Turn {number}", float(start))])
    joined.update(live, forest, forest.refresh())
    assert len(joined.turns) == 200
    done: list[object] = []
    work = joined_module.join
    monkeypatch.setattr(joined_module, "join", lambda *said: (done.append(said), work(*said))[1])
    forest.add([make_span(5_000, parent=199, trace=199, start_ns=2_003 * SECOND, end_ns=2_004 * SECOND)])
    joined.update(live, forest, forest.refresh())
    assert 0 < len(done) < 10


def message(number: int, role: str, text: str, at_s: float, *, finish: str = "", **said: Any) -> MessageRow:
    return MessageRow(
        "default", number, number, "s", role, text, len(text), at_ns=int(at_s * SECOND),
        finish_reason=finish or None, **said,
    )  # fmt: skip


def joined_from(live: Live, spans: list[Span]) -> Joined:
    forest, joined = Forest("s"), Joined("s")
    forest.add(spans)
    joined.update(live, forest, forest.refresh())
    return joined
