"""The tree's keys, its head that stays, its bars and the split, in a real pane."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.tui.screens.details import DetailsScreen
from hermes_tui.tui.widgets.trace_tree import TraceTree
from tests.support import SECOND, body_of, recorded_requests, store, wire_span
from tests.tui.stage import (
    NARROW,
    WIDE,
    Clock,
    Stage,
    head_of,
    last_ns,
    pane,
    spans_until,
    wire_command,
    wire_turn,
)

BOTH = pytest.mark.parametrize("size", [(40, 20), NARROW, (80, 20), WIDE])


@pytest.fixture
def turns(open_writer: Callable[..., Writer]) -> Writer:
    """Three turns of 30 commands; the first command of the first fails."""
    writer = open_writer()
    failing = wire_command(1, 40, code=3)
    for trace in (1, 2, 3):
        spans = [*wire_turn(trace, calls=30), *([failing] if trace == 1 else [])]
        store(writer, body_of(*spans))
    return writer


async def opened(stage: Stage) -> TraceTree:
    await stage.until(lambda: stage.app.shown.totals.spans == 97)
    return stage.app.board.trace_tree


# ---- keys


@BOTH
async def test_next_error_unfolds_its_turn_and_stops_following(
    state: StateDir, turns: Writer, size: tuple[int, int]
) -> None:
    async with pane(state, size) as stage:
        tree = await opened(stage)
        await stage.press("e")
        assert (stage.cursor_row.text, stage.cursor_row.value) == ("echo 1.40", "✗ 3")
        assert not tree.following
        await stage.shows("echo 1.40", "✗ 3")
        await stage.press("T")
        assert stage.cursor_row.key == head_of(1)
        await stage.press("t")
        assert stage.cursor_row.key == head_of(3)
        await stage.press("c")
        assert stage.cursor_row.text == "echo 3.0"


@BOTH
async def test_a_filter_is_named_in_the_footer_until_esc(
    state: StateDir, turns: Writer, size: tuple[int, int]
) -> None:
    async with pane(state, size) as stage:
        await opened(stage)
        await stage.press("F")
        await stage.shows("1 Tree: errors", "echo 1.40")
        assert "echo 3.0" not in stage.text
        await stage.press("escape")
        await stage.gone("1 Tree: errors")
        await stage.shows("echo 3.29")


async def test_a_filter_goes_with_the_user_to_other_sessions(
    state: StateDir, turns: Writer, open_writer: Callable[..., Writer]
) -> None:
    store(turns, body_of(*wire_turn(7, session="other", at_s=9_000)))
    async with pane(state) as stage:
        await stage.until(lambda: stage.app.shown.id == "other" and len(stage.app._sessions()) == 2)
        await stage.press("F", "left_square_bracket")
        await opened(stage)
        await stage.shows("1 Tree: errors", "echo 1.40")


async def test_folding_all_leaves_the_cursor_on_its_turn(state: StateDir, turns: Writer) -> None:
    async with pane(state) as stage:
        tree = await opened(stage)
        await stage.press("home", "c")
        await stage.press("Z")
        assert len(tree.source) == 3 + 91
        assert stage.cursor_row.text == "echo 3.0"
        await stage.press("z")
        assert len(tree.source) == 3
        assert stage.cursor_row.key == head_of(3)
        await stage.press("t", "Z", "j", "z")
        assert (len(tree.source), stage.cursor_row.key) == (3, head_of(2))
        await stage.press("plus")
        assert len(tree.source) == 3 + 30
        await stage.press("minus")
        assert len(tree.source) == 3


@BOTH
async def test_under_a_filter_the_cursor_stays_on_its_row_while_spans_arrive(
    state: StateDir, turns: Writer, size: tuple[int, int]
) -> None:
    async with pane(state, size) as stage:
        await opened(stage)
        await stage.press("F", "home", "G")
        assert stage.cursor_row.text == "echo 1.40"
        line = stage.cursor_line
        for index in (3, 1, 2, 0):
            failing = wire_command(2, 60 + index, code=1, start_ns=SECOND * 1_021 + index)
            store(turns, body_of(failing))
        await stage.until(lambda: stage.app.shown.totals.spans == 101)
        await stage.shows("echo 2.60")
        assert stage.cursor_row.text == "echo 1.40"
        assert abs(stage.cursor_line - line) <= 5  # no more than came above it


# ---- the head that stays


@BOTH
async def test_the_head_of_the_turn_at_the_top_stays_in_sight(
    state: StateDir, turns: Writer, size: tuple[int, int]
) -> None:
    async with pane(state, size) as stage:
        tree = await opened(stage)
        await stage.press("home", *["j"] * 30)
        assert tree.scroll_offset.y > 0
        assert tree.render_line(0).text.startswith(" ▾ 3 turn 3")
        for _ in range(29):
            await stage.press("k")
            assert stage.cursor_line > 0  # never below the head
        await stage.press(*["j"] * 29)
        await stage.pilot.click(TraceTree, offset=(12, 0))
        await stage.pilot.pause()
        assert (stage.cursor_row.key, tree.scroll_offset.y) == (head_of(3), 0)


async def test_the_head_that_stays_is_that_of_the_first_line(state: StateDir, turns: Writer) -> None:
    async with pane(state) as stage:
        tree = await opened(stage)
        await stage.press("Z", "end")
        assert tree.render_line(0).text.startswith(" ▾ 1 turn 1")
        line = tree.source.find(head_of(1))
        assert line is not None
        tree.scroll_to(y=line, animate=False, force=True)
        await stage.pilot.pause()
        assert tree.render_line(1).text.startswith("   $ echo 1.0")


# ---- bars and the split


async def test_b_gives_the_tree_the_whole_width_and_bars(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    store(open_writer(), *recorded_requests("shell_corners"))
    async with pane(state, WIDE) as stage:
        await stage.shows("✓ completed")
        tree = stage.app.board.trace_tree
        assert "█" not in tree.render_line(4).text
        await stage.press("b", "home")
        await stage.until(lambda: tree.size.width == WIDE[0])
        begins = {}
        for y in range(1, 20):
            text = tree.render_line(y).text
            at = next((at for at, char in enumerate(text) if char in "▏▎▍▌▋▊▉█"), None)
            assert at is not None, text
            begins[y] = at
        assert sorted(begins.values()) == list(begins.values())
        await stage.press("enter")
        assert isinstance(stage.app.screen, DetailsScreen)
        await stage.press("escape", "b")
        await stage.until(lambda: stage.app.board.side.page.display and tree.size.width < 70)


async def test_the_bar_of_what_runs_grows_and_those_that_are_over_keep_their_place(
    state: StateDir, open_writer: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = spans_until("shell_corners", 3)
    clock = Clock(last_ns(spans) + SECOND // 2).install(monkeypatch)
    store(open_writer(), *recorded_requests("shell_corners")[:3])

    def bars(tree: TraceTree) -> list[str]:
        texts = [tree.render_line(y).text for y in range(1, len(tree.source))]
        return ["".join(char for char in text if char in "▏▎▍▌▋▊▉█") for text in texts]

    async with pane(state, WIDE) as stage:
        await stage.shows("a tool runs")
        await stage.press("b", "home")
        tree = stage.app.board.trace_tree
        await stage.until(lambda: tree.size.width == WIDE[0] and bars(tree)[-1])
        before = bars(tree)
        clock.now_ns += SECOND
        tree.render_line(1)
        after = bars(tree)
        assert after[:-1] == before[:-1]
        assert len(after[-1]) > len(before[-1])
        painted = tree.painted
        clock.now_ns += 20 * SECOND  # the turn no longer fits into the time that the bars show
        await stage.until(lambda: tree.painted > painted and len(bars(tree)[5]) < len(before[5]))


async def test_the_split_moves_by_key_and_by_mouse(state: StateDir, turns: Writer) -> None:
    async with pane(state, WIDE) as stage:
        tree = await opened(stage)
        side = stage.app.board.side.page
        before = side.size.width
        await stage.press("less_than_sign")
        await stage.until(lambda: side.size.width > before)
        await stage.press("greater_than_sign", "greater_than_sign")
        await stage.until(lambda: side.size.width < before)
        left = side.region.x
        await stage.pilot.mouse_down(side, offset=(0, 5))
        await stage.pilot.hover(tree, offset=(left - 20, 5))
        await stage.pilot.mouse_up(tree, offset=(left - 20, 5))
        await stage.until(lambda: side.region.x == left - 20)
        await stage.pilot.hover(tree, offset=(5, 5))
        assert side.region.x == left - 20
        await stage.press(*["greater_than_sign"] * 30)
        await stage.until(lambda: side.size.width > 20)


# ---- deep trees


@BOTH
async def test_a_deep_tree_says_how_deep_instead_of_running_out_of_the_screen(
    state: StateDir, open_writer: Callable[..., Writer], size: tuple[int, int]
) -> None:
    spans = [
        wire_span(number, trace=1, parent=number - 1 if number > 1 else None, name=f"step-{number}",
                  session__id="s", start_ns=number * SECOND, end_ns=9_000 * SECOND)
        for number in range(1, 2_001)
    ]  # fmt: skip
    store(open_writer(), body_of(*spans))
    async with pane(state, size) as stage:
        await stage.until(lambda: stage.app.shown.totals.spans == 2_000)
        await stage.press("end")
        await stage.shows("⋯2000", "step-2000")
        assert stage.cursor_row.text == "step-2000"


# ---- orders


@BOTH
async def test_an_order_is_named_in_the_footer_until_esc(
    state: StateDir, turns: Writer, size: tuple[int, int]
) -> None:
    async with pane(state, size) as stage:
        tree = await opened(stage)
        await stage.press("S", "S")
        await stage.says("Turns: errors first. Esc: newest first.")
        await stage.shows("Tree: errors first")
        assert tree.source.row(0).text == "turn 1"
        assert tree.following
        assert stage.cursor_row.text == "echo 3.29"
        await stage.press("t", "F")
        await stage.shows("echo 1.40")
        await stage.press("escape")
        await stage.gone("errors, ")
        assert tree.source.row(0).text == "turn 1"
        await stage.press("escape")
        await stage.gone("first")
        assert tree.source.row(0).text == "turn 3"


async def test_the_newest_turn_is_followed_wherever_it_stands(state: StateDir, turns: Writer) -> None:
    async with pane(state) as stage:
        tree = await opened(stage)
        await stage.press("S", "S")
        store(turns, body_of(*wire_turn(4, calls=3)))
        await stage.until(lambda: stage.cursor_row.text == "echo 4.2")
        assert tree.source.row(0).text == "turn 1"
        assert stage.drawn_cursor == [stage.cursor_line]
        await stage.press("home", "f")
        assert stage.cursor_row.text == "echo 4.2"


async def test_an_order_goes_with_the_user_to_other_sessions(
    state: StateDir, turns: Writer, open_writer: Callable[..., Writer]
) -> None:
    store(turns, body_of(*wire_turn(7, session="other", at_s=9_000)))
    async with pane(state) as stage:
        await stage.until(lambda: stage.app.shown.id == "other" and len(stage.app._sessions()) == 2)
        await stage.press("S", "S", "left_square_bracket")
        tree = await opened(stage)
        await stage.shows("Tree: errors first")
        assert tree.source.row(0).text == "turn 1"


async def test_levels_of_all_turns_are_told(state: StateDir, turns: Writer) -> None:
    async with pane(state) as stage:
        tree = await opened(stage)
        await stage.press("right_parenthesis")
        await stage.says("All turns: level 1 of 1.")
        assert len(tree.source) == 3 + 91
        await stage.press("left_parenthesis")
        await stage.says("All turns folded.")
        assert len(tree.source) == 3


@BOTH
async def test_a_filter_opens_a_turn_that_was_folded_and_esc_folds_it_again(
    state: StateDir, open_writer: Callable[..., Writer], size: tuple[int, int]
) -> None:
    store(open_writer(), *recorded_requests("v123_subagent"))
    async with pane(state, size) as stage:
        await stage.shows("✗ st")
        await stage.press("z", "F")
        await stage.says("Only errors. Esc shows all.")
        await stage.shows("Tree: errors", "✗ st")
        await stage.press("escape")
        await stage.gone("✗ st")
        assert len(stage.rows.source) == 1
        await stage.press("F", "F", "F", "F", "F")
        await stage.says("Only approvals: none. Esc shows all.")


async def test_times_stand_below_each_other_whatever_the_value_says_at_40_columns(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    store(open_writer(), *recorded_requests("v123_approval"))
    async with pane(state, (40, 20)) as stage:
        await stage.shows("✓ completed", "✗ block", "✗ deny")
        texts = [line for line in stage.lines()[3:-1] if re.search(r"\d\.\ds", line)]
        assert len(texts) > 4
        ends = {match.end() for line in texts if (match := re.search(r"\d\.\ds", line))}
        assert len(ends) == 1
