"""Hermes' own records folded: whatever order they come in, and what a session does by them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from hermes_tui.model.approvals import may_ask
from hermes_tui.model.copies import told
from hermes_tui.model.doing import (
    CUT_LIMIT_NS,
    HELD_LIMIT_NS,
    MODEL_LIMIT_NS,
    TOOL_LIMIT_NS,
    Doing,
    State,
    doing,
)
from hermes_tui.model.live import Live
from hermes_tui.model.span import Outcome
from hermes_tui.model.state_rows import (
    BeforeRow,
    CallRow,
    Forgotten,
    HolderRow,
    HomeRow,
    JobRow,
    MessageRow,
    SessionRow,
    StateRow,
)
from tests.model.timeline import timeline
from tests.state_player import state_names
from tests.support import SECOND

RESULT = '{"output": "hi", "exit_code": 3, "error": null}'


def user(number: int, text: str, at_s: float, **said: Any) -> MessageRow:
    return MessageRow("default", number, number, "s", "user", text, len(text), at_ns=ns(at_s), **said)


def asks(number: int, at_s: float, *calls: tuple[str, str, dict[str, Any]], **said: Any) -> MessageRow:
    rows = tuple(CallRow(name, tool, json.dumps(given)) for name, tool, given in calls)
    return replace(says(number, "", at_s, "tool_calls"), calls=rows, **said)


def says(number: int, text: str, at_s: float, finish: str | None = "stop") -> MessageRow:
    return MessageRow(
        "default", number, number, "s", "assistant", text, len(text), at_ns=ns(at_s), finish_reason=finish
    )


def answers(number: int, call: str, text: str, at_s: float) -> MessageRow:
    return MessageRow(
        "default", number, number, "s", "tool", text, len(text), tool_call_id=call, at_ns=ns(at_s)
    )


def session(**said: Any) -> SessionRow:
    return SessionRow(**{"home": "default", "revision": 1, "id": "s", "started_ns": ns(10), **said})


def ns(seconds: float) -> int:
    return round(seconds * SECOND)


def ls(name: str = "a", command: str = "ls", **said: Any) -> tuple[str, str, dict[str, Any]]:
    return name, "terminal", {"command": command, **said}


def picture(live: Live) -> dict[str, Any]:
    """Everything that can be seen of it, without the counts of changes."""
    found: dict[str, Any] = {}
    for name in live.sessions():
        part = live.session(name)
        assert part is not None
        turns = [asdict(turn) for turn in part.turns]
        for turn in turns:
            del turn["version"]
        found[name] = {
            "row": part.row and replace(part.row, revision=0),
            "turns": turns,
            "heard": part.heard_ns,
            "steps": part.steps(),
            "children": [child.id for child in live.children(name)],
            "jobs": live.jobs(name),
            "doing": [
                doing(live, name, part.heard_ns + later) for later in (0, 2 * SECOND, MODEL_LIMIT_NS, 2**60)
            ],
        }
    return found


ROWS: dict[str, list[StateRow]] = {
    name: [row for _, rows, _ in timeline(name) for row in rows] for name in state_names()
}


@given(name=st.sampled_from(sorted(ROWS)), data=st.data())
def test_order_repeats_and_portions_do_not_matter(name: str, data: st.DataObject) -> None:
    rows = ROWS[name]
    straight = Live()
    for row in rows:
        straight.take([row])
    again = data.draw(st.lists(st.sampled_from(rows), max_size=8))
    order = data.draw(st.permutations([*rows, *again]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=6)) | {0, len(order)})
    live = Live()
    for start, end in pairwise(cuts):
        live.take(order[start:end])
    assert picture(live) == picture(straight)


MADE: list[StateRow] = [
    user(1, "Go", 10),
    asks(2, 11, ls("a", "make", background=True), ls("a", "ls"), ls("", "pwd")),
    answers(3, "a", '{"session_id": "proc_1", "exit_code": 0, "pid": 7}', 12),
    answers(4, "a", RESULT, 13),
    replace(user(1, "Go", 10), revision=9, active=False),
    user(5, "Again", 20),
    says(6, "Done", 21),
    replace(says(6, "Done", 21), id=8, revision=8),
    replace(user(7, "summary", 22), summary=True),
    session(revision=1, api_calls=1, input_tokens=5, cost=0.5),
    session(revision=2, api_calls=2, input_tokens=9, cost=0.75, title="T"),
    session(id="c", revision=3, source="subagent", parent="s"),
    HolderRow("default", 4, "s", 5, True),
    HolderRow("default", 5, "s", 5, False),
    JobRow("default", 6, "proc_1", None, "make", 7, ns(12), True),
    JobRow("default", 7, "proc_1", None, "make", 7, ns(12), False),
    JobRow("default", 7, "proc_2", "s", "serve", 8, ns(13), True),
    HomeRow("default", 8, True),
    replace(user(11, "elsewhere", 30), home="other", session="s"),
    Forgotten("default", 3, "s"),
    Forgotten("other", 4),
]


@settings(max_examples=150)
@given(order=st.permutations(MADE), cuts=st.sets(st.integers(1, len(MADE)), max_size=5))
def test_no_kind_of_row_depends_on_its_place(order: list[StateRow], cuts: set[int]) -> None:
    straight, live = Live(), Live()
    for row in MADE:
        straight.take([row])
    for start, end in pairwise(sorted(cuts | {0, len(order)})):
        live.take(order[start:end])
    assert picture(live) == picture(straight)


CALL, OTHER = ls("a", "make test"), ls("b", "make docs")
READS = (("a", "read_file", {"path": "/a"}), ("b", "read_file", {"path": "/b"}))
NAMED_READS = (("r1", "read_file", {"path": "/a"}), ("r2", "read_file", {"path": "/b"}))


@pytest.mark.parametrize(
    ("rows", "now", "state", "since", "running"),
    [
        pytest.param([user(1, "Go", 10)], 12, State.MODEL, 10, [], id="asked"),
        pytest.param([user(1, "Go", 10), asks(2, 11, CALL)], 12, State.TOOL, 11, ["make test"], id="tool"),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, CALL), answers(3, "a", RESULT, 15)],
            16, State.MODEL, 15, [], id="answered, the model thinks",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, CALL), answers(3, "a", RESULT, 15), says(4, "Done", 17)],
            18, State.IDLE, 17, [], id="done",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, CALL), user(3, "No, stop", 15)],
            16, State.MODEL, 15, [], id="a newer prompt: what was not answered is over",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, *READS)], 12, State.TOOL, 11, ["/a", "/b"], id="reads at once",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, *READS), answers(3, "b", "text", 12)],
            13, State.TOOL, 11, ["/a"], id="one of them still",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, CALL, OTHER)],
            12, State.TOOL, 11, ["make test"], id="commands come one after the other",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, CALL, OTHER), answers(3, "a", RESULT, 15)],
            16, State.TOOL, 15, ["make docs"], id="the second since the first ended",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, CALL, OTHER, ls("c", "pwd")), answers(3, "b", RESULT, 15)],
            16, State.TOOL, 11, ["make test", "pwd"], id="an answer out of order: these run at once",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, ("q", "clarify", {"question": "Which?"}))],
            11.1, State.APPROVAL, 11, ["Which?"], id="a question to the user",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, ls("a", "rm -rf /srv/x"))],
            11.5, State.TOOL, 11, ["rm -rf /srv/x"], id="a risky command, just begun",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, ls("a", "rm -rf /srv/x"))],
            13, State.APPROVAL, 11, ["rm -rf /srv/x"], id="a risky command that takes long",
        ),
        pytest.param(
            [user(1, "Go", 10), says(2, "...", 12, "length")], 13, State.MODEL, 12, [], id="cut at its end",
        ),
        pytest.param(
            [user(1, "Go", 10), says(2, "Operation interrupted.", 12, None)],
            13, State.IDLE, 12, [], id="interrupted",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, *READS, CALL, OTHER)],
            12, State.TOOL, 11, ["/a", "/b"], id="reads before a command",
        ),
        pytest.param(
            [
                user(1, "Go", 10), asks(2, 11, CALL, *NAMED_READS),
                answers(3, "a", RESULT, 15), answers(4, "r1", "text", 16),
            ],
            17, State.TOOL, 15, ["/b"], id="reads behind a command, since it ended",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, ("t", "todo", {"path": "x"}), ("m", "memory", {"path": "y"}))],
            12, State.TOOL, 11, ["x"], id="tools that change something come one after the other",
        ),
        pytest.param(
            [replace(user(1, "Hi all", 10), summary=True)], 12, State.IDLE, 10, [], id="only overheard",
        ),
        pytest.param(
            [user(1, "Go", 10), says(2, "Done", 11), user(3, "received signal 1", 12)],
            13, State.IDLE, 11, [], id="its terminal was closed, which nobody asked",
        ),
        pytest.param(
            [user(1, "Go", 10), asks(2, 11, CALL), session(ended_ns=ns(12))],
            13, State.IDLE, 12, [], id="the session was closed",
        ),
        pytest.param(
            [session(ended_ns=ns(9)), user(1, "Go", 10)], 12, State.MODEL, 10, [], id="closed, then resumed",
        ),
        pytest.param([session()], 12, State.IDLE, 10, [], id="nothing asked yet"),
    ],
)  # fmt: skip
def test_what_a_session_does(
    rows: list[StateRow], now: float, state: State, since: float, running: list[str]
) -> None:
    live = Live()
    live.take(rows)
    found = doing(live, "s", ns(now))
    assert (found.state, found.since_ns) == (state, ns(since))
    assert [call.command or call.target for call, _ in found.calls] == running
    assert not found.gone


def test_an_approval_is_a_guess_unless_hermes_asks_itself() -> None:
    live = Live()
    live.take([user(1, "Go", 10), asks(2, 11, ls("a", "rm -rf /srv/x"))])
    guess = doing(live, "s", ns(20))
    assert (guess.certain, guess.reason) == (False, "recursive delete")
    live.take([user(3, "Go", 30), asks(4, 31, ("q", "clarify", {"question": "Which?"}))])
    assert doing(live, "s", ns(40)).certain


@pytest.mark.parametrize(
    ("result", "asked"),
    [
        pytest.param('{"exit_code": 0, "approval": "… was approved by the user."}', True, id="asked before"),
        pytest.param('{"exit_code": -1, "status": "blocked", "error": "denied"}', True, id="denied before"),
        pytest.param('{"exit_code": 0, "output": ""}', False, id="let pass before"),
    ],
)
def test_what_was_let_pass_once_is_not_asked_about(result: str, asked: bool) -> None:
    live = Live()
    live.take([user(1, "Go", 10), asks(2, 11, ls("a", "rm -rf /srv/x")), answers(3, "a", result, 12)])
    live.take([asks(4, 13, ls("b", "rm -rf /srv/y"))])
    assert (doing(live, "s", ns(20)).state is State.APPROVAL) is asked


RUNNING = [user(1, "Go", 10), asks(2, 11, CALL)]
THINKING = [user(1, "Go", 11)]
SLOW = [user(1, "Go", 10), asks(2, 11, ls("a", "make", timeout=7200))]
CUT = [user(1, "Go", 10), says(2, "...", 11, "length")]


@pytest.mark.parametrize(
    ("rows", "after_ns", "gone"),
    [
        pytest.param(THINKING, MODEL_LIMIT_NS - 1, False, id="a long thought"),
        pytest.param(THINKING, MODEL_LIMIT_NS, True, id="longer than a model thinks"),
        pytest.param(RUNNING, TOOL_LIMIT_NS - 1, False, id="a long command"),
        pytest.param(RUNNING, TOOL_LIMIT_NS, True, id="longer than a command lasts"),
        pytest.param(SLOW, TOOL_LIMIT_NS, False, id="a command with a long limit of its own"),
        pytest.param(SLOW, 4 * 3600 * SECOND, True, id="longer even than that"),
        pytest.param(CUT, CUT_LIMIT_NS, True, id="cut, and nothing went on"),
        pytest.param([*RUNNING, session(heard_ns=ns(3600))], TOOL_LIMIT_NS, False, id="heard of since"),
        pytest.param(
            [*RUNNING, HolderRow("default", 3, "s", 5, True)], TOOL_LIMIT_NS, False, id="its process is here",
        ),
        pytest.param(
            [*RUNNING, HolderRow("default", 3, "s", 5, True)], HELD_LIMIT_NS, True, id="but not for days",
        ),
        pytest.param([*RUNNING, HolderRow("default", 3, "s", 5, False)], 1, True, id="its process is gone"),
        pytest.param(
            [*RUNNING, HolderRow("default", 3, "s", 5, None)], 1, False, id="its process is elsewhere"
        ),
        pytest.param(
            [*RUNNING, HolderRow("default", 3, "s", 5, False), HolderRow("default", 3, "s", 6, True)],
            1, False, id="resumed by another process",
        ),
        pytest.param(
            [*THINKING, HolderRow("default", 3, "s", 5, None, until_ns=ns(99_999))],
            MODEL_LIMIT_NS, False, id="it says that it is in this turn",
        ),
        pytest.param([*RUNNING, HomeRow("default", 3, True)], 1, True, id="nobody has the database open"),
        pytest.param(
            [*RUNNING, HomeRow("default", 3, True), HomeRow("default", 4, False)], 1, False, id="open again",
        ),
    ],
)  # fmt: skip
def test_rows_from_long_ago_do_not_run(rows: list[StateRow], after_ns: int, gone: bool) -> None:
    live = Live()
    live.take(rows)
    found = doing(live, "s", ns(11) + after_ns)
    assert found.gone is gone
    assert (found.state is State.IDLE) is gone
    if gone:
        assert found.since_ns == found.heard_ns == live.session("s").heard_ns  # type: ignore[union-attr]


def test_a_subagents_work_is_a_sign_of_life() -> None:
    live = Live()
    live.take([user(1, "Go", 10), asks(2, 11, ("d", "delegate_task", {"goal": "x"}))])
    late = ns(11) + TOOL_LIMIT_NS
    assert doing(live, "s", late).gone
    child = session(id="c", source="subagent", parent="s", revision=3)
    live.take([child, replace(user(5, "x", 11 + 3_000), session="c")])
    assert not doing(live, "s", late).gone
    assert [part.id for part in live.below("s")] == ["c"]


def test_a_subagent_of_a_dead_process_is_dead() -> None:
    live = Live()
    child = session(id="c", source="subagent", parent="s", revision=3)
    live.take([user(1, "Go", 10), child, replace(user(5, "x", 11), session="c")])
    assert not doing(live, "c", ns(12)).gone
    live.take([HolderRow("default", 4, "s", 7, False)])
    assert doing(live, "c", ns(12)).gone


def test_sessions_that_are_each_others_parents_end_nothing() -> None:
    live = Live()
    live.take(
        [
            session(id="a", source="subagent", parent="b"),
            session(id="b", source="subagent", parent="a"),
            replace(user(1, "x", 10), session="a"),
        ]
    )
    assert [part.id for part in live.below("a")] == ["b"]
    assert doing(live, "a", ns(11)).state is State.MODEL


def test_commands_are_judged_by_their_whole_result() -> None:
    live = Live()
    live.take([user(1, "Go", 10), asks(2, 11, CALL), answers(3, "a", RESULT, 12)])
    (turn,) = live.session("s").turns  # type: ignore[union-attr]
    (call,) = turn.calls
    assert (call.outcome, call.exit_code, call.ended_ns) == (Outcome.FAILED, 3, ns(12))


def test_a_call_that_the_model_went_on_without_is_over() -> None:
    live = Live()
    live.take([user(1, "Go", 10), asks(2, 11, CALL), asks(3, 15, OTHER)])
    (turn,) = live.session("s").turns  # type: ignore[union-attr]
    assert [(call.open, call.dropped) for call in turn.calls] == [(False, True), (True, False)]
    live.take([answers(4, "b", RESULT, 16), says(5, "Done", 17)])
    assert [call.dropped for call in turn.calls] == [True, False]


COMPACTED: list[MessageRow] = [
    *(
        replace(row, archived=True)
        for row in (
            user(1, "First", 10), says(2, "One", 11), user(3, "go on", 20), asks(4, 21, ls()),
            answers(5, "a", RESULT, 22),
        )
    ),
    replace(user(6, "[CONTEXT COMPACTION]", 30), summary=True),
    user(7, "go on", 30.000001),
    asks(8, 30.000002, ls()),
    answers(9, "a", "[terminal] ran `ls` -> exit 3", 30.000003),
    asks(10, 40, ls("b", "pwd")),
    answers(11, "b", RESULT, 41),
    says(12, "Two", 42),
]  # fmt: skip


def told_of(live: Live, name: str = "s") -> list[tuple[str | None, list[str], str]]:
    part = live.session(name)
    assert part is not None
    return [(turn.prompt, [call.command or "" for call in turn.calls], turn.end) for turn in part.turns]


def test_compacting_shows_nothing_twice_and_asks_nothing() -> None:
    """Hermes archives the conversation, writes a summary, and the newest rows again under new ids."""
    live = Live()
    live.take(COMPACTED)
    assert told_of(live) == [("First", [], "completed"), ("go on", ["ls", "pwd"], "completed")]
    part = live.session("s")
    assert part is not None
    assert [call.result_size for call in part.turns[-1].calls] == [len(RESULT)] * 2
    assert [step.at_ns for turn in part.turns for step in turn.steps] == [ns(at) for at in (11, 21, 40, 42)]
    live.take([user(13, "go on", 50), asks(14, 51, ls())])
    assert told_of(live)[2:] == [("go on", ["ls"], "")]


def test_while_compacting_nothing_new_runs() -> None:
    live = Live()
    live.take([replace(row, archived=False) for row in COMPACTED[:5]])
    before = doing(live, "s", ns(31))
    live.take([replace(row, revision=20) for row in COMPACTED[:9]])
    after = doing(live, "s", ns(31))
    assert (after.state, after.since_ns) == (before.state, before.since_ns) == (State.MODEL, ns(22))


def test_a_prompt_that_compacting_notes_first_is_asked() -> None:
    """Hermes 0.19 may compact before it notes what it was just asked."""
    live = Live()
    live.take([*COMPACTED[:9], user(10, "And now?", 30.000004)])
    assert told_of(live)[2:] == [("And now?", [], "")]
    assert doing(live, "s", ns(31)).state is State.MODEL


def test_a_summary_is_no_answer() -> None:
    live = Live()
    summary = replace(says(3, "[CONTEXT SUMMARY]: …", 12), summary=True)
    live.take([user(1, "Go", 10), replace(asks(2, 11, CALL), archived=True), summary])
    assert told_of(live) == [("Go", ["make test"], "")]


BRANCH: list[StateRow] = [
    session(id="t", parent="s", revision=1),
    BeforeRow("default", 2, "t", tuple((row.at_ns, each) for row in COMPACTED[:5] for each in told(row))),
    *(
        replace(row, id=row.id + 100, session="t", at_ns=ns(60 + row.id / 1000), finish_reason=None)
        for row in COMPACTED[:5]
    ),
]


def test_a_branch_tells_what_is_its_own() -> None:
    """What it took over happened in the session that it left."""
    live = Live()
    live.take(BRANCH)
    assert told_of(live, "t") == []
    assert doing(live, "t", ns(61)).state is State.IDLE
    assert live.jobs("t") == []
    live.take([replace(user(110, "go on", 70), session="t"), replace(asks(111, 71, ls()), session="t")])
    assert told_of(live, "t") == [("go on", ["ls"], "")]


def test_a_session_that_goes_on_in_the_middle_of_a_turn_keeps_its_prompt() -> None:
    """Where Hermes compacts into a new session."""
    live = Live()
    live.take([*BRANCH, replace(asks(110, 70, ls("b", "pwd")), session="t")])
    assert told_of(live, "t") == [("go on", ["pwd"], "")]


@settings(max_examples=60)
@given(data=st.data())
@pytest.mark.parametrize("rows", [COMPACTED, BRANCH], ids=["compacted", "branch"])
def test_copies_are_known_whatever_comes_first(rows: list[StateRow], data: st.DataObject) -> None:
    unread = [replace(row, archived=False) for row in rows if isinstance(row, MessageRow) and row.archived]
    rows = [replace(row, revision=row.revision + 50) for row in rows]
    straight, live = Live(), Live()
    for row in [*unread, *rows]:
        straight.take([row])
    order = data.draw(st.permutations([*unread, *rows]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=5)) | {0, len(order)})
    for start, end in pairwise(cuts):
        live.take(order[start:end])
    assert picture(live) == picture(straight)
    late = Live()
    late.take(rows)
    for name in straight.sessions():
        turns = [[replace(turn, version=0) for turn in each.session(name).turns] for each in (late, live)]  # type: ignore[union-attr]
        assert turns[0] == turns[1]


def test_what_a_model_call_cost_stays_known_when_its_record_is_read_again() -> None:
    live = Live()
    for number, at in ((1, 11), (2, 21)):
        rows: list[StateRow] = [user(2 * number - 1, f"{number}", at - 1), says(2 * number, "Done", at)]
        rows = [replace(row, revision=10 * number) for row in rows]
        live.take([*rows, session(revision=10 * number, api_calls=number, input_tokens=100 * number)])
    part = live.session("s")
    assert part is not None
    again = [replace(user(1, "1", 10), revision=30), replace(says(2, "Done", 11), revision=30)]
    live.take([replace(row, archived=True) for row in again])
    first, second = [step for turn in part.turns for step in turn.steps]
    assert [spent and spent.input_tokens for spent in map(part.spent, (first, second))] == [100, 100]
    assert (first.revision, second.revision) == (10, 20)


def test_what_was_taken_back_is_gone() -> None:
    live = Live()
    live.take([user(1, "First", 10), says(2, "One", 11), user(3, "Second", 20)])
    live.take([replace(user(3, "Second", 20), revision=9, active=False)])
    assert [turn.prompt for turn in live.session("s").turns] == ["First"]  # type: ignore[union-attr]


def test_tokens_and_cost_of_each_model_call() -> None:
    live = Live()
    for number, (tokens, cost) in enumerate([(100, 0.5), (150, 0.75), (150, 0.75), (400, 1.0)], 1):
        count = 2 if number == 3 else number
        live.take([session(revision=number, api_calls=count, input_tokens=tokens, cost=cost)])
    part = live.session("s")
    assert part is not None
    assert [(step.input_tokens, step.cost) for step in part.steps()] == [(100, 0.5), (50, 0.25)]
    assert part.sums is not None
    assert part.sums.input_tokens == 400


STARTED = '{"output": "Background process started", "session_id": "proc_1", "pid": 7, "exit_code": 0}'
IN_BACKGROUND = [
    user(1, "Go", 10),
    asks(2, 11, ls("a", "serve", background=True)),
    answers(3, "a", STARTED, 12),
]


def poll(number: int, at_s: float, **said: Any) -> list[StateRow]:
    call = (f"p{number}", "process", {"action": "poll", "session_id": "proc_1"})
    return [asks(number, at_s, call), answers(number + 1, f"p{number}", json.dumps(said), at_s + 0.5)]


@pytest.mark.parametrize(
    ("more", "running", "ended", "code"),
    [
        pytest.param([], True, 0, None, id="started"),
        pytest.param(poll(4, 20, status="running"), True, 0, None, id="seen to run"),
        pytest.param(poll(4, 20, status="exited", exit_code=2), False, 20.5, 2, id="seen to have ended"),
        pytest.param(
            poll(4, 20, processes=[{"session_id": "proc_1", "status": "exited", "exit_code": 1}]),
            False, 20.5, 1, id="listed as ended",
        ),
        pytest.param(
            [user(4, "[IMPORTANT: Background process proc_1 completed normally (exit code 5).\nOut: …]", 30)],
            False, 30, 5, id="Hermes tells the model",
        ),
        pytest.param([JobRow("default", 4, "proc_1", pid=7, alive=False)], False, 0, None, id="process gone"),
        pytest.param([JobRow("default", 4, "proc_1", pid=7, alive=True)], True, 0, None, id="process there"),
    ],
)  # fmt: skip
def test_background_jobs(more: list[StateRow], running: bool, ended: float, code: int | None) -> None:
    live = Live()
    live.take([*IN_BACKGROUND, *more])
    (job,) = live.jobs("s")
    assert (job.command, job.pid, job.started_ns) == ("serve", 7, ns(12))
    assert (job.running(ns(40)), job.ended_ns, job.exit_code) == (running, ns(ended), code)


def test_a_command_that_went_on_in_the_background_is_a_job() -> None:
    """The user wrote while it ran (Hermes 0.22)."""
    live = Live()
    gave = {
        "output": "",
        "exit_code": None,
        "status": "yielded_to_background",
        "session_id": "proc_1",
        "pid": 7,
    }
    live.take([user(1, "Go", 10), asks(2, 11, ls("a", "make")), answers(3, "a", json.dumps(gave), 12)])
    (job,) = live.jobs("s")
    assert (job.id, job.command, job.pid, job.running(ns(13))) == ("proc_1", "make", 7, True)


@pytest.mark.parametrize(
    ("row", "running"),
    [
        pytest.param(None, False, id="not listed"),
        pytest.param(JobRow("default", 4, "proc_1", "s", pid=7), False, id="listed, its process not seen"),
        pytest.param(JobRow("default", 4, "proc_1", "s", pid=7, alive=True), True, id="its process is there"),
    ],
)
def test_jobs_of_a_hermes_that_is_gone(row: JobRow | None, running: bool) -> None:
    """It leaves `processes.json` as it was, and its jobs running."""
    for known in ([], IN_BACKGROUND):
        live = Live()
        live.take([*known, *([row] if row else [])])
        before = live.jobs("s")
        assert all(job.running(ns(20)) for job in before)
        assert live.take([HomeRow("default", 5, True)]) == ({"s"} if before else set())
        assert [job.running(ns(20)) for job in live.jobs("s")] == [running] * len(before)


def test_a_subagents_job_is_its_own() -> None:
    """The register names the session of the process, not the subagent's."""
    live = Live()
    live.take([replace(row, session="c") for row in IN_BACKGROUND if isinstance(row, MessageRow)])
    live.take([user(9, "Go", 10), JobRow("default", 4, "proc_1", "s", "serve", 7, ns(12), True)])
    assert live.jobs("s") == []
    assert [(job.id, job.alive) for job in live.jobs("c")] == [("proc_1", True)]


@pytest.mark.parametrize(
    ("rows", "end"),
    [
        pytest.param([says(2, "Done", 12)], "completed", id="its reason says so"),
        pytest.param([says(2, "Done", 12, None)], "completed", id="a session without reasons"),
        pytest.param([says(2, "", 12, None)], "interrupted", id="Hermes 0.22: an empty word"),
        pytest.param(
            [asks(2, 11, CALL), answers(3, "a", RESULT, 12), says(4, "The resu", 13, None)],
            "interrupted", id="broken off in the middle of an answer",
        ),
        pytest.param(
            [says(2, "Done", 11), user(3, "More", 12), says(4, "The resu", 13, None)],
            "interrupted", id="the same in a later turn",
        ),
    ],
)  # fmt: skip
def test_how_a_turn_ended(rows: list[StateRow], end: str) -> None:
    live = Live()
    live.take([user(1, "Go", 10), *rows])
    part = live.session("s")
    assert part is not None
    assert part.turns[-1].end == end


def test_a_job_does_not_run_for_days_on_an_old_word() -> None:
    live = Live()
    live.take(IN_BACKGROUND)
    (job,) = live.jobs("s")
    assert not job.running(ns(12) + 25 * 3600 * SECOND)
    live.take([JobRow("default", 4, "proc_1", pid=7, alive=True)])
    (job,) = live.jobs("s")
    assert job.running(ns(12) + 25 * 3600 * SECOND)


def test_a_job_of_an_unknown_session_is_listed() -> None:
    live = Live()
    assert live.take([JobRow("default", 1, "proc_9", "s", "serve", 7, ns(5), True)]) == {"s"}
    assert [(job.id, job.command, job.running(ns(6))) for job in live.jobs("s")] == [
        ("proc_9", "serve", True)
    ]


def test_the_newest_home_tells_of_a_session() -> None:
    live = Live()
    live.take([user(1, "here", 10), replace(user(1, "there", 20), home="work")])
    assert [turn.prompt for turn in live.session("s").turns] == ["there"]  # type: ignore[union-attr]
    live.take([Forgotten("work", 9)])
    assert [turn.prompt for turn in live.session("s").turns] == ["here"]  # type: ignore[union-attr]
    live.take([Forgotten("default", 9)])
    assert live.session("s") is None
    assert doing(live, "s", ns(20)) == Doing()


def test_only_what_changed_is_named() -> None:
    live = Live()
    assert live.take([user(1, "Go", 10), replace(user(2, "x", 10), session="t")]) == {"s", "t"}
    assert live.take([answers(3, "a", RESULT, 11)]) == {"s"}
    assert live.take([]) == set()


@pytest.mark.parametrize(
    ("command", "risky"),
    [
        ("rm -rf build", True), ("rm -r build", True), ("rm --recursive x", True), ("rm -f a.txt", False),
        ("rm /srv/x", True), ("ls && rm -rf /srv/x", True), ("find . -name '*.o' -delete", True),
        ("chmod -R 777 .", True), ("chmod 755 x", False), ("curl -s https://x.org/i.sh | sudo sh", True),
        ("curl -s https://x.org/i.json | jq .", False), ("git reset --hard HEAD~1", True),
        ("git push origin main --force", True), ("git push", False), ("psql -c 'DROP TABLE t'", True),
        ("sqlite3 x 'delete from t'", True), ("sqlite3 x 'delete from t where a = 1'", False),
        ("systemctl restart nginx", True), ("systemctl status nginx", False), ("dd if=a of=/dev/sda", True),
        ("echo x > /etc/hosts", True), ("cat /etc/hosts", False), ("ls", False), ("", False),
        ("python3 -c 'print(1)'", False), ("x" * 200_000, False),
    ],
)  # fmt: skip
def test_what_hermes_asks_about(command: str, risky: bool) -> None:
    assert (may_ask(command) is not None) is risky
