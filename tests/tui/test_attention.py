"""The bell, the terminal's notifications, and the user's command, as bytes and as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.app import App

from hermes_tui.model.attention import Event, Kind
from hermes_tui.settings import Attention as Wanted
from hermes_tui.tui import attention
from hermes_tui.tui.attention import Attention, headline, notification, protocol, text
from tests.support import SECOND, wait_for
from tests.tui.terminal import Terminal

ASKS = Event(Kind.APPROVAL, "s", 0, "rm -rf build; ls", "recursive delete", title="Clean up", certain=False)
DONE = Event(Kind.TURN, "s", 0, "Build it", status="completed", took_ns=42 * SECOND)
FAILED = Event(Kind.ERROR, "s", 0, "Error code: 401", status="failed", took_ns=SECOND)

XTERM = {"TERM": "xterm-256color"}
SCREEN_PASSES_ON = 768  # bytes of one string


# ---- words


@pytest.mark.parametrize(
    ("event", "title", "body"),
    [
        (
            ASKS,
            "Hermes waits for you, perhaps · Clean up",
            "rm -rf build; ls (recursive delete)",
        ),
        (Event(Kind.APPROVAL, "s", 0, "Which one?"), "Hermes waits for you", "Which one?"),
        (DONE, "Hermes is done", "Build it (42s)"),
        (Event(Kind.TURN, "s", 0, status="interrupted"), "Hermes was interrupted", "(0.0s)"),
        (Event(Kind.TURN, "s", 0, "Build it", status="failed"), "Hermes failed", "Build it (0.0s)"),
        (FAILED, "Hermes failed", "Error code: 401"),
        (Event(Kind.ERROR, "s", 0, "Error code: 500"), "Hermes' model call failed", "Error code: 500"),
    ],
)
def test_what_is_said(event: Event, title: str, body: str) -> None:
    assert (headline(event), text(event)) == (title, body)


# ---- the terminal


@pytest.mark.parametrize(
    ("way", "environment", "written"),
    [
        ("none", XTERM, ""),
        ("osc9", XTERM, "\x1b]9;One: two\a"),
        ("osc777", XTERM, "\x1b]777;notify;One;two\a"),
        ("osc9", {"TERM": "dumb"}, "\x1b]9;One: two\a"),
        ("auto", {"TERM": "dumb"}, ""),
        ("auto", {**XTERM, "TERM_PROGRAM": "iTerm.app"}, "\x1b]9;One: two\a"),
        ("auto", {"TERM": "foot"}, "\x1b]777;notify;One;two\a"),
        ("osc9", {"TERM": "tmux-256color", "TMUX": "/tmp/s,1,0"}, "\x1bPtmux;\x1b\x1b]9;One: two\a\x1b\\"),
        (
            "osc777",
            {"TERM": "screen-256color", "TMUX": "/tmp/s,1,0", "STY": "1.pts"},
            "\x1bPtmux;\x1b\x1b]777;notify;One;two\a\x1b\\",
        ),
        ("osc9", {"TERM": "tmux-256color"}, "\x1bPtmux;\x1b\x1b]9;One: two\a\x1b\\"),  # over ssh
        ("osc9", {"TERM": "screen", "STY": "1.pts"}, "\x1bP\x1b]9;One: two\a\x1b\\"),
        ("osc9", {**XTERM, "ZELLIJ": "0"}, "\x1b]9;One: two\a"),
    ],
)
def test_the_sequence_for_a_terminal(way: str, environment: dict[str, str], written: str) -> None:
    assert notification(way, "One", "two", environment) == written


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, "none"),
        ({"TERM": "linux"}, "none"),
        ({**XTERM, "TERM_PROGRAM": "WezTerm"}, "osc9"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "osc9"),
        ({"TERM": "xterm-kitty"}, "osc9"),
        ({**XTERM, "LC_TERMINAL": "iTerm2"}, "osc9"),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux", "KITTY_WINDOW_ID": "1"}, "osc9"),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux"}, "osc777"),
        ({"TERM": "rxvt-unicode-256color"}, "osc777"),
        ({**XTERM, "VTE_VERSION": "7600"}, "osc777"),
        (XTERM, "osc777"),
    ],
)
def test_a_terminal_is_known_by_its_environment(environment: dict[str, str], found: str) -> None:
    assert protocol(environment) == found


@pytest.mark.parametrize("way", ["osc9", "osc777"])
@pytest.mark.parametrize(
    "environment", [XTERM, {"TERM": "tmux", "TMUX": "1"}, {"TERM": "screen", "STY": "1"}]
)
@pytest.mark.parametrize(
    "hostile",
    [
        "\a",
        "\x1b]52;c;aGk=\a",
        "\x1b\\\x1b[2J",
        "\x9c\x9d0;x",
        "a;b;c",
        "\x00\n\r\t",
        "\u202egnp",
        "4;3;50",
        "\ud800",
    ],
)
def test_no_text_can_end_or_part_a_sequence(way: str, environment: dict[str, str], hostile: str) -> None:
    plain = notification(way, "One", "two", environment)
    event = Event(Kind.APPROVAL, "s", 0, hostile, hostile, title=hostile)
    written = notification(way, headline(event), text(event), environment)
    for control in ("\x1b", "\a", "\x9c", "\x9d", "\n", "\r", "\t", "\x00"):
        assert written.count(control) == plain.count(control)
    if way == "osc777":
        assert written.count(";") == plain.count(";")
    assert "]9;Hermes" in written or "notify;Hermes" in written  # a number first would be another command
    written.encode()


@pytest.mark.parametrize("way", ["osc9", "osc777"])
@pytest.mark.parametrize("letter", ["x", "ä", "漢", "🙂", ";"])
def test_however_long_a_text_is_screen_passes_it_on(way: str, letter: str) -> None:
    event = Event(Kind.TURN, "s", 0, letter * 10_000, title=letter * 10_000, status="completed")
    written = notification(way, headline(event), text(event), {"TERM": "screen", "STY": "1"}).encode()
    assert 500 < len(written) <= SCREEN_PASSES_ON
    assert "…" in written.decode()


def test_the_bell_rings_once_for_all() -> None:
    calling = Attention(Wanted(bell=True, terminal="osc9"), print, environment=XTERM)
    written: list[str] = []
    calling.voice.lend(written.append)
    calling.take([DONE, FAILED])
    calling.take([])
    assert written == ["\a\x1b]9;Hermes is done: Build it (42s)\a\x1b]9;Hermes failed: Error code: 401\a"]


@pytest.mark.parametrize(
    ("wanted", "written"),
    [
        (Wanted(), []),
        (Wanted(bell=True), ["\a"]),
        (Wanted(terminal="osc9"), ["\x1b]9;Hermes is done: Build it (42s)\a"]),
    ],
)
def test_what_is_not_wanted_does_not_happen(wanted: Wanted, written: list[str]) -> None:
    calling = Attention(wanted, print, environment=XTERM)
    said: list[str] = []
    calling.voice.lend(said.append)
    calling.take([DONE])
    calling.stop()
    assert said == written


APP = """
from textual.app import App
from hermes_tui.model.attention import Event, Kind
from hermes_tui.settings import Attention as Wanted
from hermes_tui.tui.attention import Attention

calling = Attention(Wanted(bell=True, terminal="auto"), print)
event = Event(Kind.APPROVAL, "s", 0, "rm -rf build; ls \\x1b[2J", title="Clean \\u00fcp")

class Small(App[None]):
    def on_key(self, event):
        if event.key == "q":
            self.exit()
        else:
            calling.take([globals()["event"]])
            self.notify("taken")

calling.take([event])
app = Small()
app.driver_class = calling.voice.driver(app.driver_class)
app.run()
for _ in range(100):  # more than Textual's queue holds
    calling.take([event])
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ({}, "\a\x1b]777;notify;Hermes waits for you · Clean üp;rm -rf build\u037e ls ␛[2J\a"),
        (
            {"TMUX": "/tmp/s,1,0", "TERM": "tmux-256color", "WEZTERM_PANE": "3"},
            "\a\x1bPtmux;\x1b\x1b]9;Hermes waits for you · Clean üp: rm -rf build; ls ␛[2J\a\x1b\\",
        ),
    ],
    ids=["plain", "tmux"],
)
def test_the_bytes_a_terminal_gets(inside: dict[str, str], expected: str) -> None:
    """Only while the app has the terminal: not before it starts, not after it ended."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
    environment = {**keep, "PYTHONUTF8": "1", "PYTHONWARNINGS": "error", **XTERM, **inside}
    with Terminal([sys.executable, "-c", APP], environment=environment) as terminal:
        terminal.until(lambda: b"\x1b[?1049h" in terminal.written)
        terminal.send("a")
        terminal.shows("taken")
        terminal.send("q")
        assert terminal.wait() == 0
        assert terminal.written.count(expected.encode()) == 1
        assert terminal.written.count(b"Hermes waits") == 1


async def test_an_app_without_a_terminal_is_silent() -> None:
    calling = Attention(Wanted(bell=True, terminal="osc9"), print, environment=XTERM)
    app: App[None] = App()
    app.driver_class = calling.voice.driver(app.driver_class)
    async with app.run_test() as pilot:
        calling.take([DONE])
        await pilot.pause()


# ---- the user's command

TELL = """
import json, os, sys
said = {name: text for name, text in os.environ.items() if name.startswith("HERMES_TRACE_")}
try:
    os.close(os.open("/dev/tty", os.O_RDWR))
    terminal = True
except OSError:
    terminal = False
where = [os.readlink(f"/proc/self/fd/{n}") for n in range(3)] if os.path.exists("/proc/self/fd") else None
found = {"said": said, "arguments": sys.argv[2:], "terminal": terminal, "where": where}
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(found, file)
os.replace(sys.argv[1] + ".new", sys.argv[1])
"""

FORK_AND_HANG = """
import os, sys, time
child = os.fork()
if child:
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(f"{os.getpid()} {child}")
    os.replace(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""

ALONE = """
import os, sys
os.close(os.open(sys.argv[1] + ".lock", os.O_CREAT | os.O_EXCL))
with open(sys.argv[1], "a") as file:
    file.write(os.environ["HERMES_TRACE_TEXT"] + "\\n")
os.unlink(sys.argv[1] + ".lock")
"""

BY_TEXT = "import os, sys; sys.exit(int(os.environ['HERMES_TRACE_TEXT']))"


class Said(list[str]):
    """What was said in the pane."""


Build = Callable[..., tuple[Attention, Said]]


@pytest.fixture
def build() -> Iterator[Build]:
    """Attention that runs a Python script; nothing of it is left at the end."""
    built: list[Attention] = []

    def made(script: str, *arguments: object, **said: Any) -> tuple[Attention, Said]:
        words = (sys.executable, "-S", "-E", "-c", script, *map(str, arguments))
        heard = Said()
        built.append(Attention(Wanted(command=words), heard.append, **said))
        return built[-1], heard

    yield made
    for each in built:
        each.stop()


def asks(subject: str, **said: Any) -> Event:
    return Event(Kind.APPROVAL, "s", 0, subject, **said)


@contextmanager
def typing_into_standard_input() -> Iterator[None]:
    """As in a pane, whose standard input is the terminal."""
    kept, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        for each in (kept, reading, writing):
            os.close(each)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has fetched yet does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_command_is_told_by_its_environment_alone(build: Build, tmp_path: Path) -> None:
    told = tmp_path / "told"
    calling, heard = build(TELL, told, environment={**os.environ, "HERMES_TRACE_ASCII": "1"})
    subject = f"touch {tmp_path}/x; $(touch {tmp_path}/y) `ls`\n\x1b[2J\x00end"
    with typing_into_standard_input():
        calling.take([asks(subject, reason="why", title="A 'title'\u202e")])
        wait_for(told.exists)
    found = json.loads(told.read_text())
    shown = subject.replace("\n", "⏎").replace("\x1b", "␛").replace("\x00", "␀")
    assert found["said"] == {
        "HERMES_TRACE_ASCII": "1",
        "HERMES_TRACE_EVENT": "approval",
        "HERMES_TRACE_SESSION": "s",
        "HERMES_TRACE_TITLE": "Hermes waits for you · A 'title'⁞",
        "HERMES_TRACE_TEXT": f"{shown} (why)",
    }
    assert (found["arguments"], found["terminal"]) == ([], False)
    assert found["where"] in (None, [os.devnull] * 3)
    calling.stop()
    assert sorted(tmp_path.iterdir()) == [told]
    assert heard == []


def test_what_a_command_is_told_is_bounded(build: Build, tmp_path: Path) -> None:
    told = tmp_path / "told"
    calling, _ = build(TELL, told)
    calling.take([Event(Kind.ERROR, "s" * 10**6, 0, "e" * 10**6, title="t" * 10**6)])
    wait_for(told.exists)
    said = json.loads(told.read_text())["said"]
    assert {name: len(value) for name, value in said.items()} == {
        "HERMES_TRACE_EVENT": 5,
        "HERMES_TRACE_SESSION": 160,
        "HERMES_TRACE_TITLE": 160,
        "HERMES_TRACE_TEXT": 1_000,
    }


def test_commands_run_one_at_a_time_and_in_order(build: Build, tmp_path: Path) -> None:
    log = tmp_path / "log"
    calling, heard = build(ALONE, log)
    calling.take([asks(str(number)) for number in range(4)])
    wait_for(lambda: heard or (log.exists() and log.read_text().count("\n") == 4))
    assert heard == []
    assert log.read_text().split() == ["0", "1", "2", "3"]


def test_what_waits_too_long_is_dropped_the_oldest_first(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    calling, _ = build(f"open({str(gate)!r}).read()\n{ALONE}", log)
    calling.take([asks("first")])
    with gate.open("w"):  # the first has begun, and goes on at the end of this block
        calling.take([asks(str(number)) for number in range(10)])
    expected = ["first", "6", "7", "8", "9"]
    for number in range(1, len(expected)):
        wait_for(lambda number=number: log.exists() and log.read_text().count("\n") == number)
        gate.open("w").close()
    wait_for(lambda: log.read_text().split() == expected)


def test_a_command_that_hangs_is_killed_with_its_children(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    wait = subprocess.Popen.wait

    def shorter(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is not None:
            wait_for(pids.exists)
        return wait(process, timeout and timeout / 100)

    monkeypatch.setattr(subprocess.Popen, "wait", shorter)
    calling, heard = build(FORK_AND_HANG, pids)
    calling.take([DONE])
    wait_for(lambda: heard)
    own = f"attention: `{Path(sys.executable).name}`"
    assert heard == [f"{own} took longer than 10 s and was killed"]
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: not alive(int(pid)))


def test_closing_the_pane_kills_what_runs(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_LAST_S", 0.2)
    pids = tmp_path / "pids"
    calling, heard = build(FORK_AND_HANG, pids)
    calling.take([DONE, DONE])
    wait_for(pids.exists)
    calling.stop()
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: not alive(int(pid)))
    calling.take([DONE])
    assert heard == []  # there is no pane any more to say it in


def test_closing_the_pane_lets_a_quick_command_end(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_LAST_S", 60.0)
    begun, told = tmp_path / "begun", tmp_path / "told"
    os.mkfifo(begun)
    calling, _ = build(f"open({str(begun)!r}).read()\n{TELL}", told)
    calling.take([DONE])
    begun.open("w").close()
    calling.stop()
    assert told.exists()


@pytest.mark.parametrize(
    ("command", "failure"),
    [
        (
            ("no-such-command-anywhere", "token"),
            "`no-such-command-anywhere` cannot be started: No such file or directory",
        ),
        (("/", "token"), "`/` cannot be started: Permission denied"),
        (("x\x00y", "token"), "`x␀y` cannot be started: embedded null byte"),
        ("sh -c 'kill -9 $$'", "`sh` was killed by signal 9"),
    ],
)
def test_a_command_that_fails(command: str | tuple[str, ...], failure: str) -> None:
    heard: list[str] = []
    calling = Attention(Wanted(command=command), heard.append)
    calling.take([DONE])
    wait_for(lambda: heard)
    calling.stop()
    assert heard == [f"attention: {failure}"]


def test_a_command_may_begin_with_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bin" / "call me"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\necho "$HERMES_TRACE_TEXT" > "$1"\n')
    script.chmod(0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    heard: list[str] = []
    calling = Attention(Wanted(command=f"'~/bin/call me' {tmp_path}/told"), heard.append)
    calling.take([DONE])
    told = tmp_path / "told"
    wait_for(lambda: heard or (told.exists() and told.read_text()))
    calling.stop()
    assert (heard, told.read_text()) == ([], "Build it (42s)\n")


def test_a_failure_is_said_once_until_it_works_again(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    calling, heard = build(BY_TEXT)
    own = f"attention: `{Path(sys.executable).name}` ended with exit code"
    calling.take([asks(code) for code in ("3", "4", "0", "5")])
    wait_for(lambda: len(caplog.records) == 3)
    calling.stop()
    assert heard == [f"{own} 3", f"{own} 5"]
    assert [record.message for record in caplog.records] == [f"{own} {code}" for code in (3, 4, 5)]
