"""What Hermes writes again, when it compacts a conversation or goes on in another session, is seen once.

The rows are those of `hermes_state.archive_and_compact` (0.19: all is archived, the copies have the time of
the compacting; 0.22: what is kept is taken back and its copies keep their times) and of `/branch`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hermes_tui.hermes.completed import commands
from hermes_tui.hermes.history import History
from hermes_tui.hermes.home import Home
from hermes_tui.hermes.registers import Openers
from hermes_tui.hermes.state_db import StateDB
from hermes_tui.model.live import Live
from hermes_tui.model.state_rows import Forgotten
from tests.state_player import MESSAGES, StatePlayer

START = 1_790_000_000.0
INDEX = "CREATE INDEX idx_messages_session ON messages (session_id, timestamp)"  # Hermes' own
PAYLOAD = ("role", "content", "tool_call_id", "tool_calls", "tool_name", "finish_reason")
Turns = list[tuple[str | None, list[str]]]


@dataclass
class Hermes:
    """Writes what Hermes would; `told` is what happened, by session: prompts, and the commands after each."""

    player: StatePlayer
    reuse: bool = False
    session: str = "s"
    now: float = START
    count: int = 0
    told: dict[str, Turns] = field(default_factory=dict)

    def begin(self) -> Hermes:
        self.player.put("sessions", id=self.session, source="cli", started_at=self.now, message_count=0)
        return self

    def ask(self, text: str) -> None:
        self._put(5, role="user", content=text)
        self.told.setdefault(self.session, []).append((text, []))

    def run(self, command: str) -> None:
        if self.session not in self.told:
            self.ask("In a branch")
        self.count += 1
        name = "call_1" if self.reuse else f"call_{self.count}"
        given = {"name": "terminal", "arguments": json.dumps({"command": command})}
        asked = json.dumps([{"id": name, "function": given}])
        self._put(2, role="assistant", content="", tool_calls=asked, finish_reason="tool_calls")
        result = json.dumps({"output": f"{self.count} " * 200, "exit_code": 0})
        self._put(3, role="tool", content=result, tool_call_id=name, tool_name="terminal")
        self.told[self.session][-1][1].append(command)

    def answer(self) -> None:
        if self.session not in self.told:
            self.ask("In a branch")
        self._put(1, role="assistant", content=f"Answer {self.now}", finish_reason="stop")

    def compact(self, head: int, tail: int, *, keep: bool = False) -> None:
        """`keep` as 0.22 does it, else as 0.19."""
        self.now += 4
        rows = self._rows()
        kept = rows[len(rows) - tail :]
        with self._transaction():
            self._execute("UPDATE messages SET active = 0, compacted = 1 WHERE session_id = ? AND active = 1")
            for row in kept if keep else ():
                self._execute("UPDATE messages SET compacted = 0 WHERE session_id = ? AND id = ?", row["id"])
            summary = {"role": "user", "content": "[CONTEXT COMPACTION — REFERENCE ONLY] We did.", "at": None}
            copied = [*rows[: min(head, len(rows) - tail)], summary, *kept]
            for number, row in enumerate(copied):
                at = row.get("timestamp") if keep else None
                copy = {name: row.get(name) for name in PAYLOAD}
                if row["role"] == "tool" and not keep:
                    copy["content"] = "[terminal] ran a command -> exit 0"
                self._insert(copy, at or self.now + number * 1e-6)
            self._counted(len(copied))

    def branch(self) -> None:
        """`/branch`: everything that counts is copied, row by row."""
        rows, before = self._rows(), self.session
        if len(rows) < 2:  # a lone prompt cannot be told from the same one asked at once
            return
        self.now += 3
        self.player.put("sessions", id=before, end_reason="branched", ended_at=self.now)
        self.session = f"{before}b"
        self.player.put(
            "sessions", id=self.session, source="cli", parent_session_id=before, started_at=self.now,
            message_count=0,
        )  # fmt: skip
        for row in rows:
            self._put(0.01, **{name: row[name] for name in PAYLOAD[:-1]})

    def _rows(self) -> list[dict[str, Any]]:
        columns = ("id", "timestamp", *PAYLOAD)
        statement = (
            f"SELECT {', '.join(columns)} FROM messages WHERE session_id = ? AND active = 1 ORDER BY id"
        )
        rows = self.player.connection.execute(statement, (self.session,)).fetchall()
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _put(self, later: float, **row: Any) -> None:
        self.now += later
        with self._transaction():
            self._insert(row, self.now)
            self._counted(len(self._rows()))

    def _insert(self, row: dict[str, Any], at: float) -> None:
        self.player.put("messages", **row, session_id=self.session, timestamp=at, active=1)

    def _counted(self, count: int) -> None:
        self.player.put("sessions", id=self.session, message_count=count)

    def _execute(self, statement: str, *more: Any) -> None:
        self.player.connection.execute(statement, (self.session, *more))

    def _transaction(self) -> ExitStack:
        stack = ExitStack()
        self.player.connection.execute("BEGIN")
        stack.callback(self.player.connection.execute, "COMMIT")
        return stack


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def hermes(tmp_path: Path, stack: ExitStack) -> Hermes:
    return Hermes(open_player(tmp_path, stack)).begin()


@pytest.fixture
def reader(tmp_path: Path, stack: ExitStack) -> Callable[..., StateDB]:
    def open_reader(**said: Any) -> StateDB:
        return open_database(tmp_path, stack, **said)

    return open_reader


def open_player(folder: Path, stack: ExitStack) -> StatePlayer:
    player = StatePlayer(folder / "home", messages=f"{MESSAGES}, compacted INTEGER NOT NULL DEFAULT 0")
    stack.callback(player.close)
    return player


def open_database(folder: Path, stack: ExitStack, **said: Any) -> StateDB:
    database = StateDB(Home("default", folder / "home"), openers=Openers(lambda _: 1), clock=Clock(), **said)
    stack.callback(database.close)
    return database


class Clock:
    """So that every look looks."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def seen(live: Live) -> dict[str, Turns]:
    found = {}
    for name in live.sessions():
        part = live.session(name)
        assert part is not None
        found[name] = [(turn.prompt, [call.command or "" for call in turn.calls]) for turn in part.turns]
    return {name: turns for name, turns in found.items() if turns}


def turns_of(live: Live) -> dict[str, Any]:
    parts = {name: live.session(name) for name in live.sessions()}
    return {name: [replace(turn, version=0) for turn in part.turns] for name, part in parts.items() if part}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["Go", "go on"])),
        st.tuples(st.just("run"), st.sampled_from(["ls", "make"])),
        st.tuples(st.just("answer")),
        st.tuples(st.just("compact"), st.integers(0, 3), st.integers(1, 5), st.booleans()),
        st.tuples(st.just("branch")),
        st.tuples(st.just("look")),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, reuse=st.booleans())
def test_everybody_sees_what_happened(steps: list[tuple[Any, ...]], reuse: bool) -> None:
    """Who looked at every moment, at some, or only in the end; and whatever is printed afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hermes = Hermes(open_player(folder, stack), reuse).begin()
        always, sometimes, late = (open_database(folder, stack) for _ in range(3))
        lives = {id(each): Live() for each in (always, sometimes, late)}
        hermes.ask("Begin")
        for step, *said in steps:
            if step == "look":
                lives[id(sometimes)].take(sometimes.poll())
            elif step == "compact":
                hermes.compact(*said[:2], keep=said[2])
            else:
                getattr(hermes, step)(*said)
            lives[id(always)].take(always.poll())
        for each in (always, sometimes, late):
            lives[id(each)].take(each.poll())
            assert seen(lives[id(each)]) == hermes.told
        assert turns_of(lives[id(always)]) == turns_of(lives[id(sometimes)]) == turns_of(lives[id(late)])
        history = History([Home("default", folder / "home")])
        for session, turns in hermes.told.items():
            printed = [record["command"] for record in commands(None, history, session)]
            assert printed == [command for _, ran in turns for command in ran]


def test_nothing_is_forgotten_by_compacting(hermes: Hermes, reader: Callable[..., StateDB]) -> None:
    """What is known from looking on, as each model call's tokens, stays known."""
    database, live = reader(), Live()
    hermes.ask("Go")
    for number in (1, 2):
        hermes.run("ls")
        hermes.player.put("sessions", id="s", api_call_count=number, input_tokens=100 * number)
        live.take(database.poll())
    part = live.session("s")
    assert part is not None
    before = [part.spent(step) for step in part.turns[-1].steps]
    assert all(before)
    hermes.compact(0, 2)
    rows = database.poll()
    assert not [row for row in rows if isinstance(row, Forgotten)]
    live.take(rows)
    assert [part.spent(step) for step in part.turns[-1].steps] == before


def test_where_the_newest_messages_begin_among_copies(hermes: Hermes, reader: Callable[..., StateDB]) -> None:
    """What stands before them says what is a copy, and what the turn's prompt is."""
    hermes.ask("First")
    hermes.answer()
    hermes.ask("Second")
    for _ in range(3):
        hermes.run("ls")
    hermes.compact(2, 3)
    live = Live()
    live.take(reader(window=9).poll())
    assert seen(live) == hermes.told


def test_a_conversation_that_was_written_anew(hermes: Hermes, reader: Callable[..., StateDB]) -> None:
    """`/retry` after a compaction: what counted is deleted, what was archived stays."""
    database, live = reader(), Live()
    hermes.ask("First")
    hermes.answer()
    hermes.compact(0, 1)
    live.take(database.poll())
    hermes.ask("Second")
    live.take(database.poll())
    hermes.player.connection.execute("DELETE FROM messages WHERE active = 1")
    hermes.ask("Third")
    live.take(database.poll())
    assert [prompt for prompt, _ in seen(live)["s"]] == ["First", "Third"]


# ---- whole texts


def test_a_result_is_the_calls_own(hermes: Hermes, reader: Callable[..., StateDB]) -> None:
    """Of an id that was used again, and of a result that compacting shortened."""
    hermes.reuse = True
    hermes.ask("Go")
    for command in ("first", "second"):
        hermes.run(command)
    hermes.compact(0, 4)
    hermes.ask("Go")
    hermes.run("third")
    database, live = reader(), Live()
    live.take(database.poll())
    part = live.session("s")
    assert part is not None
    calls = [call for turn in part.turns for call in turn.calls]
    assert [call.id for call in calls] == ["call_1"] * 3
    results = [database.result("s", call.id, call.asked_ns) for call in calls]
    assert [json.loads(each or "")["output"] for each in results] == [f"{n} " * 200 for n in (1, 2, 3)]
    given = [database.arguments("s", call.id, call.asked_ns) for call in calls]
    assert [json.loads(each or "")["command"] for each in given] == ["first", "second", "third"]
    assert database.result("s", "call_1") == results[0]
    assert database.result("s", "call_1", calls[1].asked_ns + 700_000_000) == results[1]  # by a span's time


def test_reading_a_session_whole_takes_as_long_as_it_is(
    hermes: Hermes, reader: Callable[..., StateDB]
) -> None:
    """Counted in steps of SQLite's own machine."""
    hermes.player.connection.execute(INDEX)
    counts = []
    database = reader()
    for session, size in (("few", 400), ("many", 3_200)):
        with closing(hermes.player.connection.cursor()) as cursor:
            cursor.execute("BEGIN")
            cursor.executemany(
                "INSERT INTO messages (session_id, role, content, timestamp) VALUES (?, 'user', 'x', ?)",
                [(session, START + number) for number in range(size)],
            )
            cursor.execute("COMMIT")
        counts.append(steps_of_reading(database, session))
    few, many = counts
    assert many < 16 * few


def steps_of_reading(database: StateDB, session: str) -> int:
    database.poll()
    done = [0]

    def count() -> int:
        done[0] += 1
        return 0

    once = database._file.once

    def counted(read: Any) -> Any:
        def work(connection: Any) -> Any:
            connection.set_progress_handler(count, 100)
            try:
                return read(connection)
            finally:
                connection.set_progress_handler(None, 0)

        return once(work)

    database._file.once = counted  # type: ignore[method-assign,assignment]
    database.pin(session)
    database.poll()
    database._file.once = once  # type: ignore[method-assign]
    return done[0]
