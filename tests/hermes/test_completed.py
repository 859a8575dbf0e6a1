"""`commands`: each command once and whole, from spans, model calls' spans and Hermes' own records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.trace.v1 import trace_pb2

from hermes_tui import output
from hermes_tui.cli import main
from hermes_tui.hermes import state_file
from hermes_tui.hermes.completed import commands
from hermes_tui.hermes.history import History
from hermes_tui.hermes.home import Home
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from hermes_tui.model.results import COMMAND_TOOLS
from tests.state_player import StatePlayer, state_events, state_names
from tests.support import (
    SECOND,
    body_of,
    caught_up,
    recorded_requests,
    store,
    wait_for,
    wire_span,
    wire_spans_in,
)

KEYS = [
    "session", "trace", "span", "tool", "command", "cwd", "exit_code", "outcome", "started", "duration_s",
    "output", "error", "truncated", "command_truncated", "source",
]  # fmt: skip
START = 1_790_000_000
Record = dict[str, Any]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def journal(open_writer: Callable[..., Writer], open_reader: Callable[[], Reader]) -> Callable[..., Reader]:
    """A reader of a journal that these bodies are in."""

    def journal(*bodies: bytes) -> Reader:
        store(open_writer(), *bodies)
        reader = open_reader()
        wait_for(lambda: caught_up(reader))
        return reader

    return journal


@pytest.fixture
def player(tmp_path: Path, stack: ExitStack) -> StatePlayer:
    player = StatePlayer(tmp_path / "home")
    stack.callback(player.close)
    return player


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History([Home("default", tmp_path / "home")])


def asked_in_state(name: str) -> dict[str, Record]:
    """What Hermes' own records say of every command in a recording, by its id, read the plain way."""
    found: dict[str, Record] = {}
    for event in state_events(name):
        row = event.row
        if event.table != "messages":
            continue
        for call in json.loads(row["tool_calls"] or "[]"):
            if call["function"]["name"] in COMMAND_TOOLS:
                arguments = json.loads(call["function"]["arguments"])
                command = arguments.get("command", arguments.get("code"))
                found[call["id"]] = {"session": row["session_id"], "command": command}
        if row["role"] == "tool" and row["tool_call_id"] in found:
            found[row["tool_call_id"]] |= json.loads(row["content"])
    return found


def check_whole(records: list[Record], name: str, sessions: Iterable[str]) -> None:
    """Every command that Hermes noted is there once, with its exit code and all that it printed."""
    expected = [each for each in asked_in_state(name).values() if each["session"] in sessions]
    found = [record for record in records if record["session"] in {each["session"] for each in expected}]
    assert sorted(each["command"] for each in found) == sorted(each["command"] for each in expected)
    for record in found:
        assert list(record) == KEYS
        (noted,) = [each for each in expected if each["command"] == record["command"]]
        assert record["output"] == noted.get("output")
        assert record["truncated"] is False
        if record["outcome"] != "background":
            assert record["exit_code"] == noted.get("exit_code")


@pytest.mark.parametrize("name", state_names())
def test_with_both_all_is_whole(
    name: str, journal: Callable[..., Reader], player: StatePlayer, history: History
) -> None:
    player.play(state_events(name))
    reader = journal(*recorded_requests(name))
    records = commands(reader, history, None)
    noted = {each["session"] for each in asked_in_state(name).values()}
    check_whole(records, name, noted)
    before = {record["span"]: record for record in commands(reader, None, None)}
    spans = [record["span"] for record in records if record["span"]]
    assert sorted(spans) == sorted(span for span in before if span)
    for record in records:
        alone = before.get(record["span"])
        if record["source"] == "span":
            assert record == alone
        elif alone is not None:
            assert record != alone
            assert record["source"] == "state"
    assert records == sorted(records, key=lambda record: record["started"])
    for session in noted:
        assert commands(reader, history, session) == [r for r in records if r["session"] == session]
    assert history.troubles == []


@pytest.mark.parametrize("name", state_names())
def test_with_records_alone_all_is_whole(name: str, player: StatePlayer, history: History) -> None:
    player.play(state_events(name))
    for session in {each["session"] for each in asked_in_state(name).values()}:
        records = commands(None, history, session)
        check_whole(records, name, {session})
        assert {(each["source"], each["trace"], each["span"]) for each in records} == {("state", None, None)}
    assert commands(None, history, None) == []  # what no span was ever heard of is asked for by name


TOLD = {
    "truncated": (None, True, "span"),
    "v123_truncated": (7, False, "model"),
}


@pytest.mark.parametrize("name", TOLD)
def test_without_records(name: str, journal: Callable[..., Reader]) -> None:
    reader = journal(*recorded_requests(name))
    records = {record["command"][:20]: record for record in commands(reader, None, None)}
    record = records["seq 1 3000; exit 7"]
    exit_code, truncated, source = TOLD[name]
    assert (record["exit_code"], record["truncated"], record["source"]) == (exit_code, truncated, source)
    assert record["outcome"] == ("unknown" if truncated else "failed")
    whole = "\n".join(map(str, range(1, 3001)))
    assert (record["output"] == whole) is not truncated
    late = records["# pad yyyyyyyyyyyyyy"]
    assert late["command"].endswith("\necho late") is not truncated
    failed = {record["command"] for record in commands(reader, None, None, failed=True)}
    assert failed == (set() if truncated else {"seq 1 3000; exit 7"})


def without_tools(body: bytes) -> bytes:
    """The request as it would be if all spans of tools had been lost."""
    return body_of(*(span for span in wire_spans_in(body) if not span.name.startswith("tool.")))


def test_lost_spans_by_the_model_calls(journal: Callable[..., Reader]) -> None:
    records = commands(journal(*map(without_tools, recorded_requests("v123_parallel"))), None, None)
    assert [(each["command"], each["exit_code"], each["output"]) for each in records] == [
        ("echo A; sleep 1", 0, "A"),
        ("echo B; sleep 1", 0, "B"),
        ("echo C; sleep 1; exit 4", 4, "C"),
    ]
    for record in records:
        assert (record["source"], record["span"], record["trace"]) == ("model", None, None)
        assert record["duration_s"] is None  # they ran one after the other: who knows when
    assert records[2]["outcome"] == "failed"


def test_lost_spans_by_a_lone_call(journal: Callable[..., Reader]) -> None:
    records = commands(journal(*map(without_tools, recorded_requests("v123_truncated"))), None, None)
    assert [record["exit_code"] for record in records] == [0, 0, 7]
    assert len(records[2]["output"]) > 10_000
    assert all(0 < record["duration_s"] < 5 for record in records)


def test_lost_spans_by_the_records(
    journal: Callable[..., Reader], player: StatePlayer, history: History
) -> None:
    player.play(state_events("v123_parallel"))
    reader = journal(*map(without_tools, recorded_requests("v123_parallel")))
    records = commands(reader, history, None)
    assert [each["output"] for each in records] == ["A", "B", "C"]
    assert {each["source"] for each in records} == {"state"}
    first, *others = [each["duration_s"] for each in records]
    assert 1 < first < 2
    assert others == [None, None]


def test_what_runs_now(journal: Callable[..., Reader], player: StatePlayer, history: History) -> None:
    events = state_events("v123_slow_tool")
    answered = [at for at, each in enumerate(events) if each.row.get("role") == "tool"]
    player.play(events[: answered[1]])
    spans = [wire_spans_in(body) for body in recorded_requests("v123_slow_tool")]
    *_, second = sorted((s for some in spans for s in some if s.name == "tool.terminal"), key=_start)
    early = [s for some in spans for s in some if s.end_time_unix_nano < second.start_time_unix_nano]
    finished, running = commands(journal(body_of(*early)), history, None)
    assert (finished["outcome"], finished["source"]) == ("completed", "span")
    assert running["command"] == "echo start; sleep 12; echo end"
    assert (running["outcome"], running["exit_code"], running["output"]) == ("unknown", None, None)
    assert (running["duration_s"], running["span"], running["source"]) == (None, None, "state")


def _start(span: trace_pb2.Span) -> int:
    return span.start_time_unix_nano


def terminal(number: int, command: str, result: Any, **said: Any) -> trace_pb2.Span:
    """A tool span of hermes-otel 0.11, `number` seconds after the start."""
    texts = {"input__value": json.dumps({"command": command}), "output__value": json.dumps(result)}
    names = {"session__id": "s", "openinference__span__kind": "TOOL", "gen_ai__tool__name": "terminal"}
    begin = (START + number) * SECOND
    return wire_span(
        number, parent=0, name="tool.terminal", start_ns=begin, end_ns=begin + SECOND // 2, status=1,
        **{**names, **texts, **said},
    )  # fmt: skip


def note(player: StatePlayer, at_s: float, *calls: tuple[str, str, Any], session: str = "s") -> None:
    """Hermes' records of commands (id, command, result) that were asked for at once; None: not answered."""
    row = {"session_id": session, "active": 1}
    asked = [
        {"id": name, "function": {"name": "terminal", "arguments": json.dumps({"command": command})}}
        for name, command, _ in calls
    ]
    player.put("messages", **row, role="assistant", timestamp=START + at_s, tool_calls=json.dumps(asked))
    for number, (name, _, result) in enumerate(calls):
        if result is not None:
            player.put(
                "messages", **row, role="tool", tool_name="terminal", tool_call_id=name,
                timestamp=START + at_s + 0.6 + number, content=json.dumps(result),
            )  # fmt: skip


def prompt(player: StatePlayer, at_s: float, session: str = "s", **said: Any) -> None:
    player.put("sessions", id=session, started_at=START + at_s, **said)
    row = {"session_id": session, "timestamp": START + at_s, "active": 1}
    player.put("messages", **row, role="user", content="Go")


def printed(text: str, code: int = 0) -> Record:
    return {"output": text, "exit_code": code, "error": None}


def test_calls_that_shared_a_span(
    journal: Callable[..., Reader], player: StatePlayer, history: History
) -> None:
    """hermes-otel 0.11 makes one span of several: one's input and another's output."""
    prompt(player, 0)
    note(player, 1, ("a", "echo A", printed("A")), ("b", "exit 3", printed("", 3)))
    records = commands(journal(body_of(terminal(1, "echo A", printed("", 3)))), history, None)
    assert [(each["command"], each["outcome"], each["exit_code"], each["output"]) for each in records] == [
        ("echo A", "completed", 0, "A"),
        ("exit 3", "failed", 3, ""),
    ]
    assert [each["span"] is not None for each in records] == [True, False]
    assert [each["source"] for each in records] == ["state", "state"]


def test_only_the_outcome_is_news(
    journal: Callable[..., Reader], player: StatePlayer, history: History
) -> None:
    prompt(player, 0)
    note(player, 1, ("a", "sleep 9", {**printed("", 130), "status": "interrupted"}))
    (record,) = commands(journal(body_of(terminal(1, "sleep 9", printed("", 130)))), history, None)
    assert (record["outcome"], record["exit_code"], record["source"]) == ("interrupted", 130, "state")


def api(number: int, *, asked: list[Record] | None = None, answered: Record | None = None) -> trace_pb2.Span:
    """A model call's span of hermes-otel 1.23: what it asked for, and the result that it was given."""
    given: list[Record] = [{"role": "user", "content": "Go"}, {"role": "assistant", "content": ""}]
    given += [{"role": "tool", **answered}] if answered is not None else []
    begin = (START + number) * SECOND
    return wire_span(
        100 + number, parent=0, name="api.m", start_ns=begin, end_ns=begin + SECOND // 10, session__id="s",
        openinference__span__kind="LLM", llm__token_count__prompt=5,
        gen_ai__output__messages=json.dumps([{"role": "assistant", "tool_calls": asked or []}]),
        gen_ai__input__messages=json.dumps(given),
    )  # fmt: skip


def wish(name: str, command: str) -> Record:
    given = {"name": "terminal", "arguments": json.dumps({"command": command})}
    return {"id": name, "function": given} if name else {"function": given}


@pytest.mark.parametrize("running", [True, False], ids=["announced", "closed at exit"])
def test_spans_without_an_end_by_the_model_calls(journal: Callable[..., Reader], running: bool) -> None:
    span = terminal(2, "exit 3", {}, output__value="", gen_ai__tool__call__id="call_1")
    if running:
        span.end_time_unix_nano = 0
    result = json.dumps(printed("x" * 5_000, 3))
    first = api(1, asked=[wish("call_1", "exit 3")])
    reader = journal(body_of(first, span, api(3, answered={"tool_call_id": "call_1", "content": result})))
    (record,) = commands(reader, None, None)
    assert (record["outcome"], record["exit_code"], record["source"]) == ("failed", 3, "model")
    assert record["output"] == "x" * 5_000
    assert record["span"] == span.span_id.hex()


def test_a_wish_without_an_id(journal: Callable[..., Reader]) -> None:
    """Then its whole text cannot be found again, and it is said that some is missing."""
    asked = [wish("", "echo " + "x" * 5_000), wish("", "echo short")]
    long, short = commands(journal(body_of(api(1, asked=asked))), None, None)
    assert (short["command"], short["truncated"], short["outcome"]) == ("echo short", False, "unknown")
    assert long["command"].startswith("echo xxx")
    assert long["truncated"] is True


def test_ids_that_are_used_again(player: StatePlayer, history: History) -> None:
    prompt(player, 0)
    for number in range(3):
        note(player, 10 * number + 1, ("call_1", f"echo {number}", printed(f"{number}" * 3_000)))
    records = commands(None, history, "s")
    assert [each["output"] for each in records] == ["000" * 1_000, "111" * 1_000, "222" * 1_000]


def test_a_compacted_conversation_tells_nothing_twice(player: StatePlayer, history: History) -> None:
    """As Hermes 0.19 does it: rows are archived, the newest written again at one moment, older ones cut."""
    player.connection.execute("ALTER TABLE messages ADD COLUMN compacted INTEGER")
    prompt(player, 0)
    note(player, 1, ("a", "echo A", printed("A" * 500)))
    note(player, 5, ("b", "echo B", printed("B")))
    player.connection.execute("UPDATE messages SET active = 0, compacted = 1")
    row = {"session_id": "s", "timestamp": START + 9, "active": 1}
    player.put("messages", **row, role="user", content="[CONTEXT COMPACTION]")
    copies = "SELECT role, content, tool_call_id, tool_calls, tool_name FROM messages WHERE id < 6"
    for role, content, call, calls, tool in player.connection.execute(copies).fetchall():
        text = content if content is None or len(content) < 200 else "[terminal] ran `echo A` -> exit 0"
        player.put(
            "messages", **row, role=role, content=text, tool_call_id=call, tool_calls=calls, tool_name=tool
        )
    note(player, 10, ("c", "echo C", printed("C")))
    found = [(each["command"], each["output"]) for each in commands(None, history, "s")]
    assert found == [("echo A", "A" * 500), ("echo B", "B"), ("echo C", "C")]


@pytest.mark.parametrize("why", ["branched", "compression"])
def test_a_session_that_goes_on_from_another_tells_its_own(
    player: StatePlayer, history: History, why: str, journal: Callable[..., Reader]
) -> None:
    prompt(player, 0)
    note(player, 1, ("a", "echo A", printed("A")))
    player.put("sessions", id="s", end_reason=why)
    prompt(player, 5, "next", parent_session_id="s", source="cli")
    note(player, 5, ("a", "echo A", printed("A")), session="next")
    note(player, 9, ("b", "echo B", printed("B")), session="next")
    spans = [
        terminal(1, "echo A", printed("A")),
        terminal(9, "echo B", printed("B"), session__id="next"),
    ]
    records = commands(journal(body_of(*spans)), history, None)
    assert [(each["session"], each["command"], each["source"]) for each in records] == [
        ("s", "echo A", "span"),
        ("next", "echo B", "span"),
    ]
    assert [each["command"] for each in commands(None, history, "next")] == ["echo B"]


SPANS_OF_MOVED = {
    "cut": (json.dumps(printed("line\n" * 500, 2))[:1_200] + "...", None, "unknown", True, "line\nline"),
    "whole": (json.dumps(printed("", 2)), 2, "failed", False, ""),
    "lost": (None, None, "unknown", True, "<persisted-output>"),
}


@pytest.mark.parametrize("span", SPANS_OF_MOVED)
def test_a_result_that_hermes_moved_away(
    journal: Callable[..., Reader], player: StatePlayer, history: History, span: str
) -> None:
    """Hermes keeps very long results out of its database; what the span has of it is more."""
    prompt(player, 0)
    note(player, 1, ("a", "make", "x"))
    moved = "<persisted-output>\nThis tool result was too large (120,000 characters).\n</persisted-output>"
    player.connection.execute("UPDATE messages SET content = ? WHERE role = 'tool'", (moved,))
    told, exit_code, outcome, truncated, output = SPANS_OF_MOVED[span]
    spans = [terminal(20, "true", printed(""))]
    spans += [terminal(1, "make", {}, output__value=told)] if told is not None else []
    record, _ = commands(journal(body_of(*spans)), history, None)
    assert (record["outcome"], record["exit_code"]) == (outcome, exit_code)
    assert (record["truncated"], record["output"][:9]) == (truncated, output[:9])
    assert record["source"] == ("span" if told is not None else "state")


def test_texts_of_any_length(journal: Callable[..., Reader], player: StatePlayer, history: History) -> None:
    prompt(player, 0)
    command, output = "echo " + "x  y" * 20_000, "é\n" * 400_000
    note(player, 1, ("a", command, printed(output, 5)))
    cut = {
        "input__value": json.dumps({"command": command})[:1_200] + "...",
        "output__value": json.dumps(printed(output))[:1_200] + "...",
    }
    (record,) = commands(journal(body_of(terminal(1, "", {}, **cut))), history, None)
    assert (record["command"], record["output"]) == (command, output)
    assert (record["truncated"], record["exit_code"], record["outcome"]) == (False, 5, "failed")
    assert record["span"] is not None


def test_an_open_span_of_a_call_that_ended(
    journal: Callable[..., Reader], player: StatePlayer, history: History
) -> None:
    """A span that was announced, and whose end was lost."""
    prompt(player, 0)
    note(player, 1, ("a", "exit 3", printed("", 3)))
    span = terminal(1, "exit 3", {}, output__value="")
    span.end_time_unix_nano = 0
    reader = journal(body_of(span))
    (alone,) = commands(reader, None, None)
    assert (alone["outcome"], alone["duration_s"]) == ("unknown", None)
    (record,) = commands(reader, history, None)
    assert (record["outcome"], record["exit_code"], record["source"]) == ("failed", 3, "state")
    assert record["duration_s"] == pytest.approx(0.6)


def test_subagents_are_theirs(journal: Callable[..., Reader], player: StatePlayer, history: History) -> None:
    prompt(player, 0)
    prompt(player, 2, "child", source="subagent", parent_session_id="s")
    prompt(player, 3, "grandchild", source="subagent", parent_session_id="child")
    prompt(player, 4, "branch", source="cli", parent_session_id="s")
    for name in ("child", "grandchild", "branch"):
        note(player, 5, ("a", f"echo {name}", printed(name)), session=name)
    reader = journal(body_of(terminal(1, "echo s", printed("s"))))
    every = [(each["session"], each["output"]) for each in commands(reader, history, None)]
    assert sorted(every) == [("child", "child"), ("grandchild", "grandchild"), ("s", "s")]
    assert [each["session"] for each in commands(reader, history, "s")] == ["s"]


def test_a_session_in_two_homes(tmp_path: Path, player: StatePlayer, stack: ExitStack) -> None:
    """One of them is an old copy."""
    copy = StatePlayer(tmp_path / "copy")
    stack.callback(copy.close)
    for each in (player, copy):
        prompt(each, 0)
        note(each, 1, ("a", "echo 1", printed("1")))
    note(player, 5, ("b", "echo 2", printed("2")))
    history = History([Home("copy", tmp_path / "copy"), Home("default", tmp_path / "home")])
    assert [each["output"] for each in commands(None, history, "s")] == ["1", "2"]


def test_the_number_of_commands_costs_no_opens(
    player: StatePlayer, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def connect(*arguments: Any, **said: Any) -> sqlite3.Connection:
        opened.append(arguments)
        return sqlite3.Connection(*arguments, **said)

    monkeypatch.setattr(state_file.sqlite3, "connect", connect)
    counts = []
    for session, commands_in_it in (("few", 2), ("many", 600)):
        prompt(player, 0, session)
        for number in range(commands_in_it):
            note(player, number + 1, (f"c{number}", "true", printed("x" * 5_000)), session=session)
        opened.clear()
        assert len(commands(None, history, session)) == commands_in_it
        counts.append(len(opened))
    assert counts[0] == counts[1]


# ---- the command


def run(tmp_path: Path, *arguments: str, code: int = 0, **environment: str) -> Any:
    """stdout, and standard error as it is told to a person."""
    environment = {
        "HERMES_HOME": str(tmp_path / "home"),
        "HERMES_TRACE_STATE_DIR": str(tmp_path / "state"),
        **environment,
    }
    done = CliRunner().invoke(main, arguments, env=environment)
    assert done.exit_code == code, done.output
    return (json.loads(done.stdout) if "--json" in arguments and not code else done.stdout), done.stderr


@pytest.fixture
def cut(state: StateDir, journal: Callable[..., Reader], player: StatePlayer) -> str:
    """A session whose last command's span is cut, and Hermes' records of it."""
    player.play(state_events("truncated"))
    journal(*recorded_requests("truncated"))
    return "20261123_023135_f318b9"


def test_forms_say_where_it_is_from(tmp_path: Path, cut: str) -> None:
    text, _ = run(tmp_path, "commands")
    assert [line.split()[:5] for line in text.splitlines() if "seq 1 3000" in line] == [
        ["02:31:37", "✗", "7", "0.0s", "Hermes'"]
    ]
    assert (
        "failed, exit 7 (from Hermes' records)\nseq 1 3000" in run(tmp_path, "commands", "--format", "sh")[0]
    )
    marked, _ = run(tmp_path, "commands", "--format", "md")
    assert "· ✗ 7 · 0.0s · from Hermes' records\n" in marked
    assert "\n2999\n3000\n```" in marked
    (failed,), _ = run(tmp_path, "commands", "--failed", "--json")
    assert (failed["command"], failed["exit_code"]) == ("seq 1 3000; exit 7", 7)


def test_hermes_records_can_be_left_alone(tmp_path: Path, cut: str) -> None:
    off = {"HERMES_TRACE_WATCH_HERMES": "false"}
    nowhere = {"HERMES_HOME": str(tmp_path / "none")}
    alone, told = run(tmp_path, "commands", "--json", **nowhere)
    assert ({each["source"] for each in alone}, told) == ({"span"}, "")
    assert run(tmp_path, "commands", "--json", **off) == (alone, "")
    assert "from" not in run(tmp_path, "commands", **off)[0].splitlines()[0]
    found, _ = run(
        tmp_path, "commands", "--json", **nowhere, HERMES_TRACE_HERMES_HOMES=str(tmp_path / "home")
    )
    assert found == run(tmp_path, "commands", "--json")[0]
    assert {each["source"] for each in found} == {"state"}


def test_records_that_cannot_be_read(tmp_path: Path, cut: str, player: StatePlayer) -> None:
    player.close()
    alone, _ = run(tmp_path, "commands", "--json", HERMES_TRACE_WATCH_HERMES="false")
    (tmp_path / "home" / "state.db").write_bytes(b"nonsense" * 100)
    found, told = run(tmp_path, "commands", "--json")
    assert found == alone
    assert told.splitlines() == [
        f"Left out of Hermes' own records: {tmp_path}/home/state.db is not an SQLite database"
    ]


def test_a_session_that_only_the_records_know(tmp_path: Path, player: StatePlayer) -> None:
    player.play(state_events("v123_weather"))
    (name,) = {each["session"] for each in asked_in_state("v123_weather").values()}
    (record,), _ = run(tmp_path, "commands", "--json", "--session", name)
    assert (record["output"], record["source"]) == ("Lisbon: 21C, sunny", "state")
    for nobody in ("nobody", "last"):
        assert "no session" in run(tmp_path, "commands", "--session", nobody, code=1)[1]
    assert run(tmp_path, "commands", "--json") == ([], "")


def test_titles_of_sessions(tmp_path: Path, journal: Callable[..., Reader], player: StatePlayer) -> None:
    events = state_events("v123_turns")
    player.play(events)
    titles = {each.row["id"]: each.row["title"] for each in events if each.table == "sessions"}
    journal(*recorded_requests("v123_turns"), *recorded_requests("weather"))
    found, _ = run(tmp_path, "sessions", "--json")
    assert any(titles.values())
    assert {each["session"]: each["title"] for each in found if each["title"]} == titles
    assert any(each["title"] is None for each in found)
    title = next(iter(titles.values()))
    assert title in run(tmp_path, "sessions")[0]
    assert title not in run(tmp_path, "sessions", HERMES_TRACE_WATCH_HERMES="false")[0]


@pytest.mark.parametrize("name", ["approval", "v123_approval", "v123_background", "timeout_background"])
def test_a_recordings_script_runs_nothing_that_was_denied_or_not_waited_for(
    name: str, journal: Callable[..., Reader]
) -> None:
    records = commands(journal(*recorded_requests(name)), None, None)
    script = output.shell_script(records)
    live = {line for line in script.splitlines() if line and not line.startswith("#")}
    left_out = [each for each in records if each["outcome"] in ("blocked", "background")]
    assert left_out
    assert len(live) == len({each["command"] for each in records if each not in left_out})
    for record in left_out:
        assert f"\n# {record['command']}\n" in script
    assert ("denied, exit -1" in script) is ("approval" in name)
