"""`--split`: what each multiplexer is asked, with executables that note it down, and once the real tmux."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes_tui.commands.beside import goes_on, open_beside, own_environment
from hermes_tui.journal.files import StateDir
from hermes_tui.relay.launch import stop
from hermes_tui.relay.lock import Running, find
from tests.support import wait_for

NAMES = ("tmux", "zellij", "wezterm", "kitten", "kitty")


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[Path]:
    """A folder with all multiplexers, which note their arguments; a file `fails` makes them fail."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NAMES:
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nfor each; do printf "%s\\0" "$each"; done > {tmp_path}/{name}.said\n'
            f'[ -e {tmp_path}/fails ] && {{ printf "no \\033[31mroom\\n" >&2; exit 3; }}\nexit 0\n'
        )
        program.chmod(0o755)
    return tmp_path


def said(noted: Path, name: str) -> list[str]:
    return (noted / f"{name}.said").read_text().split("\0")[:-1]


def around(noted: Path, **variables: str) -> dict[str, str]:
    return {"PATH": f"{noted}/bin:{os.defpath}", **variables}


FLAGS = {"state_dir": "/s p/$(x)", "http_port": 0, "allow_anyone": True, "mlflow.experiment": "1"}
PANE = [
    sys.executable, "-P", "-m", "hermes_tui", "--state-dir", "/s p/$(x)", "--http-port", "0",
    "--allow-anyone", "--experiment", "1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "variables", "side", "begins"),
    [
        ("tmux", {"TMUX": "a,1,0", "TMUX_PANE": "%4"}, "right",
         ["split-window", "-d", "-h", "-c", "CWD", "-t", "%4", "--"]),
        ("tmux", {"TMUX": "a,1,0"}, "down", ["split-window", "-d", "-v", "-c", "CWD", "--"]),
        ("zellij", {"ZELLIJ": "0"}, "down",
         ["run", "--direction", "down", "--close-on-exit", "--name", "hermes-trace-tui", "--cwd", "CWD",
          "--"]),
        ("wezterm", {"WEZTERM_PANE": "7"}, "right",
         ["cli", "split-pane", "--right", "--pane-id", "7", "--cwd", "CWD", "--"]),
        ("wezterm", {"WEZTERM_PANE": "7"}, "down",
         ["cli", "split-pane", "--bottom", "--pane-id", "7", "--cwd", "CWD", "--"]),
        ("kitten", {"KITTY_WINDOW_ID": "3"}, "right",
         ["@", "launch", "--self", "--keep-focus", "--type=window", "--location=vsplit", "--cwd=CWD"]),
        ("tmux", {"TMUX": "a,1,0", "WEZTERM_PANE": "7", "KITTY_WINDOW_ID": "3"}, "right",
         ["split-window", "-d", "-h", "-c", "CWD", "--"]),
    ],
)  # fmt: skip
def test_what_a_multiplexer_is_asked(
    noted: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    variables: dict[str, str],
    side: str,
    begins: list[str],
) -> None:
    monkeypatch.chdir(noted)
    open_beside(side, FLAGS, around(noted, **variables, MLFLOW_TRACKING_URI="http://u:secret@m:1"))
    wanted = [each.replace("CWD", os.getcwd()) for each in begins]
    assert said(noted, name) == [*wanted, "env", "MLFLOW_TRACKING_URI=http://m:1", *PANE]


def test_tmux_runs_nothing_out_of_a_folders_name(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = noted / "#(touch x) #{pane_id} $(y)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    open_beside("right", {}, around(noted, TMUX="a,1,0"))
    assert said(noted, "tmux")[4] == str(folder).replace("#", "##")


def test_what_the_pane_finds_in_its_environment() -> None:
    given = {
        "HERMES_TRACE_PANE_THEME": "light", "HERMES_TRACE_TOKEN": "secret", "NO_COLOR": "1", "HOME": "/h",
        "HERMES_TRACE_ATTENTION_COMMAND": "secret", "MLFLOW_EXPERIMENT_ID": "4",
        "MLFLOW_TRACKING_PASSWORD": "secret",
        "MLFLOW_TRACKING_TOKEN": "secret", "HERMES_TRACE_CONFIG": "/c.yaml", "MLFLOW_TRACKING_URI": "http://x",
    }  # fmt: skip
    assert own_environment(given, {"mlflow.url": "https://u:secret@m/p"}) == [
        "HERMES_TRACE_CONFIG=/c.yaml",
        "HERMES_TRACE_PANE_THEME=light",
        "MLFLOW_EXPERIMENT_ID=4",
        "MLFLOW_TRACKING_URI=https://m/p",
        "NO_COLOR=1",
    ]


def failing(side: str, environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        open_beside(side, {"state_dir": "/a b"}, environment)
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_it_says_plainly_when_it_cannot(noted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand = "Run `hermes-trace-tui --state-dir '/a b'` in a second"
    told = failing("right", around(noted), capsys)
    assert "here is none of them" in told
    assert by_hand in told
    told = failing("right", {"PATH": "/nowhere", "ZELLIJ": "0"}, capsys)
    assert "`zellij` is not in your PATH" in told
    assert by_hand in told
    (noted / "fails").touch()
    told = failing("right", around(noted, KITTY_WINDOW_ID="1"), capsys)
    assert "kitty does not split: no ␛[31mroom (it needs `allow_remote_control yes`)" in told
    assert by_hand in told


@pytest.mark.parametrize(
    ("running", "state_dir", "words"),
    [
        (None, None, ""),
        (Running(9, started_by="user", http="127.0.0.1:1"), None, ""),
        (Running(0, started_by="pane"), None, ""),
        (Running(9, started_by="pane", http="127.0.0.1:1"), None,
         "The relay goes on (pid 9, 127.0.0.1:1); `hermes-trace-tui stop` ends it."),
        (Running(9, started_by="pane"), "/a b",
         "The relay goes on (pid 9); `hermes-trace-tui stop --state-dir '/a b'` ends it."),
    ],
)  # fmt: skip
def test_what_is_said_after_leaving(running: Any, state_dir: str | None, words: str) -> None:
    assert goes_on(running, state_dir) == words


@pytest.mark.process
@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")
def test_in_a_real_tmux(tmp_path: Path) -> None:
    """A pane beside ours, in this folder, which says that its relay goes on when it is left."""
    folder, socket, state = tmp_path / "work", tmp_path / "t", StateDir(tmp_path / "state")
    folder.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TMUX", "HERMES_", "MLFLOW_"))
    }
    environment = {**kept, "HERMES_TRACE_CONFIG": os.devnull, "LC_ALL": "C.UTF-8"}

    def tmux(*words: str) -> str:
        command = ["tmux", "-S", str(socket), "-f", os.devnull, *words]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout

    tmux("new-session", "-d", "-x", "140", "-y", "30", "-c", str(folder), "sh")
    try:
        tmux("set-option", "-g", "remain-on-exit", "on")
        flags = f"--state-dir {state.path} --http-port 0"
        tmux("send-keys", f"{sys.executable} -P -m hermes_tui --split {flags}; echo code $?", "Enter")
        wait_for(lambda: "No spans yet" in tmux("capture-pane", "-p", "-t", "{right}"), deadline=120)
        wait_for(lambda: "code 0" in tmux("capture-pane", "-p", "-t", "{left}"), deadline=60)
        assert (
            tmux("list-panes", "-F", "#{pane_active} #{pane_current_path}").splitlines()[0] == f"1 {folder}"
        )
        running = find(state)
        assert running is not None
        tmux("send-keys", "-t", "{right}", "q")
        words = f"The relay goes on (pid {running.pid}, {running.http})"
        wait_for(lambda: words in tmux("capture-pane", "-p", "-J", "-t", "{right}"), deadline=60)
        assert find(state) is not None
    finally:
        tmux("kill-server")
        stop(state)
