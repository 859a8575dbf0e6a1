"""What a session does, by records, by spans, and where the two disagree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hermes_tui.model.doing import Doing, State
from hermes_tui.model.joined import Joined
from hermes_tui.model.live import Live
from hermes_tui.model.present import present
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Kind, Role, Span, Status
from hermes_tui.model.state_rows import CallRow, HomeRow, MessageRow, StateRow
from tests.model.timeline import Shown, chosen, roots
from tests.support import SECOND, agent_span, make_span

LS = json.dumps({"command": "ls"})


def now(rows: list[StateRow], spans: list[Span], at_s: float) -> Doing:
    live, forest, joined = Live(), Forest("s"), Joined("s")
    live.take(rows)
    forest.add(spans)
    joined.update(live, forest, forest.refresh())
    return present("s", live, joined.turns, round(at_s * SECOND))


def row(number: int, role: str, at_s: float, **said: Any) -> MessageRow:
    return MessageRow("default", number, number, "s", role, "text", at_ns=round(at_s * SECOND), **said)


def span(number: int, start_s: float, end_s: float, **said: Any) -> Span:
    times = {"start_ns": round(start_s * SECOND), "end_ns": round(end_s * SECOND)}
    return make_span(number, parent=0, **times, **said)


def api(number: int, start_s: float, end_s: float, **said: Any) -> Span:
    return span(number, start_s, end_s, role=Role.MODEL_CALL, kind=Kind.LLM, **said)


def tool(number: int, start_s: float, end_s: float, **said: Any) -> Span:
    return span(number, start_s, end_s, role=Role.TOOL, tool="terminal", command="ls", **said)


def root(start_s: float, end_s: float, **said: Any) -> Span:
    return agent_span(0, start_ns=round(start_s * SECOND), end_ns=round(end_s * SECOND), **said)


ASKED = [row(1, "user", 10), row(2, "assistant", 11, calls=(CallRow("a", "terminal", LS),))]
DONE = [*ASKED, row(3, "tool", 12, tool_call_id="a"), row(4, "assistant", 13, finish_reason="stop")]
OPEN = api(1, 10, 11, calls=[["a", "terminal", LS]], finish_reason="tool_calls")
ERROR = api(2, 12, 13, status=Status.ERROR)


@pytest.mark.parametrize(
    ("rows", "spans", "at_s", "state", "since_s"),
    [
        pytest.param([], [], 12, State.IDLE, 0, id="nothing is known"),
        pytest.param(ASKED, [], 12, State.TOOL, 11, id="records alone: a tool"),
        pytest.param([], [api(1, 10, 11)], 12, State.MODEL, 11, id="spans alone: since the last end"),
        pytest.param([], [api(1, 10, 11), api(2, 12, 0)], 13, State.MODEL, 12, id="a running model span"),
        pytest.param([], [tool(1, 11, 0)], 13, State.TOOL, 11, id="a running tool span"),
        pytest.param([], [OPEN], 13, State.TOOL, 11, id="a model call says what it asked for"),
        pytest.param([], [OPEN, tool(2, 11, 12, call_id="a")], 13, State.MODEL, 12, id="which then ended"),
        pytest.param(
            [], [api(1, 10, 11), span(2, 11, 0, role=Role.APPROVAL, target="rm")],
            13, State.APPROVAL, 11, id="a running approval span",
        ),
        pytest.param(
            [], [api(1, 10, 11), root(10, 14, final_status="completed")],
            15, State.IDLE, 14, id="the root came",
        ),
        pytest.param([], [api(1, 10, 11)], 11 + 16 * 60, State.IDLE, 11, id="silent for too long"),
        pytest.param(
            [], [api(1, 10, 11), root(10, 14, final_status="completed"),
                 agent_span(9, trace=1, start_ns=15 * SECOND, end_ns=0, review=True, prompt="Review")],
            16, State.IDLE, 14, id="a background review is nobody's waiting",
        ),
        pytest.param(ASKED, [OPEN], 12, State.TOOL, 11, id="both say the same"),
        pytest.param(
            [*ASKED, row(3, "tool", 12, tool_call_id="a")], [OPEN],
            13, State.MODEL, 12, id="records are newer",
        ),
        pytest.param(DONE, [OPEN, tool(2, 11, 12)], 13.5, State.IDLE, 13, id="the root is on its way"),
        pytest.param(
            [*ASKED, row(3, "tool", 12, tool_call_id="a")], [OPEN, ERROR], 13 + 121, State.IDLE, 13,
            id="the model failed for good, which leaves no record",
        ),
        pytest.param(
            [*ASKED, row(3, "tool", 12, tool_call_id="a")], [OPEN, ERROR], 13 + 60, State.MODEL, 12,
            id="it may yet try again",
        ),
        pytest.param(
            [*ASKED, row(3, "tool", 12, tool_call_id="a")],
            [OPEN, ERROR, root(10, 14, final_status="finalized")],
            15, State.IDLE, 14, id="its process has ended",
        ),
        pytest.param(
            [*DONE, row(5, "user", 20)], [OPEN, root(10, 13, final_status="completed")],
            21, State.MODEL, 20, id="asked anew, no span yet",
        ),
        pytest.param(
            [*DONE, row(5, "user", 13.3)], [OPEN, root(10, 13.1, final_status="interrupted")],
            13.5, State.MODEL, 13.3, id="asked anew at once, after Ctrl-C",
        ),
        pytest.param(
            [*DONE, row(5, "user", 20)],
            [
                OPEN, root(10, 13, final_status="completed"),
                agent_span(9, trace=1, start_ns=13 * SECOND, end_ns=21 * SECOND, review=True,
                           prompt="Review", final_status="completed"),
            ],
            22, State.MODEL, 20, id="a background review ends while the next turn runs",
        ),
        pytest.param(DONE, [api(1, 30, 31)], 32, State.MODEL, 31, id="spans go on, records do not"),
        pytest.param(
            [*DONE, HomeRow("default", 9, True)], [api(1, 30, 31)],
            32, State.IDLE, 13, id="but Hermes is gone",
        ),
    ],
)  # fmt: skip
def test_what_a_session_does(
    rows: list[StateRow], spans: list[Span], at_s: float, state: State, since_s: float
) -> None:
    found = now(rows, spans, at_s)
    assert (found.state, found.since_ns) == (state, round(since_s * SECOND))


@pytest.mark.parametrize(
    "name", ["slow_tool", "v123_slow_tool", "v123_turns", "v123_parallel", "thirty_steps"]
)
def test_with_spans_the_same_is_said_as_by_records(name: str) -> None:
    """Spans come late and must not make what records know older."""
    (session,) = roots(name)
    live, shown, joined = Live(), Shown(session), Joined(session)
    for wall, rows, some in chosen(name, records=True, spans=True):
        live.take(rows)
        joined.update(live, shown.forest, shown.add(some))
        now_ns = round(wall * SECOND)
        with_spans = present(session, live, joined.turns, now_ns)
        alone = present(session, live, (), now_ns)
        if with_spans != alone:  # the turn's own span may come a moment before the record of its answer
            assert (with_spans.state, alone.state) == (State.IDLE, State.MODEL)
            assert with_spans.since_ns > alone.since_ns


def test_a_new_plugins_model_call_tells_of_a_tool_before_it_ends() -> None:
    (session,) = roots("v123_slow_tool")
    live, shown, joined = Live(), Shown(session), Joined(session)
    seen: dict[State, str] = {}
    for wall, rows, some in chosen("v123_slow_tool", records=False, spans=True):
        live.take(rows)
        joined.update(live, shown.forest, shown.add(some))
        found = present(session, live, joined.turns, round(wall * SECOND))
        seen.setdefault(found.state, found.call.command or "" if found.call else "")
    assert seen[State.TOOL] == "echo start; sleep 12; echo end"
