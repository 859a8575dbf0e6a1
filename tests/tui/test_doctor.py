"""What the doctor found: a line where nothing has arrived, a screen on a key, and a new look from there."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from hermes_tui.journal.checkup import Trouble, remember
from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir
from hermes_tui.tui.examination import Examination
from tests.support import wait_for
from tests.tui.conftest import Play
from tests.tui.stage import WIDE, pane, wire_turn

RELAY = Trouble("bad", "relay", "No relay runs", "hermes-trace-tui doctor --fix")
ARRIVE = Trouble("warn", "spans arrive", "No span has come \x1b[31m yet", "hermes")

NOTES = """
import sys
from pathlib import Path
from hermes_tui.journal.checkup import Trouble, remember
from hermes_tui.journal.desk import Desk
from hermes_tui.journal.files import StateDir
with Desk(StateDir(Path(sys.argv[1]))) as desk:
    remember(desk, bad=1, warn=0, first_fix="mend", troubles=[Trouble("bad", "disk", "It is full", "mend")])
sys.exit(1)
"""


def note(state: StateDir, *troubles: Trouble) -> None:
    verdicts = [each.verdict for each in troubles]
    with Desk(state) as desk:
        remember(
            desk,
            bad=verdicts.count("bad"),
            warn=verdicts.count("warn"),
            first_fix=next((each.fix for each in troubles), ""),
            troubles=troubles,
        )


def script(*words: str) -> Examination:
    return Examination(words, dict(os.environ))


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("screens.doctor", "widgets.empty"):
        monkeypatch.setattr(f"hermes_tui.tui.{room}._LOOK_S", 0.05)


async def test_where_nothing_has_arrived_its_last_words_stand(state: StateDir) -> None:
    async with pane(state) as stage:
        await stage.shows("doctor  not asked yet (d shows)", "hermes-trace-tui setup")
        assert not state.desk.exists()
        note(state, RELAY, ARRIVE)
        await stage.shows("doctor  1 finding, 1 warning, 0s ago (d shows)")
        note(state)
        await stage.shows("doctor  nothing is wrong, 0s ago (d shows)")


async def test_the_key_shows_what_is_wrong_and_what_to_do(state: StateDir, play: Play) -> None:
    play(*wire_turn(0))
    note(state, RELAY, ARRIVE)
    async with pane(state) as stage:
        await stage.shows("turn 0")
        await stage.press("d")
        await stage.shows(
            "Doctor  1 finding, 1 warning, ", "✗ relay: No relay runs", "→ hermes-trace-tui doctor --fix",
            "! spans arrive: No span has come", "→ hermes",
        )  # fmt: skip
        assert "\x1b" not in stage.text
        assert "looks again" not in stage.text
        await stage.press("r")
        for key in ("escape", "d"):
            await stage.press(key)
            await stage.until(lambda key=key: (stage.app.screen is stage.main) == (key == "escape"))
        await stage.press("d")
        await stage.until(lambda: stage.app.screen is stage.main)


async def test_it_is_sent_for(state: StateDir, tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    file = tmp_path / "doctor.py"
    file.write_text(NOTES, encoding="utf-8")
    line = (
        f"read x < {shlex.quote(str(held))}; exec {shlex.join([sys.executable, str(file), str(state.path)])}"
    )
    async with pane(state, WIDE, examination=script("sh", "-c", line)) as stage:
        await stage.press("d")
        await stage.shows("Doctor  not asked yet", "r looks again")
        await stage.press("r", "r")
        await stage.shows("It looks at everything now")
        held.write_text("\n")
        await stage.shows("✗ disk: It is full", "→ mend")
        await stage.gone("It looks at everything now")
        await stage.press("escape")
        await stage.shows("doctor  1 finding, ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sh", "-c", "echo 'Error: no \x1b[5m use' >&2; exit 2"), "Error: no"),
        (("sh", "-c", "exit 3"), "the doctor ended with 3"),
        (("/nowhere/doctor",), "the doctor cannot be started: No such file"),
    ],
)
async def test_it_does_not_come(state: StateDir, words: tuple[str, ...], said: str) -> None:
    note(state, RELAY)
    async with pane(state, examination=script(*words)) as stage:
        await stage.press("d", "r")
        await stage.shows(said, "✗ relay: No relay runs")
        assert "\x1b" not in stage.text


async def test_a_desk_that_cannot_be_read_is_said_to_be_so(state: StateDir) -> None:
    state.create()
    state.desk.write_bytes(b"no database " * 400)
    async with pane(state, WIDE) as stage:
        await stage.press("d")
        await stage.shows("is damaged")


async def test_leaving_asks_it_to_end(state: StateDir, tmp_path: Path) -> None:
    """With SIGINT: the doctor takes its probe span back first."""
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    waits = (
        "import pathlib, signal, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: (pathlib.Path(sys.argv[2]).touch(), sys.exit()))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "while True: signal.pause()\n"
    )
    async with pane(state, examination=script(sys.executable, "-c", waits, str(begun), str(ended))) as stage:
        await stage.press("d", "r")
        await stage.until(begun.exists)
    wait_for(ended.exists, 30.0)


def test_what_a_pane_was_told_its_doctor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from hermes_tui.commands.doctor import for_pane

    monkeypatch.setenv("HERMES_TRACE_TOKEN", "of another relay")
    flags = {
        "state_dir": "/s", "mlflow.url": "http://me:word@m", "mlflow.experiment": "7", "http_port": 4328,
        "allow_anyone": True, "host": None, "token_file": "/t",
    }  # fmt: skip
    command, environment = for_pane(flags)
    assert command[1:] == ["-m", "hermes_tui", "doctor", "--json"]
    said = {
        "HERMES_TRACE_STATE_DIR": "/s", "HERMES_TRACE_HTTP_PORT": "4328", "HERMES_TRACE_ALLOW_ANYONE": "True",
        "HERMES_TRACE_TOKEN_FILE": "/t", "MLFLOW_TRACKING_URI": "http://me:word@m",
        "MLFLOW_EXPERIMENT_ID": "7",
    }  # fmt: skip
    assert said.items() <= environment.items()
    assert not {"HERMES_TRACE_TOKEN", "HERMES_TRACE_HOST"} & environment.keys()
