"""How the pane begins: what is there before anything has happened."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from tests.tui.conftest import Play
from tests.tui.stage import pane, wire_turn
from tests.tui.terminal import Terminal

Open = Callable[..., Writer]

START = """
import sys
from pathlib import Path
from hermes_tui.journal.files import StateDir
from hermes_tui.tui import start
sys.exit(start.run(StateDir(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize("begun", [True, False], ids=["empty journal", "no journal"])
def test_a_pane_without_spans_says_so_at_once(state: StateDir, open_writer: Open, *, begun: bool) -> None:
    """In a real terminal: nothing else happens there that would have a screen painted."""
    if begun:
        open_writer().close()
    command = [sys.executable, "-c", START, str(state.path)]
    with Terminal(command, size=(60, 20), environment={**os.environ, "TERM": "xterm-256color"}) as terminal:
        terminal.shows("No spans yet")
        terminal.send("q")
        assert terminal.wait() == 0


@pytest.mark.parametrize("received", [True, False], ids=["spans", "nothing yet"])
async def test_garbage_is_collected_once_the_first_screen_is_there(
    state: StateDir, play: Play, *, received: bool
) -> None:
    if received:
        play(*wire_turn(0))
    gc.disable()  # as `start.run` does
    try:
        async with pane(state) as stage:
            await stage.shows("turn 0" if received else "No spans yet")
            await stage.until(gc.isenabled)
    finally:
        gc.enable()
        gc.unfreeze()
