"""Whole sessions out of `state.db`: of any version, in any home, whatever else happens to the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.hermes import history as history_module
from hermes_tui.hermes.history import History
from hermes_tui.hermes.home import Home
from hermes_tui.model.live import Live
from hermes_tui.model.live_turns import LiveCall
from tests.state_player import MESSAGES, SESSIONS, StatePlayer

CALL = [{"id": "a", "function": {"name": "terminal", "arguments": json.dumps({"command": "x" * 9_000})}}]
RESULT = json.dumps({"output": "y" * 9_000, "exit_code": 3})


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[..., StatePlayer]]:
    with ExitStack() as stack:

        def start(name: str = "home", **said: Any) -> StatePlayer:
            player = StatePlayer(tmp_path / name, **said)
            stack.callback(player.close)
            return player

        yield start


def history(tmp_path: Path, *names: str) -> History:
    return History([Home(name, tmp_path / name) for name in names or ("home",)])


def converse(player: StatePlayer, session: str = "s", **said: Any) -> None:
    """A prompt, a command and its result; `said` None leaves a column out."""
    rows: list[dict[str, Any]] = [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": "", "tool_calls": json.dumps(CALL)},
        {"role": "tool", "content": RESULT, "tool_call_id": "a", "tool_name": "terminal"},
    ]
    for number, row in enumerate(rows):
        row = {"session_id": session, "timestamp": 1_790_000_000 + number, **row, **said}
        player.put("messages", **{key: value for key, value in row.items() if value is not None})


def calls(history: History, *sessions: str) -> list[LiveCall]:
    history.find(sessions or ("s",))
    return [call for session in history.read() for turn in session.turns for call in turn.calls]


def test_a_command_is_whole(tmp_path: Path, write: Callable[..., StatePlayer]) -> None:
    converse(write())
    (call,) = calls(history(tmp_path))
    assert (call.arguments, call.result) == (CALL[0]["function"]["arguments"], RESULT)
    assert (call.exit_code, call.result_size) == (3, len(RESULT))


def test_what_is_no_command_is_shortened(tmp_path: Path, write: Callable[..., StatePlayer]) -> None:
    player = write()
    asked = [{"id": "a", "function": {"name": "read_file", "arguments": json.dumps({"path": "x" * 9_000})}}]
    row = {"session_id": "s", "timestamp": 1_790_000_000}
    player.put("messages", **row, role="user", content="Go")
    player.put("messages", **row, role="assistant", tool_calls=json.dumps(asked))
    player.put("messages", **row, role="tool", content=RESULT, tool_call_id="a", tool_name="read_file")
    (call,) = calls(history(tmp_path))
    assert len(call.arguments) < 5_000
    assert len(call.result or "") < 3_000
    assert call.result_size == len(RESULT)


def test_an_old_schema(tmp_path: Path, write: Callable[..., StatePlayer]) -> None:
    messages = MESSAGES.replace("tool_name TEXT, ", "")
    player = write(messages=messages, sessions="id TEXT PRIMARY KEY, system_prompt TEXT")
    converse(player, tool_name=None)
    read = history(tmp_path)
    assert read.find({"s"}, subagents=True) == {"s"}
    (call,) = calls(read)
    assert call.result == RESULT
    assert read.titles(["s"]) == {}
    converse(write("other", sessions=""))
    assert history(tmp_path, "other").find({"s"}, subagents=True) == {"s"}
    assert history(tmp_path, "other").titles(["s"]) == {}
    assert read.troubles == []


def test_no_home_at_all(tmp_path: Path) -> None:
    read = history(tmp_path, "none", "nowhere")
    assert read.find({"s"}) == set()
    assert (list(read.read()), read.titles(["s"]), read.troubles) == ([], {}, [])
    assert list(tmp_path.iterdir()) == []


def test_many_sessions_some_at_a_time(
    tmp_path: Path, write: Callable[..., StatePlayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "_MESSAGES", 7)  # two sessions at a time
    player = write()
    names = [f"s{number}" for number in range(5)]
    for name in names:
        converse(player, name)
    read = history(tmp_path)
    assert read.find({*names, "unknown"}) == set(names)
    portions: list[int] = []
    take = Live.take

    def took(live: Live, rows: Any) -> set[str]:
        portions.append(len(rows))
        return take(live, rows)

    monkeypatch.setattr(Live, "take", took)
    assert sorted(session.id for session in read.read()) == names
    assert portions == [6, 6, 3]


def test_a_database_that_is_locked(tmp_path: Path, write: Callable[..., StatePlayer]) -> None:
    player = write(journal_mode="delete")
    converse(player)
    converse(write("other"), "t")
    read = history(tmp_path, "home", "other")
    player.connection.execute("BEGIN EXCLUSIVE")
    assert read.find({"s", "t"}) == {"t"}  # the other home is read all the same
    assert read.troubles == [f"{tmp_path}/home/state.db is locked by another program"]
    player.connection.execute("COMMIT")
    assert read.find({"s", "t"}) == {"s", "t"}


def test_titles(tmp_path: Path, write: Callable[..., StatePlayer]) -> None:
    first, second = write("first", sessions=SESSIONS), write("second")
    first.put("sessions", id="a", title="One", started_at=1.0)
    first.put("sessions", id="b", started_at=1.0)
    second.put("sessions", id="a", title="Copy", started_at=1.0)
    second.put("sessions", id="c", title="Three", started_at=1.0)
    names = ["a", "b", "c", *map(str, range(1_200))]
    assert history(tmp_path, "first", "second").titles(names) == {"a": "One", "c": "Three"}
