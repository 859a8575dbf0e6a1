"""The search of the pane: what is found, where the cursor goes, what the screen says of it."""

from __future__ import annotations

import pytest

from hermes_tui.journal.files import StateDir
from tests.tui.conftest import Play
from tests.tui.stage import NARROW, WIDE, pane, wire_command, wire_turn

pytestmark = pytest.mark.usefixtures("clock")


async def test_types_finds_and_steps(state: StateDir, play: Play) -> None:
    for trace in range(4):
        play(*wire_turn(trace))
    async with pane(state) as stage:
        await stage.shows("turn 3", "echo 3.1")
        await stage.press("slash", *"out 1.1")
        await stage.until(lambda: stage.cursor_row.text == "echo 1.1")
        await stage.shows("1/1")
        await stage.press("enter")
        assert "/out 1.1 1/1" in stage.footer
