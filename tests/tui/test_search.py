"""The search of the pane: what is found, where the cursor goes, what the screen says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from textual.widgets import Static

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.reader import Reader
from hermes_tui.journal.searching import Found
from hermes_tui.journal.writer import Writer
from hermes_tui.tui import scanner
from hermes_tui.tui.messages import SpansArrived
from hermes_tui.tui.widgets.details import Details
from tests.support import SECOND, body_of, store, wire_span
from tests.tui.conftest import Play
from tests.tui.stage import NARROW, WIDE, Stage, pane, wire_command, wire_turn

pytestmark = pytest.mark.usefixtures("clock")

SIZES = pytest.mark.parametrize("size", [(40, 20), NARROW, (80, 20), WIDE], ids=["40", "60", "80", "120"])


async def look(stage: Stage, text: str, *then: str) -> None:
    """Type a search, wait until it has seen everything, and press what follows."""
    await stage.press("slash", *text)
    await stage.until(lambda: stage.app.board.search._finder.done)
    await stage.press(*then)


def marked(stage: Stage) -> list[str]:
    """What is drawn reversed in the rows."""
    return [
        segment.text
        for strip in stage.strips()[3:-1]
        for segment in strip
        if segment.style is not None and segment.style.reverse and segment.style.underline
    ]


@SIZES
async def test_typing_goes_to_the_next_hit_and_esc_back(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    for trace in range(4):
        play(*wire_turn(trace))
    async with pane(state, size) as stage:
        await stage.shows("turn 3", "echo 3.1")
        rows = len(stage.rows.source)
        await look(stage, "out 1.1")
        assert stage.cursor_row.text == "echo 1.1"
        assert stage.drawn_cursor == [stage.cursor_line]
        assert "1/1" in stage.lines()[-1]
        await stage.press("escape")
        assert stage.cursor_row.text == "echo 3.1"
        assert len(stage.rows.source) == rows  # what was unfolded on the way is folded again
        play(wire_command(3, 7))
        await stage.until(lambda: stage.cursor_row.text == "echo 3.7")
        assert "/out" not in stage.text


async def test_steps_through_hits_in_the_order_of_the_rows_and_round_the_end(
    state: StateDir, play: Play
) -> None:
    for trace in range(4):
        play(*wire_turn(trace))
    async with pane(state) as stage:
        await stage.shows("turn 3", "echo 3.1")
        await look(stage, "echo", "enter")
        assert "/echo 2/8" in stage.footer
        seen = []
        for _ in range(8):
            await stage.press("n")
            seen.append(stage.cursor_row.text)
        assert seen == [f"echo {turn}.{call}" for turn in (2, 1, 0, 3) for call in (0, 1)]
        assert "/echo 2/8" in stage.footer
        for expected in ("echo 3.0", "echo 0.1", "echo 0.0", "echo 1.1"):
            await stage.press("N")
            assert stage.cursor_row.text == expected
        await stage.press("escape")
        assert "/echo" not in stage.footer
        assert stage.cursor_row.text == "echo 1.1"


async def test_steps_follow_the_order_in_which_turns_are_shown(state: StateDir, play: Play) -> None:
    for trace in range(4):
        play(*wire_turn(trace, calls=2), *([wire_command(trace, 5, code=3)] if trace == 1 else []))
    async with pane(state) as stage:
        await stage.shows("turn 3", "echo 3.1")
        await look(stage, "out ", "enter")
        await stage.press("S", "S", "home")
        seen = []
        for _ in range(9):
            await stage.press("n")
            seen.append(stage.cursor_row.text)
        own = [f"echo {turn}.{call}" for turn in (1, 3, 2, 0) for call in (0, 1)]
        assert seen == [*own[:2], "echo 1.5", *own[2:]]
        await stage.press("S", "S", "home", "n")
        assert stage.cursor_row.text == "echo 3.0"


async def test_marks_what_is_found_and_the_turns_that_hold_it(state: StateDir, play: Play) -> None:
    for trace in range(3):
        play(*wire_turn(trace))
    async with pane(state) as stage:
        await stage.shows("turn 2", "echo 2.1")
        await look(stage, "2.1", "enter")
        assert marked(stage) == ["3", "$", "2.1"]
        await look(stage, "out 2.1", "enter")
        assert marked(stage) == ["3", "$"]  # in the output only
        await stage.press("escape")
        assert marked(stage) == []


async def test_unfolds_inner_rows_and_counts_each_row_once(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    nested = [
        wire_span(
            500, parent=1, trace=0, name="chain", session__id="s",
            start_ns=SECOND * 1_001, end_ns=SECOND * 1_004,
        ),
        wire_span(
            501, parent=500, trace=0, name="tool.terminal", session__id="s", start_ns=SECOND * 1_002,
            end_ns=SECOND * 1_003,
            input__value=json.dumps({"command": "hidden"}), output__value=json.dumps({"output": "treasure"}),
        ),
    ]  # fmt: skip
    play(*nested)
    async with pane(state) as stage:
        await stage.shows("hidden")
        await stage.go_to("chain")
        await stage.press("h")
        await stage.gone("hidden")
        await look(stage, "treasure", "enter")
        assert stage.cursor_row.text == "hidden"
        await look(stage, "turn 0", "enter")  # in the turn's own span and in its wrapper
        assert "/turn 0 1/1" in stage.footer


async def test_what_comes_later_is_searched_too_and_only_that(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trace in range(2):
        play(*wire_turn(trace))
    async with pane(state) as stage:
        await stage.shows("turn 1", "echo 1.1")
        await look(stage, "out", "enter")
        assert "2/4" in stage.footer or "1/4" in stage.footer
        searched: list[int] = []
        whole = scanner.in_request

        def counted(reader: Reader, number: int, *rest: Any) -> tuple[list[Found], int]:
            searched.append(number)
            return whole(reader, number, *rest)

        monkeypatch.setattr(scanner, "in_request", counted)
        play(wire_command(1, 5))
        await stage.until(lambda: "/5" in stage.footer and stage.app.board.search._finder.done)
        assert len(set(searched)) == 1
        again = [node.span for tree in stage.app.shown.forest.trees.values() for node in tree.nodes.values()]
        old = [span for span in again if span is not None and span.request < max(searched)]
        stage.app.post_message(SpansArrived("s", old))  # as they do when they were delivered
        await stage.press("n")
        assert len(set(searched)) == 1


async def test_another_session_has_no_hits_of_this_one(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, session="one"))
    play(*wire_turn(1, session="two"))
    async with pane(state) as stage:
        await stage.shows("turn 1", "echo 1.1")
        await look(stage, "echo", "enter")
        assert "/echo" in stage.footer
        await stage.press("left_square_bracket")
        await stage.shows("turn 0", "echo 0.1")
        assert "/echo" not in stage.footer
        assert marked(stage) == []
        await stage.press("n")
        assert stage.cursor_row.text == "echo 0.1"


async def test_in_the_commands_only_commands_are_hits(state: StateDir, play: Play) -> None:
    for trace in range(3):
        play(*wire_turn(trace, calls=1))
    async with pane(state) as stage:
        await stage.shows("turn 2", "echo 2.0")
        await stage.press("2")
        await look(stage, "2", "enter")
        assert stage.view == "commands"
        assert "/2 1/1" in stage.footer
        assert stage.cursor_row.text == "echo 2.0"
        await stage.press("1")
        assert "/2 " in stage.footer
        await stage.press("n")
        assert stage.cursor_row.text in ("turn 2", "echo 2.0")
        assert "/2" in stage.footer


@pytest.mark.parametrize("view", ["1", "2"])
async def test_hits_that_a_filter_hides_are_shown_when_there_are_no_others(
    state: StateDir, play: Play, view: str
) -> None:
    for trace in range(3):
        play(*wire_turn(trace))
    async with pane(state) as stage:
        await stage.shows("turn 2", "echo 2.1")
        await stage.press(view, "F")
        await stage.until(lambda: not any("echo" in line for line in stage.lines()[3:-1]))
        await look(stage, "echo 1.0", "enter")
        assert not any("echo 1.0" in line for line in stage.lines()[3:-1])
        await stage.press("n")
        assert stage.cursor_row.text == "echo 1.0"
        assert "/echo 1.0 1/1" in stage.footer
        said = [note.message for note in stage.app._notifications]
        assert said[-1] == "The filter hid every hit: all rows are shown again."


async def test_a_text_that_is_nowhere(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("n")
        assert [note.message for note in stage.app._notifications] == [
            "Nothing is searched for. / begins a search."
        ]
        await look(stage, "no such thing", "enter")
        assert "no hits" in stage.footer
        await stage.press("n")
        assert stage.cursor_row.text == "echo 0.1"


async def test_what_a_model_was_given_is_its_last_resort(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    messages = json.dumps([{"role": "system", "parts": [{"type": "text", "content": "be excellent"}]}])
    call = wire_span(
        700, parent=1, trace=0, name="api.gpt", session__id="s", openinference__span__kind="LLM",
        start_ns=SECOND * 1_001, end_ns=SECOND * 1_002,
        gen_ai__input__messages=messages, input__value="out 0.0",
    )  # fmt: skip
    store(open_writer(), body_of(*wire_turn(0), call))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await look(stage, "out 0.0", "enter")
        assert "1/1" in stage.footer
        assert stage.cursor_row.text == "echo 0.0"
        await look(stage, "be excellent", "enter")
        assert "1/1" in stage.footer
        assert stage.cursor_row.style == "llm"


async def test_an_older_search_s_hits_are_not_taken(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("slash", *"echo", *["backspace"] * 4, *"zzz")
        await stage.until(lambda: stage.app.board.search._finder.done)
        assert "no hits" in stage.lines()[-1]


@SIZES
async def test_an_attribute_s_name_is_no_command_to_the_terminal(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    hostile = wire_command(0, 5)
    hostile.attributes.add(key="\x1b]0;owned\x07\x9bname").value.string_value = "treasure"
    play(*wire_turn(0), hostile)
    async with pane(state, size) as stage:
        await stage.shows("echo 0.5")
        await look(stage, "treasure")
        assert "1/1 ␛]0;owned" in stage.lines()[-1]
        await stage.press("enter")
        assert "1/1" in stage.footer
        assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in stage.text.replace("\n", ""))


def marked_beside(stage: Stage) -> list[str]:
    """What is drawn reversed in the details."""
    page = stage.app.screen_stack[-1].query_one(Details)
    lines = (page.query_one(Static).render_line(y) for y in range(page.virtual_size.height))
    return [part.text for line in lines for part in line if part.style is not None and part.style.reverse]


@SIZES
async def test_the_details_show_where_it_stands(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    """Far down too. A text that is searched for no more leaves the page where it is."""
    play(*wire_turn(0), wire_command(0, 9, some__attribute="far down"))
    async with pane(state, size) as stage:
        await stage.shows("turn 0")
        await stage.go_to("echo 0.9")
        await look(stage, "far down", "enter", *([] if stage.app.board.side.wide else ["enter"]))
        await stage.until(lambda: marked_beside(stage) == ["far down"])
        page = stage.app.screen_stack[-1].query_one(Details)
        await stage.until(lambda: page.scroll_offset.y)
        top = page.scroll_offset.y
        await stage.shows("far down")
        if stage.app.board.side.wide:
            await stage.press("escape")
            await stage.until(lambda: not marked_beside(stage))
            assert page.scroll_offset.y == top
            await look(stage, "out 0.9", "enter")
            await stage.until(lambda: marked_beside(stage) == ["out 0.9"] * 2 and page.scroll_offset.y == 0)
