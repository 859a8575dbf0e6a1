"""The commands view as a place to review: filters, marks, all sessions, export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir, StateError
from hermes_tui.tui.app import TraceApp
from hermes_tui.tui.screens.export import ExportScreen
from hermes_tui.tui.widgets.command_list import ReviewBar
from tests.support import SECOND, wire_span
from tests.tui.conftest import Play
from tests.tui.stage import NARROW, WIDE, Stage, pane, wire_turn

pytestmark = pytest.mark.usefixtures("clock")
SIZES = pytest.mark.parametrize("size", [(40, 20), NARROW, (80, 24), WIDE], ids=str)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the pane tells the user; tests run without its notices."""
    found: list[str] = []
    monkeypatch.setattr(TraceApp, "notify", lambda _, text, **__: found.append(text))
    return found


def command(number: int, text: str, *, code: int | None = 0, took_s: float = 0.5, session: str = "s") -> Any:
    """A terminal call in the session's turn `number // 100`."""
    trace = number // 100
    start = SECOND * (1_000 + 10 * trace) + number % 100 * SECOND // 10
    result = {"output": f"out of {text}\n", "error": None} | ({} if code is None else {"exit_code": code})
    return wire_span(
        trace * 1_000 + 10 + number % 100,
        parent=trace * 1_000 + 1,
        trace=trace,
        name="tool.terminal",
        session__id=session,
        input__value=json.dumps({"command": text}),
        output__value=json.dumps(result),
        start_ns=start,
        end_ns=start + int(took_s * SECOND),
    )


MIXED = (
    command(1, "ls -la"),
    command(2, "false", code=1),
    command(3, "sleep 12", took_s=12.0),
    command(4, "sudo rm -rf build", code=3),
    command(5, "who knows", code=None),
)


def listed(stage: Stage) -> list[str]:
    source = stage.rows.source
    return [source.row(number).text for number in range(len(source))]


def bar(stage: Stage) -> str:
    found: str = stage.main.query_one(ReviewBar).render_line(0).text
    return found


async def opened(stage: Stage, *texts: str) -> None:
    """The commands view, once these are in it."""
    await stage.until(lambda: stage.app.shown.id)
    await stage.press("2")
    await stage.until(lambda: set(texts) <= set(listed(stage)))


@SIZES
async def test_filters_one_after_the_other(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    play(*wire_turn(0, calls=0), *MIXED)
    async with pane(state, size) as stage:
        await opened(stage, "who knows")
        assert "all: 5 of 5" in bar(stage)
        for name, expected in {
            "failed": ["false", "sudo rm -rf build"],
            "long": ["sleep 12"],
            "flagged": ["sudo rm -rf build"],
            "unreviewed": ["ls -la", "false", "sleep 12", "sudo rm -rf build", "who knows"],
            "all": ["ls -la", "false", "sleep 12", "sudo rm -rf build", "who knows"],
        }.items():
            await stage.press("F")
            assert listed(stage) == expected
            assert f"{name}: {len(expected)} of 5" in bar(stage)
        assert "2 Commands 5" in stage.footer


async def test_the_line_above_can_be_clicked(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, calls=0), *MIXED)
    async with pane(state, NARROW) as stage:
        await opened(stage, "who knows")
        await stage.pilot.click(ReviewBar, offset=(3, 0))
        assert "failed: 2 of 5" in bar(stage)
        await stage.pilot.click(ReviewBar, offset=(55, 0))
        await stage.until(lambda: "all sessions" in bar(stage))
        await stage.press("1")
        assert not stage.main.query_one(ReviewBar).display


async def test_a_filter_keeps_the_cursor_on_its_row_and_new_rows_pass_it(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, calls=0), *MIXED)
    async with pane(state, NARROW) as stage:
        await opened(stage, "who knows")
        await stage.go_to("sudo rm")
        await stage.press("F")
        assert stage.cursor_row.text == "sudo rm -rf build"
        assert stage.drawn_cursor == [stage.cursor_line]
        play(command(6, "true"), command(7, "exit 9", code=9))
        await stage.until(lambda: "failed: 3 of 7" in bar(stage))
        assert listed(stage) == ["false", "sudo rm -rf build", "exit 9"]
        assert stage.cursor_row.text == "sudo rm -rf build"
        await stage.press("F", "F", "F", "F")
        assert stage.cursor_row.text == "sudo rm -rf build"


async def test_a_mark_shows_at_once_and_stays_on_the_desk(
    state: StateDir, play: Play, said: list[str]
) -> None:
    play(*wire_turn(0, calls=0), *MIXED)
    async with pane(state, NARROW) as stage:
        await opened(stage, "who knows")
        await stage.go_to("false")
        await stage.press("m")
        assert stage.cursor_row.text == "false"
        assert stage.cursor_row.mark == "✓"
        assert "✓00:16:40 $ false" in stage.text
        await stage.press("u")
        assert stage.cursor_row.text == "sleep 12"
        await stage.press("m", "u", "m", "u", "m", "u")
        assert stage.cursor_row.text == "ls -la"
        await stage.press("m", "m", "m")
        await stage.press("u")
        assert said == ["All that are listed are reviewed."]
        await stage.press("F", "F", "F", "F")
        assert listed(stage) == []
        assert "unreviewed: 0 of 5" in bar(stage)
    async with pane(state, NARROW) as stage:
        await opened(stage)
        await stage.until(lambda: all(_marks(stage)))
        await stage.go_to("ls -la")
        await stage.press("m")
        assert _marks(stage) == [False, True, True, True, True]
    async with pane(state, NARROW) as stage:
        await opened(stage, "who knows")
        await stage.until(lambda: _marks(stage) == [False, True, True, True, True])


def _marks(stage: Stage) -> list[bool]:
    source = stage.rows.source
    return [bool(source.row(number).mark) for number in range(len(source))]


async def test_a_click_in_front_of_a_row_marks_it(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, calls=0), *MIXED)
    async with pane(state, NARROW) as stage:
        await opened(stage, "who knows")
        await stage.pilot.click("#commands", offset=(1, 1))
        assert _marks(stage) == [False, True, False, False, False]
        assert stage.cursor_row.text == "false"


async def test_a_mark_that_cannot_be_kept_is_said(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    play(*wire_turn(0, calls=0), *MIXED)

    def fail(*_: object, **__: object) -> None:
        raise StateError("the disk is full")

    async with pane(state, NARROW) as stage:
        await opened(stage, "who knows")
        with monkeypatch.context() as patch:
            patch.setattr(Desk, "review", fail)
            await stage.press("m")
            await stage.until(lambda: said == ["The mark is not kept: the disk is full"])
        await stage.press("k", "m")
    with Desk(state) as desk:
        assert len({name for name in desk.reviewed() if name[2] == "span"}) == 2  # the first one too, later


@SIZES
async def test_flags_are_seen_in_both_lists_and_told_in_the_details(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    play(*wire_turn(0, calls=0), *MIXED)
    async with pane(state, size) as stage:
        await opened(stage, "who knows")
        notes = [stage.rows.source.row(number).note for number in range(5)]
        assert notes == ["", "", "", "!", ""]
        await stage.press("1")
        row = await stage.go_to("sudo rm")
        assert (row.note, row.note_style) == ("!", "warning")
        await stage.press("enter")
        await stage.shows("! runs as another user (sudo)", "! deletes folders (rm -r)")


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["60", "120"])
async def test_enter_shows_a_command_s_details_and_t_its_turn(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    play(*wire_turn(0, calls=3))
    async with pane(state, size) as stage:
        await opened(stage, "echo 0.2")
        await stage.press("k", "enter")
        await stage.shows("out 0.1")
        if size is NARROW:
            await stage.press("n")
            await stage.shows("out 0.2")
            await stage.press("p")
            await stage.shows("out 0.1")
        await stage.press("escape")
        assert (stage.view, stage.cursor_row.text) == ("commands", "echo 0.1")
        await stage.press("t")
        assert (stage.view, stage.cursor_row.text) == ("tree", "echo 0.1")


# ---- all sessions


async def test_the_commands_of_all_sessions(state: StateDir, play: Play) -> None:
    old = command(101, "echo old", session="old"), command(102, "false", code=1, session="old")
    play(*wire_turn(1, calls=0, session="old"), *old)
    play(*wire_turn(2, calls=0, session="new"), command(201, "echo new", session="new"))
    async with pane(state, NARROW) as stage:
        await opened(stage, "echo new")
        await stage.press("a")
        await stage.until(lambda: len(listed(stage)) == 5)
        assert listed(stage) == ["new", "echo new", "old", "false", "echo old"]
        await stage.until(lambda: "all: 3 of 3" in bar(stage) and "reading" not in bar(stage))
        assert "all sessions" in bar(stage)
        await stage.press("F")
        assert listed(stage) == ["old", "false"]
        await stage.go_to("false")
        await stage.press("m")
        assert stage.cursor_row.mark == "✓"
        await stage.press("enter")
        await stage.shows("esc back", "false")
        await stage.press("p", "n", "escape")
        assert stage.cursor_row.text == "false"
        assert stage.view == "commands"
        await stage.press("t")
        await stage.until(lambda: stage.app.shown.id == "old" and stage.view == "tree")
        await stage.until(lambda: stage.cursor_row.text == "false")
        await stage.press("2")
        assert listed(stage) == ["old", "false"]  # still where the user was
        assert stage.cursor_row.text == "false"
        await stage.press("a")
        assert listed(stage) == ["false"]
        assert _marks(stage) == [True]


async def test_a_heading_leads_to_its_session(state: StateDir, play: Play, said: list[str]) -> None:
    play(*wire_turn(1, calls=1, session="old"))
    play(*wire_turn(2, calls=1, session="new"))
    async with pane(state, WIDE) as stage:
        await opened(stage, "echo 2.0")
        await stage.press("a")
        await stage.until(lambda: "old" in listed(stage))
        await stage.go_to("old")
        await stage.press("m")
        assert said == ["Marks are for commands."]
        await stage.press("enter")
        await stage.until(lambda: stage.app.shown.id == "old" and stage.view == "tree")


async def test_the_list_of_all_is_read_again_when_somebody_returns_to_it(state: StateDir, play: Play) -> None:
    play(*wire_turn(1, calls=2, session="old"))
    play(*wire_turn(2, calls=1, session="new"))
    async with pane(state, NARROW) as stage:
        await opened(stage, "echo 2.0")
        await stage.press("a")
        await stage.until(lambda: "all: 3 of 3" in bar(stage))
        await stage.go_to("echo 1.0")
        await stage.press("1")
        play(*wire_turn(3, calls=1, session="newest"))
        await stage.until(lambda: stage.app._newest == "newest")
        await stage.press("2")
        await stage.until(lambda: "all: 4 of 4" in bar(stage))
        assert listed(stage) == ["newest", "echo 3.0", "new", "echo 2.0", "old", "echo 1.1", "echo 1.0"]
        assert stage.cursor_row.text == "echo 1.0"


async def test_the_list_of_all_is_bounded(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes_tui.tui.every_command.MOST", 5)
    for number in range(4):
        play(*wire_turn(number, calls=2, session=f"s{number}"))
    async with pane(state, NARROW) as stage:
        await opened(stage, "echo 3.1")
        await stage.press("a")
        await stage.until(lambda: "5 of 5+" in bar(stage))
        assert listed(stage) == ["s3", "echo 3.1", "echo 3.0", "s2", "echo 2.1", "echo 2.0", "s1", "echo 1.1"]


# ---- export


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("key", "form", "read"),
    [
        ("s", "sh", lambda text: [line for line in text.splitlines()[2:] if line and line[0] != "#"]),
        ("m", "md", lambda text: [line for line in text.splitlines() if line.startswith(("fal", "sudo"))]),
        ("j", "json", lambda text: [each["command"] for each in json.loads(text)]),
    ],
)
async def test_what_is_listed_is_exported(
    state: StateDir,
    play: Play,
    folder: Path,
    said: list[str],
    key: str,
    form: str,
    read: Callable[[str], list[str]],
) -> None:
    play(*wire_turn(0, calls=0), *MIXED)
    async with pane(state, NARROW) as stage:
        await opened(stage, "who knows")
        await stage.press("F", "X")
        await stage.shows("Export 2 commands as")
        await stage.press(key)
        file = folder / f"hermes-commands-s-failed.{form}"
        await stage.until(lambda: said == [f"2 commands in {file}"])
        assert read(file.read_text()) == ["false", "sudo rm -rf build"]
        assert file.stat().st_mode & 0o777 == 0o600
        await stage.press("X", key)
        await stage.until((folder / f"hermes-commands-s-failed-2.{form}").exists)


async def test_all_sessions_are_exported_whole(
    state: StateDir, play: Play, folder: Path, said: list[str]
) -> None:
    play(*wire_turn(1, calls=1, session="old"))
    play(*wire_turn(2, calls=1, session="new"))
    async with pane(state, NARROW) as stage:
        await opened(stage, "echo 2.0")
        await stage.press("a")
        await stage.until(lambda: "all: 2 of 2" in bar(stage))
        await stage.press("X", "down", "down", "enter")
        file = folder / "hermes-commands-all.json"
        await stage.until(lambda: said == [f"2 commands in {file}"])
        found = json.loads(file.read_text())
        assert [(each["session"], each["output"]) for each in found] == [
            ("old", "out 1.0\n"),
            ("new", "out 2.0\n"),
        ]


async def test_nothing_is_written_unasked(
    state: StateDir, play: Play, folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(*wire_turn(0, calls=0), command(1, "ls"))
    async with pane(state, NARROW) as stage:
        await opened(stage, "ls")
        await stage.press("X")
        assert isinstance(stage.app.screen, ExportScreen)
        await stage.press("escape", "F", "X")
        assert said == ["No commands are listed."]
        monkeypatch.setattr("hermes_tui.tui.exporting._TRIES", 2)
        (folder / "hermes-commands-s.sh").write_text("mine")
        await stage.press("F", "F", "F", "F", "X", "s")
        await stage.until(lambda: said[1:])
        assert said[1].startswith("Nothing was written: ")
    assert [each.read_text() for each in folder.iterdir()] == ["mine"]
