"""Whatever spans hold is shown and never obeyed: on every line of every view, and in the bytes written."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes_tui.journal.files import StateDir
from hermes_tui.journal.writer import Writer
from hermes_tui.tui.screens.details import DetailsScreen
from tests.support import SECOND, body_of, store, trace_id
from tests.tui import hostile
from tests.tui.hostile import check
from tests.tui.stage import FakeRelay, FakeSupervisor, Stage, pane
from tests.tui.terminal import Terminal

Open = Callable[..., Writer]


@pytest.fixture
def stored(state: StateDir, open_writer: Open) -> None:
    writer = open_writer()
    store(writer, body_of(*hostile.spans()), received_ns=SECOND)
    writer.set_meta("exporter", {"state": "held", "reason": hostile.ALL}).result(20)


async def settled(stage: Stage) -> None:
    await stage.until(lambda: stage.app.shown.totals.spans == len(hostile.spans()))


def test_the_hostile_texts_would_be_noticed() -> None:
    for text in hostile.SEQUENCES:
        assert hostile.OBEYED.search(text), ascii(text)
    assert hostile.OBEYED.search("".join(hostile.INVISIBLE))


@pytest.mark.usefixtures("stored", "clock")
@pytest.mark.parametrize("width", [60, 120, 33])
async def test_the_tree_and_the_commands_obey_nothing(state: StateDir, width: int) -> None:
    async with pane(state, (width, 120)) as stage:
        await settled(stage)
        text = check(stage)
        assert "␛" in text
        if width > 60:
            for markup in ("[red]x[/]", "[@click=app.quit]y[/]", "[/]", "[link=http://hostile.example]"):
                assert markup in text
        await stage.press("w")
        check(stage)
        await stage.press("2")
        assert "␛[2J" in check(stage)
        rows = stage.rows
        for y in range(rows.scrollable_content_region.height):
            assert rows.render_line(y).cell_length == rows.scrollable_content_region.width


@pytest.mark.usefixtures("stored", "clock")
@pytest.mark.parametrize("full", [False, True])
async def test_details_of_every_span_obey_nothing(state: StateDir, full: bool) -> None:
    async with pane(state, (100, 300)) as stage:
        await settled(stage)
        await stage.press("end", "enter")
        assert isinstance(stage.app.screen, DetailsScreen)
        if full:
            await stage.press("x")
        seen = set()
        for _ in range(len(hostile.spans()) - len(hostile.SHORTS) + 4):  # every kind of span that holds all
            text = re.sub(r"\s+", "", check(stage))
            seen.update(markup for markup in hostile.MARKUP if re.sub(r"\s+", "", markup) in text)
            await stage.press("p")
        assert seen == set(hostile.MARKUP)


@pytest.mark.usefixtures("clock")
async def test_sessions_header_and_footer_obey_nothing(state: StateDir, open_writer: Open) -> None:
    writer = open_writer()
    for number, text in enumerate(hostile.SHORTS):
        spans = hostile.spans(f"{number} {text}")[-1:]
        spans[0].trace_id = trace_id(100 + number)
        store(writer, body_of(*spans), received_ns=number + 1)
    store(writer, body_of(*hostile.spans()), received_ns=SECOND)
    writer.set_meta("exporter", {"state": "retrying", "reason": hostile.ALL}).result(20)
    async with pane(state, (110, 60)) as stage:
        await settled(stage)
        check(stage)
        await stage.press("s")
        await stage.shows("Sessions, newest activity first")
        assert "[red]x[/]" in check(stage)
        for _ in range(len(hostile.SHORTS)):
            await stage.press("down")
            check(stage)
        await stage.press("enter")
        await stage.until(lambda: stage.app.shown.id.startswith("0 "))
        check(stage)
        await stage.press("question_mark")
        check(stage)


async def test_trouble_and_addresses_obey_nothing(state: StateDir) -> None:
    supervisor = FakeSupervisor(
        None, [RuntimeError(hostile.ALL), FakeRelay(http=hostile.ALL, destination=hostile.ALL)]
    )
    async with pane(state, (100, 60), supervisor=supervisor, wanted="http://other") as stage:
        await stage.shows("cannot be started")
        check(stage)
        await stage.shows("listening on")
        assert "␛[2J" in check(stage)


@pytest.mark.usefixtures("stored", "clock")
async def test_no_click_runs_an_action_from_a_text(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pane(state, (120, 60)) as stage:
        await settled(stage)
        for y in range(60):
            for segment in stage.strips()[y]:
                assert segment.style is None or not segment.style.meta.get("@click")
                assert segment.style is None or segment.style.link is None


# ---- the bytes a terminal gets

PANE = """
import sys
from pathlib import Path
from hermes_tui.journal.files import StateDir
from hermes_tui.tui.app import TraceApp
TraceApp(StateDir(Path(sys.argv[1]))).run()
"""

CSI = rb"\x1b\[[0-9;:<=>?]*[ !\"$]?[@-~]"
OTHER = rb"\x1b[=>78]|\x1b\(B|\x1b\]22;[a-z-]*(?:\x1b\\|\x07)"  # OSC 22: the shape of the mouse pointer
_SEQUENCE = re.compile(CSI + rb"|" + OTHER)


@pytest.mark.usefixtures("stored")
def test_the_bytes_written_to_a_terminal_hold_no_hostile_sequence(state: StateDir, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "PYTHONWARNINGS": "error",
    }
    command = [sys.executable, "-c", PANE, str(state.path)]
    with Terminal(command, size=(100, 40), environment=environment) as terminal:
        terminal.shows("2 Commands 20")
        for key, text in (
            ("\x1b[H", "▾ 1"),
            ("2", "00:16"),
            ("3", "Slowest"),
            ("4", "reads this session back"),
            ("5", "│ line three"),
            ("1", "▾ 1"),
            ("\x1b[F", "◈"),
            ("\r", "esc back"),
            ("x", "esc back"),
            ("p", "esc back"),
            ("\x1b", "2 Commands"),
            ("s", "Sessions, newest"),
            ("?", "Sessions, newest"),
            ("\x1b", ""),
            ("?", "Keys"),
            ("\x1b", ""),
        ):
            terminal.send(key)
            terminal.shows(text)
            if key == "\x1b":
                terminal.hides("esc back")  # or else the next key would be taken for Alt and that key
                terminal.hides("Sessions, newest")
                terminal.hides("Keys")
        terminal.send("q")
        assert terminal.wait() == 0
    written = terminal.written
    assert "␛[2J".encode() in written
    for text in hostile.SEQUENCES:
        raw = text.encode()
        if len(raw) > 4 and raw.startswith((b"\x1b", b"\xc2")):
            assert raw not in written, raw
    for text in (*hostile.INVISIBLE, "\x9b", "\x9d", "\x90"):
        if not text.isascii():
            assert text.encode() not in written, ascii(text)
    plain = _SEQUENCE.sub(b"", written)
    assert set(re.findall(rb"\x1b.{0,8}", plain, re.DOTALL)) == set()
    rest = plain.decode("utf-8")
    assert set(hostile.OBEYED.findall(rest)) <= {"\r", "\n"}
