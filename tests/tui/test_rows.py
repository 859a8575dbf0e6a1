"""One span or turn → one row; numbers and times."""

from __future__ import annotations

from typing import Any

import pytest

from hermes_tui.figures import short_age, short_number, short_time
from hermes_tui.model.span import Kind, Outcome, Role, Span, Status
from hermes_tui.model.tree import Node
from hermes_tui.tui.glyphs import ASCII, UNICODE, choose
from hermes_tui.tui.rows import Row, node_row, outcome_mark
from tests.support import SECOND, agent_span, make_span, recorded_spans, recording_names, trace_id
from tests.tui.stage import rows_of, show


def row_of(span: Span | None, *, alive: bool = False) -> Row:
    node = Node(b"12345678")
    node.span = span
    return node_row(node, trace_id(0), 1, "", alive, UNICODE)


def tool(**said: Any) -> Span:
    return make_span(1, **{"kind": Kind.TOOL, "role": Role.TOOL, "tool": "terminal", **said})


def call(**said: Any) -> Span:
    return make_span(1, **{"kind": Kind.LLM, "role": Role.MODEL_CALL, "model": "gpt", **said})


ROWS: dict[str, tuple[Span, tuple[str, str, str]]] = {
    "command": (tool(command="ls -l\ncd /"), ("$", "ls -l⏎cd /", "exit ?")),
    "command unknown": (tool(), ("$", "(terminal)", "exit ?")),
    "command done": (tool(command="ls", exit_code=0, outcome="completed"), ("$", "ls", "✓")),
    "command failed": (tool(command="ls", exit_code=3, outcome="failed"), ("$", "ls", "✗ 3")),
    "command failed somehow": (tool(command="ls", outcome="failed"), ("$", "ls", "✗ failed")),
    "command timeout": (tool(command="ls", exit_code=124, outcome="timeout"), ("$", "ls", "✗ timeout")),
    "command blocked": (tool(command="rm", exit_code=-1, outcome="blocked"), ("$", "rm", "✗ blocked")),
    "background": (tool(command="serve", outcome="background"), ("$", "serve", "&")),
    "code": (tool(tool="execute_code", command="print(1)", outcome="completed"), ("$", "print(1)", "✓")),
    "tool": (tool(tool="read_file", target="/etc/hosts"), ("▣", "read_file /etc/hosts", "✓")),
    "tool failed": (tool(tool="read_file", status=Status.ERROR), ("▣", "read_file", "✗")),
    "model call": (call(input_tokens=9_000, output_tokens=200, tool_calls=2), ("◆", "gpt → 2 tools", "9.2k")),
    "model call, one tool": (call(input_tokens=1, tool_calls=1), ("◆", "gpt → 1 tool", "1")),
    "model call, answer": (call(finish_reason="stop"), ("◆", "gpt → answer", "")),
    "model call failed": (
        call(status=Status.ERROR, error="429: slow\ndown"),
        ("◆", "gpt 429: slow⏎down", "✗"),
    ),
    "approval": (
        make_span(1, role=Role.APPROVAL, decision="allowed once", target="rm x"),
        ("?", "you allowed: rm x", "✓ once"),
    ),
    "approval refused": (
        make_span(1, role=Role.APPROVAL, decision="denied", target="rm x"),
        ("?", "you denied: rm x", "✗ denied"),
    ),
    "approval unanswered": (
        make_span(1, role=Role.APPROVAL, decision="timed out", target="rm x"),
        ("?", "nobody answered: rm x", "✗ timeout"),
    ),
    "approval waits": (make_span(1, role=Role.APPROVAL, target="rm x"), ("?", "waiting: rm x", "")),
    "subagent": (make_span(1, role=Role.SUBAGENT, prompt="count", name="subagent.a"), ("◈", "count", "")),
    "subagent unnamed": (make_span(1, role=Role.SUBAGENT, name="subagent.a"), ("◈", "subagent.a", "")),
    "skill": (make_span(1, role=Role.SKILL, name="skill.git"), ("✦", "git", "")),
    "agent": (make_span(1, role=Role.AGENT, name="invoke_agent"), ("◈", "invoke_agent", "")),
    "other": (make_span(1, name="chain"), ("·", "chain", "")),
    "other failed": (make_span(1, name="chain", status=Status.ERROR), ("·", "chain", "✗")),
}


@pytest.mark.parametrize("case", ROWS)
def test_what_a_row_says(case: str) -> None:
    span, expected = ROWS[case]
    row = row_of(span)
    assert (row.glyph, row.text, row.value) == expected
    assert (row.time, row.since_ns) == ("1.0s", 0)


def test_every_role_has_a_row() -> None:
    assert {span.role for span, _ in ROWS.values()} == set(Role) - {Role.TURN, Role.WRAPPER, Role.SESSION}
    for role in Role:
        assert row_of(make_span(1, role=role, name="n")).style


def test_a_running_span_has_a_clock_only_while_its_turn_lives() -> None:
    span = tool(command="sleep 9", end_ns=0, start_ns=SECOND)
    alive, dead = row_of(span, alive=True), row_of(span, alive=False)
    assert (alive.since_ns, alive.time, alive.value) == (SECOND, "", "")
    assert (dead.since_ns, dead.time, dead.value) == (0, "", "")


def test_a_missing_parent_says_whether_it_may_still_come() -> None:
    assert row_of(None, alive=True).text == "parent not seen yet"
    assert row_of(None, alive=False).text == "parent never seen"


def test_what_a_human_decided_cannot_steer_the_terminal() -> None:
    """The choice is the emitter's own word."""
    row = row_of(make_span(1, role=Role.APPROVAL, decision="allowed \x1b[2J", target="\x1b[2J"))
    assert (row.text, row.value) == ("you allowed: ␛[2J", "✓ ␛[2J")


def test_the_text_of_a_row_is_bounded() -> None:
    assert len(row_of(tool(command="x" * 5_000_000)).text) <= 400
    assert len(row_of(make_span(1, name="n" * 5_000_000)).text) <= 400


@pytest.mark.parametrize("outcome", [*Outcome, None])
def test_every_outcome_has_a_mark(outcome: Outcome | None) -> None:
    mark, style = outcome_mark(outcome, None, UNICODE)
    assert mark
    assert style in ("good", "bad", "warning", "dim")
    assert len(mark) < 10, "time and value would touch"
    assert (mark == "✓") == (outcome == Outcome.COMPLETED)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"final_status": "completed"}, ("✓", "good")),
        ({"final_status": "interrupted"}, ("◼", "warning")),
        ({"final_status": "failed"}, ("✗", "bad")),
        ({"status": Status.ERROR}, ("✗", "bad")),
    ],
)
def test_a_turn_says_how_it_ended(said: dict[str, Any], expected: tuple[str, str]) -> None:
    row = show([agent_span(0, prompt="hi", **said)]).tree.row(0)
    assert (row.note, row.note_style) == expected


def test_a_folded_turn_counts_its_commands() -> None:
    spans = [
        agent_span(0, prompt="old"),
        tool(span_id=b"a" * 8, parent_id=agent_span(0).span_id, outcome="completed"),
        tool(span_id=b"b" * 8, parent_id=agent_span(0).span_id, outcome="failed", exit_code=1),
        agent_span(7, trace=1, prompt="new"),
    ]
    shown = show(spans)
    assert shown.tree.row(1).note == "✓ 2 $ ✗1"


def test_a_background_review_says_so() -> None:
    row = show([agent_span(0, prompt="Review the conversation above", review=True)]).tree.row(0)
    assert row.text == "background review: Review the conversation above"


@pytest.mark.parametrize("name", recording_names())
def test_ascii_rows_hold_no_other_glyphs(name: str) -> None:
    plain = show(recorded_spans(name), glyphs=ASCII)
    rich = show(recorded_spans(name))
    for row, other in zip(rows_of(plain.tree), rows_of(rich.tree), strict=True):
        assert (row.marker + row.glyph + row.note + row.value).isascii()
        assert (row.key, row.time, row.depth, row.since_ns) == (
            other.key,
            other.time,
            other.depth,
            other.since_ns,
        )
    for row in rows_of(plain.commands):
        assert (row.marker + row.glyph + row.value).isascii()


def test_ascii_is_chosen_by_a_variable_or_by_a_poor_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "UTF-8")
    assert choose() is UNICODE
    monkeypatch.setenv("HERMES_TRACE_ASCII", "1")
    assert choose() is ASCII
    monkeypatch.delenv("HERMES_TRACE_ASCII")
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "ANSI_X3.4-1968")
    assert choose() is ASCII


# ---- figures


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (842, "842"),
        (999, "999"),
        (1_000, "1.0k"),
        (9_200, "9.2k"),
        (46_123, "46.1k"),
        (999_949, "999.9k"),
        (999_950, "1.0M"),
        (1_300_000, "1.3M"),
        (999_960_000, "1.0G"),
        (12_000_000_000, "12.0G"),
    ],
)
def test_short_number(number: int, text: str) -> None:
    assert short_number(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0.0s"),
        (0.04, "0.0s"),
        (0.84, "0.8s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (10, "10s"),
        (42.9, "42s"),
        (59.999, "59s"),
        (60, "1:00"),
        (727, "12:07"),
        (3_599, "59:59"),
        (3_600, "1:00:00"),
        (11_100, "3:05:00"),
        (360_000, "100:00:00"),
    ],
)
def test_short_time(seconds: float | None, text: str) -> None:
    assert short_time(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "age"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (3_599, "59m"), (7_200, "2h"), (200_000, "2d")]
)
def test_short_age(seconds: float, age: str) -> None:
    assert short_age(seconds) == age
