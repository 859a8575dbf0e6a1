"""The steward: every wish on the desk is answered once, whatever else goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hermes_tui.journal.desk import WISH_AGE_NS, Desk
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.relay import resend as resend_module
from hermes_tui.relay import steward as steward_module
from hermes_tui.relay.resend import Progress, Resender
from hermes_tui.relay.steward import Steward
from tests.processes import until

Sql = Callable[..., list[Any]]


class Works:
    """Stands in for verifier and keeper: notes what it is asked for and answers from a table."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.steps = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0

    async def verify(self, session: str | None, progress: Progress) -> Mapping[str, Any]:
        for step in range(self.steps):
            await progress(step, self.steps)
        return await self._answer("verify", session)

    async def purge(
        self, *, session: str | None = None, before_ns: int | None = None, erase: bool = True
    ) -> Mapping[str, Any]:
        return await self._answer("purge", session or before_ns)

    async def _answer(self, kind: str, argument: Any) -> Mapping[str, Any]:
        self.asked.append((kind, argument))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer = self.answers.get(kind, {"spans": 0})
        if isinstance(answer, BaseException):
            raise answer
        return dict(answer)


class Stage:
    """A steward over a real journal and a real desk."""

    def __init__(self, state: StateDir, writer: Writer, destination: str | None) -> None:
        self.works = Works()
        self.writer = writer
        self.tried = 0
        self.trouble = ""
        resender = Resender(state.journal, writer, self)
        self.steward = Steward(
            state,
            writer,
            destination=destination,
            resender=resender,
            verifier=self.works,
            keeper=self.works,
        )
        self.task: asyncio.Task[None] | None = None

    def try_again(self) -> None:
        self.tried += 1

    def start(self) -> None:
        self.task = asyncio.create_task(self.steward.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task


@pytest.fixture
async def stage(
    state: StateDir, open_writer: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Stage]]:
    """Make stewards, which look often; stopped at the end."""
    monkeypatch.setattr(steward_module, "_LOOK_S", 0.005)
    monkeypatch.setattr(steward_module, "_TROUBLE_S", 0.02)
    monkeypatch.setattr(resend_module, "_PATIENCE_S", 0.0)
    writer = open_writer()
    async with AsyncExitStack() as stack:

        def made(destination: str | None = "http://there") -> Stage:
            found = Stage(state, writer, destination)
            stack.push_async_callback(found.stop)
            return found

        yield made


@pytest.fixture
def desk(state: StateDir) -> Any:
    with Desk(state) as desk:
        yield desk


@pytest.fixture
def answer(sql: Sql) -> Callable[[str], tuple[str, dict[str, Any]] | None]:
    def found(wish: str) -> tuple[str, dict[str, Any]] | None:
        rows = sql("SELECT state, document FROM answers WHERE wish = ?", wish)
        return (rows[0][0], json.loads(rows[0][1])) if rows else None

    return found


@pytest.fixture
def settled(answer: Callable[..., Any]) -> Callable[[str], bool]:
    return lambda wish: (answer(wish) or ("",))[0] in ("done", "failed")


async def test_wishes_are_fulfilled_once_and_in_order(
    stage: Callable[..., Stage], desk: Desk, answer: Callable[..., Any], settled: Callable[[str], bool]
) -> None:
    run = stage()
    run.works.answers = {"verify": {"spans": 3}, "purge": {"requests": 1}}
    wishes = [
        desk.wish("verify", {"session": None}),
        desk.wish("verify", {"session": "a"}),
        desk.wish("purge", {"session": "b"}),
        desk.wish("purge", {"before_ns": 7}),
        desk.wish("retry", {"session": None, "local": False}),
    ]
    run.start()
    await until(lambda: all(settled(wish) for wish in wishes))
    asked = [("verify", None), ("verify", "a"), ("purge", "b"), ("purge", 7)]
    assert run.works.asked == asked
    assert run.tried == 1
    assert answer(wishes[1]) == ("done", {"spans": 3})
    assert answer(wishes[2]) == ("done", {"requests": 1})
    nothing = {"sent_again": 0, "accepted": 0, "held": 0, "quarantined": 0, "queued": 0, "reasons": []}
    assert answer(wishes[4]) == ("done", nothing)
    last = desk.wish("verify", {"session": "late"})
    await until(lambda: settled(last))
    assert run.works.asked == [*asked, ("verify", "late")]  # what lies there answered is not done again
    assert run.tried == 1


@pytest.mark.parametrize(
    ("kind", "argument", "says"),
    [
        ("retry", {}, "no destination"),
        ("purge", {}, "a session or a time"),
        ("purge", {"session": "s", "before_ns": 1}, "a session or a time"),
        ("purge", {"before_ns": "1"}, "a session or a time"),
        ("verify", {"session": 1}, "session is no text"),
        ("fold", {}, "does not know the wish 'fold'"),
    ],
)
async def test_what_cannot_be_is_said(
    stage: Callable[..., Stage],
    desk: Desk,
    answer: Callable[..., Any],
    settled: Callable[[str], bool],
    kind: str,
    argument: dict[str, Any],
    says: str,
) -> None:
    run = stage(None)
    run.start()
    wish = desk.wish(kind, argument)
    await until(lambda: settled(wish))
    state, document = answer(wish)
    assert state == "failed"
    assert says in document["error"]
    assert run.works.asked == []


async def test_a_failure_is_answered_and_the_next_wish_is_fulfilled(
    stage: Callable[..., Stage],
    desk: Desk,
    answer: Callable[..., Any],
    settled: Callable[[str], bool],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = stage()
    run.works.answers = {"verify": OSError("no such luck"), "purge": KeyError()}
    run.start()
    first, second = desk.wish("verify", {}), desk.wish("purge", {"session": "s"})
    await until(lambda: settled(second))
    assert answer(first) == ("failed", {"error": "the relay could not do it: no such luck"})
    assert answer(second) == ("failed", {"error": "the relay could not do it: KeyError"})
    assert "no such luck" in caplog.text
    run.works.answers = {}
    third = desk.wish("verify", {})
    await until(lambda: settled(third))
    assert answer(third) == ("done", {"spans": 0})


async def test_progress_is_seen_and_a_wish_that_waits_too(
    stage: Callable[..., Stage],
    desk: Desk,
    answer: Callable[..., Any],
    settled: Callable[[str], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steward_module, "_PROGRESS_S", 0.0)
    run = stage()
    run.works.steps = 3
    run.works.gate.clear()
    run.start()
    first, second = desk.wish("verify", {}), desk.wish("verify", {})
    await until(lambda: answer(first) == ("working", {"done": 2, "of": 3}))
    await until(lambda: answer(second) == ("working", {}))
    run.works.gate.set()
    await until(lambda: settled(second))
    assert answer(first) == ("done", {"spans": 0})


async def test_what_a_stopped_relay_left_is_begun_again(
    stage: Callable[..., Stage], desk: Desk, answer: Callable[..., Any], settled: Callable[[str], bool]
) -> None:
    run = stage()
    run.works.gate.clear()
    run.start()
    wish = desk.wish("verify", {"session": "x"})
    await until(lambda: run.works.asked)
    await run.stop()
    assert run.works.cancelled == 1
    assert answer(wish) == ("working", {})
    run = stage()
    run.start()
    await until(lambda: settled(wish))
    assert run.works.asked == [("verify", "x")]
    done = desk.wish("verify", {"session": "y"})
    await until(lambda: settled(done))
    await run.stop()
    run = stage()  # and a third does nothing of it again
    run.start()
    last = desk.wish("verify", {"session": "z"})
    await until(lambda: settled(last))
    assert run.works.asked == [("verify", "z")]


async def test_a_wish_that_is_taken_back_stops(
    stage: Callable[..., Stage], desk: Desk, settled: Callable[[str], bool]
) -> None:
    run = stage()
    run.works.gate.clear()
    run.start()
    first, waiting = desk.wish("verify", {"session": "1"}), desk.wish("verify", {"session": "2"})
    last = desk.wish("verify", {"session": "3"})
    await until(lambda: run.works.asked)
    desk.withdraw(waiting)
    desk.withdraw(first)
    await until(lambda: run.works.cancelled)
    run.works.gate.set()
    await until(lambda: settled(last))
    assert run.works.asked == [("verify", "1"), ("verify", "3")]
    assert not settled(first)


async def test_a_desk_that_vanishes_leaves_the_current_wish_alone(
    stage: Callable[..., Stage], desk: Desk, state: StateDir, settled: Callable[[str], bool]
) -> None:
    run = stage()
    run.works.gate.clear()
    run.start()
    wish = desk.wish("verify", {})
    await until(lambda: run.works.asked)
    state.desk.unlink()
    await asyncio.sleep(0.05)  # it looks ten times meanwhile
    run.works.gate.set()
    await until(lambda: settled(wish))
    with Desk(state) as other:
        again = other.wish("verify", {"session": "new"})
        await until(lambda: settled(again))


async def test_a_damaged_desk_is_said_once_and_mended_goes_on(
    stage: Callable[..., Stage],
    state: StateDir,
    settled: Callable[[str], bool],
    caplog: pytest.LogCaptureFixture,
) -> None:
    state.create()
    state.desk.write_bytes(b"noise" * 1000)
    run = stage()
    run.start()

    def said() -> list[logging.LogRecord]:
        return [record for record in caplog.records if "cannot read the desk" in record.message]

    await until(said)
    await asyncio.sleep(0.05)  # it looks ten times meanwhile
    assert len(said()) == 1
    state.desk.unlink()
    with Desk(state) as desk:
        wish = desk.wish("verify", {})
        await until(lambda: settled(wish))
    assert len(said()) == 1


async def test_an_answer_waits_for_a_journal_that_cannot_take_it(
    stage: Callable[..., Stage],
    desk: Desk,
    sql: Sql,
    answer: Callable[..., Any],
    settled: Callable[[str], bool],
) -> None:
    run = stage()
    run.works.gate.clear()
    run.start()
    wish = desk.wish("verify", {})
    await until(lambda: run.works.asked)
    sql("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT raise(ABORT, 'disk full'); END")
    later = desk.wish("purge", {"session": "x"})
    run.works.gate.set()
    await asyncio.sleep(0.1)
    assert answer(wish) == ("working", {})
    sql("DROP TRIGGER full")
    await until(lambda: settled(wish) and settled(later))
    assert run.works.asked == [("verify", None), ("purge", "x")]


async def test_what_is_to_be_forgotten_is_so_before_anything_is_sent(
    stage: Callable[..., Stage], desk: Desk, answer: Callable[..., Any], settled: Callable[[str], bool]
) -> None:
    run = stage()
    other, wish = desk.wish("verify", {}), desk.wish("purge", {"session": "secret"})
    await run.steward.forget_first()
    assert run.works.asked == [("purge", "secret")]
    assert settled(wish)
    assert not settled(other)
    run.start()
    await until(lambda: settled(other))
    assert run.works.asked == [("purge", "secret"), ("verify", None)]


async def test_a_start_waits_for_a_purge_only_so_long(
    stage: Callable[..., Stage],
    desk: Desk,
    settled: Callable[[str], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steward_module, "_FIRST_S", 0.05)
    run = stage()
    run.works.gate.clear()
    wishes = [desk.wish("purge", {"session": name}) for name in "ab"]
    await run.steward.forget_first()
    assert run.works.asked == [("purge", "a")]
    run.start()
    run.works.gate.set()
    await until(lambda: all(settled(wish) for wish in wishes))
    assert run.works.asked == [("purge", "a"), ("purge", "b")]


async def test_old_answers_and_old_wishes_go(
    stage: Callable[..., Stage], desk: Desk, state: StateDir, sql: Sql, settled: Callable[[str], bool]
) -> None:
    old = time.time_ns() - WISH_AGE_NS - 1
    kept = desk.wish("verify", {"session": "answered long ago"})
    stale = desk.wish("purge", {"session": "nobody waits"})
    with contextlib.closing(sqlite3.connect(state.desk)) as connection, connection:
        connection.execute("UPDATE wishes SET made_ns = ? WHERE id = ?", (old, stale))
    run = stage()
    for name, at in ((kept, old), ("gone", old), ("young", time.time_ns())):
        sql("INSERT INTO answers (wish, at_ns, state, document) VALUES (?, ?, 'done', '{}')", name, at)
    run.start()
    await until(lambda: not settled("gone"))
    assert settled(kept)  # its wish still lies there: it would be done again
    assert settled("young")
    assert run.works.asked == []
