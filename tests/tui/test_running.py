"""What Hermes does at this moment, in a pane that watches a database which grows beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.settings import Attention
from hermes_tui.tui.rows import Row
from hermes_tui.tui.screens.sessions import SessionsScreen
from tests.hermes_process import HermesProcess, hermes_process
from tests.joint import Event, brought_to, joint_events
from tests.state_player import StateEvent
from tests.support import envelope
from tests.tui import hostile
from tests.tui.hostile import check
from tests.tui.stage import NARROW, WIDE, Stage, pane, rows_of

SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])


@pytest.fixture(scope="module")
def process() -> Iterator[HermesProcess]:
    with hermes_process() as started:
        yield started


class Hermes:
    """Commits rows to a home's database, at this moment, and stores spans in the journal."""

    def __init__(self, process: HermesProcess, home: Path, writer: Writer) -> None:
        self.home = home
        self._process = process
        self._writer = writer
        self._number = 0
        process.begin(home)

    def watch(self) -> Watch:
        return Watch(find=lambda: [Home("default", self.home)])

    def does(self, *events: Event) -> None:
        for event in events:
            if isinstance(event, StateEvent):
                self._process.commit(event)
            else:
                self._writer.append(envelope(event.body)).result(30)

    def session(self, session: str, **said: Any) -> None:
        now = time.time()
        row = {"id": session, "source": "cli", "started_at": now, **said}
        self._process.commit(StateEvent(0.0, now, "sessions", row))

    def message(self, session: str, role: str, content: str | None = None, **said: Any) -> None:
        now, self._number = time.time(), self._number + 1
        row = {"id": self._number, "session_id": session, "role": role, "content": content, "timestamp": now}
        self._process.commit(StateEvent(0.0, now, "messages", row | said))

    def calls(self, session: str, **commands: str) -> None:
        """The model asks for commands, by the ids of the calls."""
        asked = [
            {"id": name, "function": {"name": "terminal", "arguments": json.dumps({"command": command})}}
            for name, command in commands.items()
        ]
        self.message(session, "assistant", tool_calls=json.dumps(asked), finish_reason="tool_calls")

    def result(self, session: str, call: str, output: str = "", code: int = 0) -> None:
        content = json.dumps({"output": output, "exit_code": code, "error": None})
        self.message(session, "tool", content, tool_call_id=call, tool_name="terminal")


@pytest.fixture
def hermes(process: HermesProcess, tmp_path: Path, open_writer: Callable[..., Writer]) -> Iterator[Hermes]:
    yield Hermes(process, tmp_path / "home", open_writer())
    process.end()


def row(stage: Stage, text: str) -> Row:
    """The one row with this text."""
    [found] = [each for each in rows_of(stage.app.shown.tree) if each.text.startswith(text)]
    return found


def texts(stage: Stage) -> list[str]:
    return [each.text for each in rows_of(stage.app.shown.tree)]


def slow_tool() -> list[Event]:
    """A prompt, a quick command, a slow one; its spans come last."""
    return brought_to(joint_events("slow_tool"), time.time() - 1)


# ---- one turn, step by step


@SIZES
async def test_a_turn_is_shown_as_it_goes(state: StateDir, hermes: Hermes, size: tuple[int, int]) -> None:
    async with pane(state, size, watch=hermes.watch()) as stage:
        await stage.shows("watching default")
        hermes.session("s", title="A walk", model="gpt-x", cwd="/srv/walk", profile_name="work")
        hermes.message("s", "user", "Look around")
        await stage.shows("A walk", "● running", "1 Look around", "waiting for the model", "no spans yet")
        assert row(stage, "waiting").since_ns
        hermes.calls("s", one="sleep 9", two="ls")
        await stage.shows("$ sleep 9", "$ ls")
        assert "waiting for the model" not in stage.text
        assert row(stage, "sleep 9").since_ns
        hermes.session("s", api_call_count=1, input_tokens=1_000, cache_read_tokens=500, output_tokens=50)
        await stage.until(lambda: row(stage, "gpt-x → 2 tools").value == "1.6k")
        await stage.shows("↑ 1.5k", "↓ 50", "cache 500")
        hermes.result("s", "one", "", 3)
        await stage.until(lambda: row(stage, "sleep 9").value == "✗ 3")
        hermes.result("s", "two", "file\n")
        await stage.until(lambda: row(stage, "ls").value == "✓")
        await stage.shows("waiting for the model")
        hermes.message("s", "assistant", "There is a file.", finish_reason="stop")
        await stage.gone("waiting for the model")
        await stage.shows("✓ completed")
        assert not any(each.since_ns for each in rows_of(stage.app.shown.tree))


async def test_the_turns_page_tells_what_hermes_noted(state: StateDir, hermes: Hermes) -> None:
    async with pane(state, (60, 40), watch=hermes.watch()) as stage:
        hermes.session("s", title="A walk", cwd="/srv/walk", profile_name="work", input_tokens=1_234)
        hermes.message("s", "user", "Look around\nand tell")
        await stage.shows("waiting for the model")
        await stage.press("enter")
        await stage.shows(
            "Turn, running", "and tell", "not yet", "A walk", "/srv/walk", "work", "1,234 in, 0 out"
        )
        hermes.message("s", "assistant", "Nothing.", finish_reason="stop")
        await stage.shows("Turn, completed")  # what is read stays, and is brought up to date
        await stage.press("escape")
        assert stage.cursor_row.text.endswith("answer")  # and then the newest is followed again


async def test_the_span_takes_its_rows_place(state: StateDir, hermes: Hermes) -> None:
    """Cursor and number of rows stay; what the row is called inside changes, what it shows does not."""
    events = slow_tool()
    async with pane(state, watch=hermes.watch()) as stage:
        upto = next(n for n, e in enumerate(events) if not isinstance(e, StateEvent))
        hermes.does(*events[:upto])
        await stage.shows("echo slow-one", "sleep 12")
        await stage.go_to("echo slow-one")
        before, noted = texts(stage), stage.cursor
        line = stage.cursor_line
        hermes.does(events[upto])
        await stage.until(lambda: stage.cursor != noted)
        assert stage.cursor_row.text.startswith("echo slow-one")
        assert stage.cursor_line == line
        assert len(texts(stage)) == len(before)
        hermes.does(*events[upto + 1 :])
        await stage.until(lambda: not any(each.since_ns for each in rows_of(stage.app.shown.tree)))
        await stage.shows("✓ completed 13s", "→ answer")
        assert stage.cursor_row.text.startswith("echo slow-one")
        assert all(each.value != "no span" for each in rows_of(stage.app.shown.tree))


async def test_a_fold_stays_when_the_spans_come(state: StateDir, hermes: Hermes) -> None:
    events = slow_tool()
    async with pane(state, watch=hermes.watch()) as stage:
        hermes.does(*(event for event in events if isinstance(event, StateEvent)))
        await stage.shows("echo slow-one")
        await stage.press("home", "left")
        await stage.gone("echo slow-one")
        hermes.does(*(event for event in events if not isinstance(event, StateEvent)))
        await stage.until(lambda: stage.app.shown.totals.spans >= 7)
        assert len(rows_of(stage.app.shown.tree)) == 1


async def test_a_command_whose_span_never_comes_says_so(state: StateDir, hermes: Hermes) -> None:
    """The spans of the turn's end came, so this one's was lost."""
    events = slow_tool()
    spans = [event for event in events if not isinstance(event, StateEvent)]
    lost = spans[1]  # the slow command's own
    async with pane(state, watch=hermes.watch()) as stage:
        hermes.does(*(event for event in events if event is not lost))
        await stage.shows("echo start", "no span")
        assert row(stage, "echo start").note == "no span"
        assert row(stage, "echo start").value == "✓"
        await stage.go_to("echo start")
        await stage.press("enter")
        await stage.shows("start", "end", "Hermes' own records", "Its span did not come")


# ---- what waits for the user, what others do


async def test_an_approval_stands_out(state: StateDir, hermes: Hermes) -> None:
    async with pane(state, watch=hermes.watch()) as stage:
        hermes.session("s")
        hermes.message("s", "user", "Clean up")
        hermes.calls("s", one="rm -rf /srv/build")
        await stage.shows("waits for you", "rm -rf /srv/build")
        assert row(stage, "rm -rf").style == "asking"
        hermes.result("s", "one")
        await stage.gone("waits for you")


async def test_a_subagents_calls_hang_below_it(state: StateDir, hermes: Hermes) -> None:
    async with pane(state, watch=hermes.watch()) as stage:
        hermes.session("s")
        hermes.message("s", "user", "Delegate")
        asked = {"id": "d", "function": {"name": "delegate_task", "arguments": json.dumps({"goal": "dig"})}}
        hermes.message("s", "assistant", tool_calls=json.dumps([asked]), finish_reason="tool_calls")
        await stage.shows("delegate_task")
        hermes.session("child", parent_session_id="s", source="subagent")
        hermes.message("child", "user", "dig deep")
        hermes.calls("child", c="dig --deep")
        await stage.shows("◈ dig deep", "$ dig --deep")
        assert row(stage, "dig --deep").depth == row(stage, "dig deep").depth + 1
        assert row(stage, "dig --deep").since_ns


async def test_another_session_shows_in_the_list_before_any_span(state: StateDir, hermes: Hermes) -> None:
    async with pane(state, watch=hermes.watch()) as stage:
        hermes.session("s", title="First walk")
        hermes.message("s", "user", "One")
        await stage.shows("First walk")
        hermes.session("t", title="Second walk")
        hermes.message("t", "user", "Two")
        await stage.until(lambda: stage.app.live.session("t") is not None)
        await stage.press("s")
        await stage.until(lambda: isinstance(stage.app.screen, SessionsScreen))
        await stage.shows("Second walk", "First walk")


@SIZES
async def test_a_mark_stays_when_the_span_takes_the_rows_place(
    state: StateDir, hermes: Hermes, size: tuple[int, int]
) -> None:
    events = slow_tool()
    records = [event for event in events if isinstance(event, StateEvent)]
    spans = [event for event in events if not isinstance(event, StateEvent)]
    async with pane(state, size, watch=hermes.watch()) as stage:
        hermes.does(*records)
        await stage.until(lambda: stage.app.shown.commands.total == 2)
        await stage.press("2", "g", "m")
        before = stage.cursor_row
        assert (before.key[2], before.mark) == ("call", "✓")
        hermes.does(*spans)
        await stage.until(lambda: stage.cursor_row.key[2] == "span")
        assert (stage.cursor_row.text, stage.cursor_row.mark) == (before.text, "✓")
        await stage.press("F", "F", "F", "F")
        assert [each.text for each in rows_of(stage.app.shown.tree) if each.mark] == []
        assert len(stage.app.shown.commands) == 1
        await stage.press("a")
        listing = stage.app.board.listing
        await stage.until(lambda: listing.every is not None and listing.every.complete)
        assert (listing.every.listed, listing.every.total) == (1, 2)
    async with pane(state, size) as stage:  # what only spans tell of has other names
        await stage.until(lambda: stage.app.shown.commands.total == 2)
        await stage.press("2")
        await stage.until(lambda: [each.mark for each in listed_rows(stage)] == ["✓", ""])


def listed_rows(stage: Stage) -> list[Row]:
    source = stage.app.shown.commands
    return [source.row(number) for number in range(len(source))]


# ---- honesty


async def test_what_was_left_long_ago_does_not_run(state: StateDir, hermes: Hermes) -> None:
    old = brought_to(joint_events("slow_tool"), time.time() - 3 * 3600)
    rows = [event for event in old if isinstance(event, StateEvent)]
    async with pane(state, watch=hermes.watch()) as stage:
        hermes.does(*rows[:8])  # up to the slow command's call
        await stage.until(lambda: stage.app.live.sessions())
        await stage.press("s")
        await stage.shows("20261123_023010_9fa5c0")
        await stage.press("enter")
        await stage.shows("echo start", "last seen 3h ago")
        assert not any(each.since_ns for each in rows_of(stage.app.shown.tree))


async def test_without_a_watch_nothing_is_read(state: StateDir, hermes: Hermes) -> None:
    events = slow_tool()
    hermes.does(*events)
    async with pane(state) as stage:
        await stage.until(lambda: stage.app.shown.totals.spans >= 7)
        assert stage.app.shown.record is None
        assert "watching" not in stage.text


@pytest.mark.parametrize("text", [hostile.ALL, *hostile.SEQUENCES])
async def test_records_obey_nothing(state: StateDir, hermes: Hermes, text: str) -> None:
    """Whatever Hermes noted: titles, prompts, commands, folders, models, what subagents are asked."""
    text = text.replace("\x00", "")  # SQLite's texts end there
    async with pane(state, (110, 60), watch=hermes.watch()) as stage:
        hermes.session("s", title=text, model=text, cwd=text, profile_name=text)
        hermes.message("s", "user", f"{text} prompt")
        hermes.calls("s", one=f"echo {text}", two=f"rm -rf {text}")
        hermes.session("kid", parent_session_id="s", source="subagent", title=text)
        hermes.message("kid", "user", f"{text} goal")
        await stage.until(lambda: len(texts(stage)) >= 5)
        check(stage)
        hermes.result("s", "one", text)
        await stage.until(lambda: any(each.value == "✓" for each in rows_of(stage.app.shown.tree)))
        check(stage)
        await stage.press("home", "tab")
        check(stage)
        await stage.press("tab", "2", "up", "enter", "enter")
        check(stage)
        await stage.press("escape", "s")
        await stage.until(lambda: isinstance(stage.app.screen, SessionsScreen))
        check(stage)


async def test_the_user_is_called_once(state: StateDir, hermes: Hermes, tmp_path: Path) -> None:
    """By the real command of the settings, for a turn that ended in a session, shown or not."""
    log = tmp_path / "called"
    script = tmp_path / "call"
    script.write_text(f'#!/bin/sh\necho "$HERMES_TRACE_EVENT $HERMES_TRACE_SESSION" >> {log}\n')
    script.chmod(0o755)
    events = slow_tool()
    hermes.session("old")
    hermes.message("old", "user", "Before")
    hermes.message("old", "assistant", "Done before.", finish_reason="stop")
    async with pane(state, watch=hermes.watch(), attention=Attention(command=str(script))) as stage:
        await stage.shows("Before")
        hermes.session("s")
        hermes.message("s", "user", "One")
        hermes.session("t")
        hermes.message("t", "user", "Two")
        await stage.until(lambda: stage.app.live.session("t") is not None)
        hermes.message("s", "assistant", "Done.", finish_reason="stop")
        hermes.message("t", "assistant", "Done.", finish_reason="stop")
        await stage.until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
        hermes.does(*events)
        await stage.until(lambda: len(log.read_text().splitlines()) >= 3)
    told = log.read_text().splitlines()
    assert sorted(told) == sorted(["turn s", "turn t", "turn 20261123_023010_9fa5c0"])


async def test_the_search_finds_what_hermes_noted(state: StateDir, hermes: Hermes) -> None:
    hermes.session("s1")
    hermes.message("s1", "user", "dig for it")
    hermes.calls("s1", c1="dig deep", c2="dig on")
    hermes.result("s1", "c1", f"{'earth ' * 2_000}treasure{' earth' * 2_000}")  # the pane keeps its ends
    async with pane(state, watch=hermes.watch()) as stage:
        await stage.until(lambda: "dig on" in texts(stage))
        await stage.press("slash", *"treasure", "enter")
        await stage.until(lambda: "/treasure 1/1" in stage.footer)
        assert stage.cursor_row.text == "dig deep"
        await stage.press("slash", *"gold", "enter")
        hermes.result("s1", "c2", "gold")
        await stage.until(lambda: "/gold" in stage.footer and "1" in stage.footer.split("/gold")[1][:6])
        await stage.press("n")
        assert stage.cursor_row.text == "dig on"
