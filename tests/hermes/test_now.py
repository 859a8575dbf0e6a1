"""`now`: what runs at this moment, from Hermes' records, from the journal, from both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from hermes_tui.cli import main
from hermes_tui.commands.now import CELLS, line, text
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.now import Now, Present
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.model.doing import Doing, State
from hermes_tui.model.live_turns import LiveCall
from tests.processes import HEEDING, clean_environment
from tests.state_player import StatePlayer, moved, state_events
from tests.support import SECOND, body_of, caught_up, store, wait_for, wire_span

KEYS = ["session", "state", "tool", "command", "since", "elapsed_s"]
LS = json.dumps([{"id": "call_1", "function": {"name": "terminal", "arguments": '{"command": "sleep 9"}'}}])


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def player(tmp_path: Path, stack: ExitStack) -> StatePlayer:
    player = StatePlayer(tmp_path / "home")
    stack.callback(player.close)
    return player


def ask(player: StatePlayer, session: str = "s", *, first: int = 1, calls: str | None = LS) -> float:
    """A session that just asked for a tool; when."""
    at = time.time()
    row = {"session_id": session, "timestamp": at, "active": 1}
    player.put("sessions", id=session, title="Title", started_at=at)
    player.put("messages", **row, id=first, role="user", content="Go")
    if calls is not None:
        player.put("messages", **row, id=first + 1, role="assistant", content="", tool_calls=calls)
    return at


def run(tmp_path: Path, *arguments: str) -> Any:
    environment = {"HERMES_HOME": str(tmp_path / "home"), "HERMES_TRACE_STATE_DIR": str(tmp_path / "state")}
    done = CliRunner().invoke(main, ["now", *arguments], env=environment)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def test_a_tool_that_runs(tmp_path: Path, player: StatePlayer) -> None:
    at = ask(player)
    (found,) = run(tmp_path, "--json")
    assert list(found) == KEYS
    assert (found["session"], found["state"]) == ("s", "tool")
    assert (found["tool"], found["command"]) == ("terminal", "sleep 9")
    assert found["since"].startswith(time.strftime("%Y-%m-%dT", time.gmtime(at)))
    assert 0 <= found["elapsed_s"] < 600
    assert "$ sleep 9 " in run(tmp_path, "--format", "line")
    assert run(tmp_path).startswith("s  $ sleep 9 ")


def test_nothing_at_all(tmp_path: Path) -> None:
    assert run(tmp_path, "--json") == []
    assert run(tmp_path) == "Nothing runs.\n"
    assert run(tmp_path, "--format", "line") == "idle\n"


def test_only_the_home_that_is_named(tmp_path: Path, player: StatePlayer, stack: ExitStack) -> None:
    ask(player)
    other = StatePlayer(tmp_path / "other" / "profiles" / "work")
    stack.callback(other.close)
    ask(other, "t", calls=None)
    assert [found["session"] for found in run(tmp_path, "--json")] == ["s"]
    (found,) = run(tmp_path, "--json", "--home", str(tmp_path / "other"))
    assert (found["session"], found["state"], found["tool"]) == ("t", "model", None)


def test_hermes_records_can_be_left_alone(
    tmp_path: Path, player: StatePlayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(player)
    monkeypatch.setenv("HERMES_TRACE_WATCH_HERMES", "false")
    assert run(tmp_path, "--json") == []
    monkeypatch.delenv("HERMES_TRACE_WATCH_HERMES")
    monkeypatch.setenv("HERMES_TRACE_HERMES_HOMES", str(tmp_path / "home"))
    environment = {"HERMES_HOME": str(tmp_path / "none"), "HERMES_TRACE_STATE_DIR": str(tmp_path / "state")}
    done = CliRunner().invoke(main, ["now", "--json"], env=environment)
    assert [found["session"] for found in json.loads(done.stdout)] == ["s"]


def test_the_journal_alone(
    tmp_path: Path, state: StateDir, open_writer: Callable[..., Writer], open_reader: Callable[[], Any]
) -> None:
    now_ns = time.time_ns()
    names = {"session__id": "s", "openinference__span__kind": "TOOL", "gen_ai__tool__name": "terminal"}
    running = wire_span(
        1, parent=0, name="tool.terminal", start_ns=now_ns - 5 * SECOND, end_ns=0,
        **names, input__value='{"command": "make"}',
    )  # fmt: skip
    store(open_writer(), body_of(running), received_ns=now_ns)
    with open_reader() as reader:
        wait_for(lambda: caught_up(reader))
    (found,) = run(tmp_path, "--json")
    assert (found["session"], found["state"], found["command"]) == ("s", "tool", "make")
    assert found["elapsed_s"] >= 5


def test_both(
    tmp_path: Path, player: StatePlayer, open_writer: Callable[..., Writer], open_reader: Callable[[], Any]
) -> None:
    """The span of the same call does not make two sessions of one, nor two calls."""
    now_ns = time.time_ns()
    ask(player)
    span = wire_span(
        1, parent=0, name="api.m", start_ns=now_ns - SECOND, end_ns=now_ns, session__id="s",
        openinference__span__kind="LLM", gen_ai__operation__name="chat", llm__token_count__prompt=5,
    )  # fmt: skip
    store(open_writer(), body_of(span), received_ns=now_ns)
    with open_reader() as reader:
        wait_for(lambda: caught_up(reader))
    (found,) = run(tmp_path, "--json")
    assert (found["session"], found["state"], found["command"]) == ("s", "tool", "sleep 9")


def test_what_presses_comes_first(tmp_path: Path, player: StatePlayer) -> None:
    ask(player, "thinks", first=1, calls=None)
    ask(player, "works", first=11)
    question = [{"id": "c", "function": {"name": "clarify", "arguments": '{"question": "Which?"}'}}]
    ask(player, "asks", first=21, calls=json.dumps(question))
    found = run(tmp_path, "--json")
    assert [(each["session"], each["state"]) for each in found] == [
        ("asks", "approval"),
        ("works", "tool"),
        ("thinks", "model"),
    ]
    assert run(tmp_path, "--format", "line").startswith("waits for you: clarify Which? ")
    assert run(tmp_path, "--format", "line").endswith(" +2\n")


def test_old_sessions_are_left_out(tmp_path: Path, player: StatePlayer) -> None:
    player.play(state_events("v123_turns"))
    recorded = state_events("v123_turns")[-1].wall
    with ExitStack() as stack:
        present = Present(Watch(find=lambda: [Home("default", tmp_path / "home")]), None)
        stack.callback(present.close)
        present.poll(round(recorded * SECOND))
        (found,) = present.sessions(round((recorded + 60) * SECOND))
        assert (found.doing.state, found.title) == (State.IDLE, "Short title #14")
        assert present.sessions(round((recorded + 90_000) * SECOND)) == []


HOSTILE = [
    "\x1b]0;owned\x07" * 30,
    "rm #[fg=red]#(reboot) #{x}",
    "日本語" * 40,
    "e\u0301" * 200,
    "\u202eabc",
    "a\nb\r\nc",
]


@pytest.mark.parametrize("command", HOSTILE)
@pytest.mark.parametrize("state", State)
def test_a_line_is_short_and_harmless(state: State, command: str) -> None:
    call = LiveCall(("s", "a"), "a", "terminal", "{}", SECOND, command=command)
    does = Doing(state, SECOND, ((call, SECOND),), certain=False)
    for count in (1, 12):
        found = [Now("s", command, does)] * count
        said = line(found, 90_000 * SECOND)
        assert cell_len(said) <= CELLS
        assert said.isprintable()
        assert "#" not in said
        assert all(each.isprintable() for each in text(found, SECOND).split("\n"))


def test_following_prints_what_changes(tmp_path: Path, player: StatePlayer) -> None:
    ask(player, calls=None)
    command = [
        *HEEDING,
        "now",
        "--json",
        "--follow",
        "--home",
        str(tmp_path / "home"),
    ]
    environment = clean_environment(HERMES_TRACE_STATE_DIR=str(tmp_path / "state"))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            states = []
            for number in range(3):
                (found,) = json.loads(process.stdout.readline())
                states.append((found["state"], found["command"]))
                row = {"id": 10 + number, "session_id": "s", "timestamp": time.time(), "active": 1}
                if number == 0:
                    player.put("messages", **row, role="assistant", tool_calls=LS)
                elif number == 1:
                    player.put("messages", **row, role="tool", content="{}", tool_call_id="call_1")
        finally:
            process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert states == [("model", None), ("tool", "sleep 9"), ("model", None)]
    assert (rest, errors, process.returncode) == (b"", b"", 0)


def test_a_status_bar_gets_a_line_a_second_at_most(tmp_path: Path, player: StatePlayer) -> None:
    player.play(
        moved(state_events("v123_slow_tool")[:8], time.time() - state_events("v123_slow_tool")[0].wall)
    )
    command = [*HEEDING, "now", "--format", "line", "--follow"]
    environment = clean_environment(
        HERMES_TRACE_STATE_DIR=str(tmp_path / "state"), HERMES_HOME=str(tmp_path / "home")
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            began = time.monotonic()
            said = [process.stdout.readline() for _ in range(3)]
            lasted = time.monotonic() - began
        finally:
            os.kill(process.pid, signal.SIGINT)
    assert len(set(said)) == 3
    assert lasted >= 1.9  # the first at once, each other a second later
