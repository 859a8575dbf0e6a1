"""What calls the user: each occurrence once, nothing that is history."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

import pytest

from hermes_tui.model.attention import GUESS_NS, RECENT_NS, STALLED_NS, Event, Kind, Watcher
from hermes_tui.model.doing import Doing, State, doing
from hermes_tui.model.joined import Joined
from hermes_tui.model.live import Live
from hermes_tui.model.present import present
from hermes_tui.model.sessions import Forest
from hermes_tui.model.span import Kind as SpanKind
from hermes_tui.model.span import Role, Span, Status
from hermes_tui.model.state_rows import CallRow, Forgotten, MessageRow, StateRow
from tests.model.timeline import Shown, chosen, roots
from tests.state_player import state_names
from tests.support import SECOND, agent_span, make_span, recording_names

BEGIN = 9 * SECOND
GUESS_S, STALLED_S, RECENT_S = (each // SECOND for each in (GUESS_NS, STALLED_NS, RECENT_NS))


class Pane:
    """A session that is looked at whenever something in it moves, as a pane does."""

    def __init__(self, **said: Any) -> None:
        self.watcher = Watcher(said.pop("started_ns", BEGIN), **said)
        self.live, self.forest, self.joined = Live(), Forest("s"), Joined("s")

    def at(
        self, at_s: float, rows: Iterable[StateRow] = (), spans: Iterable[Span] = (), **said: Any
    ) -> list[Event]:
        self.live.take(rows)
        self.forest.add(spans)
        self.joined.update(self.live, self.forest, self.forest.refresh())
        now_ns = round(at_s * SECOND)
        does = present("s", self.live, self.joined.turns, now_ns)
        return self.watcher.look("s", does, self.joined.turns, now_ns, **said)


def row(number: int, role: str, at_s: float, text: str = "text", **said: Any) -> MessageRow:
    return MessageRow("default", number, number, "s", role, text, at_ns=round(at_s * SECOND), **said)


def calls(number: int, at_s: float, tool: str = "terminal", **arguments: str) -> MessageRow:
    return row(number, "assistant", at_s, calls=(CallRow("a", tool, json.dumps(arguments)),))


def root(start_s: float, end_s: float, **said: Any) -> Span:
    return agent_span(0, start_ns=round(start_s * SECOND), end_ns=round(end_s * SECOND), **said)


def api(number: int, start_s: float, end_s: float, **said: Any) -> Span:
    return make_span(
        number, parent=0, role=Role.MODEL_CALL, kind=SpanKind.LLM,
        start_ns=round(start_s * SECOND), end_ns=round(end_s * SECOND), **said,
    )  # fmt: skip


def error(number: int, start_s: float, end_s: float, text: str = "Error code: 500") -> Span:
    return api(number, start_s, end_s, status=Status.ERROR, error=text)


def kinds(events: Collection[Event]) -> list[tuple[str, str]]:
    return [(event.kind.value, event.status) for event in events]


ASKED = row(1, "user", 10, "Clean up")
DONE = row(8, "assistant", 14, "Done", finish_reason="stop")
STOPPED = row(8, "assistant", 14, "Operation interrupted: waiting for the model")
SPOKE = api(1, 10.5, 11)


# ---- a turn that ended


@pytest.mark.parametrize(
    ("rows", "spans", "status", "at_s", "subject"),
    [
        pytest.param([DONE], [], "completed", 14, "Clean up", id="records alone"),
        pytest.param([STOPPED], [], "interrupted", 14, "Clean up", id="records alone: interrupted"),
        pytest.param(
            [], [root(10, 14, final_status="completed")], "completed", 14, "Clean up", id="its span"
        ),
        pytest.param(
            [], [root(10, 14, final_status="interrupted")], "interrupted", 14, "Clean up", id="Ctrl-C"
        ),
        pytest.param(
            [DONE], [root(10, 14.1, final_status="completed")], "completed", 14.1, "Clean up", id="both"
        ),
    ],
)
def test_a_turn_that_ended(
    rows: list[MessageRow], spans: list[Span], status: str, at_s: float, subject: str
) -> None:
    pane = Pane()
    assert pane.at(11, [ASKED], [SPOKE]) == []
    (event,) = pane.at(14.5, rows, spans, title="Short title")
    at_ns, took_ns = round(at_s * SECOND), round((at_s - 10) * SECOND)
    assert event == Event(
        Kind.TURN, "s", at_ns, subject, title="Short title", status=status,
        took_ns=event.took_ns,
    )  # fmt: skip
    assert abs(event.took_ns - took_ns) <= SECOND // 2  # a trace begins with what is known of it
    assert pane.at(15) == pane.at(20) == []


@pytest.mark.parametrize("first", ["record", "span"])
def test_the_span_and_the_record_of_one_end_are_one(first: str) -> None:
    pane = Pane()
    span = root(10, 14.1, final_status="completed", prompt="Clean up")
    by_record, by_span = ([ASKED, DONE], []), ([], [SPOKE, span])
    one, other = (by_record, by_span) if first == "record" else (by_span, by_record)
    assert kinds(pane.at(14.5, *one)) == [("turn", "completed")]
    assert pane.at(15, *other) == []
    assert len(pane.joined.turns) == 1


def test_a_turn_stays_told_when_its_record_goes() -> None:
    pane = Pane()
    span = root(10, 14.1, final_status="completed", prompt="Clean up")
    assert kinds(pane.at(14.5, [ASKED, DONE], [span])) == [("turn", "completed")]
    assert pane.at(15, [Forgotten("default", 100)]) == []
    assert [turn.live for turn in pane.joined.turns] == [None]


def test_each_turn_is_told() -> None:
    pane = Pane()
    told = []
    for number in range(100):
        asked = row(2 * number + 1, "user", 10 + number, f"Turn {number}")
        pane.at(10 + number, [asked])
        told += pane.at(
            10.5 + number, [row(2 * number + 2, "assistant", 10.5 + number, finish_reason="stop")]
        )
    assert [event.subject for event in told] == [f"Turn {number}" for number in range(100)]


@pytest.mark.parametrize(
    ("end_s", "status", "told"),
    [
        (13, "completed", []),
        (15, "completed", [("turn", "completed")]),
        (13, "interrupted", []),
        (13, "failed", [("turn", "failed")]),
    ],
)
def test_a_short_turn_ends_quietly_unless_it_failed(
    end_s: float, status: str, told: list[tuple[str, str]]
) -> None:
    pane = Pane(on={Kind.TURN}, min_turn_ns=5 * SECOND)
    span = root(10, end_s, final_status=status, prompt="Clean up")
    assert kinds(pane.at(end_s, [], [span])) == told


def test_the_plugins_own_limit_is_not_the_end_of_a_turn_that_goes_on() -> None:
    """After ten minutes hermes-otel closes a turn as timed out; Hermes knows nothing of it."""
    pane = Pane()
    pane.at(11, [ASKED, calls(2, 11, command="make")], [SPOKE])
    assert pane.at(611, [], [root(10, 610, final_status="timed_out", status=Status.ERROR)]) == []
    over = [row(3, "tool", 700, tool_call_id="a"), row(4, "assistant", 701, "Done", finish_reason="stop")]
    (event,) = pane.at(701.1, over)
    assert (event.status, event.at_ns, event.took_ns) == ("completed", 701 * SECOND, 691 * SECOND)
    assert pane.at(702) == []


def test_a_background_review_is_nobodys_waiting() -> None:
    pane = Pane()
    review = root(10, 14, final_status="interrupted", prompt="Review the conversation above", review=True)
    assert pane.at(14, [], [review]) == []


def test_a_review_can_end_before_its_prompt_shows_that_it_is_one() -> None:
    pane = Pane()
    assert pane.at(14, [], [root(10, 14, final_status="finalized")]) == []
    assert pane.at(14.5, [], [api(1, 10, 14, prompt="Review the conversation", review=True)]) == []
    assert pane.at(30) == []


def test_a_turn_without_a_prompt_is_told_too() -> None:
    """Plugins can be told to keep prompts to themselves."""
    pane = Pane()
    assert pane.at(14, [], [root(10, 14, final_status="completed")]) == []
    assert kinds(pane.at(16)) == [("turn", "completed")]


def test_what_is_lost_from_sight_did_not_end() -> None:
    pane = Pane()
    assert pane.at(12, [ASKED, calls(2, 11, command="ls")], [SPOKE]) == []
    for minutes in (1, 15, 61, 600):
        assert pane.at(12 + 60 * minutes) == []


# ---- an error


def test_a_failed_turn() -> None:
    pane = Pane()
    assert pane.at(11, [ASKED], [error(1, 10.5, 11, "no such model")]) == []
    (event,) = pane.at(14, [], [root(10, 14, final_status="failed")])
    assert (event.kind, event.status, event.subject) == (Kind.ERROR, "failed", "no such model")
    assert pane.at(60) == pane.at(200) == []


def test_a_model_that_is_not_asked_again() -> None:
    """hermes-otel 0.11 leaves a turn that failed for good without a root."""
    pane = Pane()
    assert pane.at(11, [ASKED], [error(1, 10.5, 11)]) == []
    assert pane.at(14, [], [error(2, 13, 14, "Error code: 401")]) == []
    assert pane.at(13.9 + STALLED_S) == []
    (event,) = pane.at(14 + STALLED_S)
    assert (event.kind, event.status, event.subject) == (Kind.ERROR, "", "Error code: 401")
    assert pane.at(60) == pane.at(14 + 121) == pane.at(400) == []


@pytest.mark.parametrize(
    ("rows", "spans"),
    [
        pytest.param([], [api(2, 13, 14)], id="it answered"),
        pytest.param([], [api(2, 13, 0)], id="it is at it"),
        pytest.param([calls(2, 14, command="ls")], [], id="its answer is in the records"),
        pytest.param([DONE], [], id="the turn is over all the same"),
    ],
)
def test_a_call_that_hermes_tried_again_is_no_error(rows: list[MessageRow], spans: list[Span]) -> None:
    pane = Pane()
    pane.at(11, [ASKED], [error(1, 10.5, 11)])
    told = pane.at(14.5, rows, spans) + pane.at(11 + 2 * STALLED_S)
    assert "error" not in [event.kind for event in told]


@pytest.mark.parametrize(
    ("end", "told"), [("completed", [("turn", "completed")]), ("failed", []), ("finalized", [])]
)
def test_an_error_is_told_once_in_a_turn(end: str, told: list[tuple[str, str]]) -> None:
    pane = Pane()
    pane.at(11, [ASKED], [error(1, 10.5, 11)])
    assert kinds(pane.at(30)) == [("error", "")]
    assert pane.at(60, [], [error(2, 50, 51)]) == []
    last = [] if end == "finalized" else [api(3, 61, 62, status=Status.OK, finish_reason="stop")]
    assert kinds(pane.at(63, [], [*last, root(10, 62, final_status=end)])) == told


def test_a_turn_that_silence_said_was_over_can_still_end() -> None:
    pane = Pane()
    pane.at(11, [ASKED], [error(1, 10.5, 11)])
    assert kinds(pane.at(30)) == [("error", "")]
    assert pane.at(11 + 121) == []
    last = [api(2, 150, 151, finish_reason="stop"), root(10, 151, final_status="completed")]
    assert kinds(pane.at(152, [], last)) == [("turn", "completed")]


@pytest.mark.parametrize("looked_s", [15, 14 + 121])
def test_an_interrupted_call_is_no_error_of_the_model(looked_s: float) -> None:
    pane = Pane()
    rows, spans = [ASKED, STOPPED], [error(1, 10.5, 14.2, "interrupted")]
    assert kinds(pane.at(looked_s, rows, spans)) == [("turn", "interrupted")]
    assert pane.at(14.2 + 2 * STALLED_S) == pane.at(14.2 + 130) == []


@pytest.mark.parametrize(("started_s", "history"), [(40, False), (9, True)])
def test_a_failure_is_told_though_its_first_errors_were_history(started_s: int, history: bool) -> None:
    pane = Pane(started_ns=started_s * SECOND)
    assert pane.at(41, [ASKED], [error(1, 10.5, 11)], history=history) == []
    assert pane.at(42) == []
    assert kinds(pane.at(44, [], [root(10, 44, final_status="failed")])) == [("error", "failed")]


def test_what_a_subagents_model_says_is_not_the_turns_error() -> None:
    pane = Pane()
    below = api(2, 12, 13, session="child", status=Status.ERROR, error="the child's")
    pane.at(13, [ASKED], [error(1, 10.5, 11, "its own"), below])
    (event,) = pane.at(30)
    assert (event.subject, event.at_ns) == ("its own", 11 * SECOND + STALLED_NS)


def test_an_older_turns_error_is_no_news() -> None:
    pane = Pane()
    pane.at(11, [ASKED], [error(1, 10.5, 11)])
    pane.at(12, [row(3, "user", 12, "Again")])
    assert pane.at(12 + 2 * STALLED_S) == []


def test_a_failed_command_is_no_error() -> None:
    pane = Pane()
    failed = row(3, "tool", 12, '{"exit_code": 1}', tool_call_id="a")
    told = pane.at(11, [ASKED, calls(2, 11, command="false")]) + pane.at(13, [failed])
    tool = make_span(
        5, parent=0, role=Role.TOOL, tool="terminal", status=Status.ERROR, outcome="failed",
        start_ns=11 * SECOND, end_ns=12 * SECOND,
    )  # fmt: skip
    assert told + pane.at(14, [], [tool]) + pane.at(60) == []


# ---- a question


def test_a_question_that_is_certain_is_told_at_once() -> None:
    pane = Pane()
    (event,) = pane.at(11.1, [ASKED, calls(2, 11, "clarify", question="Which one?")])
    assert event == Event(Kind.APPROVAL, "s", 11 * SECOND, "Which one?")
    assert pane.at(12) == pane.at(100) == []


def test_a_guess_has_to_last() -> None:
    pane = Pane()
    assert pane.at(11, [ASKED, calls(2, 11, command="rm -rf build")]) == []
    assert pane.at(11 + GUESS_S - 0.1) == []
    (event,) = pane.at(11 + GUESS_S)
    assert event == Event(
        Kind.APPROVAL, "s", 11 * SECOND + GUESS_NS, "rm -rf build", "recursive delete", certain=False
    )
    assert pane.at(12 + GUESS_S) == []


def test_a_guess_that_was_wrong_is_not_told() -> None:
    pane = Pane()
    pane.at(11, [ASKED, calls(2, 11, command="rm -rf build")])
    assert pane.at(13, [row(3, "tool", 13, '{"exit_code": 0}', tool_call_id="a")]) == []
    assert pane.at(30) == []


def test_a_question_by_record_and_by_span_is_one() -> None:
    watcher = Watcher(BEGIN)
    by_record = Doing(State.APPROVAL, 11 * SECOND, certain=True)
    by_span = Doing(State.APPROVAL, 11 * SECOND + SECOND // 3)
    next_one = Doing(State.APPROVAL, 20 * SECOND)
    looks = [by_record, by_span, Doing(), by_span, next_one, by_record]
    told = [len(watcher.look("s", does, (), (21 + at) * SECOND)) for at, does in enumerate(looks)]
    assert told == [1, 0, 0, 0, 1, 0]


def test_sessions_are_told_apart_and_a_subagent_can_ask_too() -> None:
    live, watcher = Live(), Watcher(BEGIN)
    live.take([ASKED, calls(2, 11, "clarify", question="Which one?")])
    does = doing(live, "s", 12 * SECOND)
    told = [event for name in ("s", "child", "s") for event in watcher.look(name, does, (), 12 * SECOND)]
    assert [event.session for event in told] == ["s", "child"]


# ---- what is no news


@pytest.mark.parametrize(
    ("on", "told"),
    [
        ({Kind.TURN}, [("turn", "failed")]),
        ({Kind.ERROR}, [("error", "failed")]),
        ({Kind.APPROVAL}, []),
        (set(Kind), [("error", "failed")]),
        (set(), []),
    ],
)
def test_a_failed_turn_is_one_event_of_the_kind_that_is_wanted(
    on: set[Kind], told: list[tuple[str, str]]
) -> None:
    pane = Pane(on=on)
    pane.at(11, [ASKED], [error(1, 10.5, 11)])
    assert kinds(pane.at(14, [], [root(10, 14, final_status="failed")])) == told


def test_a_turn_without_a_root_fails_by_silence_where_no_errors_are_wanted() -> None:
    pane = Pane(on={Kind.TURN})
    pane.at(11, [ASKED], [error(1, 10.5, 11)])
    assert pane.at(60) == []
    assert kinds(pane.at(11 + 121)) == [("turn", "failed")]
    assert pane.at(300) == []


@pytest.mark.parametrize(
    ("started_s", "now_s", "history", "told"),
    [
        pytest.param(9, 14.5, False, 1, id="it ended while the pane was open"),
        pytest.param(13, 14.5, False, 1, id="it began before and ended after"),
        pytest.param(14.2, 14.5, False, 0, id="it was over when the pane opened"),
        pytest.param(9, 14.5, True, 0, id="the session is being read"),
        pytest.param(9, 14 + RECENT_S + 1, False, 0, id="it comes late"),
    ],
)
def test_history_is_no_news(started_s: float, now_s: float, history: bool, told: int) -> None:
    pane = Pane(started_ns=round(started_s * SECOND))
    span = root(10, 14, final_status="completed", prompt="Clean up")
    assert len(pane.at(now_s, [ASKED, DONE], [span], history=history)) == told
    assert pane.at(now_s + 0.1) == []


def test_a_recording_that_is_played_again_is_no_news() -> None:
    for name in ("v123_turns", "v123_fatal", "v123_approval"):
        (session,) = roots(name)
        events = list(chosen(name, records=True, spans=True))
        start_ns = round(events[-1][0] * SECOND) + 86_400 * SECOND
        assert play(name, session, Watcher(start_ns), later_ns=86_400 * SECOND) == []


# ---- real sessions


def play(
    name: str, session: str, watcher: Watcher, *, records: bool = True, spans: bool = True, later_ns: int = 0
) -> list[Event]:
    """Look at every event of a recording, and each second for three minutes after it."""
    live, shown, joined = Live(), Shown(session), Joined(session)
    told: list[Event] = []
    now_ns = 0
    for wall, rows, some in chosen(name, records=records, spans=spans):
        live.take(rows)
        joined.update(live, shown.forest, shown.add(some))
        now_ns = round(wall * SECOND) + later_ns
        told += watcher.look(session, present(session, live, joined.turns, now_ns), joined.turns, now_ns)
    for at in range(180):
        then_ns = now_ns + at * SECOND
        told += watcher.look(session, present(session, live, joined.turns, then_ns), joined.turns, then_ns)
    return told


RECORDED = {
    "api_error": [["turn completed"], ["turn completed"], ["error "], ["error "]],
    "approval": [["turn completed"] * 4],
    "interrupted": [["turn interrupted", "turn completed", "turn completed"]],
    "metrics_logs": [["turn completed"]],
    "rate_limited": [["turn completed"]],
    "subagent_children": [["turn completed"], ["turn completed"]],
    "three_turns": [["turn completed"] * 3],
    "timeout_background": [["turn completed"], ["turn completed"]],
    "v123_approval": [["turn completed", "approval ", "turn completed"]],
    "v123_fatal": [["error failed"]],
    "v123_interrupted": [["turn interrupted", "turn completed"]],
    "v123_turns": [["turn completed"] * 2],
}


@pytest.mark.parametrize(("records", "spans"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("name", recording_names())
def test_every_turn_of_a_recording_is_told_once(name: str, records: bool, spans: bool) -> None:
    """Records alone know of no model's error, spans of no approval before it is decided."""
    records = records and name in state_names()
    unknown = {"" if records else "approval ", "" if spans else "error failed"}
    for session, whole in zip(roots(name), RECORDED.get(name, [["turn completed"]]), strict=True):
        told = play(name, session, Watcher(0), records=records, spans=spans)
        expected = [each for each in whole if each not in unknown] if records or spans else []
        assert [f"{each.kind} {each.status}" for each in told] == expected
