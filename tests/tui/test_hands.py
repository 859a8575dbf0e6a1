"""What the user takes along: copies, MLflow's page, the palette, a pause."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1 import trace_pb2
from textual.app import App
from textual.command import CommandPalette
from textual.widgets import OptionList

from hermes_tui import neutral
from hermes_tui.journal.files import StateDir
from hermes_tui.pane_settings import Pane
from hermes_tui.tui import mlflow_page
from hermes_tui.tui.clipboard import MOST, Clipboard, amount
from tests.support import SECOND, body_of, store, trace_id, wait_for, wire_span
from tests.tui.conftest import Play
from tests.tui.stage import Clock, FakeRelay, FakeSupervisor, Stage, pane, wire_command, wire_turn

EVIL = "echo a\tb\x1b]52;c;ZXZpbA==\x07 \x9b31m \u202egpj.exe\u202c caf\u00e9 \u2764\ufe0f\n"


# ---- what a clipboard gets


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("ls -l\n", "ls -l"),
        ("cat <<-X\r\n\ta\r\n\tX\n\n", "cat <<-X\n\ta\n\tX"),
        (EVIL, "echo a\tb␛]52;c;ZXZpbA==␇ �31m ⁞gpj.exe⁞ café ❤️"),
        ("e\u0301" + "\u0301" * 9, "e" + "\u0301" * 10),
        ("\ud800\x00", "�␀"),
        ("\u0645\u06cc\u200c\u062e 👩\u200d💻", "\u0645\u06cc\u200c\u062e 👩\u200d💻"),
    ],
)
def test_copied_text_reads_as_the_original_and_does_nothing(text: str, copied: str) -> None:
    assert neutral.copied(text) == copied


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_copied(text: str) -> None:
    copied = neutral.copied(text)
    assert not {each for each in copied if each in "\x7f\r" or (ord(each) < 0x20 and each not in "\n\t")}
    assert not any(0x80 <= ord(each) < 0xA0 for each in copied)
    copied.encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [("a", "1 character"), ("abc", "3 characters"), ("a\nb", "2 lines, 3 characters"),
     ("x" * 1234, "1,234 characters")],
)  # fmt: skip
def test_how_much_it_is(text: str, said: str) -> None:
    assert amount(text) == said


def test_what_no_clipboard_holds_goes_into_a_private_file(state: StateDir) -> None:
    clipboard = Clipboard(state, environment={})
    fits = "x" * (MOST // 4 * 3)
    assert len(base64.b64encode(fits.encode())) <= MOST
    assert clipboard.put(fits) == (fits, "", False)
    copied = clipboard.put(fits + "xyz")
    assert copied.file == str(state.copied)
    assert state.copied.read_text() == fits + "xyz\n"
    assert state.copied.stat().st_mode & 0o777 == 0o600
    assert Clipboard(state, "file", {}).put("a").file == str(state.copied)
    assert state.copied.read_text() == "a\n", "the last one is kept, and no other"


def stub(folder: Path, name: str, script: str) -> Path:
    """An executable in a folder of its own."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return folder


@pytest.mark.parametrize(("code", "taken"), [(0, True), (1, False)])
def test_tmux_takes_it_into_a_buffer(state: StateDir, tmp_path: Path, code: int, taken: bool) -> None:
    folder = stub(
        tmp_path / "bin", "tmux", f'echo "$@" > {tmp_path}/said; cat > {tmp_path}/given; exit {code}'
    )
    environment = {"TMUX": "/tmp/t,1,0", "PATH": f"{folder}:{os.environ['PATH']}"}
    assert Clipboard(state, environment=environment).put("a\x1bb").by_tmux is taken
    assert (tmp_path / "said").read_text() == "load-buffer -w -\n"
    assert (tmp_path / "given").read_text() == "a␛b"


def test_without_tmux_in_its_path_the_terminal_is_asked(state: StateDir, tmp_path: Path) -> None:
    environment = {"TMUX": "/tmp/t,1,0", "PATH": str(tmp_path)}
    assert Clipboard(state, environment=environment).put("a") == ("a", "", False)


# ---- y and Y


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reached the terminal's clipboard."""
    found: list[str] = []
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setattr(App, "copy_to_clipboard", lambda _, text: found.append(text))
    return found


def long_call(output: str, command: str = "seq 9") -> trace_pb2.Span:
    return wire_span(
        10, parent=1, name="tool.terminal", session__id="s", input__value=json.dumps({"command": command}),
        output__value=json.dumps({"output": output, "exit_code": 0, "error": None}),
    )  # fmt: skip


async def test_a_command_and_its_whole_output(state: StateDir, play: Play, copied: list[str]) -> None:
    command, output = "printf '%s' " + "x" * 3_000, "line\n" * 5_000
    play(*wire_turn(0, calls=0), long_call(output, command))
    async with pane(state) as stage:
        await stage.shows("printf")
        await stage.go_to("printf")
        await stage.press("y")
        await stage.until(lambda: copied)
        await stage.says("Copied the command: 3,012 characters")
        await stage.press("Y")
        await stage.until(lambda: len(copied) == 2)
        await stage.press("enter", "y")
        await stage.until(lambda: len(copied) == 3)
    assert copied == [command, output.rstrip("\n"), command]


async def test_a_prompt_an_input_and_nothing(state: StateDir, play: Play, copied: list[str]) -> None:
    prompt = "please\n" + "p" * 2_000 + " \x1b[31m"
    play(
        wire_span(0, name="agent", session__id="s", input__value=prompt, output__value="done"),
        wire_span(2, parent=0, name="tool.read_file", session__id="s", input__value='{"path": "/etc/hosts"}'),
    )
    async with pane(state) as stage:
        await stage.shows("please", "read_file")
        await stage.go_to("please")
        await stage.press("y")
        await stage.until(lambda: len(copied) == 1)
        await stage.press("Y")
        await stage.until(lambda: len(copied) == 2)
        await stage.go_to("read_file")
        await stage.press("y")
        await stage.until(lambda: len(copied) == 3)
        await stage.press("Y")
        await stage.says("Nothing is known of the output")
    assert copied == [prompt.replace("\x1b", "␛"), "done", '{"path": "/etc/hosts"}']


async def test_why_a_command_was_blocked_is_copied_where_it_printed_nothing(
    state: StateDir, play: Play, copied: list[str]
) -> None:
    result = {
        "output": "",
        "exit_code": -1,
        "error": "BLOCKED: User denied this command.",
        "status": "blocked",
    }
    denied = long_call("", "rm -rf keep")
    attribute = next(each for each in denied.attributes if each.key == "output.value")
    attribute.value.string_value = json.dumps(result)
    play(*wire_turn(0, calls=0), denied)
    async with pane(state) as stage:
        await stage.shows("rm -rf keep")
        await stage.go_to("rm -rf keep")
        await stage.press("Y")
        await stage.says("Copied what went wrong: 34 characters")
    assert copied == [result["error"]]


async def test_too_much_is_in_a_file_whose_path_is_said(
    state: StateDir, play: Play, copied: list[str]
) -> None:
    play(*wire_turn(0, calls=0), long_call("o" * 100_000))
    async with pane(state, (120, 30)) as stage:
        await stage.shows("seq 9")
        await stage.go_to("seq 9")
        await stage.press("Y")
        await stage.says("100,000 characters")
        assert str(state.copied) in stage.said[-1]
    assert not copied
    assert state.copied.read_text() == "o" * 100_000 + "\n"


async def test_a_folder_that_takes_nothing_is_named(
    state: StateDir, play: Play, copied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hermes_tui.tui.clipboard.write_private", full)
    play(*wire_turn(0, calls=0), long_call("o" * 100_000))
    async with pane(state, (120, 30)) as stage:
        await stage.shows("seq 9")
        await stage.go_to("seq 9")
        await stage.press("Y")
        await stage.says("No space left")


@pytest.mark.parametrize("width", [40, 120])
async def test_a_notice_is_whole_on_the_screen(
    state: StateDir, play: Play, copied: list[str], width: int
) -> None:
    play(*wire_turn(0))
    async with pane(state, (width, 20), notices=True) as stage:
        await stage.shows("echo 0.1")
        await stage.press("y")
        await stage.shows("Copied the command:", "8 characters")


async def test_without_rows_there_is_nothing_to_copy(state: StateDir, copied: list[str]) -> None:
    async with pane(state) as stage:
        await stage.press("y", "Y", "o", "P")
        await stage.says("There is no row")
    assert not copied


# ---- MLflow's page


TRACE = bytes(range(16))
QUERY = f"selectedEvaluationId=tr-{TRACE.hex()}&traceId=tr-{TRACE.hex()}&startTimeLabel=ALL"


@pytest.mark.parametrize(
    ("destination", "experiment", "workspace", "page"),
    [
        ("http://127.0.0.1:5000", "1", None, f"http://127.0.0.1:5000/#/experiments/1/traces?{QUERY}"),
        ("https://m/", "7", None, f"https://m/#/experiments/7/traces?{QUERY}"),
        ("https://m/up/v1/traces", "7", None, f"https://m/up/#/experiments/7/traces?{QUERY}"),
        ("https://u:secret@m:1/?k=secret#x", "7", None, f"https://m:1/#/experiments/7/traces?{QUERY}"),
        ("http://[::1]:5", "7", "a&b", f"http://[::1]:5/#/experiments/7/traces?{QUERY}&workspace=a%26b"),
        ("http://m", "../a#?", None, f"http://m/#/experiments/..%2Fa%23%3F/traces?{QUERY}"),
    ],
)
def test_where_mlflow_shows_a_trace(
    destination: str, experiment: str, workspace: str | None, page: str
) -> None:
    assert mlflow_page.address(TRACE, destination, experiment, workspace) == page


@pytest.mark.parametrize(
    ("destination", "experiment"),
    [(None, "1"), ("", "1"), ("http://m", None), ("file:///etc", "1"), ("javascript:alert(1)", "1"),
     ("http://", "1"), ("http://[", "1"), ("http://m\x1b[m", "1")],
)  # fmt: skip
def test_no_page_is_made_up(destination: str | None, experiment: str | None) -> None:
    with pytest.raises(mlflow_page.NoPage):
        mlflow_page.address(TRACE, destination, experiment)


@pytest.mark.parametrize(
    ("environment", "platform", "there"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "w"}, "linux", True),
        ({"BROWSER": "b"}, "linux", True),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "1 2 3 4"}, "darwin", False),
    ],
)
def test_whether_there_is_a_browser(environment: dict[str, str], platform: str, there: bool) -> None:
    assert mlflow_page.has_browser(environment, platform) is there


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What a browser was asked to show; it stays in the foreground, and the terminal is not its."""
    folder = stub(
        tmp_path / "bin", "browser", f'printf %s "$1" > {tmp_path}/.new; mv {tmp_path}/.new {tmp_path}/page'
    )
    monkeypatch.setenv("BROWSER", f"{folder}/browser")
    file = tmp_path / "page"

    def page() -> str:
        wait_for(file.exists)
        mlflow_page._opened.pop().wait(30)
        return file.read_text()

    return page


def relay(**said: Any) -> FakeSupervisor:
    return FakeSupervisor(FakeRelay(destination="http://127.0.0.1:5000", **said))


async def test_a_trace_is_opened_and_its_address_shown(
    state: StateDir, play: Play, browser: Callable[[], str]
) -> None:
    play(*wire_turn(0))
    async with pane(state, (120, 30), supervisor=relay(experiment="9")) as stage:
        await stage.shows("echo 0.0")
        await stage.until(lambda: stage.app.board.relay)
        await stage.press("o")
        await stage.says("Opening http://127.0.0.1:5000/#/experiments/9/traces")
    assert f"selectedEvaluationId=tr-{trace_id(0).hex()}" in browser()


async def test_without_a_browser_the_address_is_said_and_can_be_copied(
    state: StateDir, play: Play, copied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    play(*wire_turn(0))
    async with pane(state, supervisor=relay(experiment="9")) as stage:
        await stage.shows("echo 0.0")
        await stage.until(lambda: stage.app.board.relay)
        await stage.press("o")
        await stage.says("No browser here", "startTimeLabel=ALL")
        stage.app.copy_address()
        await stage.until(lambda: copied)
    assert copied[0].startswith("http://127.0.0.1:5000/#/experiments/9/traces?")


async def test_the_senders_experiment_wins(
    state: StateDir, open_writer: Callable[..., Any], browser: Callable[[], str]
) -> None:
    writer = open_writer(forward=True)
    store(writer, body_of(*wire_turn(0)), headers={"x-mlflow-experiment-id": "4", "x-mlflow-workspace": "w"})
    async with pane(state, (120, 30), supervisor=relay(experiment="9")) as stage:
        await stage.shows("echo 0.0")
        await stage.until(lambda: stage.app.board.relay)
        await stage.press("o")
        await stage.says("/#/experiments/4/traces")
    assert browser().endswith("&workspace=w")


@pytest.mark.parametrize(
    ("supervisor", "why"),
    [
        (None, "no relay runs"),
        (relay(), "experiment is not known"),
        (FakeSupervisor(FakeRelay()), "no MLflow"),
    ],
)
async def test_why_mlflow_cannot_be_opened(
    state: StateDir, play: Play, supervisor: FakeSupervisor | None, why: str
) -> None:
    play(*wire_turn(0))
    async with pane(state, (120, 30), supervisor=supervisor) as stage:
        await stage.shows("echo 0.0")
        if supervisor is not None:
            await stage.until(lambda: stage.app.board.relay)
        await stage.press("o")
        await stage.says("MLflow cannot be opened", why)


# ---- the palette


async def palette(stage: Stage, query: str = "") -> list[str]:
    """The entries that the palette offers."""
    await stage.press("ctrl+p")
    await stage.until(lambda: isinstance(stage.app.screen, CommandPalette))
    if query:
        await stage.press(*query)
    options = stage.app.screen.query_one(OptionList)
    await stage.until(lambda: options.option_count and not stage.app.screen._show_busy)
    return [str(options.get_option_at_index(at).prompt) for at in range(options.option_count)]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
async def test_the_palette_offers_what_the_keys_do(state: StateDir, play: Play, width: int) -> None:
    play(*wire_turn(0))
    async with pane(state, (width, 20)) as stage:
        await stage.shows("echo 0.0")
        found = "\n".join(await palette(stage))
        for words in ("Follow the newest", "Key f", "Commands", "Key 2", "Copy the output", "Theme: light"):
            assert words in found
        assert "Page up" not in found
        await stage.shows("Tree", "Key 1", "Commands")


async def test_what_is_chosen_is_done(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.0")
        await palette(stage, "high contrast")
        await stage.press("enter")
        await stage.until(lambda: stage.app.theme == "contrast")
        await palette(stage, "MLflow")
        await stage.press("escape")
        assert not isinstance(stage.app.screen, CommandPalette)
        await palette(stage, "Pause")
        await stage.press("enter")
        await stage.until(lambda: stage.app.board.held is not None)


async def test_the_palette_in_ascii(state: StateDir, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_TRACE_ASCII", "1")
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.0")
        await palette(stage)
        assert {each for each in stage.text if not each.isascii()} == set()


# ---- a pause


async def test_a_pause_freezes_the_rows_and_nothing_is_lost(state: StateDir, play: Play) -> None:
    play(*wire_turn(0), *wire_turn(1, calls=3, root=False))
    async with pane(state) as stage:
        await stage.shows("echo 1.2")
        await stage.press("P")
        before = stage.lines()[:-1]
        play(*wire_turn(1, calls=5), *wire_turn(2, calls=2))
        await stage.shows("P paused, +")
        assert stage.lines()[2:-1] == before[2:]
        row = await stage.go_to("turn 0")
        await stage.press("space")
        await stage.shows("echo 0.1")
        assert "echo 2.0" not in stage.text, "a fold brings in nothing new"
        await stage.press("P")
        await stage.gone("paused")
        assert stage.cursor_row.key == row.key
        assert len(stage.app.shown.turns) == 3


async def test_a_pause_stops_the_clocks(state: StateDir, play: Play, clock: Clock) -> None:
    play(*wire_turn(0, root=False))
    async with pane(state) as stage:
        await stage.shows("● running", "echo 0.1")
        await stage.press("P")
        before = stage.lines()[:-1]
        clock.now_ns += 30 * SECOND
        stage.app.board.tick()
        stage.app.board.trace_tree.refresh()
        await stage.pilot.pause()
        assert stage.lines()[:-1] == before
        await stage.press("P")
        await stage.until(lambda: stage.lines()[:-1] != before)


@pytest.mark.parametrize("key", ["P", "f"])
async def test_going_on_shows_what_came(state: StateDir, play: Play, key: str) -> None:
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.0")
        await stage.press("P")
        assert "P paused" in stage.footer
        play(wire_command(1, 0))
        await stage.until(lambda: "+1 new" in stage.footer)
        play(wire_command(1, 0, code=0))
        play(wire_command(1, 1))
        await stage.until(lambda: "+2 new" in stage.footer)
        await stage.press(key)
        await stage.shows("echo 1.1")
        assert "paused" not in stage.footer


async def test_another_session_ends_the_pause_and_none_is_forced(state: StateDir, play: Play) -> None:
    play(*wire_turn(0, session="one"))
    async with pane(state) as stage:
        await stage.shows("echo 0.0")
        await stage.press("P")
        play(*wire_turn(7, session="two"))
        await stage.until(lambda: stage.app._newest == "two")
        assert stage.app.shown.id == "one"
        await stage.press("f")
        await stage.until(lambda: stage.app.shown.id == "two")
        assert stage.app.board.held is None


# ---- an export


async def test_the_session_is_exported_and_nothing_written_over(
    state: StateDir, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "../a b/\x1b"
    play(*wire_turn(0, session=name))
    play(*wire_turn(1, session="another"))
    file, second = tmp_path / "hermes-_a_b_.otlp.jsonl", tmp_path / "hermes-_a_b_-2.otlp.jsonl"
    async with pane(state) as stage:
        await stage.shows("another")
        await stage.press("left_square_bracket")
        await stage.until(lambda: stage.app.shown.id == name and stage.app.shown.totals.spans)
        await palette(stage, "Export the")
        await stage.press("enter")
        await stage.says(f"Exported to {file}: 1 request, with all prompts")
        kept = file.read_bytes()
        stage.app.export_session()
        await stage.says(str(second))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == kept == second.read_bytes()
    spans = [
        span
        for line in file.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert len(spans) == len(wire_turn(0))


async def test_an_export_that_fails_leaves_nothing(
    state: StateDir, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    play(*wire_turn(0))
    async with pane(state) as stage:
        await stage.shows("echo 0.0")
        monkeypatch.setattr("hermes_tui.journal.export.export", lambda *_: iter(()))
        stage.app.export_session()
        await stage.says("nothing to export")
        assert not list(folder.iterdir())
        folder.rmdir()
        stage.app.export_session()
        await stage.says("No such file or directory")


# ---- and with settings of its own


async def test_settings_send_copies_into_a_file(state: StateDir, play: Play, copied: list[str]) -> None:
    play(*wire_turn(0))
    async with pane(state, settings=Pane(copy="file")) as stage:
        await stage.shows("echo 0.1")
        await stage.go_to("echo 0.1")
        await stage.press("y")
        await stage.says("copied.txt")
    assert state.copied.read_text() == "echo 0.1\n"
    assert not copied
