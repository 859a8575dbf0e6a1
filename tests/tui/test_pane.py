"""The pane on a real journal, driven by keys and mouse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from textual.binding import Binding

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.model.span import Delivery
from hermes_tui.tui.app import TraceApp
from hermes_tui.tui.board import Board
from hermes_tui.tui.hands import Hands
from hermes_tui.tui.messages import SpansArrived
from hermes_tui.tui.screens.details import DetailsScreen
from hermes_tui.tui.screens.help import HelpScreen, key_names
from hermes_tui.tui.widgets.command_list import CommandRows
from hermes_tui.tui.widgets.delivery_view import DeliveryView
from hermes_tui.tui.widgets.details import Details
from hermes_tui.tui.widgets.row_list import RowList
from hermes_tui.tui.widgets.trace_tree import TraceTree
from hermes_tui.tui.widgets.transcript_view import TranscriptView
from tests.support import SECOND, body_of, make_span, recorded_requests, span_id, store, trace_id, wire_span
from tests.tui.conftest import Play
from tests.tui.stage import (
    NARROW,
    WIDE,
    Clock,
    FakeRelay,
    FakeSupervisor,
    Stage,
    head_of,
    key_of,
    pane,
    wire_command,
    wire_turn,
)

SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(autouse=True)
def _no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pane looks at everything again every few seconds; here that would hide what it missed."""
    monkeypatch.setattr("hermes_tui.tui.app._CLOCK_S", 3_600.0)


# ---- following, and not following


@SIZES
async def test_follows_the_newest_until_the_user_moves(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    play(*wire_turn(0))
    async with pane(state, size) as stage:
        await stage.shows("turn 0", "echo 0.1")
        assert stage.cursor_row.text == "echo 0.1"
        play(*wire_turn(1, root=False, calls=30))
        await stage.shows("echo 1.29")
        assert stage.cursor_row.text == "echo 1.29"
        assert stage.drawn_cursor == [stage.cursor_line]
        assert "new" not in stage.footer

        await stage.press("up")
        assert stage.cursor_row.text == "echo 1.28"
        assert "f follow" in stage.footer
        play(wire_command(1, 30), wire_command(1, 31))
        await stage.until(lambda: "+2 new, f follows" in stage.footer)
        play(wire_command(1, 32))
        await stage.until(lambda: "+3 new, f follows" in stage.footer)
        assert stage.cursor_row.text == "echo 1.28"

        await stage.press("f")
        assert stage.cursor_row.text == "echo 1.32"
        assert "new" not in stage.footer
        play(wire_command(1, 33))
        await stage.until(lambda: stage.cursor_row.text == "echo 1.33")
        assert stage.drawn_cursor == [stage.cursor_line]


async def test_a_span_that_was_delivered_before_it_was_seen_is_counted_too(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    writer = open_writer(forward=True)
    store(writer, body_of(*wire_turn(0)))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("up")
        late = make_span(90, parent=1, name="chain", delivery=Delivery.ACCEPTED, revision=1_000)
        stage.app.post_message(SpansArrived("s", [late]))
        await stage.until(lambda: "+1 new, f follows" in stage.footer)
        done = make_span(90, parent=1, name="chain", delivery=Delivery.CONFIRMED, revision=1_001)
        stage.app.post_message(SpansArrived("s", [done]))
        await stage.until(lambda: stage.app.shown.totals.deliveries[Delivery.CONFIRMED] == 1)
        assert "+1 new, f follows" in stage.footer


async def test_what_belongs_to_opening_a_session_is_no_news(state: StateDir, play: Play) -> None:
    """A long session comes in pages, and the user may move before the last of them."""
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        stage.app.post_message(SpansArrived("s", [make_span(90)], fresh=True, complete=False))
        await stage.until(lambda: stage.app.shown.totals.spans == 1)
        await stage.press("up")
        stage.app.post_message(SpansArrived("s", [make_span(91, trace=7)], complete=True))
        await stage.spans(2)
        assert "new" not in stage.footer
        stage.app.post_message(SpansArrived("s", [make_span(92, trace=7)]))
        await stage.until(lambda: "+1 new, f follows" in stage.footer)


@SIZES
async def test_a_session_opens_with_its_newest_turn_in_sight(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    """The tree does not have its height yet when its first rows come."""
    calls = size[1] - 6
    for number in range(5):
        play(*wire_turn(number, calls=calls))
    async with pane(state, size) as stage:
        await stage.shows("turn 4", "echo 4.0", f"echo 4.{calls - 1}")
        assert stage.rows.scroll_offset.y == 0
        assert stage.drawn_cursor == [calls]


async def test_a_delivery_is_no_news(state: StateDir, open_writer: Callable[..., Writer]) -> None:
    writer = open_writer(forward=True)
    spans = wire_turn(0)
    store(writer, body_of(*spans))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("up")
        marks = [(span.trace_id, span.span_id, span.end_time_unix_nano) for span in spans]
        writer.mark(marks, Delivery.ACCEPTED, destination="d").result(20)
        await stage.until(lambda: stage.app.shown.totals.deliveries[Delivery.ACCEPTED] == 4)
        assert "MLflow … 0/4" in stage.header  # on the way: accepted is not proven
        assert "new" not in stage.footer
        writer.mark(marks, Delivery.CONFIRMED, destination="d").result(20)
        await stage.shows("MLflow ✓ 4/4")
        assert "new" not in stage.footer


# ---- the cursor stays on its item


@SIZES
@pytest.mark.parametrize("scrolled", [False, True], ids=["at the top", "scrolled"])
async def test_the_cursor_stays_on_its_item_and_on_its_line(
    state: StateDir, play: Play, size: tuple[int, int], scrolled: bool
) -> None:
    """Children first, a late root, older turns, a new turn on top: nothing moves what the user reads."""
    play(*wire_turn(5))
    play(*wire_turn(6, root=False, calls=40, first=100))
    async with pane(state, size) as stage:
        await stage.shows("echo 6.139")
        await stage.press("home")
        await stage.go_to(f"echo 6.{129 if scrolled else 104}")
        key, line = stage.cursor, stage.cursor_line
        assert (stage.rows.scroll_offset.y > 0) == scrolled

        async def unmoved(what: str) -> None:
            await stage.pilot.pause()
            assert (stage.cursor, stage.cursor_line) == (key, line), what
            assert stage.drawn_cursor == [line], what

        seen = len(stage.rows.source)
        for what, spans in {
            "rows below": wire_turn(6, root=False, calls=3, first=500),
            "rows above": wire_turn(6, root=False, calls=3, first=10),
            "the root": wire_turn(6, calls=0),
            "an older turn": wire_turn(3),
            "a child of an older turn": [wire_command(5, 900)],
            "a new turn's children": wire_turn(8, root=False, calls=4),
            "the new turn's root": wire_turn(8, calls=0),
            "a newer turn": wire_turn(9),
        }.items():
            stored = stage.app.shown.totals.spans + len(spans)
            play(*spans)
            await stage.spans(stored)
            await unmoved(what)
        assert len(stage.rows.source) > seen
        assert stage.cursor == (trace_id(6), span_id(6_010 + 100 + (29 if scrolled else 4)), "span")


async def test_following_again_folds_the_turn_that_was_read(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("up")
        play(*wire_turn(1))
        await stage.shows("turn 1", "echo 0.1")
        await stage.press("f")
        assert "echo 0.1" not in stage.text
        assert stage.cursor_row.text == "echo 1.1"


async def test_a_turn_that_the_user_left_folds_when_another_comes(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    play(*wire_turn(1))
    async with pane(state) as stage:
        await stage.shows("turn 1", "echo 1.1")
        await stage.press("up")
        await stage.press("end")
        assert stage.cursor_row.text == "turn 0"
        play(*wire_turn(2))
        await stage.shows("turn 2", "echo 2.1")
        assert "echo 1.1" not in stage.text
        assert stage.cursor_row.text == "turn 0"


async def test_a_placeholder_under_the_cursor_becomes_its_span(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    play(wire_span(500, parent=499, name="tool.terminal", session__id="child", start_ns=SECOND * 1_001))
    async with pane(state) as stage:
        await stage.shows("parent never seen")
        row = await stage.go_to("parent never seen")
        play(wire_span(499, parent=1, name="subagent.x", input__value="the job", start_ns=SECOND * 1_001))
        await stage.shows("the job")
        assert stage.cursor == row.key
        assert stage.cursor_row.text == "the job"


# ---- folding


@pytest.mark.parametrize("keys", [("left", "right"), ("h", "l"), ("space", "space")])
async def test_folds_and_unfolds_by_keys(state: StateDir, play: Play, keys: tuple[str, str]) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("home")
        await stage.press(keys[0])
        assert "echo 0.1" not in stage.text
        assert "▸ 1 turn 0" in stage.text
        await stage.press(keys[1])
        assert "echo 0.1" in stage.text
        assert "▾ 1 turn 0" in stage.text
        assert stage.cursor == head_of(0)


async def test_left_on_a_leaf_goes_to_the_row_above_it(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("left")
        assert stage.cursor == head_of(0)
        assert "echo 0.1" in stage.text


@SIZES
async def test_folds_and_unfolds_by_mouse(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    play(*wire_turn(0))
    play(*wire_turn(1))
    async with pane(state, size) as stage:
        await stage.shows("turn 1", "echo 1.1")
        await stage.pilot.click("#tree", offset=(1, 3))
        await stage.shows("▾ 1 turn 0", "echo 0.1")
        assert stage.cursor == head_of(0)
        await stage.pilot.click("#tree", offset=(1, 3))
        await stage.shows("▸ 1 turn 0")
        assert "echo 0.1" not in stage.text
        assert not isinstance(stage.app.screen, DetailsScreen)


async def test_a_click_moves_the_cursor_and_a_second_one_opens(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.pilot.click("#tree", offset=(20, 1))
        assert stage.cursor_row.text == "echo 0.0"
        await stage.pilot.click("#tree", offset=(20, 1))
        await stage.until(lambda: isinstance(stage.app.screen, DetailsScreen))
        await stage.shows("Command, completed, exit 0", "out 0.0")


async def test_a_click_below_the_last_row_does_nothing(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        key = stage.cursor
        await stage.pilot.click("#tree", offset=(20, 12))
        assert stage.cursor == key
        assert stage.rows.following


# ---- details


async def test_details_on_their_own_screen_when_narrow(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state, NARROW) as stage:
        await stage.shows("echo 0.1")
        await stage.press("enter")
        await stage.shows("Command, completed, exit 0", "out 0.1", "esc back")
        await stage.press("p")
        await stage.shows("out 0.0")
        await stage.press("n")
        await stage.shows("out 0.1")
        assert isinstance(stage.app.screen, DetailsScreen)
        await stage.press("escape")
        assert stage.app.screen is stage.main
        assert stage.cursor_row.text == "echo 0.1"
        await stage.press("enter", "p", "escape")
        assert stage.cursor_row.text == "echo 0.0"


async def test_details_beside_the_tree_when_wide(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state, WIDE) as stage:
        await stage.shows("turn 0", "Command, completed, exit 0", "out 0.1")
        await stage.press("up")
        await stage.shows("out 0.0")
        await stage.press("enter")
        side = stage.main.query_one("#side", Details)
        assert stage.app.focused is side
        assert stage.app.screen is stage.main
        await stage.press("escape")
        assert stage.app.focused is stage.rows
        await stage.press("tab")
        assert stage.app.focused is side
        await stage.press("tab")
        assert stage.app.focused is stage.rows


@SIZES
async def test_x_shows_all_of_a_long_value(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    output = "\n".join(f"line {number}" for number in range(100))
    play(wire_span(1, name="tool.read_file", session__id="s", output__value=output))
    async with pane(state, size) as stage:
        await stage.shows("read_file")
        await stage.press("enter")
        page = stage.app.screen.query_one("#page, #side", Details)
        await stage.shows("Tool read_file")

        def text() -> str:
            return "".join(str(child.render()) for child in page.children)

        assert "line 29\n" in text()
        assert "line 99" not in text()
        assert "x shows more" in text()
        await stage.press("x")
        assert "line 99\n" in text()
        await stage.press("x")
        assert "line 99" not in text()


async def test_details_follow_their_span(state: StateDir, play: Play) -> None:
    """What is open is brought up to date, and stays scrolled to where it was."""
    play(wire_span(1, name="tool.terminal", end_ns=0, session__id="s", input__value='{"command": "sleep 9"}'))
    async with pane(state) as stage:
        await stage.shows("sleep 9")
        await stage.press("enter")
        await stage.shows("still running")
        await stage.press("down", "down")
        page = stage.app.screen.query_one("#page", Details)
        await stage.until(lambda: page.scroll_offset.y == 2)
        play(
            wire_span(
                1,
                name="tool.terminal",
                session__id="s",
                input__value='{"command": "sleep 9"}',
                output__value='{"output": "x", "exit_code": 7}',
            )
        )
        await stage.until(lambda: "exit 7" in str(page.children[0].render()))
        assert page.scroll_offset.y == 2
        await stage.press("n")
        assert isinstance(stage.app.screen, DetailsScreen)


async def test_a_row_without_a_span_says_so(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, root=False))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("home", "enter")
        await stage.shows("This turn's own span has not arrived yet")


# ---- commands


@SIZES
async def test_t_on_a_command_jumps_to_its_span_in_a_folded_turn(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    for number in range(4):
        play(*wire_turn(number))
    async with pane(state, size) as stage:
        await stage.shows("turn 0", "turn 3", "echo 3.1")
        assert "2 Commands 8" in stage.footer
        await stage.press("2")
        await stage.shows("echo 0.0", "echo 3.1", "00:16:40")
        assert stage.cursor_row.text == "echo 3.1"
        await stage.press("home", "down")
        assert stage.cursor_row.text == "echo 0.1"
        await stage.press("t")
        assert stage.view == "tree"
        assert stage.cursor == key_of(wire_command(0, 1))
        assert stage.cursor_row.text == "echo 0.1"
        assert stage.drawn_cursor == [stage.cursor_line]
        assert "▾ 1 turn 0" in stage.text


@pytest.mark.parametrize("view", ["1", "2", "5"])
async def test_at_forty_columns_the_footer_keeps_what_arrived_and_the_key_to_all_keys(
    state: StateDir, play: Play, view: str
) -> None:
    play(*wire_turn(0, calls=20))
    async with pane(state, (40, 20)) as stage:
        await stage.shows("turn 0")
        await stage.press("home", view)
        await stage.until(
            lambda: stage.app.board.view != "transcript" or len(stage.app.board.later.transcript._script)
        )
        await stage.press("home")
        await stage.until(lambda: "f follow" in stage.footer)
        play(*wire_turn(1))
        await stage.until(lambda: "+4 new, f follows" in stage.footer)
        assert "?" in stage.footer


async def test_the_footer_counts_failed_commands(state: StateDir, play: Play) -> None:
    play(*wire_turn(0), wire_command(0, 7, code=3))
    async with pane(state) as stage:
        await stage.shows("✗ 3")
        assert "2 Commands 3 ✗1" in stage.footer


@pytest.mark.parametrize("name", ["subagent_children", "shell_corners", "interrupted"])
async def test_the_footer_counts_the_commands_that_the_list_shows(
    state: StateDir, open_writer: Callable[..., Writer], name: str
) -> None:
    """Also those of subagents, whose spans belong to sessions of their own."""
    store(open_writer(), *recorded_requests(name))
    async with pane(state, WIDE) as stage:
        await stage.shows("fake-gpt-1")
        await stage.press("2")
        values = [stage.rows.source.row(number).value for number in range(len(stage.rows.source))]
        failed = sum(value.startswith("✗") for value in values)
        assert failed
        assert f"2 Commands {len(values)} ✗{failed} " in stage.footer


async def test_views_by_number_and_by_click(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("turn 0")
        await stage.press("2")
        assert stage.view == "commands"
        assert stage.app.focused is stage.rows
        await stage.press("1")
        assert stage.view == "tree"
        await stage.pilot.click("#footer", offset=(stage.footer.index("2 Commands"), 0))
        await stage.until(lambda: stage.view == "commands")
        await stage.pilot.click("#footer", offset=(stage.footer.index("1 Tree"), 0))
        await stage.until(lambda: stage.view == "tree")
        await stage.pilot.click("#footer", offset=(stage.footer.index(" ? ") + 1, 0))
        await stage.until(lambda: isinstance(stage.app.screen, HelpScreen))


async def test_w_shows_wrappers_and_hides_them_again(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        key = stage.cursor
        assert "llm.gpt" not in stage.text
        await stage.press("w")
        await stage.shows("llm.gpt")
        assert stage.cursor is not None
        await stage.press("w")
        await stage.gone("llm.gpt")
        assert stage.cursor == key


# ---- sessions


async def start_sessions(play: Play, *names: str) -> None:
    for number, name in enumerate(names):
        play(*wire_turn(number, session=name))


async def test_a_newer_session_is_taken_when_nothing_runs_and_nobody_reads(
    state: StateDir, play: Play
) -> None:
    play(*wire_turn(0, session="first"))
    async with pane(state) as stage:
        await stage.shows("turn 0", "first")
        play(*wire_turn(1, session="second"))
        await stage.shows("turn 1", "second")
        assert "turn 0" not in stage.text


def sessions_asked_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every session that the pane asks its feed for from now on."""
    asked: list[str] = []
    show = stage.app._feed.show

    def shown(session: str) -> None:
        asked.append(session)
        show(session)

    monkeypatch.setattr(stage.app._feed, "show", shown)
    return asked


async def test_a_newer_session_waits_while_the_shown_one_runs(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(*wire_turn(0, session="first", root=False))
    async with pane(state) as stage:
        await stage.shows("(turn in progress)", "first")
        asked = sessions_asked_for(stage, monkeypatch)
        play(*wire_turn(1, session="second"))
        await stage.until(lambda: "s new session" in stage.footer)
        play(wire_command(0, 5, session="first"))
        await stage.shows("echo 0.5")
        play(wire_command(1, 5, session="second"))
        await stage.until(lambda: "s new session" in stage.footer)
        assert asked == []
        await stage.press("f")
        await stage.shows("turn 1", "second")
        assert asked == ["second"]


async def test_a_newer_session_waits_while_the_user_reads(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(*wire_turn(0, session="first"))
    async with pane(state) as stage:
        await stage.shows("turn 0", "first")
        asked = sessions_asked_for(stage, monkeypatch)
        await stage.press("up")
        play(*wire_turn(1, session="second"))
        await stage.until(lambda: stage.app._journal.newest == "second")
        assert asked == []
        assert stage.app.shown.id == "first"
        await stage.press("f")
        await stage.shows("turn 1", "second")


async def test_a_session_that_was_chosen_is_kept(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_sessions(play, "first", "second")
    async with pane(state) as stage:
        await stage.shows("second", "turn 1")
        await stage.press("left_square_bracket")
        await stage.shows("first", "turn 0")
        asked = sessions_asked_for(stage, monkeypatch)
        play(*wire_turn(2, session="third"))
        await stage.until(lambda: stage.app._journal.newest == "third")
        assert asked == []
        assert stage.app.shown.id == "first"


async def test_brackets_go_through_the_sessions(state: StateDir, play: Play) -> None:
    await start_sessions(play, "one", "two", "three")
    async with pane(state) as stage:
        await stage.until(lambda: stage.app.shown.id == "three")
        for key, session in (
            ("[", "two"),
            ("[", "one"),
            ("[", "one"),
            ("]", "two"),
            ("]", "three"),
            ("]", "three"),
        ):
            await stage.press("left_square_bracket" if key == "[" else "right_square_bracket")
            await stage.until(lambda session=session: stage.app.shown.id == session)  # type: ignore[misc]
        await stage.shows("turn 2")


# ---- keys


def declared() -> list[Binding]:
    owners = (
        TraceTree,
        RowList,
        CommandRows,
        DeliveryView,
        TranscriptView,
        DetailsScreen,
        Board,
        Hands,
        TraceApp,
    )
    return [each for owner in owners for each in owner.BINDINGS if isinstance(each, Binding)]


@SIZES
async def test_help_lists_every_binding(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    play(*wire_turn(0))
    async with pane(state, size) as stage:
        await stage.shows("turn 0")
        await stage.press("question_mark")
        assert isinstance(stage.app.screen, HelpScreen)
        text = "\n".join(
            line.text
            for static in stage.app.screen.query("Static")
            for line in static.render_lines(static.size.region)
        )
        rows = {tuple(line.split()) for line in text.split("\n")}
        whole = " ".join(text.split())
        for binding in declared():
            for key in key_names(binding.key).split():
                named = [row for row in rows if key in row]
                first = binding.description.split()[0]
                assert any(first in row for row in named), (key, binding.description, text)
                assert binding.description in whole, (binding.description, text)
        await stage.press("escape")
        assert stage.app.screen is stage.main


async def test_escape_never_quits(state: StateDir, play: Play) -> None:
    async with pane(state) as stage:
        await stage.shows("No spans yet")
        await stage.press("escape", "escape")
        play(*wire_turn(0))
        await stage.shows("turn 0")
        for keys in (
            ("escape",),
            ("2", "escape"),
            ("4", "escape"),
            ("enter", "escape"),
            ("question_mark", "escape"),
            ("s", "escape"),
            ("enter", "question_mark", "escape", "escape"),
            ("escape", "escape", "escape"),
        ):
            await stage.press(*keys)
            await stage.press("escape", "escape")
            assert stage.app.is_running
            assert stage.app.screen is stage.main
            assert stage.view == "tree"


async def test_q_quits(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("turn 0")
        await stage.press("q")
        await stage.until(lambda: stage.app._exit)
    assert stage.app.return_code == 0


@pytest.mark.parametrize(
    "key",
    [
        "1",
        "2",
        "4",
        "r",
        "v",
        "f",
        "w",
        "x",
        "s",
        "[",
        "]",
        "tab",
        "enter",
        "up",
        "down",
        "home",
        "end",
        "pageup",
        "pagedown",
        "left",
        "right",
        "space",
        "g",
        "G",
        "question_mark",
    ],
)
async def test_every_key_is_harmless_while_nothing_has_arrived(state: StateDir, key: str) -> None:
    async with pane(state) as stage:
        await stage.shows("No spans yet")
        await stage.press({"[": "left_square_bracket", "]": "right_square_bracket"}.get(key, key))
        await stage.press("escape")
        assert stage.app.is_running
        assert stage.view == "empty"
        assert "waiting for the first span" in stage.header


async def test_keys_of_the_tree_act_on_the_tree_only_while_it_is_seen(state: StateDir, play: Play) -> None:
    """View keys under a details screen leave it readable and the pane usable."""
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press("enter")
        await stage.shows("out 0.1")
        await stage.press("2", "4", "1", "f", "w", "w", "tab", "tab", "escape")
        assert stage.app.screen is stage.main
        await stage.press("up")
        assert stage.app.focused is stage.rows
        assert stage.cursor_row.text == "echo 0.0"


# ---- moving


async def test_moving_by_page_and_to_the_edges(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, calls=100))
    async with pane(state) as stage:
        await stage.shows("echo 0.99")
        page = stage.rows.scrollable_content_region.height - 1
        assert page > 5
        for keys, expected in (
            (("home",), 0),
            (("pagedown",), page),
            (("ctrl+f",), 2 * page),
            (("pageup",), page),
            (("ctrl+b",), 0),
            (("up",), 0),
            (("end",), 100),
            (("down",), 100),
            (("g",), 0),
            (("j", "j", "k"), 1),
            (("G",), 100),
        ):
            await stage.press(*keys)
            assert stage.rows.source.find(stage.cursor) == expected, keys
            assert stage.drawn_cursor == [stage.cursor_line], keys


# ---- size


async def test_resizing_keeps_cursor_and_folds(state: StateDir, play: Play) -> None:
    for number in range(5):
        play(*wire_turn(number, calls=12))
    async with pane(state, NARROW) as stage:
        await stage.shows("turn 4", "echo 4.11")
        row = await stage.go_to("turn 2")
        await stage.press("right", "down")
        key = stage.cursor
        await stage.go_to("turn 4")
        await stage.press("left")
        await stage.go_to("echo 2.0")
        assert stage.cursor == key
        before = [stage.rows.source.row(number)[:5] for number in range(len(stage.rows.source))]
        for size in (WIDE, NARROW, (60, 8), (30, 20), NARROW):
            await stage.pilot.resize_terminal(*size)
            await stage.until(lambda size=size: stage.app.size == size)  # type: ignore[misc]
            assert stage.cursor == key
            assert stage.drawn_cursor == [stage.cursor_line]
            assert [stage.rows.source.row(number)[:5] for number in range(len(stage.rows.source))] == before
            assert stage.main.query_one("#side").display == (size == WIDE)
            assert all(strip.cell_length == size[0] for strip in stage.strips())
        assert row.key == head_of(2)


async def test_widening_shows_the_details_beside_the_tree(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state, NARROW) as stage:
        await stage.shows("echo 0.1")
        assert "out 0.1" not in stage.text
        await stage.pilot.resize_terminal(*WIDE)
        await stage.shows("echo 0.1", "out 0.1")
        await stage.pilot.resize_terminal(*NARROW)
        await stage.gone("out 0.1")
        assert "echo 0.1" in stage.text


async def test_widening_while_details_are_open_comes_back_to_the_wide_pane(
    state: StateDir, play: Play
) -> None:
    play(*wire_turn(0))
    async with pane(state, NARROW) as stage:
        await stage.shows("echo 0.1")
        await stage.press("enter")
        await stage.shows("out 0.1")
        await stage.pilot.resize_terminal(*WIDE)
        await stage.press("escape")
        await stage.shows("turn 0", "out 0.1")
        assert stage.main.query_one("#side").display
        await stage.pilot.resize_terminal(*NARROW)
        await stage.gone("out 0.1")


@pytest.mark.parametrize("size", [(1, 1), (10, 4), (20, 3), (300, 100)])
async def test_no_size_is_too_odd(state: StateDir, play: Play, size: tuple[int, int]) -> None:
    play(*wire_turn(0))
    async with pane(state, size) as stage:
        await stage.spans(4)
        await stage.press("up", "enter", "escape", "2", "4", "down", "question_mark", "escape", "s", "escape")
        assert len(stage.lines()) == size[1]


# ---- the empty pane, and the relay


async def test_the_empty_pane_names_the_relays_real_address(state: StateDir) -> None:
    supervisor = FakeSupervisor(FakeRelay(destination="http://mlflow.example:5000"))
    async with pane(state, supervisor=supervisor) as stage:
        await stage.shows("No spans yet", "    http://127.0.0.1:54321/v1/traces")
        text = str(stage.main.query_one("#empty").children[0].render())
        assert "listening on 127.0.0.1:54321" in text
        assert "    endpoint: http://127.0.0.1:54321/v1/traces" in text
        assert "MLflow  http://mlflow.example:5000" in text
        assert "waiting for the first span" in stage.header


async def test_trouble_with_the_relay_is_shown_and_ends(state: StateDir, play: Play) -> None:
    supervisor = FakeSupervisor(None, [RuntimeError("port 4318 is \x1b[5mtaken"), FakeRelay()])
    async with pane(state, supervisor=supervisor) as stage:
        await stage.until(lambda: "the relay cannot be started: port 4318 is ␛[5mtaken" in stage.header)
        assert "cannot be started" in str(stage.main.query_one("#empty").children[0].render())
        play(*wire_turn(0))
        await stage.shows("turn 0")
        await stage.until(lambda: "cannot be started" not in stage.header)
        assert "MLflow" in stage.header
        assert supervisor.asked == 2


@pytest.mark.parametrize(
    ("wanted", "running", "differs"),
    [
        ("http://a:5000", "http://b:5000", True),
        ("http://a:5000", None, True),
        ("http://a:5000", "http://a:5000", False),
        (None, "http://b:5000", False),
        (None, None, False),
    ],
)
async def test_another_destination_than_the_wanted_one_is_shown(
    state: StateDir, play: Play, wanted: str | None, running: str | None, differs: bool
) -> None:
    play(*wire_turn(0))
    relay = FakeRelay(destination=running)
    async with pane(state, NARROW, supervisor=FakeSupervisor(relay), wanted=wanted) as stage:
        await stage.shows("turn 0")
        await stage.until(lambda: stage.app.board.relay == relay)
        await stage.pilot.pause()
        assert ("relay sends to" in stage.header) == differs
        assert ((running or "nobody") in stage.header) == differs
        assert ("MLflow" in stage.header) == (not differs)


# ---- time


async def test_a_turn_that_falls_silent_stops_its_clock(
    state: StateDir, play: Play, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes_tui.tui.app._CLOCK_S", 0.05)
    play(*wire_turn(0, root=False))
    async with pane(state) as stage:
        await stage.shows("(turn in progress)", "● running 8:20")
        clock.now_ns += 3_600 * SECOND
        await stage.shows("(prompt not seen)", "? last seen 1h ago")
        ticks = stage.rows._tick
        await asyncio.sleep(0.3)  # three ticks of a clock that runs; nothing can be waited for
        assert stage.rows._tick <= ticks + 1


async def test_running_rows_move_and_nothing_else_is_painted(state: StateDir, play: Play) -> None:
    play(
        wire_span(
            1,
            name="tool.terminal",
            end_ns=0,
            session__id="s",
            input__value='{"command": "sleep 9"}',
            start_ns=SECOND * 1_490,
        ),
        *(wire_span(number, name="tool.x", session__id="s") for number in range(2, 8)),
    )
    async with pane(state) as stage:
        await stage.shows("sleep 9")
        rows = stage.rows
        painted, ticks = rows.painted, rows._tick
        await stage.until(lambda: rows._tick >= ticks + 3)
        running = sum(bool(rows.source.row(number).since_ns) for number in range(len(rows.source)))
        assert running == 2  # the turn and its command
        assert 0 < rows.painted - painted <= running * (rows._tick - ticks + 1)


async def test_only_lines_that_changed_are_painted(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, calls=40))
    async with pane(state, (60, 60)) as stage:
        await stage.shows("turn 0", "echo 0.39")
        rows = stage.rows
        painted = rows.painted
        rows.refresh()
        await stage.pilot.pause()
        assert rows.painted == painted
        await stage.press("up")
        assert rows.painted <= painted + 2  # the line that the cursor left, and the one it came to
        painted = rows.painted
        play(wire_command(0, 50))
        await stage.shows("echo 0.50")
        assert rows.painted <= painted + 3  # the new line, and the turn's


async def test_a_finished_session_paints_nothing_by_itself(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("turn 0")
        painted, ticks = stage.rows.painted, []
        stage.app.set_interval(0.1, lambda: ticks.append(1))
        await stage.until(lambda: len(ticks) >= 4)
        assert stage.rows.painted == painted


# ---- poor terminals


@SIZES
@pytest.mark.parametrize("name", ["shell_corners", "subagent_children", "interrupted"])
async def test_ascii_shows_only_ascii(
    state: StateDir,
    open_writer: Callable[..., Writer],
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    name: str,
) -> None:
    monkeypatch.setenv("HERMES_TRACE_ASCII", "1")
    store(open_writer(), *recorded_requests(name))
    async with pane(state, size) as stage:
        await stage.shows("fake-gpt-1")
        for keys in (
            (),
            ("home", "right"),
            ("2",),
            ("1", "enter"),
            ("escape", "question_mark"),
            ("escape", "s"),
        ):
            if keys:
                await stage.press(*keys)
            data = {"\N{RETURN SYMBOL}"}  # stands for a line break in the recording's own text
            assert {char for char in stage.text if not char.isascii()} <= data, keys


async def test_no_color_takes_every_colour_away(
    state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    play(*wire_turn(0), wire_command(0, 7, code=3))
    async with pane(state) as stage:
        await stage.shows("✗ 3")
        assert stage.app.no_color
        lines = stage.rows.render_lines(stage.rows.size.region)
        styles = [[segment.style for segment in line if segment.style is not None] for line in lines]
        assert all(
            colour is None or colour.is_default
            for line in styles
            for style in line
            for colour in (style.color, style.bgcolor)
        )
        assert [any(style.reverse for style in line) for line in styles].count(True) == 1, "the cursor"


async def test_textual_is_not_told_to_read_markup(state: StateDir, play: Play) -> None:
    play(wire_span(0, name="agent", session__id="[b]s[/]", input__value="[red]x[/] [@click=app.quit]y[/]"))
    async with pane(state) as stage:
        await stage.shows("[red]x[/] [@click=app.quit]y[/]", "[b]s[/]")
