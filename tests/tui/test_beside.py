"""Which of several sessions the pane shows by itself: the one of the Hermes beside it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.model.live import Live
from hermes_tui.model.state_rows import SessionRow, StateRow
from hermes_tui.pane_settings import Pane
from hermes_tui.tui.beside import beside, elsewhere, own_folders
from hermes_tui.tui.messages import RecordsArrived
from tests.support import SECOND
from tests.tui.conftest import Play
from tests.tui.stage import pane, wire_command, wire_turn

NOW = SECOND * 1_000_000
HOUR = 3_600 * SECOND


def row(name: str, cwd: str | None, ago_s: int = 1, *, at: int = NOW, **said: Any) -> SessionRow:
    begun = at - ago_s * SECOND
    return SessionRow("h", begun, name, cwd=cwd, started_ns=begun, heard_ns=begun, **said)


@pytest.mark.parametrize(
    ("rows", "folders", "shown"),
    [
        ([row("a", "/one"), row("b", "/two", 9)], {"/two"}, "b"),
        ([row("a", "/two"), row("b", "/two", 9)], {"/two"}, None),
        ([row("a", "/one"), row("b", "/two/", 9), row("c", "/two", 5)], {"/two"}, "c"),
        ([row("a", "/one"), row("b", None)], {"/two"}, None),
        ([row("a", "/one"), row("b", None)], {"/one"}, "a"),
        ([row("a", "/one"), row("b", "/two", 9)], set(), None),
        ([row("a", "/one"), row("b", "/two", 4_000)], {"/two"}, None),
        ([row("a", "/one"), row("b", "/two", 9, parent="a", source="subagent")], {"/two"}, None),
        ([], {"/two"}, None),
    ],
)
def test_the_session_of_the_same_folder(rows: list[StateRow], folders: set[str], shown: str | None) -> None:
    live = Live()
    live.take(rows)
    assert beside(live, folders, NOW) == shown


def test_what_is_elsewhere() -> None:
    live = Live()
    live.take([row("a", "/one"), row("b", None)])
    assert [elsewhere(live, name, {"/one"}) for name in ("a", "b", "never heard of")] == [False, True, False]
    assert not elsewhere(live, "b", set())


def test_a_folder_goes_by_all_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    monkeypatch.chdir(real)
    monkeypatch.setenv("PWD", str(link))
    assert own_folders() == {os.path.realpath(real), str(link)}
    monkeypatch.setenv("PWD", str(tmp_path))
    assert own_folders() == {os.path.realpath(real)}
    real.rmdir()
    assert own_folders() == frozenset()


@pytest.mark.parametrize(("setting", "shown"), [("auto", "ours"), ("newest", "other")])
async def test_the_pane_turns_to_the_hermes_beside_it(
    state: StateDir, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, shown: str
) -> None:
    """Also when another one is at work and was there first."""
    monkeypatch.chdir(tmp_path)
    now = time.time_ns()
    play(*wire_turn(0, session="ours"))
    play(wire_command(1, 0, session="other", start_ns=now - SECOND))
    async with pane(state, settings=Pane(beside=setting)) as stage:
        await stage.until(lambda: stage.app.shown.id == "other")
        rows = [row("other", "/somewhere", 1, at=now), row("ours", os.getcwd(), 9, at=now)]
        stage.app.post_message(RecordsArrived(list(rows), []))
        await stage.until(lambda: stage.app.shown.id == shown and stage.app.live.session("ours"))
