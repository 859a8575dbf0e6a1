"""The transcript in the pane: it grows, follows or stays, leads to the tree, and is written to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.hermes.home import Home
from hermes_tui.hermes.state_db import Watch
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.tui.transcript_feed import TranscriptFeed
from hermes_tui.tui.widgets.transcript_view import TranscriptView
from tests.state_player import StatePlayer, state_events
from tests.support import body_of, recorded_requests, store, wire_span
from tests.tui import hostile
from tests.tui.stage import NARROW, WIDE, Clock, Stage, head_of, key_of, pane, wire_turn

SMALL = (40, 20)
SIZES = pytest.mark.parametrize("size", [SMALL, NARROW, WIDE], ids=["small", "narrow", "wide"])
pytestmark = pytest.mark.usefixtures("clock")
Play = Callable[..., None]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes_tui.tui.widgets.transcript_view._PAUSE_S", 0.01)


async def opened(stage: Stage, *texts: str) -> TranscriptView:
    """The transcript, once it shows these texts and has read all that is near."""
    await stage.until(lambda: stage.app.shown.totals.spans)
    await stage.press("5")
    assert stage.view == "transcript"
    view = stage.app.board.later.transcript
    await stage.shows(*texts)
    await read(stage)
    return view


def page(stage: Stage) -> list[str]:
    """What is shown of the transcript, without the scroll bar."""
    return [line[:-1].rstrip() for line in stage.lines()[3:-1]]


async def read(stage: Stage) -> None:
    """Until everything near the view was read."""
    view = stage.app.board.later.transcript
    await stage.until(lambda: view._script and not view._asked)


@SIZES
async def test_by_key_and_back(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    play(*wire_turn(0))
    async with pane(state, size) as stage:
        for back in ("escape", "1"):
            view = await opened(stage, "turn 0", "$ echo 0.0", "out 0.0", "$ echo 0.1")
            assert stage.app.focused is view
            assert view.following
            await stage.press(back)
            assert stage.view == "tree"


async def test_the_footer_fits_forty_columns(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state, SMALL) as stage:
        await opened(stage, "turn 0")
        assert "5 Transcript" in stage.footer
        assert stage.footer.split()[-2:] == ["?", "q"]


async def test_it_grows_at_its_end_and_follows(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, calls=12))
    async with pane(state) as stage:
        view = await opened(stage, "echo 0.11")
        play(*wire_turn(1, calls=12))
        await stage.shows("echo 1.11", "out 1.11")
        assert view.following
        await stage.press("pageup")
        assert not view.following
        await read(stage)
        before = page(stage)
        play(*wire_turn(2, calls=3))
        await stage.until(lambda: len(stage.app.shown.turns) == 3)
        await read(stage)
        assert page(stage) == before
        await stage.press("f")
        await stage.shows("echo 2.2")
        assert view.following


@pytest.mark.parametrize("key", ["f", "end", "G"])
async def test_what_came_below_is_counted_and_one_key_goes_there(
    state: StateDir, play: Play, key: str
) -> None:
    play(*wire_turn(0, calls=12))
    async with pane(state) as stage:
        await stage.shows("echo 0.11")
        await stage.press("home")  # in the tree, which says so there alone
        await opened(stage, "echo 0.11")
        play(*wire_turn(1, calls=3))
        await stage.shows("echo 1.2")
        assert "new" not in stage.footer
        await stage.press("pageup")
        await stage.until(lambda: "f follow " in stage.footer)
        play(*wire_turn(2, calls=3))
        await stage.until(lambda: "+5 new, f follows" in stage.footer)
        await stage.press("1")
        assert "+10 new, f follows" in stage.footer
        await stage.press("5", key)
        await stage.shows("echo 2.2")
        await stage.until(lambda: "f follow" not in stage.footer)
        assert stage.app.board.later.transcript is not None
        assert stage.app.board.later.transcript.following


async def test_what_comes_above_moves_nothing(state: StateDir, play: Play) -> None:
    play(*wire_turn(1, calls=12))
    async with pane(state) as stage:
        await opened(stage, "echo 1.11")
        await stage.press("pageup")
        await read(stage)
        before = page(stage)
        play(*wire_turn(0, calls=9))
        await stage.until(lambda: len(stage.app.shown.turns) == 2)
        await read(stage)
        assert page(stage) == before


@SIZES
async def test_every_line_can_be_reached(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    play(*wire_turn(0, calls=30))
    async with pane(state, size) as stage:
        view = await opened(stage, "echo 0.29")
        await stage.press("home")
        await stage.shows("turn 0")
        seen = ""
        while not view.following:
            await read(stage)
            seen += stage.text
            await stage.press("pagedown")
        seen += stage.text
        assert [at for at in range(30) if f"echo 0.{at} " not in seen] == []


@SIZES
async def test_from_entry_to_entry_and_to_the_tree(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    play(*wire_turn(0, calls=2))
    async with pane(state, size) as stage:
        view = await opened(stage, "echo 0.1")
        await stage.press("k", "k", "k", "k", "k")
        assert view.cursor == head_of(0)
        await stage.press("j")
        wanted = view.cursor
        assert wanted is not None
        assert wanted[2] == "span"
        await stage.press("enter")
        assert stage.view == "tree"
        assert stage.cursor == wanted
        assert stage.cursor_row.text == "echo 0.0"


async def test_with_the_mouse(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, calls=20))
    async with pane(state) as stage:
        view = await opened(stage, "echo 0.19")
        view.scroll_relative(y=-9, animate=False)
        await read(stage)
        assert not view.following
        line = next(at for at, text in enumerate(stage.lines()) if "echo 0.14" in text)
        await stage.pilot.click("#transcript", offset=(8, line - 3))
        assert stage.view == "transcript"
        await stage.pilot.click("#transcript", offset=(8, line - 3))
        await stage.until(lambda: stage.view == "tree")
        assert stage.cursor_row.text == "echo 0.14"


async def test_long_texts_are_short_until_they_are_wanted(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    arguments = json.dumps({"command": "seq 1 50"})
    result = json.dumps({"output": "\n".join(f"line-{at}" for at in range(50)), "exit_code": 0})
    store(
        open_writer(),
        body_of(
            wire_span(0, name="agent", session__id="s", input__value="go"),
            wire_span(1, parent=0, name="tool.terminal", session__id="s",
                      input__value=arguments, output__value=result),
        ),
    )  # fmt: skip
    async with pane(state) as stage:
        view = await opened(stage, "line-0", "45 more lines", "line-49")
        assert "line-20" not in stage.text
        await stage.press("x")
        await read(stage)
        await stage.shows("line-49", "line-45")
        await stage.press("home")
        await stage.shows("line-7")
        assert view.full


@SIZES
async def test_hermes_records_alone(state: StateDir, tmp_path: Path, size: tuple[int, int]) -> None:
    player = StatePlayer(tmp_path / "home")
    try:
        events = state_events("v123_weather")
        moment = 1_500 - events[0].wall
        for event in events[:-2]:
            row = {**event.row}
            for name in ("timestamp", "started_at", "ended_at"):
                if row.get(name):
                    row[name] += moment
            player.put(event.table, **row)
        watch = Watch(find=lambda: [Home("default", tmp_path / "home")])
        async with pane(state, size, watch=watch) as stage:
            await stage.until(lambda: stage.app.shown.turns)
            await stage.press("5")
            await stage.shows("Let me check the weather.", "Lisbon: 21C, sunny")
    finally:
        player.close()


async def test_markdown_of_an_answer(state: StateDir, open_writer: Callable[..., Writer]) -> None:
    store(open_writer(), *recorded_requests("v123_weather"))
    async with pane(state) as stage:
        await opened(stage, "It is 21 °C and sunny in Lisbon.", "Let me check the weather.")


@SIZES
async def test_hostile_text_is_harmless(
    state: StateDir, open_writer: Callable[..., Writer], size: tuple[int, int]
) -> None:
    text = hostile.ALL
    arguments = json.dumps({"command": text})
    spans = [
        wire_span(0, name="agent", session__id="s", input__value=text, output__value=text),
        wire_span(1, parent=0, name="tool.terminal", session__id="s", input__value=arguments,
                  output__value=json.dumps({"output": text, "exit_code": 1})),
        wire_span(2, parent=0, name="tool.write_file", session__id="s",
                  input__value=json.dumps({"path": text, "content": text})),
        wire_span(3, parent=0, name=f"tool.{text}", session__id="s", input__value=arguments),
        wire_span(4, parent=0, name=f"skill.{text}", session__id="s"),
        wire_span(5, parent=0, name="api.m", session__id="s", status=2, error__type=text),
    ]  # fmt: skip
    store(open_writer(), body_of(*spans))
    async with pane(state, size) as stage:
        await opened(stage)
        for key in ("home", "end", "x", "home", "end"):
            await stage.press(key)
            await read(stage)
            codes = set(map(ord, stage.text)) - {10}
            assert not {code for code in codes if code < 32 or 127 <= code < 160}
            assert "\u202e" not in stage.text
            assert all(strip.cell_length == size[0] for strip in stage.strips())


async def test_written_to_a_file_that_is_new(
    state: StateDir, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("hermes_tui.tui.app.TraceApp.notify", lambda _, text, **__: told.append(text))
    monkeypatch.chdir(tmp_path)
    play(*wire_turn(0))
    (tmp_path / "transcript-s.md").write_text("mine")
    async with pane(state) as stage:
        await opened(stage, "turn 0")
        await stage.press("X")
        await stage.until(lambda: told)
    path = tmp_path / "transcript-s-2.md"
    assert told == [f"Written to {path}"]
    assert (tmp_path / "transcript-s.md").read_text() == "mine"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Session s\n\n## 1 · ")
    assert "echo 0.0" in text
    assert "out 0.1" in text


async def test_a_file_that_cannot_be_written_is_told(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []

    def refuse(*_: object) -> Path:
        raise PermissionError("not here")

    monkeypatch.setattr(TranscriptFeed, "export", refuse)
    monkeypatch.setattr(
        "hermes_tui.tui.app.TraceApp.notify", lambda _, text, **said: told.append({"text": text, **said})
    )
    play(*wire_turn(0))
    async with pane(state) as stage:
        await opened(stage, "turn 0")
        await stage.press("X")
        await stage.until(lambda: told)
    assert told[0]["text"] == "It could not be written: not here"
    assert told[0]["severity"] == "error"


async def test_many_turns_open_at_once(state: StateDir, play: Play) -> None:
    for at in range(0, 400, 20):
        play(*(span for trace in range(at, at + 20) for span in wire_turn(trace)))
    async with pane(state) as stage:
        await stage.until(lambda: len(stage.app.shown.turns) == 400)
        view = await opened(stage, "turn 399")
        assert view._script.built < 100
        assert len(view._script) > 2_000
        await stage.press("home")
        await stage.shows("turn 0")
        await read(stage)
        assert view._script.built < 200
        assert stage.text.index("turn 0") < stage.text.index("echo 0.0")


async def test_a_call_that_waits_for_the_user_says_so(state: StateDir, tmp_path: Path, clock: Clock) -> None:
    player = StatePlayer(tmp_path / "home")
    asked = [{"id": "a", "function": {"name": "terminal", "arguments": json.dumps({"command": "rm -rf /x"})}}]
    now = clock.now_ns / 1e9
    try:
        player.put("sessions", id="s", source="cli", started_at=now - 60)
        row = {"session_id": "s", "timestamp": now - 50}
        player.put("messages", **row, role="user", content="Delete it")
        player.put("messages", **row, role="assistant", tool_calls=json.dumps(asked))
        watch = Watch(find=lambda: [Home("default", tmp_path / "home")])
        async with pane(state, watch=watch) as stage:
            await stage.until(lambda: stage.app.shown.turns)
            await stage.press("5")
            await stage.shows("Delete it", "rm -rf /x", "? waits for you")
            result = json.dumps({"output": "", "exit_code": 0, "approval": "was approved by the user"})
            player.put("messages", **row, role="tool", tool_call_id="a", tool_name="terminal", content=result)
            await stage.shows("allowed by a person")
            assert "waits for you" not in stage.text
    finally:
        player.close()


async def test_a_subagent_of_whose_work_nobody_tells(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    spans = [
        wire_span(0, name="agent", session__id="s", input__value="go"),
        wire_span(1, parent=0, name="subagent.leaf", session__id="s", input__value="count files"),
    ]
    store(open_writer(), body_of(*spans))
    async with pane(state) as stage:
        view = await opened(stage, "go", "◈ count files")
        assert view.cursor == key_of(spans[1])


async def test_in_ascii(state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_TRACE_ASCII", "1")
    play(*wire_turn(0))
    async with pane(state) as stage:
        await opened(stage, "1 > turn 0", "  | out 0.0")
        assert "\n".join(page(stage)).isascii()
