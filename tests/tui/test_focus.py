"""Where the keys go, whatever was opened before, and that scrolling by hand is moving, too."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module

import pytest
import textual.command
import textual.widgets
from textual.widget import Widget

import hermes_tui.tui.widgets
from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.tui.widgets.search_bar import SearchBar
from tests.support import recorded_requests, store
from tests.tui.conftest import Play
from tests.tui.stage import NARROW, WIDE, pane, wire_command, wire_turn

pytestmark = pytest.mark.usefixtures("clock")


def test_no_widget_of_the_pane_is_named_as_one_of_textual_s() -> None:
    """Styles go by names: Textual's own of its palette's list would hide a list of the same name."""
    theirs = {*textual.widgets.__all__}
    theirs |= {name for name, _ in inspect.getmembers(textual.command, inspect.isclass)}
    ours = set()
    for module in pkgutil.iter_modules(hermes_tui.tui.widgets.__path__):
        found = import_module(f"hermes_tui.tui.widgets.{module.name}")
        for name, each in inspect.getmembers(found, inspect.isclass):
            if issubclass(each, Widget) and each.__module__ == found.__name__:
                ours.add(name)
    assert len(ours) > 10
    assert not ours & theirs


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["60", "120"])
async def test_the_commands_are_there_after_the_palette_was(
    state: StateDir, play: Play, size: tuple[int, int]
) -> None:
    play(*wire_turn(0))
    async with pane(state, size) as stage:
        await stage.shows("echo 0.1")
        await stage.press("ctrl+p")
        await stage.until(lambda: len(stage.app.screen_stack) == 2)
        await stage.press("escape", "escape")
        await stage.until(lambda: len(stage.app.screen_stack) == 1)
        await stage.press("2")
        await stage.until(lambda: stage.view == "commands")
        await stage.shows("echo 0.0", "echo 0.1")


@pytest.mark.parametrize("view", "12345")
async def test_a_search_begins_in_every_view(state: StateDir, play: Play, view: str) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.1")
        await stage.press(view)
        await stage.press("slash", *"q 0")  # q would quit
        assert stage.app.query_one(SearchBar).display
        assert stage.app.board.search.needle is not None
        assert stage.app.board.search.needle.text == "q 0"
        assert stage.view == ("commands" if view == "2" else "tree")
        assert stage.app.is_running


async def test_keys_move_the_rows_after_the_details_lost_their_place(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state, WIDE) as stage:
        await stage.shows("echo 0.1", "Delivery")
        await stage.press("tab")
        assert stage.app.focused is stage.app.board.side.page
        await stage.pilot.resize_terminal(*NARROW)
        await stage.until(lambda: stage.app.focused is stage.app.board.trace_tree)
        await stage.press("k")
        assert stage.cursor_row.text == "echo 0.0"


# ---- scrolling by hand


async def test_who_scrolls_is_left_where_he_reads_until_he_is_back(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, calls=40))
    async with pane(state) as stage:
        await stage.shows("echo 0.39")
        tree = stage.app.board.trace_tree
        bottom = tree.scroll_offset.y
        tree.post_message(_wheel(tree, up=True))
        await stage.until(lambda: not tree.following)
        top = tree.scroll_offset.y
        assert 0 < top < bottom
        assert "f follow" in stage.footer
        play(*[wire_command(0, 50 + at) for at in range(3)])
        await stage.until(lambda: "+3 new" in stage.footer)
        assert tree.scroll_offset.y == top
        await stage.press("f")
        assert tree.following
        bottom = tree.scroll_offset.y
        tree.post_message(_wheel(tree, up=True))
        await stage.until(lambda: tree.scroll_offset.y < bottom)
        tree.post_message(_wheel(tree, up=False))
        await stage.until(lambda: tree.following)
        assert tree.scroll_offset.y == bottom


async def test_a_place_that_was_scrolled_to_outlives_a_resize(
    state: StateDir, open_writer: Callable[..., Writer]
) -> None:
    store(open_writer(), *recorded_requests("thirty_steps"))
    async with pane(state) as stage:
        await stage.shows("✓ completed")
        tree = stage.app.board.trace_tree
        await stage.press("home")
        for _ in range(4):
            tree.post_message(_wheel(tree, up=False))
        await stage.until(lambda: tree.scroll_offset.y > 4)
        top = tree.scroll_offset.y
        await stage.pilot.resize_terminal(60, 24)
        await stage.until(lambda: tree.size.height > 16)
        assert tree.scroll_offset.y == top


def _wheel(widget: Widget, *, up: bool) -> object:
    kind = textual.events.MouseScrollUp if up else textual.events.MouseScrollDown
    return kind(widget, 5, 5, 0, -1 if up else 1, 0, False, False, False)
