"""`transcript`: the same entries whoever tells of them, with their whole texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hermes_tui import narrative
from hermes_tui.cli import main
from hermes_tui.hermes.history import History
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.transcript import transcript
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.writer import Writer
from tests.state_player import StatePlayer, state_events, state_names
from tests.support import SECOND, body_of, caught_up, recorded_requests, store, truth, wait_for, wire_span

Record = dict[str, Any]
Open = Callable[..., Reader]

SILENT = {
    "shell_corners": {"Running a multi-line command.", "Three at once."},
    "v123_preview": {"Running a multi-line command.", "Three at once."},
}
"""What a model said beside its calls, of which spans without their content do not tell."""


@pytest.fixture
def journal(open_writer: Callable[..., Writer], open_reader: Callable[[], Reader]) -> Open:
    def journal(*bodies: bytes) -> Reader:
        store(open_writer(), *bodies)
        reader = open_reader()
        wait_for(lambda: caught_up(reader))
        return reader

    return journal


@pytest.fixture
def player(tmp_path: Path) -> Iterator[StatePlayer]:
    with ExitStack() as stack:
        player = StatePlayer(tmp_path / "home")
        stack.callback(player.close)
        yield player


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History([Home("default", tmp_path / "home")])


def sessions_of(name: str) -> list[str]:
    """The sessions in a recording that are nobody's subagents."""
    rows = [event.row for event in state_events(name) if event.table == "sessions"]
    return list(dict.fromkeys(row["id"] for row in rows if row["source"] != "subagent"))


def sessions_of_spans(name: str) -> str:
    (session,) = truth()[name]["sessions"]
    return str(session)


def told(records: list[Record]) -> list[tuple[Any, ...]]:
    """What the records tell, without what only one of the sources can know: white space runs are one in
    cut values, and a record does not say for how long something was allowed.
    """

    def text(record: Record) -> str:
        said = " ".join((record["text"] or "").split())[:400]
        return said.split()[0] if record["kind"] == "approval" else said

    return [(each["turn"], each["kind"], each["depth"], text(each)) for each in records]


def in_records(told: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What Hermes' records can tell of it: they know nothing of failures and of its own reviews."""
    reviews = {each[0] for each in told if each[3].startswith("Review the conversation above")}
    return [
        each
        for each in told
        if each[0] not in reviews and each[1] not in ("failure", "skill") and each[1:] != ("end", 0, "failed")
    ]


@pytest.mark.parametrize("name", state_names())
def test_all_sources_tell_the_same(name: str, journal: Open, player: StatePlayer, history: History) -> None:
    player.play(state_events(name))
    reader = journal(*recorded_requests(name))
    for session in sessions_of(name):
        both = told(list(transcript(reader, history, session)))
        assert {each[1] for each in both} >= {"prompt", "command"} or len(both) > 1
        if name != "subagents":  # of which no span of its subagents' commands was recorded
            spans = told(list(transcript(reader, None, session)))
            assert spans == [each for each in both if each[3] not in SILENT.get(name, ())]
        assert told(list(transcript(None, history, session))) == in_records(both)
    assert history.troubles == []


@pytest.mark.parametrize("name", state_names())
def test_texts_are_whole(name: str, journal: Open, player: StatePlayer, history: History) -> None:
    player.play(state_events(name))
    reader = journal(*recorded_requests(name))
    rows = [event.row for event in state_events(name) if event.table == "messages"]
    for session in sessions_of(name):
        records = list(transcript(reader, history, session))
        for kind, role in (("prompt", "user"), ("answer", "assistant")):
            said = [row["content"] for row in rows if row["session_id"] == session and row["role"] == role]
            found = [each["text"] for each in records if each["kind"] == kind and each["depth"] == 0]
            own = [each for each in found if not each.startswith("Review the conversation above")]
            assert own == [text for text in said if text and not text.startswith("Operation interrupted")]
        results = [json.loads(row["content"]) for row in rows if row["tool_name"] == "terminal"]
        outputs = {"", *(result["output"] for result in results)}
        for record in records:
            if record["kind"] == "command":
                assert (record["output"] or "") in outputs
                assert record["truncated"] is False


def test_a_subagent_stands_below_its_turn(journal: Open, player: StatePlayer, history: History) -> None:
    player.play(state_events("v123_subagent"))
    (session,) = sessions_of("v123_subagent")
    for reader in (journal(*recorded_requests("v123_subagent")), None):
        found = [(each["kind"], each["depth"]) for each in transcript(reader, history, session)]
        assert found == [("prompt", 0), ("tool", 0), ("subagent", 0), ("command", 1), ("answer", 0)]


def test_approvals_follow_what_was_asked_about(journal: Open) -> None:
    reader = journal(*recorded_requests("v123_approval"))
    records = list(transcript(reader, None, sessions_of("v123_approval")[0]))
    decided = [
        (before["text"][:5], each["text"], round(each["duration_s"], 1))
        for before, each in pairwise(records)
        if each["kind"] == "approval"
    ]
    assert decided == [("mkdir", "allowed once", 4.5), ("rm -r", "denied", 5.0)]


@pytest.mark.parametrize("spans", [True, False])
def test_a_tool_that_failed_says_why(
    spans: bool, journal: Open, player: StatePlayer, history: History
) -> None:
    player.play(state_events("shell_corners"))
    reader = journal(*recorded_requests("shell_corners")) if spans else None
    (session,) = sessions_of("shell_corners")
    records = list(transcript(reader, None if spans else history, session))
    failed = {each["text"]: each["error"] for each in records if each["kind"] == "tool" and each["error"]}
    assert failed == {"/nope/missing.txt": "File not found: /nope/missing.txt"}
    assert any("✗ File not found" in line for line in narrative.markdown(session, records))


def test_a_denied_command_says_so(journal: Open) -> None:
    reader = journal(*recorded_requests("approval"))
    records = list(transcript(reader, None, sessions_of_spans("approval")))
    (denied,) = [each for each in records if each["outcome"] == "blocked" and each["kind"] == "command"]
    assert denied["error"].startswith("BLOCKED: User denied this command.")


def test_a_prompt_and_an_answer_of_any_length(player: StatePlayer, history: History, journal: Open) -> None:
    long = "word " * 5_000
    row = {"session_id": "s", "timestamp": 1_790_000_000}
    player.put("messages", **row, role="user", content=f"{long}asked")
    player.put("messages", **row, role="assistant", content=f"{long}said", finish_reason="stop")
    texts = [each["text"] for each in transcript(None, history, "s")]
    assert texts == [f"{long}asked", f"{long}said"]
    asked = [{"role": "user", "content": f"{long}asked"}]
    said = [{"role": "assistant", "parts": [{"type": "text", "content": f"{long}said"}]}]
    body = body_of(
        wire_span(0, name="agent", session__id="t", gen_ai__input__messages=json.dumps(asked)),
        wire_span(1, parent=0, name="chat m", session__id="t", gen_ai__output__messages=json.dumps(said)),
    )
    assert [each["text"] for each in transcript(journal(body), None, "t")] == texts


HOSTILE = "\x1b]52;c;aGk=\x07\x1b[2J‮``` # not a heading\n# heading\n```\nopen"


@pytest.fixture
def hostile(state: StateDir, open_writer: Callable[..., Writer]) -> StateDir:
    arguments = json.dumps({"command": f"echo {HOSTILE}"})
    result = json.dumps({"output": HOSTILE, "exit_code": 3})
    change = json.dumps({"path": f"/tmp/`{HOSTILE}", "content": HOSTILE})
    begin = {"session__id": HOSTILE, "start_ns": 2_000 * SECOND, "end_ns": 2_001 * SECOND}
    agent = {**begin, "end_ns": 2_002 * SECOND}
    store(
        open_writer(),
        body_of(
            wire_span(0, name="agent", input__value=HOSTILE, output__value=HOSTILE, **agent),
            wire_span(
                1, parent=0, name="tool.terminal", input__value=arguments, output__value=result, **begin
            ),
            wire_span(2, parent=0, name="tool.write_file", input__value=change, **begin),
            wire_span(3, parent=0, name=f"tool.{HOSTILE}", input__value=change, **begin),
            wire_span(4, parent=0, name=f"skill.{HOSTILE}", **begin),
        ),
    )
    with Reader(state.journal) as reader:
        wait_for(lambda: caught_up(reader))
    return state


@pytest.mark.parametrize("form", ["md", "json", "text"])
def test_the_command_is_harmless(form: str, hostile: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_HOME", str(hostile.path / "nothing"))
    result = CliRunner().invoke(main, ["transcript", "--state-dir", str(hostile.path), "--format", form])
    assert result.exit_code == 0, result.output
    codes = set(map(ord, result.output)) - {10}
    assert not {code for code in codes if code < 32 or 127 <= code < 160}
    assert "\u202e" not in result.output
    if form == "json":
        records = json.loads(result.output)
        assert records[0]["kind"] == "prompt"
        assert {each["kind"] for each in records} >= {"answer", "command", "change", "tool", "skill"}
        assert records[0]["text"] == HOSTILE
    else:
        assert "␛]52" in result.output


def test_markdown_of_an_answer_stays_in_its_place(hostile: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_HOME", str(hostile.path / "nothing"))
    output = CliRunner().invoke(main, ["transcript", "--state-dir", str(hostile.path)]).output
    headings, fence = [], ""
    for line in output.split("\n"):
        ticks = line[: len(line) - len(line.lstrip("`"))]
        if len(ticks) >= 3 and (not fence or (line == ticks and len(ticks) >= len(fence))):
            fence = "" if fence else ticks
        elif line.startswith("#") and not fence:
            headings.append(line.split()[0])
    assert headings == ["#", "##", "###"]
    assert not fence


def test_a_session_that_is_not_there(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_HOME", str(state.path / "nothing"))
    for arguments in (["transcript"], ["transcript", "--session", "nobody"]):
        result = CliRunner().invoke(main, [*arguments, "--state-dir", str(state.path)])
        assert result.exit_code == 1
        assert "Error: there is no session" in result.output
