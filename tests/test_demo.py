"""`hermes-trace-tui demo` in real terminals: it plays, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import DEADLINE_S, clean_environment
from tests.support import wait_for
from tests.tui.terminal import SIZES, Terminal

pytestmark = pytest.mark.process

ANY_COMMAND = re.compile(r"^\s+\$ \S", re.MULTILINE)
RUNNING_ROW = re.compile(r"\$ for i in .*[◐◓◑◒] +\d")
COMMAND_ROW = re.compile(r"^\s+\$ cat <<'X' \| sort", re.MULTILINE)
TURN_DONE = re.compile(r"^\s*▾ 1 .*✓ +\d+s", re.MULTILINE)
SESSION_DONE = "✓ completed"


def environment_of(folder: Path) -> dict[str, str]:
    """A demo with this environment keeps everything in `folder`."""
    environment = clean_environment(
        TMPDIR=str(folder), HOME=str(folder), TERM="xterm-256color", LC_ALL="C.UTF-8"
    )
    return {name: value for name, value in environment.items() if name not in SIZES}


def demo(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hermes_tui", "demo", *arguments]


def left_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("hermes-trace-*"))


def relays_of(folder: Path) -> list[psutil.Process]:
    """Relays whose state folder is in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue  # it ended meanwhile, or is another user's
        if any(each.startswith(f"{folder}{os.sep}hermes-trace-") for each in arguments):
            found.append(process)
    return found


def assert_nothing_left(folder: Path) -> None:
    wait_for(lambda: not relays_of(folder), DEADLINE_S)
    wait_for(lambda: not left_in(folder), DEADLINE_S)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a demo's temporary files go; whatever it left running is ended after the test."""
    place = tmp_path / "t"
    place.mkdir()
    yield place
    for process in relays_of(place):
        process.kill()


@pytest.mark.parametrize("size", [(60, 20), (120, 30)], ids=["narrow", "wide"])
def test_the_demo_plays_and_q_ends_it(folder: Path, size: tuple[int, int]) -> None:
    with Terminal(demo("--speed", "10"), size=size, environment=environment_of(folder)) as terminal:
        # Ten times as fast, the first command may be scrolled away before anyone looks.
        terminal.until(lambda: ANY_COMMAND.search(terminal.text))
        assert len(left_in(folder)) == 1
        assert len(relays_of(folder)) == 1
        terminal.shows(SESSION_DONE)
        terminal.send("\x1b[H")
        terminal.until(lambda: COMMAND_ROW.search(terminal.text))
        assert TURN_DONE.search(terminal.text)
        terminal.send("q")
        assert terminal.wait() == 0
        assert_nothing_left(folder)
        assert b"Traceback" not in terminal.written
        assert b"Error" not in terminal.written


def test_the_demo_is_seen_while_it_runs(folder: Path) -> None:
    """At its own pace: the prompt at once, what runs while it runs, before any span tells of it."""
    with Terminal(demo(), size=(60, 20), environment=environment_of(folder)) as terminal:
        terminal.shows("Exercise the shell", "● running")
        assert SESSION_DONE not in terminal.text
        terminal.until(lambda: RUNNING_ROW.search(terminal.text))
        terminal.until(lambda: COMMAND_ROW.search(terminal.text))
        terminal.send("q")
        assert terminal.wait() == 0
    assert_nothing_left(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_demo_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    """Even by kill -9: the relay notices that its lifeline was cut."""
    with Terminal(demo(), size=(60, 20), environment=environment_of(folder)) as terminal:
        terminal.shows("● running")
        (relay,) = relays_of(folder)
        assert left_in(folder)
        terminal.process.send_signal(number)
        assert terminal.wait() != 0
        wait_for(lambda: not relay.is_running(), DEADLINE_S)
        assert_nothing_left(folder)


def test_the_demo_outlives_resizing(folder: Path) -> None:
    with Terminal(demo("--speed", "10"), size=(60, 20), environment=environment_of(folder)) as terminal:
        terminal.shows(SESSION_DONE)
        assert "Delivery" not in terminal.text
        terminal.resize(120, 40)
        terminal.shows("Delivery", SESSION_DONE)
        terminal.resize(60, 20)
        terminal.hides("Delivery")
        terminal.shows(SESSION_DONE, "1 Tree")
        terminal.send("q")
        assert terminal.wait() == 0
    assert_nothing_left(folder)


def test_the_demo_needs_a_terminal(folder: Path) -> None:
    done = subprocess.run(
        demo(),
        env=environment_of(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: the pane needs a terminal")
    assert done.stdout == ""
    assert left_in(folder) == []


# ---- in tmux, beside Hermes


class Tmux:
    """A tmux server of its own with one window that runs a command."""

    def __init__(
        self, socket: Path, size: tuple[int, int], command: str, environment: dict[str, str]
    ) -> None:
        self._socket = socket
        self._environment = {
            name: value for name, value in environment.items() if name not in ("TMUX", "TMUX_PANE")
        }
        width, height = size
        self.run("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", str(height), command)

    def run(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", str(self._socket), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    @property
    def text(self) -> str:
        return self.run("capture-pane", "-p", check=False)

    def shows(self, pattern: str) -> None:
        try:
            wait_for(lambda: re.search(pattern, self.text, re.MULTILINE), DEADLINE_S)
        except AssertionError as error:
            raise AssertionError(f"{pattern} is not on the screen:\n{self.text}") from error


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.parametrize("size", [(60, 20), (120, 30)], ids=["narrow", "wide"])
def test_the_demo_in_tmux(folder: Path, size: tuple[int, int]) -> None:
    status = folder / "status"
    command = f"{shlex.join(demo('--speed', '10'))}; echo $? > {shlex.quote(str(status))}"
    with tempfile.TemporaryDirectory(prefix="tm") as short:  # a socket's path must be short
        tmux = Tmux(Path(short) / "s", size, command, environment_of(folder))
        try:
            tmux.shows(COMMAND_ROW.pattern)
            tmux.shows(SESSION_DONE)
            tmux.run("send-keys", "Home")
            tmux.shows(TURN_DONE.pattern)
            if size[0] >= 110:
                tmux.shows("│ Turn, completed")
            else:
                assert "│" not in tmux.text
            assert all(len(line) <= size[0] for line in tmux.text.splitlines())
            tmux.run("send-keys", "q")
            wait_for(lambda: status.exists() and status.read_text(), DEADLINE_S)
            assert status.read_text().strip() == "0"
        finally:
            tmux.run("kill-server", check=False)
    assert_nothing_left(folder)
